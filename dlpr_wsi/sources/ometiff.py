"""OME-TIFF: which image, which planes, which directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlpr_wsi.sources import Channel, Selection
from dlpr_wsi.sources.choose import choose, only_one
from dlpr_wsi.sources.ome import channels_of
from dlpr_wsi.sources.ome_xml import OmeError, OmeImage, OmePlane, parse_ome_xml, planes_of
from dlpr_wsi.sources.picture import Picture, beside_note, build_level, refuse, subifds

__all__ = ["ome_picture"]

_SMALL = 4  # an image with less than this part of the largest one's px is a picture beside it
_BITS = {"uint16": 16, "int16": 16, "uint32": 32, "int32": 32, "int8": 8}
_MAX_CHANNELS = 64


def ome_picture(path: Path, tiff: Any, selection: Selection) -> Picture:
    """Return the picture of an OME-TIFF that is meant.

    Of several images the largest is the slide; others that are called label, macro or thumbnail, or are much smaller,
    are left out and noted.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The choice between several is missing, or the picture cannot be kept whole.
    """
    only_one(path, selection, "image", "plane", "time")
    try:
        images = parse_ome_xml(tiff.pages[0].description)
        lying = [planes_of(image) for image in images]
    except OmeError as error:
        raise refuse(path, str(error)) from error
    index, notes = _choose_image(path, images, selection)
    image, (planes, elsewhere) = images[index], lying[index]
    _refuse_type(path, image)
    plane = choose(path, "plane", selection.plane, image.size_z, "focal planes (axis Z)")
    time = choose(path, "time", selection.time, image.size_t, "time points (axis T)")
    if elsewhere:
        raise refuse(path, "planes of its image lie in other files; join them in one file first")
    pages = _pages(path, tiff, image, [p for p in planes if (p.z, p.t) == (plane, time)])
    for number, size in (("plane", image.size_z), ("time", image.size_t)):
        if size > 1:
            notes.append(f"{size} {'focal planes' if number == 'plane' else 'time points'}, of which one was chosen")
    channels, as_channels = _channels(path, image, pages)
    levels = [build_level(path, pages, channels=as_channels)]
    for below in _lower(path, pages):
        level = build_level(path, below, channels=as_channels)
        if [tiles.samples for tiles in level] != [tiles.samples for tiles in levels[0]]:
            raise refuse(path, "a lower level has other samples than the image")
        levels.append(level)
    if (levels[0][0].width, levels[0][0].height) != (image.width, image.height):
        raise refuse(path, "its OME-XML and its directories disagree on the size of the image")
    if any(level[0].alpha for level in levels):
        notes.append("transparent px laid on white; the alpha samples themselves are left out")
    icc = pages[0].iccprofile
    return Picture(
        tuple(sorted(levels, key=lambda level: -level[0].width)),
        channels,
        image.mpp_x,
        image.mpp_y,
        "ome-tiff",
        bytes(icc) if icc else None,
        tuple(notes),
    )


def _choose_image(path: Path, images: tuple[OmeImage, ...], selection: Selection) -> tuple[int, list[str]]:
    """Return the image that is meant and notes about the others."""
    if selection.image is not None:
        index = choose(path, "image", selection.image, len(images), "images")
    else:
        slides = [index for index, image in enumerate(images) if image.role is None] or list(range(len(images)))
        index = max(slides, key=lambda i: (images[i].width * images[i].height, -i))
        area = images[index].width * images[index].height
        full = [i for i in slides if _SMALL * images[i].width * images[i].height > area]
        if len(full) > 1:
            choose(path, "image", None, len(images), "images")
    notes = []
    for other, image in enumerate(images):
        if other != index:
            what = f"image {other}" + (" (beside the slide)" if image.role is not None else "")
            notes.append(beside_note(what, image.width, image.height))
    return index, notes


def _refuse_type(path: Path, image: OmeImage) -> None:
    """Refuse what has no 8 bits a sample by the XML; the directories are asked too."""
    if image.kind in ("uint8", "bit"):
        return
    if image.kind in _BITS:
        signed = "" if image.kind.startswith("u") else ", signed"
        raise refuse(path, f"{_BITS[image.kind]} bits a sample{signed} ({image.kind}); 8 unsigned bits are kept")
    raise refuse(path, "its samples are floating point or complex; 8 unsigned bits are kept")


def _pages(path: Path, tiff: Any, image: OmeImage, planes: list[OmePlane]) -> list[Any]:
    """Return the directories of the chosen planes, by channel."""
    together = image.channels[0].samples if image.channels else 1
    if any(channel.samples != together for channel in image.channels):
        raise refuse(path, "its channels have different numbers of samples, which one archive does not hold")
    found = {plane.c: plane.ifd for plane in planes}
    wanted = -(-image.size_c // together)
    if wanted > _MAX_CHANNELS:
        raise refuse(path, f"{wanted} channels; at most {_MAX_CHANNELS} are kept")
    if sorted(found) != list(range(wanted)):
        raise refuse(path, f"its OME-XML names {len(found)} of the {wanted} planes that its channels need")
    try:
        return [tiff.pages[found[c]].aspage() for c in range(wanted)]
    except Exception as error:
        raise refuse(path, "its OME-XML names directories that the file does not have") from error


def _channels(path: Path, image: OmeImage, pages: list[Any]) -> tuple[tuple[Channel, ...] | None, bool]:
    """Return the channels (None for RGB) and whether grey samples are channels of their own."""
    photometric = int(pages[0].photometric)
    samples = int(pages[0].samplesperpixel)
    if photometric in (2, 3, 6):
        if len(pages) > 1:
            raise refuse(path, f"{len(pages)} colour pictures as channels (axis C); an archive holds one")
        if image.size_c not in (samples, 1) and photometric != 3:
            raise refuse(path, f"its OME-XML names {image.size_c} samples, its directories have {samples}")
        return None, False
    count = len(pages) * samples
    if count != image.size_c and not (samples > 1 and len(pages) == 1 and image.size_c == 1):
        raise refuse(path, f"its OME-XML names {image.size_c} channels, its directories have {count}")
    together = image.channels[0].samples if image.channels else 1
    known = image.channels if together == 1 else ()
    names = [known[index].name if index < len(known) else None for index in range(count)]
    colours = [known[index].colour if index < len(known) else None for index in range(count)]
    return channels_of(names, colours), True


def _lower(path: Path, pages: list[Any]) -> list[list[Any]]:
    """Return the sub-directories of all planes, level by level."""
    try:
        below = [subifds(page) for page in pages]
    except Exception as error:
        raise refuse(path, "its sub-directories are damaged") from error
    if len({len(levels) for levels in below}) > 1:
        raise refuse(path, "its channels have different numbers of levels")
    return [list(level) for level in zip(*below, strict=True)]
