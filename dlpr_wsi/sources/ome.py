"""The words of OME metadata: units of length, channels, when three of these are one RGB picture, and OME-XML."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from dlpr_wsi.sources import Channel

__all__ = ["Colour", "OmeXmlImage", "hex_colour", "is_picture", "make_channels", "micrometres", "parse_ome_xml"]

Colour = tuple[int, int, int]

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
_PRIMARIES: tuple[Colour, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_WHITE = (255, 255, 255)
_PALETTE: tuple[Colour, ...] = (*_PRIMARIES, (255, 0, 255), (0, 255, 255), (255, 255, 0), _WHITE)
_PRIMARY_NAMES = (("red", "r"), ("green", "g"), ("blue", "b"))
_NUMBERED = re.compile(r"(ch|channel|c|image|band)?[ _:#-]*[0-9]{0,2}(:[0-9]{1,2})?", re.IGNORECASE)
_MAX_NAME = 64


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


def hex_colour(text: object) -> Colour | None:
    """Parse RRGGBB, an alpha behind it ignored; None if it is nothing of the kind."""
    found = re.fullmatch(r"#?([0-9A-Fa-f]{6})(?:[0-9A-Fa-f]{2})?", text) if isinstance(text, str) else None
    if found is None:
        return None
    red, green, blue = bytes.fromhex(found.group(1))
    return (red, green, blue)


def is_picture(names: Sequence[str | None], colours: Sequence[Colour | None]) -> bool:
    """Tell whether channels are the red, green and blue of one picture.

    So they are where there are three, called or coloured red, green and blue in this order, or neither called nor
    coloured anything (white is no colour). A number is no name ("Channel 0"); other names (stains, wavelengths) say
    that the channels are pictures of their own, whatever their colours.

    Examples
    --------
    >>> is_picture([None] * 3, [None] * 3)
    True
    >>> is_picture(["DAPI", "FITC", "Cy5"], [(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    False
    """
    if len(names) != 3 or len(colours) != 3:
        return False
    said = [None if name is None or _NUMBERED.fullmatch(name.strip()) else name.strip().casefold() for name in names]
    if all(name in words for name, words in zip(said, _PRIMARY_NAMES, strict=True)):
        return True
    if any(name is not None for name in said):
        return False
    return all(colour in (None, _WHITE) for colour in colours) or tuple(colours) == _PRIMARIES


def make_channels(names: Sequence[str | None], colours: Sequence[Colour | None]) -> tuple[Channel, ...]:
    """Return channels with their names and colours; "channel N" and a colour of a palette where the file says nothing.

    Examples
    --------
    >>> make_channels(["DAPI", None], [(0, 0, 255), None])
    (Channel(name='DAPI', colour=(0, 0, 255)), Channel(name='channel 1', colour=(0, 255, 0)))
    """
    alone = len(names) == 1
    channels = []
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        shown = "".join(c for c in name or "" if c.isprintable()).strip()[:_MAX_NAME]
        default = _WHITE if alone else _PALETTE[index % len(_PALETTE)]
        channels.append(Channel(shown or f"channel {index}", default if colour is None else colour))
    return tuple(channels)


@dataclass(frozen=True)
class OmeXmlImage:
    """What OME-XML says about one image.

    Parameters
    ----------
    role : str or None
        "label", "macro", "thumbnail" or "mask" where its name says so. The name itself can show the patient: it is not
        kept.
    named : bool
        Whether it has a name at all.
    mpp_x, mpp_y : float or None
        Micrometres per px.
    names : tuple of str or None
        Of its channels.
    colours : tuple of (int, int, int) or None
        Of its channels.
    samples : tuple of int
        Samples of a px in each channel; 3 is an RGB picture.
    """

    role: str | None
    named: bool
    mpp_x: float | None
    mpp_y: float | None
    names: tuple[str | None, ...]
    colours: tuple[Colour | None, ...]
    samples: tuple[int, ...]


def parse_ome_xml(data: bytes) -> tuple[OmeXmlImage, ...]:
    """Read the images of an OME-XML document, in its order; of any version of the schema.

    Raises
    ------
    ValueError
        No well-formed XML, or one that declares entities.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("the OME-XML declares entities")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"the OME-XML is damaged ({error})") from error
    return tuple(_image(element) for element in root if _tag(element) == "Image")


def _image(element: ElementTree.Element) -> OmeXmlImage:
    """Read one Image."""
    name = (element.get("Name") or "").strip()
    pixels = next((child for child in element if _tag(child) == "Pixels"), None)
    channels = [] if pixels is None else [child for child in pixels if _tag(child) == "Channel"]
    mpp = [None if pixels is None else _physical_size(pixels, axis) for axis in "XY"]
    return OmeXmlImage(
        role=_role(name),
        named=bool(name),
        mpp_x=mpp[0],
        mpp_y=mpp[1],
        names=tuple(channel.get("Name") or None for channel in channels),
        colours=tuple(_packed_colour(channel.get("Color")) for channel in channels),
        samples=tuple(_integer(channel.get("SamplesPerPixel"), 1) for channel in channels),
    )


def _tag(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _role(name: str) -> str | None:
    """Which image beside the slide a name stands for, in Bio-Formats' words; a file's name that has one does not."""
    found = re.fullmatch(
        r"(?:.*\[)?(label|macro mask|macro|overview|thumbnail)(?: image)?(?: [0-9.]+x)?\]?", name.casefold()
    )
    return None if found is None else {"overview": "macro", "macro mask": "mask"}.get(found.group(1), found.group(1))


def _physical_size(pixels: ElementTree.Element, axis: str) -> float | None:
    """Micrometres per px along an axis; the schema's unit is the micrometre where none is given."""
    try:
        return micrometres(
            float(pixels.get(f"PhysicalSize{axis}", "")), pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m")
        )
    except ValueError:
        return None


def _packed_colour(text: str | None) -> Colour | None:
    """A colour as the schema packs it: R, G, B, A in a signed 32-bit integer."""
    value = _integer(text, 1 << 40)
    if not -(1 << 31) <= value < 1 << 32:
        return None
    red, green, blue, _ = (value & 0xFFFFFFFF).to_bytes(4, "big")
    return (red, green, blue)


def _integer(text: str | None, default: int) -> int:
    """Parse an integer of a few digits."""
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,12}", text) else default
