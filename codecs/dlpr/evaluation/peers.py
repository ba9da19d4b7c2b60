"""Codecs to compare with, all from imagecodecs: lossless, and with a bound on the error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
Encode = Callable[[U8], bytes | bytearray]


class Peer(NamedTuple):
    """A codec: RGB uint8 [h,w,3] to bytes and back, one thread."""

    encode: Encode
    decode: Callable[[Any], Any]


def lossless_peers() -> dict[str, Peer]:
    """Lossless codecs by name."""
    import imagecodecs as ic

    def jpegxl(effort: int) -> Encode:
        return lambda a: ic.jpegxl_encode(a, lossless=True, effort=effort, numthreads=1)

    peers = {f"JPEG XL e{e}": Peer(jpegxl(e), ic.jpegxl_decode) for e in (7, 9)}
    peers["JPEG-LS"] = Peer(lambda a: ic.jpegls_encode(a, level=0), ic.jpegls_decode)
    peers["JPEG 2000"] = Peer(lambda a: ic.jpeg2k_encode(a, level=0, reversible=True, mct=True), ic.jpeg2k_decode)
    peers["WebP"] = Peer(lambda a: ic.webp_encode(a, lossless=True, level=100), ic.webp_decode)
    if ic.HTJ2K.available:
        peers["HTJ2K"] = Peer(lambda a: ic.htj2k_encode(a, level=0, reversible=True), ic.htj2k_decode)
    return peers


def jpegxl_own_threads(threads: int) -> Peer:
    """JPEG XL e7 as it is usually called: one tile after another, the library's own threads inside."""
    import imagecodecs as ic

    return Peer(
        lambda a: ic.jpegxl_encode(a, lossless=True, effort=7, numthreads=threads),
        lambda data: ic.jpegxl_decode(data, numthreads=threads),
    )


def near_lossless_peers(tau: int) -> dict[str, Peer]:
    """Codecs with |error| <= tau: JPEG-LS NEAR and JPEG XL after quantising to the 2 tau + 1 grid."""
    import imagecodecs as ic

    step = 2 * tau + 1

    def encode(a: U8) -> bytes:
        return bytes(ic.jpegxl_encode(((a.astype(np.int32) + tau) // step).astype(np.uint8), lossless=True, effort=7))

    def decode(data: bytes) -> U8:
        levels = np.asarray(ic.jpegxl_decode(data)).astype(np.int32)
        return np.minimum(levels * step, 255).astype(np.uint8)

    return {
        "JPEG-LS NEAR": Peer(lambda a: ic.jpegls_encode(a, level=tau), ic.jpegls_decode),
        "quantise, JPEG XL e7": Peer(encode, decode),
    }
