"""How well the JPEG behind pixels is found: images coded by Pillow, decoded, cut off the grid, then given to the codec.

python tests/benchmarks/jpeg_recovery.py IMAGES             files without traces of a JPEG, as dev/mitkovetta
python tests/benchmarks/jpeg_recovery.py IMAGES --tau 2     what the bound saves, slides (.svs) too
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

import dlpr
from dlpr.modes.jpeg.bench import slide_jpegs
from dlpr.modes.jpeg.mode import Source
from dlpr.modes.jpeg.parse import parse
from dlpr.modes.jpeg.recover import recover_batch
from dlpr.modes.jpeg.synthesis import synthesise

SIZE = 256
OFFSET = (203, 301)  # cuts through blocks and MCUs at all four sides
QUALITIES = (30, 50, 70, 80, 90, 95, 98)
TAU_QUALITIES = (30, 80, 90, 95)
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def decoded(image: Image.Image, quality: int, subsampling: str) -> tuple[np.ndarray, float]:
    """Pixels of an image after JPEG, and bits/px of that JPEG's file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    pixels = np.asarray(Image.open(buffer))
    return pixels, 8 * len(buffer.getvalue()) / (image.width * image.height)


def tile_of(pixels: np.ndarray) -> np.ndarray:
    """The part of an image that is coded."""
    y, x = OFFSET
    return np.ascontiguousarray(pixels[y : y + SIZE, x : x + SIZE])


def spent(tiles: list[np.ndarray], sources: list[Source | None], tau: int) -> str:
    """Cells of a row: bytes at tau 0 and at tau, and how fast the second are made from a known JPEG."""
    exact = dlpr.encode_batch(tiles, source_jpegs=sources, threads=1)
    start = time.process_time()
    bound = dlpr.encode_batch(tiles, tau, source_jpegs=sources, threads=1)
    speed = sum(t.shape[0] * t.shape[1] for t in tiles) / (time.process_time() - start) / 1e6
    for tile, out in zip(tiles, dlpr.decode_batch(bound), strict=True):
        if int(np.abs(out.astype(int) - tile.astype(int)).max()) > tau:
            raise AssertionError(f"a sample is off by more than {tau}")
    before, after = sum(map(len, exact)), sum(map(len, bound))
    return f"{before:,} | {after:,} | {100 * (1 - after / before):.1f} % | {speed:.2f}"


def spending(images: list[Image.Image], slides: list[Path], tau: int) -> None:
    """Print what tau saves: on the images coded by Pillow, and on JPEG tiles of slides as they are."""
    print(f"| quality | chroma | tau 0, bytes | tau {tau}, bytes | less | MP/s |\n|---|---|---|---|---|---|")
    for quality in TAU_QUALITIES if images else ():
        for subsampling in SUBSAMPLINGS:
            tiles = [tile_of(decoded(image, quality, subsampling)[0]) for image in images]
            sources: list[Source | None] = [None if f is None else f.image for f in recover_batch(tiles)]
            print(f"| {quality} | {subsampling} | {spent(tiles, sources, tau)} |", flush=True)
    for path in slides:
        jpegs = slide_jpegs(path)
        tiles = [synthesise(parse(j.data, j.tables, j.transform)) for j in jpegs]
        print(f"| {path.name} | its own | {spent(tiles, list(jpegs), tau)} |", flush=True)


def main() -> None:
    """Print a table over quality and subsampling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", help="files or folders")
    parser.add_argument("--tau", type=int, metavar="N", help="what tau N saves over tau 0, instead")
    arguments = parser.parse_args()
    files = [f for p in arguments.images for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
    slides = [p for p in files if p.suffix.lower() == ".svs"]
    paths = [p for p in files if p not in slides]
    images = [i for i in (Image.open(p).convert("RGB") for p in paths) if min(i.size) >= max(OFFSET) + SIZE]
    print(f"{len(images)} images, one {SIZE} x {SIZE} tile of each; bits/px are macro means\n")
    if arguments.tau is not None:
        spending(images, slides, arguments.tau)
        return
    print("| quality | chroma | found | pixels exact | JPEG file | dlpr | networks only |")
    print("|---|---|---|---|---|---|---|")
    for quality in QUALITIES:
        for subsampling in SUBSAMPLINGS:
            rows = []
            for image in images:
                pixels, file_bits = decoded(image, quality, subsampling)
                tile = tile_of(pixels)
                (found,) = recover_batch([tile])
                exact = 0.0 if found is None else 1 - found.wrong / SIZE**2
                own, alone = (8 * len(dlpr.encode(tile, jpeg=j)) / SIZE**2 for j in ("auto", "never"))
                rows.append((found is not None, exact, file_bits, own, alone))
            n, exact, *bits = (statistics.fmean(column) for column in zip(*rows, strict=True))
            cells = " | ".join(f"{b:.2f}" for b in bits)
            print(f"| {quality} | {subsampling} | {100 * n:.0f} % | {100 * exact:.1f} % | {cells} |", flush=True)


if __name__ == "__main__":
    main()
