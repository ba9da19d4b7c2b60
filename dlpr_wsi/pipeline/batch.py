"""Many slides, one after another; a slide that fails does not stop the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlpr.errors import DlprError
from dlpr_wsi.errors import UsageError, WsiError
from dlpr_wsi.pipeline.convert import ConvertReport
from dlpr_wsi.sources import IMAGE_SUFFIXES
from dlpr_wsi.sources.archive import is_zarr

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

    Raises
    ------
    dlpr_wsi.errors.UsageError
        Such a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir() or is_zarr(path):
            found.append(path)
            continue
        inside = sorted(
            entry
            for entry in path.iterdir()
            if (entry.is_file() and entry.suffix.lower() in _SLIDE_SUFFIXES | IMAGE_SUFFIXES)
            or (entry.is_dir() and not entry.name.startswith(".") and is_zarr(entry))
        )
        if not inside:
            raise UsageError("SLIDE", f"the folder {path} holds no slides or images")
        found.extend(inside)
    return found


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
    stems = Counter(slide.stem for slide in slides)
    outs = [folder / ((slide.stem if stems[slide.stem] == 1 else slide.name) + suffix) for slide in slides]
    twice = [out for out, count in Counter(outs).items() if count > 1]
    if twice:
        raise UsageError("SLIDE", f"two slides would both become {twice[0]}; convert them to different folders")
    return outs


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
