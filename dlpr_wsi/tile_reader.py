"""Read regions of an archive as OpenSlide reads regions of a slide.

>>> from dlpr_wsi import TileReader  # doctest: +SKIP
>>> with TileReader("slide.zarr") as reader:  # doctest: +SKIP
...     reader.read_region((4096, 2048), 0, (512, 512)).convert("RGB").show()
"""

from __future__ import annotations

import io
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from os import PathLike
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import MissingDependencyError, UsageError
from dlpr_wsi.sources import Channel, Selection
from dlpr_wsi.viewer.channels import chosen, mix, put
from dlpr_wsi.viewer.engine import ChunkEngine, ChunkKey, shared_engine
from dlpr_wsi.viewer.pyramid import Box, best_level, blend, canvas, keys_of, paste, sampling
from dlpr_wsi.viewer.stores import ChunkStore, open_store

try:
    from PIL import Image
except ImportError as error:
    raise MissingDependencyError("pillow", "viewer") from error

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsProfile

__all__ = ["LevelArray", "TileReader"]

_MAX_PIXELS = 1 << 28
_GROUP = 64  # chunks asked for at a time: bounds what is in flight, however large the region


class TileReader:
    """An archive, or a slide, with the methods of `openslide.OpenSlide`.

    Parameters
    ----------
    path : path-like
        A DLPR archive (OME-Zarr or TIFF) or anything that OpenSlide reads.
    engine : ChunkEngine, optional
        Where chunks are decoded and kept; by default one that all readers and the server of this process share.
    selection : Selection, optional
        Which picture of a slide that holds several; where a message names the option ``--page``, it is its ``page``.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        The path cannot be opened.

    Notes
    -----
    Every method may be called from many threads at once. `openslide.deepzoom.DeepZoomGenerator` takes a reader.
    """

    def __init__(
        self, path: str | PathLike[str], *, engine: ChunkEngine | None = None, selection: Selection | None = None
    ) -> None:
        self._store: ChunkStore = open_store(Path(path), selection)
        self._engine = engine or shared_engine()

    def __enter__(self) -> TileReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TileReader({self._store.name!r})"

    def close(self) -> None:
        """Release the file and drop its chunks from the cache."""
        self._engine.forget(self._store)
        self._store.close()

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of level 0 in px."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self._store.levels)

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of each level in px, largest first."""
        return tuple((level.width, level.height) for level in self._store.levels)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """How many times smaller each level is than level 0."""
        return tuple(level.downsample for level in self._store.levels)

    @property
    def level_tiles(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of a chunk of each level in px; regions on this grid decode least."""
        return tuple((level.tile_width, level.tile_height) for level in self._store.levels)

    @property
    def tau(self) -> int | None:
        """The bound on the error of every sample of level 0; None for a slide."""
        return self._store.facts.tau

    @property
    def level_tau(self) -> tuple[int, ...] | None:
        """The bound of each level: larger where a level was made by the conversion. None for a slide."""
        return self._store.facts.level_tau

    @property
    def channels(self) -> tuple[Channel, ...] | None:
        """Names and colours of the channels; None for an RGB picture."""
        return self._store.facts.channels

    @property
    def properties(self) -> Mapping[str, str]:
        """Facts under OpenSlide's names, ``dlpr.tau`` and ``dlpr.level[N].tau``."""
        store, facts = self._store, self._store.facts
        found: dict[str, object] = {
            "openslide.level-count": self.level_count,
            "openslide.background-color": "{:02X}{:02X}{:02X}".format(*store.background),
            "openslide.mpp-x": facts.mpp_x,
            "openslide.mpp-y": facts.mpp_y,
            "openslide.objective-power": facts.objective_power,
            "dlpr.tau": facts.tau,
        }
        for i, level in enumerate(store.levels):
            found[f"openslide.level[{i}].width"] = level.width
            found[f"openslide.level[{i}].height"] = level.height
            found[f"openslide.level[{i}].downsample"] = level.downsample
            found[f"openslide.level[{i}].tile-width"] = level.tile_width
            found[f"openslide.level[{i}].tile-height"] = level.tile_height
            found[f"dlpr.level[{i}].tau"] = None if facts.level_tau is None else facts.level_tau[i]
        return MappingProxyType({key: f"{value}" for key, value in found.items() if value is not None})

    @property
    def associated_images(self) -> Mapping[str, Image.Image]:
        """Empty: label and macro can show who the patient is and are not served from here."""
        return MappingProxyType({})

    @property
    def color_profile(self) -> ImageCmsProfile | None:
        """The ICC profile, or None."""
        if self._store.icc_profile is None:
            return None
        from PIL import ImageCms

        return ImageCms.getOpenProfile(io.BytesIO(self._store.icc_profile))

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Return the level to read from for a display that shows 1 px for ``downsample`` px of level 0."""
        return best_level(self._store, downsample)

    def read(self, x: int, y: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """Return pixels of a level.

        Parameters
        ----------
        x, y : int
            Corner in px **of that level**.
        width, height : int
            Size in px; at most 2**28 px.
        level : int
            0 is the largest.

        Returns
        -------
        ndarray of uint8, (height, width, samples)
            RGB, outside the level in the background colour; of an image of channels one sample for each, outside 0.

        Raises
        ------
        dlpr_wsi.errors.UsageError
            No such level, or an impossible size.
        dlpr_wsi.viewer.engine.ChunkError
            A chunk is damaged; the message names it.
        """
        self._check(level, (width, height), self._store.levels[0].samples)
        return self._samples(level, Box(x, y, width, height))

    def read_region(
        self,
        location: tuple[int, int],
        level: int,
        size: tuple[int, int],
        *,
        channels: Sequence[int] | None = None,
    ) -> Image.Image:
        """Return a region as `openslide.OpenSlide.read_region` does.

        Parameters
        ----------
        location : tuple of int
            Corner (x, y) in px of level 0. Where it falls between two pixels of ``level`` the result is interpolated
            linearly, as OpenSlide does.
        level : int
            The level to read from.
        size : tuple of int
            (width, height) in px of ``level``; at most 2**28 px.
        channels : sequence of int, optional
            Which channels to show, of an image that has channels; default: all. Each is shown in its colour, and they
            are added up; sums stop at 255.

        Returns
        -------
        PIL.Image.Image
            RGBA; transparent outside the level.

        Raises
        ------
        dlpr_wsi.errors.UsageError
            No such level or channel, or an impossible size.
        dlpr_wsi.viewer.engine.ChunkError
            A chunk is damaged; the message names it.
        """
        self._check(level, size)
        at = sampling(self._store, level, location, size)
        rgb = self._picture(level, at.box, (0, 0, 0), channels)
        grid = self._store.levels[level]
        alpha = np.zeros(rgb.shape[:2], np.uint8)
        x0, y0 = max(0, -at.box.x), max(0, -at.box.y)
        alpha[y0 : max(0, grid.height - at.box.y), x0 : max(0, grid.width - at.box.x)] = 255
        rgba = blend(np.dstack([rgb, alpha]), at)
        part = (rgba[..., 3] > 0) & (rgba[..., 3] < 255)
        if part.any():  # half of a pixel lies outside: its colour was mixed with nothing, undo that
            mixed = rgba[part].astype(np.uint32)
            rgba[part, :3] = np.minimum(255, 255 * mixed[:, :3] // mixed[:, 3:])
        return Image.fromarray(rgba)

    def get_thumbnail(self, size: tuple[int, int]) -> Image.Image:
        """Return the whole image as RGB, at most ``size`` (width, height) px, as OpenSlide does."""
        width, height = self.dimensions
        level = self.get_best_level_for_downsample(max(width / size[0], height / size[1]))
        grid = self._store.levels[level]
        self._check(level, (grid.width, grid.height))
        whole = Box(0, 0, grid.width, grid.height)
        thumbnail = Image.fromarray(self._picture(level, whole, self._store.background, None))
        thumbnail.thumbnail(size, Image.Resampling.LANCZOS)
        return thumbnail

    @property
    def level_arrays(self) -> tuple[LevelArray, ...]:
        """Each level as a read-only array (height, width, samples) that decodes what is indexed."""
        return tuple(LevelArray(self, level) for level in range(self.level_count))

    def _check(self, level: int, size: tuple[int, int], samples: int = 3) -> None:
        if not 0 <= level < self.level_count:
            raise UsageError("level", f"must be 0..{self.level_count - 1}, not {level}")
        most = _MAX_PIXELS * 3 // max(3, samples)
        if min(size) < 0 or size[0] * size[1] > most:
            raise UsageError("size", f"must be at most {most} px in all, not {size[0]} x {size[1]}")

    def _samples(self, level: int, box: Box) -> NDArray[np.uint8]:
        """Return (h, w, samples)."""
        channels = chosen(self._store, None)
        if channels is None:
            return self._picture(level, box, self._store.background, None)
        out = np.zeros((box.height, box.width, len(channels)), np.uint8)
        self._each(keys_of(self._store, level, box), partial(put, out, box, channels=channels))
        return out

    def _picture(
        self, level: int, box: Box, fill: tuple[int, int, int], channels: Sequence[int] | None
    ) -> NDArray[np.uint8]:
        """Return (h, w, 3) RGB."""
        channels = chosen(self._store, channels)
        if channels is None:
            out = canvas(self._store, level, box, fill)
            self._each(keys_of(self._store, level, box), partial(paste, out, box))
        else:
            out = np.zeros((box.height, box.width, 3), np.uint8)
            self._each(keys_of(self._store, level, box, channels), partial(mix, out, box, channels=channels))
        return out

    def _each(self, keys: list[ChunkKey], use: Callable[[ChunkKey, NDArray[np.uint8]], None]) -> None:
        """Hand every chunk to a function."""
        for group in _groups(keys):
            futures = [self._engine.request(key) for key in group]
            try:
                for key, future in zip(group, futures, strict=True):
                    use(key, future.result().pixels)
            finally:  # after an error the rest is not wanted any more
                wait(future for future in futures if not future.cancel())


class LevelArray:
    """A level as an array; `dask.array.from_array` and NumPy take it.

    Parameters
    ----------
    reader : TileReader
        Where it reads.
    level : int
        Which level.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, reader: TileReader, level: int) -> None:
        self._reader, self._level = reader, level
        width, height = reader.level_dimensions[level]
        samples = 3 if reader.channels is None else len(reader.channels)
        self.shape = (height, width, samples)
        tile_width, tile_height = reader.level_tiles[level]
        self.chunks = (tile_height, tile_width, samples)
        """Shape of a stored chunk, all channels together."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Return part of the level; integers, slices and an ellipsis are understood."""
        parts: list[Any] = list(index) if isinstance(index, tuple) else [index]
        at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
        parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + (at < len(parts)))
        rows, columns, samples = parts
        y, x = _span(rows, self.shape[0]), _span(columns, self.shape[1])
        part = self._reader.read(x.low, y.low, x.high - x.low, y.high - y.low, self._level)
        return part[y.inside, x.inside, samples]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Decode the whole level."""
        return np.asarray(self[:], dtype=dtype)


class _Span(NamedTuple):
    """What to read along an axis, and what to take from it."""

    low: int
    high: int
    inside: int | slice


def _span(index: Any, length: int) -> _Span:
    if isinstance(index, slice):
        picked = range(length)[index]
        if not picked:
            return _Span(0, 0, slice(None))
        low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1
        return _Span(low, high, slice(None, None, picked.step))
    number = operator.index(index)
    at = range(length)[number]  # IndexError as NumPy's
    return _Span(at, at + 1, 0)


def _groups(keys: list[ChunkKey]) -> Iterator[list[ChunkKey]]:
    return (keys[i : i + _GROUP] for i in range(0, len(keys), _GROUP))
