"""Adaptation to a slide: RC, or SQRC where tau >= 1, tuned on some chunks of it (docs/decisions/0020).

Training goes on from the integers of a weights file, whose scales stay as they are, so that what changes is a few steps
of int8 weights, which pack small. The lossy layer is not touched::

    weights file --floats--> AdaptedNet --training on the slide's own chunks--> integers --> another weights file
"""

from __future__ import annotations

import lzma
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dlpr import _native
from dlpr.arrays import AnyInts, Bytes8
from dlpr.frame import Stream
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.exact.lossy import decode_lossy_part
from dlpr.modes.networks.model.residual import ResidualCompressor
from dlpr.modes.networks.payload import payload_of
from dlpr.quantise import quantise
from dlpr.training.batches import LOG_TABLE, OPEN
from dlpr.training.likelihood import network_bits
from dlpr.training.loop import lossy_features

ACT, OUT = 64, 256
F32 = npt.NDArray[np.float32]
PARTS = ("entry", "bank", "all")
"""What may move: one entry of the bank, all entries, everything."""


def _through(weight: Tensor, step: Tensor) -> Tensor:
    """Weights in whole steps, -127..127; the gradient goes straight through."""
    return weight + (torch.round(weight / step).clamp(-127, 127) * step - weight).detach()


class AdaptedNet(ResidualCompressor):
    """RC or SQRC from a weights file's integers, and back to integers of the same scales."""

    def __init__(self, weights: store.Weights, name: str) -> None:
        sizes = weights.sizes
        super().__init__(sizes, sizes.tau_classes if name == "sqrc" else 0)
        self.name = name
        t = {k.removeprefix(f"{name}."): np.asarray(v, np.float64) for k, v in weights.tensors.items()}
        shifts = [t["first.shift"], *(t[f"hidden.{i}.shift"] for i in range(sizes.blocks + 1)), t["out.shift"]]
        mults = [*t["bank_mult"][0], t["bank_out_mult"][0]]
        ratio = [torch.from_numpy(m / 4096 / 2.0**s).float() for m, s in zip(mults, shifts, strict=True)]
        self.steps = [ratio[0], *ratio[1:-1], ratio[-1] * ACT / OUT]
        """What one step of an int8 weight is worth, by layer and row."""
        self.mults = [np.asarray(m) for m in mults]

        def put(parameter: Tensor, value: Any) -> None:
            parameter.copy_(torch.as_tensor(np.asarray(value), dtype=torch.float32))

        with torch.no_grad():
            put(self.masked.weight, t["masked.weight"] * self.steps[0][:, None].numpy())
            put(self.u_head.weight, t["u_head.weight"] * self.steps[0].repeat(4)[:, None].numpy())
            put(self.position, t["position"] * self.steps[0].numpy() / ACT)
            for i, layer in enumerate([*self.hidden, self.out]):
                label = "out" if layer is self.out else f"hidden.{i}"
                step = self.steps[i + 1].numpy()
                put(layer.weight, t[f"{label}.weight"] * step[:, None])
                put(layer.bias, t[f"{label}.acc_bias"] * step / ACT)
            put(self.bank_scale, t["bank_mult"] / t["bank_mult"][:1] - 1)
            put(self.bank_shift, t["bank_bias"] / ACT)
            put(self.bank_out, t["bank_out_bias"] / OUT)
            if self.tau_classes:
                put(self.tau_scale, t["tau_mult"] / 4096)
                put(self.tau_shift, t["tau_bias"] / ACT)
                put(self.tau_out_scale, t["tau_out_mult"] / 4096)
                put(self.tau_out_shift, t["tau_out_bias"] / OUT)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights in whole steps."""
        first, *hidden, out = self.steps
        masked = _through(self.masked.weight, first[:, None])
        u = _through(self.u_head.weight.view(4, self.cfg.hidden, -1), first[:, None])
        layers = [m for m in self.hidden if isinstance(m, nn.Linear)]
        stack = torch.stack([_through(m.weight, s[:, None]) for m, s in zip(layers, hidden, strict=True)])
        return masked, u, stack, _through(self.out.weight, out[:, None])

    @torch.no_grad()
    def integers(self, parts: str) -> dict[str, AnyInts]:
        """Tensors of the weights file that may have changed."""

        def whole(value: Tensor, kind: str, low: int, high: int) -> AnyInts:
            return np.clip(np.rint(value.double().numpy()), low, high).astype(kind)

        def i16(value: Tensor) -> AnyInts:
            return whole(value, "int16", -32768, 32767)

        out: dict[str, AnyInts] = {}
        mults = torch.from_numpy(np.stack(self.mults[:-1])).float()
        out["bank_mult"] = i16((1 + self.bank_scale) * mults)
        out["bank_bias"], out["bank_out_bias"] = i16(ACT * self.bank_shift), i16(OUT * self.bank_out)
        if parts == "all":
            first = self.steps[0]
            out["masked.weight"] = whole(self.masked.weight / first[:, None], "int8", -127, 127)
            out["u_head.weight"] = whole(self.u_head.weight / first.repeat(4)[:, None], "int8", -127, 127)
            out["position"] = whole(self.position * ACT / first, "int32", -(2**20), 2**20)
            for i, layer in enumerate([*self.hidden, self.out]):
                label, step = "out" if layer is self.out else f"hidden.{i}", self.steps[i + 1]
                out[f"{label}.weight"] = whole(layer.weight / step[:, None], "int8", -127, 127)
                out[f"{label}.acc_bias"] = whole(layer.bias * ACT / step, "int32", -(2**22), 2**22)
            if self.tau_classes:
                out["tau_mult"], out["tau_bias"] = i16(4096 * self.tau_scale), i16(ACT * self.tau_shift)
                out["tau_out_mult"] = i16(4096 * self.tau_out_scale)
                out["tau_out_bias"] = i16(OUT * self.tau_out_shift)
        return {f"{self.name}.{k}": v for k, v in out.items()}


@dataclass(frozen=True)
class Sample:
    """One chunk of mode coded as training sees it; coding order, one channel as three copies."""

    x: Bytes8
    """What the decoder will have, [h, w, 3]."""
    pred: npt.NDArray[np.int16]
    base: Bytes8
    centre: npt.NDArray[np.int32]
    """Centre of each sample's bin."""
    channels: int
    tau: int
    entry: int
    x_tilde: F32 | None
    trunk: F32 | None
    """[24, h/2, w/2] in network units."""


def sample_of(stream: Stream, planes: Bytes8, weights: store.Weights) -> Sample:
    """A sample from a stream of mode coded (its lossy layer, bank entry) and the samples that it was made from."""
    p, tau = payload_of(stream), stream.header.tau
    h, w, channels = planes.shape
    base = np.array(p.base, np.uint8)
    three = np.ascontiguousarray(np.repeat(planes, 3 // channels, 2))
    x, centre = quantise(three, base, tau) if tau else (three, three.astype(np.int32))
    pred = _native.linear_block(x, base, 8)[0]
    if channels == 1:
        pred = np.ascontiguousarray(np.repeat(pred[..., :1], 3, 2))
    x_tilde = trunk = None
    if p.lossy:
        layer = decode_lossy_part(p.lossy_part, weights, h, w, channels)
        x_tilde, trunk = layer.x_tilde.astype(np.float32), (layer.trunk / ACT).astype(np.float32)
    return Sample(x, pred, base, centre, channels, tau, p.bank_entry, x_tilde, trunk)


def _draw(s: Sample, cells: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Inputs and samples of some 2 x 2 cells: causal, lossy, trunk, position, e, lower, upper."""
    h, w = (n // 2 for n in s.x.shape[:2])
    cell = rng.choice(h * w, cells, replace=cells > h * w)
    y = (cell // w * 2)[:, None] + np.array([0, 0, 1, 1])
    x = (cell % w * 2)[:, None] + np.array([0, 1, 0, 1])
    where = np.stack([y.ravel(), x.ravel()], 1).astype(np.int32)
    features, local = _native.block_features(s.x, s.pred, s.base, LOG_TABLE, where)
    p = s.pred[y, x].astype(np.float32) / 16
    c = s.centre[y, x]
    lower = np.where(c - s.tau <= 0, -OPEN, c - s.tau - 0.5).astype(np.float32)
    upper = np.where(c + s.tau >= 255, OPEN, c + s.tau + 0.5).astype(np.float32)
    lower[..., s.channels :], upper[..., s.channels :] = -OPEN, OPEN  # nothing to code there
    at = torch.from_numpy(np.stack([y, x], -1).astype(np.int64))[None]
    if s.x_tilde is None or s.trunk is None:
        lossy, trunk = torch.zeros(cells, 4, 15), torch.zeros(cells, 24)
    else:
        x_tilde = torch.from_numpy(s.x_tilde).permute(2, 0, 1)[None]
        base = torch.from_numpy(local.reshape(1, cells, 4, 3)).float()
        lossy = lossy_features(x_tilde, at, base)[0]
        trunk = torch.from_numpy(np.ascontiguousarray(s.trunk[:, y[:, 0] // 2, x[:, 0] // 2].T))
    position = torch.from_numpy((y % 8 * 8 + x % 8).astype(np.int64))
    e = s.x[y, x].astype(np.float32) - p
    out = (torch.from_numpy(features.reshape(cells, 4, -1)), lossy, trunk, position)
    return (*out, *(torch.from_numpy(v) for v in (e, lower - p, upper - p)))


@dataclass(frozen=True)
class AdaptConfig:
    """How the networks are tuned."""

    parts: str = "all"
    steps: int = 400
    batch: int = 8
    cells: int = 1024
    lr: float = 1e-3
    seconds: float = math.inf
    threads: int = 1
    seed: int = 0


def adapt(weights: store.Weights, samples: Sequence[Sample], cfg: AdaptConfig) -> dict[str, AnyInts]:
    """Tune the network that codes ``samples`` (all of one tau); all tensors of the new weights file."""
    tau = samples[0].tau
    net = AdaptedNet(weights, "sqrc" if tau else "rc")
    entries = [s.entry for s in samples]
    if cfg.parts == "entry":  # one vector for all, in the place of the entry that most of the slide chose
        entries = [max(set(entries), key=entries.count)] * len(samples)
    bank = [net.bank_scale, net.bank_shift, net.bank_out]
    rest = [p for p in net.parameters() if all(p is not b for b in bank)] if cfg.parts == "all" else []
    for p in net.parameters():
        p.requires_grad_(any(p is q for q in [*bank, *rest]))
    opt = torch.optim.Adam([{"params": bank}, {"params": rest}] if rest else [{"params": bank}], cfg.lr)
    share = np.array([s.x.shape[0] * s.x.shape[1] * s.channels for s in samples], np.float64)
    rng = np.random.default_rng(cfg.seed)
    mean = {k: v.clone() for k, v in net.state_dict().items()}
    start = time.monotonic()
    tau_class = min(tau, net.tau_classes) - 1
    for step in range(cfg.steps):
        done = max(step / cfg.steps, (time.monotonic() - start) / cfg.seconds)
        if done >= 1:
            break
        lr = cfg.lr * min(1.0, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        opt.param_groups[0]["lr"] = 3 * lr
        if rest:
            opt.param_groups[1]["lr"] = lr
        chosen = rng.choice(len(samples), cfg.batch, p=share / share.sum())
        parts = [_draw(samples[i], cfg.cells, rng) for i in chosen]
        causal, lossy, trunk, position, e, lower, upper = (torch.stack(t) for t in zip(*parts, strict=True))
        entry = torch.tensor([entries[i] for i in chosen])
        classes = torch.full((cfg.batch,), tau_class) if tau else None
        bits = network_bits(
            net, (causal, lossy, trunk, position), (e, lower, upper), (entry, classes), cfg.threads
        ) / position.numel()
        opt.zero_grad(set_to_none=True)
        bits.backward()
        nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], 1.0)
        opt.step()
        keep = min(0.98, (step + 1) / (step + 10))
        with torch.no_grad():
            for k, v in net.state_dict().items():
                mean[k].lerp_(v, 1 - keep)
    net.load_state_dict(mean)
    return {**weights.tensors, **net.integers(cfg.parts)}


def packed(old: Mapping[str, AnyInts], new: Mapping[str, AnyInts]) -> int:
    """Bytes that carry the new tensors to whom has the old ones: differences, compressed."""
    names = sorted(k for k in new if not np.array_equal(old[k], new[k]))
    parts = [(new[k].astype(np.int64) - old[k]) for k in names]
    wide = b"".join(d.astype(np.int8 if np.abs(d).max() < 128 else np.int32).tobytes() for d in parts)
    return len(lzma.compress(wide, preset=9 | lzma.PRESET_EXTREME)) + 8 * len(names)
