"""Chunks cut anywhere out of JPEG 2000 images, their coefficients known: streams against the codestream's share.

    python tests/benchmarks/jpeg2000_window.py IMAGES... [--rates 1.0 1.7 3.0] [--tiles 256 240 0] [--side 256]

The middle 768 x 768 px of each image through OpenJPEG (5 decompositions, 9/7, ICT, blocks of 64 x 64, one layer, the
rate in bits for each pixel) in tiles of each size (0: one), decoded by OpenJPEG, cut at places off all grids. The
window's coefficients are the parser's (`window_of`), as an ideal search would find them. ``share`` is the stream over
the codestream's bytes for as many pixels, ``thin`` the same without coefficients that hardly reach the chunk
(`thinned`), ``whole`` that of the image itself in one stream; ``exact`` the pixels without residual.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import dlpr
from dlpr import bitstream
from dlpr.bitstream import Header, Mode
from dlpr.layout import Layout, to_planes
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.margin import thinned
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.stream import J2kCandidate, j2k_streams
from dlpr.modes.j2k.synthesis import synthesise
from dlpr.modes.j2k.window import window_of

SIDE = 768
Pixels = NDArray[np.uint8]


def coded(image: Pixels, tile: int, rate: float) -> bytes:
    """Code an image at a rate in bits for each pixel."""
    grid = {"tile_size": (tile, tile)} if tile else {}

    def at(quality: float) -> bytes:
        out, options = io.BytesIO(), {"irreversible": True, "num_resolutions": 6, "mct": 1, "no_jp2": True, **grid}
        Image.fromarray(image).save(out, "JPEG2000", quality_mode="dB", quality_layers=[quality], **options)
        return out.getvalue()

    least, most = 15.0, 60.0  # dB
    for _ in range(8):
        middle = (least + most) / 2
        least, most = (middle, most) if 8 * len(at(middle)) <= rate * image[..., 0].size else (least, middle)
    return at(least)


def stream(image: J2kImage, pixels: Pixels) -> bytes:
    """A stream of mode j2k."""
    layout, height, width = Layout.of(pixels.shape)
    header = Header(Mode.STORED, 0, layout, height, width, 0)
    (out,) = j2k_streams([J2kCandidate(header, to_planes(pixels, layout), image)])
    if out is None:
        raise SystemExit("no stream: the pixels are not those of the image")
    return bitstream.pack(out)


def windows(side: int) -> Iterator[tuple[int, int]]:
    """Top and left of chunks that straddle tiles."""
    free = SIDE - side
    yield from ((free * a // 16, free * b // 16) for a, b in ((3, 5), (5, 13), (9, 3), (13, 11)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0, 1.7, 3.0])
    parser.add_argument("--tiles", nargs="+", type=int, default=[256, 240, 0])
    parser.add_argument("--side", type=int, default=256)
    args = parser.parse_args()
    print("tile rate  share   thin  whole  exact  encode decode us/px")
    for tile in args.tiles:
        for rate in args.rates:
            shares, wholes, exact, seconds, pixels = [], [], [], np.zeros(2), 0
            for path in args.images:
                rgb = np.asarray(Image.open(path).convert("RGB"))
                top, left = ((n - SIDE) // 2 for n in rgb.shape[:2])
                data = coded(np.ascontiguousarray(rgb[top : top + SIDE, left : left + SIDE]), tile, rate)
                image, decoded = parse(data), np.asarray(imagecodecs.jpeg2k_decode(data))
                each = len(data) / SIDE**2
                wholes.append(len(stream(image, decoded)) / len(data))
                for y, x in windows(args.side):
                    chunk = np.ascontiguousarray(decoded[y : y + args.side, x : x + args.side])
                    window = window_of(image, y, x, args.side, args.side)
                    exact.append(np.mean((synthesise(window) == chunk).all(-1)))
                    thin = thinned(window)
                    start = time.perf_counter()
                    out = stream(thin, chunk)
                    middle = time.perf_counter()
                    if not np.array_equal(dlpr.decode(out, threads=1), chunk):
                        raise SystemExit("other pixels")
                    seconds += middle - start, time.perf_counter() - middle
                    pixels += chunk[..., 0].size
                    shares.append([len(s) / (each * chunk[..., 0].size) for s in (stream(window, chunk), out)])
            speed, share = seconds / pixels * 1e6, np.mean(shares, 0)
            figures = f"{share[0]:6.3f} {share[1]:6.3f} {np.mean(wholes):6.3f} {np.mean(exact):7.4f}"
            print(f"{tile:4d} {rate:4.1f} {figures} {speed[0]:7.3f} {speed[1]:6.3f}", flush=True)


if __name__ == "__main__":
    main()
