"""Single images through Pillow: PNG, JPEG and the like, as slides of one level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, NoTiles, SlideFacts, SourceCodec

try:
    from PIL import Image
except ImportError as error:
    raise MissingDependencyError("pillow", "wsi") from error

__all__ = ["ImageSource"]

_CODECS = {
    "PNG": SourceCodec("PNG", False),
    "JPEG": SourceCodec("JPEG", True),
    "BMP": SourceCodec("uncompressed", False),
    "PPM": SourceCodec("uncompressed", False),
    "WEBP": SourceCodec("WebP", None),
    "JPEG2000": SourceCodec("JPEG 2000", None),
}


class ImageSource(NoTiles):
    """An image file, decoded once and kept.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        Pillow cannot read it, or it has more than 8 bits a sample.
    """

    def __init__(self, path: Path) -> None:
        try:
            with Image.open(path) as opened:
                image: Image.Image = opened
                kind, icc = opened.format or "unknown", opened.info.get("icc_profile")
                if opened.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"):
                    raise SourceError(f"{path}: images of mode {opened.mode} are not supported; 8 bits a sample are")
                if opened.mode in ("RGBA", "LA") or "transparency" in opened.info:
                    image = Image.alpha_composite(
                        Image.new("RGBA", opened.size, (255, 255, 255, 255)), opened.convert("RGBA")
                    )
                self._pixels = np.asarray(image.convert("RGB"), np.uint8)
        except SourceError:
            raise
        except Exception as error:  # Pillow raises many kinds; a bomb is one
            raise SourceError(f"{path}: Pillow cannot read it ({error})") from error
        height, width = self._pixels.shape[:2]
        codec = _CODECS.get(kind, SourceCodec(kind, None))
        self._path = path
        self._facts = SlideFacts(
            name=path.name,
            vendor="image",
            file_bytes=path.stat().st_size,
            codec=codec,
            levels=(Level(width, height, 1.0, codec),),
            tile_width=None,
            tile_height=None,
            mpp_x=None,
            mpp_y=None,
            objective_power=None,
            associated=(),
            background=(255, 255, 255),
            icc_profile=icc if isinstance(icc, bytes) else None,
        )

    @property
    def facts(self) -> SlideFacts:
        """What the file says about itself."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region as (height, width, 3) RGB, white outside the image."""
        if level != 0:
            raise SourceError(f"{self._path}: an image has level 0 only, not {level}")
        out = np.full((height, width, 3), 255, np.uint8)
        part = self._pixels[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
        top, left = max(-y, 0), max(-x, 0)
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Raise: an image has none."""
        raise SourceError(f"{self._path}: no associated image {name!r}")

    def close(self) -> None:
        """Drop the pixels."""
        self._pixels = np.empty((0, 0, 3), np.uint8)
