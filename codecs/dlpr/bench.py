"""Ratio and speed beside other codecs, in one run on the same tiles: ``python -m dlpr.bench`` (``make bench``).

By default the tiles are those of the slide in examples/, whose JPEG tiles are coded as such too; ``--images DIR`` takes
folders of images, one sub-folder for each source, and reports the macro mean over sources. All bytes are real streams,
headers included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr.config import EncoderOptions
from dlpr.evaluation.measure import NETWORK, OWN
from dlpr.evaluation.peers import Encode, Peer, jpegxl_own_threads, lossless_peers, near_lossless_peers
from dlpr.modes.jpeg.bench import compare, slide_jpegs
from dlpr.modes.jpeg.bench import table as jpeg_table

U8 = npt.NDArray[np.uint8]
Tiles = dict[str, list[U8]]
SLIDE = Path("examples/CMU-1-Small-Region.svs")


def slide_tiles(path: Path, size: int = 256) -> Tiles:
    """All tiles of a slide's level 0, cut at its edges."""
    import openslide

    with openslide.OpenSlide(path) as s:
        w, h = s.dimensions
        a = np.asarray(s.read_region((0, 0), 0, (w, h)).convert("RGB"))
    return {
        path.stem: [
            np.ascontiguousarray(a[y : y + size, x : x + size]) for y in range(0, h, size) for x in range(0, w, size)
        ]
    }


def sizes(tiles: Tiles, encode: Callable[[Sequence[U8]], Sequence[int]]) -> dict[str, float]:
    """Bits per pixel of every source."""
    return {s: 8 * sum(encode(t)) / sum(a.shape[0] * a.shape[1] for a in t) for s, t in tiles.items()}


def _dlpr_sizes(tau: int, threads: int, options: dict[str, Any]) -> Callable[[Sequence[U8]], Sequence[int]]:
    def run(t: Sequence[U8]) -> Sequence[int]:
        streams = dlpr.encode_batch(t, tau, threads=threads, **options)
        back = dlpr.decode_batch(streams, threads=threads)
        for a, b in zip(t, back, strict=True):
            if int(np.abs(a.astype(np.int16) - b).max()) > tau:
                raise AssertionError(f"a sample is off by more than {tau}")
        return [len(s) for s in streams]

    return run


def _peer_sizes(encode: Encode, threads: int) -> Callable[[Sequence[U8]], Sequence[int]]:
    def run(t: Sequence[U8]) -> Sequence[int]:
        with ThreadPoolExecutor(threads) as pool:
            return [len(b) for b in pool.map(encode, t)]

    return run


def ratios(
    tiles: Tiles, taus: Sequence[int], threads: int, skip: Sequence[str], options: dict[str, Any]
) -> dict[str, dict[str, dict[str, float]]]:
    """{"tau N": {codec: {source: bits/px, ..., "macro": mean}}}."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for tau in taus:
        peers = lossless_peers() if tau == 0 else near_lossless_peers(tau)
        peers = {name: peer for name, peer in peers.items() if not any(s in name for s in skip)}
        rows = {OWN: sizes(tiles, _dlpr_sizes(tau, threads, options))}
        if options.get("jpeg") != "never":
            rows[NETWORK] = sizes(tiles, _dlpr_sizes(tau, threads, options | {"jpeg": "never", "colour": "never"}))
        rows |= {name: sizes(tiles, _peer_sizes(peer.encode, threads)) for name, peer in peers.items()}
        for r in rows.values():
            r["macro"] = statistics.fmean(r.values())
        out[f"tau {tau}"] = rows
    return out


def _median_seconds(f: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _own_speed(batch: list[U8], tau: int, layers: str, threads: int, repeats: int) -> dict[str, float]:
    mp = sum(a.shape[0] * a.shape[1] for a in batch) / 1e6
    options = EncoderOptions(jpeg=layers, colour=layers)
    streams = dlpr.encode_batch(batch, tau, threads=threads, options=options)
    one = streams[0]
    return {
        "encode": mp
        / _median_seconds(lambda: dlpr.encode_batch(batch, tau, threads=threads, options=options), repeats),
        "decode": mp / _median_seconds(lambda: dlpr.decode_batch(streams, threads=threads), repeats),
        "one tile ms": 1000 * _median_seconds(lambda: dlpr.decode(one, threads=threads), 3 * repeats),
    }


def _peer_speed(peer: Peer, batch: list[U8], pool: ThreadPoolExecutor, repeats: int) -> dict[str, float]:
    mp = sum(a.shape[0] * a.shape[1] for a in batch) / 1e6
    streams = list(pool.map(peer.encode, batch))
    return {
        "encode": mp / _median_seconds(lambda: list(pool.map(peer.encode, batch)), repeats),
        "decode": mp / _median_seconds(lambda: list(pool.map(peer.decode, streams)), repeats),
    }


def speed(tiles: Tiles, threads: int, repeats: int = 3, count: int = 64) -> dict[str, dict[str, float]]:
    """MP/s of encode and decode over a batch of full tiles, medians; peers in a pool of the same number of threads."""
    full = [a for t in tiles.values() for a in t if a.shape[:2] == (256, 256)]
    full.sort(key=lambda a: -float(a.std()))  # tissue first
    batch = (full * (count // max(1, len(full)) + 1))[:count]
    out = {
        f"{name} tau {tau}": _own_speed(batch, tau, layers, threads, repeats)
        for name, layers in ((OWN, "auto"), (NETWORK, "never"))
        for tau in (0, 1)
    }
    with ThreadPoolExecutor(threads) as pool:
        for name, peer in lossless_peers().items():
            if name != "JPEG XL e9":  # 0.1 MP/s
                out[name] = _peer_speed(peer, batch, pool, repeats)
    with ThreadPoolExecutor(1) as one:
        own_threads = jpegxl_own_threads(threads)
        out["JPEG XL e7, tile after tile"] = _peer_speed(own_threads, batch, one, repeats)
    return out


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [f"{result['tiles']} tiles of {', '.join(result['sources'])}; {result['threads']} threads", ""]
    for tau, rows in result["ratio"].items():
        own = rows[OWN]["macro"]
        lines += [f"| {tau}: bits/px, macro mean over sources | | dlpr is |", "|---|---|---|"]
        lines += [f"| {name} | {r['macro']:.3f} | {own / r['macro']:.3f} x |" for name, r in rows.items()]
        lines.append("")
    lines += ["| speed, MP/s | encode | decode |", "|---|---|---|"]
    lines += [f"| {name} | {r['encode']:.2f} | {r['decode']:.2f} |" for name, r in result["speed"].items()]
    if jpeg := result["jpeg"]:
        lines += ["", "JPEG tiles of the slide:", "", jpeg["table"]]
    for name in (OWN, NETWORK):
        if own_speed := result["speed"].get(f"{name} tau 0"):
            lines += ["", f"{name}: one 256x256 tile decoded in {own_speed['one tile ms']:.0f} ms"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``python -m dlpr.bench``."""
    p = argparse.ArgumentParser(prog="python -m dlpr.bench", description="ratio and speed beside other codecs")
    p.add_argument("--images", type=Path, help="folder with one sub-folder of images for each source")
    p.add_argument("--per-source", type=int, default=3, help="tiles of each source")
    p.add_argument("--slide", type=Path, default=SLIDE, help="slide to take tiles from without --images")
    p.add_argument("--tau", type=int, nargs="*", default=[0, 1, 2, 3, 5])
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--fast", action="store_true", help="without JPEG XL effort 9 (0.1 MP/s)")
    p.add_argument("--no-peers", action="store_true", help="dlpr alone")
    p.add_argument("--no-speed", action="store_true")
    p.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="encoder option, e.g. patch=64")
    p.add_argument("--json", action="store_true", help="print JSON")
    args = p.parse_args(argv)
    if args.images:
        from dlpr.training.data import sample_tiles

        tiles = sample_tiles(args.images, args.per_source)
    elif args.slide.exists():
        tiles = slide_tiles(args.slide)
    else:
        print(f"bench: no slide at {args.slide}; name one with --slide or a folder with --images", file=sys.stderr)
        return 2
    skip = [""] if args.no_peers else ["e9"] if args.fast else []
    options = {name: json.loads(value) for name, _, value in (o.partition("=") for o in args.option)}
    result: dict[str, Any] = {
        "sources": list(tiles),
        "tiles": sum(len(t) for t in tiles.values()),
        "threads": args.threads,
        "ratio": ratios(tiles, args.tau, args.threads, skip, options),
        "speed": {} if args.no_speed else speed(tiles, args.threads),
        "jpeg": {},
    }
    if not args.images and not args.no_peers and (jpegs := slide_jpegs(args.slide)):
        rows = compare(jpegs)
        result["jpeg"] = {"rows": {name: asdict(row) for name, row in rows.items()}, "table": jpeg_table(rows, jpegs)}
    print(json.dumps(result, indent=1) if args.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
