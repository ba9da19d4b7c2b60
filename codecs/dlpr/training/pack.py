"""Training tiles in one small file, for a machine that is lent for minutes: streams of this codec, a group each.

::

    images --build_blocks' own tiles--> dlpr.encode --> FILE (an .npz), at most 60 MiB
    FILE --dlpr.decode, hand_over--> the blocks that `domain.build_blocks` gives of the images

The machine that trains needs the file, the package with torch, and a checkpoint to start from; no images.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

import dlpr
from dlpr.errors import UnsupportedInputError
from dlpr.training import domain
from dlpr.training.data import Block

__all__ = ["MOST_BYTES", "pack", "unpack"]

MOST_BYTES = 60 << 20
"""Most bytes of a file."""


def pack(images: Path, path: Path, per_source: int, per_origin: int, seed: int, most: int = MOST_BYTES) -> int:
    """Draw the tiles of all groups and write them losslessly.

    Parameters
    ----------
    images : Path
        Folder with one sub-folder of images for each source.
    path : Path
        The file to write, an .npz; it appears once it is whole.
    per_source, per_origin, seed : int
        As of `domain.build_blocks`: about so many tiles of each source, and of each simulated origin.
    most : int
        Bytes above which nothing is written.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    UnsupportedInputError
        The tiles take more than ``most`` bytes.
    """
    streams: dict[str, np.ndarray] = {}
    total = 0
    for name, tiles in domain.draw_tiles(images, per_source, per_origin, seed):
        for tile in tiles:
            data = dlpr.encode(tile)
            total += len(data)
            if total > most:
                says = f"the tiles take more than {most >> 20} MiB: draw fewer (--per-source, --per-simulation)"
                raise UnsupportedInputError(says, reason="input")
            streams[f"{name}/{len(streams)}"] = np.frombuffer(data, np.uint8)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **streams)  # type: ignore[arg-type]
    part.replace(path)
    return path.stat().st_size


def unpack(path: Path) -> dict[str, list[Block]]:
    """Read the blocks of a file of `pack`, by group; tiles were checked against their checksums.

    Raises
    ------
    UnsupportedInputError
        The file is none of `pack`.
    """
    groups: dict[str, list[Block]] = {}
    try:
        with np.load(path) as file:
            for name in file.files:
                tile = dlpr.decode(file[name].tobytes())
                groups.setdefault(name.rpartition("/")[0], []).extend(domain.hand_over(tile))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        says = f"{path.name} is no file of `dlpr-train pack`: {error}"
        raise UnsupportedInputError(says, reason="input") from None
    return groups
