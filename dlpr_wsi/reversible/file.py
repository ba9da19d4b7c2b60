"""One of the slide's files as a Python file: read-only, seekable, its bytes made when they are read."""

from __future__ import annotations

import io
import os
from pathlib import Path

from dlpr_wsi.reversible.originals import CACHE_BYTES, MakingCache, Originals

__all__ = ["OriginalFile", "open_original"]

_BUFFER = 1 << 16


class OriginalFile(io.RawIOBase):
    """A file of an open archive. Threads that share one share its position; `read_at` needs none.

    Parameters
    ----------
    originals : Originals
        The archive.
    number : int
        Which of its files.
    own : bool
        Close ``originals`` with this file.
    """

    def __init__(self, originals: Originals, number: int, *, own: bool = False) -> None:
        self._originals, self._number, self._own = originals, number, own
        self._entry = originals.files[number]
        self._at = 0

    @property
    def name(self) -> str:
        """Its name in the slide."""
        return self._entry.name

    @property
    def size(self) -> int:
        """In bytes."""
        return self._entry.size

    @property
    def sha256(self) -> str:
        """Of the whole file, in hexadecimal."""
        return self._entry.sha256.hex()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes at a place; fewer at the end. May be called from many threads."""
        self._usable()
        return self._originals.read(self._number, offset, size)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        self._usable()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; beyond the end there is nothing to read."""
        self._usable()
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError(f"invalid whence ({whence})")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._entry.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer from the position on; return how many bytes there were."""
        self._usable()
        view = memoryview(buffer).cast("B")
        data = self._originals.read(self._number, self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Release the archive, if it was opened for this file."""
        if not self.closed and self._own:
            self._originals.close()
        super().close()

    def _usable(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def open_original(
    archive: str | os.PathLike[str], name: str | None = None, *, cache_bytes: int = CACHE_BYTES
) -> io.BufferedReader:
    """Open a file of the slide that a reversible archive was made from.

    Parameters
    ----------
    archive : path
        The archive.
    name : str, optional
        Which file, for slides of several.
    cache_bytes : int
        Bound on the bytes kept for the next read.

    Returns
    -------
    io.BufferedReader
        Read-only and seekable; ``.raw`` is the `OriginalFile` with ``name``, ``size``, ``sha256`` and ``read_at``.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        It is no reversible archive, is damaged, or has no such file. Reading raises it too: it names the bytes and
        the chunk at fault.

    Examples
    --------
    >>> import shutil
    >>> with open_original("slide.zarr") as file, open("slide.svs", "wb") as out:  # doctest: +SKIP
    ...     shutil.copyfileobj(file, out)
    """
    originals = Originals(Path(archive), cache=MakingCache(cache_bytes))
    try:
        return io.BufferedReader(OriginalFile(originals, originals.number(name), own=True), _BUFFER)
    except BaseException:
        originals.close()
        raise
