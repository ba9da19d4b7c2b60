"""Does a device give the format's pixels? ``python -m dlpr.modes.networks.device_check --device cuda``.

Encodes noise, gradients and smooth images on the CPU under many options, decodes them with the torch decoder on the
device in batches of several sizes, and compares with the native decoder bit for bit. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr import bitstream
from dlpr.frame import Mode
from dlpr.layout import from_planes
from dlpr.modes.networks import weights as store

OPTIONS = (
    dlpr.EncoderOptions(patch=64, lanes=8),
    dlpr.EncoderOptions(patch=32, lanes=1),
    dlpr.EncoderOptions(patch=64, lanes=2, lossy_layer=False),
)


def images(count: int, side: int, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Smooth images with noise, edges and flat parts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(np.float64)
    out = []
    for i in range(count):
        wave = np.sin(x / rng.uniform(3, 30) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(3, 30))
        tint = rng.uniform(-40, 40, 3)
        a = 150 + wave[..., None] * tint + rng.normal(0, i % 5, (side, side, 3))
        a[: side // 3, : side // 2] = 240
        out.append(np.clip(np.rint(a), 0, 255).astype(np.uint8))
    return out


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    p = argparse.ArgumentParser(
        prog="python -m dlpr.modes.networks.device_check", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("--device", default="cuda")
    p.add_argument("--count", type=int, default=8, help="images for each set of options")
    p.add_argument("--side", type=int, default=128, help="their side in pixels")
    args = p.parse_args(argv)
    try:
        from dlpr.modes.networks.exact import torch_decoder
    except ImportError:
        print("device_check: torch is missing: pip install 'dlpr-wsi[gpu]'", file=sys.stderr)
        return 1
    weights = store.find(store.default_id())
    wrong = total = 0
    for tau in (0, 1, 5):
        for options in OPTIONS:
            streams = dlpr.encode_batch(images(args.count, args.side), tau, options=options)
            expected = dlpr.decode_batch(streams)
            parsed = [bitstream.parse(s) for s in streams]
            coded = [i for i, s in enumerate(parsed) if s.header.mode is Mode.CODED]
            start = time.perf_counter()
            for batch in (1, args.count):
                for at in range(0, len(coded), batch):
                    group = coded[at : at + batch]
                    planes = torch_decoder.decode_batch([parsed[i] for i in group], weights, device=args.device)
                    for i, plane in zip(group, planes, strict=True):
                        total += 1
                        array = from_planes(np.asarray(plane, np.uint8), parsed[i].header.layout)
                        wrong += not np.array_equal(array, expected[i])
            print(
                f"tau {tau}, patch {options.patch}, {options.lanes} lanes: {time.perf_counter() - start:.1f} s",
                flush=True,
            )
    print(f"{total} decodes on {args.device}, {wrong} differ from the native decoder")
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    raise SystemExit(main())
