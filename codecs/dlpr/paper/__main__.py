"""``python -m dlpr.paper layers | roundtrip``: the layer table, and a tile through everything.

Neither needs data or weights: the tile is synthetic, the weights are random (fixed seed) and trained for one step, so
the sizes mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt
import torch

from dlpr.paper.codec import PaperCodec
from dlpr.paper.layers import layer_table
from dlpr.paper.loss import optimisers, train_step
from dlpr.paper.model import Dlpr


def synthetic_tile(side: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth colours with a little noise, [side, side, 3] uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / 64
    wave = np.stack([np.sin(2.1 * x + c) + np.cos(1.3 * y - c) for c in range(3)], 2)
    return np.clip(170 + 35 * wave + rng.normal(0, 3, wave.shape), 0, 255).astype(np.uint8)


def roundtrip(side: int, tau: int, seed: int, threads: int) -> bool:
    """Build, train one step, encode, decode, compare; prints what happened."""
    torch.manual_seed(seed)
    model, tile = Dlpr(), synthetic_tile(side)
    crop = torch.from_numpy(tile[:64, :64].transpose(2, 0, 1).astype(np.float32))[None]
    start = time.perf_counter()
    loss = train_step(model, optimisers(model), crop)
    trained = time.perf_counter()
    codec = PaperCodec(model, threads)
    print(f"train step on 64 x 64: {trained - start:.2f} s, {loss.total.item():.2f} bits/px, seed {seed}")
    start = time.perf_counter()
    encoded = codec.encode_parts(tile, tau)
    middle = time.perf_counter()
    decoded = codec.decode(encoded.data)
    end = time.perf_counter()
    error = int(np.abs(decoded.astype(int) - tile).max())
    print(
        f"{side} x {side}, tau {tau}: {len(encoded.data)} bytes, bits/px z {encoded.bits_z / side**2:.3f}, "
        f"y {encoded.bits_y / side**2:.3f}, residual {encoded.bits_residual / side**2:.3f}; "
        f"m {encoded.m}, {encoded.escapes} escapes"
    )
    print(f"encode {middle - start:.2f} s, decode {end - middle:.2f} s on {threads} threads; largest error {error}")
    print("round trip: ok" if error <= tau else "round trip: FAILED")
    return error <= tau


def main(argv: list[str] | None = None) -> int:
    """Parse and run; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m dlpr.paper", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("layers", help="layer table, parameters and multiply-adds per pixel")
    table.add_argument("--all", action="store_true", help="every layer, not only the parts")
    trip = commands.add_parser("roundtrip", help="train a step, encode and decode a tile")
    trip.add_argument("--size", type=int, default=64, help="side of the tile in pixels, at least 64")
    trip.add_argument("--tau", type=int, default=0)
    trip.add_argument("--seed", type=int, default=0)
    trip.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    if args.command == "layers":
        print(layer_table(every=args.all))
        return 0
    if args.size < 64:
        parser.error("argument --size: at least 64")
    return 0 if roundtrip(args.size, args.tau, args.seed, args.threads) else 1


if __name__ == "__main__":
    sys.exit(main())
