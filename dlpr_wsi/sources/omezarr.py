"""What OME-Zarr metadata say: axes, scales and channels of an image, versions 0.1 to 0.5. Reads no pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources.ome import Colour, hex_colour
from dlpr_wsi.sources.units import micrometres

__all__ = ["Dataset", "Multiscale", "axis_of", "parse_multiscale", "shown_axis"]

_IMPLIED = ("t", "c", "z", "y", "x")  # versions 0.1 and 0.2
_PATCH = r"(\.[0-9]{1,3})?(-?(dev|rc)[0-9]{0,3})?"
_VERSION = re.compile(r"0\.[1-5]" + _PATCH)
_UNNAMED = re.compile(r"0\.[12]" + _PATCH)
_TYPES = {"channel": "c", "time": "t"}
_ALIASES = {
    "x": ("x", "column", "columns", "col", "width"),
    "y": ("y", "row", "rows", "height"),
    "z": ("z", "plane", "depth", "focal plane"),
    "c": ("c", "channel", "channels", "s", "sample", "samples", "rgb", "band"),
    "t": ("t", "time"),
}
_AXES = {word: axis for axis, words in _ALIASES.items() for word in words}


@dataclass(frozen=True)
class Dataset:
    """One level of an image.

    Parameters
    ----------
    path : str
        Of its array, inside the image's group.
    scale : tuple of float or None
        Along each axis, in that axis's unit; None where it is not given.
    """

    path: str
    scale: tuple[float, ...] | None


@dataclass(frozen=True)
class Multiscale:
    """One image of a group.

    Parameters
    ----------
    axes : tuple of str
        In the arrays' order: t, c, z, y, x; another axis by its own name.
    units : tuple of str or None
        Of the axes.
    datasets : tuple of Dataset
        As listed.
    names : tuple of str or None
        Of its channels, as the key omero tells; empty without.
    colours : tuple of (int, int, int) or None
        Of its channels.
    """

    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    datasets: tuple[Dataset, ...]
    names: tuple[str | None, ...]
    colours: tuple[Colour | None, ...]

    def mpp(self, dataset: Dataset) -> tuple[float | None, float | None]:
        """Micrometres per px of a level in x and y; None where scale or unit of either is not known."""
        if dataset.scale is None:
            return (None, None)
        sizes = []
        for axis in ("x", "y"):
            index = self.axes.index(axis)
            sizes.append(micrometres(dataset.scale[index], self.units[index]))
        return (None, None) if None in sizes else (sizes[0], sizes[1])


def axis_of(name: str) -> str | None:
    """Return which of t, c, z, y, x an axis of a given name is; None if none of them.

    Examples
    --------
    >>> axis_of("Y"), axis_of("channel"), axis_of("lambda")
    ('y', 'c', None)
    """
    return _AXES.get(name.strip().casefold())


def shown_axis(name: str, index: int) -> str:
    """Return an axis's name for messages; its number where the name is more than a short word."""
    return f"axis {name}" if re.fullmatch(r"[A-Za-z0-9_]{1,16}", name) else f"axis {index}"


def parse_multiscale(ome: Mapping[str, Any], index: int = 0) -> Multiscale:
    """Read one image of a group's OME attributes.

    Parameters
    ----------
    ome : mapping
        The attributes: those under the key ``ome`` (0.5), or all of them.
    index : int
        Which entry of ``multiscales``.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        The metadata are damaged, of a version that is not known, or do not name the axes. Without the file's name.
    """
    try:
        image = ome["multiscales"][index]
        version = image.get("version", ome.get("version"))
        if version is not None and not _VERSION.fullmatch(str(version)):
            raise SourceError("OME-Zarr of a version that is not known; known are 0.1 to 0.5")
        axes, units = _axes(image.get("axes"), version)
        after = _scale(image.get("coordinateTransformations"), len(axes))
        datasets = []
        for entry in image["datasets"]:
            path = entry["path"]
            if not isinstance(path, str):
                raise TypeError("a dataset's path is no text")
            datasets.append(Dataset(path, _product(_scale(entry.get("coordinateTransformations"), len(axes)), after)))
        if not datasets:
            raise ValueError("no datasets")
        names, colours = _channels(ome.get("omero"))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SourceError(f"its OME-Zarr metadata are damaged ({type(error).__name__})") from error
    return Multiscale(axes, units, tuple(datasets), names, colours)


def _axes(listed: Any, version: Any) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Name the axes: objects (0.4, 0.5), words (0.3), or nothing (0.1, 0.2)."""
    if listed is None:
        if version is not None and not _UNNAMED.fullmatch(str(version)):
            raise SourceError(f"OME-Zarr {version} that does not name its axes")
        return _IMPLIED, (None,) * len(_IMPLIED)
    axes: list[str] = []
    units: list[str | None] = []
    for entry in listed:
        name = entry if isinstance(entry, str) else entry["name"]
        kind, unit = (None, None) if isinstance(entry, str) else (entry.get("type"), entry.get("unit"))
        known = _TYPES.get(kind) if isinstance(kind, str) else None
        axes.append(axis_of(name) or known or str(name))
        units.append(unit if isinstance(unit, str) else None)
    if len(set(axes)) != len(axes):
        raise SourceError(f"OME-Zarr that gives one name to two of its {len(axes)} axes")
    if not {"x", "y"} <= set(axes):
        raise SourceError("OME-Zarr without axes named y and x")
    return tuple(axes), tuple(units)


def _scale(transformations: Any, count: int) -> tuple[float, ...] | None:
    """Multiply the scales of a list of transformations; None where there is none, no numbers where it is malformed."""
    if not isinstance(transformations, Sequence):
        return None
    total: tuple[float, ...] | None = None
    for entry in transformations:
        if entry.get("type") == "scale":
            values = entry.get("scale")
            if not isinstance(values, Sequence) or len(values) != count:
                return (math.nan,) * count
            numbers = tuple(float(value) for value in values)
            total = numbers if total is None else tuple(a * b for a, b in zip(total, numbers, strict=True))
    return total


def _product(own: tuple[float, ...] | None, after: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """The level's own scale, then that of all levels."""
    if own is None or after is None:
        return own if after is None else after
    return tuple(a * b for a, b in zip(own, after, strict=True))


def _channels(omero: Any) -> tuple[tuple[str | None, ...], tuple[Colour | None, ...]]:
    """Names and colours of channels; none where the key omero is absent or malformed."""
    listed = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(listed, Sequence) or not all(isinstance(channel, Mapping) for channel in listed):
        return (), ()
    labels = [channel.get("label") for channel in listed]
    return (
        tuple(label if isinstance(label, str) and label.strip() else None for label in labels),
        tuple(hex_colour(channel.get("color")) for channel in listed),
    )
