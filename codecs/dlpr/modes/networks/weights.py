"""Weights files (docs/format section 4): read, write, and find them by the id that a stream names.

A weights file is named by its content: its id is the first 8 bytes of its SHA-256. Shipped files stand in
``dlpr/weights`` with ``manifest.json``; more are found as ``*.dlpw`` in the folders of ``DLPR_WEIGHTS_PATH``. A slide's
own (`dlpr.modes.networks.tuned`) are found as long as whoever opened the slide holds them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from dlpr.arrays import AnyInts, Buffer
from dlpr.config import SlideProfile
from dlpr.errors import WeightsError
from dlpr.modes.networks import weights_check

__all__ = ["KNOWN", "SEARCH_PATH", "Weights", "default_id", "dump", "find", "installed", "load", "manifest"]

MAGIC = b"DLPW"
SEARCH_PATH = "DLPR_WEIGHTS_PATH"
"""Environment variable with further folders of ``*.dlpw`` files."""
MAX_BYTES = 1 << 30
MAX_RANK = 8
DTYPES = {"i8": "<i1", "u8": "<u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "u32": "<u4"}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


@dataclass(frozen=True)
class Weights:
    """One weights file: its id, the networks' sizes, and every tensor."""

    id: bytes
    """First 8 bytes of the file's SHA-256."""
    profile: Mapping[str, Any]
    """Sizes, as the file has them."""
    tensors: Mapping[str, AnyInts]
    """Read-only arrays by name."""
    source: str
    """Where it was read from, for messages."""

    @property
    def sizes(self) -> SlideProfile:
        """The profile as the dataclass that the networks are built from."""
        return profile_of(self.profile)

    def __getitem__(self, name: str) -> AnyInts:
        """Return a tensor."""
        return self.tensors[name]


def profile_of(profile: Mapping[str, Any]) -> SlideProfile:
    """Check a profile's sizes.

    Raises
    ------
    WeightsError
        A size is missing or out of range, or the file is of another kind of network.
    """
    limits = {
        "hidden": (1, 256), "components": (5, 5), "blocks": (1, 8), "bank": (1, 256),
        "latent": (1, 256), "hyper": (1, 256), "tau_classes": (1, 255),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        value = profile.get(name)
        if type(value) is not int or not low <= value <= high:
            raise WeightsError(f"profile: {name} is {value!r}, not {low} to {high}; export the weights again")
    given = profile.get("widths")
    widths = tuple(given) if isinstance(given, list | tuple) else ()
    if len(widths) != 4 or not all(type(w) is int and 1 <= w <= 512 for w in widths) or widths[3] != 24:
        raise WeightsError(f"profile: widths is {given!r}, not four sizes up to 512, the last 24; export again")
    return SlideProfile(**{name: profile[name] for name in limits}, widths=(widths[0], widths[1], widths[2], widths[3]))


# ---- container ------------------------------------------------------------------------------------------


def dump(profile: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Write a weights file; the same tensors give the same bytes.

    Parameters
    ----------
    profile : mapping
        Sizes (fields of `dlpr.config.SlideProfile`).
    tensors : mapping
        Integer arrays by name.

    Returns
    -------
    bytes

    Raises
    ------
    WeightsError
        What `load` would refuse.

    Examples
    --------
    >>> dump({}, {})
    Traceback (most recent call last):
    dlpr.errors.WeightsError: dlpr: bytes: profile: hidden is None, not 1 to 256; export the weights again
    """
    sizes = {k: list(v) if isinstance(v, tuple) else v for k, v in profile.items()}
    index: dict[str, Any] = {}
    data = bytearray()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        kind = _NAMES.get(array.dtype.newbyteorder("<"))
        if kind is None:
            raise WeightsError(f"{name}: dtype {array.dtype} cannot be in a weights file; convert it")
        data += bytes(-len(data) % 8)
        index[name] = {"dtype": kind, "shape": list(array.shape), "offset": len(data)}
        data += np.ascontiguousarray(array, DTYPES[kind]).tobytes()
    text = json.dumps({"profile": sizes, "tensors": index}, sort_keys=True, separators=(",", ":")).encode()
    head = MAGIC + struct.pack("<I", len(text)) + text
    out = head + bytes(-len(head) % 8) + bytes(data)
    load(out)
    return out


def load(source: str | os.PathLike[str] | Buffer) -> Weights:
    """Read a weights file and check everything a decoder relies on.

    Parameters
    ----------
    source : path or bytes-like
        The file.

    Returns
    -------
    Weights
        Its tensors are read-only views.

    Raises
    ------
    WeightsError
        The file is damaged, a tensor is missing or has another type or shape, a table is not what the format
        says, or a sum of a layer could leave 24 bits.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data, name = bytes(source), "bytes"
    else:
        name = os.fspath(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise WeightsError(f"cannot read {name}: {error.strerror}; check the path") from error
    try:
        profile, tensors = _parse(data)
        weights_check.check(profile_of(profile), tensors)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error.message}", offset=error.offset) from None
    return Weights(hashlib.sha256(data).digest()[:8], profile, tensors, name)


def _parse(data: bytes) -> tuple[dict[str, Any], dict[str, AnyInts]]:
    """Read the container."""
    if len(data) < 8 or data[:4] != MAGIC or len(data) > MAX_BYTES:
        raise WeightsError("not a weights file: it does not begin with 'DLPW', or is above 1 GiB", offset=0)
    (size,) = struct.unpack_from("<I", data, 4)
    start = 8 + size + -size % 8
    if start > len(data):
        raise WeightsError(f"the index ends at byte {start}, here are {len(data)}; fetch the file again", offset=4)
    try:
        index = json.loads(data[8 : 8 + size])
        profile, entries = dict(index["profile"]), dict(index["tensors"])
        fields = {
            str(name): (DTYPES[e["dtype"]], tuple(map(int, e["shape"])), int(e["offset"]))
            for name, e in entries.items()
        }
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise WeightsError(f"the index cannot be read ({error}); fetch the file again", offset=8) from None
    tensors: dict[str, AnyInts] = {}
    for name, (code, shape, offset) in fields.items():
        count = math.prod(shape)
        end = offset + count * np.dtype(code).itemsize
        if len(shape) > MAX_RANK or min(shape, default=1) < 1 or not 0 <= offset <= end <= len(data) - start:
            raise WeightsError(f"{name}: an impossible shape, or data outside the file; fetch it again", offset=start)
        tensors[name] = np.frombuffer(data, code, count, start + offset).reshape(shape)
    return profile, tensors


# ---- registry -------------------------------------------------------------------------------------------


class Held(Protocol):
    """What gives weights that are in no file."""

    @property
    def weights(self) -> Weights:
        """The weights."""


KNOWN: WeakValueDictionary[bytes, Held] = WeakValueDictionary()
"""Weights of slides by id, as long as they are held elsewhere: `dlpr.modes.networks.tuned.remember`."""


@lru_cache(maxsize=1)
def manifest() -> dict[str, Any]:
    """Return the manifest of the shipped weights: ``default`` and ``weights``, each with id, file, sha256, card."""
    file = resources.files("dlpr").joinpath("weights", "manifest.json")
    try:
        content = json.loads(file.read_text("utf-8"))
        entries = content["weights"]
        return {"default": str(content["default"]), "weights": [dict(e, id=str(e["id"])) for e in entries]}
    except FileNotFoundError:
        return {"default": "", "weights": []}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"dlpr/weights/manifest.json cannot be read ({error}); reinstall dlpr-wsi") from None


def default_id() -> bytes:
    """Return the id of the weights that an encoder uses unless told otherwise."""
    name = manifest()["default"]
    if not name:
        raise WeightsError(f"no weights are installed; reinstall dlpr-wsi, or set {SEARCH_PATH} and pass weights_id")
    return bytes.fromhex(name)


def find(weights_id: bytes) -> Weights:
    """Find weights by their id: a slide's own that are held, shipped ones, those in ``DLPR_WEIGHTS_PATH``.

    Raises
    ------
    WeightsError
        They are not installed, or the file is damaged. The message names the id.
    """
    held = KNOWN.get(bytes(weights_id))
    return _find(bytes(weights_id), os.environ.get(SEARCH_PATH, "")) if held is None else held.weights


def installed() -> list[str]:
    """Return the ids, in hex, of all weights that `find` would find."""
    shipped = [e["id"] for e in manifest()["weights"]]
    return sorted({*shipped, *(i.hex() for i in _search(os.environ.get(SEARCH_PATH, "")))})


@lru_cache(maxsize=8)
def _find(weights_id: bytes, folders: str) -> Weights:
    """Read weights once."""
    name = weights_id.hex()
    for entry in manifest()["weights"]:
        if entry["id"] == name:
            file = resources.files("dlpr").joinpath("weights", str(entry["file"]))
            with resources.as_file(file) as path:
                weights = load(path)
            if weights.id != weights_id:
                raise WeightsError(f"{entry['file']} is damaged: it should have the id {name}; reinstall dlpr-wsi")
            return weights
    path_or_none = _search(folders).get(weights_id)
    if path_or_none is None:
        have = ", ".join(installed()) or "none"
        raise WeightsError(
            f"the stream was coded with weights {name}, which are not installed (installed: {have}); "
            f"put their file into a folder of {SEARCH_PATH}; a slide's own stand in its metadata: open the slide "
            "through Zarr, tifffile or dlpr_wsi, or pass tuned= (the codec configuration's bytes)",
            offset=24,
        )
    return load(path_or_none)


def _search(folders: str) -> dict[bytes, Path]:
    """List the ``*.dlpw`` files of further folders by id."""
    found: dict[bytes, Path] = {}
    for folder in filter(None, folders.split(os.pathsep)):
        for path in sorted(Path(folder).glob("*.dlpw")):
            stat = path.stat()
            found.setdefault(_id_of(path, stat.st_mtime_ns, stat.st_size), path)
    return found


@lru_cache(maxsize=64)
def _id_of(path: Path, _mtime: int, _size: int) -> bytes:
    """Hash a file once."""
    return hashlib.sha256(path.read_bytes()).digest()[:8]
