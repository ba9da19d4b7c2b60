"""Fixed tables of the format (docs/format section 4): the log table, the logistic table, scales."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

PRED_MIN, PRED_MAX = -128, 4208
"""Bounds of a prediction in 1/16 level."""


def log_table() -> npt.NDArray[np.int16]:
    """``round(64 log2(1 + a/16))`` for a = 0..4208, int16 [4209]: magnitude of a residual of a/16 levels."""
    a = np.arange(PRED_MAX + 1, dtype=np.float64)
    return np.asarray(np.rint(64 * np.log2(1 + a / 16)), np.int16)


def cdf_table(family: str = "logistic") -> npt.NDArray[np.uint32]:
    """Distribution function at (i - 384)/32, 16 bits, and in the high half the step to the next entry, uint32 [768].

    The format's weights hold the logistic one; "gaussian" and "laplace" (scale 1 each) are for ablations, whose weights
    carry the other table under the same name.
    """
    t = (np.arange(769, dtype=np.float64) - 384) / 32
    if family == "logistic":
        f = 1 / (1 + np.exp(-t))
    elif family == "gaussian":
        f = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in t])
    elif family == "laplace":
        f = np.where(t < 0, 0.5 * np.exp(np.minimum(t, 0)), 1 - 0.5 * np.exp(-np.maximum(t, 0)))
    else:
        raise ValueError(f'unknown family {family!r}: "logistic", "gaussian" or "laplace"')
    low = np.rint(65535 * f).astype(np.int64)
    low[768] = 65535
    return (low[:768] | (np.diff(low) << 16)).astype(np.uint32)


def scale_tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Inverse scales 16 exp(4 - i/32) as mant / 2^shift with 4096 <= mant < 8192, int32 [321] each."""
    f = 16 * np.exp(4 - np.arange(321) / 32)
    shift = 12 - np.floor(np.log2(f)).astype(np.int64)
    mant = np.minimum(np.rint(f * 2.0**shift).astype(np.int64), 8191)
    return mant.astype(np.int32), shift.astype(np.int32)


def exp_table() -> npt.NDArray[np.uint16]:
    """``round(32768 exp(-i/32))``, uint16 [512]."""
    return np.asarray(np.rint(32768 * np.exp(-np.arange(512) / 32)), np.uint16)


def gauss_sigma(index: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Standard deviation of a scale index 0..63: exp(-3 + 7.5 i / 63)."""
    return np.exp(-3 + 7.5 * np.asarray(index, dtype=np.float64) / 63)


def gauss_tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
    """Cumulative frequencies of rounded Gaussians: range R [64], offset [64], table (2R+3 values each)."""
    ranges, offsets, tables, at = [], [], [], 0
    for sigma in gauss_sigma(np.arange(64)):
        r = int(np.ceil(4.5 * sigma)) + 1
        edges = (np.arange(-r, r + 2) - 0.5) / (sigma * math.sqrt(2))
        cdf = np.array([0.5 * math.erfc(-e) for e in edges])
        n = 2 * r + 2
        p = np.append(np.diff(cdf), max(1 - (cdf[-1] - cdf[0]), 1e-4))
        cum = np.concatenate([[0.0], np.cumsum(p / p.sum())])
        f = np.floor(cum * (65536 - n)).astype(np.int64) + np.arange(n + 1)
        f[-1] = 65536
        ranges.append(r)
        offsets.append(at)
        tables.append(f)
        at += n + 1
    return np.array(ranges, np.int32), np.array(offsets, np.int32), np.concatenate(tables).astype(np.uint32)


def all_tables() -> dict[str, npt.NDArray[np.generic]]:
    """Every fixed table by its name in the weights file."""
    mant, shift = scale_tables()
    g_range, g_offset, g_cdf = gauss_tables()
    return {
        "table.log": log_table(),
        "table.logistic": cdf_table(),
        "table.scale_mant": mant,
        "table.scale_shift": shift,
        "table.exp": exp_table(),
        "gauss.range": g_range,
        "gauss.offset": g_offset,
        "gauss.cdf": g_cdf,
    }
