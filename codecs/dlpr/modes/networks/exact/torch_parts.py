"""Parts of the torch decoder (docs/format sections 5, 8, 9, 10): integers in tensors of any device.

Matrix products are carried in fp32: every sum of a layer is below 2^24 (section 13), so they are exact in any order.
`exact_matmul` refuses a device whose products are rounded (TF32, bf16). Everything else is int32 or int64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlpr.errors import DlprError
from dlpr.modes.networks.exact.layers import LIMIT, OUT_LIMIT
from dlpr.modes.networks.weights import Weights

I32, I64 = torch.int32, torch.int64
LOW = 1 << 23


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
            raise DlprError(f"fp32 products on {device} are rounded; switch TF32 or bf16 products off", reason="device")
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
        self._ints: dict[str, Tensor] = {}
        self._floats: dict[str, Tensor] = {}

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

    def convolve(self, layer: str, a: Tensor) -> Tensor:
        """Evaluate a layer of the lossy codec: [b, in, h, w] to [b, out, h, w]."""
        k = self.ints(f"{layer}.weight").shape[2]
        b, _, h, w = a.shape
        columns = a.flatten(2) if k == 1 else F.unfold(a.to(torch.float32), k, padding=k // 2)
        acc = self.product(columns.transpose(1, 2), f"{layer}.weight") + self.ints(f"{layer}.acc_bias")
        shift, mult, bias = (self.ints(f"{layer}.{part}") for part in ("shift", "mult", "bias"))
        return requantise(acc, shift, mult, bias).transpose(1, 2).reshape(b, -1, h, w)

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
        model, net = self.model, self.net
        acc = model.product(features, f"{net}.masked.weight") + model.ints(f"{net}.position")[y & 7, x & 7]
        if trunk is not None:
            heads = model.product(trunk, f"{net}.u_head.weight").unflatten(-1, (4, self.hidden))
            parity = (2 * (y & 1) + (x & 1))[..., None, None].expand(*y.shape, 1, self.hidden)
            acc = acc + heads.gather(-2, parity).squeeze(-2)
        h = requantise(acc, model.ints(f"{net}.first.shift"), self.mult[:, :, 0], self.bias[:, :, 0])
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
