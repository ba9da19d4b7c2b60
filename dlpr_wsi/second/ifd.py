"""TIFF directories, parsed from the bytes: classic TIFF and BigTIFF, both byte orders, SubIFDs."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["Directory", "read_directories"]

_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I"}
_BIG_TYPES = {16: "Q", 17: "q", 18: "Q"}
_MAX_DIRECTORIES = 65536
_MAX_ENTRIES = 4096
_SUBIFDS = 330


@dataclass
class Directory:
    """One image of a TIFF.

    Parameters
    ----------
    tags : dict of int to tuple
        Values by tag number: numbers, or one bytes object for text and opaque data.
    subs : list of Directory
        Those that its SubIFDs tag points to.
    order : str
        Byte order of the file, ``<`` or ``>``.
    """

    tags: dict[int, tuple[int | float | bytes, ...]]
    order: str
    subs: list[Directory] = field(default_factory=list)

    def number(self, tag: int, default: int = 0) -> int:
        """Return a tag's first value as an integer."""
        value = self.tags.get(tag, (default,))[0]
        return default if isinstance(value, bytes) else int(value)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return a tag's values as integers; empty where there is none."""
        return tuple(int(value) for value in self.tags.get(tag, ()) if not isinstance(value, bytes))

    def data(self, tag: int) -> bytes | None:
        """Return a tag's bytes, or None."""
        value = self.tags.get(tag, (None,))[0]
        if isinstance(value, bytes):
            return value
        numbers = self.numbers(tag)
        return bytes(numbers) if numbers and max(numbers) < 256 else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.number(256), self.number(257)


class _Parser:
    """Reads directories one after the other; every count is checked against the size of the file first."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)
        head = file.read(16)
        self.order = {b"II": "<", b"MM": ">"}[head[:2]]
        self._big = struct.unpack(self.order + "H", head[2:4])[0] == 43
        self.first = self._number(head[8:16] if self._big else head[4:8])
        self._types = _TYPES | (_BIG_TYPES if self._big else {})
        self._seen: set[int] = set()

    def _number(self, data: bytes) -> int:
        """Return an offset or a count, 8 or 4 bytes."""
        return int(struct.unpack(self.order + ("Q" if len(data) == 8 else "I"), data)[0])

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise ValueError("a TIFF directory points beyond the file")
        self._file.seek(offset)
        return self._file.read(size)

    def chain(self, offset: int) -> list[Directory]:
        """Return a directory and those that follow it."""
        found = []
        while offset and offset not in self._seen and len(self._seen) < _MAX_DIRECTORIES:
            self._seen.add(offset)
            width = 8 if self._big else 4
            head = 8 if self._big else 2
            raw = self._read(offset, head)
            count = int(struct.unpack(self.order + ("Q" if self._big else "H"), raw)[0])
            if count > _MAX_ENTRIES:
                raise ValueError(f"a TIFF directory of {count} entries")
            entry = 20 if self._big else 12
            body = self._read(offset + head, count * entry + width)
            tags = dict(filter(None, (self._tag(body[k * entry : (k + 1) * entry]) for k in range(count))))
            directory = Directory(tags, self.order)
            found.append(directory)
            for below in directory.numbers(_SUBIFDS):
                directory.subs.extend(self.chain(below))
            offset = self._number(body[count * entry :])
        return found

    def _tag(self, entry: bytes) -> tuple[int, tuple[int | float | bytes, ...]] | None:
        """Parse one entry; None where its type is unknown."""
        tag, kind = struct.unpack(self.order + "HH", entry[:4])
        width = 8 if self._big else 4
        count = self._number(entry[4 : 4 + width])
        letters = self._types.get(kind)
        if letters is None:
            return None
        size = count * struct.calcsize("=" + letters)
        value = entry[4 + width :]
        data = value[:size] if size <= width else self._read(self._number(value), size)
        if letters == "s":
            return tag, (data,)
        return tag, struct.unpack(f"{self.order}{count * len(letters)}{letters[0]}", data)


def read_directories(file: BinaryIO) -> list[Directory]:
    """Return the directories of the main chain; others hang below them.

    Raises
    ------
    ValueError
        The file is damaged, or points beyond its end.
    """
    parser = _Parser(file)
    return parser.chain(parser.first)
