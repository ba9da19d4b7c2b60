"""A Zarr format 3 array as an archive.

The array grows in a folder ``.NAME.xxxx.partial`` beside its destination and takes its name only when it is
complete, so whatever has the name is whole. Chunks that equal the fill value are written too (a constant
chunk is a few bytes): a missing file always means damage.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.sources.archive import ATTRIBUTES, chunk_key, directory_bytes, is_zarr, require_zarr

require_zarr()

import zarr  # noqa: E402  (after the check that names the missing extra)

__all__ = ["FILL_VALUE", "ZarrSink", "check_destination", "leftovers"]

FILL_VALUE = 255  # pads the chunks at the right and lower edge; white, as the background of bright field


class ZarrSink:
    """An archive being written.

    Parameters
    ----------
    out : Path
        Its name once complete.
    width, height : int
        Level 0 in px.
    tile : int
        Side of a chunk in px.
    tau : int
        Bound on the error of every sample.
    attributes : mapping
        JSON facts to store with it.
    overwrite : bool
        Replace an archive of that name at the end.
    batch : int
        Chunks encoded by one call of the codec.

    Notes
    -----
    `write` may be called from several threads for different chunks. A sink ends with `commit` or `discard`.
    """

    def __init__(
        self,
        out: Path,
        *,
        width: int,
        height: int,
        tile: int,
        tau: int,
        attributes: Mapping[str, Any],
        overwrite: bool,
        batch: int,
    ) -> None:
        from dlpr import DLPR

        check_destination(out, overwrite=overwrite)
        self._out = out
        self._tile = tile
        self._overwrite = overwrite
        try:
            self._partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        except OSError as error:
            raise ArchiveError(f"{out}: its folder cannot be written ({error.strerror})") from error
        try:
            self._partial.chmod(0o777 & ~_umask())  # mkdtemp makes it private, an archive is not
            with zarr.config.set({"codec_pipeline.batch_size": batch}):
                self._array = zarr.create_array(
                    self._partial,
                    shape=(3, height, width),
                    chunks=(3, tile, tile),
                    dtype=np.uint8,
                    serializer=DLPR(tau, threads=1),  # the pipeline's workers are the threads
                    compressors=None,
                    fill_value=FILL_VALUE,
                    attributes={ATTRIBUTES: dict(attributes)},
                    dimension_names=("c", "y", "x"),
                    config={"write_empty_chunks": True},
                    zarr_format=3,
                )
        except BaseException:
            self.discard()
            raise

    def write(self, row: int, column: int, pixels: NDArray[np.uint8]) -> list[bytes]:
        """Encode and store a run of chunks of one row.

        Parameters
        ----------
        row, column : int
            Position of the first chunk.
        pixels : ndarray of uint8, (height, width, 3)
            Whole chunks, except at the right and lower edge of the slide.

        Returns
        -------
        list of bytes
            The chunks as stored, read back from disk.
        """
        height, width = pixels.shape[:2]
        y, x = row * self._tile, column * self._tile
        self._array[:, y : y + height, x : x + width] = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        count = -(-width // self._tile)
        return [(self._partial / chunk_key(row, column + index)).read_bytes() for index in range(count)]

    def commit(self) -> int:
        """Give the complete archive its name and return its size in bytes.

        An archive that is replaced stays in place until this moment.
        """
        total = directory_bytes(self._partial)
        if hasattr(os, "sync"):
            os.sync()  # the name must not reach the disk before the chunks do
        check_destination(self._out, overwrite=self._overwrite)
        if not self._out.exists():
            self._partial.rename(self._out)
            return total
        folder = Path(tempfile.mkdtemp(prefix=f".{self._out.name}.", suffix=".old", dir=self._out.parent))
        old = folder / self._out.name
        try:
            self._out.rename(old)
            self._partial.rename(self._out)
        except BaseException:
            if old.exists() and not self._out.exists():
                old.rename(self._out)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return total

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._partial, ignore_errors=True)


def check_destination(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError unless an archive may be written under this name."""
    if not out.name:
        raise UsageError("OUT.zarr", f"{out} is not a name for an archive")
    if not out.parent.is_dir():
        raise UsageError("OUT.zarr", f"the folder {out.parent} does not exist")
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise UsageError("OUT.zarr", f"{out} exists; give --overwrite to replace it")
    if out.is_symlink() or not out.is_dir() or not is_zarr(out):
        raise UsageError("--overwrite", f"{out} is not a Zarr archive, so it is not replaced")


def leftovers(out: Path) -> list[Path]:
    """Return the unfinished folders that killed conversions to this name left behind."""
    return sorted(
        path for path in out.parent.iterdir() if path.name.startswith(f".{out.name}.") and path.suffix == ".partial"
    )


def _umask() -> int:
    """Return the process's umask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
