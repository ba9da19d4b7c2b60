"""Which directories of an OME-TIFF are the planes of one picture, from its OME-XML."""

from __future__ import annotations

from itertools import product
from xml.etree import ElementTree

from dlpr_wsi.second import NoSecond
from dlpr_wsi.second.ifd import Directory
from dlpr_wsi.sources import Selection, SlideFacts

__all__ = ["ome_planes", "ome_xml"]

_MAX_XML = 1 << 26


def ome_xml(first: Directory) -> bytes | None:
    """Return the OME-XML in the first directory's description, or None."""
    text = first.data(270)
    if text is None or len(text) > _MAX_XML or b"<OME" not in text[:4096]:
        return None
    return text.rstrip(b"\0 \r\n")


def ome_planes(xml: bytes, chain: list[Directory], facts: SlideFacts, selection: Selection) -> list[Directory]:
    """Return the directories that hold the channels of a picture at level 0, in order.

    Raises
    ------
    NoSecond
        The XML does not say which; or names other files.
    """
    image = _image(xml, facts, selection)
    names = {axis: int(image.get(f"Size{axis}", "1")) for axis in "CZT"}
    samples = [int(channel.get("SamplesPerPixel", "1")) for channel in image.findall("{*}Channel")] or [1]
    if len(set(samples)) != 1:
        raise NoSecond("channels of unlike numbers of samples")
    names["C"] //= samples[0]
    order = image.get("DimensionOrder", "XYCZT")[2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise NoSecond("an unknown order of planes")
    # product() counts its last factor fastest, OME names the fastest axis first
    places = [
        dict(zip(reversed(order), at, strict=True)) for at in product(*(range(names[a]) for a in reversed(order)))
    ]
    index: dict[tuple[int, int, int], int] = {}
    blocks = image.findall("{*}TiffData")
    for block in blocks or [ElementTree.Element("TiffData")]:
        if block.find("{*}UUID") is not None and block.find("{*}UUID").get("FileName", facts.name) != facts.name:  # type: ignore[union-attr]
            raise NoSecond("its planes are in several files")
        start = {axis: int(block.get(f"First{axis}", "0")) for axis in "CZT"}
        first = places.index(start)
        whole = len(places) if block.get("IFD") is None and len(blocks) < 2 else 1
        for step in range(int(block.get("PlaneCount", str(whole)))):
            place = places[first + step]
            index[place["C"], place["Z"], place["T"]] = int(block.get("IFD", "0")) + step
    wanted = [(channel, selection.plane or 0, selection.time or 0) for channel in range(names["C"])]
    if not all(place in index and index[place] < len(chain) for place in wanted):
        raise NoSecond("its OME-XML does not say where the planes are")
    return [chain[index[place]] for place in wanted]


def _image(xml: bytes, facts: SlideFacts, selection: Selection) -> ElementTree.Element:
    """Return the Pixels element of the picture that is meant: by its number, or the only one of that size."""
    found = [pixels for pixels in ElementTree.fromstring(xml).iter() if pixels.tag.rpartition("}")[2] == "Pixels"]
    if selection.image is not None:
        return found[selection.image]
    size = (str(facts.levels[0].width), str(facts.levels[0].height))
    fitting = [pixels for pixels in found if (pixels.get("SizeX"), pixels.get("SizeY")) == size]
    if len(fitting) != 1:
        raise NoSecond(f"{len(fitting)} images of this size")
    return fitting[0]
