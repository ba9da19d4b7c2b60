"""Micrometres per px from what files say about sizes."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["MICROMETRES", "micrometres", "plausible", "resolution"]

_METRE = 1e6
_PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "": 0,
    "d": -1, "c": -2, "m": -3, "µ": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}  # fmt: skip
MICROMETRES = {f"{prefix}m": _METRE * 10.0**power for prefix, power in _PREFIXES.items()}
"""Length units of OME-XML in um, without those of astronomy; "pixel" and "reference frame" are no length."""
MICROMETRES |= {
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "um": 1.0,
    "\N{ANGSTROM SIGN}": 1e-4,
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": 1e-4,
    "in": 25400.0,
    "ft": 304800.0,
    "yd": 914400.0,
    "mi": 1609344000.0,
    "pt": 25400.0 / 72,
    "thou": 25.4,
    "li": 25400.0 / 12,
}
_SMALLEST, _LARGEST = 1e-3, 1e4  # um/px: below is no light microscopy, above no picture of anything small
_RESOLUTION_UNIT = {2: 25400.0, 3: 10000.0}


def plausible(size: float | None) -> float | None:
    """Return a size in um/px if it can be one, else None.

    Examples
    --------
    >>> plausible(0.25), plausible(0.0), plausible(float("nan")), plausible(25400.0)
    (0.25, None, None, None)
    """
    return size if size is not None and math.isfinite(size) and _SMALLEST <= size <= _LARGEST else None


def micrometres(size: str | None, unit: str | None) -> float | None:
    """Return a PhysicalSize of OME-XML in um; None where it is absent, no number, or in a unit that is no length.

    Examples
    --------
    >>> micrometres("250", "nm"), micrometres("0.25", None), micrometres("1", "pixel")
    (0.25, 0.25, None)
    """
    try:
        value = float(size) if size is not None else math.nan
    except ValueError:
        return None
    factor = 1.0 if unit is None else MICROMETRES.get(unit.strip())
    if factor is None:
        return None
    scaled = value * factor if factor >= 1 else value / round(1 / factor)  # 250 nm are 0.25 um, not 0.25000000000000006
    return plausible(scaled)


def resolution(page: Any) -> tuple[float | None, float | None]:
    """Return x and y in um/px from the resolution tags of a TIFF page of tifffile."""
    unit = _RESOLUTION_UNIT.get(_number(page, "ResolutionUnit", 2))
    sizes: list[float | None] = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        try:
            numerator, denominator = tag.value
            size = unit * denominator / numerator if unit is not None and numerator > 1 else None
        except (AttributeError, TypeError, ValueError, ZeroDivisionError):
            size = None
        sizes.append(plausible(size))
    return sizes[0], sizes[1]


def _number(page: Any, name: str, default: int) -> int:
    """Return a tag's value as a number."""
    tag = page.tags.get(name)
    try:
        return default if tag is None else int(tag.value)
    except (TypeError, ValueError):
        return 0
