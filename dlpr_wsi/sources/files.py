"""Which files a slide consists of.

Most slides are one file. MIRAX keeps its pixels in a folder beside the named file, Hamamatsu's VMS and VMU name
theirs in the file, DICOM keeps one file for each level and each associated image, Zarr is a folder.
"""

from __future__ import annotations

from pathlib import Path

from dlpr_wsi.sources.archive import is_zarr
from dlpr_wsi.sources.dicom import holds_dicom, is_dicom, slide_series

__all__ = ["is_mirax", "slide_bytes", "slide_files"]

_MAX_INDEX = 1 << 20  # bytes of a VMS or VMU file, which lists names


def slide_files(path: Path) -> tuple[Path, ...]:
    """Return all files of a slide, the named one first where one is named, the others sorted.

    Parameters
    ----------
    path : Path
        What is given to `dlpr_wsi.sources.opening.open_source`: a file, or a folder.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A DICOM folder holds no slide, or several.
    OSError
        A folder or an index file cannot be read.
    """
    if path.is_dir():
        if not is_zarr(path) and holds_dicom(path):
            return tuple(instance.path for instance in slide_series(path).instances)
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    suffix = path.suffix.lower()
    beside: set[Path] = set()
    if suffix == ".mrxs" and path.with_suffix("").is_dir():
        beside = {file for file in path.with_suffix("").rglob("*") if file.is_file()}
    elif suffix in (".vms", ".vmu"):
        beside = _listed(path)
    elif is_dicom(path):
        beside = {instance.path for instance in slide_series(path).instances}
    return (path, *sorted(beside - {path}))


def is_mirax(path: Path) -> bool:
    """Tell whether a file names a MIRAX slide; its own bytes are a small JPEG, as of any picture."""
    return path.suffix.lower() == ".mrxs" and (path.with_suffix("") / "Slidedat.ini").is_file()


def slide_bytes(path: Path) -> int:
    """Return the size of all files of a slide."""
    return sum(file.stat().st_size for file in slide_files(path))


def _listed(path: Path) -> set[Path]:
    """Files in the folder of a VMS or VMU file that one of its ``key=name`` lines names."""
    with path.open("rb") as file:
        text = file.read(_MAX_INDEX).decode("utf-8", "replace")
    names = {value.strip() for _, found, value in (line.partition("=") for line in text.splitlines()) if found}
    plain = {name for name in names if name and "\0" not in name and Path(name).name == name and len(name) < 256}
    return {path.parent / name for name in plain if (path.parent / name).is_file()}
