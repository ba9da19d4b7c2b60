"""The JPEG 2000 behind pixels: what is found, and what it saves.

    python tests/benchmarks/jpeg2000_recovery.py IMAGES... [--rates 1.0 1.7 3.0] [--tiles 256 240 1024] [--crops 2]

Without ``--rates`` crops of 256 x 256 px are searched as they are. With it, 3 x 3 tiles of each image go through
OpenJPEG first (5 decompositions, 9/7, ICT, each tile a codestream of its own, brought to the rate in bits for each
pixel); of tiles larger than that a single one, cut to the image, so that crops show no border. ``exact`` are pixels
that the found image gives, of all and of those 24 px and more from the edge; ``search`` and ``plain`` the streams' bits
for each pixel with the search and without; ``share`` is ``search`` over the codestreams' own, without ``--rates`` what
JPEG XL e9 takes, and ``search`` over that. The last line counts what was found: a stream of at most 0.9 of the one
without.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import dlpr
from dlpr.modes.j2k.recover import recover
from dlpr.modes.j2k.synthesis import synthesise

SIDE = 256
SINGLE = 512
"""Tiles larger than that come one by one."""
Pixels = NDArray[np.uint8]


def coded(tile: Pixels, rate: float) -> bytes:
    """Code a tile at a rate in bits for each pixel."""
    import imagecodecs

    def at(quality: float) -> bytes:
        options = {"codecformat": "j2k", "resolutions": 6, "reversible": False, "mct": True}
        return bytes(imagecodecs.jpeg2k_encode(np.ascontiguousarray(tile), level=quality, **options))

    least, most = 15.0, 60.0  # dB
    for _ in range(9):
        middle = (least + most) / 2
        least, most = (middle, most) if 8 * len(at(middle)) <= rate * tile[..., 0].size else (least, middle)
    return at(least)


def through_openjpeg(image: Pixels, tile: int, rate: float) -> tuple[Pixels, float]:
    """Pixels of 3 x 3 tiles, or a large one, as they come back, and the codestreams' bits for each pixel."""
    import imagecodecs

    if tile > min(SINGLE, *image.shape[:2]):
        height, width = (min(tile, n) for n in image.shape[:2])
        image = image[:height, :width]
    else:
        height = width = tile
        image = image[: 3 * tile, : 3 * tile]
    image = image[: image.shape[0] // height * height, : image.shape[1] // width * width]
    out, size = np.zeros_like(image), 0
    for y in range(0, image.shape[0], height):
        for x in range(0, image.shape[1], width):
            data = coded(image[y : y + height, x : x + width], rate)
            out[y : y + height, x : x + width] = imagecodecs.jpeg2k_decode(data)
            size += len(data)
    return out, 8 * size / image[..., 0].size


class Result(NamedTuple):
    """What a crop gave."""

    found: bool
    inner: float
    """Share of the pixels away from the edge that are exact, 0 where nothing is found."""
    bits: float
    """Bits for each pixel, over those of the codestreams if there are any."""


def measure(name: str, image: Pixels, crops: int, rng: np.random.Generator, share: float = 0.0) -> list[Result]:
    """Print a line for each crop."""
    import imagecodecs

    out = []
    for _ in range(crops):
        y, x = (int(rng.integers(n - SIDE + 1)) for n in image.shape[:2])
        crop = np.ascontiguousarray(image[y : y + SIDE, x : x + SIDE])
        begin = time.perf_counter()
        found = recover(crop)
        seconds = time.perf_counter() - begin
        plain = 8 * len(dlpr.encode(crop, j2k="given")) / SIDE**2
        data = dlpr.encode(crop)
        bits = 8 * len(data) / SIDE**2
        np.testing.assert_array_equal(dlpr.decode(data), crop)
        exact, inner = "none found |", 0.0
        if found is not None:
            right = (synthesise(found) == crop).all(-1)
            inner = float(right[24:-24, 24:-24].mean())
            exact = f"{100 * right.mean():.1f} % | {100 * inner:.1f} %"
        beside = f"{bits / share:.2f} x share" if share else ""
        if not share:
            peer = 8 * len(imagecodecs.jpegxl_encode(crop, lossless=True, effort=9)) / SIDE**2
            beside = f"{peer:.2f}: {bits / peer:.3f}"
        print(
            f"{name:24} | {y}, {x} | {exact} | {bits:.2f} | {plain:.2f} | {bits / plain:.2f} | {beside} "
            f"| {dlpr.inspect(data).mode} | {seconds:.2f} s",
            flush=True,
        )
        out.append(Result(found is not None and bits < 0.9 * plain, inner, bits / (share or 1.0)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--rates", nargs="*", type=float, default=[])
    parser.add_argument("--tiles", nargs="*", type=int, default=[256, 240])
    parser.add_argument("--crops", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    print("image | crop | exact | inner | search | plain | ratio | JPEG XL e9, or share | mode | search alone")
    results: list[Result] = []
    for path in arguments.images:
        image = np.asarray(Image.open(path).convert("RGB"))
        if not arguments.rates:
            results += measure(path.stem[-24:], image, arguments.crops, rng)
        for rate in arguments.rates:
            for tile in arguments.tiles:
                made, share = through_openjpeg(image, tile, rate)
                results += measure(f"{path.stem[-12:]} {tile} {rate}", made, arguments.crops, rng, share)
    found = [r for r in results if r.found]
    inner, bits = (np.median([r[k] for r in found]) if found else 0.0 for k in (1, 2))
    unit = "x share" if arguments.rates else "bits/px"
    print(
        f"found {len(found)} of {len(results)}; medians of these: {100 * inner:.1f} % inner pixels, {bits:.2f} {unit}"
    )


if __name__ == "__main__":
    main()
