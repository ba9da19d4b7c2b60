"""Coding on a torch device: which workers have one, and what they do with it.

A job names a device; a worker uses it if it has the resource GPU, or if there is no cluster. Workers without one do the
same tasks natively: the streams are the same.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DeviceError, UnsupportedInputError
from dlpr_wsi.errors import MissingDependencyError, UsageError

__all__ = ["ANY", "UNKNOWN", "coders", "decode_on_device", "device_here", "device_name", "device_of", "require_device"]

ANY = "gpu"
"""The device that torch finds on a worker, whatever it is."""
NATIVE_EVERY = 8
"""Of so many chunks that a device has coded one is decoded natively: the device does not judge itself alone."""
_NETWORKS = ("coded", "colour")  # modes with something to do for a device


def require_device(device: str) -> dlpr.Device:
    """Return a device, or raise unless torch is installed and can use it.

    Parameters
    ----------
    device : str
        As torch names it, or `ANY`.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        torch is not installed.
    dlpr_wsi.errors.UsageError
        There is no such device on this machine.
    """
    try:
        return dlpr.Device(_found() if device == ANY else device)
    except (DeviceError, UnsupportedInputError) as error:
        if error.reason == "torch":
            raise MissingDependencyError("torch", "gpu") from error
        raise UsageError("--gpu", error.message) from error


def _found() -> str:
    """Return the kind of accelerator of this machine; "cuda" where there is none, to be refused by that name."""
    try:
        import torch
    except ImportError:
        return "cuda"
    if not hasattr(torch, "accelerator"):  # torch before 2.6
        return "mps" if torch.backends.mps.is_available() else "cuda"
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cuda" if here is None else here.type


def device_name(gpu: bool | str) -> str | None:
    """Return the device that ``gpu=`` means: none, any, or one by its name."""
    return (ANY if gpu else None) if isinstance(gpu, bool) else gpu


def device_of(worker: object, device: str | None) -> str | None:
    """Return the device that a Dask worker uses of a job's: none without the resource GPU."""
    state = getattr(worker, "state", None)
    return device if state is None or state.total_resources.get("GPU", 0) > 0 else None


def device_here(device: str | None) -> dlpr.Device | None:
    """Return the device that the running task uses of a job's."""
    if device is None:
        return None
    worker = None
    if "distributed" in sys.modules:
        from distributed import get_worker

        try:
            worker = get_worker()
        except ValueError:  # this task does not run on a cluster
            worker = None
    return None if device_of(worker, device) is None else require_device(device)


def decode_on_device(
    streams: Sequence[bytes],
    device: dlpr.Device,
    threads: int,
    expected: Sequence[NDArray[np.uint8]] | None = None,
) -> list[NDArray[np.uint8]]:
    """Decode streams with the networks on a device, some of them natively.

    Parameters
    ----------
    streams : sequence of bytes
    device : dlpr.Device
    threads : int
        Of the native code.
    expected : sequence of ndarray of uint8, optional
        What was encoded, as the streams were made of it; then a device needs no steps (`dlpr.decode_batch`).
    """
    if expected is None:
        return dlpr.decode_batch(streams, threads=threads, device=device)
    networks = [i for i, stream in enumerate(streams) if dlpr.inspect(stream).mode in _NETWORKS]
    native = networks[::NATIVE_EVERY]
    rest = [i for i in range(len(streams)) if i not in set(native)]
    out = dict(zip(native, dlpr.decode_batch([streams[i] for i in native], threads=threads), strict=True))
    hopes = [expected[i] for i in rest]
    decoded = dlpr.decode_batch([streams[i] for i in rest], threads=threads, device=device, expected=hopes)
    out |= zip(rest, decoded, strict=True)
    return [out[i] for i in range(len(streams))]


UNKNOWN = "a worker that was lost"
"""Who coded chunks whose worker did not live to say so."""


def coders(device: dlpr.Device | None, modes: Iterable[str]) -> Mapping[str, int]:
    """Count the chunks of a task by who coded them.

    ``"gpu"``: the device; ``"cpu of a gpu worker"``: modes that have no use for one; ``"gpu out of memory"``: chunks of
    a task whose device's memory did not suffice; ``"cpu"``: a worker without device.
    """
    if device is None:
        return Counter("cpu" for _ in modes)
    networks = "gpu out of memory" if device.done["encoded on the CPU"] else "gpu"
    return Counter(networks if mode in _NETWORKS else "cpu of a gpu worker" for mode in modes)
