"""Speed of mode coded on one core beside JPEG XL e7 (docs/decisions/0019): processor time, best of some rounds.

``python tests/benchmarks/coded_speed.py IMAGES [--simd avx2 avx512] [--tau 0]``; IMAGES holds one sub-folder of images
for each source. All codecs take turns in every round, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr import _native
from dlpr.config import EncoderOptions
from dlpr.evaluation.peers import jpegxl_own_threads
from dlpr.modes.networks import mode as networks_mode
from dlpr.training.data import sample_tiles

U8 = npt.NDArray[np.uint8]
JPEG_XL = "JPEG XL e7"
SIDE = 256
MODEL = networks_mode.native_model


def force(simd: str) -> None:
    """Make mode coded use one instruction set."""
    networks_mode.native_model = lambda weights_id, _="": MODEL(weights_id, simd)  # type: ignore[assignment]


def seconds(f: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    f()
    return time.process_time() - start


def main(argv: list[str] | None = None) -> int:
    """Print MP/s a core, sizes, and the time of one tile."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("images", type=Path)
    p.add_argument("--per-source", type=int, default=2)
    p.add_argument("--simd", nargs="*", default=_native.simd_available()[1:] or ["scalar"])
    p.add_argument("--tau", type=int, default=0)
    p.add_argument("--rounds", type=int, default=3)
    args = p.parse_args(argv)
    tiles = [a for t in sample_tiles(args.images, args.per_source).values() for a in t if a.shape[:2] == (SIDE, SIDE)]
    options = EncoderOptions(jpeg="never", colour="never")
    pixels = sum(a.shape[0] * a.shape[1] for a in tiles)
    sizes: dict[str, int] = {}
    times: dict[tuple[str, str], list[float]] = {}
    one_tile: dict[str, float] = {}
    peer = jpegxl_own_threads(1)
    for _ in range(args.rounds):
        for simd in args.simd:
            force(simd)
            streams: list[bytes] = []
            spent = seconds(lambda s=streams: s.extend(dlpr.encode_batch(tiles, args.tau, threads=1, options=options)))
            times.setdefault((simd, "encode"), []).append(spent)
            back: list[U8] = []
            spent = seconds(lambda s=streams, b=back: b.extend(dlpr.decode_batch(s, threads=1)))
            times.setdefault((simd, "decode"), []).append(spent)
            if any(np.abs(a.astype(int) - b).max() > args.tau for a, b in zip(tiles, back, strict=True)):
                raise AssertionError(f"{simd}: a sample is off by more than {args.tau}")
            sizes[simd] = sum(map(len, streams))
            latencies = []
            for data in streams:
                start = time.perf_counter()
                dlpr.decode(data, threads=2)
                latencies.append(1000 * (time.perf_counter() - start))
            one_tile[simd] = min(one_tile.get(simd, np.inf), statistics.median(latencies))
        if args.tau == 0:
            coded: list[Any] = []
            spent = seconds(lambda c=coded: c.extend(peer.encode(a) for a in tiles))
            times.setdefault((JPEG_XL, "encode"), []).append(spent)
            spent = seconds(lambda c=coded: [peer.decode(s) for s in c])
            times.setdefault((JPEG_XL, "decode"), []).append(spent)
            sizes[JPEG_XL] = sum(map(len, coded))
    print(f"{len(tiles)} tiles of {SIDE} px, tau {args.tau}, best of {args.rounds} rounds\n")
    print("| one core, processor time | encode, MP/s | decode, MP/s | bits/px | one tile, two threads |")
    print("|---|---|---|---|---|")
    for name, size in sizes.items():
        rates = [pixels / 1e6 / min(times[name, what]) for what in ("encode", "decode")]
        tile = f"{one_tile[name]:.0f} ms" if name in one_tile else ""
        print(f"| {name} | {rates[0]:.2f} | {rates[1]:.2f} | {8 * size / pixels:.3f} | {tile} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
