"""DICOM whole-slide images: which files are one slide.

A slide is a series: one file (instance) for each level, and one each for label, overview and thumbnail. OpenSlide opens
a series by any of its files and finds the others in the same folder.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dlpr_wsi.errors import MissingDependencyError, SourceError
from dlpr_wsi.sources.dicom_header import INDEX, Instance, is_dicom, misplaced, read_header

__all__ = ["Instance", "Series", "group_series", "holds_dicom", "is_dicom", "slide_series"]


@dataclass(frozen=True)
class Series:
    """Files of one series in one folder.

    Parameters
    ----------
    instances : tuple of Instance
        Sorted by path.
    damaged : tuple of Path
        DICOM files of the folder whose header cannot be read: they may belong to the series.
    others : int
        Files of other series, none of them a slide, in a folder that stands for this slide.
    """

    instances: tuple[Instance, ...]
    damaged: tuple[Path, ...] = ()
    others: int = 0

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
            OpenSlide cannot read the series, or not its largest picture, or would read it wrongly.
        """
        if self.damaged:
            raise SourceError(
                f"{self.damaged[0]}: its DICOM header cannot be read, and it may be a level of the slide: move it out "
                "of the folder if it is not"
            )
        self._refuse_unreadable()
        self._refuse_twins()
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
        if self.others:
            notes.append(f"DICOM files of other series in the folder, no part of the slide and left out: {self.others}")
        if left_out:
            notes.append(f"DICOM files of the series whose ImageType OpenSlide passes over, left out: {len(left_out)}")
        if largest.image_type[-1] == "RESAMPLED":
            notes.append("the largest picture of the DICOM series is marked as resampled: a larger one may be missing")
        return tuple(notes)

    def _refuse_unreadable(self) -> None:
        """Refuse files that OpenSlide would refuse the series for, or read wrongly."""
        for instance in self.instances:
            reason = instance.reason
            if instance.is_level and not reason and not instance.regular:
                status = instance.path.stat()
                reason = misplaced(instance.path, status.st_size, status.st_mtime_ns)
            if reason and (instance.is_level or instance is self.entry):
                raise SourceError(f"{instance.path}: {reason}")
            if reason and instance.is_associated:
                raise SourceError(
                    f"{instance.path}: {reason}. It is no level of the slide ({instance.flavour}): move it out of the "
                    "folder"
                )

    def _refuse_twins(self) -> None:
        """Refuse two files for one place; a copy of the same instance does no harm."""
        places: dict[tuple[object, ...], str] = {}
        for instance in self.instances:
            if not (instance.is_level or instance.is_associated):
                continue
            place = (instance.width, instance.height) if instance.is_level else (instance.flavour,)
            if places.setdefault(place, instance.uid) != instance.uid:
                what = "levels of the same size" if instance.is_level else f"{instance.flavour} images"
                raise SourceError(
                    f"{instance.path}: two {what} in one series (focal planes, or slides mixed up): move the files of "
                    "one to a folder of their own"
                )


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
        own = read_header(path)
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
    return replace(slides[0], others=sum(len(series.instances) for series in found) - len(slides[0].instances))


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
            instance = read_header(file)
        except MissingDependencyError:
            raise
        except SourceError:
            damaged.append(file)
            continue
        if instance.reason != INDEX:
            read.append(instance)
    return read, tuple(damaged)
