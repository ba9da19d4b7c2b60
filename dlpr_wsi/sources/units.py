"""Micrometres per px from what files say about sizes."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["micrometres", "plausible", "resolution"]

_PREFIXES = {
    "yotta": 24, "zetta": 21, "exa": 18, "peta": 15, "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2,
    "deca": 1, "": 0, "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12, "femto": -15,
    "atto": -18, "zepto": -21, "yocto": -24,
}  # fmt: skip
_SYMBOLS = {
    "Ym": 24, "Zm": 21, "Em": 18, "Pm": 15, "Tm": 12, "Gm": 9, "Mm": 6, "km": 3, "hm": 2, "dam": 1, "m": 0, "dm": -1,
    "cm": -2, "mm": -3, "um": -6, "nm": -9, "pm": -12, "fm": -15, "am": -18, "zm": -21, "ym": -24,
}  # fmt: skip
_OTHERS = {  # metres, exact but for the parsec
    "angstrom": 1e-10, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144, "mile": 1609.344, "thou": 0.0254e-3,
    "line": 0.0254 / 12, "point": 0.0254 / 72, "micron": 1e-6, "astronomicalunit": 149597870700.0,
    "lightyear": 9460730472580800.0, "parsec": 3.0856775814913673e16,
}  # fmt: skip
_OTHER_SYMBOLS = {
    "\u00c5": "angstrom", "\u212b": "angstrom", "in": "inch", "ft": "foot", "yd": "yard", "mi": "mile", "li": "line",
    "pt": "point", "ua": "astronomicalunit", "ly": "lightyear", "pc": "parsec",
}  # fmt: skip
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


def micrometres(value: float, unit: str | None) -> float | None:
    """Convert a length to micrometres.

    Parameters
    ----------
    value : float
        The length.
    unit : str or None
        Its unit: a name of UDUNITS-2 as OME-Zarr writes it ("nanometer", also "nanometre" and plural), or a symbol as
        OME-XML does ("nm").

    Returns
    -------
    float or None
        None where the unit is no length (pixels, a reference frame) or is missing, or the value is not above 0.

    Examples
    --------
    >>> micrometres(250, "nanometer"), micrometres(0.00025, "mm"), micrometres(1, None)
    (0.25, 0.25, None)
    """
    if unit is None or not math.isfinite(value) or value <= 0:
        return None
    symbol = unit.strip().replace("\u00b5", "u").replace("\u03bc", "u")
    if symbol in _SYMBOLS:
        return _scaled(value, _SYMBOLS[symbol])
    name = _OTHER_SYMBOLS.get(symbol, symbol).lower().replace("metre", "meter").replace("_", "").replace(" ", "")
    name = {"feet": "foot", "inches": "inch"}.get(name, name)
    for word in (name, name.removesuffix("s")):
        if word in _OTHERS:
            return _positive(value * (_OTHERS[word] * 1e6))
        if word.endswith("meter") and word.removesuffix("meter") in _PREFIXES:
            return _scaled(value, _PREFIXES[word.removesuffix("meter")])
    return None


def _scaled(value: float, exponent: int) -> float | None:
    """Metres times a power of ten in micrometres; a division keeps decimal fractions as they are written."""
    power = exponent + 6
    return _positive(value * 10.0**power if power >= 0 else value / 10.0**-power)


def _positive(value: float) -> float | None:
    """A length that is still one after the conversion."""
    return value if math.isfinite(value) and value > 0 else None


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
