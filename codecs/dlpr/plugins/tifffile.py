"""DLPR in tiled TIFF files, for tifffile and what is built on it (tiffslide, `aszarr`).

tifffile has no public way to add a compression. `register` enters the decoder into two of its tables, checks that
tifffile finds it there, and says so where it does not. Importing this module registers; after ``import dlpr_wsi`` that
happens as soon as tifffile is imported.

A tile holds one DLPR stream of three channels, of layout (3, h, w) or (h, w, 3). tifffile wants (h, w, 3), so the
decoder moves the axes by the stream's own layout; the bytes of a Zarr archive's chunks go into a TIFF unchanged.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
import tifffile

import dlpr
from dlpr.errors import CorruptError, PluginError
from dlpr.layout import Axes, Layout
from dlpr.modes.jpeg.prior import remember
from dlpr.plugins import CodecOptions

__all__ = ["COMPRESSION", "decode_tile", "register"]

COMPRESSION = CodecOptions.TIFF_COMPRESSION
"""Private value of the tag Compression (259) for DLPR streams."""


class _Tile(np.ndarray[Any, np.dtype[np.uint8]]):
    """A decoded tile that refuses to be taken for one of another size.

    tifffile reshapes whatever has the right number of samples, so a stream of 128 x 32 px in a tile of 64 x 64 px
    would read as wrong pixels.
    """

    def reshape(self, *shape: Any, **_options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:  # type: ignore[override]
        """Return the samples as a plain array of tifffile's (depth, height, width, samples)."""
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple) else tuple(shape)
        if wanted != (1, *self.shape):
            raise CorruptError(
                f"the stream holds {self.shape[1]} x {self.shape[0]} px of {self.shape[2]} channels, the TIFF says "
                f"that tiles have the shape {wanted}: the file was put together wrongly"
            )
        return self.view(np.ndarray).reshape(wanted)


def decode_tile(data: Any, out: Any = None, **_options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode one tile as tifffile asks for it.

    Parameters
    ----------
    data : bytes-like
        A DLPR stream.
    out : None
        Not used; tifffile passes none to codecs of whole images.

    Returns
    -------
    numpy.ndarray
        uint8, (height, width, channels).

    Raises
    ------
    dlpr.errors.BitstreamError
        The stream is damaged.
    """
    decoded = dlpr.decode(bytes(data))
    layout, _, _ = Layout.of(decoded.shape)
    core = decoded.reshape(decoded.shape[layout.leading :])
    if layout.axes is Axes.CHW:
        core = np.ascontiguousarray(np.moveaxis(core, 0, -1))
    elif layout.axes is Axes.HW:
        core = core[..., None]
    return core.view(_Tile)


def _follow_slides() -> None:
    """Remember prior and tuned weights of every file that tifffile opens: decoders of tiles see no tags."""
    plain = tifffile.TiffPage.__init__
    if hasattr(plain, "__wrapped__"):
        return

    @functools.wraps(plain)
    def init(self: Any, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)
        if self.compression != COMPRESSION:
            return
        with contextlib.suppress(CorruptError):  # tiles that name another are refused by name
            if (data := self.tags.valueof(CodecOptions.TIFF_PRIOR_TAG)) is not None:
                self.parent.dlpr_prior = remember(bytes(data))  # known as long as the file is open
        with contextlib.suppress(CorruptError):
            if (data := self.tags.valueof(CodecOptions.TIFF_TUNED_TAG)) is not None:
                self.parent.dlpr_tuned = CodecOptions.tuned_of_tiff(bytes(data))

    setattr(tifffile.TiffPage, "__init__", init)  # noqa: B010


def register() -> None:
    """Let tifffile read tiles of compression `COMPRESSION`.

    Does nothing the second time. Files that were opened and read from before may have to be opened again.

    Raises
    ------
    dlpr.errors.PluginError
        This tifffile has no tables of the known form, or something else claims the compression's value.
    """
    version = getattr(tifffile, "__version__", "of unknown version")
    try:
        table: Any = tifffile.TIFF.DECOMPRESSORS
        codecs, images = table._codecs, tifffile.TIFF.IMAGE_COMPRESSIONS
        known = isinstance(codecs, dict) and isinstance(images, set)
    except AttributeError:
        known = False
    if not known:
        raise PluginError(
            f"tifffile {version} keeps its decoders where this version of dlpr does not know them; install another "
            "tifffile (2024.7.2 to 2026.11.8 are known to work) or a newer dlpr-wsi"
        )
    present = codecs.get(COMPRESSION)
    if present is not None and getattr(present, "__module__", None) != __name__:
        raise PluginError(f"TIFF compression {COMPRESSION} is already taken by {present!r}")
    _follow_slides()
    codecs[COMPRESSION] = decode_tile
    images.add(COMPRESSION)
    try:
        found = tifffile.TIFF.DECOMPRESSORS[COMPRESSION]
    except KeyError:
        found = None
    if found is not decode_tile or COMPRESSION not in tifffile.TIFF.IMAGE_COMPRESSIONS:
        raise PluginError(f"tifffile {version} does not look decoders up where this version of dlpr puts them")


register()
