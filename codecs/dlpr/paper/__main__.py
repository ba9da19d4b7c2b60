"""``python -m dlpr.paper layers | roundtrip | train | curve | eval``: layer table, a tile through everything, training.

The first two need neither data nor weights: the tile is synthetic, the weights are random (fixed seed) and trained for
one step, so the sizes mean nothing. ``eval`` is CompressAI's ``eval_model`` on a checkpoint: bits per pixel from real
bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dlpr.paper.codec import PaperCodec
from dlpr.paper.layers import layer_table
from dlpr.paper.loss import optimisers, train_step
from dlpr.paper.model import Dlpr
from dlpr.paper.profile import PaperProfile


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
    crop = torch.from_numpy(tile[:64, :64].transpose(2, 0, 1).astype(np.float32))[None] / 255
    start = time.perf_counter()
    loss = train_step(model, optimisers(model), crop)
    trained = time.perf_counter()
    codec = PaperCodec(model, threads)
    print(f"train step on 64 x 64: {trained - start:.2f} s, {loss.total.item():.2f} bits/px, seed {seed}")
    start = time.perf_counter()
    data = codec.encode(tile, tau)
    middle = time.perf_counter()
    decoded = codec.decode(data)
    end = time.perf_counter()
    error = int(np.abs(decoded.astype(int) - tile).max())
    print(f"{side} x {side}, tau {tau}: {len(data)} bytes, {8 * len(data) / side**2:.3f} bits/px")
    print(f"encode {middle - start:.2f} s, decode {end - middle:.2f} s on {threads} threads; largest error {error}")
    print("round trip: ok" if error <= tau else "round trip: FAILED")
    return error <= tau


def evaluate(folder: Path, checkpoint: Path, estimate: bool) -> None:
    """Print what CompressAI's ``eval_model`` measures of a checkpoint on a folder of images, as JSON."""
    from compressai.utils.eval_model.__main__ import collect_images, eval_model

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = Dlpr.from_state_dict(state["state_dict"]).eval()
    model.update(force=True)
    files = [Path(name) for name in collect_images(str(folder))]
    options = {"architecture": "dlpr", "half": False, "per_image": False}
    found = eval_model(model, Path(), folder, files, entropy_estimation=estimate, **options)
    print(json.dumps({"name": "dlpr", "images": len(files), "results": dict(found)}, indent=2))


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
    run = commands.add_parser("train", help="train on a folder of images with a sub-folder for each source")
    run.add_argument("images", type=Path)
    run.add_argument("out", type=Path)
    run.add_argument("--minutes", type=float, default=10)
    run.add_argument("--batch", type=int, default=4)
    run.add_argument("--lam", type=float, default=0.0, help="lambda: 0 for lossless, 0.03 for near-lossless coding")
    run.add_argument("--lr", type=float, default=1e-4)
    run.add_argument("--channels", type=int, default=192)
    run.add_argument("--features", type=int, default=256)
    run.add_argument("--hidden", type=int, default=256)
    draw = commands.add_parser("curve", help="the curve of a run as SVG")
    draw.add_argument("csv", type=Path, help="OUT/curve.csv of a run")
    draw.add_argument("svg", type=Path)
    judge = commands.add_parser("eval", help="CompressAI's eval_model on a folder of images")
    judge.add_argument("images", type=Path)
    judge.add_argument("checkpoint", type=Path)
    judge.add_argument("--entropy-estimation", action="store_true", help="likelihoods in place of bytes")
    args = parser.parse_args(argv)
    if args.command == "layers":
        print(layer_table(every=args.all))
        return 0
    if args.command == "train":
        from dlpr.paper.train import train

        cfg = PaperProfile(channels=args.channels, features=args.features, hidden=args.hidden)
        print(train(args.images, args.out, cfg, args.minutes, args.batch, args.lam, args.lr))
        return 0
    if args.command == "curve":
        from dlpr.paper.curve import curve_svg

        args.svg.write_text(curve_svg(args.csv))
        return 0
    if args.command == "eval":
        evaluate(args.images, args.checkpoint, args.entropy_estimation)
        return 0
    if args.size < 64:
        parser.error("argument --size: at least 64")
    return 0 if roundtrip(args.size, args.tau, args.seed, args.threads) else 1


if __name__ == "__main__":
    sys.exit(main())
