"""How well the JPEG behind pixels is found: images coded by Pillow, decoded, cut off the grid, then given to the codec.

python tests/benchmarks/jpeg_recovery.py IMAGES             files without traces of a JPEG, as dev/mitkovetta
python tests/benchmarks/jpeg_recovery.py IMAGES --tau 2     what the bound saves (docs/decisions/0012)
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
from dlpr.modes.jpeg.recover import recover_batch

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


def spending(images: list[Image.Image], tau: int) -> None:
    """Print bytes at tau 0 and at tau, sums over the images, and how fast the second is made from the JPEG found."""
    print(f"| quality | chroma | tau 0, bytes | tau {tau}, bytes | less | samples beyond | MP/s |")
    print("|---|---|---|---|---|---|---|")
    for quality in TAU_QUALITIES:
        for subsampling in SUBSAMPLINGS:
            exact, bound, beyond, seconds = 0, 0, 0, 0.0
            for image in images:
                tile = tile_of(decoded(image, quality, subsampling)[0])
                (found,) = recover_batch([tile])
                source = None if found is None else found.image
                exact += len(dlpr.encode(tile, source_jpeg=source, threads=1))
                start = time.process_time()
                data = dlpr.encode(tile, tau, source_jpeg=source, threads=1)
                seconds += time.process_time() - start
                bound += len(data)
                beyond += int((np.abs(dlpr.decode(data).astype(int) - tile.astype(int)) > tau).sum())
            less, speed = 100 * (1 - bound / exact), len(images) * SIZE**2 / seconds / 1e6
            cells = f"{exact:,} | {bound:,} | {less:.1f} % | {beyond} | {speed:.2f}"
            print(f"| {quality} | {subsampling} | {cells} |", flush=True)


def main() -> None:
    """Print a table over quality and subsampling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", help="files or folders")
    parser.add_argument("--tau", type=int, metavar="N", help="what tau N saves over tau 0, instead")
    arguments = parser.parse_args()
    paths = [f for p in arguments.images for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
    images = [i for i in (Image.open(p).convert("RGB") for p in paths) if min(i.size) >= max(OFFSET) + SIZE]
    print(f"{len(images)} images, one {SIZE} x {SIZE} tile of each; bits/px are macro means\n")
    if arguments.tau is not None:
        spending(images, arguments.tau)
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
