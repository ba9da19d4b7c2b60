"""Tiles of the networks' domain: those whose JPEG or JPEG 2000 is not found, and others changed until it is not.

What the networks are for is what no other mode takes. A development set of decoded JPEGs says little about that; its
tiles do, once they are shrunk as a pyramid's next level is, or compressed anew by JPEG 2000.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

import dlpr

__all__ = ["networks_domain", "reaches_networks", "recompressed", "shrunk"]

U8 = npt.NDArray[np.uint8]
PSNR = 38
"""Of the JPEG 2000 versions, dB."""


def reaches_networks(tile: U8) -> bool:
    """Whether an encoder that may look for JPEGs finds none in a tile, uint8 [h,w,3], or in the planes behind it."""
    stream = dlpr.encode(tile, threads=1)
    return dlpr.inspect(stream).mode in ("coded", "colour") and stream == dlpr.encode(tile, threads=1, jpeg="never")


def shrunk(tile: U8) -> U8:
    """A tile at half size, by means of 2 x 2 pixels."""
    h, w = (n // 2 for n in tile.shape[:2])
    return np.asarray(Image.fromarray(tile[: 2 * h, : 2 * w]).resize((w, h), Image.Resampling.BOX))


def recompressed(tile: U8) -> U8:
    """A tile at half size as JPEG 2000 of red, green and blue gives it back."""
    import imagecodecs as ic

    small = shrunk(tile)
    return np.asarray(ic.jpeg2k_decode(ic.jpeg2k_encode(small, level=PSNR, reversible=False, mct=True)), np.uint8)


def networks_domain(tiles: dict[str, list[U8]]) -> dict[str, list[U8]]:
    """The tiles of every source that reach the networks; the others shrunk and recompressed, as further sources."""
    out: dict[str, list[U8]] = {}
    for source, members in tiles.items():
        for tile in members:
            if reaches_networks(tile):
                out.setdefault(source, []).append(tile)
            else:
                out.setdefault(f"{source}, shrunk", []).append(shrunk(tile))
                out.setdefault(f"{source}, JPEG 2000", []).append(recompressed(tile))
    return out
