"""Makers of odd TIFFs, and the independent readers that say what is right."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

openslide = pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

from PIL import Image  # noqa: E402


def picture(height, width, seed=0):
    """Return smooth blobs with grain, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth.astype(int) + rng.integers(-3, 4, smooth.shape), 0, 255).astype(np.uint8)


def on_white(image):
    """Lay an RGBA image of Pillow on white."""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image.convert("RGBA")))[..., :3]


def by_openslide(path):
    """Return every level as OpenSlide gives it from (0, 0)."""
    with openslide.OpenSlide(path) as slide:
        return [on_white(slide.read_region((0, 0), k, size)) for k, size in enumerate(slide.level_dimensions)]


def whole(source, level=0):
    """Read a level of a source."""
    place = source.facts.levels[level]
    return source.read(0, 0, place.width, place.height, level)


def cut(image, side):
    """Yield tiles, padded at the edges."""
    for y in range(0, image.shape[0], side):
        for x in range(0, image.shape[1], side):
            tile = image[y : y + side, x : x + side]
            yield np.pad(tile, ((0, side - tile.shape[0]), (0, side - tile.shape[1]), (0, 0)), mode="edge")


def ycc(image):
    """Return Y, Cb, Cr of RGB."""
    return np.asarray(Image.fromarray(image).convert("YCbCr"))


def j2k_ycc(tile):
    return imagecodecs.jpeg2k_encode(ycc(tile), level=0, codecformat="j2k", mct=False, reversible=True)


def j2k_rgb(tile):
    return imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", mct=True, reversible=True)


def jpeg_ycc(tile):
    return imagecodecs.jpeg8_encode(tile, level=85, colorspace="RGB", outcolorspace="YCBCR", subsampling="420")


ENCODERS = {
    "jpeg": (jpeg_ycc, 7, "ycbcr"),
    "33003": (j2k_ycc, 33003, "rgb"),
    "33005": (j2k_rgb, 33005, "rgb"),
    "deflate": (None, 8, "rgb"),
}


def write_slide(path, levels, kind="jpeg", side=128, vendor="aperio"):
    """Write levels as an Aperio slide, or as a generic pyramid."""
    encode, compression, photometric = ENCODERS[kind]
    height, width = levels[0].shape[:2]
    text = f"Aperio Image Library v1 \r\n{width}x{height} ({side}x{side})|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as writer:
        for k, level in enumerate(levels):
            options = {
                "tile": (side, side),
                "compression": compression,
                "photometric": photometric,
                "metadata": None,
                "subfiletype": 1 if k else 0,
                "description": text if vendor == "aperio" else None,
            }
            if encode is None:
                writer.write(level, **options)
            else:
                tiles = (encode(tile) for tile in cut(level, side))
                writer.write(tiles, shape=level.shape, dtype=np.uint8, **options)
    return path


def drop_tiles(path, page, *indices):
    """Set the byte counts of tiles to 0."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        stored = tiff.pages[page]
        counts = list(stored.databytecounts)
        for index in indices:
            counts[index] = 0
        stored.tags["TileByteCounts" if stored.is_tiled else "StripByteCounts"].overwrite(counts)
    return path


def overwrite_tag(path, page, name, value):
    """Change a tag where it lies."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[page].tags[name].overwrite(value)
    return path


@pytest.fixture
def rgb():
    return picture(150, 210)


@pytest.fixture
def make(tmp_path):
    """Write an array with tifffile and return the path."""

    def write(array, name="a.tif", **options):
        path = tmp_path / name
        options.setdefault("metadata", None)
        tifffile.imwrite(path, array, **options)
        return Path(path)

    return write


@pytest.fixture(scope="session")
def kit():
    """The functions of this file."""
    names = (picture, on_white, by_openslide, whole, ycc, jpeg_ycc, write_slide, drop_tiles, overwrite_tag)
    return SimpleNamespace(**{function.__name__: function for function in names})
