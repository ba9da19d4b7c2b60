"""Simulated origins: an image as another camera, scanner, store or viewer would have given it.

Each takes uint8 [h,w,3] and a generator and gives uint8 of about half the size, for an image must be shrunk first to
lose what its own origin left in it (its JPEG above all).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from dlpr.modes.colour.chroma import ChromaShape, Filter
from dlpr.modes.colour.lattice import MATRICES, Lattice, Products, Rounding
from dlpr.training.data import U8, glass, scanned

F32 = npt.NDArray[np.float32]
FILTERS = (Image.Resampling.BOX, Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


def _whole(x: npt.NDArray[np.floating]) -> U8:
    return np.asarray(np.clip(np.rint(x), 0, 255), np.uint8)


def _scan(rgb: U8, rng: np.random.Generator) -> F32:
    """Shrunk, colours, blur, noise."""
    return scanned(rgb, rng).astype(np.float32)


def camera(rgb: U8, rng: np.random.Generator) -> U8:
    """Uncompressed pixels; half of them behind a Bayer mosaic."""
    x = _scan(rgb, rng)
    return _whole(_bayer(x, rng) if rng.random() < 0.5 else x)


def _bayer(x: F32, rng: np.random.Generator) -> F32:
    """One colour of each pixel with its noise, the others by bilinear interpolation; sharpened at times."""
    h, w, _ = x.shape
    noisy = x + rng.normal(0, 1, x.shape) * np.sqrt(np.maximum(x, 1) / 255) * rng.uniform(0, 3)
    y, i = np.mgrid[:h, :w] + rng.integers(0, 2, 2)[:, None, None]
    masks = np.stack([(y % 2 == 0) & (i % 2 == 0), (y + i) % 2 == 1, (y % 2 == 1) & (i % 2 == 1)], -1)
    known = np.where(masks, noisy, 0)
    weight = masks.astype(np.float32)
    kernel = ((0, 0, 4), (0, 1, 2), (1, 0, 2), (0, -1, 2), (-1, 0, 2), (1, 1, 1), (1, -1, 1), (-1, 1, 1), (-1, -1, 1))
    total = sum(k * np.roll(known, (dy, dx), (0, 1)) for dy, dx, k in kernel)
    norm = sum(k * np.roll(weight, (dy, dx), (0, 1)) for dy, dx, k in kernel)
    out = np.where(masks, noisy, total / norm)
    if rng.random() < 0.4:
        soft = sum(np.roll(out, d, a) for d in (-1, 1) for a in (0, 1)) / 4
        out = out + rng.uniform(0.2, 1.0) * (out - soft)
    return np.asarray(out, np.float32)


def shrunk(rgb: U8, rng: np.random.Generator) -> U8:
    """A level of a pyramid made by shrinking the one before, with nothing else done to it."""
    factor = int(rng.choice([2, 2, 2, 3]))
    side = min(rgb.shape[:2]) // factor
    x = Image.fromarray(rgb[: side * factor, : side * factor])
    return np.asarray(x.resize((side, side), FILTERS[int(rng.integers(3))]))


def _jpeg(x: U8, quality: int, subsampling: int) -> U8:
    out = io.BytesIO()
    Image.fromarray(x).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(out).convert("RGB"))


def jpeg(rgb: U8, rng: np.random.Generator) -> U8:
    """A decoded JPEG of a scanner."""
    quality = int(rng.choice([30, 50, 70, 75, 80, 85, 90, 95]))
    return _jpeg(_whole(_scan(rgb, rng)), quality, int(rng.integers(3)))


def fine_jpeg(rgb: U8, rng: np.random.Generator) -> U8:
    """A decoded JPEG of very high quality, off the grid of blocks: its planes are what can be found."""
    y, x = rng.integers(0, 8, 2)
    x = _jpeg(_whole(_scan(rgb, rng)), int(rng.integers(94, 101)), int(rng.integers(3)))[y:, x:]
    return np.ascontiguousarray(x)


def recoloured(rgb: U8, rng: np.random.Generator) -> U8:
    """A decoded JPEG whose colours were changed afterwards."""
    quality = int(rng.choice([50, 70, 75, 80, 85, 90, 95]))
    x = _jpeg(_whole(_scan(rgb, rng)), quality, int(rng.integers(3))).astype(np.float32) / 255
    x = x ** rng.uniform(0.75, 1.3)
    x = x @ (np.eye(3) + rng.normal(0, 0.06, (3, 3))).T * rng.uniform(0.9, 1.1)
    return _whole(255 * x)


def resized(rgb: U8, rng: np.random.Generator) -> U8:
    """A decoded JPEG that was shrunk, enlarged or shifted by a part of a pixel afterwards."""
    quality = int(rng.choice([50, 70, 75, 80, 85, 90, 95]))
    x = _jpeg(_whole(_scan(rgb, rng)), quality, int(rng.integers(3)))
    factor = rng.uniform(0.55, 0.95) if rng.random() < 0.75 else rng.uniform(1.0, 1.4)
    n = int(min(x.shape[:2]) * factor)
    return np.asarray(Image.fromarray(x).resize((n, n), FILTERS[1 + int(rng.integers(3))]))


def _j2k(x: U8, rng: np.random.Generator) -> U8:
    import imagecodecs as ic

    level = int(rng.integers(33, 49))
    stream = ic.jpeg2k_encode(x, level=level, reversible=False, mct=x.ndim == 3)
    return np.asarray(ic.jpeg2k_decode(stream), np.uint8).reshape(x.shape)


def jpeg2000(rgb: U8, rng: np.random.Generator) -> U8:
    """JPEG 2000 of red, green and blue."""
    return _j2k(_whole(_scan(rgb, rng)), rng)


def planes_of(x: F32, lattice: Lattice) -> list[F32]:
    """Y, Cb, Cr, not rounded, of red, green and blue in 0..255."""
    d = lattice.denominator
    to = np.array([
        [lattice.luma, 0, lattice.red],
        [lattice.luma, lattice.green_blue, lattice.green_red],
        [lattice.luma, lattice.blue, 0],
    ]) / d  # fmt: skip
    if lattice.products is Products.GREEN_OF_ROUNDED:
        to[1, 1:] = lattice.green_blue * lattice.blue / d / d, lattice.green_red * lattice.red / d / d
    ycc = x @ np.linalg.inv(to).T + (lattice.offset, 128, 128)
    return [ycc[..., c].astype(np.float32) for c in range(3)]


def jpeg2000_planes(rgb: U8, rng: np.random.Generator) -> U8:
    """JPEG 2000 of Y, Cb, Cr as Aperio writes it: chroma at full or half width, colours rounded down."""
    x = _scan(rgb, rng)[:288, :288]
    lattice = replace(MATRICES[int(rng.integers(2))], rounding=Rounding.FLOOR if rng.random() < 0.7 else Rounding(0))
    planes = planes_of(x, lattice)
    shape = ChromaShape(Filter.REPETITION, 1, 2) if rng.random() < 0.6 else ChromaShape()
    stored = [_j2k(_whole(planes[0]), rng), *(_j2k(_whole(_halved(p, shape)), rng) for p in planes[1:])]
    return _pixels(stored, lattice, shape, x.shape)


def _halved(plane: F32, shape: ChromaShape) -> F32:
    """A plane at the size that a shape has it, by means."""
    h, w = plane.shape
    rows, columns = shape.size(h, w)
    if (rows, columns) == (h, w):
        return plane
    out = Image.fromarray(plane).resize((-(-w // shape.horizontal), -(-h // shape.vertical)), Image.Resampling.BOX)
    a = np.asarray(out)
    pad = ((0, max(0, rows - a.shape[0])), (0, max(0, columns - a.shape[1])))
    return np.pad(a, pad, "edge")[:rows, :columns]


def _pixels(planes: list[U8], lattice: Lattice, shape: ChromaShape, size: tuple[int, ...]) -> U8:
    h, w = size[:2]
    return lattice.pixels(planes[0], *(shape.upsample(p, h, w) for p in planes[1:]))


def planes(rgb: U8, rng: np.random.Generator) -> U8:
    """Whole-numbered planes of a camera or film scanner, not compressed: any matrix, chroma at any size."""
    x = _scan(rgb, rng)
    if rng.random() < 0.3:
        x = _bayer(x, rng)
    lattice = MATRICES[0 if rng.random() < 0.5 else int(rng.integers(len(MATRICES)))]
    if lattice is MATRICES[8]:  # Photo CD
        lattice = replace(lattice, rounding=Rounding.FLOOR, products=Products.GREEN_OF_ROUNDED)
    kinds = [
        ChromaShape(),
        ChromaShape(Filter.TRIANGLE, 2, 2, *rng.integers(0, 2, 2).tolist()),
        ChromaShape(Filter.TRIANGLE, 1, 2, 0, int(rng.integers(2))),
        ChromaShape(Filter.MEAN, 2, 2),
        ChromaShape(Filter.REPETITION, 2, 2),
        ChromaShape(Filter.REPETITION, 1, 2),
    ]
    shape = kinds[int(rng.choice(len(kinds), p=[0.35, 0.25, 0.1, 0.15, 0.05, 0.1]))]
    y, *chroma = planes_of(x, lattice)
    return _pixels([_whole(y), *(_whole(_halved(p, shape)) for p in chroma)], lattice, shape, x.shape)


def film(rgb: U8, rng: np.random.Generator) -> U8:
    """A scanned film as Photo CD has it: PhotoYCC, chroma at half size in both directions."""
    factor = rng.uniform(1.0, 2.0)
    h, w = (int(n / factor) for n in rgb.shape[:2])
    x = np.asarray(Image.fromarray(rgb).resize((w, h), FILTERS[int(rng.integers(3))])).astype(np.float32)
    x += rng.normal(0, 1, x.shape) * rng.choice([0, 1, 2])
    lattice = replace(MATRICES[8], rounding=Rounding.FLOOR, products=Products.GREEN_OF_ROUNDED)
    shape = ChromaShape(Filter.MEAN, 2, 2)
    y, *chroma = planes_of(x, lattice)
    return _pixels([_whole(y), *(_whole(_halved(p, shape)) for p in chroma)], lattice, shape, x.shape)


def background(rgb: U8, rng: np.random.Generator) -> U8:
    """Tissue that fades into the bare slide, then any of the ends above."""
    x = _whole(glass(scanned(rgb, rng).astype(np.float32), rng))
    end = int(rng.integers(5))
    if end == 0:
        return x
    if end == 1:
        return _j2k(x, rng)
    if end == 2:
        lattice = MATRICES[0]
        return _pixels([_whole(p) for p in planes_of(x.astype(np.float32), lattice)], lattice, ChromaShape(), x.shape)
    return _jpeg(x, int(rng.choice([50, 75, 85, 95, 99])), int(rng.integers(3)))


ORIGINS: dict[str, Callable[[U8, np.random.Generator], U8]] = {
    "camera": camera,
    "shrunk": shrunk,
    "jpeg": jpeg,
    "fine_jpeg": fine_jpeg,
    "recoloured": recoloured,
    "resized": resized,
    "jpeg2000": jpeg2000,
    "jpeg2000_planes": jpeg2000_planes,
    "planes": planes,
    "background": background,
    "film": film,
}
PHOTOGRAPHS = "photographs"
"""Source that ``film`` takes its images from, if there is one."""
