"""Weights tuned to a slide: what a slide's own networks differ in from installed ones (docs/format section 4).

::

    installed weights + differences of RC and SQRC, a zigzag number each, byte planes, xz --> weights of the slide

A stream names them by the first 8 bytes of the SHA-256 of `Tuned.data`, as it names any weights; `remember` makes them
known to this process, as long as whoever opened the slide holds them. That no sum leaves 24 bits is checked as of any
weights file.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, Final

import numpy as np

from dlpr.arrays import AnyInts
from dlpr.errors import CorruptError, UnsupportedInputError, WeightsError
from dlpr.modes.networks import weights as store
from dlpr.modes.networks import weights_check

__all__ = ["MAX_BYTES", "Tuned", "remember"]

MAX_BYTES: Final = 192 * 1024
"""Largest tuned weights."""
KEPT: Final = 16
"""Tuned weights that a process keeps though nothing else holds them."""

_HEAD = struct.Struct("<4sB3x8s")
_MAGIC, _VERSION = b"DLPT", 1
_MAX_RAW: Final = 4 << 20
_MEMORY: Final = 16 << 20
_FILTERS: Final = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]


@dataclass(frozen=True)
class Tuned:
    """Weights of a slide, as differences from installed ones.

    Parameters
    ----------
    data : bytes
        As `between` made them.

    Raises
    ------
    CorruptError
        Not tuned weights, or damaged ones.

    Examples
    --------
    >>> Tuned(b"no weights")
    Traceback (most recent call last):
    dlpr.errors.CorruptError: dlpr: 10 bytes are no tuned weights; take them from the slide's metadata anew
    """

    data: bytes = field(repr=False)
    id: bytes = field(init=False, compare=False)
    """The name in streams: 8 bytes."""
    base: bytes = field(init=False, compare=False)
    """Id of the weights that they differ from."""
    raw: bytes = field(init=False, compare=False, repr=False)
    """The differences."""

    def __post_init__(self) -> None:
        """Read the head and unpack the rest."""
        wrong = CorruptError(f"{len(self.data)} bytes are no tuned weights; take them from the slide's metadata anew")
        if not isinstance(self.data, bytes) or not _HEAD.size < len(self.data) <= MAX_BYTES:
            raise wrong
        magic, version, base = _HEAD.unpack_from(self.data)
        if magic != _MAGIC or version != _VERSION or any(self.data[5:8]):
            raise wrong
        try:
            unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY)
            raw = unpack.decompress(self.data[_HEAD.size :], _MAX_RAW)
        except (lzma.LZMAError, EOFError):
            raise wrong from None
        if not unpack.eof or unpack.unused_data:
            raise wrong
        object.__setattr__(self, "id", hashlib.sha256(self.data).digest()[:8])
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "raw", raw)

    @classmethod
    def between(cls, base: store.Weights, tensors: Mapping[str, AnyInts]) -> Tuned:
        """Pack the differences of RC and SQRC.

        Parameters
        ----------
        base : dlpr.modes.networks.weights.Weights
            Installed weights.
        tensors : mapping
            All tensors; those of other networks are the base's.

        Raises
        ------
        WeightsError
            A tensor is not what the format wants, or something else than RC and SQRC differs.
        """
        weights_check.check(base.sizes, tensors)
        names = _names(base)
        for name, array in base.tensors.items():
            if name not in names and not np.array_equal(array, tensors[name]):
                raise WeightsError(f"{name} differs, and only RC and SQRC may; train them alone")
        raw = b"".join(_pack(base[name], tensors[name]) for name in names)
        packed = lzma.compress(raw, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=_FILTERS)
        return cls(_HEAD.pack(_MAGIC, _VERSION, base.id) + packed)

    @cached_property
    def weights(self) -> store.Weights:
        """The slide's weights.

        Raises
        ------
        WeightsError
            Those that they differ from are not installed, or these are not what the format wants.
        """
        base = store.find(self.base)
        tensors, at = dict(base.tensors), 0
        for name in _names(base):
            size = base[name].nbytes
            if at + size <= len(self.raw):
                tensors[name] = _unpack(base[name], self.raw[at : at + size])
            at += size
        if at != len(self.raw):
            raise WeightsError(f"tuned weights {self.id.hex()} have {len(self.raw)} bytes of differences, not {at}")
        weights_check.check(base.sizes, tensors)
        return store.Weights(self.id, base.profile, tensors, f"tuned weights {self.id.hex()}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrive in another process and be known there."""
        return remember, (self.data,)


def _names(base: store.Weights) -> list[str]:
    """Tensors that may differ, in the order of the format."""
    return sorted(n for n in weights_check.expected(base.sizes) if n.startswith(("rc.", "sqrc.")))


def _pack(old: AnyInts, new: AnyInts) -> bytes:
    """Differences modulo the type's range, zigzag, all lowest bytes first."""
    bits = 8 * old.itemsize
    d = new.astype(np.int64).ravel() - old.astype(np.int64).ravel()
    d = (d + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    z = np.where(d < 0, -2 * d - 1, 2 * d)
    return b"".join((z >> 8 * k & 255).astype(np.uint8).tobytes() for k in range(old.itemsize))


def _unpack(old: AnyInts, raw: bytes) -> AnyInts:
    """Undo `_pack`; read-only."""
    size, bits = old.itemsize, 8 * old.itemsize
    planes = np.frombuffer(raw, np.uint8).reshape(size, -1).astype(np.int64)
    z = sum((planes[k] << 8 * k for k in range(size)), np.zeros(old.size, np.int64))
    new = old.astype(np.int64).ravel() + np.where(z & 1, -(z >> 1) - 1, z >> 1)
    low = np.iinfo(old.dtype).min
    out: AnyInts = ((new - low) % (1 << bits) + low).astype(old.dtype).reshape(old.shape)
    out.setflags(write=False)
    return out


_recent: OrderedDict[bytes, Tuned] = OrderedDict()
_lock = Lock()


def remember(tuned: Tuned | bytes) -> Tuned:
    """Make tuned weights known to this process.

    Parameters
    ----------
    tuned : Tuned or bytes
        The weights. Those that are known already are not unpacked again.

    Returns
    -------
    Tuned
        Those that are known from now on, as long as they are held; the last `KEPT` ones also if nobody does.

    Raises
    ------
    CorruptError
        The bytes are no tuned weights.
    """
    if isinstance(tuned, (bytearray, memoryview)):
        tuned = bytes(tuned)
    if not isinstance(tuned, (bytes, Tuned)):
        raise UnsupportedInputError(
            f"tuned weights must be bytes or a Tuned, not {type(tuned).__name__}", reason="input"
        )
    name, data = (tuned.id, tuned.data) if isinstance(tuned, Tuned) else (hashlib.sha256(tuned).digest()[:8], tuned)
    with _lock:
        found = store.KNOWN.get(name)
    if isinstance(found, Tuned) and found.data == data:
        known = found
    else:
        known = tuned if isinstance(tuned, Tuned) else Tuned(data)
    with _lock:
        store.KNOWN[name] = _recent[name] = known
        _recent.move_to_end(name)
        while len(_recent) > KEPT:
            _recent.popitem(last=False)
    return known
