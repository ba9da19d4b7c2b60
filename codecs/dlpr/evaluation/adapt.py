"""What adaptation to a slide brings (docs/decisions/0021): ``python -m dlpr.evaluation.adapt IMAGE... [--shrink N]``.

All images are taken as one slide: cut into chunks, coded as an encoder would; those chunks and planes that the networks
code are the slide's. A part of the chunks, chosen at random, tunes the networks; all are coded again. Sizes are of real
streams; what carries the tuned weights is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr.modes.networks.tuned import remember
from dlpr.training.adapt import PARTS, AdaptConfig, coded_again, network_parts, tune
from dlpr.training.evaluate import install

U8 = npt.NDArray[np.uint8]
SIDE = 256


def read(path: Path, shrink: int) -> U8:
    """An image, or the level made of it."""
    from PIL import Image

    with Image.open(path) as im:
        rgb: U8 = np.asarray(im.convert("RGB"))
    if shrink == 1:
        return rgb
    h, w = (n // shrink * shrink for n in rgb.shape[:2])
    means = rgb[:h, :w].reshape(h // shrink, shrink, w // shrink, shrink, 3).mean((1, 3))
    return np.asarray(np.floor(means + 0.5), np.uint8)


def tiles_of(image: U8) -> list[U8]:
    """Chunks of an image; those narrower than 32 px are left out."""
    h, w = image.shape[:2]
    found = [image[y : y + SIDE, x : x + SIDE] for y in range(0, h, SIDE) for x in range(0, w, SIDE)]
    return [np.ascontiguousarray(t) for t in found if min(t.shape[:2]) >= 32]


def main(argv: list[str] | None = None) -> None:
    """Print one line for each kind of adaptation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--tau", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.15, help="part of the chunks that is trained on")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--steps", type=int, default=AdaptConfig.steps)
    parser.add_argument("--lr", type=float, default=AdaptConfig.lr)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, help="weights file to start from, in place of the shipped one")
    args = parser.parse_args(argv)
    base = None
    if args.weights is not None:
        data = args.weights.read_bytes()
        sha = hashlib.sha256(data).hexdigest()
        base = bytes.fromhex(sha[:16])
        install(data, sha, Path(tempfile.mkdtemp()))
    tiles = [t for path in args.images for t in tiles_of(read(path, args.shrink))]
    streams = [dlpr.encode(t, args.tau, threads=1, weights_id=base) for t in tiles]
    whole = sum(map(len, streams))
    found = [(i, part) for i, data in enumerate(streams) for part in network_parts(data)]
    parts, used = [part for _, part in found], sorted({i for i, _ in found})
    if not parts:
        raise SystemExit(f"{len(tiles)} chunks, {whole} bytes; the networks code none of them")
    rng = np.random.default_rng(0)
    trained = set(rng.choice(used, max(1, round(args.share * len(used))), replace=False).tolist())
    mine = np.array([i in trained for i, _ in found])
    old = np.array([part.size for part in parts])
    print(
        f"{len(tiles)} chunks, {whole} bytes; networks {old.sum()} in {len(parts)} images of {len(used)} chunks; "
        f"trained on {len(trained)}",
        flush=True,
    )
    for kind in args.parts:
        start = time.process_time()
        cfg = AdaptConfig(kind, args.steps, lr=args.lr, threads=args.threads)
        tuned = remember(tune([p for p, m in zip(parts, mine, strict=True) if m], cfg, base))
        seconds = time.process_time() - start
        after = np.array(coded_again(parts, tuned))
        on, off = (100 * (after[m].sum() / max(old[m].sum(), 1) - 1) for m in (mine, ~mine))
        total, carried = 100 * (after.sum() - old.sum()) / whole, len(tuned.data)
        print(
            f"{kind:6s} trained {on:+.2f} %, others {off:+.2f} %, all {total:+.2f} %, "
            f"with {carried} bytes of weights {total + 100 * carried / whole:+.2f} %; {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
