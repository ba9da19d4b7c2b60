"""OME-XML: what an OME-TIFF says about its images, by elements and attributes.

Names of images and all other free text stay inside, for it can show who the patient is; of a name only one thing is
used, whether it is one of the usual words for a label, a macro or a thumbnail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from dlpr_wsi.sources import Channel
from dlpr_wsi.sources.ome import is_picture
from dlpr_wsi.sources.units import micrometres

__all__ = [
    "OmeChannel",
    "OmeError",
    "OmeImage",
    "OmePlane",
    "channel_name",
    "describe",
    "is_ome_xml",
    "is_rgb",
    "parse_ome_xml",
]

BESIDE = frozenset({"label", "macro", "overview", "thumbnail", "label image", "macro image", "thumbnail image"})
_MAX_XML = 1 << 26
_MAX_PLANES = 1 << 20
_PALETTE = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))


class OmeError(ValueError):
    """The XML is damaged, or asks for something that is not done."""


@dataclass(frozen=True)
class OmeChannel:
    """A Channel element.

    Parameters
    ----------
    name : str or None
        Its name, printable and at most 64 characters.
    colour : tuple of int or None
        RGB.
    samples : int
        SamplesPerPixel.
    """

    name: str | None
    colour: tuple[int, int, int] | None
    samples: int


@dataclass(frozen=True)
class OmePlane:
    """Where a plane lies: channel, focal plane, time point, and directory of the file."""

    c: int
    z: int
    t: int
    ifd: int


@dataclass(frozen=True)
class OmeImage:
    """An Image element with its Pixels.

    Parameters
    ----------
    width, height : int
        px.
    size_c, size_z, size_t : int
        Samples or channels, focal planes, time points.
    kind : str
        Type of a sample ("uint8").
    channels : tuple of OmeChannel
        As many as are named.
    planes : tuple of OmePlane
        Every plane that lies in this file.
    mpp_x, mpp_y : float or None
        um/px.
    beside : bool
        Whether its name is one of the usual words for a picture beside the slide.
    elsewhere : bool
        Whether planes of it lie in other files.
    """

    width: int
    height: int
    size_c: int
    size_z: int
    size_t: int
    kind: str
    channels: tuple[OmeChannel, ...]
    planes: tuple[OmePlane, ...]
    mpp_x: float | None
    mpp_y: float | None
    beside: bool
    elsewhere: bool


def is_ome_xml(text: object) -> bool:
    """Tell whether a description is OME-XML: its root element is OME, whatever words are inside.

    Examples
    --------
    >>> is_ome_xml('<?xml version="1.0"?><OME xmlns="x"/>'), is_ome_xml("Aperio <OME>")
    (True, False)
    """
    if not isinstance(text, str):
        return False
    start = re.sub(r"\A\ufeff?\s*(<\?.*?\?>\s*|<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*", "", text[:65536], flags=re.DOTALL)
    return re.match(r"<(\w+:)?OME[\s>/]", start) is not None


def channel_name(name: str | None) -> str | None:
    """Return a channel's name, printable and at most 64 characters; None where nothing is left."""
    cleaned = "".join(letter for letter in name or "" if letter.isprintable()).strip()[:64].strip()
    return cleaned or None


def describe(channels: tuple[OmeChannel, ...], count: int) -> tuple[Channel, ...]:
    """Return names and colours of ``count`` channels, with defaults where the file has none."""
    found = []
    for index in range(count):
        known = channels[index] if index < len(channels) else OmeChannel(None, None, 1)
        default = (255, 255, 255) if count == 1 else _PALETTE[index % len(_PALETTE)]
        found.append(Channel(known.name or f"channel {index}", known.colour or default))
    return tuple(found)


def is_rgb(channels: tuple[OmeChannel, ...]) -> bool:
    """Tell whether three channels are one picture's red, green and blue: `dlpr_wsi.sources.ome.is_picture`."""
    return is_picture([channel.name for channel in channels], [channel.colour for channel in channels])


def parse_ome_xml(text: str) -> tuple[OmeImage, ...]:
    """Parse the images of an OME-TIFF's first description.

    Raises
    ------
    OmeError
        It is no well-formed XML, has a document type or entities, or numbers that make no sense.
    """
    if len(text) > _MAX_XML:
        raise OmeError(f"its OME-XML has more than {_MAX_XML} characters")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise OmeError("its OME-XML has a document type or entities, which are not followed")
    try:
        root = ElementTree.fromstring(text.strip("\ufeff\0 \r\n\t").encode())
    except (ElementTree.ParseError, ValueError) as error:
        raise OmeError("its OME-XML is damaged") from error
    own = (root.get("UUID") or "").lower()
    images = []
    for element in _children(root, "Image"):
        pixels = next(iter(_children(element, "Pixels")), None)
        if pixels is None:
            raise OmeError("its OME-XML has an Image without Pixels")
        images.append(_image(element, pixels, own))
    if not images:
        raise OmeError(
            "its OME-XML names no image in this file"
            + (
                "; the metadata is in another one"
                if next(iter(_children(root, "BinaryOnly")), None) is not None
                else ""
            )
        )
    return tuple(images)


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Return children by local name: the namespace changes with the version of the schema."""
    return [child for child in element if child.tag.rpartition("}")[2] == name]


def _image(element: ElementTree.Element, pixels: ElementTree.Element, own: str) -> OmeImage:
    """Read an Image element."""
    sizes = {axis: _int(pixels, f"Size{axis}", 1 if axis in "ZCT" else 0) for axis in "XYZCT"}
    if min(sizes.values()) < 1 or sizes["Z"] * sizes["C"] * sizes["T"] > _MAX_PLANES:
        raise OmeError("its OME-XML has sizes that make no sense")
    channels = tuple(_channel(channel) for channel in _children(pixels, "Channel"))
    planes, elsewhere = _planes(pixels, sizes, channels, own)
    return OmeImage(
        width=sizes["X"],
        height=sizes["Y"],
        size_c=sizes["C"],
        size_z=sizes["Z"],
        size_t=sizes["T"],
        kind=(pixels.get("Type") or pixels.get("PixelType") or "uint8").lower(),
        channels=channels,
        planes=planes,
        mpp_x=micrometres(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")),
        mpp_y=micrometres(pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeYUnit")),
        beside=(element.get("Name") or "").strip().lower() in BESIDE,
        elsewhere=elsewhere,
    )


def _int(element: ElementTree.Element, name: str, default: int) -> int:
    """Return an attribute as a number."""
    value = element.get(name)
    if value is None:
        return default
    try:
        return int(value)
    except ValueError as error:
        raise OmeError(f"its OME-XML has a {name} that is no number") from error


def _channel(element: ElementTree.Element) -> OmeChannel:
    """Read a Channel element; its Color is RGBA in a signed number."""
    colour = None
    try:
        packed = int(element.get("Color", "")) & 0xFFFFFFFF
        colour = (packed >> 24, packed >> 16 & 255, packed >> 8 & 255)
    except ValueError:
        pass
    return OmeChannel(channel_name(element.get("Name")), colour, max(1, _int(element, "SamplesPerPixel", 1)))


def _planes(
    pixels: ElementTree.Element, sizes: dict[str, int], channels: tuple[OmeChannel, ...], own: str
) -> tuple[tuple[OmePlane, ...], bool]:
    """Follow the TiffData elements.

    Without any attribute an element means all planes, from directory 0 on; with a first plane only, that one; a plane
    is a group of samples that lie in a directory together.
    """
    order = pixels.get("DimensionOrder", "XYCZT")[2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise OmeError("its OME-XML has a DimensionOrder that is none")
    together = channels[0].samples if channels else 1
    counts = {"C": -(-sizes["C"] // together), "Z": sizes["Z"], "T": sizes["T"]}
    total = counts["C"] * counts["Z"] * counts["T"]
    found: dict[tuple[int, int, int], int] = {}
    elsewhere = False
    elements = _children(pixels, "TiffData")
    for element in elements or [ElementTree.Element("TiffData")]:
        uuid = next(iter(_children(element, "UUID")), None)
        if uuid is not None and own and (uuid.text or "").strip().lower() != own:
            elsewhere = True
            continue
        first = {axis: _int(element, f"First{axis}", 0) for axis in "CZT"}
        ifd = _int(element, "IFD", 0)
        default = total if not {"IFD", "FirstC", "FirstZ", "FirstT"} & set(element.keys()) else 1
        count = _int(element, "PlaneCount", _int(element, "NumPlanes", default))
        if count < 0 or ifd < 0 or min(first.values()) < 0:
            raise OmeError("its OME-XML has a TiffData that makes no sense")
        at = (first[order[0]]) + counts[order[0]] * (first[order[1]] + counts[order[1]] * first[order[2]])
        for step in range(min(count, max(0, total - at))):
            place, index = {}, at + step
            for axis in order:
                index, place[axis] = divmod(index, counts[axis])
            found[place["C"], place["Z"], place["T"]] = ifd + step
    return tuple(OmePlane(c, z, t, ifd) for (c, z, t), ifd in sorted(found.items())), elsewhere
