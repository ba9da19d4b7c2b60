"""Writes the slide's files out of its archive, or makes them and writes nothing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.progress import NoProgress, Progress
from dlpr_wsi.reversible.attach import prove
from dlpr_wsi.reversible.layout import FileEntry
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.sinks.place import sync_folder

__all__ = ["RestoreReport", "check", "restore"]


@dataclass(frozen=True)
class RestoreReport:
    """What was given back.

    Parameters
    ----------
    files : tuple of FileEntry
        All files of the slide; each was made whole, and its SHA-256 compared.
    paths : tuple of Path
        Where they are; empty where nothing was written.
    there : int
        Files that were there already.
    seconds : float
        Wall-clock time.
    """

    files: tuple[FileEntry, ...]
    paths: tuple[Path, ...]
    there: int
    seconds: float

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)


def check(archive: Path, *, threads: int | None = None, progress: Progress | None = None) -> RestoreReport:
    """Make every file of the slide and compare its SHA-256; write nothing.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        Naming the file and the bytes that cannot be given back.
    """
    begin = time.perf_counter()
    progress = progress or NoProgress()
    try:
        files = prove(archive, threads, progress)
    finally:
        progress.close()
    return RestoreReport(files, (), 0, time.perf_counter() - begin)


def restore(
    archive: Path,
    dest: Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Write the slide's files as they were.

    Parameters
    ----------
    archive : Path
        A reversible archive.
    dest : Path
        A folder that exists: the files get their own names in it. Otherwise, of a slide of one file, the file's name;
        of several, a new folder.
    overwrite : bool, default False
        Replace other files of these names.
    threads : int, optional
        That make the bytes; default: one for each CPU core.
    progress : Progress, optional
        Told of every MiB.

    Returns
    -------
    RestoreReport

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        Some bytes cannot be made, or a file's SHA-256 is another one: the message names them, and no file of that name
        appears.
    dlpr_wsi.errors.UsageError
        Another file is there, or the folder is missing.
    OSError
        The file cannot be written.

    Notes
    -----
    A file takes its name when all of it is on the disk and its SHA-256 was compared. A file that is there and has the
    slide's SHA-256 is left alone, so that the same command goes on after a kill, file by file.
    """
    begin = time.perf_counter()
    progress = progress or NoProgress()
    with Originals(archive, threads=threads) as originals:
        paths = _targets(originals, dest)
        progress.start(max(1, sum(file.size for file in originals.files) >> 20))
        done = there = 0

        def count(size: int) -> None:
            nonlocal done
            progress.advance(((done + size) >> 20) - (done >> 20))
            done += size

        try:
            for number, path in enumerate(paths):
                if _is_there(path, originals.files[number], overwrite):
                    there += 1
                    count(originals.files[number].size)
                    continue
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(originals, number, path, count)
                except OSError as error:
                    if error.filename is None:
                        raise ArchiveError(f"{path}: cannot be written ({error.strerror or error})") from error
                    raise
        finally:
            progress.close()
        return RestoreReport(originals.files, tuple(paths), there, time.perf_counter() - begin)


def _targets(originals: Originals, dest: Path) -> list[Path]:
    """Return where each file goes."""
    names = [file.name for file in originals.files]
    if dest.is_dir():
        return [dest / name for name in names]
    if not dest.name or not dest.absolute().parent.is_dir():
        raise UsageError("DEST", f"the folder {dest.absolute().parent} does not exist")
    if len(names) == 1 and "/" not in names[0]:
        return [dest]
    if dest.exists():
        raise UsageError("DEST", f"the slide has {len(names)} files, and {dest} is no folder")
    return [dest / name for name in names]


def _is_there(path: Path, entry: FileEntry, overwrite: bool) -> bool:
    """Tell whether a file is there already; raise UsageError where it is another one."""
    if not os.path.lexists(path):
        return False
    if path.is_file() and not path.is_symlink():
        if path.stat().st_size == entry.size:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").digest() == entry.sha256:
                    return True
        if overwrite:
            return False
    raise UsageError("DEST", f"{path} exists and is another file; give --overwrite to replace it, or another DEST")


def _write(originals: Originals, number: int, path: Path, on_bytes: Callable[[int], None]) -> None:
    """Write one file under another name, compare its hash, and give it its name."""
    digest = hashlib.sha256()
    with _partial(path) as file:
        for piece in originals.stream(number):
            digest.update(piece)
            file.write(piece)
            on_bytes(len(piece))
        if digest.digest() != originals.files[number].sha256:
            raise originals.differs(number)


@contextmanager
def _partial(path: Path) -> Iterator[BinaryIO]:
    """Give a file beside ``path`` that takes its name when the block ends without an error; after one nothing is left.

    What a killed run left of it is overwritten.
    """
    name = path.with_name(f".{path.name}.partial")
    with name.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = name.stat().st_ino == os.fstat(file.fileno()).st_ino  # another run may have renamed it meanwhile
        except OSError:
            mine = False
        if not mine:
            raise ArchiveError(f"{path}: another process is restoring this file now")
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            name.replace(path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)
