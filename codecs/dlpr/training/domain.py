"""What reaches the networks: tiles as mode colour hands them over, of real images and of simulated sources.

Pixels whose JPEG or JPEG 2000 is found are not coded by the networks. What is left are pixels on no lattice of colours
(cameras, shrunk levels, JPEGs recoloured or resized after decoding, JPEG 2000 in RGB), and the planes behind pixels
that lie on one: luma, Cr and Cb in one image where chroma has full size, else three images of one channel. The search
of ``modes/colour`` decides, not the name of the source::

    tile, red green blue --find_batch--> one Block of kind "rgb"; or "joint" (luma, Cr, Cb) and "pixels"; or
                                         "luma", two of "chroma" and "pixels"

``pixels`` are the colours of a tile that lies on a lattice: with a bound on the error they are often coded as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlpr import _native
from dlpr.layout import CODING_ORDER
from dlpr.modes.colour.chroma import Filter
from dlpr.modes.colour.find import find_batch
from dlpr.modes.colour.payload import joint_image
from dlpr.training import data
from dlpr.training.data import U8, Block
from dlpr.training.origins import ORIGINS, PHOTOGRAPHS, film

LEAST_SIDE = 128
"""Blocks with a shorter side are left out: a crop would not fit."""

RGB, JOINT, LUMA, CHROMA, PIXELS = KINDS = ("rgb", "joint", "luma", "chroma", "pixels")


def coded_block(x: U8, kind: str) -> Block:
    """The linear stage of samples in coding order, uint8 [h,w,3], or [h,w,1] of a single channel."""
    channels = x.shape[2]
    full = np.ascontiguousarray(np.broadcast_to(x, (*x.shape[:2], 3)))
    base = data.base_colour(full)
    pred, *_ = _native.linear_block(full, base, 8)
    if channels == 1:  # all that belongs to the other channels is a copy of the first one's (docs/format section 3)
        pred = np.ascontiguousarray(np.broadcast_to(pred[..., :1], full.shape))
    return Block(full, pred, base, kind=kind, channels=channels)


def hand_over(rgb: U8) -> list[Block]:
    """Blocks of a tile, uint8 [h,w,3], as the networks meet it."""
    pixels = np.ascontiguousarray(rgb[..., list(CODING_ORDER)])
    (found,) = find_batch([np.ascontiguousarray(rgb)], 1)
    if found is None:
        return [coded_block(pixels, RGB)]
    out = [coded_block(pixels, PIXELS)]
    if found.shape.filter is Filter.NONE:
        return [*out, coded_block(joint_image(found.planes), JOINT)]
    for plane, kind in zip(found.planes, (LUMA, CHROMA, CHROMA), strict=True):
        if min(plane.shape) >= LEAST_SIDE and plane.min() != plane.max():
            out.append(coded_block(np.ascontiguousarray(plane[..., None]), kind))
    return out


def real_tiles(files: list[Path], count: int, rng: np.random.Generator, size: int = 256) -> Iterator[U8]:
    """About ``count`` tiles of one source on the grid of 8 pixels, sides multiples of 16 and at least 128."""
    order = [files[i] for i in rng.permutation(len(files))]
    per = max(1, -(-count // len(order)))
    for path in order[:count]:
        rgb = data.read_rgb(path)
        h, w = (min(size, n // 16 * 16) for n in rgb.shape[:2])
        if min(h, w) < LEAST_SIDE:
            continue
        for _ in range(per if max(rgb.shape[:2]) > size + 32 else 1):
            y = int(rng.integers(0, (rgb.shape[0] - h) // 8 + 1)) * 8
            x = int(rng.integers(0, (rgb.shape[1] - w) // 8 + 1)) * 8
            yield np.ascontiguousarray(rgb[y : y + h, x : x + w])


def simulated_tiles(
    sources: dict[str, list[Path]],
    origin: Callable[[U8, np.random.Generator], U8],
    count: int,
    rng: np.random.Generator,
    size: int = 256,
) -> Iterator[U8]:
    """``count`` tiles from one simulated origin, sources in turn."""
    names = list(sources)
    done = 0
    while done < count:
        files = sources[names[int(rng.integers(len(names)))]]
        rgb = data.read_rgb(files[int(rng.integers(len(files)))])
        side = min(*rgb.shape[:2], 640)
        if side < 300:
            continue
        for _ in range(2 if rgb.size > 6e6 else 1):  # large images take long to read
            y, x = (int(rng.integers(0, n - side + 1)) for n in rgb.shape[:2])
            made = origin(np.ascontiguousarray(rgb[y : y + side, x : x + side]), rng)
            n = min(size, min(made.shape[:2]) // 16 * 16)
            if n >= LEAST_SIDE:
                done += 1
                yield np.ascontiguousarray(made[:n, :n])


def draw_tiles(root: Path, per_source: int, per_origin: int, seed: int) -> Iterator[tuple[str, Iterator[U8]]]:
    """Tiles by group, drawn when they are asked for: each source under its name, each origin as ``sim:<origin>``."""
    sources = data.list_sources(root)
    for i, name in enumerate([*sources, *(f"sim:{k}" for k in ORIGINS)]):
        rng = np.random.default_rng([seed, i, 2])
        if name.startswith("sim:"):
            origin = ORIGINS[name[4:]]
            photographs = {n: files for n, files in sources.items() if n == PHOTOGRAPHS}
            of = photographs if photographs and origin is film else sources
            yield name, simulated_tiles(of, origin, per_origin, rng)
        else:
            yield name, real_tiles(sources[name], per_source, rng)


def save_blocks(path: Path, blocks: list[Block]) -> None:
    """Write the blocks of one group."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"kind": np.array([b.kind for b in blocks])}
    for j, b in enumerate(blocks):
        arrays |= {f"x{j}": b.x[..., : b.channels], f"pred{j}": b.pred[..., : b.channels], f"base{j}": b.base}
    data.save_arrays(path, arrays)


def build_blocks(
    root: Path, cache: Path, per_source: int, per_origin: int, seed: int, part: tuple[int, int] = (0, 1)
) -> dict[str, list[Block]]:
    """Blocks by group: each source under its name, each simulated origin as ``sim:<origin>``; cached on disk.

    ``part`` (k, n) builds every n-th group only, so that several processes can share the work.
    """
    cache.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Block]] = {}
    for i, (name, tiles) in enumerate(draw_tiles(root, per_source, per_origin, seed)):
        if i % part[1] != part[0]:
            continue
        path = cache / f"{name.replace(':', '_')}-{per_source}-{per_origin}-{seed}.npz"
        if not path.exists():
            blocks = [block for tile in tiles for block in hand_over(tile)]
            save_blocks(path, blocks)
            kinds = {k: sum(b.kind == k for b in blocks) for k in KINDS}
            print(f"blocks {name}: {', '.join(f'{n} {k}' for k, n in kinds.items() if n)}", flush=True)
        groups[name] = data.load_blocks(path)
    return groups


def joined(sets: Iterable[dict[str, list[Block]]]) -> dict[str, list[Block]]:
    """Groups of several sets of blocks, those of one name together."""
    out: dict[str, list[Block]] = {}
    for groups in sets:
        for name, blocks in groups.items():
            out.setdefault(name, []).extend(blocks)
    return out
