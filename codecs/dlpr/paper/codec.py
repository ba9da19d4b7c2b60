"""Real bytes of the paper profile: images to streams and back, on the machine that wrote them.

::

    bytes  field                                           decode
    4      magic "DLPF"                                    1. z^ from the lane; mu, sigma = h_d(z^); y^ from the lane
    1 x 3  version 1, tau, m                               2. x~, u = g_d(y^), once, over the padded image
    2      centre of the interval, signed                  3. step by step along the scan, all patches at once:
    4 x 2  height, width                                      taps of r^ -> C_r -> RC or SQRC -> mixture,
    4 x 5  fingerprint (library, processor, device,           then channel by channel CDF -> symbol
           settings, threads)                              4. x^ = clamp(x~ + r^, 0, 255)
    8      weights id
    4      CRC32C of the samples
    4      CRC32C of the header so far and the lane
    rest   one rANS lane

Integers are little-endian. `_residual` computes every probability for both directions: the encoder walks the scan as
the decoder does, with operations of the same shapes, so their floats agree bit for bit.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from dlpr.arrays import Buffer
from dlpr.crc import crc32c
from dlpr.errors import (
    ChecksumError,
    CorruptError,
    TruncatedError,
    UnsupportedError,
    UnsupportedInputError,
    WeightsError,
)
from dlpr.paper.coder import LATENT_RANGE, Coder, Interval, Ints, Reader, Writer, adaptive_interval, code_latents
from dlpr.paper.context import check_scan, scan_steps
from dlpr.paper.fingerprint import PACKED_SIZE, Fingerprint, repeatable_floats, weights_id
from dlpr.paper.mixture import UNIT, MixtureParameters, quantise
from dlpr.paper.model import Dlpr, from_patches, to_patches
from dlpr.paper.profile import LATENT_STRIDE

MAGIC, VERSION = b"DLPF", 1
HEADER = struct.Struct(f"<4sBBBhII{PACKED_SIZE}s8sII")
AT_FINGERPRINT = 17
AT_WEIGHTS = AT_FINGERPRINT + PACKED_SIZE
AT_PIXELS, AT_CHECKSUM = AT_WEIGHTS + 8, AT_WEIGHTS + 12
MAX_PIXELS = 1 << 22
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EncodedImage:
    """A stream and where its bits went."""

    data: bytes
    bits_z: float
    bits_y: float
    bits_residual: float
    m: int
    """Adaptive interval."""
    escapes: int
    """Samples beyond it."""


class PaperCodec:
    """Encodes and decodes images with one model.

    Parameters
    ----------
    model : Dlpr
        Put into eval mode. Make a new codec when its parameters change: tables and weights id are taken here.
    threads : int
        Threads of one operation; part of the fingerprint.
    spread : float
        Standard deviations on each side of the adaptive interval. An escape costs some 13 bits more than the symbol
        would; a wider interval costs 2e-5 bits per sample and symbol: near 7 is best for a Laplace-like residual.
    """

    def __init__(self, model: Dlpr, threads: int = 1, spread: float = 7.0) -> None:
        if not all(bool(p.isfinite().all()) for p in model.parameters()):
            raise WeightsError("the model has parameters that are not finite; training diverged")
        self.model, self.threads, self.spread = model.eval(), threads, spread
        self.cfg = model.cfg
        self.device = next(model.parameters()).device
        check_scan(self.cfg.kernel, self.cfg.context, self.cfg.patch)
        self.steps = [
            (torch.tensor(rows, device=self.device), torch.tensor(columns, device=self.device))
            for rows, columns in scan_steps(self.cfg.context, self.cfg.patch)
        ]
        self.weights_id = weights_id(model, self.cfg)
        with repeatable_floats(threads):
            self.fingerprint = Fingerprint.here(self.device, threads)
            self.z_tables, self.y_tables = model.lic.z_model.tables(), model.lic.y_model.tables()
            self.tap_weight = model.masked_conv.tap_weight()

    def encode(self, image: Image, tau: int = 0) -> bytes:
        """Encode an image [h, w, 3] uint8 so that every decoded sample is within ``tau`` levels."""
        return self.encode_parts(image, tau).data

    def encode_parts(self, image: Image, tau: int = 0) -> EncodedImage:
        """Encode and tell where the bits went."""
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            raise UnsupportedInputError("the paper profile takes uint8 arrays of shape (h, w, 3)")
        h, w = image.shape[:2]
        if not 0 < h * w <= MAX_PIXELS:
            raise UnsupportedInputError(f"1 to {MAX_PIXELS} pixels at a time, not {h} x {w}")
        if not 0 <= tau <= 255:
            raise UnsupportedInputError(f"tau must be in 0..255, not {tau}")
        writer = Writer()
        with repeatable_floats(self.threads):
            x = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None].to(self.device)
            padded = self._pad(x)
            y = self.model.lic.g_e(padded / 255)
            z_hat = self._z(writer, padded.shape, self.model.lic.h_e(y))
            bits_z, at = writer.bits(), len(writer.lane.intervals)
            y_hat = self._y(writer, z_hat, y)
            bits_y, at = writer.bits(at), len(writer.lane.intervals)
            x_tilde, u = self._lossy(y_hat)
            r = x - x_tilde[:, :, :h, :w]
            centre, m = adaptive_interval(r.cpu().numpy().astype(np.int64), self.spread)
            interval, r_hat = Interval(centre, m, tau, self.device), quantise(r, tau)
            known = torch.round(r_hat / (2 * tau + 1)).cpu().numpy().astype(np.int64)
            self._residual(writer, interval, tau, u, (h, w), known)
            bits_residual = writer.bits(at)
            decoded = self._pixels(x_tilde, r_hat, h, w)
        lane = writer.lane.finish()
        fingerprint = self.fingerprint.pack()
        pixels = crc32c(decoded.tobytes())
        head = HEADER.pack(MAGIC, VERSION, tau, m, centre, h, w, fingerprint, self.weights_id, pixels, 0)[:AT_CHECKSUM]
        data = head + struct.pack("<I", crc32c(lane, crc32c(head))) + lane
        escapes = int(((known < interval.low) | (known > interval.high)).sum())
        return EncodedImage(data, bits_z, bits_y, bits_residual, m, escapes)

    def decode(self, data: Buffer) -> Image:
        """Decode a stream to an image [h, w, 3] uint8.

        Raises
        ------
        dlpr.errors.BitstreamError
            `PlatformError` (reason "platform") for a stream from elsewhere, `WeightsError` for one of another model,
            else what the stream's damage is.
        """
        data = bytes(data)
        if len(data) >= 4 and data[:4] != MAGIC:
            raise UnsupportedError("not a stream of the paper profile", reason="magic", offset=0)
        if len(data) < HEADER.size:
            raise TruncatedError("the stream ends within its header", offset=len(data))
        _, version, tau, m, centre, h, w, fingerprint, weights, pixels, checksum = HEADER.unpack_from(data)
        if version != VERSION:
            raise UnsupportedError(f"version {version} of the paper profile's streams", reason="version", offset=4)
        if crc32c(data[HEADER.size :], crc32c(data[:AT_CHECKSUM])) != checksum:
            raise ChecksumError("the stream is damaged or truncated", offset=AT_CHECKSUM)
        if not m or abs(centre) > 255 or not 0 < h * w <= MAX_PIXELS:
            raise CorruptError("a header that no encoder writes", offset=6)
        self.fingerprint.check(fingerprint, AT_FINGERPRINT)
        if weights != self.weights_id:
            raise WeightsError(
                f"the stream needs weights {weights.hex()}, this model is {self.weights_id.hex()}", offset=AT_WEIGHTS
            )
        reader = Reader(data[HEADER.size :])
        with repeatable_floats(self.threads):
            shape = self._pad(torch.zeros(1, 1, h, w)).shape
            z_hat = self._z(reader, shape, None)
            x_tilde, u = self._lossy(self._y(reader, z_hat, None))
            symbols = self._residual(reader, Interval(centre, m, tau, self.device), tau, u, (h, w), None)
            r_hat = torch.from_numpy(symbols * (2 * tau + 1)).to(self.device, torch.float32)
            decoded = self._pixels(x_tilde, r_hat, h, w)
        reader.lane.finish()
        if crc32c(decoded.tobytes()) != pixels:
            raise ChecksumError("the samples differ from their checksum", reason="pixels", offset=AT_PIXELS)
        return decoded

    def _pad(self, x: Tensor) -> Tensor:
        """Repeat the edges of x [1, c, h, w] up to multiples of 64 and of the patch."""
        side = math.lcm(LATENT_STRIDE, self.cfg.patch)
        return F.pad(x, (0, -x.shape[3] % side, 0, -x.shape[2] % side), "replicate")

    def _z(self, coder: Coder, padded: torch.Size, z: Tensor | None) -> Tensor:
        """z_hat [1, N, h/64, w/64], written from z or read."""
        n, h, w = self.cfg.channels, padded[2] // 64, padded[3] // 64
        medians = self.model.lic.z_model.medians()
        known = None if z is None else _symbols(z - medians)
        symbols = code_latents(coder, self.z_tables, np.repeat(np.arange(n), h * w), known)
        return torch.from_numpy(symbols.reshape(1, n, h, w)).to(self.device, torch.float32) + medians

    def _y(self, coder: Coder, z_hat: Tensor, y: Tensor | None) -> Tensor:
        """y_hat [1, N, h/16, w/16], written from y or read."""
        mu, sigma = self.model.lic.h_d(z_hat)
        index = self.model.lic.y_model.indexes(sigma).flatten().cpu().numpy()
        known = None if y is None else _symbols(y - mu)
        symbols = code_latents(coder, self.y_tables, index, known)
        y_hat: Tensor = torch.from_numpy(symbols.reshape(mu.shape)).to(self.device, torch.float32) + mu
        return y_hat

    def _lossy(self, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """x_tilde in integers [1, 3, h, w] and u as rows of patches [p, P, P, features]."""
        x_tilde, u = self.model.lic.g_d(y_hat)
        return torch.round(x_tilde).clamp(0, 255), to_patches(u, self.cfg.patch).permute(0, 2, 3, 1).contiguous()

    def _residual(
        self, coder: Coder, interval: Interval, tau: int, u: Tensor, size: tuple[int, int], known: Ints | None
    ) -> Ints:
        """Symbols r^ / (2 tau + 1) [1, 3, h, w], written from ``known`` or read, in the order of the scan."""
        patch, half = self.cfg.patch, self.cfg.kernel // 2
        padded = self._pad(torch.ones(1, 1, *size, device=self.device)).shape[2:]
        inside = torch.zeros(1, 1, *padded, dtype=torch.bool, device=self.device)
        inside[:, :, : size[0], : size[1]] = True
        inside = to_patches(inside, patch)[:, 0]
        out = torch.zeros(1, 3, *padded, dtype=torch.int64)
        if known is not None:
            out[:, :, : size[0], : size[1]] = torch.from_numpy(known)
        symbols = to_patches(out, patch).numpy()
        r_hat = torch.zeros(len(symbols), 3, patch + 2 * half, patch + 2 * half, device=self.device)
        for rows, columns in self.steps:
            which, at = torch.nonzero(inside[:, rows, columns], as_tuple=True)
            if not len(which):
                continue
            i, j = rows[at], columns[at]
            parameters = self._predict(r_hat, u, which, i, j, tau)
            where = which.cpu().numpy(), i.cpu().numpy(), j.cpu().numpy()
            previous = torch.zeros(len(which), 3, device=self.device)
            for channel in range(3):
                key = (where[0], channel, where[1], where[2])
                frequencies = interval.frequencies(parameters, channel, previous)
                coded = interval.code(coder, frequencies, None if known is None else symbols[key])
                symbols[key] = coded
                previous[:, channel] = torch.from_numpy(coded * (2 * tau + 1)).to(previous)
            r_hat[which, :, i + half, j + half] = previous
        return from_patches(torch.from_numpy(symbols), *padded)[:, :, : size[0], : size[1]].numpy()

    def _predict(self, r_hat: Tensor, u: Tensor, which: Tensor, i: Tensor, j: Tensor, tau: int) -> MixtureParameters:
        """Mixtures of the pixels (which, i, j) from decoded residuals r_hat [p, 3, P + k - 1, P + k - 1]."""
        conv = self.model.masked_conv
        context = conv.rows(conv.gather(r_hat, which, i, j) / UNIT, self.tap_weight)
        features = u[which, i, j]
        raw = self.model.sqrc(features, context, tau) if tau else self.model.rc(features, context)
        return MixtureParameters.of(raw, self.cfg.family)

    def _pixels(self, x_tilde: Tensor, r_hat: Tensor, h: int, w: int) -> Image:
        """x^ = clamp(x~ + r^, 0, 255) as [h, w, 3] uint8."""
        x_hat = (x_tilde[0, :, :h, :w] + r_hat[0]).clamp(0, 255)
        return np.ascontiguousarray(x_hat.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))


def _symbols(t: Tensor) -> Ints:
    """Rounded latents in the coder's range, flat."""
    return torch.round(t).clamp(-LATENT_RANGE, LATENT_RANGE).flatten().cpu().numpy().astype(np.int64)
