"""Adaptation to a slide: RC, or SQRC where tau >= 1, tuned on some chunks of it (docs/decisions/0021).

Training goes on from the integers of a weights file, whose scales stay as they are, so that what changes is a few steps
of int8 weights, which pack small. The lossy layer is not touched::

    streams --network_parts--> what the networks coded
    weights file --floats--> AdaptedNet --training on it--> integers --> dlpr.Tuned
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dlpr import _native, bitstream
from dlpr.arrays import AnyInts, Buffer, Bytes8
from dlpr.config import EncoderOptions
from dlpr.errors import CorruptError
from dlpr.frame import Mode, Stream
from dlpr.layout import to_planes
from dlpr.modes.colour.payload import plane_streams
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.exact.lossy import decode_lossy_part
from dlpr.modes.networks.mode import NetworksMode
from dlpr.modes.networks.model.residual import ResidualCompressor
from dlpr.modes.networks.payload import payload_of
from dlpr.modes.networks.tuned import Tuned
from dlpr.modes.networks.weights_check import BOUND, accumulator_rows
from dlpr.modes.protocol import Chunk
from dlpr.quantise import quantise
from dlpr.training.batches import LOG_TABLE, OPEN
from dlpr.training.likelihood import network_bits
from dlpr.training.loop import lossy_features

__all__ = ["PARTS", "AdaptConfig", "AdaptedNet", "Part", "coded_again", "network_parts", "tune"]

NETWORKS = NetworksMode()
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
            out: AnyInts = np.clip(np.rint(value.double().numpy()), low, high).astype(kind)
            return out

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
class Part:
    """What the networks coded: a chunk of mode coded, or a plane of mode colour."""

    stream: Stream
    planes: Bytes8
    """What decodes, uint8 [h, w, channels], coding order."""

    @property
    def size(self) -> int:
        """Bytes of lossy part, linear part and lanes."""
        p = payload_of(self.stream)
        return len(p.lossy_part) + len(p.linear_part) + sum(len(lane) for patch in p.lanes for lane in patch)


def network_parts(data: Buffer) -> list[Part]:
    """What the networks coded of a stream; nothing where they coded nothing."""
    stream = bitstream.parse(data)
    if stream.header.mode is Mode.CODED:
        streams = [stream]
    elif stream.header.mode is Mode.COLOUR:
        planes = [s for s in plane_streams(stream) if isinstance(s, Stream)]
        streams = [s for s in planes if s.header.mode is Mode.CODED]
    else:
        return []
    out = []
    for s, array in zip(streams, NETWORKS.decode_batch(streams, 1), strict=True):
        if isinstance(array, CorruptError):
            raise array
        out.append(Part(s, to_planes(array, s.header.layout)))
    return out


def coded_again(parts: Sequence[Part], tuned: Tuned | None, threads: int = 1) -> list[int]:
    """Bytes of the same parts coded again, with other weights where some are given."""
    alike: dict[tuple[bytes, bool], list[int]] = {}
    for i, part in enumerate(parts):
        p = payload_of(part.stream)
        alike.setdefault((p.weights_id if tuned is None else tuned.id, p.lossy), []).append(i)
    out = [0] * len(parts)
    for (weights_id, lossy), members in alike.items():
        options = EncoderOptions(weights_id=weights_id, lossy_layer=lossy)
        chunks = [Chunk(parts[i].stream.header, parts[i].planes) for i in members]
        for i, stream in zip(members, NETWORKS.encode_batch(chunks, options, threads), strict=True):
            out[i] = 0 if stream is None else Part(stream, parts[i].planes).size
    return out


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


def sample_of(part: Part, weights: store.Weights) -> Sample:
    """A part as training sees it, with its own lossy layer and bank entry."""
    p, tau = payload_of(part.stream), part.stream.header.tau
    h, w, channels = part.planes.shape
    base = np.array(p.base, np.uint8)
    three = np.ascontiguousarray(np.repeat(part.planes, 3 // channels, 2))
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
    steps: int = 600
    batch: int = 8
    cells: int = 1024
    lr: float = 2e-3
    threads: int = 1
    seed: int = 0


def _tuned_tensors(weights: store.Weights, samples: Sequence[Sample], cfg: AdaptConfig) -> dict[str, AnyInts]:
    """Tune the network that codes ``samples``: RC if their tau is 0, else SQRC; its tensors."""
    near = samples[0].tau > 0
    net = AdaptedNet(weights, "sqrc" if near else "rc")
    entries = [s.entry for s in samples]
    if cfg.parts == "entry":  # one vector for all, in the place of the entry that most of the slide chose
        entries = [max(sorted(set(entries)), key=entries.count)] * len(samples)
    bank = [net.bank_scale, net.bank_shift, net.bank_out]
    rest = [p for p in net.parameters() if all(p is not b for b in bank)] if cfg.parts == "all" else []
    for p in net.parameters():
        p.requires_grad_(any(p is q for q in [*bank, *rest]))
    opt = torch.optim.Adam([{"params": bank}, {"params": rest}] if rest else [{"params": bank}], cfg.lr)
    share = np.array([s.x.shape[0] * s.x.shape[1] * s.channels for s in samples], np.float64)
    rng = np.random.default_rng(cfg.seed)
    mean = {k: v.clone() for k, v in net.state_dict().items()}
    for step in range(cfg.steps):
        lr = cfg.lr * min(1.0, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / cfg.steps)))
        for group, factor in zip(opt.param_groups, (3, 1), strict=False):
            group["lr"] = factor * lr
        chosen = rng.choice(len(samples), cfg.batch, p=share / share.sum())
        drawn = [_draw(samples[i], cfg.cells, rng) for i in chosen]
        causal, lossy, trunk, position, e, lower, upper = (torch.stack(t) for t in zip(*drawn, strict=True))
        entry = torch.tensor([entries[i] for i in chosen])
        classes = torch.tensor([min(samples[i].tau, net.tau_classes) - 1 for i in chosen]) if near else None
        inputs, edges = (causal, lossy, trunk, position), (e, lower, upper)
        bits = network_bits(net, inputs, edges, (entry, classes), cfg.threads) / position.numel()
        opt.zero_grad(set_to_none=True)
        bits.backward()
        nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], 1.0)
        opt.step()
        keep = min(0.98, (step + 1) / (step + 10))
        with torch.no_grad():
            for k, v in net.state_dict().items():
                mean[k].lerp_(v, 1 - keep)
    net.load_state_dict(mean)
    return net.integers(cfg.parts)


def tune(parts: Sequence[Part], cfg: AdaptConfig | None = None, weights_id: bytes | None = None) -> Tuned:
    """Tune weights to what they are to code.

    Parameters
    ----------
    parts : sequence of Part
        A sample of the slide; those of tau = 0 tune RC, others SQRC.
    cfg : AdaptConfig, optional
        How.
    weights_id : bytes, optional
        Installed weights to start from; default: those that an encoder uses.

    """
    cfg = cfg or AdaptConfig()
    weights = store.find(weights_id or store.default_id())
    tensors = dict(weights.tensors)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the native pass has threads of its own
    try:
        for near in (False, True):
            samples = [sample_of(p, weights) for p in parts if (p.stream.header.tau > 0) is near]
            if samples:
                tensors |= _tuned_tensors(weights, samples, cfg)
    finally:
        torch.set_num_threads(threads)
    return Tuned.between(weights, _within_bounds(weights, tensors))


def _within_bounds(weights: store.Weights, tensors: dict[str, AnyInts]) -> dict[str, AnyInts]:
    """Bring rows whose sums could leave 24 bits half of the way back to what they were, until none can."""
    out, c = dict(tensors), weights.sizes.hidden
    while True:
        wrong = {k: np.flatnonzero(v >= BOUND) for k, v in accumulator_rows(weights.sizes, out).items()}
        wrong = {k: v for k, v in wrong.items() if len(v)}
        if not wrong:
            return out
        for layer, rows in wrong.items():
            net, is_first = layer.removesuffix(".first"), layer.endswith(".first")
            parts: dict[str, Any] = {f"{layer}.weight": rows, f"{layer}.acc_bias": rows}
            if is_first:
                heads = (rows + c * np.arange(4)[:, None]).ravel()
                parts = {f"{net}.masked.weight": rows, f"{net}.u_head.weight": heads}
                parts[f"{net}.position"] = (..., rows)
            for name, at in parts.items():
                array, old = out[name].copy(), weights[name][at].astype(np.int64)
                array[at] = old + np.trunc((array[at] - old) / 2).astype(np.int64)
                out[name] = array
