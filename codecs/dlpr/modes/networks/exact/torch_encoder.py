"""The torch encoder of mode coded: chunks of one size side by side, every pixel of all of them at once.

::

    pixels --analysis--> latents --(host: rANS)--> lossy parts; synthesis --> x~, trunk          (section 5)
    pixels --moments--> (host: least squares) --> linear parts, predictions, residuals           (section 7)
    a sample of the pixels --network, bank entries--> bits --> entry; a dearer predictor where the linear part is large
    all pixels in coding order --network, mixtures--> intervals --(host: rANS)--> lanes          (sections 8 to 10)

Its choices are those of the native encoder (`native/networks/batch.hpp`), and like everything else here they rest on
integers, or on floats of the host: a chunk gives the same bytes on every device and in every batch, and but for ties
the native encoder's. (Bits of a sample are added up in steps of 2^-16 where the native encoder adds floats. Where two
choices cost the same up to that, the two may choose differently; any choice is a good stream.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlpr.arrays import Bytes8, Ints
from dlpr.modes.networks.exact.known_geometry import Geometry, geometry
from dlpr.modes.networks.exact.layers import LIMIT
from dlpr.modes.networks.exact.torch_known import KnownChunks, Lossy
from dlpr.modes.networks.exact.torch_parts import HOST, I32, I64, Model

__all__ = ["Settings", "encode_chunks"]

BIT = 1 << 16
"""Steps in a bit of a symbol's price."""
ROUGH, FINE, FINEST = 384, 1024, 2048
"""Pixels of a chunk that choices are made on."""
KEPT = 2
"""Bank entries that the rough sample leaves."""


@dataclass(frozen=True)
class Settings:
    """What is the same for all chunks that are coded together, as the native encoder takes it."""

    height: int
    width: int
    channels: int
    tau: int
    lossy: bool
    anchor_lossy: bool
    patch_exp: int
    lane_exp: int
    frac: int
    price: float
    """Bits of a coefficient."""
    bank: int
    """Entry, or -1 for the best."""
    search: bool
    max_taps: int
    max_classes: int
    context: int

    @classmethod
    def of(cls, planes: Bytes8, options: dict[str, Any]) -> Settings:
        """Settings from a chunk [H, W, channels] and the native encoder's options of it."""
        o = options
        height, width, channels = planes.shape
        return cls(
            height, width, channels, o["tau"], bool(o["lossy"]), bool(o["anchor_lossy"]), o["patch_exp"], o["lane_exp"],
            o["frac"], float(o["coef_bits"]), o["bank"], bool(o["search"]), o["max_taps"], o["max_classes"],
            o["context"],
        )  # fmt: skip


def encode_chunks(
    planes: Sequence[Bytes8], settings: Settings, model: Model, slab: int, threads: int = 1
) -> list[dict[str, Any]]:
    """Encode chunks of mode coded.

    Parameters
    ----------
    planes : sequence of numpy.ndarray
        uint8 [H, W, channels] each, coding order.
    settings : Settings
        Of all of them.
    model : Model
        Weights on the device; within `exact_matmul`.
    slab : int
        Pixels to work on at a time.
    threads : int
        Of the host's part.

    Returns
    -------
    list of dict
        ``bank_entry``, ``interval``, ``base``, ``lossy_part``, ``linear_part``, ``lanes``, ``lane_sizes`` of each, as
        ``dlpr._native.encode_batch`` gives them.
    """
    return _Encoder(planes, settings, model, slab, threads).encode()


def lower_median(pixels: Tensor) -> Tensor:
    """Median colours int32 [b, 3] of [b, n, 3]; of an even number the lower middle one."""
    b, n, _ = pixels.shape
    bins = 256 * torch.arange(3 * b, device=pixels.device).view(b, 1, 3)
    counts = torch.bincount((bins + pixels).flatten(), minlength=768 * b).view(b, 3, 256)
    return (2 * counts.cumsum(-1) < n).sum(-1).to(I32)


@lru_cache(maxsize=1)
def _prices() -> Ints:
    """Bits of a symbol by its frequency, in steps of 2^-16; 0 for none."""
    bits = 16 - np.log2(np.maximum(np.arange(65537), 1))
    bits[0] = 0
    steps: Ints = np.rint(BIT * bits).astype(np.int64)
    return steps


class _Encoder:
    """Chunks on their way to streams."""

    def __init__(self, planes: Sequence[Bytes8], settings: Settings, model: Model, slab: int, threads: int) -> None:
        s = self.settings = settings
        self.model, self.slab, self.threads = model, slab, threads
        self.count = len(planes)
        self.geometry: Geometry = geometry(s.height, s.width, s.patch_exp, s.lane_exp)
        flat = torch.from_numpy(np.stack(planes)).to(model.device).flatten(1, 2)
        pixels = flat.expand(-1, -1, 3)
        base = lower_median(pixels)
        self.base: list[list[int]] = base.tolist()
        self.lossy_parts, lossy = [b""] * self.count, None
        if s.lossy:
            self.lossy_parts, lossy = self._lossy_layers(pixels)
        self.known = KnownChunks(model, self.geometry, pixels, s.channels, s.tau, base, lossy, s.anchor_lossy, slab)
        self.moments = self.known.moments().cpu().numpy()
        self.parities = np.array([len(ids) for ids in self.geometry.parities], np.int64)
        self.prices = model.tensor(_prices(), I32)
        self.linear: list[bytes] = [b""] * self.count
        self.intervals = np.zeros(self.count, np.int64)
        self.bank = np.zeros(self.count, np.int64)

    # ---- section 5 ----

    def _lossy_layers(self, pixels: Tensor) -> tuple[list[bytes], Lossy]:
        """Lossy parts, and what their decoder has."""
        s = self.settings
        gh, gw = -(-s.height // 64), -(-s.width // 64)
        together = max(1, self.slab // (4096 * gh * gw))
        parts: list[bytes] = []
        layers = []
        rows = torch.arange(64 * gh, device=pixels.device).clamp(max=s.height - 1)
        columns = torch.arange(64 * gw, device=pixels.device).clamp(max=s.width - 1)
        for some in pixels.unflatten(1, (s.height, s.width)).split(together):
            x = some[:, rows][:, :, columns].permute(0, 3, 1, 2).to(I32)
            coded, made = self._lossy_layer(x)
            parts += coded
            layers.append(Lossy.of(*made, s.height, s.width, s.channels))
        return parts, Lossy.joined(layers)

    def _lossy_layer(self, x: Tensor) -> tuple[list[bytes], tuple[Tensor, Tensor]]:
        """Lossy parts of chunks int32 [b, 3, 64GH, 64GW]; x~ and trunk."""
        model = self.model
        y, z = model.analyse(x)
        z_mean = model.ints("lic.z_mean")[:, None, None]
        z_symbols = (z - z_mean + 8) >> 4
        mu, scale = model.hyper_synthesis((16 * z_symbols + z_mean).clamp(-LIMIT, LIMIT))
        y_symbols = (y - mu + 8) >> 4
        z_scale = model.ints("lic.z_scale")[:, None, None].expand_as(z)
        scales = torch.cat([z_scale.flatten(1), scale.flatten(1)], 1).cpu().numpy()
        symbols = torch.cat([z_symbols.flatten(1), y_symbols.flatten(1)], 1).cpu().numpy()
        parts = HOST.encode_latents(self.model.native, scales, symbols, self.threads)
        return parts, model.synthesise((16 * y_symbols + mu).clamp(-LIMIT, LIMIT))

    # ---- choices, as those of the native encoder ----

    def _rows(self, chunks: Sequence[int]) -> Tensor:
        if len(chunks) == self.count:
            return self.known.all
        return torch.tensor(list(chunks), dtype=I64, device=self.model.device)

    def _prepare(self, chunks: Sequence[int], prices: Sequence[float]) -> None:
        """Everything that follows from the price of a coefficient: predictors, residuals, interval."""
        if not chunks:
            return
        s, some = self.settings, list(chunks)
        parts, coefficients = HOST.fit_linear(
            self.model.native, self.moments[some], self.parities, np.array(prices, np.float64), s.frac, s.max_taps,
            s.max_classes, s.context, s.channels, self.threads,
        )  # fmt: skip
        deviations = self.known.predict(self._rows(some), self.model.tensor(coefficients), s.frac)
        for i, part, m in zip(some, parts, HOST.choose_intervals(deviations.cpu().numpy()), strict=True):
            self.linear[i], self.intervals[i] = part, m

    def _sample(self, chunks: Sequence[int], entries: Ints, pixels: int) -> Ints:
        """Bits of the chunks, estimated, in steps of 2^-16, under bank entries [chunks, k]: [chunks, k]."""
        every, chosen = self.geometry.sample(pixels)
        k = entries.shape[1]
        if not len(chosen):
            return np.zeros(entries.shape, np.int64)
        together = max(1, self.slab // (len(chosen) * k))
        costs = []
        for at in range(0, len(chunks), together):
            some = list(chunks[at : at + together])
            rows, ids = self._rows(some), self.known.indices(chosen)
            out = self.known.parameters(rows, ids, self.model.tensor(entries[at : at + together], I64))
            repeated = rows.repeat_interleave(k) if k > 1 else rows
            m = self.model.tensor(self.intervals[some].repeat(k)[:, None])
            packed = self.known.symbols(repeated, ids, out, m, False)
            bits = self.prices[(packed >> 16) & 0xFFFF].to(I64)
            costs.append(every * bits.flatten(1).sum(1).view(-1, k).cpu().numpy())
        return np.concatenate(costs)

    def _choose_bank(self, chunks: Sequence[int]) -> Ints:
        """All entries on a small sample, then the best few on a larger one; returns the bits of the best."""
        s, some = self.settings, list(chunks)
        if s.bank >= 0:
            self.bank[some] = s.bank
            if not s.search or not some:
                return np.zeros(len(some), np.int64)
            entries = np.full((len(some), 1), s.bank)
        else:
            bank = self.model.weights.sizes.bank
            entries = np.tile(np.arange(bank), (len(some), 1))
            entries = np.argsort(self._sample(some, entries, ROUGH), axis=1, kind="stable")[:, :KEPT]
        costs = self._sample(some, entries, FINE)
        best = costs.argmin(1)[:, None]
        self.bank[some] = np.take_along_axis(entries, best, 1)[:, 0]
        return np.take_along_axis(costs, best, 1)[:, 0]

    def _choose(self) -> None:
        """Predictors and bank entries; dearer and dearer coefficients where the predictor is a large part."""
        s, every = self.settings, list(range(self.count))
        self._prepare(every, [s.price] * self.count)
        bits = self._choose_bank(every) / BIT
        if not s.search or s.max_taps == 0:
            return
        parts = np.array([8.0 * len(part) for part in self.linear])
        tried = [i for i in every if parts[i] > 0.02 * bits[i]]
        best, best_price = bits + parts, np.full(self.count, s.price)
        best_is_last = np.ones(self.count, bool)
        active, price = tried, max(s.price, 1.0) * 3
        while active and price < 3000:
            self._prepare(active, [price] * len(active))
            totals = self._sample(active, self.bank[active][:, None], FINEST)[:, 0] / BIT
            going = []
            for i, bits_of_pixels in zip(active, totals.tolist(), strict=True):
                total = bits_of_pixels + 8.0 * len(self.linear[i])
                best_is_last[i] = total < best[i]
                if best_is_last[i]:
                    best[i], best_price[i] = total, price
                if total <= 1.1 * best[i]:
                    going.append(i)
            active, price = going, price * 3
        again = [i for i in tried if not best_is_last[i]]
        self._prepare(again, best_price[again].tolist())
        changed = [i for i in tried if best_price[i] != s.price]
        if changed:
            self._choose_bank(changed)

    # ---- sections 8 to 10 ----

    def encode(self) -> list[dict[str, Any]]:
        """Choose, then code all pixels."""
        self._choose()
        packed, ends = self.known.code(self.intervals, self.bank)
        lanes, sizes = HOST.encode_lanes(packed, ends, self.threads)
        per_chunk = np.array(sizes, np.int64).reshape(self.count, -1)
        cuts = np.concatenate([[0], per_chunk.sum(1).cumsum()]).tolist()
        return [
            {
                "bank_entry": int(self.bank[i]),
                "interval": int(self.intervals[i]),
                "base": tuple(self.base[i]),
                "lossy_part": self.lossy_parts[i],
                "linear_part": self.linear[i],
                "lanes": lanes[cuts[i] : cuts[i + 1]],
                "lane_sizes": per_chunk[i].tolist(),
            }
            for i in range(self.count)
        ]
