"""What a weights file must hold (docs/format section 4), and the proof that no sum leaves 24 bits (section 13)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dlpr.arrays import AnyInts
from dlpr.config import SlideProfile
from dlpr.errors import WeightsError

__all__ = ["BOUND", "accumulator_bounds", "accumulator_rows", "check", "expected"]

BOUND = 1 << 24
"""Every sum of a layer is below it, so that fp32 holds it exactly in any order of addition."""
LIMIT = 2047
MAX_SHIFT = 24
I64 = npt.NDArray[np.int64]
Shape = tuple[int | None, ...]


def expected(p: SlideProfile) -> dict[str, tuple[str, Shape]]:
    """Type and shape of every tensor that decoding needs; None stands for any length."""
    c, n, nz, outputs = p.hidden, p.latent, p.hyper, p.outputs
    w16, w8, w4, w2 = p.widths
    tensors: dict[str, tuple[str, Shape]] = {
        "table.log": ("int16", (4209,)),
        "table.logistic": ("uint32", (768,)),
        "table.scale_mant": ("int32", (321,)),
        "table.scale_shift": ("int32", (321,)),
        "table.exp": ("uint16", (512,)),
        "gauss.range": ("int32", (64,)),
        "gauss.offset": ("int32", (64,)),
        "gauss.cdf": ("uint32", (None,)),
        "lic.z_mean": ("int16", (nz,)),
        "lic.z_scale": ("uint8", (nz,)),
        "linear.mean": ("int16", (3, 68)),
        "linear.scale": ("uint8", (3, 68)),
    }
    convolutions = {
        "h_d.c0": (4 * n, nz, 1), "h_d.c1": (4 * n, n, 1), "h_d.c2": (2 * n, n, 1),
        "g_d.c0": (w16, n, 3), "g_d.up0": (4 * w8, w16, 1), "g_d.c1": (w8, w8, 3), "g_d.up1": (4 * w4, w8, 1),
        "g_d.c2": (w4, w4, 3), "g_d.up2": (4 * w2, w4, 1), "g_d.c3": (w2, w2, 3), "x_head": (12, w2, 1),
    }  # fmt: skip
    for name, (out, inputs, k) in convolutions.items():
        tensors |= _layer(f"lic.{name}", out, (out, inputs, k, k))
        tensors |= {f"lic.{name}.mult": ("int16", (out,)), f"lic.{name}.bias": ("int16", (out,))}
    for net in ("rc", "sqrc"):
        tensors |= {
            f"{net}.masked.weight": ("int8", (c, 148)),
            f"{net}.u_head.weight": ("int8", (4 * c, w2)),
            f"{net}.position": ("int32", (8, 8, c)),
            f"{net}.first.shift": ("uint8", (c,)),
        }
        for i in range(p.blocks + 1):
            tensors |= _layer(f"{net}.hidden.{i}", c, (c, c))
        tensors |= _layer(f"{net}.out", outputs, (outputs, c))
        for kind, entries in (("bank", p.bank), ("tau", p.tau_classes)):
            if kind == "tau" and net == "rc":
                continue
            for part in ("mult", "bias"):
                tensors[f"{net}.{kind}_{part}"] = ("int16", (entries, p.blocks + 2, c))
                tensors[f"{net}.{kind}_out_{part}"] = ("int16", (entries, outputs))
    return tensors


def _layer(name: str, out: int, weight: Shape) -> dict[str, tuple[str, Shape]]:
    """List the tensors that every layer has."""
    return {
        f"{name}.weight": ("int8", weight),
        f"{name}.acc_bias": ("int32", (out,)),
        f"{name}.shift": ("uint8", (out,)),
    }


def check(profile: SlideProfile, tensors: Mapping[str, AnyInts]) -> None:
    """Refuse tensors that a decoder could not rely on.

    Raises
    ------
    WeightsError
        It names the tensor and what is wrong with it.
    """
    for name, (dtype, shape) in expected(profile).items():
        array = tensors.get(name)
        if array is None:
            raise WeightsError(f"{name} is missing; export the weights again")
        fits = len(shape) == array.ndim and all(want in (None, n) for want, n in zip(shape, array.shape, strict=True))
        if array.dtype != np.dtype(dtype) or not fits:
            have = f"{array.dtype} {list(array.shape)}"
            raise WeightsError(f"{name} is {have}, not {dtype} {list(shape)}; export the weights again")
    for name, array in tensors.items():
        if name.endswith(".shift") and array.size and int(array.max()) > MAX_SHIFT:
            raise WeightsError(f"{name}: a shift above {MAX_SHIFT}; export the weights again")
    _check_tables(tensors)
    _check_gauss(tensors)
    for name, bound in accumulator_bounds(profile, tensors).items():
        if bound >= BOUND:
            raise WeightsError(f"{name}: a sum of {bound} can occur, the limit is 2^24; export with smaller weights")


def _check_tables(tensors: Mapping[str, AnyInts]) -> None:
    """Tables whose shape the mixture's exactness rests on."""
    log, exp = tensors["table.log"].astype(np.int64), tensors["table.exp"].astype(np.int64)
    logistic = tensors["table.logistic"].astype(np.int64)
    low, high = logistic & 0xFFFF, logistic >> 16
    mant, shift = tensors["table.scale_mant"], tensors["table.scale_shift"]
    rules = {
        "table.log": log[0] == 0 and bool((np.diff(log) >= 0).all()) and int(log[-1]) <= LIMIT,
        "table.exp": exp[0] == 32768 and bool((np.diff(exp) <= 0).all()),
        "table.logistic": bool((high == np.diff(np.append(low, 65535))).all()),  # high >= 0 makes it monotone
        "table.scale_mant": bool(((mant >= 4096) & (mant < 8192)).all()),
        "table.scale_shift": bool(((shift >= 0) & (shift <= MAX_SHIFT)).all()),
        "lic.z_scale": int(tensors["lic.z_scale"].max()) < 64,
    }
    for name, holds in rules.items():
        if not holds:
            raise WeightsError(f"{name} is not the table the format describes; export the weights again")


def _check_gauss(tensors: Mapping[str, AnyInts]) -> None:
    """Cumulative tables of the latents: inside ``gauss.cdf``, from 0 to 65536, strictly increasing."""
    cdf = tensors["gauss.cdf"].astype(np.int64)
    ranges, offsets = tensors["gauss.range"].tolist(), tensors["gauss.offset"].tolist()
    for i, (r, offset) in enumerate(zip(ranges, offsets, strict=True)):
        inside = 0 <= r <= 32767 and 0 <= offset <= len(cdf) - (2 * r + 3)
        f = cdf[offset : offset + 2 * r + 3] if inside else cdf[:0]
        if not inside or f[0] != 0 or f[-1] != 65536 or (np.diff(f) <= 0).any():
            raise WeightsError(f"gauss: table {i} is no cumulative distribution; export the weights again")


# ---- bounds ---------------------------------------------------------------------------------------------


def feature_bounds(log: AnyInts) -> tuple[I64, I64]:
    """Smallest and largest value of the 148 features of section 8 that come before the trunk."""
    g_low, g_high = int(log[0]) - 64, int(log[-1]) - 64
    taps = np.full(66, 1020)
    low = np.concatenate([-taps, np.tile([-LIMIT] * 3 + [g_low] * 3, 11), [-LIMIT], np.full(15, -1020)])
    high = np.concatenate([taps, np.tile([LIMIT] * 3 + [g_high] * 3, 11), [LIMIT], np.full(15, 1020)])
    return low.astype(np.int64), high.astype(np.int64)


def _largest(weight: AnyInts, low: I64, high: I64, added: I64) -> I64:
    """Find the largest |partial sum| of each row of `weight` [out, in] plus `added` [..., out]."""
    w = weight.astype(np.int64)
    up = np.maximum(np.maximum(w * low, w * high), 0).sum(1) + np.maximum(added, 0)
    down = np.minimum(np.minimum(w * low, w * high), 0).sum(1) + np.minimum(added, 0)
    worst: I64 = np.maximum(up, -down)
    return np.asarray(worst.reshape(-1, worst.shape[-1]).max(0), np.int64)


def accumulator_bounds(profile: SlideProfile, tensors: Mapping[str, AnyInts]) -> dict[str, int]:
    """Find the largest |sum|, partial ones too, that any input can cause in each layer the decoder evaluates."""
    return {name: int(rows.max()) for name, rows in accumulator_rows(profile, tensors).items()}


def accumulator_rows(profile: SlideProfile, tensors: Mapping[str, AnyInts]) -> dict[str, I64]:
    """Find the same of each output channel of each layer."""
    bounds: dict[str, I64] = {}
    whole = {"lic.h_d.c0", "lic.g_d.c0", "lic.g_d.up1", "lic.g_d.up2", "lic.x_head"}
    whole |= {f"{net}.hidden.{profile.blocks}" for net in ("rc", "sqrc")}
    for name in expected(profile):
        layer = name.removesuffix(".weight")
        if not name.endswith(".weight") or layer.endswith((".masked", ".u_head")):
            continue
        weight = tensors[name].reshape(tensors[name].shape[0], -1)
        floor = -LIMIT if layer in whole else -(LIMIT + 1 >> 3)  # leaky leaves negative values an eighth
        low, high = np.full(weight.shape[1], floor, np.int64), np.full(weight.shape[1], LIMIT, np.int64)
        bounds[layer] = _largest(weight, low, high, tensors[f"{layer}.acc_bias"].astype(np.int64))
    low, high = feature_bounds(tensors["table.log"])
    for net in ("rc", "sqrc"):
        masked, position = tensors[f"{net}.masked.weight"], tensors[f"{net}.position"].astype(np.int64)
        low_all = np.append(low, np.full(profile.widths[3], -LIMIT))
        high_all = np.append(high, np.full(profile.widths[3], LIMIT))
        heads = tensors[f"{net}.u_head.weight"].reshape(4, profile.hidden, -1)
        worst = [_largest(np.concatenate([masked, u], 1), low_all, high_all, position.reshape(64, -1)) for u in heads]
        bounds[f"{net}.first"] = np.max(worst, axis=0)
    return bounds
