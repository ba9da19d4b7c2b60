"""How well the JPEG behind pixels is found: images coded by Pillow, decoded, cut off the grid, then given to the codec.

python tests/benchmarks/jpeg_recovery.py IMAGES     (files without traces of a JPEG, for example dev/mitkovetta)
"""

from __future__ import annotations

import argparse
import io
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

import dlpr
from dlpr.modes.jpeg.recover import recover_batch

SIZE = 256
OFFSET = (203, 301)  # cuts through blocks and MCUs at all four sides
QUALITIES = (30, 50, 70, 80, 90, 95, 98)


def decoded(image: Image.Image, quality: int, subsampling: str) -> tuple[np.ndarray, float]:
    """Pixels of an image after JPEG, and bits/px of that JPEG's file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    pixels = np.asarray(Image.open(buffer))
    return pixels, 8 * len(buffer.getvalue()) / (image.width * image.height)


def main() -> None:
    """Print a table over quality and subsampling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", help="files or folders")
    paths = [f for p in parser.parse_args().images for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
    images = [i for i in (Image.open(p).convert("RGB") for p in paths) if min(i.size) >= max(OFFSET) + SIZE]
    print(f"{len(images)} images, one {SIZE} x {SIZE} tile of each; bits/px are macro means\n")
    print("| quality | chroma | found | pixels exact | JPEG file | dlpr | networks only |")
    print("|---|---|---|---|---|---|---|")
    for quality in QUALITIES:
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            rows = []
            for image in images:
                pixels, file_bits = decoded(image, quality, subsampling)
                y, x = OFFSET
                tile = np.ascontiguousarray(pixels[y : y + SIZE, x : x + SIZE])
                (found,) = recover_batch([tile])
                exact = 0.0 if found is None else 1 - found.wrong / SIZE**2
                own, alone = (8 * len(dlpr.encode(tile, jpeg=j)) / SIZE**2 for j in ("auto", "never"))
                rows.append((found is not None, exact, file_bits, own, alone))
            n, exact, *bits = (statistics.fmean(column) for column in zip(*rows, strict=True))
            cells = " | ".join(f"{b:.2f}" for b in bits)
            print(f"| {quality} | {subsampling} | {100 * n:.0f} % | {100 * exact:.1f} % | {cells} |", flush=True)


if __name__ == "__main__":
    main()
