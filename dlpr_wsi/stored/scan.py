"""One JPEG whose scan is cut by restart markers: its header, and where each interval lies.

OpenSlide decodes such an interval (a strip) as a JPEG of its own, the header in front of it; so upsampling of chroma
stops at its edges. Entropy-coded bytes hold FF only before 00 or as the first byte of a marker, hence markers can be
searched for without decoding.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dlpr.modes.jpeg.parse import add_restarts
from dlpr_wsi.sources.header import jpeg_header

__all__ = ["JpegScan", "ScanHeader", "WholeScan", "marked"]

_MOST_HEADER = 1 << 18
_BLOCK = 1 << 22
_MOST_WHOLE = 1 << 30  # bytes
_MOST_SAID = 65535
_MARKER = re.compile(rb"\xff[\xd0-\xd9]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

Starts = NDArray[np.int64]


@dataclass(frozen=True)
class ScanHeader:
    """A JPEG's markers up to and with SOS.

    Parameters
    ----------
    data : bytes
        As in the file.
    frame : int
        Where the frame's height stands in ``data``.
    width, height : int
        px, as the frame says; 0 where they are beyond what it can say.
    mcu_width, mcu_height : int
        px.
    interval : int
        MCUs between restart markers; 0 without.
    ycbcr : bool
        Whether libjpeg takes the components for Y, Cb, Cr.
    """

    data: bytes
    frame: int
    width: int
    height: int
    mcu_width: int
    mcu_height: int
    interval: int
    ycbcr: bool

    @classmethod
    def parse(cls, head: bytes) -> ScanHeader:
        """Read a header from the first bytes of a JPEG.

        Raises
        ------
        ValueError
            It is no JPEG of three components in one sequential scan with Huffman coding and 8 bits.
        """
        if head[:2] != b"\xff\xd8":
            raise ValueError("no JPEG")
        at, frame, interval = 2, 0, 0
        while True:
            if at + 4 > len(head) or head[at] != 0xFF:
                raise ValueError("a JPEG header that does not end")
            marker, size = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
            if size < 2 or at + 2 + size > len(head):
                raise ValueError("a JPEG header that does not end")
            if marker == 0xDD and size == 4:
                interval = int.from_bytes(head[at + 4 : at + 6], "big")
            elif marker in (0xC0, 0xC1) and not frame and size == 17 and head[at + 4] == 8 and head[at + 9] == 3:
                frame = at + 5
            elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8):
                raise ValueError("a JPEG that is not sequential with Huffman coding, three components and 8 bits")
            at += 2 + size
            if marker == 0xDA:
                break
        if not frame:
            raise ValueError("a JPEG without a frame")
        height, width = struct.unpack_from(">HH", head, frame)
        factors = [head[frame + 6 + 3 * component] for component in range(3)]
        across, down = max(factor >> 4 for factor in factors), max(factor & 15 for factor in factors)
        if not (1 <= across <= 4 and 1 <= down <= 4):
            raise ValueError("a sampling factor out of range")
        said = jpeg_header(head[:at])
        ycbcr = said is None or said.ycbcr is not False
        return cls(head[:at], frame, width, height, 8 * across, 8 * down, interval, ycbcr)

    def sized(self, width: int, height: int) -> bytes:
        """Return the header with another size."""
        size = struct.pack(">HH", height, width)
        return self.data[: self.frame] + size + self.data[self.frame + 4 :]

    def with_interval(self, mcus: int) -> ScanHeader:
        """Return the header of the same JPEG with restart markers every so many MCUs."""
        restart = b"\xff\xdd" + struct.pack(">HH", 4, mcus)
        return replace(self, data=self.data[:2] + restart + self.data[2:], frame=self.frame + 6, interval=mcus)

    def like(self, other: ScanHeader) -> bool:
        """Tell whether intervals of another JPEG decode the same behind this header."""
        return self.sized(1, 1) == other.sized(1, 1)


class JpegScan:
    """A JPEG in a file.

    Parameters
    ----------
    file : binary file
        Open for reading.
    number : int
        Which of the store's files.
    offset, size : int
        Where the JPEG lies in it, bytes.

    Raises
    ------
    ValueError
        See `ScanHeader.parse`.
    """

    def __init__(self, file: BinaryIO, number: int, offset: int, size: int) -> None:
        self._file, self.number, self.offset, self.size = file, number, offset, size
        self.header = ScanHeader.parse(self.read(offset, min(size, _MOST_HEADER)))
        self._starts: Starts | None = None
        self._given: Starts | None = None
        self._count = 1

    def cut(self, count: int, given: Starts | None = None) -> None:
        """Say how many intervals there are, and where the file itself says that they begin."""
        self._count, self._starts = count, None
        self._given = None if given is None or len(given) != count else given

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file.

        Raises
        ------
        ValueError
            The file ends before.
        """
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("the file ends inside its JPEG data")
        return data

    @property
    def starts(self) -> Starts:
        """Where the intervals begin in the file: as it says if there is a marker before each, else searched for."""
        if self._starts is None:
            self._starts = self._checked() if self._given is not None else None
            if self._starts is None:
                self._starts = self._searched()
        return self._starts

    def _checked(self) -> Starts | None:
        """Return the places that the file gives if they rise and are in the scan; markers are checked when read."""
        given = self._given
        first = self.offset + len(self.header.data)
        if given is None or (len(given) > 1 and (np.diff(given) < 2).any()):
            return None
        given = given.copy()
        given[0] = first  # OpenSlide's, whatever the file says
        return given if len(given) == 1 or (given[1] > first and given[-1] < self.offset + self.size) else None

    def _searched(self) -> Starts:
        """Find the restart markers."""
        begin, end = self.offset + len(self.header.data), self.offset + self.size
        found, at, last = [begin], begin, b""
        while at < end and len(found) < self._count:
            block = self.read(at, min(_BLOCK, end - at))
            held = last + block
            found += [at - len(last) + match.end() for match in _RESTART.finditer(held)]
            at, last = at + len(block), block[-1:] if block.endswith(b"\xff") else b""
        if len(found) < self._count:
            raise ValueError("fewer restart markers than its size asks for")
        return np.asarray(found[: self._count], np.int64)

    def intervals(self, first: int, count: int) -> list[bytes]:
        """Return the entropy-coded bytes of intervals that follow each other, without the markers behind them."""
        starts = self.starts
        begin = int(starts[first])
        beyond = first + count
        end = int(starts[beyond]) if beyond < self._count else self.offset + self.size
        if not 0 < end - begin <= self.size:
            raise ValueError("restart intervals that do not follow each other")
        data = self.read(begin, end - begin)
        out = []
        for index in range(first, beyond):
            here = int(starts[index]) - begin
            if index + 1 < self._count:
                stop = int(starts[index + 1]) - begin - 2
                if stop < here or not _RESTART.match(data, stop):
                    raise ValueError("no restart marker where the file says so")
            else:
                found = _MARKER.search(data, here)
                stop = len(data) if found is None else found.start()
            out.append(data[here:stop])
        return out

    def extent(self, index: int) -> tuple[int, int]:
        """Return offset in the file and size of an interval's bytes, without the marker behind them."""
        begin = int(self.starts[index])
        if index + 1 < self._count:
            return begin, int(self.starts[index + 1]) - 2 - begin
        return begin, len(self.intervals(index, 1)[0])


class WholeScan(JpegScan):
    """A JPEG without restart markers, cut into rows of MCUs; its bytes are read, and written anew, once.

    Parameters
    ----------
    file, number, offset, size
        See `JpegScan`.

    Raises
    ------
    ValueError
        See `ScanHeader.parse`; it is too large to be held.
    """

    def __init__(self, file: BinaryIO, number: int, offset: int, size: int) -> None:
        super().__init__(file, number, offset, size)
        if size > _MOST_WHOLE:
            raise ValueError("a JPEG without restart markers that is too large to be held")
        self.original = self.header
        """Its markers as in the file."""
        columns = -(-self.header.width // self.header.mcu_width)
        if columns > _MOST_SAID:
            raise ValueError("more MCUs in a row than a restart interval can have")
        self.header = self.header.with_interval(columns)
        self._rows: tuple[bytes, Starts] | None = None

    def intervals(self, first: int, count: int) -> list[bytes]:
        """Return the entropy-coded bytes of rows of MCUs that follow each other.

        Raises
        ------
        ValueError
            The JPEG is damaged.
        """
        if self._rows is None:
            begin = self.offset + len(self.original.data)
            _, data, starts = add_restarts(self.original.data, self.read(begin, self.offset + self.size - begin))
            self._rows = data, np.append(starts.astype(np.int64), len(data) + 2)
        data, places = self._rows
        return [data[int(places[row]) : int(places[row + 1]) - 2] for row in range(first, first + count)]


def marked(header: bytes, intervals: list[bytes]) -> bytes:
    """Join intervals to one JPEG, with the restart markers in their order."""
    parts = [header]
    for index, data in enumerate(intervals):
        parts += [data, b"\xff" + bytes((0xD0 + index % 8,))]
    parts[-1] = b"\xff\xd9"
    return b"".join(parts)
