"""Order of coding, measured: the wavefront of M_7^3 against stages that see a pixel from all sides.

A *stage* holds the pixels of one phase of 2 x 2 on a grid with some step; all of them are coded at once, from the
pixels of the stages before. With depth 1 the pixels of phase (0, 0) come first, as a wavefront at half size, then
(1, 1) from its diagonals, then (0, 1) and (1, 0) from all four sides; with depth d the first phase is cut again, d - 1
times.

Both orders get networks of the same cost (22 taps, 11 of them with residuals, the slide profile's per-pixel network),
the same pixels in the same order, equal steps, no lossy layer and no bank. Code length is that of the mixture (float);
the linear stage has a predictor for each stage, for the wavefront one for each of 1, 2 or 4 phases, its coefficients
counted at 6 bits. A margin of every block is seen but not counted, so that no order gains or loses at edges.

    python -m dlpr.training.stages IMAGES DEV OUT --depth 0 1 2 --steps 6000
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from dlpr import _native
from dlpr.config import SlideProfile
from dlpr.layout import CODING_ORDER
from dlpr.modes.networks.exact.geometry import NEAR
from dlpr.modes.networks.exact.tables import PRED_MAX, PRED_MIN
from dlpr.modes.networks.model.residual import ResidualCompressor
from dlpr.training import contexts
from dlpr.training.batches import OPEN, TrainConfig
from dlpr.training.data import base_colour, build_blocks, sample_tiles
from dlpr.training.likelihood import network_bits
from dlpr.training.loop import learning_rate

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
TAPS = 22
MARGIN = 16  # px at the edges of a block that are not counted
CELL = 8
_REACH = 7  # in steps of the grid, of taps that are looked at


@dataclass(frozen=True)
class Stage:
    """Pixels (y, x) with (y, x) mod ``period`` = ``phase``, predicted from taps [22, 2] (dy, dx), nearest first."""

    period: int
    phase: tuple[int, int]
    taps: I32

    def cells(self) -> I32:
        """Its pixels in a cell of 8 x 8, [n, 2]."""
        y, x = (np.arange(p, CELL, self.period) for p in self.phase)
        return np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2).astype(np.int32)


def stages(depth: int) -> tuple[Stage, ...]:
    """Stages in coding order; depth 0 is the wavefront over all pixels."""
    step = 1 << depth
    found = [Stage(step, (0, 0), contexts.taps(3) * step)]
    while step > 1:
        step //= 2
        known = {(0, 0)}
        for phase in ((1, 1), (0, 1), (1, 0)):
            near = [
                (dy, dx)
                for dy in range(-_REACH, _REACH + 1)
                for dx in range(-_REACH, _REACH + 1)
                if ((phase[0] + dy) % 2, (phase[1] + dx) % 2) in known
            ]
            near.sort(key=lambda t: (t[0] ** 2 + t[1] ** 2, t))
            taps = np.array(near[:TAPS], np.int32) * step
            found.append(Stage(2 * step, (phase[0] * step, phase[1] * step), taps))
            known.add(phase)
    return tuple(found)


@dataclass(frozen=True)
class Prepared:
    """A block in coding order with its predictions in 1/16 level, and the bits of their coefficients."""

    x: U8
    pred: npt.NDArray[np.int16]
    base: U8
    kind: int
    linear_bits: float


def _inner(block_side: int, period: int, phase: int) -> npt.NDArray[np.int64]:
    return np.arange(MARGIN + phase, block_side - MARGIN, period)


def prepare(x: U8, kind: int, order: tuple[Stage, ...]) -> Prepared:
    """Fit the linear stage of a block [h, w, 3] for an order."""
    base = base_colour(x)
    if len(order) == 1:
        fit = contexts.linear_stages(x, base, (3,))[0]
        return Prepared(x, fit.pred, base, kind, fit.bits)
    h, w = x.shape[:2]
    border = 64
    padded = np.pad(x, ((border, border), (border, border), (0, 0)), "edge").astype(np.float64) - 128
    pred, bits = np.zeros((h, w, 3), np.int16), 0.0
    for stage in order:
        y, i = np.arange(stage.phase[0], h, stage.period), np.arange(stage.phase[1], w, stage.period)
        at = [padded[y[:, None] + border + dy, i[None] + border + dx] for dy, dx in [*stage.taps.tolist(), (0, 0)]]
        rows = np.concatenate([*at, np.ones((len(y), len(i), 1))], 2).reshape(len(y) * len(i), -1)
        coefficients, cost = _fit_stage(rows)
        value = np.floor(16 * (rows @ coefficients.T + 128) + 0.5)
        pred[stage.phase[0] :: stage.period, stage.phase[1] :: stage.period] = np.clip(
            value, PRED_MIN, PRED_MAX
        ).reshape(len(y), len(i), 3)
        bits += cost
    return Prepared(x, pred, base, kind, bits)


def _fit_stage(rows: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Coefficients [3, columns] of one stage and what they are counted at; as in `dlpr.training.contexts`."""
    own, count = rows.shape[1] - 4, float(len(rows))
    gram = rows.T @ rows
    found = []
    for c in range(3):
        order = [c, *(k for k in range(3) if k != c)]
        columns = [own + 3, *(own + k for k in range(c)), *(3 * t + k for t in range(own // 3) for k in order)]
        found.append(contexts.fit_columns(gram, count, columns, own + c, c)[0])
    out = np.stack(found)
    return out, contexts.linear_bits(int(np.count_nonzero(out)), 1)


def planes(rgb: U8) -> U8:
    """Y, Cb, Cr of an RGB picture, whole numbers."""
    return np.asarray(Image.fromarray(rgb).convert("YCbCr"))


def in_coding_order(rgb: U8) -> tuple[U8, U8]:
    """The two kinds of pictures that the networks meet: green, red, blue; and Y, Cb, Cr."""
    return np.ascontiguousarray(rgb[..., list(CODING_ORDER)]), planes(np.ascontiguousarray(rgb))


@dataclass(frozen=True)
class Drawn:
    """Pixels of one stage: int16 features [b, n/4, 4, f]; e, lower, upper [b, n/4, 4, 3]; position [b, n/4, 4]."""

    features: Tensor
    e: Tensor
    lower: Tensor
    upper: Tensor
    position: Tensor


def draw(blocks: list[Prepared], corners: list[I32], order: tuple[Stage, ...]) -> list[Drawn]:
    """The pixels of cells of 8 x 8, stage by stage; ``corners`` [n, 2] of each block's cells, n a multiple of 4."""
    out = []
    for stage in order:
        inside = stage.cells()
        columns: dict[str, list[Any]] = {"features": [], "e": [], "lower": [], "upper": [], "position": []}
        for block, corner in zip(blocks, corners, strict=True):
            where = np.ascontiguousarray((corner[:, None] + inside[None]).reshape(-1, 2))
            features, _ = _native.context_features(
                block.x, block.pred, block.base, contexts.LOG_TABLE, where, stage.taps, NEAR
            )
            y, x = where.T
            value, pred = block.x[y, x].astype(np.float32), block.pred[y, x].astype(np.float32) / 16
            columns["features"].append(features.reshape(-1, 4, features.shape[1]))
            columns["e"].append((value - pred).reshape(-1, 4, 3))
            columns["lower"].append((np.where(value == 0, -OPEN, value - 0.5) - pred).reshape(-1, 4, 3))
            columns["upper"].append((np.where(value == 255, OPEN, value + 0.5) - pred).reshape(-1, 4, 3))
            columns["position"].append((y % 8 * 8 + x % 8).reshape(-1, 4))
        stacked = {k: torch.from_numpy(np.stack(v)) for k, v in columns.items()}
        stacked["position"] = stacked["position"].long()
        out.append(Drawn(**{k: v if k in ("features", "position") else v.float() for k, v in stacked.items()}))
    return out


class Networks(nn.Module):
    """A per-pixel network for each stage, the slide profile's."""

    def __init__(self, order: tuple[Stage, ...]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            ResidualCompressor(SlideProfile(), causal=3 * len(s.taps) + 6 * NEAR + 1) for s in order
        )

    def bits(self, drawn: list[Drawn], kinds: Tensor, threads: int) -> Tensor:
        """Bits of each stage, summed over its pixels: [stages]."""
        out = []
        for net, d in zip(self.nets, drawn, strict=True):
            assert isinstance(net, ResidualCompressor)
            b, n = d.features.shape[:2]
            nothing = (torch.zeros(b, n, 4, 15), torch.zeros(b, n, SlideProfile().widths[3]))
            out.append(
                network_bits(net, (d.features, *nothing, d.position), (d.e, d.lower, d.upper), (kinds, None), threads)
            )
        return torch.stack(out)


def _corners(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> I32:
    """Corners of random cells inside the margin."""
    rows, columns = ((n - 2 * MARGIN) // CELL for n in shape[:2])
    pick = rng.choice(rows * columns, min(cells, rows * columns), replace=rows * columns < cells)
    return (np.stack([pick // columns, pick % columns], 1) * CELL + MARGIN).astype(np.int32)


def train(order: tuple[Stage, ...], groups: list[list[Prepared]], cfg: TrainConfig, cells: int, log: Path) -> Networks:
    """Train the networks of an order; their average is returned."""
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(cfg.threads)
    model = Networks(order)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.Adam(model.parameters(), cfg.lr)
    queue: Queue[tuple[list[Drawn], Tensor]] = Queue(3)

    def feed() -> None:
        for step in range(cfg.steps):
            rng = np.random.default_rng([cfg.seed, step])  # the same blocks and cells for every order
            names = rng.integers(len(groups), size=cfg.batch)
            blocks = [groups[k][int(rng.integers(len(groups[k])))] for k in names]
            corners = [_corners(rng, b.x.shape, cells) for b in blocks]
            queue.put((draw(blocks, corners, order), torch.tensor([b.kind for b in blocks])))

    threading.Thread(target=feed, daemon=True).start()
    pixels, mean, begin = cfg.batch * cells * CELL * CELL, 0.0, time.time()
    for step in range(cfg.steps):
        optimiser.param_groups[0]["lr"] = learning_rate(cfg, step)
        drawn, kinds = queue.get()
        loss = model.bits(drawn, kinds, cfg.threads).sum() / pixels
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
        optimiser.step()
        decay = min(cfg.ema, (step + 1) / (step + 20))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - decay)
        now = float(loss.detach())
        mean = now if step == 0 else 0.99 * mean + 0.01 * now
        if (step + 1) % 250 == 0:
            with log.open("a") as f:
                print(step + 1, f"{mean:.4f}", round(time.time() - begin), file=f)
    model.load_state_dict(average)
    return model


def measure(model: Networks, order: tuple[Stage, ...], tile: Prepared, threads: int) -> tuple[list[float], int]:
    """Bits of each stage of a tile, then those of the linear stage; and the pixels counted."""
    rows, columns = ((n - 2 * MARGIN) // CELL for n in tile.x.shape[:2])
    at = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    corners = (at[: len(at) // 4 * 4] * CELL + MARGIN).astype(np.int32)
    with torch.no_grad():
        bits = model.bits(draw([tile], [corners], order), torch.tensor([tile.kind]), threads)
    return [*bits.tolist(), tile.linear_bits], len(corners) * CELL * CELL


def main() -> None:
    """Run the orders named and print a line for each source."""
    parser = argparse.ArgumentParser(prog="python -m dlpr.training.stages", description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--depth", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--cells", type=int, default=88)
    parser.add_argument("--per-source", type=int, default=3)
    parser.add_argument("--blocks", type=int, nargs=2, default=(50, 80), help="of each source, each simulation")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    per_source, per_simulation = args.blocks
    groups = build_blocks(args.images, args.out / "blocks", per_source, per_simulation, 0)
    tiles = sample_tiles(args.dev, args.per_source)
    for depth in args.depth:
        result = args.out / f"depth-{depth}.json"
        if not result.exists():
            order = stages(depth)
            prepared = [
                [
                    prepare(picture, kind, order)
                    for i, b in enumerate(blocks)
                    for kind, picture in ((i % 2, in_coding_order(_rgb(b.x))[i % 2]),)
                ]
                for blocks in groups.values()
            ]
            cfg = TrainConfig(steps=args.steps, threads=args.threads)
            model = train(order, prepared, cfg, args.cells, args.out / f"depth-{depth}.log")
            found: dict[str, Any] = {}
            for name, source in tiles.items():
                for kind, called in enumerate(("RGB", "planes")):
                    counted = [
                        measure(model, order, prepare(in_coding_order(t)[kind], kind, order), args.threads)
                        for t in source
                    ]
                    pixels = sum(n for _, n in counted)
                    found[f"{name} {called}"] = [sum(b[k] for b, _ in counted) / pixels for k in range(len(order) + 1)]
            torch.save(model.state_dict(), args.out / f"depth-{depth}.pt")
            result.write_text(json.dumps(found, indent=1))
    done = {d: json.loads((args.out / f"depth-{d}.json").read_text()) for d in args.depth}
    first = done[args.depth[0]]
    for name in first:
        totals = [sum(done[d][name]) for d in args.depth]
        print(f"{name:24s}", *(f"{t:7.3f} ({t / totals[0] - 1:+.1%})" for t in totals))


def _rgb(x: U8) -> U8:
    """A block in coding order as RGB."""
    return np.ascontiguousarray(x[..., np.argsort(CODING_ORDER)])


if __name__ == "__main__":
    main()
