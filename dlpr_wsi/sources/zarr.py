"""Zarr arrays, OME-Zarr groups and our own archives as sources of pixels.

The metadata are read by `dlpr_wsi.sources.omezarr`; which image of a group is the slide is decided in
`dlpr_wsi.sources.zarr_group`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr_wsi.errors import ArchiveError, MissingDependencyError, SourceError, UsageError
from dlpr_wsi.sources import Channel, Level, NoTiles, Selection, SlideFacts, SourceCodec
from dlpr_wsi.sources.archive import Archive, directory_bytes, open_zarr_archive
from dlpr_wsi.sources.ome import Colour, channels_of
from dlpr_wsi.sources.ome_xml import OmeImage
from dlpr_wsi.sources.omezarr import Multiscale, axis_of, shown_axis
from dlpr_wsi.sources.zarr_group import Chosen, choose_image

__all__ = ["ZarrSource"]

_MAX_METADATA = 1 << 26  # bytes of the root's metadata
_MAX_CHUNK = 1 << 30  # bytes of a chunk, which is decoded as a whole
_MAX_PIXELS = 1 << 40  # of a level
_MAX_CHANNELS = 4096
_MAX_LEVELS = 64
_MAX_WHOLE = 1 << 26  # px of an associated image
_OPTIONS = {"z": ("--plane", "plane", "focal planes"), "t": ("--time", "time", "time points")}


class ZarrSource(NoTiles):
    """A Zarr folder: an OME-Zarr image (0.1 to 0.5), a group that holds one, or an array.

    Axes are told by their names. An array that does not name its axes must have the shape (3, H, W) or (H, W, 3), with
    leading axes of length 1.

    Parameters
    ----------
    path : Path
        The folder.
    selection : Selection, optional
        Which image of a group, which focal plane and which time point.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        zarr is not installed.
    dlpr_wsi.errors.SourceError
        The folder holds no image of 8-bit samples, or several and none was chosen.
    dlpr_wsi.errors.UsageError
        What was chosen is not there.
    """

    def __init__(self, path: Path, selection: Selection | None = None) -> None:
        self._path = path
        self._archive: Archive | None = None
        self._beside: dict[str, _Picture] = {}
        selection = selection or Selection()
        try:
            self._archive = open_zarr_archive(path)
        except ArchiveError:
            pass
        else:
            _refuse_choice(selection, ("image", "page", "plane", "time"))
            self._facts = _archive_facts(self._archive)
            return
        with _named(path):
            root = _open(path)
            if hasattr(root, "shape"):
                _refuse_choice(selection, ("image", "page"))
                self._picture, notes = _plain_array(root, selection)
                vendor = "zarr"
            else:
                chosen = choose_image(path, root, selection)
                _refuse_choice(selection, ("page",))
                self._picture, notes = _ome_image(chosen, selection)
                notes = [*chosen.notes, *notes]
                for role, beside in chosen.associated.items():
                    try:
                        self._beside[role] = _ome_image(beside, Selection())[0]
                    except (SourceError, KeyError, ValueError):
                        notes.append(f"the {role} image is not of a kind that can be kept")
                vendor = "ome-zarr"
        self._facts = self._describe(vendor, tuple(notes))

    def _describe(self, vendor: str, notes: tuple[str, ...]) -> SlideFacts:
        from importlib.metadata import version

        picture = self._picture
        codec = SourceCodec(_codec_name(picture.arrays[0]), None)
        sizes = [picture.size(level) for level in range(len(picture.arrays))]
        width, height = sizes[0]
        return SlideFacts(
            name=self._path.name,
            vendor=vendor,
            file_bytes=directory_bytes(self._path),
            codec=codec,
            levels=tuple(Level(w, h, (width / w + height / h) / 2, codec) for w, h in sizes),
            tile_width=None,
            tile_height=None,
            mpp_x=picture.mpp[0],
            mpp_y=picture.mpp[1],
            objective_power=None,
            associated=tuple(sorted(self._beside)),
            background=(255, 255, 255) if picture.channels is None else (0, 0, 0),
            channels=picture.channels,
            reader=f"zarr {version('zarr')}",
            notes=notes,
        )

    @property
    def facts(self) -> SlideFacts:
        """What the folder says about itself."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, samples): RGB, or one sample for each channel."""
        try:
            if self._archive is not None:
                return self._archive.read(x, y, width, height, level)
            place = self._facts.levels[level]
            out = np.empty((height, width, self._facts.samples), np.uint8)
            out[:] = self._facts.background if self._facts.channels is None else 0
            top, bottom = max(y, 0), min(y + height, place.height)
            left, right = max(x, 0), min(x + width, place.width)
            if top < bottom and left < right:
                part = self._picture.read(level, slice(top, bottom), slice(left, right))
                out[top - y : bottom - y, left - x : right - x] = part
            return out
        except Exception as error:  # zarr, its codecs and its stores raise many kinds
            raise SourceError(
                f"{self._path}: reading {width}x{height} px at x={x} y={y} of level {level} failed ({error})"
            ) from error

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Return an image beside the slide as (height, width, 3) RGB."""
        picture = self._beside.get(name)
        if picture is None:
            raise SourceError(f"{self._path}: no associated image {name!r}")
        width, height = picture.size(0)
        samples = 3 if picture.channels is None else len(picture.channels)
        if width * height > _MAX_WHOLE or samples not in (1, 3) or (samples == 3 and picture.channels is not None):
            raise SourceError(f"{self._path}: the associated image {name!r} is no RGB picture of reasonable size")
        try:
            pixels = picture.read(0, slice(0, height), slice(0, width))
        except Exception as error:
            raise SourceError(f"{self._path}: the associated image {name!r} cannot be read ({error})") from error
        return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))

    def close(self) -> None:
        """Nothing stays open."""


@dataclass(frozen=True)
class _Picture:
    """The arrays of one image, largest first, and how to read them.

    Parameters
    ----------
    arrays : tuple of zarr.Array
        uint8, all with the same axes.
    axes : tuple of str
        Of the arrays.
    at : mapping of str to int
        The index on every axis but c, y and x.
    channels : tuple of Channel or None
        None: RGB.
    mpp : tuple of float or None
        Micrometres per px of the first array, in x and y.
    """

    arrays: tuple[Any, ...]
    axes: tuple[str, ...]
    at: Mapping[str, int]
    channels: tuple[Channel, ...] | None
    mpp: tuple[float | None, float | None]

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level in px."""
        shape = self.arrays[level].shape
        return int(shape[self.axes.index("x")]), int(shape[self.axes.index("y")])

    def read(self, level: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Read a region inside a level as (height, width, samples)."""
        ranges = {"y": rows, "x": columns, "c": slice(None)}
        where = tuple(ranges[axis] if axis in ranges else self.at[axis] for axis in self.axes)
        part = np.asarray(self.arrays[level][where])
        kept = [axis for axis in self.axes if axis in ranges]
        if "c" not in kept:
            kept, part = [*kept, "c"], part[..., None]
        return part.transpose([kept.index(axis) for axis in "yxc"])


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say in every error which folder it is about."""
    try:
        yield
    except (UsageError, MissingDependencyError):
        raise
    except SourceError as error:
        text = str(error)
        raise error if text.startswith(str(path)) else SourceError(f"{path}: {text}") from error.__cause__
    except Exception as error:  # what zarr raises for damaged metadata
        raise SourceError(f"{path}: zarr cannot open it ({type(error).__name__}: {error})") from error


def _open(path: Path) -> Any:
    """Open the root: an array, or a group with its own metadata rather than consolidated ones, which can be stale."""
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError("zarr", "wsi") from error
    for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"):
        if (path / name).is_file() and (path / name).stat().st_size > _MAX_METADATA:
            raise SourceError(f"{name} is larger than {_MAX_METADATA} bytes")
    node = zarr.open(str(path), mode="r")
    return node if hasattr(node, "shape") else zarr.open_group(str(path), mode="r", use_consolidated=False)


def _refuse_choice(selection: Selection, names: Sequence[str]) -> None:
    """Refuse a number other than 0 of something that there is one of."""
    for name in names:
        number = getattr(selection, name)
        if number is None:
            continue
        if name == "page":
            raise UsageError("--page", "a Zarr folder has no pages")
        if number != 0:
            what = {"image": "image", "plane": "focal plane", "time": "time point"}[name]
            raise UsageError(f"--{name}", f"there is one {what}, number 0")


def _ome_image(chosen: Chosen, selection: Selection) -> tuple[_Picture, list[str]]:
    """Open the arrays of an image of a group."""
    image = chosen.multiscale
    if len(image.datasets) > _MAX_LEVELS:
        raise SourceError(f"{len(image.datasets)} levels; up to {_MAX_LEVELS} are read")
    pairs = [(chosen.group[dataset.path], dataset) for dataset in image.datasets]
    if not all(hasattr(array, "shape") and hasattr(array, "dtype") for array, _ in pairs):
        raise SourceError("a dataset of its multiscales is no array")
    _check(image.axes, [array for array, _ in pairs])
    x, y = image.axes.index("x"), image.axes.index("y")
    pairs.sort(key=lambda pair: -pair[0].shape[x] * pair[0].shape[y])
    at, notes = _positions(image.axes, pairs[0][0].shape, selection)
    count = pairs[0][0].shape[image.axes.index("c")] if "c" in image.axes else 1
    channels = _channels(image, count, chosen.xml)
    mpp = image.mpp(pairs[0][1])
    if None in mpp and chosen.xml is not None and None not in (chosen.xml.mpp_x, chosen.xml.mpp_y):
        mpp = (chosen.xml.mpp_x, chosen.xml.mpp_y)
    return _Picture(tuple(array for array, _ in pairs), image.axes, at, channels, mpp), notes


def _channels(image: Multiscale, count: int, xml: OmeImage | None) -> tuple[Channel, ...] | None:
    """Return the channels; None where they are one RGB picture."""
    names: Sequence[str | None] = image.names
    colours: Sequence[Colour | None] = image.colours
    if len(names) != count and xml is not None:
        if count == 3 and [channel.samples for channel in xml.channels] == [3]:
            return None
        names, colours = [c.name for c in xml.channels], [c.colour for c in xml.channels]
    if len(names) != count or len(colours) != count:
        names, colours = (None,) * count, (None,) * count
    return channels_of(names, colours)


def _plain_array(array: Any, selection: Selection) -> tuple[_Picture, list[str]]:
    """Read an array that is no part of OME-Zarr."""
    axes = _dimension_names(array)
    by_shape = axes is None
    if axes is None:
        axes = _axes_by_shape(array)
    _check(axes, [array])
    at, notes = _positions(axes, array.shape, selection)
    count = int(array.shape[axes.index("c")]) if "c" in axes else 1
    if by_shape:
        notes.append("its axes are not named: by its shape it was taken for red, green and blue")
    nothing = (None,) * count
    channels = None if by_shape else channels_of(nothing, nothing)
    return _Picture((array,), axes, at, channels, (None, None)), notes


def _dimension_names(array: Any) -> tuple[str, ...] | None:
    """Return the axes that zarr's dimension_names or xarray's _ARRAY_DIMENSIONS name; None where they tell nothing."""
    given = getattr(array.metadata, "dimension_names", None) or dict(array.attrs).get("_ARRAY_DIMENSIONS")
    if not isinstance(given, (list, tuple)) or len(given) != array.ndim:
        return None
    names = [name if isinstance(name, str) else "" for name in given]
    known = [axis_of(name) for name in names]
    if not any(known):
        return None
    axes = tuple(axis or f"{name}#{index}" for index, (axis, name) in enumerate(zip(known, names, strict=True)))
    if len(set(axes)) != len(axes) or not {"x", "y"} <= set(axes):
        raise SourceError("the array names its axes, but not one y and one x")
    return axes


def _axes_by_shape(array: Any) -> tuple[str, ...]:
    """Axes of an array that does not name them."""
    shape = tuple(int(n) for n in array.shape)
    first, last = len(shape) >= 3 and shape[-3] == 3, len(shape) >= 3 and shape[-1] == 3
    if any(n != 1 for n in shape[:-3]) or not (first or last):
        raise SourceError(
            f"an array of shape {shape} and dtype {array.dtype}; needed are uint8 and (3, H, W) or (H, W, 3), or names "
            "of its axes: zarr's dimension_names, xarray's _ARRAY_DIMENSIONS, or OME-Zarr"
        )
    if first and last:
        raise SourceError(
            f"an array of shape {shape} can be (3, H, W) as well as (H, W, 3): name its axes (dimension_names, "
            "_ARRAY_DIMENSIONS)"
        )
    leading = tuple(f"#{index}" for index in range(len(shape) - 3))
    return (*leading, "c", "y", "x") if first else (*leading, "y", "x", "c")


def _check(axes: tuple[str, ...], arrays: Sequence[Any]) -> None:
    """Refuse arrays that are not the levels of one 8-bit image."""
    first = arrays[0]
    for array in arrays:
        if array.ndim != len(axes):
            raise SourceError(f"an array of shape {array.shape} for {len(axes)} axes")
        if np.dtype(array.dtype) != np.uint8:
            raise SourceError(
                f"samples of dtype {array.dtype}: archives hold 8 bits without sign (uint8) a sample, and nothing is "
                "cut to that"
            )
        if any(n < 1 for n in array.shape):
            raise SourceError(f"an array of shape {array.shape} holds no pixels")
        for axis, size, expected in zip(axes, array.shape, first.shape, strict=True):
            if axis not in ("x", "y") and size != expected:
                raise SourceError(
                    f"its levels disagree: {shown_axis(axis, axes.index(axis))} has the length {expected} in one and "
                    f"{size} in another"
                )
        chunk = int(np.prod([int(n) for n in array.chunks], dtype=object))
        if chunk > _MAX_CHUNK:
            raise SourceError(f"chunks of {chunk} bytes; up to {_MAX_CHUNK} can be read: write it in smaller chunks")
        if array.shape[axes.index("x")] * array.shape[axes.index("y")] > _MAX_PIXELS:
            raise SourceError(f"a level of shape {array.shape} is larger than {_MAX_PIXELS} px")
    if "c" in axes and first.shape[axes.index("c")] > _MAX_CHANNELS:
        raise SourceError(f"{first.shape[axes.index('c')]} channels; up to {_MAX_CHANNELS} are read")


def _positions(axes: tuple[str, ...], shape: Sequence[int], selection: Selection) -> tuple[dict[str, int], list[str]]:
    """Return the index on every axis but c, y, x, and what that leaves out."""
    at, notes = {}, []
    for index, (axis, length) in enumerate(zip(axes, shape, strict=True)):
        if axis in ("c", "y", "x"):
            continue
        option, field, what = _OPTIONS.get(axis, ("", "", ""))
        chosen = getattr(selection, field) if field else None
        if length > 1 and not option:
            raise SourceError(
                f"{shown_axis(axis.partition('#')[0], index)} has the length {length}: read are axes c, y and x, and "
                "one position on z and t"
            )
        if length > 1 and chosen is None:
            raise SourceError(
                f"axis {axis} has the length {length}: {length} {what}; {option} N takes one (0 to {length - 1})"
            )
        if chosen is not None and chosen >= length:
            raise UsageError(option, f"{chosen}: there are {length} {what}, 0 to {length - 1}")
        at[axis] = chosen or 0
        if length > 1:
            notes.append(f"{field} {at[axis]} of {length} was taken (axis {axis}); the others are not in the archive")
    for axis, (option, field, what) in _OPTIONS.items():
        if axis not in axes and getattr(selection, field):
            raise UsageError(option, f"{getattr(selection, field)}: there is no axis of {what}")
    return at, notes


def _codec_name(array: Any) -> str | None:
    """Return the name of the codec that wrote the chunks, where zarr tells."""
    try:
        metadata = array.metadata.to_dict()
        names = [codec["name"] for codec in metadata.get("codecs", ())] or [metadata["compressor"]["id"]]
    except (AttributeError, KeyError, TypeError):
        return None
    return "+".join(str(name) for name in names)


def _archive_facts(archive: Archive) -> SlideFacts:
    """Return the facts that an archive recorded about its slide."""
    facts = archive.facts
    codecs = [SourceCodec("DLPR", tau > 0) for tau in archive.level_tau]
    bounds = facts.get("bounds")
    return SlideFacts(
        name=archive.path.name,
        vendor=str(facts.get("vendor", "unknown")),
        file_bytes=directory_bytes(archive.path),
        codec=codecs[0],
        levels=tuple(
            Level(level.width, level.height, level.downsample, codec)
            for level, codec in zip(archive.levels, codecs, strict=True)
        ),
        tile_width=archive.levels[0].tile_width,
        tile_height=archive.levels[0].tile_height,
        mpp_x=archive.mpp_x,
        mpp_y=archive.mpp_y,
        objective_power=facts.get("objective_power"),
        associated=(),
        background=archive.background,
        icc_profile=archive.icc_profile,
        bounds=None if bounds is None else tuple(bounds),
        properties=dict(facts.get("properties", {})),
        channels=archive.channels,
        reader=f"dlpr-wsi {dlpr.__version__}",
    )
