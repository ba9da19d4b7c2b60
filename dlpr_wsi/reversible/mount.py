"""``dlpr-wsi mount``: the slides of reversible archives as files in a folder, through FUSE."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import MissingDependencyError, UsageError, WsiError
from dlpr_wsi.reversible.catalogue import Catalogue, Listed
from dlpr_wsi.reversible.originals import MakingCache

try:
    import mfusepy
except ImportError as error:
    raise MissingDependencyError("mfusepy", "mount") from error
except OSError as error:  # it is there, the system's library is not
    raise WsiError(
        f"FUSE is not installed on this machine ({error}); Debian, Ubuntu: apt install fuse3; macOS: macFUSE"
    ) from error

__all__ = ["SlideFolder", "mount"]

_ENDED_BY_SIGNAL = 8  # what libfuse returns then
_BLOCK = 4096


class SlideFolder(mfusepy.Operations):  # type: ignore[misc]
    """What the kernel asks of the folder.

    Parameters
    ----------
    catalogue : Catalogue
        The files.
    started : str
        What to print when the folder is there.
    """

    use_ns = True

    def __init__(self, catalogue: Catalogue, started: str = "") -> None:
        self._catalogue, self._started = catalogue, started
        self._born = time.time_ns()
        self._handles: dict[int, Listed] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def init(self, path: str) -> None:
        """Say that the folder is there."""
        if self._started:
            print(self._started, flush=True)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """Return size, kind and time of a file or folder."""
        name = path.strip("/")
        found = self._catalogue.file(name)
        if found is None:
            if not self._catalogue.is_folder(name):
                raise mfusepy.FuseOSError(errno.ENOENT)
            kind, size, when = stat.S_IFDIR | 0o555, 0, self._born
        else:
            kind, size, when = stat.S_IFREG | 0o444, found.entry.size, found.time_ns
        return {
            "st_mode": kind,
            "st_nlink": 1,
            "st_size": size,
            "st_blocks": -(-size // 512),
            "st_mtime": when,
            "st_ctime": when,
            "st_atime": when,
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        """Return the names in a folder."""
        names = self._catalogue.names(path.strip("/"))
        if names is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return [".", "..", *names]

    def open(self, path: str, flags: int) -> int:
        """Open a file for reading."""
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise mfusepy.FuseOSError(errno.EROFS)
        found = self._catalogue.file(path.strip("/"))
        if found is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        with self._lock:
            handle = next(self._numbers)
            self._handles[handle] = found
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Return bytes; EIO where they cannot be made, which the log names."""
        found = self._handles.get(fh)
        if found is None:
            raise mfusepy.FuseOSError(errno.EBADF)
        try:
            return self._catalogue.read(found, offset, size)
        except WsiError:
            raise mfusepy.FuseOSError(errno.EIO) from None

    def release(self, path: str, fh: int) -> int:
        """Close a file."""
        with self._lock:
            self._handles.pop(fh, None)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """Return that nothing is free."""
        return {"f_bsize": _BLOCK, "f_frsize": _BLOCK, "f_blocks": 0, "f_bfree": 0, "f_bavail": 0, "f_namemax": 255}


def mount(
    archives: Sequence[Path],
    folder: Path,
    *,
    cache_bytes: int = 256_000_000,
    threads: int | None = None,
    allow_other: bool = False,
) -> int:
    """Show the slides of reversible archives in a folder until it is unmounted, interrupted or terminated.

    Parameters
    ----------
    archives : sequence of Path
        Reversible archives, or folders of them.
    folder : Path
        An empty folder.
    cache_bytes : int
        Bound on the bytes kept for the next read; the kernel keeps more where it has room.
    threads : int, optional
        That make the bytes of one read; default: one for each CPU core.
    allow_other : bool
        Let other users of this machine read the files.

    Returns
    -------
    int
        The exit status: 0.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        The folder is missing or not empty.
    dlpr_wsi.errors.WsiError
        A named archive is not reversible, or FUSE cannot be used.
    """
    try:
        if not folder.is_dir() or any(folder.iterdir()):
            raise UsageError("DIR", f"{folder} must be an empty folder")
    except OSError as error:
        raise UsageError("DIR", f"{folder} cannot be read ({error.strerror})") from error
    if sys.platform == "linux" and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise WsiError("/dev/fuse cannot be used: no FUSE in this kernel or container, or no rights")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    catalogue = Catalogue(archives, MakingCache(cache_bytes), threads, without=folder)
    options: dict[str, Any] = {"ro": True, "auto_cache": True, "allow_other": allow_other, "fsname": "dlpr-wsi"}
    started = f"mounted at {folder}  (Ctrl-C, SIGTERM or umount ends it)"
    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        with suppress(ValueError):  # not in the main thread
            before[number] = signal.signal(number, signal.SIG_DFL)  # libfuse unmounts on signals that nobody handles
    try:
        mfusepy.FUSE(SlideFolder(catalogue, started), str(folder), foreground=True, **options)
    except RuntimeError as error:
        if error.args != (_ENDED_BY_SIGNAL,):
            raise WsiError(f"{folder}: the folder could not be mounted, or its end was not clean ({error})") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        catalogue.close()
    return 0
