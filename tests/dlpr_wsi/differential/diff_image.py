"""Plain images: PNG, JPEG, WebP, BMP, PNM and JPEG 2000; judged by the arrays, lossy ones by Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from diff_common import ANY, Truth, Verdict, grey3, on_white, picture, turned
from hypothesis import strategies as st
from PIL import Image, ImageCms

from dlpr_wsi.sources import Selection

MODES = {
    "png": ("1", "L", "LA", "P", "Pa", "RGB", "RGBA", "RGBt", "I;16", "RGB;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "webp": ("RGB", "RGBA", "lossy", "animated"),
    "bmp": ("1", "L", "P", "RGB"),
    "ppm": ("1", "L", "RGB", "L;16", "RGB;16", "RGB;100"),
    "jp2": ("L", "RGB", "L;16", "RGB;16", "RGBA"),
}


@dataclass(frozen=True)
class ImageCase:
    """An image file; ``mode`` is Pillow's word, with what Pillow has no word for."""

    suffix: str = "png"
    mode: str = "RGB"
    width: int = 100
    height: int = 80
    seed: int = 0
    subsampling: int = 0
    progressive: bool = False
    orientation: int = 1
    icc: str = ""  # srgb, grey, broken

    selection = Selection()

    @property
    def verdict(self):
        if ";" in self.mode and self.mode not in ("RGB;100",):
            return Verdict.REFUSE
        if self.mode in ("L", "RGB") and self.orientation == 1 and self.icc != "broken":
            return Verdict.CONVERT
        return Verdict.EITHER

    def _picture(self):
        samples = {"L": 1, "1": 1, "P": 1, "LA": 2, "RGBA": 4, "CMYK": 4}.get(self.mode, 3)
        return picture(self.seed, self.height, self.width, samples)

    def write(self, folder: Path) -> Path:
        path = folder / f"case.{self.suffix}"
        depth = self.mode.partition(";")[2]
        if depth:
            self._deep(path, depth)
            return path
        options = {}
        if self.orientation != 1:
            exif = Image.Exif()
            exif[274] = self.orientation
            options["exif"] = exif
        if self.icc:
            options["icc_profile"] = icc(self.icc)
        stored = self._picture()
        if self.mode == "1":
            image = Image.fromarray(stored[..., 0]).convert("1")
        elif self.mode in ("P", "Pa"):
            image = Image.fromarray(stored[..., 0], "P") if self.mode == "P" else Image.fromarray(stored).convert("P")
            palette = np.random.default_rng(self.seed).integers(0, 256, (256, 3)).astype(np.uint8)
            image.putpalette(palette.tobytes())
            if self.mode == "Pa":
                options["transparency"] = 7
        elif self.mode == "RGBt":
            image = Image.fromarray(stored)
            options["transparency"] = tuple(int(v) for v in stored[-1, -1])
        else:
            image = Image.fromarray(stored if stored.shape[-1] > 1 else stored[..., 0], self._pillow_mode())
        if self.suffix == "jpg":
            options |= {"quality": 80, "progressive": self.progressive}
            if self.mode == "RGB":
                options["subsampling"] = self.subsampling
        if self.suffix == "webp":
            options |= {"lossless": self.mode != "lossy", "exact": True}
            if self.mode == "animated":
                options |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}
        if self.suffix == "jp2":
            options["irreversible"] = False
        image.save(path, **options)
        return path

    def _pillow_mode(self):
        return self.mode if self.mode in ("L", "LA", "RGBA", "CMYK") else "RGB"

    def _deep(self, path, depth):
        """Write more, or other, than 8 bits."""
        samples = 1 if self.mode.startswith(("L", "I")) else 3
        if depth == "100":  # a PNM whose white is 100
            small = self._hundred()
            path.write_bytes(b"P6\n%d %d\n100\n" % (self.width, self.height) + small.tobytes())
            return
        deep = picture(self.seed, self.height, self.width, samples, np.uint16)
        deep = deep[..., 0] if samples == 1 else deep
        if self.suffix == "png":
            path.write_bytes(imagecodecs.png_encode(deep))
        elif self.suffix == "jp2":
            path.write_bytes(imagecodecs.jpeg2k_encode(deep, level=0, reversible=True))
        else:
            head = b"%s\n%d %d\n65535\n" % (b"P5" if samples == 1 else b"P6", self.width, self.height)
            path.write_bytes(head + deep.astype(">u2").tobytes())

    def _hundred(self):
        return (picture(self.seed, self.height, self.width).astype(int) * 100 // 255).astype(np.uint8)

    def truths(self, path: Path) -> list[Truth]:
        stored, tolerance = self._picture(), 0
        if self.mode == "RGB;100":
            shown, tolerance = np.rint(self._hundred() * 2.55).astype(np.uint8), 1
        elif self.suffix == "jpg" or self.mode in ("lossy", "1", "P", "Pa"):
            with Image.open(path) as image:
                shown = image.convert("RGBA") if "transparency" in image.info else image.convert("RGB")
                shown = on_white(np.asarray(shown)) if shown.mode == "RGBA" else np.asarray(shown)
        elif self.mode == "RGBt":
            alpha = np.where((stored == stored[-1, -1]).all(-1), 0, 255).astype(np.uint8)
            shown = on_white(np.dstack([stored, alpha]))
        elif self.mode == "LA":
            shown = on_white(np.concatenate([grey3(stored[..., 0]), stored[..., 1:]], -1))
        elif self.mode == "RGBA":
            shown = on_white(stored)
        else:
            shown = grey3(stored) if self.mode == "L" else stored
        return [Truth("the arrays", (turned(shown, self.orientation),), ANY, tolerance)]


def icc(kind):
    """An ICC profile: of sRGB, of a grey device, or none at all."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if kind == "broken":
        return b"no profile"
    return srgb if kind == "srgb" else srgb[:16] + b"GRAY" + srgb[20:]


@st.composite
def image_cases(draw):
    """Draw an image."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    suffix = pick("png", "png", "jpg", "jpg", "webp", "bmp", "ppm", "jp2")
    mode = pick(*MODES[suffix])
    tagged = suffix in ("jpg", "png", "webp") and ";" not in mode
    return ImageCase(
        suffix=suffix,
        mode=mode,
        width=draw(st.integers(40, 200)),
        height=draw(st.integers(40, 200)),
        seed=draw(st.integers(0, 99)),
        subsampling=pick(0, 1, 2) if suffix == "jpg" else 0,
        progressive=suffix == "jpg" and pick(False, True),
        orientation=pick(*[1] * 6, *range(2, 9)) if tagged else 1,
        icc=pick("", "", "srgb", "grey", "broken") if tagged else "",
    )
