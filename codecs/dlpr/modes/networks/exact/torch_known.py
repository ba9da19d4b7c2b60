"""Chunks whose samples are all known, in tensors: an encoder's, or a checker's who expects them (sections 6 to 9).

::

    samples --taps--> moments --(host)--> predictors --> predictions, residuals --> features --network--> mixtures
                                                                       samples, grids --> intervals of their symbols

No pixel waits for another: all of a chunk are computed together, in slabs of so many pixels that memory is bounded.
Everything is an integer, so that neither the device nor the slabs change a bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlpr.arrays import Ints
from dlpr.modes.networks.exact.geometry import AROUND_DX, AROUND_DY, NEAR
from dlpr.modes.networks.exact.known_geometry import Geometry
from dlpr.modes.networks.exact.tables import PRED_MAX, PRED_MIN
from dlpr.modes.networks.exact.torch_mixture import Grid, MixtureTables, escape, interval, nearest
from dlpr.modes.networks.exact.torch_parts import I32, I64, Model, PixelNetwork

I16 = torch.int16
COLUMNS = 72
"""Of the linear stage's moments: 66 taps, three channels of the pixel itself, a one, two zeros."""
EXACT_ROWS = 1024
"""Most rows of values -128..127 whose products fp32 adds up without rounding."""
LEAST_ROWS = 64
"""Pixels of each chunk to work on at a time, at least."""


@dataclass(frozen=True)
class Lossy:
    """What the lossy layers give: x~ int16 [b, H W, 3], trunk int16 [b, cells, 24] of rows of ``row`` cells."""

    x_tilde: Tensor
    trunk: Tensor
    row: int

    @classmethod
    def of(cls, x_tilde: Tensor, trunk: Tensor, height: int, width: int, channels: int) -> Lossy:
        """Cut out what chunks show of a synthesis [b, 3, 64GH, 64GW] and its trunk [b, 24, 32GH, 32GW]."""
        x = x_tilde[:, :, :height, :width].flatten(2).mT.to(I16)
        return cls(x[..., [0, 0, 0]] if channels == 1 else x, trunk.flatten(2).mT.to(I16), trunk.shape[3])

    @classmethod
    def joined(cls, layers: Sequence[Lossy]) -> Lossy:
        """Put layers of chunks of one size together."""
        return cls(torch.cat([x.x_tilde for x in layers]), torch.cat([x.trunk for x in layers]), layers[0].row)


class KnownChunks:
    """Chunks of one geometry, number of channels and tau.

    Parameters
    ----------
    model : Model
    geometry : Geometry
    pixels : Tensor
        uint8 [b, H W, 3] on the device; with one channel three copies. What is coded is their nearest grid points.
    channels, tau : int
    base : Tensor
        int32 [b, 3].
    lossy : Lossy or None
    anchor_lossy : bool
    slab : int
        Pixels to work on at a time.
    """

    def __init__(
        self,
        model: Model,
        geometry: Geometry,
        pixels: Tensor,
        channels: int,
        tau: int,
        base: Tensor,
        lossy: Lossy | None,
        anchor_lossy: bool,
        slab: int,
    ) -> None:
        self.model, self.geometry, self.channels, self.lossy, self.slab = model, geometry, channels, lossy, slab
        self.tables = MixtureTables(model)
        device, count = model.device, len(pixels)
        self.count, self.tau_value = count, tau
        self.tau = torch.full((1, 1), tau, dtype=I32, device=device)
        self.base, self.anchor_lossy = base, anchor_lossy
        self.place = self.indices(geometry.place)
        self.taps = model.tensor(geometry.taps, I64)
        self.all = torch.arange(count, device=device)
        self.pixels = pixels.to(I16)
        if tau:
            self.pixels = torch.stack([self._on_grid(c) for c in range(3)], -1)
        self.samples = base.to(I16)[:, None].repeat(1, geometry.places, 1)
        self.samples[:, self.place] = self.pixels
        outside, repeated = (self.indices(ids) for ids in geometry.border)
        self.samples[:, outside] = self.samples[:, repeated]
        self.pred = torch.zeros_like(self.pixels)
        self.residuals = torch.zeros((count, geometry.places, 6), dtype=I16, device=device)

    def indices(self, ids: Ints) -> Tensor:
        """Bring indices to the device."""
        return self.model.tensor(ids, I64)

    def _on_grid(self, c: int) -> Tensor:
        anchor = self._anchors(self.all, None)[..., c]
        q = nearest(self.pixels[..., c].to(I32), anchor, self.tau)
        value: Tensor = (anchor + q * (2 * self.tau + 1)).clamp(0, 255).to(I16)
        return value

    def _anchors(self, rows: Tensor, ids: Tensor | None) -> Tensor:
        """Anchors of pixels of chunks, int32 [rows, n or 1, 3]."""
        if not self.anchor_lossy or self.lossy is None:
            return self.base[rows][:, None]
        x = self._of(self.lossy.x_tilde, rows)
        return (x if ids is None else x[:, ids]).to(I32)

    def _of(self, values: Tensor, rows: Tensor) -> Tensor:
        """Values of chunks; without a copy where all are meant."""
        return values if rows is self.all else values[rows]

    def slabs(self, ids: Tensor, rows: int) -> Iterator[Tensor]:
        """Cut a list of pixels so that it fits the slab with so many chunks."""
        return iter(ids.split(max(LEAST_ROWS, self.slab // max(1, rows))))

    def _around(self, values: Tensor, rows: Tensor, ids: Tensor, taps: Tensor) -> Tensor:
        """Values [b, places, k] at the taps of pixels: [rows, n, taps, k]."""
        at = (self.place[ids][:, None] + taps).flatten()
        around: Tensor = self._of(values, rows).index_select(1, at).unflatten(1, (len(ids), len(taps)))
        return around

    # ---- section 7 ----

    def _design(self, rows: Tensor, ids: Tensor) -> Tensor:
        """Rows of the least-squares problems, fp32 [rows, n, 72]."""
        z = torch.zeros((len(rows), len(ids), COLUMNS), device=self.model.device)
        z[..., :66] = self._around(self.samples, rows, ids, self.taps).flatten(2) - 128
        z[..., 66:69] = self._of(self.pixels, rows)[:, ids] - 128
        z[..., 69] = 1
        return z

    def moments(self) -> Tensor:
        """Sums of products of the columns over the pixels of each parity, int64 [b, 4, 72, 72]."""
        out = torch.zeros((self.count, 4, COLUMNS, COLUMNS), dtype=I64, device=self.model.device)
        for parity, some in enumerate(self.geometry.parities):
            for ids in self.slabs(self.indices(some), self.count):
                whole = len(ids) // EXACT_ROWS * EXACT_ROWS
                z = self._design(self.all, ids)
                for part in (z[:, :whole].unflatten(1, (-1, EXACT_ROWS)) if whole else None, z[:, None, whole:]):
                    if part is not None and part.shape[2]:
                        out[:, parity] += (part.mT @ part).to(I64).sum(1)
        return out

    def predict(self, rows: Tensor, coefficients: Tensor, frac: int) -> Tensor:
        """Fill in predictions and residuals of chunks.

        Parameters
        ----------
        rows : Tensor
            Which chunks.
        coefficients : Tensor
            int32 [rows, 4, 3, 72] by parity and channel, in the order of the moments' columns.
        frac : int
            Their fractional bits.

        Returns
        -------
        Tensor
            int64 [rows, 256]: how many samples lie so many symbols from the centre of their interval.
        """
        deviations = torch.zeros((len(rows), 256), dtype=I64, device=self.model.device)
        bins = 256 * torch.arange(len(rows), device=self.model.device)[:, None, None]
        shift = frac - 4
        # products of the coefficients' halves are exact in fp32
        high, low = (part.to(torch.float32).mT for part in (coefficients >> 7, coefficients & 127))
        order = [0, 1, 2] if self.channels == 3 else [0, 0, 0]
        for parity, some in enumerate(self.geometry.parities):
            for ids in self.slabs(self.indices(some), len(rows)):
                z = self._design(rows, ids)
                acc = ((z @ high[:, parity]).to(I32) << 7) + (z @ low[:, parity]).to(I32)
                pred = (((acc + ((1 << shift) >> 1)) >> shift) + 2048).clamp(PRED_MIN, PRED_MAX)[..., order]
                p = self._of(self.pixels, rows)[:, ids].to(I32)
                e = 16 * p - pred
                self.pred[rows[:, None], ids] = pred.to(I16)
                slots = torch.cat([e.clamp(-2047, 2047), self.tables.logs(e) - 64], -1)
                self.residuals[rows[:, None], self.place[ids]] = slots.to(I16)
                anchor, tau = self._anchors(rows, ids), self.tau[..., None]
                centre = nearest(((pred + 8) >> 4).clamp(0, 255), anchor, tau)
                away = (nearest(p, anchor, tau) - centre).abs()[..., : self.channels]
                deviations += torch.bincount((bins + away).flatten(), minlength=deviations.numel()).view_as(deviations)
        return deviations

    # ---- section 8 ----

    def parameters(self, rows: Tensor, ids: Tensor, entries: Tensor) -> Tensor:
        """Mixture parameters of pixels under some bank entries of each chunk.

        Parameters
        ----------
        rows : Tensor
            Chunks.
        ids : Tensor
            Pixels of each.
        entries : Tensor
            int64 [rows, k].

        Returns
        -------
        Tensor
            int32 [rows k, n, 5, 3, 5].
        """
        g = self.geometry
        taps = self._around(self.samples, rows, ids, self.taps)
        b = (taps[:, :, 1] + taps[:, :, 0] + 1) >> 1
        near = self._around(self.residuals, rows, ids, self.taps[:NEAR]).flatten(2)
        pred = self._of(self.pred, rows)[:, ids, 0].to(I32)
        relative = (4 * pred - 64 * b[..., 0].to(I32)).clamp(-2047, 2047).to(I16)
        parts = [(4 * (taps - b[:, :, None])).flatten(2), near, relative[..., None]]
        yy, xx = ids // g.width, ids % g.width
        trunk = None
        if self.lossy is None:
            parts.append(torch.zeros((*relative.shape, 15), dtype=I16, device=relative.device))
        else:
            y = (yy[:, None] + self.model.tensor(AROUND_DY, I64)).clamp(0, g.height - 1)
            x = (xx[:, None] + self.model.tensor(AROUND_DX, I64)).clamp(0, g.width - 1)
            around = self._of(self.lossy.x_tilde, rows).index_select(1, (y * g.width + x).flatten())
            parts.append((4 * (around.unflatten(1, (len(ids), 5)) - b[:, :, None])).flatten(2))
            trunk = self._of(self.lossy.trunk, rows).index_select(1, yy // 2 * self.lossy.row + xx // 2)
        net = "sqrc" if self.tau_value else "rc"
        k = entries.shape[1]
        network = PixelNetwork(self.model, net, entries.flatten().tolist(), [self.tau_value] * entries.numel())
        shape = (len(rows), len(ids))
        sums = network.first_sums(torch.cat(parts, -1), trunk, yy.expand(shape), xx.expand(shape))
        out: Tensor = network.after_first(sums.repeat_interleave(k, 0) if k > 1 else sums).unflatten(-1, (5, 3, 5))
        return out

    # ---- section 9 ----

    def symbols(self, rows: Tensor, ids: Tensor, out: Tensor, intervals: Tensor, escapes: bool) -> Tensor:
        """Intervals of the symbols of pixels, frequency << 16 | start, 0 for none.

        Parameters
        ----------
        rows, ids : Tensor
            Chunks and pixels.
        out : Tensor
            `parameters` of them with one entry each.
        intervals : Tensor
            int32 [rows, 1]: m of each chunk.
        escapes : bool
            Whether to give what follows symbols at the ends of an interval too.

        Returns
        -------
        Tensor
            int32 [rows, n, channels, 2 with escapes or 1].
        """
        p, pred = (self._of(values, rows)[:, ids].to(I32) for values in (self.pixels, self.pred))
        anchors = self._anchors(rows, ids)
        e = [16 * p[..., c] - pred[..., c] for c in range(self.channels)]
        g = [self.tables.logs(residual) for residual in e]
        packed = []
        for c in range(self.channels):
            mixture = self.tables.mixture(out, c, pred[..., c], e, g)
            grid = Grid.of(anchors[..., c], self.tau, intervals, pred[..., c])
            symbol = nearest(p[..., c], grid.anchor, self.tau)
            q = torch.minimum(torch.maximum(symbol, grid.lo), grid.hi)
            pairs = [interval(self.tables, mixture, grid, q)] + ([escape(grid, symbol)] if escapes else [])
            packed.append(torch.stack([frequency << 16 | start for start, frequency in pairs], -1))
        return torch.stack(packed, -2)

    def code(self, intervals: Ints, entries: Ints) -> tuple[npt.NDArray[np.uint32], Ints]:
        """Intervals of all symbols in coding order.

        Parameters
        ----------
        intervals, entries : numpy.ndarray
            int64 [b]: m and bank entry of each chunk.

        Returns
        -------
        packed : numpy.ndarray
            uint32: frequency << 16 | start, 0 for none; chunk after chunk, lane after lane.
        ends : numpy.ndarray
            int64: where each lane ends in it.
        """
        g, model = self.geometry, self.model
        symbols = 255 // (2 * self.tau_value + 1) + 1  # none lies further from another; escapes need m below that
        escapes = bool((intervals < symbols).any())
        slots = self.channels * (2 if escapes else 1)
        pixels = g.height * g.width
        packed = np.empty((self.count, pixels, slots), np.uint32)
        m, chosen, at = model.tensor(intervals[:, None]), model.tensor(entries[:, None], I64), 0
        for ids in self.slabs(self.indices(g.order), self.count):
            out = self.parameters(self.all, ids, chosen)
            part = self.symbols(self.all, ids, out, m, escapes).flatten(2).cpu().numpy()
            packed[:, at : at + len(ids)] = part.view(np.uint32)
            at += len(ids)
        ends = slots * (g.ends + (np.arange(self.count) * pixels)[:, None])
        return packed.ravel(), ends.ravel()
