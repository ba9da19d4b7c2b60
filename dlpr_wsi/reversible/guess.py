"""How large a slide's byte map will be, from the chunks of a sample: what an estimate of a reversible archive adds.

::

    parts inside sampled chunks --the makers, as in build.py--> bytes of hints, or of parts that are kept whole
    bytes of the files that are no part --some blocks, compressed--> their share that stays

Parts that the sample does not cover whole (intervals that reach over many chunks) are taken to be made where the
sampled chunks of their level hold a JPEG, without a hint.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr_wsi.reversible.build import Listed, Made, OpenFiles, SlideFiles, list_parts, try_part
from dlpr_wsi.reversible.kept import pack_block
from dlpr_wsi.reversible.layout import BLOCK, Template
from dlpr_wsi.reversible.makers import Chunks, chunk_cache
from dlpr_wsi.sources.archive import ArchiveLevel

__all__ = ["MapGuess", "SampledLevel", "guess_source_map"]

_TRIED = 64  # parts of a level that are made
_BLOCKS = 32  # blocks of other bytes that are compressed
_CHUNKS = 64 << 20  # bytes of decoded chunks that several parts are made of
_FIXED = 400  # names, hashes, counts, trailer
_PER_PART = 7.0  # of the index: checksum, size, step to the next
_WIDE, _FLOOR = 2, 0.03  # standard errors in a margin, and its least share


class SampledLevel(NamedTuple):
    """A level of the archive to be, and what is known of its chunks.

    Parameters
    ----------
    level : ArchiveLevel
        Its sizes.
    streams : mapping of (int, int) to bytes
        Some chunks by row and column.
    """

    level: ArchiveLevel
    streams: Mapping[tuple[int, int], bytes]


@dataclass(frozen=True)
class MapGuess:
    """What the map will probably take.

    Parameters
    ----------
    bytes : int
        Expected size.
    margin : int
        How far it may be off.
    """

    bytes: int
    margin: int


class _Sample:
    """What the makers ask of an archive, of some chunks."""

    path = Path("sample")

    def __init__(self, levels: Sequence[SampledLevel]) -> None:
        self.levels = [one.level for one in levels]
        self._streams = [one.streams for one in levels]

    def stream(self, level: int, row: int, column: int, channel: int = 0) -> bytes | None:
        """Return a chunk of the sample; None for any other."""
        return self._streams[level].get((row, column)) if channel == 0 else None


def guess_source_map(slide: SlideFiles, levels: Sequence[SampledLevel]) -> MapGuess:
    """Estimate the size of a slide's byte map.

    Parameters
    ----------
    slide : SlideFiles
        The slide.
    levels : sequence of SampledLevel
        All levels of the archive, with the chunks of the sample.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A file cannot be read.
    """
    files = OpenFiles(slide)
    rgb = levels[0].level.channels is None
    listed = list_parts(slide, files) if rgb else Listed()
    rest, margin = _rest(files, _ranges(listed))
    margins, total = [margin], rest + _FIXED
    templates: dict[Template, float] = {}  # and how many there are of the like
    if listed.count:
        sample = _Sample(levels)
        chunks = Chunks(sample, chunk_cache(_CHUNKS))
        box = np.frombuffer(listed.box, np.int64).reshape(-1, 5)
        sizes = _sizes(listed)
        for index, one in enumerate(levels):
            mine = np.flatnonzero(box[:, 0] == index)
            if len(mine):
                found, margin = _level(listed, files, chunks, one, mine, sizes, templates)
                total += found
                margins.append(margin)
        total += _packed(templates)
    return MapGuess(round(total), round(math.hypot(*margins)))


def _sizes(listed: Listed) -> NDArray[np.int64]:
    """Return the bytes of each part."""
    ends = np.concatenate([[0], np.cumsum(np.frombuffer(listed.ranges, np.int64).reshape(-1, 3)[:, 2])])
    first = np.frombuffer(listed.first, np.int64)
    return np.asarray(ends[first[1:]] - ends[first[:-1]], np.int64)


def _ranges(listed: Listed) -> NDArray[np.int64]:
    """Return file, offset and size of all ranges of parts."""
    return np.frombuffer(listed.ranges, np.int64).reshape(-1, 3) if listed.count else np.empty((0, 3), np.int64)


def _packed(templates: Mapping[Template, float]) -> float:
    """Return what templates take, which are compressed together."""
    data = b"".join(template.data for template in templates)
    count = len(templates)
    return len(pack_block(data)[0]) * sum(templates.values()) / count if count else 0.0


def _level(
    listed: Listed,
    files: OpenFiles,
    chunks: Chunks,
    one: SampledLevel,
    mine: NDArray[np.int64],
    sizes: NDArray[np.int64],
    templates: dict[Template, float],
) -> tuple[float, float]:
    """Return what the parts of a level take without their templates, which are noted, and the margin."""
    everything = float(sizes[mine].sum())
    covered = [part for part in mine.tolist() if _covered(listed, part, one)]
    step = -(-len(covered) // _TRIED)
    tried = covered[:: max(step, 1)]
    index = _PER_PART * len(mine)
    if not tried:
        kept = (1 - _share_of_sources(one.streams.values())) * everything
        return kept + index, 0.5 * kept
    usual: dict[bytes, Template] = {}
    made = []
    for part in tried:
        shared = listed.tables[listed.shared[part]]
        found = try_part(listed, files, chunks, part, usual.get(shared))
        if found is not None:
            usual.setdefault(shared, found.template)
        made.append(found)
    costs = np.array(_costs(listed, files, tried, made), float)
    some = sizes[tried].astype(float)
    ratio = costs.sum() / max(some.sum(), 1)
    off = costs - ratio * some
    error = float(len(mine) * off.std(ddof=1) / math.sqrt(len(tried))) if len(tried) > 1 else 0.5 * ratio * everything
    own = {found.template for found in made if found is not None}
    alike = 1.0 if 2 * len(own) <= len(tried) or len(tried) <= 2 else len(mine) / len(tried)  # else few are equal
    for template in own:
        templates[template] = max(templates.get(template, 1.0), alike)
    if len(tried) == len(mine):
        error = 0.0
    hints = 1.5 * len(mine) if any(found is not None and found.hint for found in made) else 0.0
    total = ratio * everything + index + hints
    return total, max(_WIDE * error, _FLOOR * total)


def _costs(listed: Listed, files: OpenFiles, tried: Sequence[int], made: Sequence[Made | None]) -> list[int]:
    """Return the bytes that each part takes: its hint, or all of it; equal parts are kept once, so take nothing."""
    kept = [
        b"".join(files.read(*piece) for piece in listed.ranges_of(part)) if found is None else None
        for part, found in zip(tried, made, strict=True)
    ]
    seen = Counter(kept)
    return [
        len(found.hint) if found is not None else len(data or b"") * (seen[data] == 1)
        for found, data in zip(made, kept, strict=True)
    ]


def _covered(listed: Listed, part: int, one: SampledLevel) -> bool:
    """Tell whether the sample has all chunks that a part touches."""
    place, level = listed.place(part), one.level
    rows = range(place.y // level.tile_height, (place.y + place.height - 1) // level.tile_height + 1)
    columns = range(place.x // level.tile_width, (place.x + place.width - 1) // level.tile_width + 1)
    if len(rows) * len(columns) > len(one.streams):
        return False
    rows = range(rows.start, min(rows.stop, level.rows))
    columns = range(columns.start, min(columns.stop, level.columns))
    return all((row, column) in one.streams for row in rows for column in columns)


def _share_of_sources(streams: Iterable[bytes]) -> float:
    """Return the share of the bytes of chunks that lies in chunks which hold a JPEG or JPEG 2000 image."""
    inside = total = 0
    for stream in streams:
        mode = dlpr.inspect(stream).mode
        total += len(stream)
        inside += len(stream) if mode in ("jpeg", "j2k") else 0
    return inside / total if total else 0.0


def _rest(files: OpenFiles, ranges: NDArray[np.int64]) -> tuple[float, float]:
    """Return what the bytes outside of all parts take, and its margin."""
    gaps: list[tuple[int, int, int]] = []
    for number, size in enumerate(files.sizes):
        own = ranges[ranges[:, 0] == number]
        own = own[np.argsort(own[:, 1], kind="stable")]
        begins = np.append(own[:, 1], size)
        ends = np.maximum.accumulate(np.concatenate([[0], own[:, 1] + own[:, 2]]))
        for at in np.flatnonzero(begins > ends).tolist():
            gaps.append((number, int(ends[at]), int(begins[at] - ends[at])))
    everything = sum(gap[2] for gap in gaps)
    if not everything:
        return 0.0, 0.0
    starts = np.cumsum([0, *(gap[2] for gap in gaps)])
    blocks = -(-everything // BLOCK)
    chosen = sorted(
        {(2 * i + 1) * blocks // (2 * _BLOCKS) for i in range(_BLOCKS)} if blocks > _BLOCKS else range(blocks)
    )
    stored, some = [], []
    for block in chosen:
        data = _gathered(files, gaps, starts, block * BLOCK, min(everything, (block + 1) * BLOCK))
        stored.append(len(pack_block(data)[0]))
        some.append(len(data))
    ratio = sum(stored) / max(sum(some), 1)
    total = ratio * everything + 8 * blocks
    if len(chosen) == blocks:
        return total, 0.0
    off = np.array(stored, float) - ratio * np.array(some, float)
    return total, max(_WIDE * blocks * float(off.std(ddof=1)) / math.sqrt(len(chosen)), _FLOOR * total)


def _gathered(
    files: OpenFiles, gaps: Sequence[tuple[int, int, int]], starts: NDArray[np.int64], begin: int, end: int
) -> bytes:
    """Return some of the bytes outside of all parts, counted one gap after the other."""
    out = bytearray()
    number = int(np.searchsorted(starts, begin, side="right")) - 1
    while begin < end:
        file, offset, size = gaps[number]
        inside = begin - int(starts[number])
        take = min(end - begin, size - inside)
        out += files.read(file, offset + inside, take)
        begin += take
        number += 1
    return bytes(out)
