"""Single images through Pillow: PNG, JPEG, WebP, JPEG 2000, BMP and PNM, as slides of one level.

Depth, size and what cannot be kept are read from the file's own header before Pillow decodes anything.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, NoTiles, Selection, SlideFacts, SourceCodec
from dlpr_wsi.sources.choose import only_one
from dlpr_wsi.sources.header import Header, Kind, parse_header
from dlpr_wsi.sources.icc import fitting
from dlpr_wsi.sources.picture import refuse

try:
    import PIL
    from PIL import Image, ImageOps
except ImportError as error:
    raise MissingDependencyError("pillow", "wsi") from error

__all__ = ["MAX_PIXELS", "ImageSource"]

MAX_PIXELS = 1 << 30
"""px of an image: Pillow decodes it as a whole, 4 bytes a px for RGB, 1 for grey: 4 GiB at this size."""

_CODECS = {
    Kind.PNG: SourceCodec("PNG", False),
    Kind.JPEG: SourceCodec("JPEG", True),
    Kind.BMP: SourceCodec("uncompressed", False),
    Kind.PNM: SourceCodec("uncompressed", False),
    Kind.WEBP: SourceCodec("WebP", None),
    Kind.JPEG2000: SourceCodec("JPEG 2000", None),
}
_HEAD = 1 << 20  # bytes in which a header must be; a JPEG's markers can be long
_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBX")
_ORIENTATION = 0x0112
_limit = threading.Lock()


class ImageSource(NoTiles):
    """An image file, decoded once and kept as Pillow holds it; regions are converted as they are read.

    Parameters
    ----------
    path : Path
        The file.
    selection : Selection, optional
        An image is one picture: there is nothing to choose.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        Pillow cannot read it, it cannot be kept whole (more than 8 bits a sample, CMYK, animation), or it has more
        than `MAX_PIXELS`.
    """

    def __init__(self, path: Path, selection: Selection | None = None) -> None:
        only_one(path, selection or Selection())
        header = _header(path)
        notes: list[str] = []
        try:
            with _no_limit():
                image = Image.open(path)
            with image as opened:
                icc = opened.info.get("icc_profile")
                self._image = _decode(path, opened, notes)
        except SourceError:
            raise
        except MemoryError as error:
            raise refuse(path, f"{header.width} x {header.height} px need more memory than there is") from error
        except Exception as error:  # Pillow raises many kinds
            raise SourceError(f"{path}: Pillow cannot read it ({error})") from error
        width, height = self._image.size
        codec = _CODECS[header.kind]
        profile, icc_notes = fitting(icc if isinstance(icc, bytes) else None)
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
            icc_profile=profile,
            reader=f"Pillow {PIL.__version__}",
            notes=(*notes, *icc_notes),
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
        left, right = max(x, 0), min(x + width, self._image.width)
        top, bottom = max(y, 0), min(y + height, self._image.height)
        if left < right and top < bottom:
            part = self._image.crop((left, top, right, bottom))
            if part.mode == "RGBA":
                part = Image.alpha_composite(Image.new("RGBA", part.size, (255, 255, 255, 255)), part)
            out[top - y : bottom - y, left - x : right - x] = np.asarray(part.convert("RGB"), np.uint8)
        return out

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Raise: an image has none."""
        raise SourceError(f"{self._path}: no associated image {name!r}")

    def close(self) -> None:
        """Drop the pixels."""
        self._image.close()


def _header(path: Path) -> Header:
    """Read the header and refuse what it forbids."""
    with path.open("rb") as file:
        header = parse_header(file.read(_HEAD))
    if header is None or header.kind is Kind.TIFF:
        raise SourceError(f"{path}: not an image of a kind that is read, or damaged at its beginning")
    if header.bits > 8:
        raise refuse(path, header.note or f"{header.bits} bits a sample; 8 are kept, and cutting them is not lossless")
    if header.note:
        raise refuse(path, header.note)
    if header.width * header.height > MAX_PIXELS:
        raise refuse(
            path,
            f"{header.width} x {header.height} px; images are decoded as a whole, which ends at {MAX_PIXELS:,} px: "
            "convert it to a tiled TIFF first",
        )
    return header


@contextlib.contextmanager
def _no_limit() -> Iterator[None]:
    """Lift Pillow's limit on the size of images while one is opened: `MAX_PIXELS` stands in for it."""
    with _limit:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _decode(path: Path, image: Image.Image, notes: list[str]) -> Image.Image:
    """Return the decoded image upright, in mode 1, L, RGB or RGBA."""
    if image.mode in ("CMYK", "YCCK"):
        raise refuse(path, "its colours are CMYK: which RGB its inks are is for a colour profile to say")
    if image.mode not in _MODES:
        raise refuse(path, f"images of mode {image.mode} are not supported; RGB, grey and palette of 8 bits are")
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1:
        raise refuse(path, f"{frames} pictures in one file (animation)")
    transparent = "A" in image.mode or "transparency" in image.info
    orientation = image.getexif().get(_ORIENTATION, 1)
    if transparent:
        image = image.convert("RGBA")
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    if orientation in range(2, 9):
        turned = ImageOps.exif_transpose(image)
        image = image if turned is None else turned
        notes.append("turned upright as its orientation tag says")
    if transparent:
        notes.append("transparent px laid on white; the alpha samples themselves are left out")
    image.load()
    return image
