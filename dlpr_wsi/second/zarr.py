"""Zarr arrays: metadata parsed here, chunks decompressed by numcodecs; formats 2 and 3, shards too."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.second import NoSecond, Reading, Unjudged
from dlpr_wsi.second.tiff import SegmentCache, assemble
from dlpr_wsi.sources import Selection, SlideFacts

__all__ = ["ZarrReader"]

_MAX_METADATA = 1 << 24
_MAX_CHUNK = 1 << 28
_MISSING = (1 << 64) - 1
_NAMES = {
    "time": "t", "channel": "c", "band": "c", "plane": "z", "row": "y", "column": "x",
    **{axis: axis for axis in "tczyx"},
}  # fmt: skip


class ZarrReader:
    """Reads the arrays of an OME-Zarr image, or one array.

    Raises
    ------
    NoSecond
        Its metadata or codecs are of a kind that is not known here.
    """

    def __init__(self, path: Path, facts: SlideFacts, selection: Selection) -> None:
        import numcodecs

        self.name = f"dlpr-wsi's own Zarr parser with numcodecs {numcodecs.__version__}"
        self._facts = facts
        self._cache = SegmentCache()
        axes, places = _image(path, selection)
        self._arrays = [_Array(place) for place in places[: len(facts.levels)]]
        if len(self._arrays) != len(facts.levels):
            raise NoSecond("another number of levels")
        shape = self._arrays[0].shape
        self._axes = axes or _guess(shape)
        chosen = {"z": selection.plane or 0, "t": selection.time or 0}
        self._chosen = [chosen.get(axis) for axis in self._axes]
        if len(self._axes) != len(shape) or not {"y", "x"} <= set(self._axes):
            raise NoSecond("axes of another kind")
        if any(axis not in "tczyx" for axis in self._axes):
            raise NoSecond("axes other than t, c, z, y, x")

    def read(self, x: int, y: int, width: int, height: int, level: int) -> Reading | Unjudged:
        """Return a region of a level."""
        array = self._arrays[level]
        down, across = (array.chunks[self._axes.index(axis)] for axis in "yx")
        return assemble(
            (x, y, width, height),
            (across, down),
            self._facts.samples,
            lambda row, column: self._cache.get((level, row, column), lambda: self._part(array, row, column)),
        )

    def _part(self, array: _Array, row: int, column: int) -> Reading | Unjudged:
        """Return the chunks at a place, all channels."""
        channels = self._axes.index("c") if "c" in self._axes else None
        count = 1 if channels is None else -(-array.shape[channels] // array.chunks[channels])
        parts = []
        for channel in range(count):
            fixed = {"y": row, "x": column, "c": channel}
            index, inside = [], []
            for axis, chosen, size in zip(self._axes, self._chosen, array.chunks, strict=True):
                index.append(fixed[axis] if chosen is None else chosen // size)
                inside.append(slice(None) if chosen is None else chosen % size)
            part = array.chunk(tuple(index))[tuple(inside)]
            left = [axis for axis in self._axes if axis in "cyx"]
            parts.append(part.transpose([left.index(axis) for axis in "yxc" if axis in left]))
        pixels = parts[0][..., None] if channels is None else np.concatenate(parts, -1)[..., : array.shape[channels]]
        if self._facts.channels is None and pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, 3, -1)
        if pixels.shape[-1] != self._facts.samples:
            return Unjudged("another number of samples than the archive holds")
        return Reading(np.ascontiguousarray(pixels))

    def close(self) -> None:
        """Nothing stays open."""


def _load(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _MAX_METADATA:
        raise NoSecond("metadata of an unlikely size")
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise NoSecond("metadata that are no object")
    return found


def _attributes(path: Path) -> dict[str, Any] | None:
    """Return the attributes of a group, OME's own ones at the top; None for an array."""
    if (path / "zarr.json").is_file():
        node = _load(path / "zarr.json")
        if node.get("node_type") == "array":
            return None
        attributes = node.get("attributes", {})
        return dict(attributes) | dict(attributes.get("ome", {}))
    if (path / ".zarray").is_file():
        return None
    return _load(path / ".zattrs") if (path / ".zattrs").is_file() else {}


def _image(path: Path, selection: Selection) -> tuple[str, list[Path]]:
    """Return the axes (empty: not said) and the folders of the levels."""
    attributes = _attributes(path)
    if attributes is None:
        return _named_axes(path), [path]
    if "dlpr_wsi" in attributes or "dlpr-wsi" in attributes:
        raise NoSecond("DLPR chunks are decoded by this package alone")
    if "multiscales" not in attributes:
        if "bioformats2raw.layout" not in attributes and "series" not in attributes:
            raise NoSecond("a group of an unknown layout")
        path = path / str(selection.image or 0)
        attributes = _attributes(path) or {}
    image = attributes["multiscales"][0]
    axes = "".join(str(axis["name"] if isinstance(axis, dict) else axis) for axis in image.get("axes", ()))
    places = []
    for dataset in image["datasets"]:
        place = (path / dataset["path"]).resolve()
        if not place.is_relative_to(path.resolve()):
            raise NoSecond("levels outside of the folder")
        places.append(place)
    return axes, places


def _named_axes(path: Path) -> str:
    """Return the axes that an array names: dimension_names of format 3, xarray's attribute; empty where none are."""
    if (path / "zarr.json").is_file():
        node = _load(path / "zarr.json")
        names = node.get("dimension_names") or node.get("attributes", {}).get("_ARRAY_DIMENSIONS")
    else:
        names = _load(path / ".zattrs").get("_ARRAY_DIMENSIONS") if (path / ".zattrs").is_file() else None
    if not names:
        return ""
    axes = [_NAMES.get(str(name).lower()) for name in names]
    if None in axes:
        raise NoSecond("an array that names its axes in other words")
    return "".join(axis for axis in axes if axis)


def _guess(shape: tuple[int, ...]) -> str:
    """Return the axes of an array that does not name them: three samples first or last, or none."""
    if len(shape) == 2:
        return "yx"
    axes = "yxc" if shape[-1] == 3 else "cyx"
    return "tz"[-(len(shape) - 3) :] * (len(shape) > 3) + axes


class _Array:
    """One array's metadata, and its chunks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        if (path / "zarr.json").is_file():
            self._format_3(_load(path / "zarr.json"))
        else:
            self._format_2(_load(path / ".zarray"))
        if math.prod(self.chunks) > _MAX_CHUNK or min(self.chunks) < 1:
            raise NoSecond("chunks of an unlikely size")

    def _format_2(self, meta: dict[str, Any]) -> None:
        from numcodecs.registry import get_codec

        if meta["dtype"] not in ("|u1", "<u1", ">u1", "u1"):
            raise NoSecond("samples of other than 8 bits")
        self.shape, self.chunks = tuple(meta["shape"]), tuple(meta["chunks"])
        self._order, self._fill = meta.get("order", "C"), int(meta.get("fill_value") or 0)
        self._separator = str(meta.get("dimension_separator", "."))
        self._prefix: tuple[str, ...] = ()
        self._shards: tuple[int, ...] | None = None
        if (meta.get("compressor") or {}).get("id") == "dlpr" or meta.get("filters"):
            raise NoSecond("filters, or DLPR chunks: they are decoded by one library alone")
        self._codecs = [] if meta["compressor"] is None else [get_codec(meta["compressor"])]

    def _format_3(self, meta: dict[str, Any]) -> None:
        if meta["data_type"] != "uint8":
            raise NoSecond("samples of other than 8 bits")
        self.shape = tuple(meta["shape"])
        self.chunks = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
        self._order, self._fill = "C", int(meta.get("fill_value") or 0)
        key = meta["chunk_key_encoding"]
        self._prefix = ("c",) if key["name"] == "default" else ()
        self._separator = str(key.get("configuration", {}).get("separator", "/" if self._prefix else "."))
        codecs = meta["codecs"]
        self._shards = None
        if codecs[0]["name"] == "sharding_indexed":
            settings = codecs[0]["configuration"]
            inner = tuple(settings["chunk_shape"])
            names = [codec["name"] for codec in settings.get("index_codecs", ())]
            if len(codecs) != 1 or settings.get("index_location", "end") != "end" or names != ["bytes", "crc32c"]:
                raise NoSecond("shards of an unknown kind")
            self._shards = tuple(outer // small for outer, small in zip(self.chunks, inner, strict=True))
            self.chunks, codecs = inner, settings["codecs"]
        if codecs[0]["name"] != "bytes":
            raise NoSecond("codecs that are decoded by one library alone")
        self._codecs = [_codec(codec) for codec in codecs[1:]]

    def chunk(self, index: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return a chunk in full, the padding at the edges too."""
        data = self._stored(index)
        if data is None:
            return np.full(self.chunks, self._fill, np.uint8)
        for codec in reversed(self._codecs):
            data = codec.decode(data)
        return np.frombuffer(data, np.uint8).reshape(self.chunks, order=self._order)

    def _stored(self, index: tuple[int, ...]) -> Any:
        """Return a chunk's bytes; None where it is not stored."""
        if self._shards is None:
            file = self._file(index)
            return file.read_bytes() if file.is_file() else None
        outer = tuple(place // count for place, count in zip(index, self._shards, strict=True))
        file = self._file(outer)
        if not file.is_file():
            return None
        place = np.ravel_multi_index([i % n for i, n in zip(index, self._shards, strict=True)], self._shards)
        size = 16 * math.prod(self._shards) + 4
        with file.open("rb") as shard:
            end = shard.seek(0, 2)
            shard.seek(end - size + 16 * int(place))
            offset, length = np.frombuffer(shard.read(16), "<u8").tolist()
            if (offset, length) == (_MISSING, _MISSING):
                return None
            shard.seek(offset)
            return shard.read(min(length, end))

    def _file(self, index: tuple[int, ...]) -> Path:
        return self._path / self._separator.join([*self._prefix, *map(str, index)])


def _codec(codec: dict[str, Any]) -> Any:
    """Return the numcodecs codec of a format 3 codec."""
    import numcodecs

    kinds = {"gzip": numcodecs.GZip, "zstd": numcodecs.Zstd, "blosc": numcodecs.Blosc}
    if codec["name"] not in kinds:
        raise NoSecond("codecs that are decoded by one library alone")
    return kinds[codec["name"]]()
