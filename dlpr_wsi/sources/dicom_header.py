"""The headers of DICOM files: what a file is, and why OpenSlide cannot read it or would read it wrongly.

pydicom reads them; pixels are not touched.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import MissingDependencyError, SourceError

__all__ = ["INDEX", "Instance", "is_dicom", "misplaced", "read_header"]

_WSM = "1.2.840.10008.5.1.4.1.1.77.1.6"
_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR: an index of files
INDEX = "a DICOMDIR, an index of other files"
_PER_FRAME = 0x52009230
_AFTER_HEADER = 0x52000000  # functional groups of frames, which can be long, and pixels
_SYNTAXES = {  # transfer syntaxes that OpenSlide decodes, with the colour spaces that it takes
    "1.2.840.10008.1.2.1": ("RGB",),
    "1.2.840.10008.1.2.4.50": ("YBR_FULL_422", "RGB"),
    "1.2.840.10008.1.2.4.90": ("YBR_ICT", "RGB"),
    "1.2.840.10008.1.2.4.91": ("YBR_ICT", "RGB"),
}
_LEVELS = (
    ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"),
    ("DERIVED", "PRIMARY", "VOLUME", "NONE"),
    ("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"),
)
_ASSOCIATED = (("LABEL", "NONE"), ("OVERVIEW", "NONE"), ("THUMBNAIL", "RESAMPLED"))
_WANTED = (
    ("BitsAllocated", 8, "{} bits a sample: 8 are read, and nothing is cut to that"),
    ("BitsStored", 8, "{} bits a sample (BitsStored): 8 are read"),
    ("HighBit", 7, "samples whose HighBit is {}: 7 is read"),
    ("PixelRepresentation", 0, "signed samples"),
    ("SamplesPerPixel", 3, "{} sample a px (SamplesPerPixel): read is RGB"),
    ("PlanarConfiguration", 0, "colours in planes (PlanarConfiguration {})"),
    ("TotalPixelMatrixFocalPlanes", 1, "{} focal planes: OpenSlide reads files of one"),
    ("NumberOfOpticalPaths", 1, "{} optical paths: OpenSlide reads files of one"),
)
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "DimensionOrganizationType",
    "SeriesInstanceUID",
    "ConcatenationUID",
    "InConcatenationTotalNumber",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixFocalPlanes",
    "NumberOfOpticalPaths",
]


@dataclass(frozen=True)
class Instance:
    """The header of one DICOM file.

    Parameters
    ----------
    path : Path
        The file.
    series, uid : str
        SeriesInstanceUID and SOPInstanceUID. Never shown: they can lead to the patient.
    slide : bool
        Whether it is a whole-slide image.
    image_type : tuple of str
        ImageType.
    width, height : int
        Of the whole picture in px; 0 where it is not given.
    regular : bool
        Whether its frames are the tiles, one after another (TILED_FULL).
    reason : str
        Why OpenSlide cannot read it, empty where it can.
    """

    path: Path
    series: str
    uid: str
    slide: bool
    image_type: tuple[str, ...]
    width: int
    height: int
    regular: bool
    reason: str

    @property
    def flavour(self) -> str:
        """VOLUME for a level; LABEL, OVERVIEW, THUMBNAIL."""
        return self.image_type[2] if self.slide and len(self.image_type) > 2 else ""

    @property
    def is_level(self) -> bool:
        """Whether OpenSlide takes it as a level."""
        return self.slide and self.image_type in _LEVELS

    @property
    def is_associated(self) -> bool:
        """Whether OpenSlide takes it as a label, macro image or thumbnail."""
        return self.slide and self.image_type[1:2] == ("PRIMARY",) and self.image_type[2:] in _ASSOCIATED


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM by its magic number; a TIFF named as such that is DICOM too counts as TIFF."""
    if path.suffix.lower() in (".tif", ".tiff"):
        return False
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Instance:
    """Read a file's header up to the functional groups of its frames.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        pydicom is not installed.
    dlpr_wsi.errors.SourceError
        The header is damaged.
    """
    try:
        from pydicom.config import disable_value_validation
        from pydicom.filereader import read_partial
    except ImportError as error:
        raise MissingDependencyError("pydicom", "wsi") from error
    try:
        # pydicom warns of values that break the rules and would show them: they are judged here
        with path.open("rb") as file, warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            reached: list[int] = []
            header = read_partial(file, stop_when=lambda tag, vr, size: _is_end(tag, reached), specific_tags=_tags())
            meta = header.file_meta
            sop = str(meta.get("MediaStorageSOPClassUID", header.get("SOPClassUID", "")))
            if sop == _WSM and not reached:
                raise EOFError("the file ends inside its header")
            kind = header.get("ImageType") or ()
            return Instance(
                path=path,
                series=str(header.get("SeriesInstanceUID", "")),
                uid=str(header.get("SOPInstanceUID", "")),
                slide=sop == _WSM,
                image_type=(kind,) if isinstance(kind, str) else tuple(str(word) for word in kind),
                width=_number(header, "TotalPixelMatrixColumns") or 0,
                height=_number(header, "TotalPixelMatrixRows") or 0,
                regular=header.get("DimensionOrganizationType") == "TILED_FULL",
                reason=next(_reasons(header, sop, str(meta.get("TransferSyntaxUID", ""))), ""),
            )
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise SourceError(f"{path}: its DICOM header cannot be read ({type(error).__name__})") from error


@lru_cache(maxsize=256)
def misplaced(path: Path, size: int, changed: int) -> str:
    """Say why frames that tell their own positions (TILED_SPARSE) do not make one picture; empty where they do.

    OpenSlide takes a frame for the tile that its position lies in: one between two tiles would be drawn in the wrong
    place, and of two in one tile one would be lost. The file's size and time of change are there for the cache.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The positions cannot be read.
    """
    del size, changed
    from pydicom.config import disable_value_validation
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    tags: list[Any] = [Tag("Rows"), Tag("Columns"), Tag("PerFrameFunctionalGroupsSequence")]
    try:
        with path.open("rb") as file, warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            header = read_partial(file, stop_when=lambda tag, vr, size: int(tag) > _PER_FRAME, specific_tags=tags)
            seen: set[tuple[int, int]] = set()
            for frame in header.get("PerFrameFunctionalGroupsSequence") or ():
                place = frame.PlanePositionSlideSequence[0]
                x = int(place.ColumnPositionInTotalImagePixelMatrix) - 1
                y = int(place.RowPositionInTotalImagePixelMatrix) - 1
                if x % header.Columns or y % header.Rows:
                    return "frames that do not lie on one grid of tiles (TILED_SPARSE): OpenSlide would move them"
                if (x, y) in seen:
                    return "several frames in one place (focal planes, optical paths or overlaps): OpenSlide reads one"
                seen.add((x, y))
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise SourceError(f"{path}: the positions of its frames cannot be read ({type(error).__name__})") from error
    return ""


def _is_end(tag: int, reached: list[int]) -> bool:
    """Tell whether the header is over, and record that it is; a file that was cut off never gets there."""
    over = int(tag) >= _AFTER_HEADER
    if over:
        reached.append(int(tag))
    return over


def _tags() -> list[Any]:
    """The tags that are read."""
    from pydicom.datadict import tag_for_keyword

    return [tag for tag in map(tag_for_keyword, _TAGS) if tag is not None]


def _number(header: Any, name: str) -> int | None:
    """An integer of the header, None where it is absent."""
    value = header.get(name)
    return None if value is None or value == "" else int(value)


def _reasons(header: Any, sop: str, syntax: str) -> Iterator[str]:
    """Say why OpenSlide cannot read a file as part of a slide, or would read it wrongly; the first reason counts."""
    if sop == _DIRECTORY:
        yield INDEX
    if sop != _WSM:
        yield f"DICOM of another kind ({_uid_name(sop)}), no whole-slide image"
    parts = _number(header, "InConcatenationTotalNumber")
    if header.get("ConcatenationUID") is not None and parts != 1:
        of = f" of {parts}" if parts else ""
        yield f"one part{of} of a DICOM concatenation: join the parts to one file"
    for name, wanted, text in _WANTED:
        value = _number(header, name)
        if value is not None and value != wanted:
            yield text.format(value)
    if syntax not in _SYNTAXES:
        yield f"pixels coded as {_uid_name(syntax)}: OpenSlide reads uncompressed, JPEG baseline and JPEG 2000"
    colours = str(header.get("PhotometricInterpretation", ""))
    if colours not in _SYNTAXES.get(syntax, ()):
        shown = colours if re.fullmatch(r"[A-Z0-9_]{1,16}", colours) else "that are not known"
        yield f"colours {shown} (PhotometricInterpretation) in {_uid_name(syntax)}: OpenSlide does not read them"
    sizes = [_number(header, name) for name in ("TotalPixelMatrixColumns", "TotalPixelMatrixRows", "Columns", "Rows")]
    if any(size is None or size < 1 for size in sizes):
        yield "a DICOM file without the size of its picture or of its frames"
    width, height, columns, rows = (max(size or 1, 1) for size in sizes)
    tiles, frames = -(-width // columns) * -(-height // rows), _number(header, "NumberOfFrames") or 1
    if frames > tiles:
        yield f"{frames} frames for {tiles} tiles: several focal planes or optical paths, and OpenSlide reads one"


def _uid_name(uid: str) -> str:
    """A standard UID's name; nothing of one that is not in the standard."""
    from pydicom.uid import UID

    name = UID(uid).name
    return "something that is not in the standard" if name == uid else name
