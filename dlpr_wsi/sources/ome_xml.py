"""OME-XML: what an OME-TIFF, or bioformats2raw beside its Zarr, says about images, by elements and attributes.

Names of images and all other free text stay inside, for it can show who the patient is; of a name only one thing is
used, whether it is one of the usual words for a label, a macro or a thumbnail.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

from dlpr_wsi.sources.ome import Colour, channel_name, packed_colour
from dlpr_wsi.sources.units import micrometres, plausible

__all__ = ["MAX_XML", "OmeChannel", "OmeError", "OmeImage", "OmePlane", "is_ome_xml", "parse_ome_xml", "planes_of"]

MAX_XML = 1 << 26
"""Most characters of OME-XML."""
_MAX_PLANES = 1 << 20


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
    colour: Colour | None
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
        px; 0 where the XML does not say.
    size_c, size_z, size_t : int
        Samples or channels, focal planes, time points.
    kind : str
        Type of a sample ("uint8").
    channels : tuple of OmeChannel
        As many as are named.
    mpp_x, mpp_y : float or None
        um/px.
    role : str or None
        "label", "macro", "thumbnail" or "mask" where its name says so; None: the slide, for all that it says.
    named : bool
        Whether it has a name at all.
    pixels : Element
        Its Pixels, empty where it has none.
    uuid : str
        Of the document, in lower case; empty where it has none.
    """

    width: int
    height: int
    size_c: int
    size_z: int
    size_t: int
    kind: str
    channels: tuple[OmeChannel, ...]
    mpp_x: float | None
    mpp_y: float | None
    role: str | None
    named: bool
    pixels: ElementTree.Element = field(repr=False, compare=False)
    uuid: str = ""


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


def parse_ome_xml(text: str) -> tuple[OmeImage, ...]:
    """Parse the images of a document.

    Raises
    ------
    OmeError
        It is no well-formed XML, has a document type or entities, names no image, or has a size that is no number.
    """
    if len(text) > MAX_XML:
        raise OmeError(f"its OME-XML has more than {MAX_XML} characters")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise OmeError("its OME-XML has a document type or entities, which are not followed")
    try:
        root = ElementTree.fromstring(text.strip("\ufeff\0 \r\n\t").encode())
    except (ElementTree.ParseError, ValueError) as error:
        raise OmeError("its OME-XML is damaged") from error
    uuid = (root.get("UUID") or "").lower()
    images = tuple(_image(element, uuid) for element in _children(root, "Image"))
    if not images:
        other = "; the metadata is in another one" if _children(root, "BinaryOnly") else ""
        raise OmeError(f"its OME-XML names no image in this file{other}")
    return images


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Return children by local name: the namespace changes with the version of the schema."""
    return [child for child in element if child.tag.rpartition("}")[2] == name]


def _image(element: ElementTree.Element, uuid: str) -> OmeImage:
    """Read an Image element."""
    pixels = next(iter(_children(element, "Pixels")), ElementTree.Element("Pixels"))
    sizes = {axis: _int(pixels, f"Size{axis}", 1 if axis in "ZCT" else 0) for axis in "XYZCT"}
    channels = tuple(_channel(channel) for channel in _children(pixels, "Channel"))
    name = (element.get("Name") or "").strip()
    return OmeImage(
        width=sizes["X"],
        height=sizes["Y"],
        size_c=sizes["C"],
        size_z=sizes["Z"],
        size_t=sizes["T"],
        kind=(pixels.get("Type") or pixels.get("PixelType") or "uint8").lower(),
        channels=channels,
        mpp_x=_physical_size(pixels, "X"),
        mpp_y=_physical_size(pixels, "Y"),
        role=_role(name),
        named=bool(name),
        pixels=pixels,
        uuid=uuid,
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


def _role(name: str) -> str | None:
    """Which image beside the slide a name stands for, in Bio-Formats' words; a file's name that has one does not."""
    found = re.fullmatch(
        r"(?:.*\[)?(label|macro mask|macro|overview|thumbnail)(?: image)?(?: [0-9.]+x)?\]?", name.casefold()
    )
    return None if found is None else {"overview": "macro", "macro mask": "mask"}.get(found.group(1), found.group(1))


def _physical_size(pixels: ElementTree.Element, axis: str) -> float | None:
    """Micrometres per px along an axis; the schema's unit is the micrometre where none is given."""
    try:
        size = float(pixels.get(f"PhysicalSize{axis}", ""))
    except ValueError:
        return None
    return plausible(micrometres(size, pixels.get(f"PhysicalSize{axis}Unit", "um")))


def _channel(element: ElementTree.Element) -> OmeChannel:
    """Read a Channel element."""
    return OmeChannel(
        channel_name(element.get("Name")),
        packed_colour(element.get("Color")),
        max(1, _int(element, "SamplesPerPixel", 1)),
    )


def planes_of(image: OmeImage) -> tuple[tuple[OmePlane, ...], bool]:
    """Follow the TiffData elements of an image.

    Without any attribute an element means all planes, from directory 0 on; with a first plane only, that one; a plane
    is a group of samples that lie in a directory together.

    Returns
    -------
    planes : tuple of OmePlane
        Every plane that lies in this file.
    elsewhere : bool
        Whether planes of it lie in other files.

    Raises
    ------
    OmeError
        Numbers that make no sense.
    """
    pixels, own = image.pixels, image.uuid
    sizes = {"C": image.size_c, "Z": image.size_z, "T": image.size_t}
    total = math.prod(sizes.values())
    if min(image.width, image.height, *sizes.values()) < 1 or total > _MAX_PLANES:
        raise OmeError("its OME-XML has an Image without Pixels, or of sizes that make no sense")
    order = pixels.get("DimensionOrder", "XYCZT")[2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise OmeError("its OME-XML has a DimensionOrder that is none")
    together = image.channels[0].samples if image.channels else 1
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
