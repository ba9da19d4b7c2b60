"""The layer table: shapes, parameters and multiply-adds of every layer, counted by a pass without any data.

The model and its input live on torch's meta device, so nothing is allocated or computed. Multiply-adds are those of
convolutions, linear layers, GDN and attention; the masked convolution counts its taps only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from compressai.layers import GDN
from torch import Tensor, nn

from dlpr.paper.context import MaskedConv
from dlpr.paper.entropy_net import ConditionalConv
from dlpr.paper.model import Dlpr
from dlpr.paper.patches import to_patches
from dlpr.paper.profile import PaperProfile
from dlpr.paper.swin import WindowAttention

SIDE = 128
DECODED = ("h_d", "g_d trunk", "g_d x~ head", "g_d u head", "masked conv", "RC")
CODED = ("g_e", "h_e", *DECODED)


@dataclass
class Layer:
    """One layer: what it is, parameters of its own, multiply-adds per pixel of the image."""

    part: str
    name: str
    kind: str
    parameters: int
    macs: float


def _rate(t: Tensor) -> float:
    """Pixels of a layer's output per pixel of the image: images are [b, c, h, w], the per-pixel nets' [n, P, P, c]."""
    return t.shape[2] * t.shape[3] / SIDE**2


def _describe(module: nn.Module, out: Tensor) -> tuple[str, float]:
    """Kind and multiply-adds per pixel of a layer."""
    kind, macs = type(module).__name__, 0.0
    match module:
        case MaskedConv():
            conv, taps = module.conv, len(module.taps)
            kind = f"masked conv {taps} taps {conv.in_channels}->{conv.out_channels}"
            macs = taps * conv.in_channels * conv.out_channels
        case nn.Conv2d():
            i, o, k, stride = module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0]
            kind = f"conv {k}x{k} {i}->{o}" + (f" /{stride}" if stride > 1 else "")
            macs = i * o * k * k * _rate(out)
        case ConditionalConv():
            i, o = module.linear.in_features, module.linear.out_features
            kind, macs = f"conditional conv 1x1 {i}->{o}", i * o
        case GDN():
            c = out.shape[1]
            kind, macs = f"{'IGDN' if module.inverse else 'GDN'} {c}", c * c * _rate(out)
        case WindowAttention():
            c, s = out.shape[1], module.window**2
            kind = f"{'SW' if module.shift else 'W'}-MSA window {module.window}, {module.heads} heads"
            macs = (4 * c * c + 2 * s * c) * _rate(out)
        case nn.Linear():
            i, o = module.in_features, module.out_features
            kind, macs = f"conv 1x1 {i}->{o}", i * o
    return kind, macs


def _leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Layers that the table shows, by name."""
    if isinstance(module, (MaskedConv, nn.Conv2d, ConditionalConv, GDN, WindowAttention, nn.Linear)):
        yield name, module
    else:
        for child, part in module.named_children():
            yield from _leaves(part, f"{name}.{child}" if name else child)


def layers(cfg: PaperProfile | None = None) -> list[Layer]:
    """All layers with arithmetic in the order of the paper's parts."""
    model = Dlpr(cfg).to("meta")
    x = torch.zeros(1, 3, SIDE, SIDE, device="meta")
    found: dict[int, tuple[str, float]] = {}

    def record(key: int, module: nn.Module, _inputs: Any, out: Tensor) -> None:
        found[key] = _describe(module, out)

    rows = [(part, name, module) for part, top in model.parts() for name, module in _leaves(top)]
    for _, _, module in rows:
        module.register_forward_hook(partial(record, id(module)))
    y = model.lic.g_e(x)
    model.lic.h_d(model.lic.h_e(y))
    _, u = model.lic.g_d(y)
    u, r = (to_patches(t, model.cfg.patch) for t in (u, x))
    u, context = u.permute(0, 2, 3, 1), model.context(r)
    model.rc(u, context)
    model.sqrc(u, context, 1)
    return [
        Layer(part, name, found[id(m)][0], sum(p.numel() for p in m.parameters()), found[id(m)][1])
        for part, name, m in rows
    ]


def macs(rows: list[Layer], parts: tuple[str, ...]) -> float:
    """Multiply-adds per pixel of some parts (`DECODED`, `CODED`)."""
    return sum(row.macs for row in rows if row.part in parts)


def layer_table(cfg: PaperProfile | None = None, every: bool = False) -> str:
    """The table as text: parts, or ``every`` layer of them, then the totals."""
    rows = layers(cfg)
    sizes = dict(Dlpr(cfg).parameter_table())
    lines = [f"{'part':<24}{'layer':<22}{'kind':<36}{'parameters':>12}{'kMAC/px':>10}"]
    for part, size in sizes.items():
        mine = [row for row in rows if row.part == part]
        if every:
            lines += [f"{part:<24}{r.name:<22}{r.kind:<36}{r.parameters:>12,}{r.macs / 1e3:>10.1f}" for r in mine]
        cost = f"{sum(row.macs for row in mine) / 1e3:>10.1f}" if mine else ""
        lines.append(f"{part:<24}{'':<22}{f'{len(mine)} layers' if mine else '':<36}{size:>12,}{cost}")
    total, sqrc = sizes["total"], sizes["SQRC"]
    lines.append(f"parameters {(total - sqrc) / 1e6:.2f} M without SQRC, {total / 1e6:.2f} M with it")
    lines.append(f"decode {macs(rows, DECODED) / 1e3:,.0f} kMAC/px, encode {macs(rows, CODED) / 1e3:,.0f} kMAC/px")
    return "\n".join(lines)
