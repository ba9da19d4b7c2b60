"""A TIFF of JPEG 2000 tiles whose coefficients are those of the slide that the archive was made from.

An archive may keep a slide's JPEG 2000 tiles, coded anew (mode j2k of the codec). Here they become codestreams again:
the same coefficients known to the same bit planes, so the same pixels to every reader, without a second loss. What the
archive holds in another form (background, tiles whose pixels took less by themselves, levels that the slide had not)
is coded as lossless JPEG 2000.

Two kinds of file. An OME-TIFF has compression 34712, which says that the components are red, green, blue (or their
transform inside of the codestream). Pages for OpenSlide have Aperio's compressions, 33005 for these and 33003 for
Y, Cb, Cr, under a description that begins as Aperio's do: in other TIFF files OpenSlide reads no JPEG 2000.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DlprError
from dlpr.modes.j2k.extract import stored_j2k
from dlpr.modes.j2k.fields import Colour, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.write import write
from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.progress import Progress
from dlpr_wsi.reversible.ordered import ordered
from dlpr_wsi.sinks.ometiff import TiffOptions, write_pyramid
from dlpr_wsi.sinks.sourcetiles import compare_tiles, kinds_of, stream_of
from dlpr_wsi.sources.archive import Archive, ArchiveLevel

__all__ = ["J2kCounts", "write_source_j2k"]

_JPEG2000, _APERIO_YCBCR, _APERIO_RGB = 34712, 33003, 33005
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class J2kCounts:
    """What became of the tiles.

    Parameters
    ----------
    kept : int
        Tiles that are the slide's JPEG 2000, coefficient by coefficient.
    corrected : int
        Those of them whose samples the archive corrects, because the slide's reader rounds differently.
    recoded : int
        Tiles coded as lossless JPEG 2000 anew.
    nearest : int
        Those of them with colours that the level's Y, Cb, Cr cannot give: they have the nearest ones.
    equal : int
        Tiles of all kinds that OpenJPEG decodes to the archive's very samples, up to the edge of the level; it decoded
        every one.
    """

    kept: int
    corrected: int
    recoded: int
    nearest: int
    equal: int


class _Made(NamedTuple):
    """A tile's codestream, and what it counts as."""

    data: bytes
    kept: bool
    corrected: bool
    nearest: bool
    equal: bool


def write_source_j2k(
    path: Path, archive: Archive, progress: Progress, facts: Mapping[str, Any], threads: int, *, subifds: bool
) -> J2kCounts:
    """Write an archive as a TIFF of JPEG 2000 tiles.

    Parameters
    ----------
    path : Path
        A new file.
    archive : Archive
        An archive that keeps JPEG 2000 tiles.
    progress : Progress
        Told of every tile.
    facts : mapping
        JSON for the OME annotation.
    threads : int
        Threads that make tiles.
    subifds : bool
        An OME-TIFF, lower levels as SubIFDs; else pages as OpenSlide reads them.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        An OME-TIFF of tiles that hold Y, Cb, Cr.
    dlpr_wsi.errors.ArchiveError
        The archive keeps no JPEG 2000 tiles on level 0 or holds channels, a level holds RGB tiles and Y, Cb, Cr ones, a
        chunk is missing or damaged, or a tile reads back differently.
    """
    kinds = kinds_of(archive, "JPEG 2000", _kind)
    if subifds and Colour.YCBCR in kinds:
        raise UsageError(
            "--pages",
            "is needed: the slide's JPEG 2000 tiles hold Y, Cb, Cr, which TIFF can only say as Aperio does (33003)",
        )
    counts = {"kept": 0, "corrected": 0, "recoded": 0, "nearest": 0, "equal": 0}
    checks = [array("L") for _ in archive.levels]

    def tiles(index: int, _channel: int) -> Iterator[bytes]:
        level, kind = archive.levels[index], kinds[index] or Colour.NONE
        work = ordered(lambda place: _made(archive, level, *place, kind), level.positions(), threads)
        for made in work:
            counts["kept"] += made.kept
            counts["corrected"] += made.corrected
            counts["recoded"] += not made.kept
            counts["nearest"] += made.nearest
            counts["equal"] += made.equal
            checks[index].append(zlib.crc32(made.data))
            yield made.data
            progress.advance(1)

    def options(index: int) -> TiffOptions:
        if subifds:
            return TiffOptions(_JPEG2000, {})
        return TiffOptions(_APERIO_YCBCR if kinds[index] is Colour.YCBCR else _APERIO_RGB, {})

    description = None if subifds else _description(archive)
    write_pyramid(path, archive, tiles, options, facts=facts, subifds=subifds, description=description)
    compare_tiles(path, checks, subifds=subifds)
    return J2kCounts(**counts)


def _description(archive: Archive) -> str:
    """Return what OpenSlide knows an Aperio slide by, with the magnification and the size of a pixel."""
    level = archive.levels[0]
    text = (
        f"Aperio Image Library layout, written by dlpr-wsi {dlpr.__version__} \r\n{level.width}x{level.height} "
        f"({level.tile_width}x{level.tile_height}) J2K"
    )
    power = archive.facts.get("objective_power")
    if isinstance(power, int | float) and power > 0:
        text += f"|AppMag = {power:g}"
    if archive.mpp is not None and archive.mpp[0] == archive.mpp[1]:
        text += f"|MPP = {archive.mpp[0]:.12g}"
    return text


def _made(archive: Archive, level: ArchiveLevel, row: int, column: int, kind: Colour) -> _Made:
    """Make a tile; it is decoded by OpenJPEG, which shares nothing with the codec."""
    where = f"{archive.path}: the chunk at {level.name(row, column)}"
    stream = stream_of(archive, level, row, column)
    inside = slice(level.height - row * level.tile_height), slice(level.width - column * level.tile_width)
    try:
        image = _whole(stored_j2k(stream), level)
        pixels = np.ascontiguousarray(dlpr.decode(stream).transpose(1, 2, 0))
        if image is None:
            data, nearest = _recoded(pixels, kind)
            shown = _decoded(data, kind)
            equal = np.array_equal(shown[inside], pixels[inside])
            if not nearest and not np.array_equal(shown, pixels):
                raise ArchiveError(f"{where} did not become the same pixels")
            return _Made(data, kept=False, corrected=False, nearest=nearest, equal=equal)
        if image.fields.colour is not kind:
            raise ArchiveError(
                f"{where} is a JPEG 2000 tile of {_NAMES[image.fields.colour]}, those before it of {_NAMES[kind]}; a "
                "TIFF page has tiles of one kind, and another would be a loss: export with another codec"
            )
        data = write(image)  # its coefficients have been parsed and compared
        corrected = dlpr.inspect(stream).bytes_by_part.get("residual", 0) > 0
        shown = _decoded(data, kind)
        equal = np.array_equal(shown[inside], pixels[inside])
        lossy = dlpr.decode(stream, layer="lossy").transpose(1, 2, 0) if corrected else pixels
        if not _near(shown, lossy, image.fields):
            raise ArchiveError(f"{where} did not become a JPEG 2000 tile with its pixels")
    except DlprError as error:
        raise ArchiveError(f"{where}: {error}") from error
    return _Made(data, kept=True, corrected=corrected, nearest=False, equal=equal)


_NAMES = {Colour.NONE: "red, green, blue", Colour.YCBCR: "Y, Cb, Cr"}


def _near(shown: Pixels, expected: Pixels, fields: Fields) -> bool:
    """Whether two decoders agree: but for roundings of the 9/7 wavelet, and how they enlarge smaller components."""
    if shown.shape != expected.shape:
        return False
    if any(c.sampling != (1, 1) for c in fields.components):
        return True
    most = 0 if all(c.wavelet is Wavelet.REVERSIBLE for c in fields.components) else 1
    if fields.colour is Colour.YCBCR:
        most = 3 * most + 1  # the codec's factors are libjpeg's
    return int(np.abs(shown.astype(np.int16) - expected).max()) <= most


def _decoded(data: bytes, kind: Colour) -> Pixels:
    """Return a tile's pixels as OpenSlide shows them: through OpenJPEG."""
    import imagecodecs

    samples = np.asarray(imagecodecs.jpeg2k_decode(data))
    return _rgb(samples) if kind is Colour.YCBCR else samples.astype(np.uint8, copy=False)


def _rgb(samples: NDArray[Any]) -> Pixels:
    """Convert Y, Cb, Cr (any shape with 3 at its end) to red, green, blue, with OpenSlide's factors."""
    y, cb, cr = (samples[..., k].astype(np.float64) for k in range(3))
    cb, cr = cb - 128, cr - 128
    sums = (1.402 * cr, -0.34414 * cb - 0.71414 * cr, 1.772 * cb)
    return np.stack([y + np.floor(0.5 + s) for s in sums], axis=-1).clip(0, 255).astype(np.uint8)


def _recoded(pixels: Pixels, kind: Colour) -> tuple[bytes, bool]:
    """Code pixels as lossless JPEG 2000; True where Y, Cb, Cr cannot give all of their colours."""
    import imagecodecs

    samples, nearest = (_ycbcr(pixels), False) if kind is Colour.YCBCR else (pixels, False)
    if kind is Colour.YCBCR:
        nearest = not np.array_equal(_rgb(samples), pixels)
    transform = kind is Colour.NONE
    data = imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k", reversible=True, mct=transform, numthreads=1)
    return bytes(data), nearest


def _ycbcr(pixels: Pixels) -> Pixels:
    """Return for every colour the Y, Cb, Cr that give it, or what is nearest to it."""
    colours, inverse = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    red, green, blue = colours.astype(float).T
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    start = np.stack([y, 128 + (blue - y) / 1.772, 128 + (red - y) / 1.402], axis=-1).round().astype(np.int64)
    best, off = start.copy(), np.full(len(colours), 1 << 30)
    for step in np.ndindex(3, 3, 3):
        tried = (start + step - 1).clip(0, 255)
        error = (np.abs(_rgb(tried).astype(np.int64) - colours)).sum(axis=1)
        better = error < off
        best[better], off[better] = tried[better], error[better]
    return np.ascontiguousarray(best.astype(np.uint8)[inverse.ravel()].reshape(pixels.shape))


def _kind(stream: bytes, level: ArchiveLevel) -> Colour | None:
    """Return what a JPEG 2000 tile holds; None for any other chunk."""
    image = _whole(stored_j2k(stream), level)
    return None if image is None else image.fields.colour


def _whole(image: J2kImage | None, level: ArchiveLevel) -> J2kImage | None:
    """Return an image that is a whole tile in colour, None for any other, or one that was found in pixels alone."""
    if image is None or len(image.fields.components) != 3 or any(c.points for c in image.fields.components):
        return None
    top, left, bottom, right = image.fields.area
    size = (level.tile_height, level.tile_width)
    return image if (image.fields.height, image.fields.width) == size == (bottom - top, right - left) else None
