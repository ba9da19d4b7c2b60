"""DICOM whole-slide images: which files are one slide, and why OpenSlide cannot read one.

A slide is a series: one file (instance) for each level, and one each for label, overview and thumbnail. OpenSlide opens
a series by any of its files and finds the others in the same folder. pydicom reads headers here, never pixels.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import MissingDependencyError, SourceError

__all__ = ["Instance", "Series", "group_series", "holds_dicom", "is_dicom", "slide_series"]

_WSM = "1.2.840.10008.5.1.4.1.1.77.1.6"
_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR: an index of files
_INDEX = "a DICOMDIR, an index of other files"
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


@dataclass(frozen=True)
class Series:
    """Files of one series in one folder.

    Parameters
    ----------
    instances : tuple of Instance
        Sorted by path.
    damaged : tuple of Path
        DICOM files of the folder whose header cannot be read: they may belong to the series.
    """

    instances: tuple[Instance, ...]
    damaged: tuple[Path, ...] = ()

    @property
    def entry(self) -> Instance:
        """The file that stands for the series: its first level by name, else its first file."""
        return next((instance for instance in self.instances if instance.flavour == "VOLUME"), self.instances[0])

    @property
    def is_slide(self) -> bool:
        """Whether it holds a level of a slide."""
        return any(instance.flavour == "VOLUME" for instance in self.instances)

    def notes(self) -> tuple[str, ...]:
        """Say what OpenSlide leaves out.

        Raises
        ------
        dlpr_wsi.errors.SourceError
            OpenSlide cannot read the series, or not its largest picture.
        """
        if self.damaged:
            raise SourceError(
                f"{self.damaged[0]}: its DICOM header cannot be read, and it may be a level of the slide: move it out "
                "of the folder if it is not"
            )
        sizes: dict[tuple[object, ...], str] = {}
        for instance in self.instances:
            if instance.reason and (instance.is_level or instance is self.entry):
                raise SourceError(f"{instance.path}: {instance.reason}")
            if instance.reason and instance.is_associated:
                raise SourceError(
                    f"{instance.path}: {instance.reason}. It is no level of the slide ({instance.flavour}): move it "
                    "out of the folder"
                )
            if not (instance.is_level or instance.is_associated):
                continue
            place = (instance.width, instance.height) if instance.is_level else (instance.flavour,)
            if sizes.setdefault(place, instance.uid) != instance.uid:
                what = "levels of the same size" if instance.is_level else f"{instance.flavour} images"
                raise SourceError(
                    f"{instance.path}: two {what} in one series (focal planes, or slides mixed up): move the files of "
                    "one to a folder of their own"
                )
        levels = [instance for instance in self.instances if instance.is_level]
        if not levels:
            raise SourceError(
                f"{self.entry.path}: the series has no level that OpenSlide takes (ImageType "
                "ORIGINAL or DERIVED, PRIMARY, VOLUME, NONE or RESAMPLED)"
            )
        largest = max(levels, key=lambda level: level.width * level.height)
        left_out = [instance for instance in self.instances if instance.flavour == "VOLUME" and not instance.is_level]
        for instance in left_out:
            if instance.width * instance.height > largest.width * largest.height:
                raise SourceError(
                    f"{instance.path}: the largest picture of the series has an ImageType that OpenSlide passes over"
                )
        notes = []
        if left_out:
            notes.append(f"{len(left_out)} DICOM files of the series have an ImageType that OpenSlide passes over")
        if largest.image_type[-1] == "RESAMPLED":
            notes.append("the largest picture of the DICOM series is marked as resampled: a larger one may be missing")
        return tuple(notes)


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


def holds_dicom(folder: Path) -> bool:
    """Tell whether a folder itself, without those in it, holds a DICOM file."""
    return any(is_dicom(entry) for entry in _files(folder))


def slide_series(path: Path) -> Series:
    """Return the series that a file belongs to, or the only slide of a folder.

    Parameters
    ----------
    path : Path
        A DICOM file, or a folder of some.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        pydicom is not installed.
    dlpr_wsi.errors.SourceError
        The file's header is damaged; the folder holds no slide, or several.
    """
    if not path.is_dir():
        own = _read(path)
        if not own.slide:
            return Series((own,))
        others = [file for file in _files(path.parent) if file.name != path.name and is_dicom(file)]
        read, damaged = _read_all(others)
        mine = [other for other in read if other.slide and other.series == own.series]
        return Series(tuple(sorted([own, *mine], key=lambda instance: instance.path)), damaged)
    found = group_series(file for file in _files(path) if is_dicom(file))
    slides = [series for series in found if series.is_slide]
    if len(slides) > 1:
        raise SourceError(
            f"{path}: a folder of {len(slides)} DICOM slides (series): name one file of a slide, or convert all with "
            "--out DIR"
        )
    if not slides:
        reason = found[0].entry.reason if found else "no file in it has a DICOM header that can be read"
        raise SourceError(f"{path}: no DICOM slide in the folder ({reason or 'no level among its files'})")
    return slides[0]


def group_series(files: Iterable[Path]) -> list[Series]:
    """Group DICOM files by folder and series; files whose header cannot be read, and DICOMDIR, are left out.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        pydicom is not installed.
    """
    groups: dict[tuple[Path, str], list[Instance]] = defaultdict(list)
    read, damaged = _read_all(files)
    for instance in read:
        groups[instance.path.parent, instance.series].append(instance)
    return sorted(
        (
            Series(
                tuple(sorted(group, key=lambda instance: instance.path)),
                tuple(file for file in damaged if file.parent == folder),
            )
            for (folder, _), group in groups.items()
        ),
        key=lambda series: series.entry.path,
    )


def _files(folder: Path) -> Iterable[Path]:
    """Files of a folder, hidden ones apart."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    return [folder / name for name in names]


def _read_all(files: Iterable[Path]) -> tuple[list[Instance], tuple[Path, ...]]:
    """Read headers, DICOMDIR left out; return the files whose header is damaged beside them."""
    read, damaged = [], []
    for file in files:
        try:
            instance = _read(file)
        except MissingDependencyError:
            raise
        except SourceError:
            damaged.append(file)
            continue
        if instance.reason != _INDEX:
            read.append(instance)
    return read, tuple(damaged)


def _read(path: Path) -> Instance:
    """Read a header up to the functional groups."""
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
                reason=next(_reasons(header, sop, str(meta.get("TransferSyntaxUID", ""))), ""),
            )
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise SourceError(f"{path}: its DICOM header cannot be read ({type(error).__name__})") from error


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
        yield _INDEX
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
