"""Levels that OpenSlide shrinks while it decodes (NDPI, VMS), told from those that are in the file."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["in_file", "left_out"]

_STEP = 8.5
"""How much smaller a level may be than the one above it before a shrunk one is kept in between."""
_SMALL = 1024
"""px; what is no larger needs no smaller level."""


def in_file(dimensions: Sequence[tuple[int, int]], stored: frozenset[int]) -> tuple[int, ...]:
    """Choose the levels that an archive needs: those in the file, and shrunk ones where a step would be too long.

    A shrunk level holds nothing that is not in the file, yet costs as much as a stored one or more: its pixels are no
    JPEG's.

    Parameters
    ----------
    dimensions : sequence of (int, int)
        Width and height of all levels, the largest first.
    stored : frozenset of int
        Those in the file.

    Examples
    --------
    >>> in_file([(4096, 4096), (2048, 2048), (1024, 1024), (512, 512), (256, 256)], frozenset({0, 2}))
    (0, 2)
    >>> in_file([(65536, 65536), (32768, 32768), (16384, 16384), (8192, 8192), (1024, 1024)], frozenset({0, 4}))
    (0, 3, 4)
    """
    if 0 not in stored:  # nothing is known of the file
        return tuple(range(len(dimensions)))
    if len(stored) == 1:  # the pipeline makes levels for a slide of one
        return (0,)
    chosen = [0]
    while chosen[-1] + 1 < len(dimensions):
        width = dimensions[chosen[-1]][0]
        rest = range(chosen[-1] + 1, len(dimensions))
        near = [level for level in rest if dimensions[level][0] * _STEP >= width]
        following = next((level for level in rest if level in stored), None)
        if following is None and max(dimensions[chosen[-1]]) <= _SMALL:
            break
        if following is not None and (following in near or not near):
            chosen.append(following)
        else:
            chosen.append(near[-1] if near else rest[0])
    return tuple(chosen)


def left_out(count: int, shown: Sequence[int]) -> tuple[str, ...]:
    """Say which levels of a reader's are left out.

    Parameters
    ----------
    count : int
        Levels of the reader.
    shown : sequence of int
        Those that are kept.
    """
    missing = sorted(set(range(count)) - set(shown))
    if not missing:
        return ()
    names = ", ".join(str(level) for level in missing)
    return (f"OpenSlide's levels {names} are not in the file, it shrinks others to them; they were left out",)
