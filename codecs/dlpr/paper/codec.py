"""Images to streams of the paper profile and back, on the machine that wrote them.

::

    bytes  field
    4      magic "DLPF"
    1      version 2
    4 x 2  height, width
    4 x 2  bytes of the strings of y and z
    4      CRC32C of the header so far
    rest   the strings of y, z (CompressAI's coder) and r (`dlpr.paper.model`), which has checksums of its own

Edges are repeated to multiples of 64 and of the patch. Integers are little-endian.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dlpr.arrays import Buffer
from dlpr.crc import crc32c
from dlpr.errors import ChecksumError, CorruptError, TruncatedError, UnsupportedError, UnsupportedInputError
from dlpr.paper.model import Dlpr
from dlpr.paper.profile import LATENT_STRIDE

MAGIC, VERSION = b"DLPF", 2
HEADER = struct.Struct("<4sBIIIII")
MAX_PIXELS = 1 << 22
Image = npt.NDArray[np.uint8]


class PaperCodec:
    """Encodes and decodes images of any size with one model.

    Parameters
    ----------
    model : Dlpr
        Put into eval mode; its coder's tables are updated.
    threads : int
        Threads of one operation; part of the fingerprint.
    spread : float
        As in `Dlpr.compress`.
    """

    def __init__(self, model: Dlpr, threads: int = 1, spread: float = 7.0) -> None:
        self.model, self.threads, self.spread = model.eval(), threads, spread
        model.update(force=True)
        self.side = math.lcm(LATENT_STRIDE, model.cfg.patch)

    def encode(self, image: Image, tau: int = 0) -> bytes:
        """Encode an image [h, w, 3] uint8 so that every decoded sample is within ``tau`` levels."""
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            raise UnsupportedInputError("the paper profile takes uint8 arrays of shape (h, w, 3)")
        h, w = image.shape[:2]
        if not 0 < h * w <= MAX_PIXELS:
            raise UnsupportedInputError(f"1 to {MAX_PIXELS} pixels at a time, not {h} x {w}")
        if not 0 <= tau <= 255:
            raise UnsupportedInputError(f"tau must be in 0..255, not {tau}")
        x = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None].to(self.model.profile.device) / 255
        padded = F.pad(x, (0, -w % self.side, 0, -h % self.side), "replicate")
        coded = self.model.compress(padded, tau, spread=self.spread, threads=self.threads)
        y, z, r = (strings[0] for strings in coded["strings"])
        head = HEADER.pack(MAGIC, VERSION, h, w, len(y), len(z), 0)[:-4]
        return head + struct.pack("<I", crc32c(head)) + bytes(y) + bytes(z) + bytes(r)

    def decode(self, data: Buffer) -> Image:
        """Decode a stream to an image [h, w, 3] uint8.

        Raises
        ------
        dlpr.errors.BitstreamError
            As `Dlpr.decompress`.
        """
        data = bytes(data)
        if len(data) >= 4 and data[:4] != MAGIC:
            raise UnsupportedError("not a stream of the paper profile", reason="magic", offset=0)
        if len(data) < HEADER.size:
            raise TruncatedError("the stream ends within its header", offset=len(data))
        _, version, h, w, y_size, z_size, checksum = HEADER.unpack_from(data)
        if version != VERSION:
            raise UnsupportedError(f"version {version} of the paper profile's streams", reason="version", offset=4)
        if crc32c(data[: HEADER.size - 4]) != checksum:
            raise ChecksumError("the stream's header is damaged", offset=HEADER.size - 4)
        if not 0 < h * w <= MAX_PIXELS:
            raise CorruptError("a header that no encoder writes", offset=5)
        if HEADER.size + y_size + z_size > len(data):
            raise TruncatedError("the stream ends within its strings", offset=len(data))
        at = HEADER.size + y_size
        strings = [[data[HEADER.size : at]], [data[at : at + z_size]], [data[at + z_size :]]]
        shape = [-(-n // self.side) * self.side // 64 for n in (h, w)]
        x_hat = self.model.decompress(strings, shape, threads=self.threads)["x_hat"]
        levels = torch.round(x_hat[0, :, :h, :w] * 255).to(torch.uint8)
        return np.ascontiguousarray(levels.cpu().numpy().transpose(1, 2, 0))
