"""Plain TIFF: which pages are pictures, which their lower levels; and PerkinElmer's QPTIFF.

A page is a lower level of the picture before it if it is smaller, of the same kind and of the same shape. A page that
is marked as reduced but has another shape is beside the picture (thumbnail, label, macro). Every other page is a
picture of its own, and a file of several is read with ``--page``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from dlpr_wsi.sources import Channel, Selection
from dlpr_wsi.sources.choose import choose, only_one
from dlpr_wsi.sources.ome import channel_name, channels_of
from dlpr_wsi.sources.ome_xml import OmeChannel
from dlpr_wsi.sources.picture import Picture, beside_note, build_level, is_level_of, refuse, subifds
from dlpr_wsi.sources.units import resolution

__all__ = ["Layout", "is_qptiff", "plain_layout", "plain_picture", "qptiff_picture"]

_MAX_PAGES = 1 << 14
_REDUCED, _MASK = 1, 4


@dataclass(frozen=True)
class Layout:
    """The pages of one picture.

    Parameters
    ----------
    pages : tuple of tifffile.TiffPage
        Levels, largest first.
    directories : tuple of int or None
        Their numbers among the file's main directories; None for sub-directories.
    marked : bool
        Whether all lower levels are main directories that are tiled and marked as reduced.
    notes : tuple of str
        About pages that are left out.
    """

    pages: tuple[Any, ...]
    directories: tuple[int | None, ...]
    marked: bool
    notes: tuple[str, ...]


def plain_layout(path: Path, tiff: Any, selection: Selection) -> Layout:
    """Sort the pages of a plain TIFF and return those of the picture that is meant.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        There are several pictures and none was chosen.
    """
    only_one(path, selection, "page")
    pages = _all_pages(path, tiff)
    groups: list[list[int]] = []
    notes = []
    for index, page in enumerate(pages):
        kind = int(page.subfiletype)
        if groups and kind & _MASK:
            notes.append(beside_note(f"page {index} (a mask)", int(page.imagewidth), int(page.imagelength)))
        elif groups and is_level_of(page, pages[groups[-1][0]]):
            groups[-1].append(index)
        elif groups and kind & _REDUCED and _smaller(page, pages[groups[0][0]]):
            notes.append(beside_note(f"page {index} (beside the slide)", int(page.imagewidth), int(page.imagelength)))
        else:
            groups.append([index])
    if selection.page is None:
        if len(groups) > 1:
            choose(path, "page", None, len(pages), f"pages, {len(groups)} of them pictures of their own")
        chosen = groups[0]
    else:
        page_number = choose(path, "page", selection.page, len(pages), "pages")
        chosen = next((group for group in groups if group[0] == page_number), [page_number])
        if len(pages) > len(chosen):
            notes = [f"left out: {len(pages) - len(chosen)} other pages of the file"]
    entries: list[tuple[Any, int | None]] = [(pages[index], index) for index in chosen]
    for page in _below(path, pages[chosen[0]]):
        if is_level_of(page, pages[chosen[0]]):
            entries.append((page, None))
        else:
            notes.append(beside_note("a sub-directory", int(page.imagewidth), int(page.imagelength)))
    entries.sort(key=lambda entry: -int(entry[0].imagewidth))
    marked = all(n is not None and (n == 0 or (p.is_tiled and int(p.subfiletype) & _REDUCED)) for p, n in entries)
    return Layout(tuple(p for p, _ in entries), tuple(n for _, n in entries), marked, tuple(notes))


def plain_picture(path: Path, layout: Layout) -> Picture:
    """Return the picture of a plain TIFF, RGB always: grey is repeated.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        It cannot be kept whole.
    """
    levels = [build_level(path, [page], channels=False) for page in layout.pages]
    if len({level[0].samples for level in levels}) > 1:
        raise refuse(path, "a lower level has other samples than the picture")
    notes = list(layout.notes)
    if any(level[0].alpha for level in levels):
        notes.append("transparent px laid on white; the alpha samples themselves are left out")
    mpp_x, mpp_y = resolution(layout.pages[0])
    icc = layout.pages[0].iccprofile
    return Picture(tuple(levels), None, mpp_x, mpp_y, "tiff", bytes(icc) if icc else None, tuple(notes))


def _below(path: Path, page: Any) -> list[Any]:
    """Return the sub-directories of a page."""
    try:
        return subifds(page)
    except Exception as error:
        raise refuse(path, "its sub-directories are damaged") from error


def _smaller(page: Any, base: Any) -> bool:
    """Tell whether a page has fewer px than another."""
    return int(page.imagewidth) * int(page.imagelength) < int(base.imagewidth) * int(base.imagelength)


def _all_pages(path: Path, tiff: Any) -> list[Any]:
    """Return the main directories."""
    try:
        count = len(tiff.pages)
        if count > _MAX_PAGES:
            raise refuse(path, f"{count} pages; at most {_MAX_PAGES} are looked at")
        return [entry.aspage() for entry in tiff.pages]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise refuse(path, f"its directories are damaged ({type(error).__name__})") from error


def is_qptiff(page: Any) -> bool:
    """Tell whether a first page says that it is a QPTIFF: its description's root element is PerkinElmer's."""
    text = page.description if isinstance(page.description, str) else ""
    return re.match(r"\ufeff?\s*(<\?[^>]*\?>\s*)*<PerkinElmer-QPI-ImageDescription[\s>]", text) is not None


def qptiff_picture(path: Path, tiff: Any, selection: Selection) -> Picture:
    """Return the picture of a QPTIFF: RGB of bright field, or the channels of fluorescence.

    Every page says in its description what it is: FullResolution, ReducedResolution, Thumbnail, Overview or Label.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        It cannot be kept whole.
    """
    only_one(path, selection)
    pages = _all_pages(path, tiff)
    sizes: dict[tuple[int, int], list[Any]] = {}
    known, notes = [], []
    for page in pages:
        kind, channel = _qptiff_page(path, page)
        size = (int(page.imagewidth), int(page.imagelength))
        if kind in ("FullResolution", "ReducedResolution"):
            sizes.setdefault(size, []).append(page)
            if kind == "FullResolution":
                known.append(channel)
        else:
            notes.append(beside_note(f"the {kind.lower()}" if kind in _BESIDE else "a page of another kind", *size))
    if not sizes or not known:
        raise refuse(path, "a QPTIFF without a page of full resolution")
    groups = [sizes[size] for size in sorted(sizes, reverse=True)]
    count = len(groups[0])
    if count != len(known) or any(len(group) != count for group in groups):
        raise refuse(path, "its levels have different numbers of channels")
    rgb = int(groups[0][0].photometric) in (2, 6)
    if rgb and count > 1:
        raise refuse(path, f"{count} colour pictures of full resolution; an archive holds one")
    channels: tuple[Channel, ...] | None = None
    if not rgb:
        channels = channels_of([channel.name for channel in known], [channel.colour for channel in known])
    levels = tuple(build_level(path, group, channels=not rgb) for group in groups)
    mpp_x, mpp_y = resolution(groups[0][0])
    icc = groups[0][0].iccprofile
    return Picture(levels, channels, mpp_x, mpp_y, "qptiff", bytes(icc) if icc else None, tuple(notes))


_BESIDE = ("Thumbnail", "Overview", "Label")


def _qptiff_page(path: Path, page: Any) -> tuple[str, OmeChannel]:
    """Return what a page is, and its channel's name and colour."""
    text = page.description if isinstance(page.description, str) else ""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise refuse(path, "its descriptions have a document type or entities, which are not followed")
    try:  # the scanner's declaration says UTF-16, but a TIFF's text is bytes: what it says is left out
        root = ElementTree.fromstring(re.sub(r"^<\?xml[^>]*\?>", "", text.strip("\ufeff\0 \r\n\t")).encode())
    except (ElementTree.ParseError, ValueError) as error:
        raise refuse(path, "a page's description is damaged XML") from error
    colour = None
    numbers = re.fullmatch(r"\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*", root.findtext("Color") or "")
    if numbers and all(int(part) < 256 for part in numbers.groups()):
        red, green, blue = (int(part) for part in numbers.groups())
        colour = (red, green, blue)
    return (root.findtext("ImageType") or "").strip(), OmeChannel(channel_name(root.findtext("Name")), colour, 1)
