"""Associated images that were asked for: label, macro, thumbnail, each an OME-Zarr image of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr_wsi.pipeline.encode import padded
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, Task
from dlpr_wsi.sinks.omezarr import OmeVersion, chunk_files, write_metadata, write_shard

__all__ = ["write_associated"]

_TILE = 256


def write_associated(data: Path, name: str, pixels: NDArray[np.uint8], version: OmeVersion) -> None:
    """Write an image losslessly to ``associated/NAME``.

    Parameters
    ----------
    data : Path
        The archive's folder.
    name : str
        Of the image.
    pixels : ndarray of uint8, (height, width, 3)
        RGB.
    version : OmeVersion
        Layout.
    """
    height, width = pixels.shape[:2]
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    level = LevelPlan(width, height, _TILE, _TILE, rows, columns, follows_source=False)
    folder, task = data / "associated" / name, Task(0, 0, 0)
    if not all(file.is_file() for file in chunk_files(folder, level, version, task)):
        images = []
        for row, column in level.chunks(task):
            x, y, w, h = level.box(row, column)
            images.append(padded(pixels[y : y + h, x : x + w], _TILE, _TILE, None).transpose(2, 0, 1))
        write_shard(folder, level, version, task, dlpr.encode_batch(images))
    write_metadata(folder, Plan((level,)), version, mpp=None, facts=None, name=name)
