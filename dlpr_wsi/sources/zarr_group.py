"""Which image of a Zarr group is the slide: one OME-Zarr image, bioformats2raw's layout, or a group of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import SourceError, UsageError
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.archive import is_zarr
from dlpr_wsi.sources.ome_xml import MAX_XML, OmeError, OmeImage, parse_ome_xml
from dlpr_wsi.sources.omezarr import Multiscale, parse_multiscale

__all__ = ["Chosen", "choose_image"]

_MAX_IMAGES = 4096
_SMALL = 8  # an image of at most 1/8 of the slide's px is not taken for another slide
_ROLES = ("label", "macro", "thumbnail")


@dataclass(frozen=True)
class Chosen:
    """One image of a group.

    Parameters
    ----------
    group : zarr.Group
        The group that its datasets are in.
    multiscale : Multiscale
        What its metadata say.
    xml : OmeImage or None
        What OME-XML says of it.
    associated : mapping of str to Chosen
        Label, macro and thumbnail beside it.
    notes : tuple of str
        What was left out.
    """

    group: Any
    multiscale: Multiscale
    xml: OmeImage | None = None
    associated: Mapping[str, Chosen] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def choose_image(path: Path, root: Any, selection: Selection) -> Chosen:
    """Find the slide's image in a group.

    Parameters
    ----------
    path : Path
        The group's folder.
    root : zarr.Group
        The group.
    selection : Selection
        ``image`` chooses where there are several.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        There is none, or several and none was chosen; plates, wells and label masks.
    dlpr_wsi.errors.UsageError
        The chosen image is not there.
    """
    ome = _ome(root)
    for key, what in (
        ("plate", "an HCS plate"),
        ("well", "a well of an HCS plate"),
        ("image-label", "a label mask, no picture"),
        ("labels", "a group of label masks, no pictures"),
    ):
        if key in ome and (key in ("plate", "well") or "bioformats2raw.layout" not in ome):
            raise SourceError(f"{what} (OME-Zarr {key!r}): give the folder of one image inside it")
    if "multiscales" in ome:
        return _one_group(path, root, ome, selection)
    if "bioformats2raw.layout" in ome:
        return _bioformats2raw(path, root, selection)
    names = _children(path, root)
    if not names:
        raise SourceError("a Zarr group without multiscales, and no image in it: name an array inside it")
    return _several(path, root, names, (), selection)


def _ome(group: Any) -> Mapping[str, Any]:
    """Return a group's OME attributes: under the key ome (0.5), or all."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def _one_group(path: Path, group: Any, ome: Mapping[str, Any], selection: Selection) -> Chosen:
    """Choose among the multiscales of one group; nearly always there is one."""
    count = len(ome["multiscales"]) if isinstance(ome["multiscales"], Sequence) else 0
    number = selection.image
    if number is None and count > 1:
        raise SourceError(f"{count} images (multiscales) in one group: --image N takes one (0 to {count - 1})")
    number = number or 0
    if number >= max(count, 1):
        raise UsageError("--image", f"{number}: there {_are(count)}")
    notes = [_left_out([n for n in range(count) if n != number])] if count > 1 else []
    return Chosen(group, parse_multiscale(ome, number), notes=(*notes, *_masks(path)))


def _masks(path: Path) -> tuple[str, ...]:
    """Say that label masks are left out where an image has some."""
    return ("label masks (the group labels) are not in the archive",) if is_zarr(path / "labels") else ()


def _children(path: Path, root: Any) -> list[str]:
    """Names of the groups inside that hold an image; numbers in their order."""
    found: list[str] = []
    for entry in path.iterdir():
        if entry.is_dir() and is_zarr(entry) and len(found) < _MAX_IMAGES:
            child = root[entry.name]
            if not hasattr(child, "shape") and "multiscales" in _ome(child):
                found.append(entry.name)
    return sorted(found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _bioformats2raw(path: Path, root: Any, selection: Selection) -> Chosen:
    """List the images of bioformats2raw's layout and what OME/METADATA.ome.xml says of them."""
    images: tuple[OmeImage, ...] = ()
    series: Any = None
    if is_zarr(path / "OME"):
        series = _ome(root["OME"]).get("series")
    xml = path / "OME" / "METADATA.ome.xml"
    if xml.is_file():
        with xml.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_XML + 1)
        try:
            images = parse_ome_xml(text)
        except OmeError as error:
            raise SourceError(f"OME/METADATA.ome.xml: {error}") from error
    if isinstance(series, Sequence) and series and all(isinstance(name, str) for name in series):
        names = list(series[:_MAX_IMAGES])
    else:
        names = []
        while len(names) < _MAX_IMAGES and is_zarr(path / str(len(names))):
            names.append(str(len(names)))
    if not names:
        raise SourceError("bioformats2raw's layout without an image: there is no group 0")
    return _several(path, root, names, images if len(images) == len(names) else (), selection)


def _several(path: Path, root: Any, names: Sequence[str], images: Sequence[OmeImage], selection: Selection) -> Chosen:
    """Choose one of several images: as told, by what they are called, or the one that is far larger than the rest."""
    roles: list[str | None] = [image.role for image in images] if images else [None] * len(names)
    number = selection.image
    notes: list[str] = []
    if number is None:
        pictures = [index for index, role in enumerate(roles) if role is None]
        if len(pictures) == 1 or len(names) == 1:
            number = pictures[0] if pictures else 0
        elif any(images[index].named for index in pictures if images) or not pictures:
            raise _choose(len(names), "none of them stands out as the slide")
        else:
            areas = {index: _area(root, names[index]) for index in pictures}
            number = max(areas, key=lambda index: areas[index])
            if any(_SMALL * area > areas[number] for index, area in areas.items() if index != number):
                raise _choose(len(names), "they are of similar size")
    elif number >= len(names):
        raise UsageError("--image", f"{number}: there {_are(len(names))}")
    associated = {
        role: _image(root, names[index], images, index)
        for index, role in enumerate(roles)
        if role in _ROLES and index != number and roles.index(role) == index
    }
    others = sorted(set(range(len(names))) - {number} - {roles.index(role) for role in associated})
    if others:
        notes.append(_left_out(others))
    chosen = _image(root, names[number], images, number)
    return Chosen(chosen.group, chosen.multiscale, chosen.xml, associated, (*notes, *_masks(path / names[number])))


def _image(root: Any, name: str, images: Sequence[OmeImage], index: int) -> Chosen:
    """Open one of several images."""
    try:
        group = root[name]
        ome = _ome(group)
    except (KeyError, ValueError) as error:
        raise SourceError(f"image {index} is not there: its group is missing") from error
    if hasattr(group, "shape") or "multiscales" not in ome:
        raise SourceError(f"image {index} is no OME-Zarr image: its group lacks multiscales")
    return Chosen(group, parse_multiscale(ome), images[index] if images else None)


def _area(root: Any, name: str) -> int:
    """Px of an image's largest level."""
    chosen = _image(root, name, (), int(name) if name.isdecimal() else 0)
    x, y = chosen.multiscale.axes.index("x"), chosen.multiscale.axes.index("y")
    return max(
        int(array.shape[x]) * int(array.shape[y])
        for array in (chosen.group[dataset.path] for dataset in chosen.multiscale.datasets)
    )


def _choose(count: int, why: str) -> SourceError:
    """The error that names the option."""
    return SourceError(f"{count} images, and {why}: --image N takes one (0 to {count - 1})")


def _left_out(numbers: Sequence[int]) -> str:
    """Say which images are not in the archive."""
    shown = ", ".join(str(n) for n in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
    many = len(numbers) > 1
    return f"image{'s' if many else ''} {shown} of the group {'are' if many else 'is'} not in the archive"


def _are(count: int) -> str:
    """Say how many images there are."""
    return "is one image, number 0" if count <= 1 else f"are {count} images, 0 to {count - 1}"
