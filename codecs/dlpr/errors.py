"""Errors of dlpr. Catch `DlprError` for all of them, `BitstreamError` for everything a stream can cause.

::

    DlprError(Exception)                                    reasons
    +-- BitstreamError(ValueError)
    |   +-- TruncatedError            bytes are missing     truncated
    |   +-- ChecksumError             a CRC32C differs      checksum, pixels
    |   +-- UnsupportedError          not a kind we read    magic, version, unsupported
    |   +-- CorruptError              an impossible value   corrupt
    |   +-- WeightsError              no such weights       weights
    |   +-- PriorError                no such prior         prior
    +-- UnsupportedInputError(TypeError, ValueError)        input
    +-- DeviceError(RuntimeError)     no such device        device, torch
    +-- PluginError(ImportError)      a library changed     plugin

    DeviceWarning(RuntimeWarning)                           work that was meant for a device was done on the CPU

``reason`` is a stable word to compare with, ``offset`` the byte of the stream (or weights file) that is to
blame, or None; messages may change. Reasons of streams: docs/format section 2.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BitstreamError",
    "ChecksumError",
    "CorruptError",
    "DeviceError",
    "DeviceWarning",
    "DlprError",
    "PluginError",
    "PriorError",
    "TruncatedError",
    "UnsupportedError",
    "UnsupportedInputError",
    "WeightsError",
]


class DlprError(Exception):
    """Base of the errors of this package.

    Parameters
    ----------
    message : str
        What is wrong and what to do about it.
    reason : str, optional
        A stable word; by default that of the class.
    offset : int, optional
        Byte of the stream that is to blame.

    Examples
    --------
    >>> error = ChecksumError("the samples differ from their checksum", reason="pixels", offset=16)
    >>> error.reason, error.offset, str(error)
    ('pixels', 16, 'dlpr: the samples differ from their checksum (byte 16)')
    """

    reason: str = "error"
    offset: int | None = None

    def __init__(self, message: str, *, reason: str | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        text = self.message if self.message.startswith("dlpr: ") else f"dlpr: {self.message}"
        return text if self.offset is None else f"{text} (byte {self.offset})"

    def __reduce__(self) -> tuple[Any, ...]:  # errors cross process borders with their reason
        return _rebuild, (type(self), self.message, self.reason, self.offset)


def _rebuild(cls: type[DlprError], message: str, reason: str, offset: int | None) -> DlprError:
    """Make the error again in another process."""
    return cls(message, reason=reason, offset=offset)


class BitstreamError(DlprError, ValueError):
    """The stream cannot be decoded."""

    reason = "corrupt"


class TruncatedError(BitstreamError):
    """The stream ends before its fields say."""

    reason = "truncated"


class ChecksumError(BitstreamError):
    """The bytes (`checksum`) or the decoded samples (`pixels`) differ from their CRC32C."""

    reason = "checksum"


class UnsupportedError(BitstreamError):
    """Not a DLPR stream (`magic`), a later version (`version`), or a feature this version lacks."""

    reason = "unsupported"


class CorruptError(BitstreamError):
    """The stream holds a value that no encoder writes."""

    reason = "corrupt"


class WeightsError(BitstreamError):
    """The weights that a stream names are not installed, or a weights file is damaged."""

    reason = "weights"


class PriorError(BitstreamError):
    """The slide's prior that a stream names is not at hand."""

    reason = "prior"


class UnsupportedInputError(DlprError, TypeError, ValueError):
    """The array to encode, or an option, is not of a kind that the codec takes."""

    reason = "input"


class DeviceError(DlprError, RuntimeError):
    """The device cannot be used (`device`), or torch, which would use it, is not installed (`torch`)."""

    reason = "device"


class DeviceWarning(RuntimeWarning):
    """Chunks that were meant for a device were coded on the CPU, with the same result."""


class PluginError(DlprError, ImportError):
    """The library that a plug-in extends is not of a kind that the plug-in knows."""

    reason = "plugin"
