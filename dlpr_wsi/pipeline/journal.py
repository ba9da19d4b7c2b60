"""The journal of a conversion: what makes it resumable.

An unfinished archive lies in a folder ``.NAME.partial`` beside its destination::

    journal.jsonl   a header, then one line for each finished task: written after its file is on the disk
    data/           the archive so far

The header says what is converted and how. A later run with the same header goes on where the last one ended; with
another header it is refused. A line that a kill cut short is dropped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dlpr_wsi.errors import ArchiveError, SourceError, UsageError
from dlpr_wsi.sources.files import slide_files

__all__ = ["Journal", "TaskRecord", "fingerprint", "partial_folder"]

_SAMPLE = 1 << 20  # bytes hashed at both ends of a source file
_SAMPLED = 64  # files at most that are hashed so


@dataclass(frozen=True)
class TaskRecord:
    """A finished task: written, read back, decoded and compared with the source.

    Parameters
    ----------
    key : str
        `dlpr_wsi.pipeline.plan.Task.key`.
    hashes : bytes
        SHA-256 of each chunk's stream, 32 bytes each, in the order of the plan.
    tiles_by_mode, bytes_by_mode : mapping of str to int
        Chunks, and bytes of their streams, by how they are coded.
    max_error : int
        Largest error of a sample.
    source_bytes : int
        Size of the slide's own tiles under these chunks, where known; else 0.
    unkept : mapping of str to int
        Chunks that are not what the file holds behind them, by reason (`dlpr_wsi.pipeline.unkept`).
    coders : mapping of str to int
        With a device: chunks by who coded them (`dlpr_wsi.pipeline.gpu.coders`).
    """

    key: str
    hashes: bytes
    tiles_by_mode: Mapping[str, int]
    bytes_by_mode: Mapping[str, int]
    max_error: int
    source_bytes: int = 0
    unkept: Mapping[str, int] = field(default_factory=dict)
    coders: Mapping[str, int] = field(default_factory=dict)

    @property
    def level(self) -> int:
        """The level that it belongs to."""
        return int(self.key.split("/")[0])

    @property
    def tiles(self) -> int:
        """Number of chunks."""
        return len(self.hashes) // 32

    def to_json(self) -> dict[str, Any]:
        """Return a line of the journal."""
        return {
            "task": self.key,
            "sha256": self.hashes.hex(),
            "tiles": dict(self.tiles_by_mode),
            "bytes": dict(self.bytes_by_mode),
            "max_error": self.max_error,
            "source_bytes": self.source_bytes,
            "unkept": dict(self.unkept),
            **({"coders": dict(self.coders)} if self.coders else {}),
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> TaskRecord:
        """Undo `to_json`."""
        return cls(
            str(line["task"]),
            bytes.fromhex(line["sha256"]),
            {str(mode): int(count) for mode, count in line["tiles"].items()},
            {str(mode): int(size) for mode, size in line["bytes"].items()},
            int(line["max_error"]),
            int(line["source_bytes"]),
            {str(reason): int(count) for reason, count in line.get("unkept", {}).items()},
            {str(coder): int(count) for coder, count in line.get("coders", {}).items()},
        )


def partial_folder(out: Path) -> Path:
    """Return where an unfinished archive lies."""
    return out.with_name(f".{out.name}.partial")


def fingerprint(source: Path) -> dict[str, Any]:
    """Identify a source: sizes of its files, hashes of both ends of each, where they are few; time of change.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        It cannot be read.
    """
    digest, total, newest = hashlib.sha256(), 0, 0
    try:
        files = slide_files(source)
        for file in files:
            status = file.stat()
            total += status.st_size
            newest = max(newest, status.st_mtime_ns)
            digest.update(f"{file.relative_to(source.parent)}\0{status.st_size}\0".encode() if len(files) > 1 else b"")
            if len(files) <= _SAMPLED:
                with file.open("rb") as handle:
                    digest.update(handle.read(_SAMPLE))
                    handle.seek(max(0, status.st_size - _SAMPLE))
                    digest.update(handle.read(_SAMPLE))
    except OSError as error:
        raise SourceError(f"{source}: cannot be read ({error.strerror})") from error
    return {"bytes": total, "sha256": digest.hexdigest(), "mtime_ns": newest}


def job_id(header: Mapping[str, Any]) -> str:
    """Return what an archive records about how it was made: a hash of the header without times."""
    timeless = {**header, "source": {k: v for k, v in header["source"].items() if k != "mtime_ns"}}
    return hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()


class Journal:
    """The journal of one conversion; locked while it is open.

    Parameters
    ----------
    out : Path
        The archive's name once complete.
    header : mapping
        What is converted and how, as JSON.
    restart : bool
        Throw away what an earlier run left.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        An unfinished conversion with another header is there.
    dlpr_wsi.errors.ArchiveError
        The folder cannot be written, or another process converts to the same name.
    """

    def __init__(self, out: Path, header: Mapping[str, Any], *, restart: bool = False) -> None:
        self.folder = partial_folder(out)
        self.data = self.folder / "data"
        self.records: dict[str, TaskRecord] = {}
        self._file: BinaryIO | None = None
        path = self.folder / "journal.jsonl"
        try:
            self.folder.mkdir(exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise ArchiveError(f"{out}: its folder cannot be written ({error.strerror})") from error
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ArchiveError(f"{out}: another process is converting to this name now") from error
            if restart:
                self._clear()
            if not self._load(header):
                self._clear()
                self._append({"header": header})
            self.data.mkdir(exist_ok=True)
        except BaseException:
            self.close()
            raise

    @property
    def resumed(self) -> bool:
        """Whether an earlier run has left finished tasks."""
        return bool(self.records)

    def add(self, record: TaskRecord) -> None:
        """Write down a finished task."""
        self._append(record.to_json())
        self.records[record.key] = record

    def close(self) -> None:
        """Release the lock; what was done stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _load(self, header: Mapping[str, Any]) -> bool:
        """Read what an earlier run wrote; False where there is nothing of use."""
        if self._file is None:
            return False
        self._file.seek(0)
        good = 0
        found: dict[str, Any] | None = None
        for raw in self._file:
            try:
                line = json.loads(raw)
                if not raw.endswith(b"\n"):
                    break
                if found is None:
                    found = line["header"]
                else:
                    record = TaskRecord.from_json(line)
                    self.records[record.key] = record
            except (ValueError, KeyError, TypeError, AttributeError):
                break  # a kill in the middle of a write; what follows cannot be trusted either
            good += len(raw)
        if found is None:
            return False
        if found != json.loads(json.dumps(header)):
            changed = sorted(key for key in {*found, *header} if found.get(key) != header.get(key))
            raise UsageError(
                "OUT",
                f"{self.folder} holds an unfinished conversion with another {' and '.join(changed)}; "
                "run it again with the same options, or give --restart to begin anew",
            )
        self._file.truncate(good)
        for path in self.data.rglob("*.partial"):
            path.unlink()  # a kill in the middle of a file
        return True

    def _clear(self) -> None:
        """Begin anew."""
        self.records.clear()
        shutil.rmtree(self.data, ignore_errors=True)
        if self._file is not None:
            self._file.truncate(0)

    def _append(self, line: Mapping[str, Any]) -> None:
        """Write a line and bring it to the disk."""
        if self._file is None:
            raise ArchiveError(f"{self.folder}: the journal is closed")
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
