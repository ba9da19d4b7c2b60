"""Which picture of several: the checks behind `dlpr_wsi.sources.Selection`."""

from __future__ import annotations

from pathlib import Path

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Selection

__all__ = ["choose", "only_one"]

_OPTIONS = ("image", "page", "plane", "time")


def choose(path: Path, option: str, given: int | None, count: int, what: str) -> int:
    """Return the number that is meant.

    Parameters
    ----------
    path : Path
        The file, for the message.
    option : str
        Name of the option without dashes.
    given : int or None
        What the user chose.
    count : int
        How many there are, at least 1.
    what : str
        What they are, in the plural ("focal planes").

    Raises
    ------
    dlpr_wsi.errors.SourceError
        There are several and none was chosen, or the choice is out of range.

    Examples
    --------
    >>> choose(Path("a.tif"), "plane", None, 1, "focal planes")
    0
    """
    if given is None:
        if count == 1:
            return 0
        raise SourceError(
            f"{path}: {count} {what}, of which an archive holds one: --{option} N takes one (0..{count - 1})"
        )
    if not 0 <= given < count:
        raise SourceError(f"{path}: --{option} {given} is not there; it has {count} {what} (0..{count - 1})")
    return given


def only_one(path: Path, selection: Selection, *but: str) -> None:
    """Refuse choices other than 0 where there is one thing only; ``but`` names options seen to elsewhere."""
    for option in _OPTIONS:
        if option not in but:
            choose(path, option, getattr(selection, option), 1, f"{option}s to choose from")
