"""A TIFF file with DLPR tiles as an archive: the same interface as `dlpr_wsi.sources.archive.Archive`.

Level 0 is the first page, lower levels are its SubIFDs; channels are a page each. What the conversion recorded stands
as JSON in an OME annotation; a file without it, written by other software, opens too, with what the streams say of
themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DlprError
from dlpr.plugins import CodecOptions
from dlpr_wsi.errors import ArchiveError, MissingDependencyError
from dlpr_wsi.sources.archive import MAX_CHANNELS, Archive, ArchiveLevel, Extent, named_channels

__all__ = [
    "NAMESPACE",
    "TAG_HASHES",
    "TAG_SOURCE",
    "TiffArchive",
    "is_dlpr_tiff",
    "open_tiff_archive",
    "require_tifffile",
]

NAMESPACE = "dlpr-wsi/archive"
"""Namespace of the OME annotation that holds an archive's facts as JSON."""

TAG_HASHES = 65472
"""Private tag: the SHA-256 of every tile's bytes, 32 bytes each, in the order of the tiles."""

TAG_SOURCE = 65474
"""Private tag: offset and size of the byte map of the slide's own files in this file (docs/format/source-map.md)."""

_MAX_TILES = 1 << 26  # of one level


@dataclass(frozen=True)
class _Tiles:
    """Where the tiles of one level lie in the file, row by row; channel after channel."""

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    hashes: NDArray[np.uint8] | None


@dataclass(frozen=True)
class TiffLevel(ArchiveLevel):
    """One level; all its tiles lie in the archive's file."""

    def file(self, row: int, column: int, channel: int = 0) -> Path:
        """Return the TIFF file."""
        return self.path


@dataclass(frozen=True)
class TiffArchive(Archive):
    """An open TIFF archive; see `Archive`. May be used from many threads."""

    tiles: tuple[_Tiles, ...] = field(default=(), repr=False, compare=False)
    source: tuple[int, int] | None = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_tiff_archive, (self.path,)

    def stream(self, level: int, row: int, column: int, channel: int = 0, *, most: int | None = None) -> bytes | None:
        """Return a tile as it is stored: a DLPR stream; None for a tile that the file leaves empty.

        Of the parameters, see `Archive.stream`.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            There is no such tile, or the file ends before it does.
        OSError
            The file cannot be read.
        """
        place = self.levels[level]
        if not place.has(row, column, channel):
            raise ArchiveError(f"{self.path}: there is no chunk at {place.name(row, column, channel)}")
        number = (channel * place.rows + row) * place.columns + column
        offset, size = int(self.tiles[level].offsets[number]), int(self.tiles[level].sizes[number])
        if size == 0:
            return None
        with self.path.open("rb", -1 if most is None else 0) as file:
            if offset + size > file.seek(0, 2):
                raise ArchiveError(f"{self.path}: the file ends inside {place.name(row, column, channel)}")
            file.seek(offset)
            return file.read(size if most is None else min(size, most))

    def hashes(self, level: int) -> NDArray[np.uint8] | None:
        """Return the SHA-256 of every tile's stream, as `Archive.hashes` does."""
        return self.tiles[level].hashes

    def source_map(self) -> Extent | None:
        """Return where the byte map of the slide's own files lies; None without one."""
        return None if self.source is None else Extent(self.path, *self.source)


def require_tifffile() -> ModuleType:
    """Return tifffile with DLPR registered.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        It is not installed.
    dlpr.errors.PluginError
        Its internals are not those that the plug-in knows.
    """
    try:
        import tifffile
    except ImportError as error:
        raise MissingDependencyError("tifffile", "tiff") from error
    from dlpr.plugins.tifffile import register

    register()
    module: ModuleType = tifffile
    return module


def is_dlpr_tiff(path: Path) -> bool:
    """Tell whether a file is a TIFF whose first page has DLPR tiles; needs no tifffile."""
    from dlpr_wsi.sources.codec import _tiff_compression

    return path.is_file() and _tiff_compression(path) == CodecOptions.TIFF_COMPRESSION


def open_tiff_archive(path: Path) -> TiffArchive:
    """Open a TIFF file with DLPR tiles.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The file is missing, damaged, or has no DLPR tiles.
    dlpr_wsi.errors.MissingDependencyError
        tifffile is not installed.
    """
    tifffile = require_tifffile()
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file")
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            pages = _pages(path, file)
            facts = _facts(page.description)
            levels: list[ArchiveLevel] = []
            tiles = []
            for parts in pages:
                channels = None if page.samplesperpixel == 3 else len(parts)
                places = _join(path, [_tiles(path, part) for part in parts], channels)
                tau = facts["level_tau"][len(levels)] if "level_tau" in facts else _stream_tau(path, places)
                levels.append(_level(path, parts[0], levels, tau, channels))
                tiles.append(places)
            mpp = _mpp(page)
            icc = page.tags.valueof(34675)
            source = page.tags.valueof(TAG_SOURCE)
    except ArchiveError:
        raise
    except Exception as error:  # tifffile raises many kinds for damaged files
        raise ArchiveError(
            f"{path}: cannot be read as a TIFF file ({type(error).__name__}: {error}): damaged, or something else"
        ) from error
    return TiffArchive(
        path=path,
        levels=tuple(levels),
        tau=levels[0].tau,
        facts={key: value for key, value in facts.items() if key != "level_tau"},
        mpp_x=facts.get("mpp_x", mpp[0]),
        mpp_y=facts.get("mpp_y", mpp[1]),
        icc_profile=None if icc is None else bytes(icc),
        channels=named_channels(facts, levels[0].channels, path),
        tiles=tuple(tiles),
        source=None if source is None else _extent(path, source),
    )


def _extent(path: Path, value: Any) -> tuple[int, int]:
    """Check the tag that says where the byte map is."""
    if not isinstance(value, tuple) or len(value) != 2 or not all(type(n) is int and 0 <= n < 1 << 62 for n in value):
        raise ArchiveError(f"{path}: its tag {TAG_SOURCE} is damaged: it names no place in the file")
    return value


def _pages(path: Path, file: Any) -> list[list[Any]]:
    """Return the pages of each level: one of an RGB picture, one for each of its channels otherwise."""
    first = file.pages.first
    channels = [first] if first.samplesperpixel == 3 else [page.aspage() for page in file.pages]
    if len(channels) > MAX_CHANNELS:
        raise ArchiveError(f"{path}: {len(channels)} pages; at most {MAX_CHANNELS} channels are read")
    levels = [list(parts) for parts in zip(*([page, *(page.pages or ())] for page in channels), strict=True)]
    shapes = [{(p.imagewidth, p.imagelength, p.tilewidth, p.tilelength) for p in parts} for parts in levels]
    samples = {page.samplesperpixel for parts in levels for page in parts}
    if len(samples) > 1 or any(len(found) > 1 for found in shapes):
        raise ArchiveError(f"{path}: its pages are not channels of one image: they differ in size")
    return levels


def _join(path: Path, parts: list[_Tiles], channels: int | None) -> _Tiles:
    """Put the tiles of a level's channels together."""
    if channels is None:
        return parts[0]
    if sum(len(part.sizes) for part in parts) > _MAX_TILES:
        raise ArchiveError(f"{path}: more than {_MAX_TILES} tiles on one level")
    hashes = [part.hashes for part in parts if part.hashes is not None]
    return _Tiles(
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.sizes for part in parts]),
        np.stack(hashes) if len(hashes) == len(parts) else None,
    )


def _tiles(path: Path, page: Any) -> _Tiles:
    """Return where a page's tiles lie; refuse pages of another kind."""
    if page.compression != CodecOptions.TIFF_COMPRESSION or not page.is_tiled:
        raise ArchiveError(f"{path}: a TIFF file, but not one with DLPR tiles (compression {int(page.compression)})")
    if page.samplesperpixel not in (1, 3) or page.bitspersample != 8 or page.planarconfig != 1 or page.imagedepth != 1:
        raise ArchiveError(f"{path}: its pages are not of 8 bits, three interleaved samples or one channel each")
    count = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
    if not 0 < count <= _MAX_TILES or len(page.dataoffsets) != count or len(page.databytecounts) != count:
        raise ArchiveError(f"{path}: a level of {count} tiles lists {len(page.dataoffsets)}: the file is damaged")
    offsets = np.asarray(page.dataoffsets, np.int64)
    sizes = np.asarray(page.databytecounts, np.int64)
    if (offsets < 0).any() or (sizes < 0).any():
        raise ArchiveError(f"{path}: impossible places of tiles: the file is damaged")
    stored = page.tags.valueof(TAG_HASHES)
    hashes = None
    if stored is not None and len(stored) == 32 * count:
        columns = -(-page.imagewidth // page.tilewidth)
        hashes = np.frombuffer(bytes(stored), np.uint8).reshape(-1, columns, 32)
    return _Tiles(offsets, sizes, hashes)


def _level(path: Path, page: Any, before: list[ArchiveLevel], tau: Any, channels: int | None) -> TiffLevel:
    """Return a page as a level."""
    width, height = int(page.imagewidth), int(page.imagelength)
    if type(tau) is not int or not 0 <= tau <= 255:
        raise ArchiveError(f"{path}: impossible tau {tau!r} in its facts: the file is damaged")
    return TiffLevel(
        path=path,
        index=len(before),
        width=width,
        height=height,
        tile_width=int(page.tilewidth),
        tile_height=int(page.tilelength),
        downsample=(before[0].width / width + before[0].height / height) / 2 if before else 1.0,
        tau=tau,
        zarr_format=0,
        shard_rows=None,
        shard_columns=None,
        channels=channels,
        prior=before[0].prior if before else _prior(path, page),
        tuned=before[0].tuned if before else _tuned(path, page),
    )


def _prior(path: Path, page: Any) -> dlpr.Prior | None:
    """Read the slide's prior from the first page; this process knows it as long as the level is held."""
    stored = page.tags.valueof(CodecOptions.TIFF_PRIOR_TAG)
    if stored is None:
        return None
    try:
        return CodecOptions(prior=bytes(stored)).known_prior
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"{path}: the prior in its tag {CodecOptions.TIFF_PRIOR_TAG} is damaged") from error


def _tuned(path: Path, page: Any) -> tuple[dlpr.Tuned, ...]:
    """Read the slide's weights from the first page; this process knows them as long as the level is held."""
    stored = page.tags.valueof(CodecOptions.TIFF_TUNED_TAG)
    try:
        return () if stored is None else CodecOptions.tuned_of_tiff(bytes(stored))
    except (TypeError, DlprError) as error:
        raise ArchiveError(f"{path}: the tuned weights in its tag {CodecOptions.TIFF_TUNED_TAG} are damaged") from error


def _stream_tau(path: Path, places: _Tiles) -> int:
    """Return the largest tau of a level's streams, from their headers."""
    tau = 0
    with path.open("rb") as file:
        for offset, size in zip(places.offsets.tolist(), places.sizes.tolist(), strict=True):
            if size:
                file.seek(offset)
                try:
                    tau = max(tau, dlpr.inspect(file.read(size)).tau)
                except DlprError:  # named when the tile is read
                    continue
    return tau


def _facts(description: str) -> Mapping[str, Any]:
    """Return the facts of the OME annotation; nothing where there is none."""
    if "<!" in description:  # neither entities nor document types: ours has none, and they can blow up
        return {}
    try:
        root = ElementTree.fromstring(description)
    except ElementTree.ParseError:
        return {}
    for element in root.iter():
        if element.tag.endswith("}CommentAnnotation") and element.get("Namespace") == NAMESPACE:
            facts = json.loads("".join(element.itertext()))
            return facts if isinstance(facts, dict) else {}
    return {}


def _mpp(page: Any) -> tuple[float | None, float | None]:
    """Return micrometres per px from the resolution tags."""
    scale = {2: 25400.0, 3: 10000.0}.get(int(page.tags.valueof(296, 1)))
    result: list[float | None] = []
    for tag in (282, 283):
        value = page.tags.valueof(tag)
        usable = scale is not None and isinstance(value, tuple) and len(value) == 2 and all(value)
        result.append(scale * value[1] / value[0] if usable and scale is not None else None)
    return result[0], result[1]
