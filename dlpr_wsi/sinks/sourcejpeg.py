"""A TIFF of JPEG tiles whose coefficients are those of the slide that the archive was made from.

An archive may keep a slide's JPEG tiles, re-packed (mode jpeg of the codec). Here they become JPEG again: the same
coefficients and tables, so the same pixels to every reader, without a second loss. What the archive holds in
another form (background, tiles of levels that the slide had not) is coded as JPEG anew.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dlpr
from dlpr.errors import DlprError
from dlpr.modes.jpeg.extract import stored_jpeg
from dlpr.modes.jpeg.image import ColourTransform, JpegImage
from dlpr.modes.jpeg.parse import parse
from dlpr.modes.jpeg.write import write
from dlpr_wsi.errors import ArchiveError
from dlpr_wsi.progress import Progress
from dlpr_wsi.sinks.ometiff import TiffOptions, write_pyramid
from dlpr_wsi.sources.archive import Archive, ArchiveLevel
from dlpr_wsi.sources.tiff_archive import require_tifffile

__all__ = ["JpegCounts", "write_source_jpeg"]


@dataclass(frozen=True)
class JpegCounts:
    """What became of the tiles.

    Parameters
    ----------
    kept : int
        Tiles that are the slide's JPEG, coefficient by coefficient.
    corrected : int
        Those of them whose samples the archive corrects, so that the JPEG alone decodes to slightly other ones.
    recoded : int
        Tiles coded as JPEG anew, with a loss.
    """

    kept: int
    corrected: int
    recoded: int


@dataclass(frozen=True)
class _Kind:
    """What all JPEG tiles of a TIFF page have in common."""

    transform: ColourTransform
    sampling: tuple[int, int]

    @classmethod
    def of(cls, image: JpegImage) -> _Kind:
        """Return the kind of an image."""
        return cls(image.transform, (int(image.sampling[0]), int(image.sampling[1])))

    @property
    def space(self) -> str:
        """Name of the components' colour space."""
        return "ycbcr" if self.transform is ColourTransform.YCBCR else "rgb"

    @property
    def subsampling(self) -> tuple[int, int]:
        """Horizontal and vertical factor, TIFF's order."""
        return self.sampling[1], self.sampling[0]


_USUAL = _Kind(ColourTransform.YCBCR, (2, 2))


def write_source_jpeg(
    path: Path, archive: Archive, quality: int, progress: Progress, facts: Mapping[str, Any], *, subifds: bool
) -> JpegCounts:
    """Write an archive as a TIFF of JPEG tiles.

    Parameters
    ----------
    path : Path
        A new file.
    archive : Archive
        An archive that keeps JPEG tiles.
    quality : int
        Of tiles that are coded anew, 1 to 100.
    progress : Progress
        Told of every tile.
    facts : mapping
        JSON for the OME annotation.
    subifds : bool
        Lower levels as SubIFDs, or as pages.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The archive keeps no JPEG tiles on level 0, a chunk is missing or damaged, or a tile reads back differently.
    """
    import imagecodecs

    kinds = [_kind(archive, level) for level in archive.levels]
    if kinds[0] is None:
        raise ArchiveError(
            f"{archive.path}: keeps no JPEG tiles on level 0, so there is no JPEG to write back; "
            "export with another codec"
        )
    counts = {"kept": 0, "corrected": 0, "recoded": 0}
    checks = [array("L") for _ in archive.levels]

    def tiles(index: int) -> Iterator[bytes]:
        level, kind = archive.levels[index], kinds[index] or _USUAL
        for row, column in level.positions():
            stream = _stream(archive, level, row, column)
            where = f"{archive.path}: the chunk at {level.name(row, column)}"
            try:
                image = stored_jpeg(stream)
                if image is not None and _whole(image, level) and _Kind.of(image) == kind:
                    data = write(image)
                    if not _equal(parse(data, transform=image.transform), image):
                        raise ArchiveError(f"{where} did not become the same JPEG")
                    counts["kept"] += 1
                    counts["corrected"] += dlpr.inspect(stream).bytes_by_part.get("residual", 0) > 0
                else:
                    chunk = np.ascontiguousarray(dlpr.decode(stream).transpose(1, 2, 0))
                    data = bytes(
                        imagecodecs.jpeg8_encode(
                            chunk,
                            level=quality,
                            colorspace="rgb",
                            outcolorspace=kind.space,
                            subsampling=kind.subsampling,
                        )
                    )
                    counts["recoded"] += 1
            except DlprError as error:
                raise ArchiveError(f"{where}: {error}") from error
            checks[index].append(zlib.crc32(data))
            yield data
            progress.advance(1)

    def options(index: int) -> TiffOptions:
        kind = kinds[index] or _USUAL
        return TiffOptions("jpeg", {"outcolorspace": kind.space}, subsampling=kind.subsampling)

    write_pyramid(path, archive, tiles, options, facts=facts, subifds=subifds)
    with require_tifffile().TiffFile(path) as file:
        first = file.pages.first
        pages = [first, *(first.pages or ())] if subifds else list(file.pages)
        for page, expected in zip(pages, checks, strict=True):
            places = zip(page.dataoffsets, page.databytecounts, strict=True)
            for (offset, size), check in zip(places, expected, strict=True):
                file.filehandle.seek(offset)
                if zlib.crc32(file.filehandle.read(size)) != check:
                    raise ArchiveError("a tile of the export reads back differently: the disk is at fault")
    return JpegCounts(**counts)


def _stream(archive: Archive, level: ArchiveLevel, row: int, column: int) -> bytes:
    """Return a chunk's stream."""
    stream = archive.stream(level.index, row, column)
    if stream is None:
        raise ArchiveError(f"{archive.path}: the chunk at {level.name(row, column)} is missing")
    return stream


def _kind(archive: Archive, level: ArchiveLevel) -> _Kind | None:
    """Return the kind of the first JPEG tile of a level; None if there is none."""
    for row, column in level.positions():
        try:
            image = stored_jpeg(_stream(archive, level, row, column))
        except DlprError as error:
            raise ArchiveError(f"{archive.path}: the chunk at {level.name(row, column)}: {error}") from error
        if image is not None and _whole(image, level):
            return _Kind.of(image)
    return None


def _whole(image: JpegImage, level: ArchiveLevel) -> bool:
    """Whether an image is a whole tile in colour."""
    size = (level.tile_height, level.tile_width)
    return image.components == 3 and tuple(image.phase) == (0, 0) and (image.height, image.width) == size


def _equal(a: JpegImage, b: JpegImage) -> bool:
    """Whether two images have the same tables and coefficients."""
    pairs = zip((*a.tables, *a.coefficients), (*b.tables, *b.coefficients), strict=True)
    return tuple(a.sampling) == tuple(b.sampling) and all(np.array_equal(x, y) for x, y in pairs)
