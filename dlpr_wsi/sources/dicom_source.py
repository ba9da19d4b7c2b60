"""DICOM slides through OpenSlide: a file of a series, or the folder that holds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dlpr_wsi.errors import UsageError
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.dicom import slide_series
from dlpr_wsi.sources.openslide import OpenSlideSource

__all__ = ["DicomSource"]


class DicomSource(OpenSlideSource):
    """All files of one series in one folder, as one slide.

    Parameters
    ----------
    path : Path
        Any file of the series, or a folder with the files of one slide.
    selection : Selection, optional
        There is nothing to choose: numbers other than 0 are refused.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        pydicom or OpenSlide is not installed.
    dlpr_wsi.errors.SourceError
        The files are no whole-slide image, or one that OpenSlide cannot read, by its reason.
    dlpr_wsi.errors.UsageError
        Another image, page, plane or time than the first is asked for.
    """

    def __init__(self, path: Path, selection: Selection | None = None) -> None:
        for name, number in (selection or Selection()).to_json().items():
            if number:
                raise UsageError(f"--{name}", f"{number}: a DICOM slide has one, number 0")
        series = slide_series(path)
        notes = series.notes()
        super().__init__(series.entry.path if path.is_dir() else path)
        size = sum(instance.path.stat().st_size for instance in series.instances)
        self._facts = replace(self._facts, name=path.name, file_bytes=size, notes=(*self._facts.notes, *notes))
