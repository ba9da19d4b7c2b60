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
from dlpr_wsi.sinks.sourcetiles import compare_tiles, kinds_of, stream_of
from dlpr_wsi.sources.archive import Archive, ArchiveLevel

__all__ = ["JpegCounts", "write_source_jpeg"]


@dataclass(frozen=True)
class JpegCounts:
    """What became of the tiles.

    Parameters
    ----------
    kept : int
        Tiles that are the slide's JPEG, coefficient by coefficient; with tau > 0 the JPEG that the
        archive holds for it.
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

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"{self.space}, chroma {self.sampling[1]} x {self.sampling[0]}"

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
        The archive keeps no JPEG tiles on level 0 or holds channels, JPEG tiles of a level differ in colour space or
        chroma sampling, a chunk is missing or damaged, or a tile reads back differently.
    """
    import imagecodecs

    kinds = kinds_of(archive, "JPEG", _kind)
    counts = {"kept": 0, "corrected": 0, "recoded": 0}
    checks = [array("L") for _ in archive.levels]

    def tiles(index: int, _channel: int) -> Iterator[bytes]:
        level, kind = archive.levels[index], kinds[index] or _USUAL
        for row, column in level.positions():
            stream = stream_of(archive, level, row, column)
            where = f"{archive.path}: the chunk at {level.name(row, column)}"
            try:
                image = stored_jpeg(stream)
                if image is not None and _whole(image, level):
                    if _Kind.of(image) != kind:
                        raise ArchiveError(
                            f"{where} is a JPEG tile of {_Kind.of(image)}, those before it of {kind}; a TIFF page has "
                            "tiles of one kind, and another would be a second loss: export with another codec"
                        )
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
    compare_tiles(path, checks, subifds=subifds)
    return JpegCounts(**counts)


def _kind(stream: bytes, level: ArchiveLevel) -> _Kind | None:
    """Return the kind of a JPEG tile; None for any other chunk."""
    image = stored_jpeg(stream)
    return _Kind.of(image) if image is not None and _whole(image, level) else None


def _whole(image: JpegImage, level: ArchiveLevel) -> bool:
    """Whether an image is a whole tile in colour."""
    size = (level.tile_height, level.tile_width)
    return image.components == 3 and tuple(image.phase) == (0, 0) and (image.height, image.width) == size


def _equal(a: JpegImage, b: JpegImage) -> bool:
    """Whether two images have the same tables and coefficients."""
    pairs = zip((*a.tables, *a.coefficients), (*b.tables, *b.coefficients), strict=True)
    return tuple(a.sampling) == tuple(b.sampling) and all(np.array_equal(x, y) for x, y in pairs)
