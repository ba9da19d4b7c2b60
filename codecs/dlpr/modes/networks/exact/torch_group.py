"""Patches that the torch decoder takes through their steps together (docs/format sections 6 to 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dlpr.arrays import Buffer, Bytes8
from dlpr.frame import Header
from dlpr.modes.networks.exact.geometry import AROUND_DX, AROUND_DY, BORDER, NEAR, TAP_DX, TAP_DY
from dlpr.modes.networks.exact.linear import LinearStage
from dlpr.modes.networks.exact.tables import PRED_MAX, PRED_MIN
from dlpr.modes.networks.exact.torch_mixture import Grid, Mixture, MixtureTables
from dlpr.modes.networks.exact.torch_parts import I32, I64, Lanes, Model, PixelNetwork
from dlpr.modes.networks.payload import CodedPayload


@dataclass(frozen=True)
class PatchJob:
    """One patch and what it is decoded from."""

    chunk: int
    header: Header
    payload: CodedPayload
    linear: LinearStage
    y0: int
    x0: int
    lanes: tuple[Buffer, ...]
    x_tilde: Tensor | None
    trunk: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patch."""
        side = 1 << self.payload.patch_exp
        return min(side, self.header.height - self.y0), min(side, self.header.width - self.x0)


class PatchGroup:
    """State of patches that have the network, the channels, the patch size and the number of lanes in common."""

    def __init__(self, model: Model, jobs: Sequence[PatchJob]) -> None:
        self.model, self.jobs = model, jobs
        device, first = model.device, jobs[0]
        self.channels = first.header.layout.channels
        self.lane_count = len(first.lanes)
        self.sizes = [job.size for job in jobs]

        def column(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=I32, device=device)[:, None]

        self.height, self.width = (column([size[k] for size in self.sizes]) for k in (0, 1))
        self.y0, self.x0 = column([job.y0 for job in jobs]), column([job.x0 for job in jobs])
        self.tau = column([job.header.tau for job in jobs])
        self.interval = column([job.payload.interval for job in jobs])
        self.frac = column([job.linear.frac for job in jobs])
        self.classes = column([len(job.linear.groups) for job in jobs])
        self.base = torch.tensor([job.payload.base for job in jobs], dtype=I32, device=device)
        self.anchor_lossy = column([int(job.payload.anchor_lossy) for job in jobs]).bool()
        # at most this many symbols in an interval; escapes only where the grid is wider than the interval
        widest = [(255 // (2 * job.header.tau + 1) + 2, 2 * job.payload.interval + 1) for job in jobs]
        self.widest = max(min(pair) for pair in widest)
        self.parts = torch.arange(1, 16, dtype=I32, device=device)
        self.escapes = any(symbols > job.payload.interval for (symbols, _), job in zip(widest, jobs, strict=True))
        taus, entries = [job.header.tau for job in jobs], [job.payload.bank_entry for job in jobs]
        self.network = PixelNetwork(model, "sqrc" if taus[0] else "rc", entries, taus)
        self.lanes = Lanes([lane for job in jobs for lane in job.lanes], device)
        self._build_linear()
        self._build_lossy()
        # samples, residuals and logs with borders, flat; the last place is where rows outside a patch write
        self.rows, self.stride = max(h for h, _ in self.sizes) + BORDER, max(w for _, w in self.sizes) + 2 * BORDER
        places = self.rows * self.stride
        self.start = (torch.arange(len(jobs), device=device) * places)[:, None]
        self.spare = len(jobs) * places
        self.samples = torch.cat([self.base.repeat_interleave(places, 0), self.base[:1]])
        self.residuals = torch.zeros((self.spare + 1, 6), dtype=I32, device=device)
        self.tap_offset = model.tensor(TAP_DY, I64) * self.stride + model.tensor(TAP_DX, I64)
        self.tables = MixtureTables(model)

    def _build_linear(self) -> None:
        """Coefficients of all patches: bias [p, k, c], own channels [p, k, c, 3], taps [p, k, c, 66]."""
        count = max(len(job.linear.groups) for job in self.jobs)
        shape = (len(self.jobs), count, self.channels)
        bias, own, taps = np.zeros(shape), np.zeros((*shape, 3)), np.zeros((*shape, 22, 3))
        for p, job in enumerate(self.jobs):
            k = len(job.linear.groups)
            bias[p, :k], own[p, :k], taps[p, :k] = job.linear.matrices()
        self.bias, self.own = self.model.tensor(bias), self.model.tensor(own)
        self.taps = self.model.tensor(taps).flatten(3)

    def _build_lossy(self) -> None:
        """x~ and trunk of all chunks of the group in one flat tensor each, and where each patch's chunk begins."""
        device = self.model.device
        starts: dict[int, tuple[int, int]] = {}
        x_tilde = [torch.zeros((1, 3), dtype=I32, device=device)]
        trunk = [torch.zeros((1, 24), dtype=I32, device=device)]
        at_x = at_t = 1
        for job in self.jobs:
            if job.chunk in starts or job.x_tilde is None or job.trunk is None:
                continue
            starts[job.chunk] = (at_x, at_t)
            x_tilde.append(job.x_tilde.reshape(-1, 3))
            trunk.append(job.trunk.reshape(-1, 24))
            at_x, at_t = at_x + len(x_tilde[-1]), at_t + len(trunk[-1])
        self.x_tilde, self.trunk = torch.cat(x_tilde), torch.cat(trunk)
        self.any_lossy = bool(starts)

        def column(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=I64, device=device)[:, None]

        self.lossy = column([int(job.x_tilde is not None) for job in self.jobs]).bool()
        self.x_start = column([starts.get(job.chunk, (0, 0))[0] for job in self.jobs])
        self.trunk_start = column([starts.get(job.chunk, (0, 0))[1] for job in self.jobs])
        self.chunk_height = column([job.header.height for job in self.jobs])
        self.chunk_width = column([job.header.width for job in self.jobs])
        self.trunk_width = column([0 if job.trunk is None else job.trunk.shape[1] for job in self.jobs])

    # ---- the walk ----

    def decode(self) -> None:
        """Take all patches through all of their steps."""
        top, wide = max(h for h, _ in self.sizes), max(w for _, w in self.sizes)
        for s in range(wide + 2 * (top - 1)):
            first, last = max(0, (s - wide + 2) // 2), min(top - 1, s // 2)
            if first <= last:
                self._step(s, first, last)

    def _step(self, s: int, first: int, last: int) -> None:
        """Pixels x + 2y = s of all patches, rows first..last of each; some are outside of smaller patches."""
        model = self.model
        y = torch.arange(first, last + 1, dtype=I32, device=model.device).expand(len(self.jobs), -1)
        x = s - 2 * y
        inside = (y < self.height) & (x < self.width)
        place = torch.where(inside, self.start + (y + BORDER) * self.stride + x + BORDER, self.spare)
        around = (place[..., None] + self.tap_offset).clamp(0, self.spare)
        taps = self.samples[around]  # [p, n, 22, 3]
        # the linear stage: what the taps and the bias add
        k = torch.where(self.classes == 1, 0, torch.where(self.classes == 2, x & 1, 2 * (y & 1) + (x & 1)))
        patch = torch.arange(len(self.jobs), device=model.device)[:, None]
        acc = (self.taps[patch, k] * (taps.flatten(2) - 128)[:, :, None]).sum(-1, dtype=I32) + self.bias[patch, k]
        own = self.own[patch, k]
        # features
        b = (taps[:, :, 1] + taps[:, :, 0] + 1) >> 1
        relative = (4 * self._prediction(acc[..., 0]) - 64 * b[..., 0]).clamp(-2047, 2047)
        near = self.residuals[around[..., :NEAR]].flatten(2)
        parts = [(4 * (taps - b[:, :, None])).flatten(2), near, relative[..., None]]
        trunk, anchors = None, self.base[:, None].expand(-1, y.shape[1], -1)
        yy, xx = (self.y0 + y).to(I64), (self.x0 + x).to(I64)
        if self.any_lossy:
            x_tilde = self._x_tilde(yy, xx)
            parts.append(torch.where(self.lossy[..., None], (4 * (x_tilde - b[:, :, None])).flatten(2), 0))
            at = self.trunk_start + (yy // 2) * self.trunk_width + xx // 2
            trunk = self.trunk[torch.where(self.lossy & inside, at, 0)]
            anchors = torch.where(self.anchor_lossy[..., None], x_tilde[:, :, 0], anchors)
        else:
            parts.append(torch.zeros((*y.shape, 15), dtype=I32, device=model.device))
        out = self.network(torch.cat(parts, -1), trunk, yy, xx).unflatten(-1, (5, 3, 5))
        # rows in blocks of as many as a patch has lanes: each lane has one pixel in a block
        for i in range(0, last - first + 1, self.lane_count):
            rows = slice(i, i + self.lane_count)
            parts_of_rows = (acc[:, rows], own[:, rows], anchors[:, rows], out[:, rows])
            self._symbols(y[:, rows], x[:, rows], inside[:, rows], place[:, rows], *parts_of_rows)

    def _x_tilde(self, yy: Tensor, xx: Tensor) -> Tensor:
        """x~ at the five places around pixels: [p, n, 5, 3]."""
        rows = (yy[..., None] + self.model.tensor(AROUND_DY, I64)).clamp(min=0)
        columns = (xx[..., None] + self.model.tensor(AROUND_DX, I64)).clamp(min=0)
        rows = torch.minimum(rows, self.chunk_height[..., None] - 1)
        columns = torch.minimum(columns, self.chunk_width[..., None] - 1)
        at = self.x_start[..., None] + rows * self.chunk_width[..., None] + columns
        return self.x_tilde[torch.where(self.lossy[..., None], at, 0)]

    def _prediction(self, acc: Tensor) -> Tensor:
        """From the linear stage's sum to a prediction in 1/16 level."""
        rounding = (1 << (self.frac - 4)) >> 1
        return (((acc + rounding) >> (self.frac - 4)) + 2048).clamp(PRED_MIN, PRED_MAX)

    def _symbols(
        self,
        y: Tensor,
        x: Tensor,
        inside: Tensor,
        place: Tensor,
        acc: Tensor,
        own: Tensor,
        anchors: Tensor,
        out: Tensor,
    ) -> None:
        """Decode the samples of a block of rows, channel after channel, and write them with their borders."""
        lane = torch.arange(len(self.jobs), device=self.model.device)[:, None] * self.lane_count + y % self.lane_count
        values: list[Tensor] = []
        e: list[Tensor] = []
        g: list[Tensor] = []
        for c in range(self.channels):
            total = acc[..., c]
            for k in range(c):
                total = total + own[..., c, k] * (values[k] - 128)
            pred = self._prediction(total)
            grid = Grid.of(anchors[..., c], self.tau, self.interval, pred)
            values.append(self._sample(lane, inside, grid, self.tables.mixture(out, c, pred, e, g)))
            e.append(16 * values[c] - pred)
            g.append(self.tables.logs(e[c]))
        order = range(3) if self.channels == 3 else (0, 0, 0)
        samples = torch.stack([values[c] for c in order], -1)
        self.samples[place] = samples
        self.residuals[place] = torch.stack(
            [*(e[c].clamp(-2047, 2047) for c in order), *(g[c] - 64 for c in order)], -1
        )
        right, left = inside & (x == self.width - 1), inside & (x == 0) & (y + 1 < self.height)
        for k in range(1, BORDER + 1):
            self.samples[torch.where(right, place + k, self.spare)] = samples
            self.samples[torch.where(left, place + self.stride - k, self.spare)] = samples

    # ---- section 9 ----

    def _sample(self, lane: Tensor, inside: Tensor, grid: Grid, mixture: Mixture) -> Tensor:
        """Read one symbol for each row, and its escape; returns the samples."""
        lo, hi = grid.lo, grid.hi
        slot = self.lanes.slot(lane)
        # the largest q with F(q) <= slot, in at most two looks at 16 parts each; start = F(q), end = F(q + 1)
        q = lo
        start, end = torch.zeros_like(slot), torch.full_like(slot, 65536)
        for stride in (16, 1) if self.widest > 16 else (1,):
            f = self.tables.cumulative(mixture, grid, q[..., None] + self.parts * stride)
            steps = (f <= slot[..., None]).sum(-1)  # F increases
            f = torch.cat([start[..., None], f.to(I64), end[..., None]], -1)
            start, end = (f.gather(-1, (steps + k)[..., None])[..., 0] for k in (0, 1))
            q = q + (steps * stride).to(I32)
        self.lanes.take(lane, inside & (hi > lo), start, end)

        if self.escapes:
            down, up = (q == lo) & (lo > grid.qmin), (q == hi) & (hi < grid.qmax)
            up = up & ~down
            count = torch.where(down, lo - grid.qmin + 1, torch.where(up, grid.qmax - hi + 1, 1)).to(I64)
            j = ((self.lanes.slot(lane) + 1) * count - 1) >> 16
            self.lanes.take(lane, inside & (down | up), 65536 * j // count, 65536 * (j + 1) // count)
            q = q + torch.where(down, -j, j).to(I32)
        return grid.value(q)

    # ---- results ----

    def damaged(self) -> list[bool]:
        """Say of each patch whether a lane did not fit its symbols."""
        bad: list[bool] = self.lanes.unfinished().reshape(len(self.jobs), -1).any(1).tolist()
        return bad

    def result(self) -> list[Bytes8]:
        """Samples of each patch, uint8 [h, w, channels]."""
        planes = self.samples[:-1].reshape(len(self.jobs), self.rows, self.stride, 3)
        block = planes[:, BORDER:, BORDER:-BORDER, : self.channels].to(torch.uint8).cpu().numpy()
        return [block[p, :h, :w] for p, (h, w) in enumerate(self.sizes)]
