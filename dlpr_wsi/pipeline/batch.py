"""Many slides, one after another; a slide that fails does not stop the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlpr.errors import DlprError
from dlpr_wsi.errors import UsageError, WsiError
from dlpr_wsi.pipeline.convert import ConvertReport
from dlpr_wsi.sources import IMAGE_SUFFIXES
from dlpr_wsi.sources.archive import is_zarr
from dlpr_wsi.sources.dicom import group_series, is_dicom

__all__ = ["BatchRow", "convert_batch", "expand", "name_outputs"]

_SLIDE_SUFFIXES = frozenset(
    {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".dcm", ".tif", ".tiff", ".vms", ".vmu", ".svslide", ".czi"}
)


@dataclass(frozen=True)
class BatchRow:
    """What became of a slide.

    Parameters
    ----------
    slide, out : Path
        From what to what.
    report : ConvertReport or None
        None where it failed.
    error : str
        Why it failed; empty where it did not.
    """

    slide: Path
    out: Path
    report: ConvertReport | None
    error: str = ""


def expand(paths: Sequence[Path]) -> list[Path]:
    """Replace folders that are no slides themselves by the slides and images in them, sorted by name.

    Slides, images and Zarr folders are taken from the folder itself, DICOM files, whatever they are called, from the
    folders in it too. The files of a DICOM series in one folder are one slide: that folder where it holds nothing else,
    otherwise the series' first file.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        Such a folder holds none.
    dlpr_wsi.errors.MissingDependencyError
        There are DICOM files, and pydicom is not installed.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir() or is_zarr(path):
            found.append(path)
            continue
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        dicom = {entry for entry in entries if _is_dicom(entry)}
        inside = [
            entry
            for entry in entries
            if (entry.is_file() and entry.suffix.lower() in _SLIDE_SUFFIXES | IMAGE_SUFFIXES and entry not in dicom)
            or (entry.is_dir() and is_zarr(entry))
        ]
        jobs = _dicom_jobs(dicom, whole=None if inside else path)
        for folder, files in _dicom_below(entries):
            jobs += _dicom_jobs(files, whole=folder)
        inside = sorted([*inside, *jobs])
        if not inside:
            raise UsageError("SLIDE", f"the folder {path} holds no slides or images")
        found.extend(inside)
    return found


def _is_dicom(path: Path) -> bool:
    """Tell whether a path is a DICOM file; of one named as another kind of slide or image, its name is believed."""
    suffix = path.suffix.lower()
    return path.is_file() and (suffix == ".dcm" or suffix not in _SLIDE_SUFFIXES | IMAGE_SUFFIXES) and is_dicom(path)


def _dicom_below(entries: Iterable[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the folders under some entries that hold DICOM files, with these; Zarr folders are not entered."""
    todo = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
    while todo:
        folder = todo.pop()
        if is_zarr(folder):
            continue
        inside = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        files = [entry for entry in inside if _is_dicom(entry)]
        if files:
            yield folder, files
        todo += [entry for entry in inside if entry.is_dir() and not entry.is_symlink()]


def _dicom_jobs(files: Collection[Path], whole: Path | None) -> list[Path]:
    """Return what stands for each slide among the DICOM files of one folder.

    Series without a level (labels, other pictures of a study) are passed over beside slides; where there is no slide
    they are jobs that will fail by their reason. ``whole`` stands for the folder's slide where there is one.
    """
    if not files:
        return []
    found = group_series(files)
    slides = [series for series in found if series.is_slide] or found
    if whole is not None and len(slides) == 1 and slides[0].is_slide:
        return [whole]
    return [series.entry.path for series in slides] or [file for file in files if file.suffix.lower() == ".dcm"]


def name_outputs(slides: Sequence[Path], folder: Path, suffix: str) -> list[Path]:
    """Name an archive after each slide; where two would have the same name, after the whole file name.

    Examples
    --------
    >>> [p.name for p in name_outputs([Path("a.svs"), Path("b.svs"), Path("b.tif")], Path("."), ".zarr")]
    ['a.zarr', 'b.svs.zarr', 'b.tif.zarr']

    Raises
    ------
    dlpr_wsi.errors.UsageError
        Two slides have the same file name.
    """
    stems = Counter(_stem(slide) for slide in slides)
    outs = [folder / ((_stem(slide) if stems[_stem(slide)] == 1 else slide.name) + suffix) for slide in slides]
    twice = [out for out, count in Counter(outs).items() if count > 1]
    if twice:
        raise UsageError("SLIDE", f"two slides would both become {twice[0]}; convert them to different folders")
    return outs


def _stem(slide: Path) -> str:
    """A name without its suffix; the numbers of a DICOM identifier are none."""
    return slide.name if re.fullmatch(r"\.[0-9]+", slide.suffix) else slide.stem


def convert_batch(
    jobs: Iterable[tuple[Path, Path]],
    one: Callable[[Path, Path], ConvertReport],
    on_row: Callable[[BatchRow], None] | None = None,
) -> list[BatchRow]:
    """Convert slides one after another.

    Parameters
    ----------
    jobs : iterable of (Path, Path)
        Slide and archive.
    one : callable
        Converts a slide to an archive.
    on_row : callable, optional
        Told of every slide that is done or has failed.
    """
    rows = []
    for slide, out in jobs:
        try:
            row = BatchRow(slide, out, one(slide, out))
        except (WsiError, DlprError, OSError) as error:
            row = BatchRow(slide, out, None, str(error))
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows
