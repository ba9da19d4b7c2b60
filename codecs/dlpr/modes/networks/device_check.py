"""What a device gives and how fast: ``python -m dlpr.modes.networks.device_check --device cuda``; under four minutes.

Encodes smooth and noisy images natively and on the device under many options and compares the streams; decodes them on
the device, with and without expecting their pixels, and compares with the native decoder. Then measures encoding,
proofs and decoding over batch sizes, in MP/s, beside the native code, with the device's peak memory beside what was
predicted. Exit status 1 if a pixel differs, or if streams take more than 1.002 x the native encoder's bytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr.errors import DlprError

U8 = npt.NDArray[np.uint8]
MOST = 1.002
"""Bytes beside the native encoder's."""
NETWORKS: dict[str, Any] = {"jpeg": "never", "colour": "never"}
"""Options under which every chunk is for the networks."""
OPTIONS: tuple[dict[str, Any], ...] = (
    {"patch": 64, "lanes": 8},
    {"patch": 32, "lanes": 4, "lossy_layer": False},
    {"patch": 64, "lanes": 16, "anchor": "lossy"},
)
TAUS = (0, 1, 3, 15)


def images(count: int, side: int, seed: int = 0) -> list[U8]:
    """Smooth images with noise, edges and flat parts; every third is grey, every second of odd size."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(np.float64)
    out = []
    for i in range(count):
        wave = np.sin(x / rng.uniform(3, 30) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(3, 30))
        tint = rng.uniform(-40, 40, 3)
        a = 150 + wave[..., None] * tint + rng.normal(0, i % 5, (side, side, 3))
        a[: side // 3, : side // 2] = 240
        whole = np.clip(np.rint(a), 0, 255).astype(np.uint8)
        cut = whole[: side - i % 2, : side - i % 2]
        out.append(cut[..., 0] if i % 3 == 2 else cut)
    return out


def check(device: str, side: int, count: int) -> tuple[int, int, int, int]:
    """Compare a device with the native code: decodes, wrong ones, bytes of the device, bytes of the native encoder."""
    total = wrong = bytes_here = bytes_native = 0
    for tau in TAUS:
        for options in OPTIONS:
            some = images(count, side, tau)
            native = dlpr.encode_batch(some, tau, **NETWORKS, **options)
            here = dlpr.encode_batch(some, tau, device=device, **NETWORKS, **options)
            bytes_here += sum(map(len, here))
            bytes_native += sum(map(len, native))
            wanted = dlpr.decode_batch(here)
            expected: Sequence[list[U8] | None] = (some, None)
            for hopes in expected:
                for got, want in zip(dlpr.decode_batch(here, device=device, expected=hopes), wanted, strict=True):
                    total, wrong = total + 1, wrong + (not np.array_equal(got, want))
            for want, image in zip(wanted, some, strict=True):
                wrong += int(np.abs(want.astype(int) - image).max()) > tau
    return total, wrong, bytes_here, bytes_native


def check_images(device: str, folder: Path, crop: int) -> bool:
    """Code the middle of every image of a folder; print bytes beside the native encoder's; True if all is well."""
    from PIL import Image

    here, native, same, wrong, count = Counter[int](), Counter[int](), 0, 0, 0
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".tif", ".tiff", ".jpg")):
        with Image.open(path) as opened:
            whole = np.asarray(opened.convert("RGB"))
        top, left = (max(0, (n - crop) // 2) for n in whole.shape[:2])
        image = np.ascontiguousarray(whole[top : top + crop, left : left + crop])
        count += 1
        for tau in TAUS:
            (a,) = dlpr.encode_batch([image], tau, **NETWORKS)
            (b,) = dlpr.encode_batch([image], tau, device=device, **NETWORKS)
            native[tau] += len(a)
            here[tau] += len(b)
            same += a == b
            wrong += not np.array_equal(dlpr.decode(a), dlpr.decode(b))
            wrong += int(np.abs(dlpr.decode(b).astype(int) - image).max()) > tau
    for tau in TAUS:
        print(f"tau {tau}: {here[tau]} bytes on {device}, {here[tau] / max(native[tau], 1):.6f} x the native encoder's")
    print(f"{count} images of up to {crop} px: {same} of {len(TAUS) * count} streams are the same, {wrong} wrong")
    return count > 0 and not wrong and all(here[tau] <= MOST * native[tau] for tau in TAUS)


def speed(work: Callable[[], object], pixels: int, budget: float, clock: Callable[[], float]) -> float:
    """MP/s of some work: the best of as many runs as a few seconds allow, the first of which warms up."""
    begin, best = time.perf_counter(), float("inf")
    while best == float("inf") or time.perf_counter() - begin < budget:
        start = clock()
        work()
        best = min(best, clock() - start)
    return pixels / 1e6 / max(best, 1e-9)


def peak_memory(device: str) -> int | None:
    """Largest memory of tensors so far, in bytes, since the last call; None where the device does not say."""
    import torch

    kind = torch.device(device).type
    if kind not in ("cuda", "xpu"):
        return None
    of = getattr(torch, kind)
    peak = int(of.max_memory_allocated(device))
    of.reset_peak_memory_stats(device)
    return peak


def measure(device: str, side: int, batches: Sequence[int], seconds: float, options: dict[str, Any]) -> None:
    """Print the rows of the table: MP/s over batch sizes, until the time is used up; on the CPU, of its own time."""
    from dlpr.modes.networks import on_device

    end = time.perf_counter() + seconds
    clock = time.process_time if device == "cpu" else time.perf_counter
    tile = images(2, side)[0]
    for batch in batches:
        some = [np.roll(tile, i, 0) for i in range(batch)]
        pixels, each = batch * side * side, max(0.5, (end - time.perf_counter()) / 8)
        peak_memory(device)
        begin = time.perf_counter()
        streams = dlpr.encode_batch(some, device=device, **NETWORKS, **options)
        first = time.perf_counter() - begin

        def encode(some: list[U8] = some) -> object:
            return dlpr.encode_batch(some, device=device, **NETWORKS, **options)

        def prove(some: list[U8] = some, streams: list[bytes] = streams) -> object:
            return dlpr.decode_batch(streams, device=device, expected=some)

        def decode(streams: list[bytes] = streams) -> object:
            return dlpr.decode_batch(streams, device=device)

        speeds = [f"{speed(encode, pixels, each, clock):.3f}", f"{speed(prove, pixels, each, clock):.3f}"]
        peak = peak_memory(device)
        speeds.append(f"{speed(decode, pixels, each, clock):.3f}")
        budget = on_device.Budget.of(dlpr.Device(device))
        predicted = on_device.encode_bytes(batch, side, side, min(budget.slab, max(pixels, 1024 * batch)))
        memory = "-" if peak is None else f"{peak >> 20}"
        print(f"| {batch} | {' | '.join(speeds)} | {memory} | {predicted >> 20} |", flush=True)
        if time.perf_counter() + 6 * first > end:
            break


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    p = argparse.ArgumentParser(
        prog="python -m dlpr.modes.networks.device_check", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("--device", default="cuda")
    p.add_argument("--count", type=int, default=4, help="images for each set of options of the check")
    p.add_argument("--side", type=int, default=64, help="their side in pixels")
    p.add_argument("--tile", type=int, default=256, help="side of the tiles that are measured")
    p.add_argument("--batches", type=int, nargs="*", default=[1, 8, 64, 256, 1024], help="batch sizes to measure")
    p.add_argument("--seconds", type=float, default=120, help="of the measurement; batches beyond it are left out")
    p.add_argument("--patch", type=int, default=64, help="patches of what is measured")
    p.add_argument("--lanes", type=int, default=8, help="lanes of each; 256 and 1 are the encoder's defaults")
    p.add_argument("--images", type=Path, help="instead: code every image of this folder and compare the bytes")
    p.add_argument("--crop", type=int, default=256, help="side of the part of each")
    args = p.parse_args(argv)
    try:
        device = dlpr.Device(args.device).name
    except DlprError as error:
        print(f"device_check: {error.message}", file=sys.stderr)
        return 1
    if args.images is not None:
        return 0 if check_images(device, args.images, args.crop) else 1
    begin = time.perf_counter()
    total, wrong, here, native = check(device, args.side, args.count)
    print(
        f"{total} decodes on {device}, {wrong} wrong; {here} bytes, {here / native:.5f} x the native encoder's; "
        f"{time.perf_counter() - begin:.0f} s"
    )
    tile = [images(2, args.tile)[0]]
    pixels = tile[0].shape[0] * tile[0].shape[1]
    options = {"patch": args.patch, "lanes": args.lanes}
    coded = dlpr.encode_batch(tile, threads=1, **NETWORKS, **options)
    clock = time.process_time
    encode = speed(lambda: dlpr.encode_batch(tile, threads=1, **NETWORKS, **options), pixels, 2, clock)
    decode = speed(lambda: dlpr.decode_batch(coded, threads=1), pixels, 2, clock)
    print(f"native, one thread: {encode:.3f} MP/s encode, {decode:.3f} MP/s decode\n")
    print("| batch | encode MP/s | prove MP/s | decode MP/s | peak MiB, encode | predicted MiB |")
    print("|---|---|---|---|---|---|")
    measure(device, args.tile, args.batches, args.seconds, options)
    return 1 if wrong or not total or here > MOST * native else 0


if __name__ == "__main__":
    raise SystemExit(main())
