"""Real bytes of every codec on every tile, each stream decoded and compared with what went in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr.errors import DlprError, UnsupportedInputError
from dlpr.evaluation.peers import Peer, lossless_peers, near_lossless_peers

U8 = npt.NDArray[np.uint8]
Tiles = dict[str, list[U8]]
OWN = "dlpr"
NETWORK = "dlpr, networks only"
"""This package's codec without JPEG and colour layer: what the networks alone reach."""
PARTS = ("lanes", "lossy", "linear", "coefficients", "residual")
"""Parts of a stream besides its header (`dlpr.StreamInfo.bytes_by_part`)."""


class WrongPixelsError(DlprError, ValueError):
    """A codec's decoded pixels differ from the original by more than they may."""


@dataclass(frozen=True)
class Result:
    """One tile under one codec. Seconds are those of one thread while the pool's other threads were busy too."""

    set: str
    source: str
    tile: int
    codec: str
    tau: int
    pixels: int
    bytes: int
    encode_s: float
    decode_s: float
    mode: str = ""
    header: int = 0
    lossy: int = 0
    linear: int = 0
    lanes: int = 0
    coefficients: int = 0
    residual: int = 0


def load_set(folder: Path, per_source: int) -> Tiles:
    """Tiles of a set: ``per_source`` of 256 x 256 of each sub-folder, or all images lying in the folder, whole."""
    from dlpr.training.data import IMAGE_SUFFIXES, read_rgb, sample_tiles

    if not folder.is_dir():
        raise UnsupportedInputError(
            f"{folder} is not a folder: name one with images or one sub-folder for each source", reason="input"
        )
    flat = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    tiles = {folder.name: [read_rgb(p) for p in flat]} if flat else sample_tiles(folder, per_source)
    if not any(tiles.values()):
        raise UnsupportedInputError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})", reason="input")
    return tiles


def own_codec(tau: int, options: dict[str, Any]) -> Peer:
    """The codec of this package in the peers' terms."""
    return Peer(lambda a: dlpr.encode(a, tau, threads=1, **options), lambda data: dlpr.decode(data, threads=1))


def codecs(tau: int, options: dict[str, Any], skip: tuple[str, ...], peers: bool) -> dict[str, Peer]:
    """Codecs by name for one tau, this package's first; without those with one of ``skip`` in their name."""
    others = (lossless_peers() if tau == 0 else near_lossless_peers(tau)) if peers else {}
    own = {OWN: own_codec(tau, options)}
    if options.get("jpeg") != "never":
        own[NETWORK] = own_codec(tau, options | {"jpeg": "never", "colour": "never"})
    return own | {k: p for k, p in others.items() if not any(s in k for s in skip)}


def measure_tile(name: str, codec: Peer, tau: int, tile: U8) -> tuple[int, float, float, str, dict[str, int]]:
    """(bytes, encode s, decode s, mode, bytes by part) of one tile; WrongPixelsError if it comes back wrong."""
    start = time.perf_counter()
    data = codec.encode(tile)
    middle = time.perf_counter()
    back = np.asarray(codec.decode(data))
    end = time.perf_counter()
    worst = int(np.abs(back.astype(np.int16) - tile).max()) if back.shape == tile.shape else 256
    if worst > tau:
        raise WrongPixelsError(f"{name} at tau = {tau}: a sample is off by {worst}")
    mode, parts = "", {}
    if name in (OWN, NETWORK):
        info = dlpr.inspect(bytes(data))
        mode, parts = info.mode, {k: info.bytes_by_part.get(k, 0) for k in PARTS}
        parts["header"] = len(data) - sum(parts.values())
    return len(data), middle - start, end - middle, mode, parts


def measure(
    name: str,
    tiles: Tiles,
    taus: list[int],
    make: Callable[[int], dict[str, Peer]],
    threads: int,
    progress: Callable[[str], None],
) -> Iterator[Result]:
    """Results of one set; ``make`` gives the codecs of a tau."""
    work = [(source, i, t) for source, ts in tiles.items() for i, t in enumerate(ts)]
    with ThreadPoolExecutor(threads) as pool:
        for tau in taus:
            for codec_name, codec in make(tau).items():
                progress(f"{name}: tau {tau}, {codec_name}, {len(work)} tiles")

                def one(
                    item: tuple[str, int, U8], codec_name: str = codec_name, codec: Peer = codec, tau: int = tau
                ) -> Result:
                    source, i, tile = item
                    size, enc, dec, mode, parts = measure_tile(codec_name, codec, tau, tile)
                    pixels = tile.shape[0] * tile.shape[1]
                    return Result(name, source, i, codec_name, tau, pixels, size, enc, dec, mode, **parts)

                yield from pool.map(one, work)
