"""Archives back to standard files that need nothing of this package: OME-TIFF, and OME-Zarr with a common compressor.

Every level is decoded tile by tile and compressed again, so memory does not grow with the slide. A lossless export is
read back and compared with the archive's pixels before it gets its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DlprError
from dlpr_wsi.errors import ArchiveError, MissingDependencyError, UsageError
from dlpr_wsi.progress import NoProgress, Progress
from dlpr_wsi.sinks.ometiff import TiffOptions, partial_file, write_pyramid
from dlpr_wsi.sinks.omezarr import OmeVersion, fill_value, ome_attributes
from dlpr_wsi.sinks.place import check_destination, move_into_place
from dlpr_wsi.sinks.sourcej2k import J2kCounts, write_source_j2k
from dlpr_wsi.sinks.sourcejpeg import JpegCounts, write_source_jpeg
from dlpr_wsi.sources.archive import Archive, ArchiveLevel, directory_bytes
from dlpr_wsi.sources.opening import open_archive
from dlpr_wsi.sources.tiff_archive import require_tifffile

__all__ = ["ExportCodec", "ExportReport", "export", "export_lines"]

_BATCH = 32  # chunks decoded by one call
_BLOCK = 8  # chunks along the side of a shard of a Zarr export
_MAX_BLOCK = 48 << 20  # bytes of pixels of a shard of many channels
_JPEG_QUALITY = 90
_FULL_CHROMA = 90  # from this JPEG quality on chroma keeps its resolution, as in libvips
_FACTS = (
    "tau",
    "made_tau",
    "vendor",
    "objective_power",
    "background",
    "source_codec",
    "source_codec_lossy",
    "source_quality",
)


class ExportCodec(StrEnum):
    """How an export is compressed. TIFF takes all but blosc; Zarr takes zstd and blosc.

    source-jpeg writes the slide's own JPEG tiles where the archive keeps them: the same coefficients, in a new file. An
    archive with tau > 0 may hold other coefficients, whose samples are within tau. source-j2k does the same with
    JPEG 2000 tiles, whatever tau is; what it has to code anew is lossless.
    """

    DEFLATE = "deflate"
    LZW = "lzw"
    ZSTD = "zstd"
    JPEGXL = "jpegxl"
    JPEG2000 = "jpeg2000"
    JPEG = "jpeg"
    SOURCE_JPEG = "source-jpeg"
    SOURCE_J2K = "source-j2k"
    BLOSC = "blosc"


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Parameters
    ----------
    path : str
        The file or folder.
    container : str
        "OME-TIFF", "TIFF", "OME-Zarr 0.5" or "OME-Zarr 0.4".
    codec : ExportCodec
        Its compression.
    quality : int or None
        Of a lossy compression.
    levels, tiles : int
        Their number.
    tau : int
        The bound that the archive keeps on level 0.
    level_tau : tuple of int
        That of each level.
    archive_bytes, out_bytes, raw_bytes : int
        Size of the archive, of the export, and of the pixels of all levels.
    compared : bool
        Whether every sample was read back and equals the archive's; False for lossy compressions.
    seconds : float
        Wall-clock time.
    samples : int
        Samples of a px: 3 for RGB, else the number of channels.
    source_jpeg : JpegCounts or None
        For source-jpeg, what became of the tiles.
    source_j2k : J2kCounts or None
        For source-j2k, the same.
    """

    path: str
    container: str
    codec: ExportCodec
    quality: int | None
    levels: int
    tiles: int
    tau: int
    archive_bytes: int
    out_bytes: int
    raw_bytes: int
    compared: bool
    seconds: float
    samples: int = 3
    source_jpeg: JpegCounts | None = None
    source_j2k: J2kCounts | None = None
    level_tau: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return all facts."""
        return {"kind": "export", **asdict(self)}


def export(
    archive: Path,
    out: Path,
    *,
    codec: ExportCodec | None = None,
    quality: int | None = None,
    zarr: bool | None = None,
    version: OmeVersion = OmeVersion.V05,
    subifds: bool = True,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write an archive as a standard OME-TIFF or OME-Zarr.

    Parameters
    ----------
    archive : Path
        An archive, Zarr or TIFF.
    out : Path
        The file or folder; appears when it is complete.
    codec : ExportCodec, optional
        Compression; default: deflate for TIFF, zstd for Zarr.
    quality : int, optional
        1 to 100. For jpeg (default 90); for jpegxl, which is lossless without it; for tiles that source-jpeg has to
        code anew (default 90).
    zarr : bool, optional
        OME-Zarr instead of OME-TIFF; default: whether the name of ``out`` ends in ``.zarr``.
    version : OmeVersion
        Of an OME-Zarr.
    subifds : bool, default True
        Lower levels of a TIFF as SubIFDs (OME-TIFF); else as pages of their own, where OpenSlide looks for them.
    threads : int, optional
        Threads that decode and compress; default: one per CPU core.
    overwrite : bool, default False
        Replace an export, or archive, of that name.
    progress : Progress, optional
        Told of every tile.

    Returns
    -------
    ExportReport

    Raises
    ------
    dlpr_wsi.errors.UsageError
        ``out`` cannot be written or exists, or options do not go together.
    dlpr_wsi.errors.ArchiveError
        A chunk is missing or damaged (the message names it), or the export does not read back as it was written.
    dlpr_wsi.errors.MissingDependencyError
        tifffile, imagecodecs or zarr is not installed.
    """
    begin = time.perf_counter()
    to_zarr = out.suffix.lower() == ".zarr" if zarr is None else zarr
    codec = codec or (ExportCodec.ZSTD if to_zarr else ExportCodec.DEFLATE)
    quality = _checked_quality(codec, quality, to_zarr=to_zarr)
    threads = dlpr.codec.usable_threads(threads)
    check_destination(out, overwrite=overwrite)
    if out.resolve() == archive.resolve():
        raise UsageError("OUT", f"{out} is the archive itself")
    opened = open_archive(archive)
    if opened.channels is not None and not (to_zarr or subifds):
        raise UsageError("--pages", "is for RGB pictures: in a TIFF of channels each channel is a page; leave it out")
    progress = progress or NoProgress()
    tiles = sum(level.rows * level.columns * level.stack for level in opened.levels)
    progress.start(tiles)
    counts: JpegCounts | None = None
    j2k: J2kCounts | None = None
    try:
        if to_zarr:
            out_bytes = _export_zarr(opened, out, codec, version, threads, progress, overwrite=overwrite)
        else:
            _require_imagecodecs()
            with partial_file(out, overwrite=overwrite) as partial:
                if codec is ExportCodec.SOURCE_JPEG:
                    counts = write_source_jpeg(
                        partial, opened, quality or _JPEG_QUALITY, progress, _facts(opened), subifds=subifds
                    )
                elif codec is ExportCodec.SOURCE_J2K:
                    j2k = write_source_j2k(partial, opened, progress, _facts(opened), threads, subifds=subifds)
                else:
                    options = _tiff_options(codec, quality, threads)
                    _write_tiff(partial, opened, options, quality, progress, subifds=subifds)
                out_bytes = partial.stat().st_size
    finally:
        progress.close()
    return ExportReport(
        path=str(out),
        container=f"OME-Zarr {version.value}" if to_zarr else "OME-TIFF" if subifds else "TIFF",
        codec=codec,
        quality=quality,
        levels=len(opened.levels),
        tiles=tiles,
        tau=opened.tau,
        archive_bytes=directory_bytes(archive),
        out_bytes=out_bytes,
        raw_bytes=sum(level.samples * level.width * level.height for level in opened.levels),
        samples=opened.samples,
        compared=quality is None and (j2k is None or j2k.equal == tiles),
        seconds=time.perf_counter() - begin,
        source_jpeg=counts,
        source_j2k=j2k,
        level_tau=opened.level_tau,
    )


def export_lines(report: ExportReport) -> list[str]:
    """Report an export as text."""
    lossy = f", quality {report.quality}" if report.quality is not None else ""
    kept = "lossless" if report.tau == 0 else f"within {report.tau} of the slide's"
    if len(set(report.level_tau)) > 1:
        kept += f"; levels made by the conversion within {max(report.level_tau)}"
    counts = report.source_jpeg
    speed = report.raw_bytes / report.samples / 1e6 / max(report.seconds, 1e-9)
    if counts is not None:
        kept = "the slide's JPEG, coefficient by coefficient" if report.tau == 0 else f"JPEG {kept}, not its own bytes"
        note = (
            f"{counts.kept} tiles are {kept} ({counts.corrected} of them decode "
            f"to other samples than the archive, which corrects them); {counts.recoded} tiles are coded anew and lossy"
        )
    elif report.source_j2k is not None:
        note = _j2k_note(report.source_j2k)
    elif report.compared:
        note = f"every sample read back, equal to the archive's ({kept})"
    else:
        note = f"lossy: samples differ from the archive's; its bound (tau {report.tau}) does not hold for the export"
    return [
        f"export        {report.path}: {report.container}, {report.codec.value}{lossy}",
        f"levels        {report.levels}, {report.tiles} tiles",
        f"size          {report.out_bytes:,} bytes, {report.out_bytes / report.archive_bytes:.2f} x the archive's "
        f"{report.archive_bytes:,}, {report.out_bytes / report.raw_bytes:.3f} of the raw pixels",
        f"pixels        {note}",
        f"time          {report.seconds:.1f} s, {speed:.2f} MP/s",
    ]


def _j2k_note(counts: J2kCounts) -> str:
    """Say what became of the tiles of source-j2k."""
    anew = f"{counts.recoded} tiles are coded anew, lossless"
    if counts.nearest:
        anew += f" but for {counts.nearest} with colours that Y, Cb, Cr cannot give"
    return (
        f"{counts.kept} tiles are the slide's JPEG 2000, coefficient by coefficient; {anew}; {counts.equal} of all are "
        "decoded by OpenJPEG to the archive's very samples"
    )


def _checked_quality(codec: ExportCodec, quality: int | None, *, to_zarr: bool) -> int | None:
    """Return the quality to use; None is lossless."""
    if to_zarr and codec not in (ExportCodec.ZSTD, ExportCodec.BLOSC):
        raise UsageError("--codec", f"Zarr exports are zstd or blosc, not {codec.value}")
    if not to_zarr and codec is ExportCodec.BLOSC:
        raise UsageError(
            "--codec",
            "blosc is for Zarr; TIFF takes deflate, lzw, zstd, jpegxl, jpeg2000, jpeg, source-jpeg or source-j2k",
        )
    if quality is None:
        return _JPEG_QUALITY if codec in (ExportCodec.JPEG, ExportCodec.SOURCE_JPEG) else None
    if codec not in (ExportCodec.JPEG, ExportCodec.JPEGXL, ExportCodec.SOURCE_JPEG):
        raise UsageError("--quality", f"{codec.value} is lossless; quality goes with jpeg or jpegxl")
    if not 1 <= quality <= 100:
        raise UsageError("--quality", f"must be from 1 to 100, not {quality}")
    return quality


def _decoded(
    archive: Archive, level: ArchiveLevel, positions: Iterable[tuple[int, int]], threads: int, channel: int = 0
) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
    """Yield chunks, (3, h, w) or (1, h, w), with their (row, column); a damaged one is named."""
    rest = iter(positions)
    while batch := list(islice(rest, _BATCH)):
        streams = []
        for row, column in batch:
            stream = archive.stream(level.index, row, column, channel)
            if stream is None:
                raise ArchiveError(f"{archive.path}: the chunk at {level.name(row, column, channel)} is missing")
            streams.append(stream)
        try:
            chunks: Sequence[NDArray[np.uint8]] = dlpr.decode_batch(streams, threads=threads)
        except DlprError:
            _name_damaged(archive, level, batch, streams, channel)
            raise
        for (row, column), chunk in zip(batch, chunks, strict=True):
            if chunk.shape != (level.chunk_samples, level.tile_height, level.tile_width):
                raise ArchiveError(f"{archive.path}: {level.name(row, column, channel)} has the shape {chunk.shape}")
            yield (row, column), chunk


def _name_damaged(
    archive: Archive, level: ArchiveLevel, batch: Sequence[tuple[int, int]], streams: Sequence[bytes], channel: int
) -> None:
    """Raise ArchiveError for the first stream that does not decode."""
    for (row, column), stream in zip(batch, streams, strict=True):
        try:
            dlpr.decode(stream)
        except DlprError as error:
            raise ArchiveError(f"{archive.path}: the chunk at {level.name(row, column, channel)}: {error}") from error


def _facts(archive: Archive) -> dict[str, Any]:
    """Return what an export says of where its pixels come from."""
    return {"exported_from": "dlpr-wsi archive", **{key: archive.facts[key] for key in _FACTS if key in archive.facts}}


def _tiff_options(codec: ExportCodec, quality: int | None, threads: int) -> TiffOptions:
    """Return a codec in tifffile's terms."""
    match codec:
        case ExportCodec.JPEG:
            full = quality is not None and quality >= _FULL_CHROMA
            sampling = (1, 1) if full else (2, 2)
            return TiffOptions("jpeg", {"level": quality}, subsampling=sampling, threads=threads)
        case ExportCodec.JPEGXL if quality is None:
            return TiffOptions("jpegxl", {"lossless": True, "effort": 7, "numthreads": 1}, threads=threads)
        case ExportCodec.JPEGXL:
            distance = {"distance": _jpegxl_distance(quality or _JPEG_QUALITY)}
            return TiffOptions("jpegxl", {**distance, "lossless": False, "numthreads": 1}, threads=threads)
        case ExportCodec.JPEG2000:
            return TiffOptions("jpeg2000", {"level": 0, "reversible": True, "numthreads": 1}, threads=threads)
        case _:
            name = "adobe_deflate" if codec is ExportCodec.DEFLATE else codec.value  # "deflate" is an old code
            return TiffOptions(name, {}, predictor=True, threads=threads)


def _jpegxl_distance(quality: int) -> float:
    """Return the distance that libjxl's own tools use for a quality from 1 to 100."""
    if quality >= 100:
        return 0.1  # the smallest that its lossy mode is meant for; lossless is the default without quality
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality * quality - 23 / 20 * quality + 25


def _require_imagecodecs() -> None:
    """Raise MissingDependencyError unless tifffile and its codecs are installed."""
    require_tifffile()
    try:
        import imagecodecs  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("imagecodecs", "tiff") from error


def _write_tiff(
    partial: Path, archive: Archive, options: TiffOptions, quality: int | None, progress: Progress, *, subifds: bool
) -> None:
    """Write an OME-TIFF and, where it is lossless, compare it."""
    checks = [[array("L") for _ in archive.levels] for _ in range(archive.levels[0].stack)]

    def tiles(index: int, channel: int) -> Iterator[NDArray[np.uint8]]:
        level = archive.levels[index]
        for _, chunk in _decoded(archive, level, level.positions(), options.threads, channel):
            tile = chunk[0] if archive.channels is not None else np.ascontiguousarray(chunk.transpose(1, 2, 0))
            checks[channel][index].append(zlib.crc32(tile.data))
            yield tile
            progress.advance(1)

    write_pyramid(partial, archive, tiles, lambda _: options, facts=_facts(archive), subifds=subifds)
    end = () if archive.channels is not None else (3,)
    expected = [(level.height, level.width, *end) for level in archive.levels]
    with require_tifffile().TiffFile(partial) as file:
        top = [page.aspage() for page in file.pages]
        found = [[page, *(page.pages or ())] for page in top] if subifds else [top]
        if [[page.shape for page in pages] for pages in found] != [expected] * len(checks):
            raise ArchiveError(
                f"the levels of the export read back as {[[page.shape for page in pages] for pages in found]}"
            )
        if quality is None:
            for channel, pages in enumerate(found):
                for level, page in zip(archive.levels, pages, strict=True):
                    _compare_tiles(level, page, checks[channel][level.index], channel)


def _compare_tiles(level: ArchiveLevel, page: Any, checks: Sequence[int], channel: int) -> None:
    """Raise ArchiveError unless every tile of a page decodes to the samples that were written."""
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    for number, ((offset, size), check) in enumerate(zip(places, checks, strict=True)):
        file = page.parent.filehandle
        file.seek(offset)
        tile, _, _ = page.decode(file.read(size), number)
        if tile is None or zlib.crc32(np.ascontiguousarray(tile).data) != check:
            name = level.name(number // level.columns, number % level.columns, channel)
            raise ArchiveError(f"{name} of the export reads back differently: imagecodecs or the disk is at fault")


def _export_zarr(
    archive: Archive,
    out: Path,
    codec: ExportCodec,
    version: OmeVersion,
    threads: int,
    progress: Progress,
    *,
    overwrite: bool,
) -> int:
    """Write an OME-Zarr and return its size."""
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError("zarr", "wsi") from error
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise ArchiveError(f"{out}: its folder cannot be written ({error.strerror})") from error
    try:
        data = partial / out.name
        ome = ome_attributes(archive.levels, archive.mpp, version, channels=archive.channels)
        attributes = {**ome, "dlpr_wsi_export": _facts(archive)}
        group = zarr.create_group(data, attributes=attributes, zarr_format=3 if version is OmeVersion.V05 else 2)
        for level in archive.levels:
            _write_level(group, archive, level, codec, version, threads, progress)
        total = directory_bytes(data)
        if hasattr(os, "sync"):
            os.sync()  # the name must not reach the disk before the chunks do
        move_into_place(data, out, overwrite=overwrite)
        return total
    except OSError as error:
        if error.filename is None:
            raise ArchiveError(f"{out}: cannot be written ({error.strerror or error})") from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_level(
    group: Any,
    archive: Archive,
    level: ArchiveLevel,
    codec: ExportCodec,
    version: OmeVersion,
    threads: int,
    progress: Progress,
) -> None:
    """Write one level block by block, reading each block back."""
    height, width = level.tile_height, level.tile_width
    sharded = version is OmeVersion.V05
    block_side = _BLOCK
    while (
        level.channels is not None and block_side > 1 and level.channels * block_side**2 * height * width > _MAX_BLOCK
    ):
        block_side //= 2
    store = group.create_array(
        str(level.index),
        shape=(level.samples, level.height, level.width),
        chunks=(level.chunk_samples, height, width),
        shards=(level.samples, block_side * height, block_side * width) if sharded else None,
        dtype="uint8",
        compressors=_zarr_compressor(codec, version),
        fill_value=fill_value(level.channels),
        chunk_key_encoding={"name": "default" if sharded else "v2", "separator": "/"},
        dimension_names=("c", "y", "x") if sharded else None,
    )
    for top in range(0, level.rows, block_side):
        for left in range(0, level.columns, block_side):
            rows = range(top, min(top + block_side, level.rows))
            columns = range(left, min(left + block_side, level.columns))
            block = np.empty((level.samples, len(rows) * height, len(columns) * width), np.uint8)
            places = [(row, column) for row in rows for column in columns]
            for channel in range(level.stack):
                part = block if level.channels is None else block[channel : channel + 1]
                for (row, column), chunk in _decoded(archive, level, places, threads, channel):
                    y, x = (row - top) * height, (column - left) * width
                    part[:, y : y + height, x : x + width] = chunk
                    progress.advance(1)
            y, x = top * height, left * width
            block = block[:, : level.height - y, : level.width - x]
            place = (slice(None), slice(y, y + block.shape[1]), slice(x, x + block.shape[2]))
            store[place] = block
            if not np.array_equal(store[place], block):
                raise ArchiveError(f"{level.name(top, left)} of the export reads back differently")


def _zarr_compressor(codec: ExportCodec, version: OmeVersion) -> Any:
    """Return a codec in zarr's terms."""
    if version is OmeVersion.V05:
        from zarr.codecs import BloscCodec, ZstdCodec

        return (
            ZstdCodec(level=5) if codec is ExportCodec.ZSTD else BloscCodec(cname="zstd", clevel=5, shuffle="noshuffle")
        )
    import numcodecs

    return numcodecs.Zstd(level=5) if codec is ExportCodec.ZSTD else numcodecs.Blosc(cname="zstd", clevel=5, shuffle=0)
