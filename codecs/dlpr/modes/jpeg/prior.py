"""A slide's prior: what the coefficients' coder starts from (docs/format section 20).

::

    a sample of tiles' JPEGs --coded one after the other--> state of the coder --a byte each, xz--> Prior.data
    Prior.data --> state of the coder before every chunk that names it

Chunks stay independent of each other, but need the prior beside their bytes, as they need weights. A stream names it by
the first 8 bytes of its SHA-256; `remember` makes it known to the decoders of this process, as long as whoever opened
the slide holds it.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from dlpr._native import jpeg_prior_learn
from dlpr.errors import CorruptError, PriorError, UnsupportedInputError
from dlpr.modes.jpeg.coefficients import COMPONENT_SLOTS, FIRST_SETS, SECOND_SETS
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.synthesis import native_fields
from dlpr.modes.mixed.arithmetic import FRESH_SLOT, INPUTS, squash_table

__all__ = ["MAX_BYTES", "Prior", "find", "remember"]

MAX_BYTES: Final = 96 * 1024
"""Largest prior."""
ID_BYTES: Final = 8
KEPT: Final = 64
"""Priors that a process keeps though nothing else holds them."""

_HEAD = struct.Struct("<4sBBH")
_MAGIC, _VERSION = b"DLPP", 1
_RATES = (3000, 1300)
"""Weight of the next bit in 1/65536 that the two confidences of a slot stand for."""
_LEVELS, _SPREAD, _LOWEST = 48, 58, -1363
"""Odds of a slot: so many, so far apart, from this on, in 1/128 of a doubling."""
_KNOWN = 1 + len(_RATES) * _LEVELS
_SEEN, _SURE = 7000, 6000
"""Slots that learn faster have seen too little to be kept, or to be trusted."""
_FILTERS: Final = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]
_MEMORY: Final = 16 << 20
_WEIGHT_UNIT = 64

U16 = npt.NDArray[np.uint16]


@lru_cache(maxsize=1)
def slot_table() -> npt.NDArray[np.int64]:
    """(p, rate) of each byte, [97, 2]: 0 is a fresh slot, 1 + 48 c + l has confidence c and the l-th of 48 odds."""
    squash = squash_table()
    known = [(squash[2047 + _SPREAD * level + _LOWEST], rate) for rate in _RATES for level in range(_LEVELS)]
    return np.array([FRESH_SLOT, *known], np.int64)


@dataclass(frozen=True)
class Prior:
    """A state of the coefficients' coder, as bytes.

    Parameters
    ----------
    data : bytes
        As `learn` made them.

    Raises
    ------
    CorruptError
        Not a prior, or a damaged one.

    Examples
    --------
    >>> Prior(b"no prior")
    Traceback (most recent call last):
    dlpr.errors.CorruptError: dlpr: 8 bytes are not a prior of the JPEG coder; take it from the slide's metadata anew
    """

    data: bytes = field(repr=False)
    id: bytes = field(init=False, compare=False)
    """The name in streams: 8 bytes."""
    components: int = field(init=False, compare=False)
    """Components of the JPEGs it serves, 1 or 3."""
    raw: bytes = field(init=False, compare=False, repr=False)
    """A byte for each slot and weight."""

    def __post_init__(self) -> None:
        """Read the head and unpack the rest."""
        wrong = CorruptError(
            f"{len(self.data)} bytes are not a prior of the JPEG coder; take it from the slide's metadata anew"
        )
        if not isinstance(self.data, bytes) or not _HEAD.size < len(self.data) <= MAX_BYTES:
            raise wrong
        magic, version, components, reserved = _HEAD.unpack_from(self.data)
        if magic != _MAGIC or version != _VERSION or components not in (1, 3) or reserved:
            raise wrong
        size = components * (COMPONENT_SLOTS + (FIRST_SETS + SECOND_SETS) * INPUTS)
        try:
            unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY)
            raw = unpack.decompress(self.data[_HEAD.size :], size)
            rest = b"" if unpack.eof else unpack.decompress(b"", 1)
        except (lzma.LZMAError, EOFError):
            raise wrong from None
        if len(raw) != size or rest or not unpack.eof or unpack.unused_data:
            raise wrong
        if max(raw[: components * COMPONENT_SLOTS]) >= _KNOWN:
            raise wrong
        object.__setattr__(self, "id", _name(self.data))
        object.__setattr__(self, "components", components)
        object.__setattr__(self, "raw", raw)

    @classmethod
    def learn(cls, images: Sequence[JpegImage], *, max_bytes: int = MAX_BYTES) -> Prior | None:
        """Code images one after the other and keep what was learnt.

        What comes last weighs most, so neighbours are taken far from each other: the order is that of their numbers
        read from the last bit on.

        Parameters
        ----------
        images : sequence of JpegImage
            A sample of a slide, in the order of their places; those with another number of components than the first
            are left out.
        max_bytes : int
            Largest size in bytes; the slots that have seen least are dropped until it is met.

        Returns
        -------
        Prior or None
            None where nothing was learnt that fits.
        """
        if not images:
            return None
        n = images[0].components
        jobs = [
            (native_fields(image), [np.ascontiguousarray(q) for q in image.coefficients])
            for image in (images[i] for i in _spread(len(images)))
            if image.components == n
        ]
        slots, weights = jpeg_prior_learn(jobs)
        p, rate = (slots & 0xFFFF).astype(np.int64), (slots >> 16).astype(np.int64)
        table = slot_table()
        levels = table[1 : 1 + _LEVELS, 0]
        level = np.searchsorted((levels[1:] + levels[:-1] + 1) // 2, p, side="right")
        codes = 1 + _LEVELS * (rate < _SURE) + level
        small = np.clip(np.rint(weights / _WEIGHT_UNIT), -127, 127).astype(np.int8).tobytes()
        for seen in (_SEEN, 5000, 3500, 2500, 1500, 800):
            known = np.where(rate < seen, codes, 0).astype(np.uint8)
            head = _HEAD.pack(_MAGIC, _VERSION, n, 0)
            packed = lzma.compress(known.tobytes() + small, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=_FILTERS)
            data = head + packed
            if len(data) <= min(max_bytes, MAX_BYTES):
                return cls(data)
        return None

    def expanded(self, components: int) -> tuple[list[tuple[int, int]], list[list[int]]]:
        """Return (p, rate) of each slot and the weights of each set.

        Raises
        ------
        CorruptError
            The prior is for another number of components.
        """
        self.check(components)
        pairs = slot_table()[self._codes()].tolist()
        return [(p, rate) for p, rate in pairs], self._weights().tolist()

    def native(self, components: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]]:
        """Return the same as the native coder takes it."""
        self.check(components)
        return self._native

    @cached_property
    def _native(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]]:
        """Expand it once for all chunks."""
        p, rate = slot_table().T
        return (p | rate << 16).astype(np.uint32)[self._codes()], np.ascontiguousarray(self._weights())

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrive in another process and be known there."""
        return remember, (self.data,)

    def check(self, components: int) -> None:
        """Refuse another number of components."""
        if components != self.components:
            raise CorruptError(
                f"the prior is for JPEGs of {self.components} components, the stream has {components}; it is faulty"
            )

    def _codes(self) -> npt.NDArray[np.uint8]:
        """Return the bytes of the slots."""
        return np.frombuffer(self.raw, np.uint8, self.components * COMPONENT_SLOTS)

    def _weights(self) -> npt.NDArray[np.int16]:
        """Return the weights, [sets, 8]."""
        small = np.frombuffer(self.raw, np.int8, offset=self.components * COMPONENT_SLOTS)
        return small.reshape(-1, INPUTS).astype(np.int16) * np.int16(_WEIGHT_UNIT)


def _spread(count: int) -> list[int]:
    """Return 0 .. count - 1, neighbours far from each other.

    Examples
    --------
    >>> _spread(6)
    [0, 4, 2, 1, 5, 3]
    """
    bits = max(count - 1, 1).bit_length()
    mirrored = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in mirrored if i < count]


def _name(data: bytes) -> bytes:
    """Return the name of a prior in streams."""
    return hashlib.sha256(data).digest()[:ID_BYTES]


_known: WeakValueDictionary[bytes, Prior] = WeakValueDictionary()
_recent: OrderedDict[bytes, Prior] = OrderedDict()
_lock = Lock()


def remember(prior: Prior | bytes) -> Prior:
    """Make a prior known to the decoders of this process.

    Parameters
    ----------
    prior : Prior or bytes
        The prior. One that is known already is not unpacked again.

    Returns
    -------
    Prior
        The one that is known from now on, as long as it is held; the last `KEPT` ones also if nobody does.

    Raises
    ------
    CorruptError
        The bytes are no prior.
    """
    if isinstance(prior, (bytearray, memoryview)):
        prior = bytes(prior)
    if not isinstance(prior, (bytes, Prior)):
        raise UnsupportedInputError(f"a prior must be bytes or a Prior, not {type(prior).__name__}", reason="input")
    name, data = (prior.id, prior.data) if isinstance(prior, Prior) else (_name(prior), prior)
    with _lock:
        known = _known.get(name)
    if known is None or known.data != data:
        known = prior if isinstance(prior, Prior) else Prior(data)
    with _lock:
        _known[name] = _recent[name] = known
        _recent.move_to_end(name)
        while len(_recent) > KEPT:
            _recent.popitem(last=False)
    return known


def find(name: bytes) -> Prior:
    """Find the prior that a stream names.

    Raises
    ------
    PriorError
        Nothing in this process has named it.
    """
    with _lock:
        prior = _known.get(name)
    if prior is None:
        raise PriorError(
            f"the stream needs the slide's prior {name.hex()}, which stands in the slide's metadata: open the slide "
            "through Zarr, tifffile or dlpr_wsi, or pass prior= (the codec configuration's bytes)",
            offset=34,
        )
    return prior
