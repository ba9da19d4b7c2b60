"""The residual of one image to a rANS lane and back, by RC (tau = 0) or SQRC.

`_walk` computes every probability for both directions: the encoder walks the scan as the decoder does, with operations
of the same shapes, so their floats agree bit for bit. A step takes, of all patches at once: taps of r^ -> C_r -> RC or
SQRC -> mixture, then channel by channel CDF -> symbol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dlpr.crc import crc32c
from dlpr.paper.coder import Coder, Interval, Ints, Reader, Writer, adaptive_interval
from dlpr.paper.context import MaskedConv, scan_steps
from dlpr.paper.entropy_net import ResidualCompressor, ScalableResidualCompressor
from dlpr.paper.mixture import UNIT, MixtureParameters, quantise
from dlpr.paper.patches import from_patches, to_patches
from dlpr.paper.profile import PaperProfile


class ResidualNetworks(Protocol):
    """What codes residuals: `dlpr.paper.model.Dlpr` as far as it goes."""

    cfg: PaperProfile
    masked_conv: MaskedConv
    rc: ResidualCompressor
    sqrc: ScalableResidualCompressor


@dataclass(frozen=True)
class CodedResidual:
    """A lane and what its decoder must be told."""

    lane: bytes
    centre: int
    m: int
    """Adaptive interval: residuals within m levels of the centre."""
    checksum: int
    """CRC32C of the decoded samples [h, w, 3]."""
    bits: float
    """Of the symbols under the model."""
    escapes: int
    """Samples beyond the interval."""


def encode_residual(
    model: ResidualNetworks, x: Tensor, x_tilde: Tensor, u: Tensor, tau: int, spread: float
) -> CodedResidual:
    """Code x [1, 3, h, w] given x_tilde [1, 3, h, w], both whole levels, and u [p, P, P, features]."""
    r = x - x_tilde
    centre, m = adaptive_interval(r.cpu().numpy().astype(np.int64), spread)
    interval, r_hat = Interval(centre, m, tau, x.device), quantise(r, tau)
    known = torch.round(r_hat / (2 * tau + 1)).cpu().numpy().astype(np.int64)
    writer = Writer()
    _walk(model, writer, interval, tau, u, known.shape[2:], known)
    bits = writer.bits()
    _, checksum = _pixels(x_tilde, r_hat)
    escapes = int(((known < interval.low) | (known > interval.high)).sum())
    return CodedResidual(writer.lane.finish(), centre, m, checksum, bits, escapes)


def decode_residual(
    model: ResidualNetworks, lane: bytes, x_tilde: Tensor, u: Tensor, told: tuple[int, int, int]
) -> tuple[Tensor, int]:
    """Samples [1, 3, h, w] in levels and their CRC32C; ``told`` is tau, centre and m."""
    tau, centre, m = told
    reader = Reader(lane)
    symbols = _walk(model, reader, Interval(centre, m, tau, x_tilde.device), tau, u, tuple(x_tilde.shape[2:]), None)
    reader.lane.finish()
    r_hat = torch.from_numpy(symbols * (2 * tau + 1)).to(x_tilde.device, torch.float32)
    return _pixels(x_tilde, r_hat)


def _pixels(x_tilde: Tensor, r_hat: Tensor) -> tuple[Tensor, int]:
    """x^ = clamp(x~ + r^, 0, 255) and the CRC32C of its samples [h, w, 3]."""
    x_hat = (x_tilde + r_hat).clamp(0, 255)
    samples = x_hat[0].permute(1, 2, 0).to(torch.uint8).cpu().contiguous().numpy()
    return x_hat, crc32c(samples.tobytes())


def _walk(
    model: ResidualNetworks,
    coder: Coder,
    interval: Interval,
    tau: int,
    u: Tensor,
    size: tuple[int, ...],
    known: Ints | None,
) -> Ints:
    """Symbols r^ / (2 tau + 1) [1, 3, h, w], written from ``known`` or read, in the order of the scan."""
    cfg, device = model.cfg, u.device
    patch, half = cfg.patch, cfg.kernel // 2
    out = torch.zeros(1, 3, *size, dtype=torch.int64) if known is None else torch.from_numpy(known)
    symbols = to_patches(out, patch).numpy().copy()
    r_hat = torch.zeros(len(symbols), 3, patch + 2 * half, patch + 2 * half, device=device)
    conv, weight = model.masked_conv, model.masked_conv.tap_weight()
    patches = torch.arange(len(symbols), device=device)
    for step_rows, step_columns in scan_steps(cfg.context, patch):
        rows, columns = (torch.as_tensor(a, device=device) for a in (step_rows, step_columns))
        which = patches.repeat_interleave(len(rows))
        i, j = rows.repeat(len(patches)), columns.repeat(len(patches))
        context = conv.rows(conv.gather(r_hat, which, i, j) / UNIT, weight)
        features = u[which, i, j]
        raw = model.sqrc(features, context, tau) if tau else model.rc(features, context)
        parameters = MixtureParameters.of(raw, cfg.family)
        where = which.cpu().numpy(), i.cpu().numpy(), j.cpu().numpy()
        previous = torch.zeros(len(which), 3, device=device)
        for channel in range(3):
            key = (where[0], channel, where[1], where[2])
            frequencies = interval.frequencies(parameters, channel, previous)
            coded = interval.code(coder, frequencies, None if known is None else symbols[key])
            symbols[key] = coded
            previous[:, channel] = torch.from_numpy(coded * (2 * tau + 1)).to(previous)
        r_hat[which, :, i + half, j + half] = previous
    found: Ints = from_patches(torch.from_numpy(symbols), *size).numpy()
    return found
