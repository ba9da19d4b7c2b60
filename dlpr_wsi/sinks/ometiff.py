"""What our TIFF files have in common: tiled BigTIFF, lower levels as SubIFDs, OME-XML, resolution, colour profile.

`dlpr_wsi.sinks.tiff` writes an archive's streams with it, `dlpr_wsi.export` pixels in a standard compression. The same
input gives the same bytes: no date, no random identifier.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import dlpr
from dlpr.plugins import CodecOptions
from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.sinks.place import check_destination, sync_folder
from dlpr_wsi.sources import Channel
from dlpr_wsi.sources.archive import Archive
from dlpr_wsi.sources.tiff_archive import NAMESPACE, TAG_HASHES, require_tifffile

__all__ = [
    "TiffOptions",
    "check_tile_size",
    "ome_xml",
    "partial_file",
    "write_pyramid",
]

_SOFTWARE = f"dlpr-wsi {dlpr.__version__}"
_BUFFER = 1 << 25  # bytes of tiles that wait to be compressed
_TILE_UNIT = 16  # the TIFF specification wants tile sides to be multiples of it


@dataclass(frozen=True)
class TiffOptions:
    """How the tiles of a file are compressed, in tifffile's terms.

    Parameters
    ----------
    compression : str or int
        tifffile's name or value.
    arguments : mapping
        For the encoder.
    predictor : bool
        Horizontal differencing.
    subsampling : tuple of int or None
        Of chroma, for JPEG.
    threads : int
        Threads that compress.
    """

    compression: str | int
    arguments: Mapping[str, Any]
    predictor: bool = False
    subsampling: tuple[int, int] | None = None
    threads: int = 1


@contextmanager
def partial_file(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary name beside ``out``; the file takes its name when the block ends without an error.

    What is written is on the disk before it has the name. After an error nothing is left.
    """
    check_destination(out, overwrite=overwrite)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)
    except OSError as error:
        raise ArchiveError(f"{out}: its folder cannot be written ({error.strerror})") from error
    partial = Path(name)
    try:
        os.fchmod(handle, 0o666 & ~_umask())  # mkstemp makes it private, an image is not
        os.close(handle)
        try:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            if error.filename is None:  # reading names its file, writing does not
                raise ArchiveError(f"{out}: cannot be written ({error.strerror or error})") from error
            raise
        check_destination(out, overwrite=overwrite)
        partial.replace(out)
        sync_folder(out.parent)
    finally:
        partial.unlink(missing_ok=True)


def check_tile_size(width: int, height: int, option: str) -> None:
    """Raise UsageError, which blames ``option``, unless TIFF allows tiles of this size in px."""
    if width % _TILE_UNIT or height % _TILE_UNIT:
        raise UsageError(
            option,
            f"TIFF tiles have sides that are multiples of {_TILE_UNIT} px, these chunks have {width} x {height} px; "
            "convert with another --tile, or to .zarr",
        )


def write_pyramid(
    path: Path,
    archive: Archive,
    tiles: Callable[[int, int], Iterable[Any]],
    options: Callable[[int], TiffOptions],
    *,
    facts: Mapping[str, Any],
    hashes: Callable[[int, int], bytes] | None = None,
    subifds: bool = True,
    first_tags: Sequence[tuple[Any, ...]] = (),
    description: str | None = None,
) -> None:
    """Write all levels of an archive into a new file.

    An RGB picture is one page; an image of channels has a page for each, as OME-TIFF wants it (axes CYX).

    Parameters
    ----------
    path : Path
        The file.
    archive : Archive
        Gives the levels, resolution and colour profile.
    tiles : callable
        Takes a level and a channel (0 for RGB) and yields its tiles row by row: compressed bytes, or (h, w, 3) or
        (h, w, 1) arrays. It is called channel by channel, in each for level after level.
    options : callable
        Takes a level and returns how its tiles are, or shall be, compressed.
    facts : mapping
        JSON to keep in the OME annotation.
    hashes : callable, optional
        Takes a level and a channel and returns the content of `TAG_HASHES`.
    subifds : bool, default True
        Lower levels as SubIFDs of each page, as OME-TIFF has them; else as pages of their own, which is where
        OpenSlide looks, and no OME-XML, which knows no such levels. RGB only.
    first_tags : sequence of tuple
        More tags for the first page, as tifffile's ``extratags``.
    description : str, optional
        ImageDescription of the first page where levels are pages, plain ASCII; with SubIFDs it is the OME-XML.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        Tiles are not of a size that TIFF allows.
    """
    tifffile = require_tifffile()
    for level in archive.levels:
        check_tile_size(level.tile_width, level.tile_height, "ARCHIVE")
    rgb = archive.channels is None
    planes = [(channel, level) for channel in range(archive.levels[0].stack) for level in archive.levels]
    with tifffile.TiffWriter(path, bigtiff=True, byteorder="<") as writer:
        for channel, level in planes:
            first, how = level.index == 0, options(level.index)
            about = None
            if first and channel == 0:
                about = ome_xml(archive, facts) if subifds else description
            resolution = None
            if archive.mpp is not None:
                resolution = tuple(1e4 / (mpp * level.downsample) for mpp in archive.mpp)
            extratags: list[tuple[Any, ...]] = []
            if hashes is not None:
                data = hashes(level.index, channel)
                extratags.append((TAG_HASHES, 7, len(data), data, True))
            if hashes is not None and first and channel == 0 and level.prior:
                data = level.prior.data
                extratags.append((CodecOptions.TIFF_PRIOR_TAG, 7, len(data), data, True))
            carried = tuple(dict.fromkeys(one for other in archive.levels for one in other.tuned))
            if hashes is not None and first and channel == 0 and carried:
                data = CodecOptions.tuned_to_tiff(carried)
                extratags.append((CodecOptions.TIFF_TUNED_TAG, 7, len(data), data, True))
            if first and channel == 0:
                extratags += first_tags
            writer.write(
                iter(tiles(level.index, channel)),
                shape=(level.height, level.width, 3) if rgb else (level.height, level.width),
                dtype="uint8",
                tile=(level.tile_height, level.tile_width),
                photometric="rgb" if rgb else "minisblack",
                planarconfig="contig" if rgb else None,
                subsampling=how.subsampling,
                compression=how.compression,
                compressionargs=dict(how.arguments) or None,
                predictor=how.predictor,
                subifds=len(archive.levels) - 1 if first and subifds else None,
                subfiletype=0 if first else 1,
                iccprofile=archive.icc_profile,
                resolution=resolution,
                resolutionunit=None if resolution is None else "CENTIMETER",
                description=about,
                metadata=None,
                software=_SOFTWARE,
                extratags=extratags,
                maxworkers=how.threads,
                buffersize=_BUFFER,
            )


def ome_xml(archive: Archive, facts: Mapping[str, Any]) -> str:
    """Return OME-XML for an archive: pixels, resolution, magnification and facts; nothing about the patient.

    Plain ASCII, as the tag ImageDescription wants.
    """
    level = archive.levels[0]
    size = ""
    if archive.mpp is not None:
        for axis, mpp in zip("XY", archive.mpp, strict=True):
            size += f' PhysicalSize{axis}="{mpp!r}" PhysicalSize{axis}Unit="&#181;m"'
    power = archive.facts.get("objective_power")
    instrument = reference = ""
    if isinstance(power, int | float) and power > 0:
        instrument = (
            '<Instrument ID="Instrument:0">'
            f'<Objective ID="Objective:0" NominalMagnification="{float(power)!r}"/></Instrument>'
        )
        reference = '<InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="Objective:0"/>'
    text = escape(json.dumps(dict(facts), sort_keys=True, ensure_ascii=True))
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{namespace}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{namespace} {namespace}/ome.xsd" Creator={quoteattr(_SOFTWARE)}>{instrument}'
        f'<Image ID="Image:0" Name="slide">{reference}'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{level.width}" SizeY="{level.height}" '
        f'SizeC="{archive.samples}" SizeZ="1" SizeT="1" Interleaved="{str(archive.channels is None).lower()}" '
        f'BigEndian="false"{size}>{_channels_xml(archive.channels)}</Pixels>'
        '<AnnotationRef ID="Annotation:0"/></Image>'
        f'<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace={quoteattr(NAMESPACE)}>'
        f"<Value>{text}</Value></CommentAnnotation></StructuredAnnotations></OME>"
    )


def _channels_xml(channels: Sequence[Channel] | None) -> str:
    """Return the elements Channel and TiffData: three samples on one page, or one page for each channel."""
    if channels is None:
        return '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/>'
    described = placed = ""
    for number, channel in enumerate(channels):
        red, green, blue = channel.colour
        colour = int.from_bytes((red, green, blue, 255), signed=True)  # OME's Color: RGBA as a signed number
        name = quoteattr(channel.name).encode("ascii", "xmlcharrefreplace").decode()
        described += f'<Channel ID="Channel:0:{number}" Name={name} Color="{colour}" SamplesPerPixel="1"/>'
        placed += f'<TiffData FirstC="{number}" FirstZ="0" FirstT="0" IFD="{number}" PlaneCount="1"/>'
    return described + placed


def _umask() -> int:
    """Return the process's umask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
