"""Zarr arrays, OME-Zarr groups and our own archives as sources of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import ArchiveError, MissingDependencyError, SourceError
from dlpr_wsi.sources import Level, NoTiles, SlideFacts, SourceCodec
from dlpr_wsi.sources.archive import Archive, directory_bytes, open_zarr_archive

__all__ = ["ZarrSource"]


class ZarrSource(NoTiles):
    """A Zarr folder: an array of shape (3, H, W) or (H, W, 3), or an OME-Zarr image of such arrays.

    Leading axes of length 1 (time, depth) are allowed.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        zarr is not installed.
    dlpr_wsi.errors.SourceError
        The folder holds no image of three 8-bit channels.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive: Archive | None = None
        try:
            self._archive = open_zarr_archive(path)
        except ArchiveError:
            self._arrays, attributes = _open_arrays(path)
            self._first = [_channel_first(array.shape) for array in self._arrays]
            self._facts = self._describe(attributes)
        else:
            self._facts = _archive_facts(self._archive)

    def _describe(self, attributes: Mapping[str, Any]) -> SlideFacts:
        sizes = []
        for array, first in zip(self._arrays, self._first, strict=True):
            sizes.append((array.shape[-1], array.shape[-2]) if first else (array.shape[-2], array.shape[-3]))
        codec = SourceCodec(_codec_name(self._arrays[0]), None)
        width, height = sizes[0]
        scale = _scale(attributes)
        return SlideFacts(
            name=self._path.name,
            vendor="ome-zarr" if len(self._arrays) > 1 or scale != (None, None) else "zarr",
            file_bytes=directory_bytes(self._path),
            codec=codec,
            levels=tuple(Level(w, h, (width / w + height / h) / 2, codec) for w, h in sizes),
            tile_width=None,
            tile_height=None,
            mpp_x=scale[0],
            mpp_y=scale[1],
            objective_power=None,
            associated=(),
            background=(255, 255, 255),
        )

    @property
    def facts(self) -> SlideFacts:
        """What the folder says about itself."""
        return self._facts

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return a region of a level as (height, width, 3) RGB."""
        try:
            if self._archive is not None:
                return self._archive.read(x, y, width, height, level)
            place = self._facts.levels[level]
            out = np.empty((height, width, 3), np.uint8)
            out[:] = self._facts.background
            top, bottom = max(y, 0), min(y + height, place.height)
            left, right = max(x, 0), min(x + width, place.width)
            if top < bottom and left < right:
                array = self._arrays[level]
                zeros = (0,) * (array.ndim - 3)
                rows, columns = slice(top, bottom), slice(left, right)
                if self._first[level]:
                    part = np.asarray(array[(*zeros, slice(None), rows, columns)]).transpose(1, 2, 0)
                else:
                    part = np.asarray(array[(*zeros, rows, columns, slice(None))])
                out[top - y : bottom - y, left - x : right - x] = part
            return out
        except Exception as error:  # zarr, its codecs and its stores raise many kinds
            raise SourceError(
                f"{self._path}: reading {width}x{height} px at x={x} y={y} of level {level} failed ({error})"
            ) from error

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Raise: associated images of archives are OME-Zarr images of their own."""
        raise SourceError(f"{self._path}: no associated image {name!r}")

    def close(self) -> None:
        """Nothing stays open."""


def _open_arrays(path: Path) -> tuple[list[Any], Mapping[str, Any]]:
    """Open a Zarr array or the arrays of an OME-Zarr image; largest first."""
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError("zarr", "wsi") from error
    try:
        node: Any = zarr.open(str(path), mode="r")
        attributes = dict(node.attrs)
        ome = attributes.get("ome", attributes)
        if hasattr(node, "shape"):
            arrays = [node]
        elif "multiscales" in ome:
            arrays = [node[dataset["path"]] for dataset in ome["multiscales"][0]["datasets"]]
        else:
            raise SourceError(f"{path}: a Zarr group without multiscales: name an array inside it")
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{path}: zarr cannot open it ({error})") from error
    for array in arrays:
        if array.dtype != np.uint8 or array.ndim < 3 or _channel_first(array.shape) is None:
            raise SourceError(
                f"{path}: an array of shape {array.shape} and dtype {array.dtype}; "
                "needed are uint8 and (3, H, W) or (H, W, 3)"
            )
    return arrays, ome


def _channel_first(shape: tuple[int, ...]) -> bool | None:
    """Whether a shape reads as (..., 3, H, W), or as (..., H, W, 3); None if as neither."""
    if any(n != 1 for n in shape[:-3]):
        return None
    if shape[-1] == 3:
        return False
    return True if shape[-3] == 3 else None


def _codec_name(array: Any) -> str | None:
    """Return the name of the codec that wrote the chunks, where zarr tells."""
    try:
        metadata = array.metadata.to_dict()
        names = [codec["name"] for codec in metadata.get("codecs", ())] or [metadata["compressor"]["id"]]
    except (AttributeError, KeyError, TypeError):
        return None
    return "+".join(str(name) for name in names)


def _scale(ome: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Micrometres per px in x and y from OME metadata."""
    try:
        image = ome["multiscales"][0]
        names = [axis["name"] for axis in image["axes"]]
        units = {axis["name"]: axis.get("unit") for axis in image["axes"]}
        (scale,) = [t["scale"] for t in image["datasets"][0]["coordinateTransformations"] if t["type"] == "scale"]
        values = [float(scale[names.index(axis)]) for axis in ("x", "y")]
    except (KeyError, ValueError, TypeError, IndexError):
        return (None, None)
    good = all(units[axis] == "micrometer" for axis in ("x", "y")) and all(math.isfinite(v) and v > 0 for v in values)
    return (values[0], values[1]) if good else (None, None)


def _archive_facts(archive: Archive) -> SlideFacts:
    """Return the facts that an archive recorded about its slide."""
    facts = archive.facts
    codec = SourceCodec("DLPR", archive.tau > 0)
    bounds = facts.get("bounds")
    return SlideFacts(
        name=archive.path.name,
        vendor=str(facts.get("vendor", "unknown")),
        file_bytes=directory_bytes(archive.path),
        codec=codec,
        levels=tuple(Level(level.width, level.height, level.downsample, codec) for level in archive.levels),
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
    )
