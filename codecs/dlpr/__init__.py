"""dlpr: integer-exact deep lossy plus residual coding of 8-bit images, lossless or within tau of every sample.

>>> import numpy as np, dlpr
>>> x = np.zeros((32, 32, 3), np.uint8)
>>> dlpr.inspect(dlpr.encode(x)).mode
'constant'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlpr import errors
from dlpr.codec import StreamInfo, decode, decode_batch, encode, encode_batch, inspect
from dlpr.config import EncoderOptions
from dlpr.device import Device
from dlpr.modes.jpeg.prior import Prior
from dlpr.modes.networks.tuned import Tuned

if TYPE_CHECKING:
    from dlpr.plugins.numcodecs import DLPR

__version__ = "0.1.0"
__all__ = [
    "DLPR",
    "Device",
    "EncoderOptions",
    "Prior",
    "StreamInfo",
    "Tuned",
    "__version__",
    "decode",
    "decode_batch",
    "encode",
    "encode_batch",
    "errors",
    "inspect",
]


def __getattr__(name: str) -> Any:
    if name == "DLPR":  # numcodecs is imported only by those who ask for it
        from dlpr.plugins.numcodecs import DLPR

        return DLPR
    raise AttributeError(f"module 'dlpr' has no attribute {name!r}")
