"""A `JpegImage` to JPEG bytes: baseline, one scan, Huffman tables made for the image.

Any JPEG decoder that reads the result finds the very coefficients and tables of the image, so a stream of mode jpeg can
go back to the JPEG that it was made from, give or take how its entropy coding spells them.

The scan is built as arrays. Every block gives a token for its DC difference, one for each AC coefficient that is not 0
(after tokens for runs of 16 zeros), and one for the end of the block; a token is a Huffman symbol and some plain bits.
"""

from __future__ import annotations

import heapq
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.image import ColourTransform, JpegImage
from dlpr.modes.jpeg.tables import ZIGZAG

__all__ = ["write"]

Ints = npt.NDArray[np.int64]

_LONGEST = 16  # bits of a Huffman code
_RUN_OF_16, _END_OF_BLOCK = 0xF0, 0x00
_KEYS = 256  # places for the tokens of one block, in order: DC 0; runs 2 k, coefficient 2 k + 1; end 255


def write(image: JpegImage) -> bytes:
    """Write an image as a JPEG with its own tables.

    Parameters
    ----------
    image : JpegImage
        With phase (0, 0): windows that begin inside an MCU are no whole JPEG.

    Returns
    -------
    bytes
        A baseline JPEG; JFIF's marker says YCbCr, Adobe's says that the components are red, green and blue.

    Raises
    ------
    UnsupportedInputError
        The phase is not (0, 0), a side is longer than 65535, or a DC difference does not fit baseline JPEG.

    Examples
    --------
    >>> from dlpr.modes.jpeg.image import Upsampling
    >>> steps, flat = np.full((8, 8), 16, np.uint16), np.zeros((1, 2, 8, 8), np.int16)
    >>> image = JpegImage(8, 16, (0, 0), ColourTransform.NONE, (1, 1), Upsampling.FANCY, True, (steps,), (flat,))
    >>> write(image)[:2].hex(), write(image)[-2:].hex()
    ('ffd8', 'ffd9')
    """
    if tuple(image.phase) != (0, 0) or max(image.height, image.width) > 65535:
        raise UnsupportedInputError(
            f"a window of phase {image.phase}, {image.height} x {image.width}, is no whole JPEG"
        )
    blocks, component = _scan_order(image)
    tokens = _tokens(blocks, component)
    tables = [_HuffmanTable.of(tokens.symbol[tokens.table == number]) for number in range(4)]
    colour = image.components == 3
    used = range(4) if colour else range(2)
    out = bytearray(b"\xff\xd8")
    if not colour or image.transform is ColourTransform.YCBCR:
        out += _segment(0xE0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0102, 0, 1, 1, 0, 0))
    else:
        out += _segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
    for number, steps in enumerate(image.tables):
        out += _segment(0xDB, bytes([number]) + steps.ravel()[ZIGZAG].astype(np.uint8).tobytes())
    frame, scan = struct.pack(">BHHB", 8, image.height, image.width, image.components), bytes([image.components])
    names = b"RGB" if colour and image.transform is ColourTransform.NONE else bytes([1, 2, 3])
    for number in range(image.components):
        v, h = image.sampling if number == 0 else (1, 1)
        frame += bytes([names[number], h << 4 | v, number])
        scan += bytes([names[number], 0x11 if number else 0x00])
    out += _segment(0xC0, frame)
    for number in used:
        kind, identifier = number % 2, number // 2  # table 0: DC of luma, 1: AC, 2 and 3: of chroma
        out += _segment(0xC4, bytes([kind << 4 | identifier]) + tables[number].definition)
    out += _segment(0xDA, scan + bytes([0, 63, 0]))
    out += _pack(tokens, tables)
    return bytes(out + b"\xff\xd9")


def _segment(marker: int, content: bytes) -> bytes:
    """Return a marker with its length and content."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _scan_order(image: JpegImage) -> tuple[Ints, Ints]:
    """Return the blocks of the scan, [n, 64] in zigzag order, and the component of each."""
    v, h = image.sampling
    rows, columns = image.blocks(image.components - 1) if image.components == 3 else image.blocks(0)
    first = image.coefficients[0].reshape(rows, v, columns, h, 64).transpose(0, 2, 1, 3, 4).reshape(-1, v * h, 64)
    others = [c.reshape(-1, 1, 64) for c in image.coefficients[1:]]
    mcus = np.concatenate([first, *others], axis=1).astype(np.int64)
    component = np.tile([0] * (v * h) + list(range(1, image.components)), len(mcus))
    return mcus.reshape(-1, 64)[:, ZIGZAG], component


@dataclass(frozen=True)
class _Tokens:
    """Tokens in the order of the scan."""

    table: Ints
    symbol: Ints
    extra: Ints
    """Plain bits after the symbol's code, as a number ..."""
    extra_bits: Ints
    """... of so many bits."""


def _tokens(blocks: Ints, component: Ints) -> _Tokens:
    """Return the tokens of a scan."""
    count = len(blocks)
    dc = np.empty(count, np.int64)
    for c in range(int(component.max()) + 1):
        mine = component == c
        dc[mine] = np.diff(blocks[mine, 0], prepend=0)
    if np.abs(dc).max() > 2047:
        raise UnsupportedInputError("a DC difference does not fit baseline JPEG")
    chroma = 2 * (component > 0)
    at, place = np.nonzero(blocks[:, 1:])
    place = place + 1
    value = blocks[at, place]
    fresh = np.diff(at, prepend=-1) != 0
    before = np.where(fresh, 0, np.concatenate([[0], place[:-1]]))
    run = place - before - 1
    last = np.zeros(count, np.int64)
    last[at] = place  # places ascend within a block, so the last one stays
    open_end = np.flatnonzero(last < 63)
    long = np.repeat(np.arange(len(at)), run // 16)
    size = _size(value)
    runs, ends = np.full(len(long), _RUN_OF_16), np.full(len(open_end), _END_OF_BLOCK)
    parts = [
        (np.arange(count) * _KEYS, chroma, _size(dc), dc, _size(dc)),
        (at[long] * _KEYS + 2 * place[long], chroma[at[long]] + 1, runs, 0 * runs, 0 * runs),
        (at * _KEYS + 2 * place + 1, chroma[at] + 1, run % 16 * 16 + size, value, size),
        (open_end * _KEYS + 255, chroma[open_end] + 1, ends, 0 * ends, 0 * ends),
    ]
    key, table, symbol, number, bits = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(key, kind="stable")
    extra = np.where(number < 0, number + (1 << bits) - 1, number)
    return _Tokens(table[order], symbol[order], extra[order], bits[order])


def _size(values: Ints) -> Ints:
    """Return the number of bits of each magnitude."""
    return np.frexp(np.abs(values).astype(np.float64))[1].astype(np.int64)


@dataclass(frozen=True)
class _HuffmanTable:
    """A Huffman code.

    ``definition`` is the content of a DHT segment: the number of codes of each length, then the symbols.
    """

    definition: bytes
    code: Ints
    length: Ints

    @classmethod
    def of(cls, symbols: Ints) -> _HuffmanTable:
        """Make the code for symbols as often as they occur; no code is all ones, none longer than 16 bits."""
        counts = np.bincount(symbols, minlength=256)
        present = [int(s) for s in np.flatnonzero(counts)] or [0]
        weights = [max(int(counts[s]), 1) for s in present]
        lengths = _code_lengths(weights)
        ordered = sorted(zip(lengths, present, strict=True))
        code, length = np.zeros(256, np.int64), np.zeros(256, np.int64)
        value, before = 0, 0
        for bits, symbol in ordered:
            value <<= bits - before
            code[symbol], length[symbol] = value, bits
            value, before = value + 1, bits
        of_length = bytes(sum(bits == n for bits, _ in ordered) for n in range(1, _LONGEST + 1))
        return cls(of_length + bytes(symbol for _, symbol in ordered), code, length)


def _code_lengths(weights: list[int]) -> list[int]:
    """Return lengths of a Huffman code with one code, the longest, left over: the one of all ones.

    Weights are halved until no code is longer than 16 bits.
    """
    while True:
        heap: list[tuple[int, int, list[int]]] = [(weight, i, [i]) for i, weight in enumerate(weights)]
        heap.append((0, len(weights), [len(weights)]))  # the one that is left over
        heapq.heapify(heap)
        lengths = [0] * (len(weights) + 1)
        number = len(heap)
        while len(heap) > 1:
            a, b = heapq.heappop(heap), heapq.heappop(heap)
            for i in a[2] + b[2]:
                lengths[i] += 1
            heapq.heappush(heap, (a[0] + b[0], number, a[2] + b[2]))
            number += 1
        if max(lengths) <= _LONGEST:
            return lengths[:-1]
        weights = [(weight + 1) // 2 for weight in weights]


def _pack(tokens: _Tokens, tables: list[_HuffmanTable]) -> bytes:
    """Return the scan's bytes: tokens as bits, filled with ones, a 0 after each byte of ones."""
    codes = np.stack([table.code for table in tables])[tokens.table, tokens.symbol]
    lengths = np.stack([table.length for table in tables])[tokens.table, tokens.symbol]
    value, bits = codes << tokens.extra_bits | tokens.extra, lengths + tokens.extra_bits
    ends = np.cumsum(bits)
    total = int(ends[-1])
    shift = np.repeat(ends, bits) - 1 - np.arange(total)
    stream = ((np.repeat(value, bits) >> shift) & 1).astype(np.uint8)
    packed = np.packbits(np.concatenate([stream, np.ones(-total % 8, np.uint8)])).tobytes()
    return packed.replace(b"\xff", b"\xff\x00")
