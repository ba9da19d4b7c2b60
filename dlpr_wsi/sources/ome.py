"""The words of OME metadata about channels: names, colours, and when three of them are one RGB picture."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dlpr_wsi.sources import Channel

__all__ = ["Colour", "channel_name", "channels_of", "hex_colour", "is_picture", "make_channels", "packed_colour"]

Colour = tuple[int, int, int]

_PRIMARIES: tuple[Colour, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_WHITE = (255, 255, 255)
_PALETTE: tuple[Colour, ...] = (*_PRIMARIES, (255, 0, 255), (0, 255, 255), (255, 255, 0), _WHITE)
_PRIMARY_NAMES = (("red", "r"), ("green", "g"), ("blue", "b"))
_NUMBERED = re.compile(r"(ch|channel|c|image|band)?[ _:#-]*[0-9]{0,2}(:[0-9]{1,2})?", re.IGNORECASE)
_MAX_NAME = 64


def hex_colour(text: object) -> Colour | None:
    """Parse RRGGBB, an alpha behind it ignored; None if it is nothing of the kind."""
    found = re.fullmatch(r"#?([0-9A-Fa-f]{6})(?:[0-9A-Fa-f]{2})?", text) if isinstance(text, str) else None
    if found is None:
        return None
    red, green, blue = bytes.fromhex(found.group(1))
    return (red, green, blue)


def packed_colour(text: str | None) -> Colour | None:
    """Parse a colour as OME-XML packs it, R, G, B, A in a signed 32-bit integer; None if it is nothing of the kind.

    Examples
    --------
    >>> packed_colour("-16776961"), packed_colour("65535"), packed_colour("red")
    ((255, 0, 0), (0, 0, 255), None)
    """
    if text is None or not re.fullmatch(r"-?[0-9]{1,12}", text):
        return None
    value = int(text)
    if not -(1 << 31) <= value < 1 << 32:
        return None
    red, green, blue, _ = (value & 0xFFFFFFFF).to_bytes(4, "big")
    return (red, green, blue)


def channel_name(name: str | None) -> str | None:
    """Return a channel's name, printable and at most 64 characters; None where nothing is left."""
    cleaned = "".join(letter for letter in name or "" if letter.isprintable()).strip()[:_MAX_NAME].strip()
    return cleaned or None


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


def channels_of(names: Sequence[str | None], colours: Sequence[Colour | None]) -> tuple[Channel, ...] | None:
    """Return channels by their names and colours; None where they are one RGB picture."""
    return None if is_picture(names, colours) else make_channels(names, colours)


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
        default = _WHITE if alone else _PALETTE[index % len(_PALETTE)]
        channels.append(Channel(channel_name(name) or f"channel {index}", default if colour is None else colour))
    return tuple(channels)
