"""Float networks from a weights file: a start for training where the checkpoint it was exported from is not at hand.

The inverse of `dlpr.modes.networks.export`, up to rounding: the networks compute what the integers do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlpr.config import SlideProfile
from dlpr.errors import WeightsError
from dlpr.modes.networks.export import ACT, LATENT, OUT
from dlpr.modes.networks.model.slide import SlideModel
from dlpr.modes.networks.weights import Weights

__all__ = ["rebuild"]

F64 = npt.NDArray[np.float64]


def rebuild(weights: Weights, cfg: SlideProfile) -> SlideModel:
    """Float networks of a weights file.

    Parameters
    ----------
    weights : Weights
        An open weights file.
    cfg : SlideProfile
        Sizes of the networks to be trained: those of the file, but for a bank that may be larger. Entries that the file
        lacks begin as its neutral one, a little apart.

    Raises
    ------
    WeightsError
        The file's networks have other sizes.
    """
    if replace(weights.sizes, bank=cfg.bank) != cfg or weights.sizes.bank > cfg.bank:
        raise WeightsError(f"{weights.source}: its networks have other sizes than those to be trained")
    model = SlideModel(cfg)
    with torch.no_grad():
        _lic(model.lic, weights)
        for name, net in (("rc", model.rc), ("sqrc", model.sqrc)):
            _residual(net, name, weights)
    return model


def _set(parameter: torch.Tensor, value: F64 | npt.NDArray[Any]) -> None:
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)).view(parameter.shape))


def _scale(shift: npt.NDArray[Any], mult: npt.NDArray[Any], out: F64 | float) -> F64:
    """Integer units of a layer's sum per 1.0 of its output, [channels]."""
    return np.asarray(out * 4096.0 * 2.0 ** shift.astype(np.float64) / np.maximum(mult.astype(np.float64), 1))


def _conv(conv: nn.Module, w: Weights, name: str, in_scale: int, out: F64 | float, less: F64 | float = 0.0) -> None:
    s = _scale(w[f"{name}.shift"], w[f"{name}.mult"], out)
    weight = w[f"{name}.weight"].astype(np.float64) * in_scale
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    _set(conv.weight, weight / s.reshape(-1, 1, 1, 1))
    _set(conv.bias, w[f"{name}.acc_bias"] / s - less)


def _lic(lic: Any, w: Weights) -> None:
    n = lic.h_d.c2.weight.shape[0] // 2
    for i in range(5):
        _conv(getattr(lic.g_e, f"c{i}"), w, f"lic.g_e.c{i}", ACT, LATENT if i == 4 else ACT)
    _conv(lic.h_e.c0, w, "lic.h_e.c0", LATENT, ACT)
    _conv(lic.h_e.c1, w, "lic.h_e.c1", ACT, ACT)
    _conv(lic.h_e.c2, w, "lic.h_e.c2", ACT, LATENT)
    _conv(lic.h_d.c0, w, "lic.h_d.c0", LATENT, ACT)
    _conv(lic.h_d.c1, w, "lic.h_d.c1", ACT, ACT)
    rows = np.r_[np.full(n, float(LATENT)), np.full(n, 63 / 7.5)]
    _conv(lic.h_d.c2, w, "lic.h_d.c2", ACT, rows, np.r_[np.zeros(n), np.full(n, 3.0)])
    _conv(lic.g_d.c0, w, "lic.g_d.c0", LATENT, ACT)
    for i in range(3):
        _conv(getattr(lic.g_d, f"up{i}"), w, f"lic.g_d.up{i}", ACT, ACT)
        _conv(getattr(lic.g_d, f"c{i + 1}"), w, f"lic.g_d.c{i + 1}", ACT, ACT)
    _conv(lic.x_head, w, "lic.x_head", ACT, 64)
    _set(lic.z_mean, w["lic.z_mean"] / LATENT)
    _set(lic.z_log_sigma, w["lic.z_scale"] * 7.5 / 63 - 3)


def _residual(net: Any, name: str, w: Weights) -> None:
    bank = w[f"{name}.bank_mult"].astype(np.float64)  # [entries, layers, C]
    entries, c = bank.shape[0], net.cfg.hidden
    neutral = np.where(bank[0] == 0, 1, bank[0])
    s = _scale(w[f"{name}.first.shift"], neutral[0], ACT)
    _set(net.masked.weight, w[f"{name}.masked.weight"].astype(np.float64) * ACT / s[:, None])
    _set(net.u_head.weight, w[f"{name}.u_head.weight"].astype(np.float64).reshape(4, c, -1) * ACT / s[None, :, None])
    _set(net.position, w[f"{name}.position"] / s)
    for i, layer in enumerate([*net.hidden, net.out]):
        out = layer is net.out
        label = f"{name}.out" if out else f"{name}.hidden.{i}"
        mult = w[f"{name}.bank_out_mult"][0] if out else neutral[i + 1]
        s = _scale(w[f"{label}.shift"], mult, OUT if out else ACT)
        _set(layer.weight, w[f"{label}.weight"].astype(np.float64) * ACT / s[:, None])
        _set(layer.bias, w[f"{label}.acc_bias"] / s)
    for parameter, value in (
        (net.bank_scale, bank / neutral - 1),
        (net.bank_shift, w[f"{name}.bank_bias"] / ACT),
        (net.bank_out, w[f"{name}.bank_out_bias"] / OUT),
    ):
        start = np.repeat(value[:1], net.cfg.bank, 0)
        start[:entries] = value
        _set(parameter, start)
    net.bank_shift[entries:] += 0.01 * torch.randn_like(net.bank_shift[entries:])
    if net.tau_classes:
        _set(net.tau_scale, w[f"{name}.tau_mult"] / 4096)
        _set(net.tau_shift, w[f"{name}.tau_bias"] / ACT)
        _set(net.tau_out_scale, w[f"{name}.tau_out_mult"] / 4096)
        _set(net.tau_out_shift, w[f"{name}.tau_out_bias"] / OUT)
