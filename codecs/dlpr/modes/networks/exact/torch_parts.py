"""Parts of the torch decoder (docs/format sections 5, 8, 9, 10): integers in tensors of any device.

Matrix products are carried in fp32: every sum of a layer is below 2^24 (section 13), so they are exact in any order.
`exact_matmul` refuses a device whose products are rounded (TF32, bf16). Everything else is int32 or int64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import dlpr._native as _native  # noqa: PLR0402  mypy resolves no other form in modules that `dlpr` imports late
from dlpr.arrays import AnyInts, Buffer
from dlpr.errors import DeviceError
from dlpr.modes.networks.exact.layers import LIMIT, OUT_LIMIT
from dlpr.modes.networks.weights import Weights

I32, I64 = torch.int32, torch.int64
LOW = 1 << 23
ANALYSIS = (*(f"g_e.c{i}" for i in range(5)), *(f"h_e.c{i}" for i in range(3)))
NO_LAYER: dict[str, AnyInts] = {
    "weight": np.zeros((1, 1, 1, 1), np.int8),
    "acc_bias": np.zeros(1, np.int32),
    "shift": np.zeros(1, np.uint8),
    "mult": np.zeros(1, np.int16),
    "bias": np.zeros(1, np.int16),
}
HOST: Any = _native
"""What the host does: entropy coding, least squares."""


@contextmanager
def exact_matmul(device: torch.device) -> Iterator[None]:
    """Switch reduced precision off for fp32 products, and prove on the device that it is."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        row = torch.full((64, 64), 4097.0, device=device)
        column = torch.zeros((64, 64), device=device)
        column[0], column[1] = 2049.0, -2048.0
        if not bool((row @ column == 4097.0).all()):
            raise DeviceError(f"fp32 products on {device} are rounded; switch TF32 or bf16 products off")
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def leaky(v: Tensor) -> Tensor:
    """LeakyReLU with slope 1/8."""
    return torch.where(v < 0, v >> 3, v)


def requantise(acc: Tensor, shift: Tensor, mult: Tensor, bias: Tensor, limit: int = LIMIT) -> Tensor:
    """From a layer's sums (int32) to its output; the last axis is the channel."""
    t = ((acc + ((1 << shift) >> 1)) >> shift).clamp(-32768, 32767)
    return (((t * mult + 2048) >> 12) + bias).clamp(-limit, limit)


class Model:
    """Tensors of a weights file on a device, converted once each."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self.weights, self.device = weights, device
        self._native: Any = None
        self._ints: dict[str, Tensor] = {}
        self._floats: dict[str, Tensor] = {}

    @property
    def native(self) -> Any:
        """The same weights for the host's part of the work, which may lack the analysis: decoders need none."""
        if self._native is None:
            tensors = {f"lic.{layer}.{part}": value for layer in ANALYSIS for part, value in NO_LAYER.items()}
            tensors |= {name: np.ascontiguousarray(value) for name, value in self.weights.tensors.items()}
            self._native = HOST.Model(dict(self.weights.profile), tensors)
        return self._native

    def tensor(self, array: Any, dtype: torch.dtype = I32) -> Tensor:
        """Array to tensor."""
        return torch.from_numpy(array.astype("int64")).to(dtype).to(self.device)

    def ints(self, name: str) -> Tensor:
        """Return a tensor of the file as int32."""
        if name not in self._ints:
            self._ints[name] = self.tensor(self.weights[name])
        return self._ints[name]

    def matrix(self, name: str) -> Tensor:
        """Return a layer's weights as fp32 [in, out]; kernels of convolutions are flattened."""
        if name not in self._floats:
            w = self.ints(name).to(torch.float32)
            self._floats[name] = w.reshape(w.shape[0], -1).T.contiguous()
        return self._floats[name]

    def product(self, a: Tensor, name: str) -> Tensor:
        """Exact integer product of a [..., in] with a layer's weights, int32 [..., out]."""
        return (a.to(torch.float32) @ self.matrix(name)).to(I32)

    # ---- section 5 ----

    def convolve(self, layer: str, a: Tensor, stride: int = 1, wide: bool = False) -> Tensor:
        """Evaluate a layer of the lossy codec: [b, in, h, w] to [b, out, h / stride, w / stride].

        ``wide``: sums may leave 24 bits, as those of the analysis may, which no proof covers.
        """
        k = self.ints(f"{layer}.weight").shape[2]
        b, _, h, w = a.shape
        columns = a.flatten(2) if k == 1 else F.unfold(a.to(torch.float32), k, padding=k // 2, stride=stride)
        columns = columns.transpose(1, 2)
        if wide:
            high = (columns.to(I32) >> 6).to(torch.float32)
            parts = (self.product(part, f"{layer}.weight") for part in (high, columns - 64 * high))
            acc = 64 * next(parts) + next(parts)
        else:
            acc = self.product(columns, f"{layer}.weight")
        acc = acc + self.ints(f"{layer}.acc_bias")
        shift, mult, bias = (self.ints(f"{layer}.{part}") for part in ("shift", "mult", "bias"))
        return requantise(acc, shift, mult, bias).transpose(1, 2).reshape(b, -1, h // stride, w // stride)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents y [b, N, 4GH, 4GW] and z [b, Nz, GH, GW] of samples int32 [b, 3, 64GH, 64GW]; an encoder's part."""
        t = leaky(self.convolve("lic.g_e.c0", F.pixel_unshuffle(x - 128, 4), wide=True))
        t = leaky(self.convolve("lic.g_e.c1", t, 2, wide=True))
        t = (t + leaky(self.convolve("lic.g_e.c2", t, wide=True))).clamp(-LIMIT, LIMIT)
        t = leaky(self.convolve("lic.g_e.c3", t, 2, wide=True))
        y = self.convolve("lic.g_e.c4", t, wide=True)
        t = leaky(self.convolve("lic.h_e.c0", y, wide=True))
        t = leaky(self.convolve("lic.h_e.c1", F.pixel_unshuffle(t, 2), wide=True))
        return y, self.convolve("lic.h_e.c2", F.pixel_unshuffle(t, 2), wide=True)

    def decode_latents(self, parts: Sequence[Buffer], gh: int, gw: int, threads: int) -> tuple[Tensor, list[bool]]:
        """Latents y^ int32 [b, N, 4GH, 4GW] of lossy parts, and which parts hold them and nothing else."""
        held, b = [bytes(part) for part in parts], len(parts)
        z_mean = self.ints("lic.z_mean")[:, None, None]
        z_scale = self.ints("lic.z_scale")[:, None, None].expand(b, -1, gh, gw)
        scales = z_scale.flatten(1).to(I32).cpu().numpy()
        symbols, _ = HOST.decode_latents(self.native, held, scales, False, threads)
        z = self.tensor(symbols).view(b, -1, gh, gw)
        mu, scale = self.hyper_synthesis((16 * z + z_mean).clamp(-LIMIT, LIMIT))
        scales = np.concatenate([scales, scale.flatten(1).cpu().numpy()], 1)
        symbols, good = HOST.decode_latents(self.native, held, np.ascontiguousarray(scales), True, threads)
        y = self.tensor(symbols[:, z[0].numel() :]).view_as(mu)
        return (16 * y + mu).clamp(-LIMIT, LIMIT), good

    def hyper_synthesis(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale index of every latent of y."""
        t = leaky(F.pixel_shuffle(self.convolve("lic.h_d.c0", z_hat), 2))
        t = leaky(F.pixel_shuffle(self.convolve("lic.h_d.c1", t), 2))
        mu, g = self.convolve("lic.h_d.c2", t).chunk(2, 1)
        return mu, g.clamp(0, 63)

    def synthesise(self, y_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Synthesise x~ [b, 3, 64GH, 64GW] and trunk [b, 24, 32GH, 32GW]."""
        t = leaky(self.convolve("lic.g_d.c0", y_hat))
        for i in range(3):
            t = leaky(F.pixel_shuffle(self.convolve(f"lic.g_d.up{i}", t), 2))
            t = (t + leaky(self.convolve(f"lic.g_d.c{i + 1}", t))).clamp(-LIMIT, LIMIT)
        return (F.pixel_shuffle(self.convolve("lic.x_head", t), 2) + 128).clamp(0, 255), t


class PixelNetwork:
    """RC or SQRC (section 8) for a batch of patches, each with its own bank entry and tau."""

    def __init__(self, model: Model, net: str, entries: Sequence[int], taus: Sequence[int]) -> None:
        self.model, self.net = model, net
        sizes = model.weights.sizes
        self.hidden, self.blocks = sizes.hidden, sizes.blocks
        entry = torch.tensor(entries, dtype=I64, device=model.device)
        (mult, bias), (out_mult, out_bias) = (
            (model.ints(f"{net}.bank{out}_mult")[entry], model.ints(f"{net}.bank{out}_bias")[entry])
            for out in ("", "_out")
        )
        if net == "sqrc":
            j = torch.tensor([min(t, sizes.tau_classes) - 1 for t in taus], dtype=I64, device=model.device)
            mult, bias = self._condition(mult, bias, "", j)
            out_mult, out_bias = self._condition(out_mult, out_bias, "_out", j)
        # [patches, 1, ...]: the same for all pixels of a patch
        self.mult, self.bias = mult[:, None], bias[:, None]
        self.out_mult, self.out_bias = out_mult[:, None], out_bias[:, None]

    def _condition(self, mult: Tensor, bias: Tensor, out: str, j: Tensor) -> tuple[Tensor, Tensor]:
        """Combine bank entries with the conditions of tau."""
        m, b = self.model.ints(f"sqrc.tau{out}_mult")[j], self.model.ints(f"sqrc.tau{out}_bias")[j]
        return ((mult * m + 2048) >> 12).clamp(-32768, 32767), (((bias * m + 2048) >> 12) + b).clamp(-32768, 32767)

    def __call__(self, features: Tensor, trunk: Tensor | None, y: Tensor, x: Tensor) -> Tensor:
        """Mixture parameters [patches, n, 75]; y and x are places in the chunk."""
        return self.after_first(self.first_sums(features, trunk, y, x))

    def first_sums(self, features: Tensor, trunk: Tensor | None, y: Tensor, x: Tensor) -> Tensor:
        """Sums of the first layer, which bank entry and tau have no part in: [patches, n, C]."""
        model, net = self.model, self.net
        acc = model.product(features, f"{net}.masked.weight") + model.ints(f"{net}.position")[y & 7, x & 7]
        if trunk is not None:
            heads = model.product(trunk, f"{net}.u_head.weight").unflatten(-1, (4, self.hidden))
            parity = (2 * (y & 1) + (x & 1))[..., None, None].expand(*y.shape, 1, self.hidden)
            acc = acc + heads.gather(-2, parity).squeeze(-2)
        return acc

    def after_first(self, acc: Tensor) -> Tensor:
        """Mixture parameters [patches, n, 75] from the sums of the first layer."""
        h = requantise(acc, self.model.ints(f"{self.net}.first.shift"), self.mult[:, :, 0], self.bias[:, :, 0])
        t = leaky(h)
        for i in range(self.blocks + 1):
            if i == self.blocks:
                t = (t + h).clamp(-LIMIT, LIMIT)
            t = leaky(self._layer(f"hidden.{i}", t, self.mult[:, :, i + 1], self.bias[:, :, i + 1]))
        return self._layer("out", t, self.out_mult, self.out_bias, OUT_LIMIT)

    def _layer(self, name: str, t: Tensor, mult: Tensor, bias: Tensor, limit: int = LIMIT) -> Tensor:
        """Evaluate a layer whose multiplier and bias are conditioned."""
        layer = f"{self.net}.{name}"
        acc = self.model.product(t, f"{layer}.weight") + self.model.ints(f"{layer}.acc_bias")
        return requantise(acc, self.model.ints(f"{layer}.shift"), mult, bias, limit)


class Lanes:
    """rANS states of all lanes of a batch (section 10), read side by side."""

    def __init__(self, lanes: Sequence[bytes | bytearray | memoryview], device: torch.device) -> None:
        sizes = torch.tensor([len(lane) for lane in lanes], dtype=I64)
        ends = sizes.cumsum(0)
        self.bytes = torch.frombuffer(bytearray(b"".join(lanes)), dtype=torch.uint8).to(device)
        first = (ends - sizes).to(device)
        self.end, self.at = ends.to(device), first + 4
        self.x = sum((self.bytes[first + i].to(I64) << (8 * i) for i in range(4)), torch.zeros_like(first))
        self.bad = (self.x < LOW) | (self.x >= 1 << 31)
        self.x = torch.where(self.bad, torch.full_like(self.x, LOW), self.x)

    def slot(self, lane: Tensor) -> Tensor:
        """Low 16 bits of the states."""
        return self.x[lane] & 65535

    def take(self, lane: Tensor, used: Tensor, start: Tensor, end: Tensor) -> None:
        """Step the lanes where ``used`` past the interval start..end; each lane is named once at most where used."""
        x = self.x[lane]
        x = torch.where(used, (end - start) * (x >> 16) + (x & 65535) - start, x)
        at, limit, bad = self.at[lane], self.end[lane], self.bad[lane]
        for _ in range(2):  # x was at least 2^7 after the step
            need = used & (x < LOW)
            left = at < limit
            byte = self.bytes[at.clamp(max=len(self.bytes) - 1)].to(I64)
            x = torch.where(need & left, x << 8 | byte, x)
            at = at + (need & left)
            bad = bad | (need & ~left)
        # rows that are not used write to a spare place: they may share their lane with a row that is
        place = torch.where(used, lane, len(self.x))
        self.x, self.at, self.bad = (_put(a, place, v) for a, v in ((self.x, x), (self.at, at), (self.bad, bad)))

    def unfinished(self) -> Tensor:
        """Say of each lane whether it is damaged, or has something left."""
        return self.bad | (self.at != self.end) | (self.x != LOW)


def _put(array: Tensor, place: Tensor, value: Tensor) -> Tensor:
    """Write values at places; place len(array) is nowhere."""
    spare = torch.cat([array, array[:1]])
    spare[place.flatten()] = value.flatten()
    return spare[:-1]
