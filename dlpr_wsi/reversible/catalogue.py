"""The files that many reversible archives give back, as one tree of names; archives may come and go."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dlpr_wsi.errors import ArchiveError, WsiError
from dlpr_wsi.reversible.layout import FileEntry
from dlpr_wsi.reversible.originals import MakingCache, Originals, is_reversible
from dlpr_wsi.sources.archive import is_zarr
from dlpr_wsi.sources.opening import open_archive
from dlpr_wsi.sources.tiff_archive import is_dlpr_tiff

__all__ = ["Catalogue", "Listed", "archives_in", "reversible_among"]

_log = logging.getLogger("dlpr_wsi.reversible")
_RESCAN = 1.0  # seconds between looks into the folders
_RETRY = 15.0  # and at an archive that could not be opened and looks as it did
_OPEN = 64  # archives at once
_MAX_LOGGED = 1000

_Signature = tuple[int, int, int]


@dataclass(frozen=True)
class Listed:
    """A file of the tree.

    Parameters
    ----------
    archive : Path
        Which archive gives it.
    number : int
        Which of the archive's files.
    entry : FileEntry
        Its size and hash.
    time_ns : int
        When the archive was last changed.
    """

    archive: Path
    number: int
    entry: FileEntry
    time_ns: int


@dataclass
class _Known:
    """An archive: what it looked like, and where its files are in the tree; none where it cannot be used."""

    signature: _Signature
    looked: float
    paths: list[str] = field(default_factory=list)


def archives_in(folder: Path) -> list[Path]:
    """Return what may be an archive in a folder, sorted by name; archives in folders inside it are not looked for."""
    found = []
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if (entry.is_dir() and is_zarr(path)) or (path.suffix.lower() in (".tif", ".tiff") and is_dlpr_tiff(path)):
            found.append(path)
    return sorted(found)


def reversible_among(paths: Sequence[Path]) -> list[Path]:
    """Return those of some slides and archives that are reversible archives; damaged ones too, if they say so."""
    found = []
    for path in dict.fromkeys(paths):
        if (path.is_dir() and is_zarr(path)) or is_dlpr_tiff(path):
            with suppress(WsiError, OSError):
                if is_reversible(open_archive(path)):
                    found.append(path)
    return found


class Catalogue:
    """The tree. May be used from many threads.

    Parameters
    ----------
    archives : sequence of Path
        Reversible archives, and folders of archives, which are looked into again and again.
    cache : MakingCache
        Shared by all archives.
    threads : int, optional
        That make the bytes of one read.
    without : Path, optional
        A folder that is not looked into: where the tree is shown.
    strict : bool
        Raise for a named archive that is of no use; else log it.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        A named archive is none, or not reversible.

    Notes
    -----
    Files have the names that they had in the slide. Where a name is taken, by an archive before, all files of the later
    one are in a folder named after the archive.
    """

    def __init__(
        self,
        archives: Sequence[Path],
        cache: MakingCache,
        threads: int | None = None,
        without: Path | None = None,
        strict: bool = True,
    ) -> None:
        self._cache, self._threads = cache, threads
        self._without = None if without is None else without.resolve()
        self._lock = threading.RLock()
        self._tree: dict[str, dict[str, Listed | None]] = {"": {}}  # by folder; None is a folder
        self._known: dict[Path, _Known] = {}
        self._open: OrderedDict[Path, tuple[Originals, _Signature]] = OrderedDict()
        self._logged: set[str] = set()
        self._folders: list[Path] = []
        self._scanned = -_RESCAN
        for path in archives:
            if path.is_dir() and not is_zarr(path):
                self._folders.append(path)
            elif path not in self._known:
                self._add(path, strict=strict)
        self._scan()

    def names(self, folder: str) -> list[str] | None:
        """Return the names in a folder of the tree, "" for its root; None where there is none."""
        with self._lock:
            self._scan()
            found = self._tree.get(folder)
            return None if found is None else sorted(found)

    def file(self, path: str) -> Listed | None:
        """Return a file of the tree; None where there is none."""
        folder, _, name = path.rpartition("/")
        with self._lock:
            found = self._tree.get(folder, {}).get(name)
            if found is None and path not in self._tree:
                self._scan()
                found = self._tree.get(folder, {}).get(name)
            return found

    def is_folder(self, path: str) -> bool:
        """Tell whether a path of the tree is a folder."""
        with self._lock:
            return path in self._tree

    def read(self, file: Listed, offset: int, size: int) -> bytes:
        """Return bytes of a file.

        Raises
        ------
        dlpr_wsi.errors.ArchiveError
            They cannot be made. It is logged, once.
        """
        try:
            return self._originals(file).read(file.number, offset, size)
        except ArchiveError as error:
            self._log(str(error))
            raise

    def close(self) -> None:
        """Release all archives."""
        with self._lock:
            for originals, _ in self._open.values():
                originals.close()
            self._open.clear()

    def _originals(self, file: Listed) -> Originals:
        """Return an archive, open."""
        with self._lock:
            found = self._open.get(file.archive)
            if found is not None:
                self._open.move_to_end(file.archive)
                return found[0]
        try:
            signature = _signature(file.archive)
        except OSError as error:
            raise ArchiveError(f"{file.archive}: cannot be read ({error.strerror})") from error
        originals = Originals(file.archive, cache=self._cache, threads=self._threads)
        if file.number >= len(originals.files) or originals.files[file.number] != file.entry:
            originals.close()
            raise ArchiveError(f"{file.archive}: another archive has taken its place")
        with self._lock:
            if file.archive in self._open:
                originals.close()
                return self._open[file.archive][0]
            self._open[file.archive] = (originals, signature)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)  # released when its last reader is done
            return originals

    def _scan(self) -> None:
        """Look into the folders, if it is time."""
        with self._lock:
            now = time.monotonic()
            if now - self._scanned < _RESCAN:
                return
            self._scanned = now
            present: set[Path] = set()
            for folder in self._folders:
                try:
                    present.update(path for path in archives_in(folder) if path.resolve() != self._without)
                except OSError as error:
                    self._log(f"{folder}: cannot be read ({error.strerror})")
            watched = {path for path in self._known if path.parent in self._folders}
            for path in watched - present:
                self._remove(path)
            for path in sorted(present):
                known = self._known.get(path)
                try:
                    same = known is not None and known.signature == _signature(path)
                except OSError:
                    continue
                if known is not None and same and (known.paths or now - known.looked < _RETRY):
                    continue
                self._remove(path)
                self._add(path, strict=False)

    def _add(self, path: Path, *, strict: bool) -> None:
        """Open an archive and enter its files; one that is of no use is remembered."""
        try:
            known = self._known[path] = _Known(_signature(path), time.monotonic())
            archive = open_archive(path)
            if not strict and not is_reversible(archive):
                return
            with Originals(archive, threads=1) as originals:
                files = originals.files
        except (WsiError, OSError) as error:
            if strict:
                raise error if isinstance(error, WsiError) else ArchiveError(f"{path}: {error.strerror}") from error
            self._log(f"not shown: {error}")
            return
        tops = {file.name.partition("/")[0] for file in files}
        below = ""
        if not tops.isdisjoint(self._tree[""]):
            below = self._free(path.stem)
            self._log(f"{path}: a file of another archive has the name of its slide; shown in the folder {below}")
        for number, entry in enumerate(files):
            full = f"{below}/{entry.name}" if below else entry.name
            parts = full.split("/")
            for depth in range(1, len(parts)):
                folder, parent = "/".join(parts[:depth]), "/".join(parts[: depth - 1])
                self._tree[parent].setdefault(parts[depth - 1], None)
                self._tree.setdefault(folder, {})
            self._tree["/".join(parts[:-1])][parts[-1]] = Listed(path, number, entry, known.signature[0])
            known.paths.append(full)

    def _free(self, stem: str) -> str:
        """Return a name that is not taken."""
        count, name = 1, stem or "slide"
        while name in self._tree[""]:
            count += 1
            name = f"{stem}-{count}"
        return name

    def _remove(self, path: Path) -> None:
        """Take an archive's files out of the tree."""
        known = self._known.pop(path, None)
        for full in known.paths if known is not None else ():
            folder, _, name = full.rpartition("/")
            self._tree[folder].pop(name, None)
            while folder and not self._tree[folder]:
                del self._tree[folder]
                folder, _, name = folder.rpartition("/")
                self._tree[folder].pop(name, None)
        self._open.pop(path, None)

    def _log(self, text: str) -> None:
        """Log something, once."""
        with self._lock:
            if text in self._logged or len(self._logged) >= _MAX_LOGGED:
                return
            self._logged.add(text)
        _log.warning("%s", text)


def _signature(path: Path) -> _Signature:
    """Return what changes when an archive is replaced."""
    status = path.stat()
    if path.is_dir():
        metadata = next((path / name for name in ("zarr.json", ".zattrs") if (path / name).is_file()), path)
        status = metadata.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
