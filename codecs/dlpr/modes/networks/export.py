"""From trained networks to the weights file: int8 weights, requantisation and the proof that no sum leaves 24 bits.

A layer's output channel o is ``sum(w a)`` over integers. Its weights get the scale ``s`` (int8 weight = s x float
weight), so the sum is s times the float output; ``shift`` and ``mult`` bring it to the output's scale. ``s`` is as
large as int8 and the bound allow: ``sum |w| limit(a) + |bias| < 2^24`` for the largest inputs that can occur, not only
those seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlpr.modes.networks.exact.tables import all_tables

if TYPE_CHECKING:
    from dlpr.modes.networks.model.slide import SlideModel

F64 = npt.NDArray[np.float64]
Tensors = dict[str, npt.NDArray[Any]]
ACT, LATENT, OUT = 64, 16, 256
"""Integer units per 1.0: activations, latents, mixture parameters."""
LIMIT = 2047
BOUND = 1 << 24
G_MIN, G_MAX = -64, 451


@dataclass(frozen=True)
class LayerBound:
    """What the exporter proved of one layer: the largest |acc| that any input can give."""

    name: str
    acc: int


@dataclass
class QuantisedRows:
    """Output channels of one layer: integer weights [out, in] and how their sums come to the output's scale."""

    weight: npt.NDArray[np.int8]
    scale: F64
    shift: npt.NDArray[np.uint8]
    mult: F64


def quantise_rows(weight: F64, limits: F64, extra: F64, out_scale: F64) -> QuantisedRows:
    """Quantise [out, in] weights that act on integers bounded by ``limits`` [in].

    ``extra`` [out] bounds what else is added, in units of the float output; ``out_scale`` [out] is units per 1.0.
    """
    top = np.maximum(np.abs(weight).max(1), 1e-12)
    s = 127 / top
    budget = np.abs(weight) @ limits + extra
    rounding = 0.5 * limits.sum() + 1  # what rounding the weights can add
    s = np.minimum(s, (BOUND - 1 - rounding) / np.maximum(budget, 1e-12))
    s = np.maximum(s, out_scale / 7.0)
    s = np.where(np.abs(weight).max(1) * s > 127, 127 / top, s)
    ratio = out_scale / s
    shift = np.clip(np.floor(np.log2(0.5 / ratio * (1 - 1e-9))), 0, 24)
    q = np.clip(np.rint(weight * s[:, None]), -127, 127).astype(np.int8)
    return QuantisedRows(q, s, shift.astype(np.uint8), 4096 * ratio * 2.0**shift)


def check_bound(name: str, worst: F64, report: list[LayerBound]) -> None:
    """Record a layer's largest sum; refuse to export one that could leave 24 bits."""
    acc = int(worst.max())
    if acc >= BOUND:
        raise OverflowError(f"layer {name}: a sum of {acc} can occur, the format allows less than 2^24")
    report.append(LayerBound(name, acc))


def i16(v: F64) -> npt.NDArray[np.int16]:
    """Round to int16 with saturation."""
    return np.asarray(np.clip(np.rint(v), -32768, 32767), np.int16)


def _np(t: Any) -> F64:
    return np.asarray(t.detach().cpu().numpy(), dtype=np.float64)


def export_conv(
    out: Tensors,
    report: list[LayerBound],
    name: str,
    conv: Any,
    in_scale: int,
    limit: int,
    out_scale: float | F64,
    shift_bias: F64 | float = 0.0,
) -> None:
    """One unconditioned layer (convolution or 1x1)."""
    w, b = _np(conv.weight), _np(conv.bias) + shift_bias
    flat = w.reshape(w.shape[0], -1) / in_scale
    scale = np.broadcast_to(np.asarray(out_scale, np.float64), b.shape)
    limits = np.full(flat.shape[1], float(limit))
    q = quantise_rows(flat, limits, np.abs(b), scale)
    acc_bias = np.rint(b * q.scale)
    check_bound(name, np.abs(q.weight.astype(np.int64)) @ limits + np.abs(acc_bias), report)
    out[f"{name}.weight"] = q.weight.reshape(w.shape if w.ndim == 4 else (*w.shape, 1, 1))
    out[f"{name}.acc_bias"] = acc_bias.astype(np.int32)
    out[f"{name}.shift"] = q.shift
    out[f"{name}.mult"] = i16(q.mult)
    out[f"{name}.bias"] = np.zeros(len(b), np.int16)


def feature_limits() -> F64:
    """Largest |feature| of spec section 8, [148]."""
    near = np.tile(np.r_[np.full(3, LIMIT), np.full(3, max(-G_MIN, G_MAX))], 11)
    return np.asarray(np.r_[np.full(66, 1020), near, LIMIT, np.full(15, 1020)], np.float64)


def export_residual(out: Tensors, report: list[LayerBound], name: str, net: Any) -> None:
    """RC or SQRC."""
    c = net.cfg.hidden
    masked, u, pos = _np(net.masked.weight), _np(net.u_head.weight).reshape(4, c, -1), _np(net.position)
    limits = np.r_[feature_limits(), np.full(u.shape[2], float(LIMIT))]
    worst_u = u[np.abs(u).sum(2).argmax(0), np.arange(c)]
    top = np.maximum(np.abs(masked).max(1), np.abs(u).max((0, 2)))
    # the scale of a row must suit all four parities: quantise a row made of the worst parity with the largest weight
    row = np.concatenate([masked, worst_u], 1) / ACT
    q = quantise_rows(row, limits, np.abs(pos).max((0, 1)) / 1.0, np.full(c, float(ACT)))
    s = np.minimum(q.scale, 127 * ACT / np.maximum(top, 1e-12))
    ratio = ACT / s
    shift = np.clip(np.floor(np.log2(0.5 / ratio * (1 - 1e-9))), 0, 24)
    base_mult = 4096 * ratio * 2.0**shift
    mq = np.clip(np.rint(masked / ACT * s[:, None]), -127, 127).astype(np.int8)
    uq = np.clip(np.rint(u / ACT * s[None, :, None]), -127, 127).astype(np.int8)
    pq = np.rint(pos * s).astype(np.int32)
    worst = (
        np.abs(mq.astype(np.int64)) @ feature_limits()
        + np.abs(uq.astype(np.int64)).sum(2).max(0) * LIMIT
        + np.abs(pq).max((0, 1))
    )
    check_bound(f"{name}.first", worst, report)
    out[f"{name}.masked.weight"], out[f"{name}.u_head.weight"] = mq, uq.reshape(4 * c, -1)
    out[f"{name}.position"], out[f"{name}.first.shift"] = pq, shift.astype(np.uint8)
    mults = [base_mult]
    for i, layer in enumerate([*net.hidden, net.out]):
        is_out = layer is net.out
        label = f"{name}.out" if is_out else f"{name}.hidden.{i}"
        w, b = _np(layer.weight) / ACT, _np(layer.bias)
        lim = np.full(w.shape[1], float(LIMIT))
        q = quantise_rows(w, lim, np.abs(b), np.full(len(b), float(OUT if is_out else ACT)))
        acc_bias = np.rint(b * q.scale)
        check_bound(label, np.abs(q.weight.astype(np.int64)) @ lim + np.abs(acc_bias), report)
        out[f"{label}.weight"], out[f"{label}.acc_bias"], out[f"{label}.shift"] = (
            q.weight,
            acc_bias.astype(np.int32),
            q.shift,
        )
        mults.append(q.mult)
    scale, add, add_out = 1 + _np(net.bank_scale), _np(net.bank_shift), _np(net.bank_out)
    out[f"{name}.bank_mult"] = i16(scale * np.stack(mults[:-1])[None])
    out[f"{name}.bank_bias"] = i16(ACT * add)
    out[f"{name}.bank_out_mult"] = i16(np.broadcast_to(mults[-1], add_out.shape))
    out[f"{name}.bank_out_bias"] = i16(OUT * add_out)
    if net.tau_classes:
        out[f"{name}.tau_mult"], out[f"{name}.tau_bias"] = i16(4096 * _np(net.tau_scale)), i16(ACT * _np(net.tau_shift))
        out[f"{name}.tau_out_mult"] = i16(4096 * _np(net.tau_out_scale))
        out[f"{name}.tau_out_bias"] = i16(OUT * _np(net.tau_out_shift))


def sigma_index(log_sigma: F64) -> F64:
    """Scale index (spec section 4) of a log standard deviation, not rounded."""
    return (log_sigma + 3) * 63 / 7.5


def export_lic(out: Tensors, report: list[LayerBound], lic: Any) -> None:
    """Lossy codec: decoder side under the promise, encoder side exported the same way."""
    n = lic.h_d.c2.weight.shape[0] // 2
    g, h = lic.g_e, lic.h_e
    export_conv(out, report, "lic.g_e.c0", g.c0, ACT, 128, ACT)
    for i in (1, 2, 3):
        export_conv(out, report, f"lic.g_e.c{i}", getattr(g, f"c{i}"), ACT, LIMIT, ACT)
    export_conv(out, report, "lic.g_e.c4", g.c4, ACT, LIMIT, LATENT)
    export_conv(out, report, "lic.h_e.c0", h.c0, LATENT, LIMIT, ACT)
    export_conv(out, report, "lic.h_e.c1", h.c1, ACT, LIMIT, ACT)
    export_conv(out, report, "lic.h_e.c2", h.c2, ACT, LIMIT, LATENT)
    d = lic.h_d
    export_conv(out, report, "lic.h_d.c0", d.c0, LATENT, LIMIT, ACT)
    export_conv(out, report, "lic.h_d.c1", d.c1, ACT, LIMIT, ACT)
    rows = np.r_[np.full(n, float(LATENT)), np.full(n, 63 / 7.5)]
    export_conv(out, report, "lic.h_d.c2", d.c2, ACT, LIMIT, rows, np.r_[np.zeros(n), np.full(n, 3.0)])
    export_conv(out, report, "lic.g_d.c0", lic.g_d.c0, LATENT, LIMIT, ACT)
    for i in range(3):
        export_conv(out, report, f"lic.g_d.up{i}", getattr(lic.g_d, f"up{i}"), ACT, LIMIT, ACT)
        export_conv(out, report, f"lic.g_d.c{i + 1}", getattr(lic.g_d, f"c{i + 1}"), ACT, LIMIT, ACT)
    export_conv(out, report, "lic.x_head", lic.x_head, ACT, LIMIT, 64)
    out["lic.z_mean"] = np.clip(np.rint(LATENT * _np(lic.z_mean)), -LIMIT, LIMIT).astype(np.int16)
    out["lic.z_scale"] = np.clip(np.rint(sigma_index(_np(lic.z_log_sigma))), 0, 63).astype(np.uint8)


def linear_prior(coefficients: npt.NDArray[np.int16], counts: npt.NDArray[np.int32]) -> Tensors:
    """Prior of the linear stage's coefficients: [groups, 3, 68] at 8 fractional bits, of which c + count are real."""
    mean, scale = np.zeros((3, 68), np.int16), np.zeros((3, 68), np.uint8)
    for c in range(3):
        for i in range(68):
            v = coefficients[counts[:, c] + c > i, c, i].astype(np.float64)
            centre = float(np.median(v)) if len(v) else 0.0
            spread = 1.4826 * float(np.median(np.abs(v - centre))) if len(v) else 1.0
            mean[c, i] = round(centre * 16)
            scale[c, i] = int(np.clip(np.rint(sigma_index(np.log(np.array(max(spread, 0.3))))), 0, 63))
    return {"linear.mean": mean, "linear.scale": scale}


def export_model(model: SlideModel, prior: Tensors) -> tuple[dict[str, Any], Tensors, list[LayerBound]]:
    """All tensors of the weights file, its profile, and the bounds that were proved."""
    out: Tensors = {**all_tables(), **prior}
    report: list[LayerBound] = []
    export_lic(out, report, model.lic)
    export_residual(out, report, "rc", model.rc)
    export_residual(out, report, "sqrc", model.sqrc)
    cfg = model.rc.cfg
    profile = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(cfg).items()}
    return profile, {k: np.ascontiguousarray(v) for k, v in out.items()}, report
