"""A finished archive: an OME-Zarr group whose levels are uint8 arrays (c, y, x) with the codec DLPR.

A chunk holds all three samples of an RGB picture, (3, h, w), or one of n channels, (1, h, w).

Reads the metadata and the stored chunks itself, without zarr: an archive is a narrow, fixed form of OME-Zarr, and
what reads it decades from now should need little. Two forms are read, sharded or not:

* OME-Zarr 0.5 (Zarr format 3): ``zarr.json``; shards ``LEVEL/c/0/ROW/COLUMN`` of all channels;
* OME-Zarr 0.4 (Zarr format 2): ``.zattrs``, ``.zarray``; chunks ``LEVEL/CHANNEL/ROW/COLUMN``, CHANNEL 0 for RGB.

A shard is its chunks' streams, then (offset, bytes) of each chunk as little-endian uint64, channel by channel and row
by row, then the CRC32C of that index.
"""

from __future__ import annotations

import base64
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.crc import crc32c
from dlpr.plugins import CodecOptions
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.sources import Channel, Chunked

__all__ = [
    "ATTRIBUTES",
    "MAX_CHANNELS",
    "Archive",
    "ArchiveLevel",
    "Extent",
    "directory_bytes",
    "is_zarr",
    "named_channels",
    "open_zarr_archive",
    "parse_shard_index",
]

ATTRIBUTES = "dlpr_wsi"  # the key that holds this package's facts in the group's attributes
MAX_CHANNELS = 4096
MISSING = 2**64 - 1  # offset and size of a chunk that a shard does not hold
_MAX_METADATA = 1 << 26  # bytes of a metadata file
_CACHED_INDEXES = 512


class Extent(NamedTuple):
    """Bytes of a file of the archive."""

    file: Path
    offset: int
    size: int


@dataclass(frozen=True)
class ArchiveLevel(Chunked):
    """One level of an archive; sizes in px.

    Parameters
    ----------
    path : Path
        The folder of its array.
    index : int
        Its place in the pyramid; 0 is the largest.
    width, height : int
        Size.
    tile_width, tile_height : int
        Size of a chunk. Chunks at the right and lower edge are padded to it.
    downsample : float
        Size of level 0 over that of this level.
    tau : int
        The bound on the error of every sample.
    zarr_format : int
        2 or 3.
    shard_rows, shard_columns : int or None
        Rows and columns of places in a shard, which has all their channels; None where every chunk is a file.
    channels : int or None
        None: RGB, three samples in a chunk. Else the number of channels, one in a chunk.
    prior : dlpr.Prior or None
        The slide's, where chunks need one.
    tuned : tuple of dlpr.Tuned
        Weights of the slide that chunks may need.
    """

    path: Path
    index: int
    width: int
    height: int
    tile_width: int
    tile_height: int
    downsample: float
    tau: int
    zarr_format: int
    shard_rows: int | None
    shard_columns: int | None
    channels: int | None = None
    prior: dlpr.Prior | None = None
    tuned: tuple[dlpr.Tuned, ...] = ()

    @property
    def tile(self) -> int:
        """Side of a chunk where chunks are square.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            They are not.
        """
        if self.tile_width != self.tile_height:
            raise ArchiveError(f"{self.path}: chunks of {self.tile_width} x {self.tile_height} px are not square")
        return self.tile_width

    def positions(self) -> Iterator[tuple[int, int]]:
        """Yield (row, column) of every place, row by row; `stack` chunks lie at each."""
        return ((row, column) for row in range(self.rows) for column in range(self.columns))

    def file(self, row: int, column: int, channel: int = 0) -> Path:
        """Return the file that holds a chunk: its own, or its shard."""
        if self.shard_rows is not None and self.shard_columns is not None:
            row, column, channel = row // self.shard_rows, column // self.shard_columns, 0
        prefix = ("c",) if self.zarr_format == 3 else ()
        return self.path.joinpath(*prefix, str(channel), str(row), str(column))

    def name(self, row: int, column: int, channel: int = 0) -> str:
        """Return a chunk's name in messages."""
        place = f"level {self.index} row {row} column {column}"
        return place if self.channels is None else f"{place} channel {channel}"

    def has(self, row: int, column: int, channel: int = 0) -> bool:
        """Tell whether the level has such a chunk."""
        return 0 <= row < self.rows and 0 <= column < self.columns and 0 <= channel < self.stack


@dataclass(frozen=True)
class Archive:
    """An archive's metadata and the way to its stored chunks. May be used from many threads.

    Parameters
    ----------
    path : Path
        The folder.
    levels : tuple of ArchiveLevel
        Largest first.
    tau : int
        The bound on the error of every sample of level 0 that the metadata promises. That of another level can be
        larger, where the level was made by the conversion: `level_tau`.
    facts : mapping
        What the conversion recorded about the source.
    mpp_x, mpp_y : float or None
        Micrometres per px of level 0.
    icc_profile : bytes or None
        Colour profile of the pixels.
    channels : tuple of Channel or None
        None: an RGB picture. Else names and colours of the channels.
    """

    path: Path
    levels: tuple[ArchiveLevel, ...]
    tau: int
    facts: Mapping[str, Any]
    mpp_x: float | None
    mpp_y: float | None
    icc_profile: bytes | None
    channels: tuple[Channel, ...] | None = None
    _indexes: OrderedDict[Path, NDArray[np.uint64]] = field(default_factory=OrderedDict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Micrometres per px of level 0 in x and y, where known."""
        return None if self.mpp_x is None or self.mpp_y is None else (self.mpp_x, self.mpp_y)

    @property
    def level_tau(self) -> tuple[int, ...]:
        """The bound of each level."""
        return tuple(level.tau for level in self.levels)

    @property
    def background(self) -> tuple[int, int, int]:
        """Colour of pixels that were not scanned, RGB; white unless recorded; black where there are channels."""
        if self.channels is not None:
            return (0, 0, 0)
        try:
            red, green, blue = bytes.fromhex(self.facts["background"])
        except (KeyError, TypeError, ValueError):
            return (255, 255, 255)
        return (red, green, blue)

    @property
    def samples(self) -> int:
        """Samples of a px: 3 for RGB, else the number of channels."""
        return self.levels[0].samples

    def __reduce__(self) -> tuple[Any, ...]:
        return open_zarr_archive, (self.path,)

    def stream(self, level: int, row: int, column: int, channel: int = 0, *, most: int | None = None) -> bytes | None:
        """Return a chunk as it is stored: a DLPR stream; None where there is none.

        Parameters
        ----------
        level, row, column, channel : int
            Which chunk.
        most : int, optional
            Read the stream's first bytes only, at most so many: enough for its lossy layer.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            The shard that should hold it is damaged.
        OSError
            The file cannot be read.
        """
        place = self.levels[level]
        if not place.has(row, column, channel):
            raise ArchiveError(f"{self.path}: there is no chunk at {place.name(row, column, channel)}")
        file = place.file(row, column, channel)
        buffering = -1 if most is None else 0  # a network's file system may have buffers of a megabyte
        try:
            if place.shard_rows is None or place.shard_columns is None:
                with file.open("rb", buffering) as chunk:
                    return chunk.read(-1 if most is None else most)
            index = self._index(file, place.stack * place.shard_rows, place.shard_columns)
            at = (channel * place.shard_rows + row % place.shard_rows, column % place.shard_columns)
            offset, size = (int(v) for v in index[at])
            if offset == MISSING and size == MISSING:
                return None
            size = size if most is None else min(size, most)
            with file.open("rb", buffering) as shard:
                shard.seek(offset)
                stream = shard.read(size)
        except FileNotFoundError:
            return None
        if len(stream) != size:
            raise ArchiveError(f"{file}: the shard ends inside {place.name(row, column, channel)}")
        return stream

    def _index(self, file: Path, rows: int, columns: int) -> NDArray[np.uint64]:
        """Return a shard's (rows, columns, 2) index, kept for the next time; of channels one after another."""
        with self._lock:
            found = self._indexes.get(file)
            if found is not None:
                self._indexes.move_to_end(file)
                return found
        size = 16 * rows * columns + 4
        with file.open("rb") as shard:
            total = shard.seek(0, 2)
            shard.seek(max(0, total - size))
            index = parse_shard_index(shard.read(min(size, total)), rows, columns, total, file)
        with self._lock:
            self._indexes[file] = index
            while len(self._indexes) > _CACHED_INDEXES:
                self._indexes.popitem(last=False)
        return index

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, samples): RGB, or one sample for each channel.

        Parameters
        ----------
        x, y, width, height : int
            Px of that level. What lies outside has the colour of the slide's background; in channels it is 0.
        level : int
            Which level.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            A chunk is missing or its shard damaged; the message names it.
        dlpr.errors.DlprError
            A chunk is damaged.
        """
        place = self.levels[level]
        th, tw = place.tile_height, place.tile_width
        out = np.empty((height, width, place.samples), np.uint8)
        out[:] = self.background if self.channels is None else 0
        top, bottom = max(y, 0), min(y + height, place.height)
        left, right = max(x, 0), min(x + width, place.width)
        if top >= bottom or left >= right:
            return out
        for row in range(top // th, -(-bottom // th)):
            columns = range(left // tw, -(-right // tw))
            keys = [(column, channel) for column in columns for channel in range(place.stack)]
            streams = []
            for column, channel in keys:
                stream = self.stream(level, row, column, channel)
                if stream is None:
                    raise ArchiveError(f"{self.path}: the chunk at {place.name(row, column, channel)} is missing")
                streams.append(stream)
            for (column, channel), chunk in zip(keys, dlpr.decode_batch(streams), strict=True):
                if chunk.shape != (place.chunk_samples, th, tw):
                    raise ArchiveError(f"{self.path}: {place.name(row, column, channel)} has the shape {chunk.shape}")
                y0, y1 = max(top, row * th), min(bottom, row * th + th)
                x0, x1 = max(left, column * tw), min(right, column * tw + tw)
                part = chunk[:, y0 - row * th : y1 - row * th, x0 - column * tw : x1 - column * tw]
                place.part(out, channel)[y0 - y : y1 - y, x0 - x : x1 - x] = part.transpose(1, 2, 0)
        return out

    def hashes(self, level: int) -> NDArray[np.uint8] | None:
        """Return the SHA-256 of every chunk's stream, None where none are recorded.

        Returns
        -------
        ndarray of uint8 or None
            (rows, columns, 32), with channels (channels, rows, columns, 32): `Chunked.at` is the index of a chunk's.
        """
        place = self.levels[level]
        shape = (*place.at(place.rows, place.columns, place.stack), 32)
        folder = self.path / "hashes" / str(level)
        try:
            data = folder.joinpath(*["c"] * (place.zarr_format == 3), *["0"] * len(shape)).read_bytes()
        except FileNotFoundError:
            return None
        if len(data) != math.prod(shape):
            raise ArchiveError(f"{folder}: the hashes have {len(data)} bytes, not 32 for each chunk")
        return np.frombuffer(data, np.uint8).reshape(shape)

    def source_map(self) -> Extent | None:
        """Return where the byte map of the slide's own files lies (docs/format/source-map.md); None without one."""
        file = self.path.joinpath("source", *["c"] * (self.levels[0].zarr_format == 3), "0")
        return Extent(file, 0, file.stat().st_size) if file.is_file() else None


def parse_shard_index(data: bytes, rows: int, columns: int, total: int, file: Path) -> NDArray[np.uint64]:
    """Parse the index at the end of a shard of ``total`` bytes: (rows, columns, 2), offset and size.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        It is damaged.
    """
    count = rows * columns
    if len(data) != 16 * count + 4:
        raise ArchiveError(f"{file}: {len(data)} bytes are too short for a shard of {count} chunks")
    if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ArchiveError(f"{file}: the checksum of the shard's index does not match: the file is damaged")
    index = np.frombuffer(data, "<u8", 2 * count).reshape(rows, columns, 2)
    for offset, size in index.reshape(-1, 2).tolist():
        if (offset, size) != (MISSING, MISSING) and offset + size > total - len(data):
            raise ArchiveError(f"{file}: the shard's index points beyond its chunks")
    return index


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr array or group of any format."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def directory_bytes(path: Path) -> int:
    """Return the size of a file, or of all files under a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def open_zarr_archive(path: Path) -> Archive:
    """Open an archive that is a Zarr folder.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The path holds no archive of the kind that `dlpr_wsi.pipeline.convert` writes.
    """
    if not path.is_dir():
        raise ArchiveError(f"{path}: no such file or folder")
    if not is_zarr(path):
        raise ArchiveError(f"{path}: not a Zarr group")
    try:
        return _open_group(path)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError) as error:
        raise ArchiveError(
            f"{path}: its metadata cannot be read ({type(error).__name__}: {error}): "
            "damaged, or not an archive of this package"
        ) from error


def _open_group(path: Path) -> Archive:
    """Open a group; malformed metadata raise as Python does."""
    if (path / "zarr.json").is_file():
        group = _load(path / "zarr.json")
        if group.get("zarr_format") != 3 or group["node_type"] != "group":
            raise ArchiveError(f"{path}: a Zarr array, not an archive of this package (an OME-Zarr group)")
        attributes = group.get("attributes", {})
        ome = attributes.get("ome", {})
    else:
        if not (path / ".zgroup").is_file():
            raise ArchiveError(f"{path}: a Zarr array, not an archive of this package (an OME-Zarr group)")
        attributes = ome = _load(path / ".zattrs") if (path / ".zattrs").is_file() else {}
    facts = attributes.get(ATTRIBUTES)
    if "multiscales" not in ome or not isinstance(facts, dict):
        raise ArchiveError(f"{path}: not an archive of this package: its group lacks multiscales or {ATTRIBUTES!r}")
    levels: list[ArchiveLevel] = []
    for dataset in ome["multiscales"][0]["datasets"]:
        name = dataset["path"]
        if not isinstance(name, str) or not name.isascii() or not name.isdigit():
            raise ArchiveError(f"{path}: unexpected path {name!r} of a level")
        levels.append(_open_level(path / name, len(levels), levels[0] if levels else None))
    if not levels:
        raise ArchiveError(f"{path}: no levels")
    if (levels[0].channels or 0) > MAX_CHANNELS:
        raise ArchiveError(f"{path}: {levels[0].channels} channels; at most {MAX_CHANNELS} are read")
    if len({level.channels for level in levels}) > 1:
        raise ArchiveError(f"{path}: its levels differ in their channels: not an archive of this package")
    icc = facts.get("icc_profile")
    mpp_x, mpp_y = facts.get("mpp_x"), facts.get("mpp_y")
    return Archive(
        path=path,
        levels=tuple(levels),
        tau=levels[0].tau,
        facts={key: value for key, value in facts.items() if key != "icc_profile"},
        mpp_x=None if mpp_x is None else float(mpp_x),
        mpp_y=None if mpp_y is None else float(mpp_y),
        icc_profile=None if icc is None else base64.b64decode(icc, validate=True),
        channels=named_channels(facts, levels[0].channels, path),
    )


def named_channels(facts: Mapping[str, Any], count: int | None, path: Path) -> tuple[Channel, ...] | None:
    """Return the channels of an archive with the names and colours that its facts record; None for RGB.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The facts are damaged, or name another number of channels.
    """
    if count is None:
        return None
    recorded = facts.get("channels")
    if recorded is None:  # written by other software
        return tuple(Channel(f"channel {index}", (255, 255, 255)) for index in range(count))
    try:
        found = tuple(Channel(str(one["name"]), _colour(one["colour"])) for one in recorded)
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"{path}: the channels that its facts record are damaged") from error
    if len(found) != count:
        raise ArchiveError(f"{path}: its facts record {len(found)} channels, its levels have {count}")
    return found


def _colour(text: str) -> tuple[int, int, int]:
    """Parse RRGGBB."""
    red, green, blue = bytes.fromhex(text)
    return (red, green, blue)


def _open_level(path: Path, index: int, first: ArchiveLevel | None) -> ArchiveLevel:
    """Read an array's metadata."""
    if (path / "zarr.json").is_file():
        zarr_format, meta = 3, _load(path / "zarr.json")
        chunks = outer = meta["chunk_grid"]["configuration"]["chunk_shape"]
        (codec,) = meta["codecs"]
        sharded = codec["name"] == "sharding_indexed"
        if sharded:
            settings = codec["configuration"]
            if settings.get("index_location", "end") != "end":
                raise ArchiveError(f"{path}: a shard's index must be at its end")
            chunks = settings["chunk_shape"]
            (codec,) = settings["codecs"]
        name, tau = codec["name"], codec.get("configuration", {}).get("tau", 0)
        carried = codec.get("configuration", {})
        plain = meta["data_type"] == "uint8" and meta["chunk_key_encoding"] == {
            "name": "default",
            "configuration": {"separator": "/"},
        }
    else:
        zarr_format, sharded, meta = 2, False, _load(path / ".zarray")
        chunks = outer = meta["chunks"]
        name, tau = meta["compressor"]["id"], meta["compressor"].get("tau", 0)
        carried = meta["compressor"]
        plain = meta["dtype"] == "|u1" and meta.get("dimension_separator") == "/" and not meta.get("filters")
    shape = meta["shape"]
    numbers = [*shape, *chunks, *outer, tau]
    if (
        not plain
        or name != "dlpr"
        or not all(type(n) is int and n >= 0 for n in numbers)
        or not len(shape) == len(chunks) == len(outer) == 3
        or not (shape[0] == chunks[0] == 3 or chunks[0] == 1)
        or outer[0] != (shape[0] if sharded else chunks[0])
        or not all(n > 0 for n in numbers[:-1])
        or any(big % small for big, small in zip(outer, chunks, strict=True))
    ):
        raise ArchiveError(
            f"{path}: not an archive of this package: expected a uint8 array (3, H, W) in chunks of (3, h, w), or "
            f"(n, H, W) in chunks of (1, h, w), with the codec dlpr alone, found shape {shape}, "
            f"chunks {chunks}, codec {name}"
        )
    return ArchiveLevel(
        path=path,
        index=index,
        width=shape[2],
        height=shape[1],
        tile_width=chunks[2],
        tile_height=chunks[1],
        downsample=1.0 if first is None else (first.width / shape[2] + first.height / shape[1]) / 2,
        tau=tau,
        zarr_format=zarr_format,
        shard_rows=outer[1] // chunks[1] if sharded else None,
        shard_columns=outer[2] // chunks[2] if sharded else None,
        channels=None if chunks[0] == 3 else shape[0],
        prior=_carried(path, carried, "prior").known_prior,
        tuned=() if (tuned := _carried(path, carried, "tuned").known_tuned) is None else (tuned,),
    )


def _carried(path: Path, configuration: Mapping[str, Any], name: str) -> CodecOptions:
    """Read what was learnt from the slide from a codec's configuration.

    This process knows it as long as the level is held.
    """
    packed = configuration.get(name)
    if packed is None:
        return CodecOptions()
    try:
        return CodecOptions.from_config({name: packed})
    except (TypeError, ValueError) as error:
        what = {"prior": "prior is", "tuned": "tuned weights are"}[name]
        raise ArchiveError(f"{path}: its {what} damaged; restore the metadata") from error


def _load(file: Path) -> Any:
    """Read a metadata file."""
    with file.open("rb") as handle:
        data = handle.read(_MAX_METADATA + 1)
    if len(data) > _MAX_METADATA:
        raise ArchiveError(f"{file}: metadata of more than {_MAX_METADATA} bytes")
    loaded = json.loads(data)
    if not isinstance(loaded, dict):
        raise ArchiveError(f"{file}: no JSON object: the metadata are damaged")
    return loaded
