"""OME-Zarr 0.5 and 0.4 on disk.

Metadata and shards are written here, byte by byte, and not by a library: a resumed conversion must give the very bytes
of an uninterrupted one whatever versions are installed, and chunks come encoded. That the result is what ome-zarr-py
writes and what ome-zarr-models accepts is tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.crc import crc32c
from dlpr.plugins import CodecOptions
from dlpr_wsi.pipeline.plan import LevelPlan, Plan, Task
from dlpr_wsi.sinks.place import write_file
from dlpr_wsi.sources import Channel
from dlpr_wsi.sources.archive import ATTRIBUTES, MISSING

__all__ = [
    "OmeVersion",
    "bytes_beside",
    "chunk_files",
    "fill_value",
    "ome_attributes",
    "source_map_file",
    "write_hashes",
    "write_metadata",
    "write_shard",
    "write_source_map",
]


_RGB = (Channel("red", (255, 0, 0)), Channel("green", (0, 255, 0)), Channel("blue", (0, 0, 255)))


def fill_value(channels: int | None) -> int:
    """Return the sample of what was not scanned: 255, white, of an RGB picture; 0, dark, of channels.

    It fills up the chunks at the edges. Every chunk is written, so as Zarr's fill_value it shows only in damage.
    """
    return 255 if channels is None else 0


class OmeVersion(StrEnum):
    """Version of the OME-Zarr specification: 0.5 is Zarr format 3 with shards, 0.4 is format 2, a file per chunk."""

    V05 = "0.5"
    V04 = "0.4"


def chunk_files(data: Path, plan: LevelPlan, version: OmeVersion, task: Task) -> list[Path]:
    """Return the files of a task: its shard, or one for each chunk."""
    level = data / str(task.level)
    if version is OmeVersion.V05:
        return [level / "c" / "0" / str(task.row) / str(task.column)]
    return [level / str(channel) / str(row) / str(column) for row, column, channel in plan.keys(task)]


def write_shard(data: Path, plan: LevelPlan, version: OmeVersion, task: Task, streams: Sequence[bytes]) -> None:
    """Write the chunks of a task.

    Parameters
    ----------
    data : Path
        The archive's folder.
    plan : LevelPlan
        The level.
    version : OmeVersion
        Layout.
    task : Task
        Which shard.
    streams : sequence of bytes
        One for each chunk of ``plan.keys(task)``.

    Raises
    ------
    OSError
        The disk is full or cannot be written.
    """
    files = chunk_files(data, plan, version, task)
    if version is OmeVersion.V04:
        for file, stream in zip(files, streams, strict=True):
            write_file(file, [stream])
        return
    index = np.full((plan.stack, plan.shard_rows, plan.shard_columns, 2), MISSING, "<u8")
    offset = 0
    for (row, column, channel), stream in zip(plan.keys(task), streams, strict=True):
        index[channel, row % plan.shard_rows, column % plan.shard_columns] = (offset, len(stream))
        offset += len(stream)
    table = index.tobytes()
    write_file(files[0], [*streams, table, crc32c(table).to_bytes(4, "little")])


def write_hashes(data: Path, level: int, hashes: NDArray[np.uint8], version: OmeVersion) -> None:
    """Write the SHA-256 of every chunk of a level as a Zarr array ``hashes/LEVEL``.

    It has the shape (rows, columns, 32), with channels (channels, rows, columns, 32).
    """
    folder = data / "hashes"
    if not _has_metadata(folder, version):
        _write_group(folder, {}, version)
    shape = list(hashes.shape)
    names, only = ["channel", "row", "column", "sha256"][-len(shape) :], ["0"] * len(shape)
    if version is OmeVersion.V05:
        meta = _array_v3(shape, shape, [{"name": "bytes"}], 0, names)
        _write_json(folder / str(level) / "zarr.json", meta)
        write_file((folder / str(level) / "c").joinpath(*only), [hashes.tobytes()])
    else:
        _write_json(folder / str(level) / ".zarray", _array_v2(shape, shape, None, 0))
        write_file((folder / str(level)).joinpath(*only), [hashes.tobytes()])


def source_map_file(data: Path, version: OmeVersion) -> Path:
    """Return where the byte map of the slide's own files lies: the only chunk of the array ``source``."""
    return data.joinpath("source", *["c"] * (version is OmeVersion.V05), "0")


def write_source_map(data: Path, size: int, version: OmeVersion) -> None:
    """Write the metadata of the array ``source``: bytes in one chunk, which readers of OME-Zarr pass over."""
    if version is OmeVersion.V05:
        _write_json(data / "source" / "zarr.json", _array_v3([size], [size], [{"name": "bytes"}], 0, ["byte"]))
    else:
        _write_json(data / "source" / ".zarray", _array_v2([size], [size], None, 0))


def write_metadata(
    data: Path,
    plan: Plan,
    version: OmeVersion,
    *,
    mpp: tuple[float, float] | None,
    facts: Mapping[str, Any] | None,
    name: str = "image",
    channels: Sequence[Channel] | None = None,
    prior: dlpr.Prior | None = None,
    tuned: Sequence[dlpr.Tuned | None] = (),
) -> None:
    """Write the metadata of an OME-Zarr image.

    Parameters
    ----------
    data : Path
        The group's folder.
    plan : Plan
        Its levels, each with its tau.
    version : OmeVersion
        Of OME-Zarr.
    mpp : tuple of float or None
        Micrometres per px of level 0 in x and y.
    facts : mapping or None
        This package's facts.
    name : str
        Name of the image. Never the slide's file name: that may identify the patient.
    channels : sequence of Channel or None
        Names and colours of the channels; None for RGB.
    prior : dlpr.Prior or None
        The slide's (`dlpr.Prior`), which its chunks were coded with.
    tuned : sequence of dlpr.Tuned or None
        Weights of each level (`dlpr.Tuned`) that its chunks were coded with; nothing where no level has any.
    """
    learnt: dict[str, Any] = {"prior": prior, "tuned": tuned}
    for path, content in _metadata(plan, version, mpp=mpp, facts=facts, name=name, channels=channels, **learnt):
        _write_json(data / path, content)


def bytes_beside(
    plan: Plan,
    version: OmeVersion,
    *,
    facts: Mapping[str, Any],
    channels: Sequence[Channel] | None,
    prior: dlpr.Prior | None,
    tuned: Sequence[dlpr.Tuned | None] = (),
) -> int:
    """Return the bytes of an archive that are no chunks: metadata, hashes, indexes of shards; to a few hundred.

    Parameters
    ----------
    plan, version, facts, channels, prior, tuned
        As of `write_metadata`.
    """
    learnt: dict[str, Any] = {"prior": prior, "tuned": tuned}
    written = [
        content for _, content in _metadata(plan, version, mpp=(0.25, 0.25), facts=facts, channels=channels, **learnt)
    ]
    size = sum(len(_json(content)) for content in written)
    for level in plan.levels:
        size += 32 * level.tiles + len(
            _json(
                _array_v3(
                    [level.rows, level.columns, 32], [1, 1, 32], [{"name": "bytes"}], 0, ["row", "column", "sha256"]
                )
            )
        )
        if version is OmeVersion.V05:
            rows, columns = level.shards
            size += rows * columns * (16 * level.stack * level.shard_rows * level.shard_columns + 4)
    return size


def _metadata(
    plan: Plan,
    version: OmeVersion,
    *,
    mpp: tuple[float, float] | None,
    facts: Mapping[str, Any] | None,
    name: str = "image",
    channels: Sequence[Channel] | None = None,
    prior: dlpr.Prior | None = None,
    tuned: Sequence[dlpr.Tuned | None] = (),
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the metadata files of an image, the group's last: their names and what they hold."""
    for index, level in enumerate(plan.levels):
        weights = tuned[index] if tuned else None
        settings = CodecOptions(tau=level.tau, prior=prior, tuned=weights).to_config()
        shape, fill = [level.samples, level.height, level.width], fill_value(level.channels)
        chunk = [level.chunk_samples, level.tile_height, level.tile_width]
        if version is OmeVersion.V04:
            codec = {"id": "dlpr", **settings}
            yield f"{index}/.zarray", _array_v2(shape, chunk, codec, fill)
            continue
        shard = [level.samples, level.tile_height * level.shard_rows, level.tile_width * level.shard_columns]
        sharding = {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": chunk,
                "codecs": [{"name": "dlpr", "configuration": settings}],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                "index_location": "end",
            },
        }
        yield f"{index}/zarr.json", _array_v3(shape, shard, [sharding], fill, ["c", "y", "x"])
    own = {} if facts is None else {ATTRIBUTES: dict(facts)}
    ome = ome_attributes(plan.levels, mpp, version, name=name, channels=channels)
    yield from _group({**ome, **own}, version)


class Sized(Protocol):
    """A level's size in px."""

    @property
    def width(self) -> int:
        """Columns of px."""

    @property
    def height(self) -> int:
        """Rows of px."""


def ome_attributes(
    levels: Sequence[Sized],
    mpp: tuple[float, float] | None,
    version: OmeVersion,
    *,
    name: str = "image",
    channels: Sequence[Channel] | None = None,
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr image group whose arrays are named 0, 1, 2, ..., axes c, y, x."""
    ome = {"multiscales": [_multiscale(levels, mpp, name, version)], "omero": _omero(name, version, channels)}
    return {"ome": {"version": version.value, **ome}} if version is OmeVersion.V05 else ome


def _multiscale(
    levels: Sequence[Sized], mpp: tuple[float, float] | None, name: str, version: OmeVersion
) -> dict[str, Any]:
    """Return the description of the pyramid."""
    space: dict[str, str] = {"type": "space"} if mpp is None else {"type": "space", "unit": "micrometer"}
    scale_x, scale_y = (1.0, 1.0) if mpp is None else mpp
    first = levels[0]
    datasets = [
        {
            "path": str(index),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [1.0, scale_y * first.height / level.height, scale_x * first.width / level.width],
                }
            ],
        }
        for index, level in enumerate(levels)
    ]
    axes = [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}]
    described = {"name": name, "axes": axes, "datasets": datasets}
    return described if version is OmeVersion.V05 else {"version": version.value, **described}


def _omero(name: str, version: OmeVersion, channels: Sequence[Channel] | None) -> dict[str, Any]:
    """Return how to show the channels."""
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    described = [
        {
            "label": channel.name,
            "color": channel.hexadecimal,
            "active": True,
            "coefficient": 1,
            "family": "linear",
            "window": window,
        }
        for channel in channels or _RGB
    ]
    shown = {"name": name, "channels": described, "rdefs": {"model": "color"}}
    return shown if version is OmeVersion.V05 else {"version": version.value, **shown}


def _array_v3(
    shape: list[int], chunk: list[int], codecs: list[dict[str, Any]], fill: int, names: list[str]
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": names,
    }


def _array_v2(shape: list[int], chunk: list[int], compressor: dict[str, Any] | None, fill: int) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunk,
        "dtype": "|u1",
        "compressor": compressor,
        "fill_value": fill,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }


def _has_metadata(folder: Path, version: OmeVersion) -> bool:
    return (folder / ("zarr.json" if version is OmeVersion.V05 else ".zgroup")).is_file()


def _write_group(folder: Path, attributes: Mapping[str, Any], version: OmeVersion) -> None:
    for name, content in _group(attributes, version):
        _write_json(folder / name, content)


def _group(attributes: Mapping[str, Any], version: OmeVersion) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the metadata files of a group."""
    if version is OmeVersion.V05:
        yield "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
        return
    yield ".zattrs", dict(attributes)
    yield ".zgroup", {"zarr_format": 2}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_file(path, [_json(content)])


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
