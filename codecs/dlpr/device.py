"""Devices of torch to code on: `Device`, what ``device=`` means. torch is imported when a device is named."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from dlpr.errors import DeviceError, UnsupportedInputError

__all__ = ["Device"]


class Device:
    """A device of torch, how much of its memory to use, and what has been done on it.

    Parameters
    ----------
    name : str
        As torch names it: ``"cuda"``, ``"cuda:1"``, ``"mps"``, ``"xpu"``, ``"cpu"``. The last runs the same code on the
        CPU, for tests; the native code is several times as fast there.
    memory : int, optional
        Bytes that a batch may take; by default nine tenths of what the device has free, or 2 GiB where it does not say.

    Attributes
    ----------
    done : collections.Counter
        Chunks of the networks by what became of them: ``"encoded"``, ``"decoded"``, ``"proven"`` (decoded, by finding
        that they are what the caller expected), and ``"encoded on the CPU"``, ``"decoded on the CPU"`` where the
        device's memory did not suffice. Planes of mode colour count one by one.

    Raises
    ------
    dlpr.errors.UnsupportedInputError
        torch knows no device of this name.
    dlpr.errors.DeviceError
        torch is not installed, or cannot use the device on this machine.
    """

    def __init__(self, name: str, memory: int | None = None) -> None:
        if memory is not None and (type(memory) is not int or memory < 1):
            raise UnsupportedInputError(f"a device's memory must be a number of bytes, not {memory!r}", reason="input")
        self.name, self.memory = _usable(name), memory
        self.done: Counter[str] = Counter()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, device: Any) -> Device | None:
        """What a caller's ``device=`` means: None, a `Device`, a name, or a ``torch.device``."""
        return device if device is None or isinstance(device, Device) else cls(device)

    def count(self, what: str, chunks: int) -> None:
        """Write down what has been done."""
        if chunks:
            with self._lock:
                self.done[what] += chunks

    def __reduce__(self) -> tuple[Any, ...]:
        return Device, (self.name, self.memory)

    def __repr__(self) -> str:
        return f"Device({self.name!r})"


def _usable(name: object) -> str:
    """Check that torch is there, knows a device and can use it; returns its name."""
    try:
        import torch
    except ImportError:
        raise DeviceError(
            f"device={name!r} needs torch, which is not installed: pip install 'dlpr-wsi[gpu]'; "
            "without device= the native code runs on the CPU",
            reason="torch",
        ) from None
    if not isinstance(name, (str, torch.device)):
        raise UnsupportedInputError(f"device must be a device's name or None, not {name!r}", reason="input")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UnsupportedInputError(
            f"device {name!r} is not one that torch knows; for example cuda, cuda:1, mps, xpu, cpu", reason="input"
        ) from None
    try:
        works = int(torch.ones(2, device=device).sum().item()) == 2
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DeviceError(f"torch cannot use the device {str(device)!r} on this machine: {reason}") from None
    if not works:
        raise DeviceError(f"the device {str(device)!r} does not compute")
    return str(device)
