"""Settings of a training run, and its batches: crops of blocks with the features of the pixels that are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlpr import _native
from dlpr.config import SlideProfile
from dlpr.modes.networks.exact.tables import log_table
from dlpr.modes.networks.model.lic import LossyCodec
from dlpr.modes.networks.model.residual import CAUSAL_FEATURES, Switches
from dlpr.quantise import quantise
from dlpr.training import contexts
from dlpr.training.data import Block, quantised_block

Ints = npt.NDArray[np.int64]
LOG_TABLE = log_table()
OPEN = np.float32(1e6)
"""Edge of a bin at the end of the grid."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run. ``phase`` is "rc" (LIC and RC) or "sqrc" (SQRC alone, from a finished "rc" checkpoint)."""

    phase: str = "rc"
    steps: int = 10000
    lic_steps: int = 4000
    batch: int = 12
    crop: int = 128
    cells: int = 1400
    lr: float = 2.5e-3
    lam: float = 0.002
    drop_lossy: float = 0.15
    neutral: float = 0.15
    rounded: float = 0.25
    simulated: float = 0.4
    background: float = 0.07
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 0
    taus: tuple[int, ...] = (1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 10, 15)
    switches: Switches = field(default_factory=Switches)
    threads: int = 2
    device: str = "cpu"
    profile: SlideProfile = field(default_factory=SlideProfile)
    context: int = 0
    """0: the format's features; n = 1..5: exact taps of M_7^n (dlpr.training.contexts), which cannot be exported."""

    own_sqrc: bool = False
    """Phase "sqrc" goes on from the SQRC of the start instead of its RC."""

    @property
    def causal(self) -> int:
        """Features of a pixel from decoded pixels."""
        return contexts.feature_count(self.context) if self.context else CAUSAL_FEATURES


@dataclass
class Batch:
    """x [b,3,h,w] float levels; features int16 [b,cells,4,133] and what belongs to those pixels."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    x: Tensor
    features: Tensor
    local: Tensor
    where: Tensor
    e: Tensor
    lower: Tensor
    upper: Tensor
    entry: Tensor
    tau_class: Tensor
    colours: Tensor
    """1 for crops of colours, 0 for those of planes, which have no lossy layer."""


def bin_edges(block: Block, y: Ints, x: Ints) -> tuple[Any, Any]:
    """Lower and upper edge of the bins of samples [n, 3] at some pixels, in levels; open at the ends of the grid."""
    if block.true is None or block.anchor is None:
        centre = block.x[y, x].astype(np.int32)
    else:
        centre = quantise(block.true[y, x][None], block.anchor[y, x][None], block.tau)[1][0]
    lower = np.where(centre - block.tau <= 0, -OPEN, centre - block.tau - 0.5).astype(np.float32)
    upper = np.where(centre + block.tau >= 255, OPEN, centre + block.tau + 0.5).astype(np.float32)
    return lower, upper


def cut(block: Block, y: int, x: int, cells: np.ndarray[Any, Any], size: int, context: int = 0) -> dict[str, Any]:
    """One training crop: causal features of the chosen 2x2 cells, true neighbours kept as margin."""
    y0, x0 = max(0, y - 3), max(0, x - 3)
    y1, x1 = min(block.x.shape[0], y + size + 3), min(block.x.shape[1], x + size + 3)
    window = (slice(y0, y1), slice(x0, x1))
    true = (block.x if block.true is None else block.true)[y : y + size, x : x + size]
    rec, pred = (np.ascontiguousarray(a[window]) for a in (block.x, block.pred))
    iy, ix = cells // (size // 2) * 2, cells % (size // 2) * 2
    py = (iy[:, None] + np.array([0, 0, 1, 1])).ravel()
    px = (ix[:, None] + np.array([0, 1, 0, 1])).ravel()
    ry, rx = py + y - y0, px + x - x0
    lo, hi = bin_edges(block, py + y, px + x)
    where = np.stack([ry, rx], 1).astype(np.int32)
    if context:
        features, local = contexts.features(block, window, where, context)
    else:
        features, local = _native.block_features(rec, pred, block.base, LOG_TABLE, where)
    p = pred[ry, rx].astype(np.float32) / 16
    if block.channels == 1:  # any value will do where nothing is coded
        lo[:, 1:], hi[:, 1:] = -OPEN, OPEN
    return {
        "x": true,
        "features": features.reshape(len(cells), 4, -1),
        "local": local.reshape(len(cells), 4, 3),
        "where": np.stack([py, px], 1).reshape(len(cells), 4, 2),
        "e": (rec[ry, rx].astype(np.float32) - p).reshape(len(cells), 4, 3),
        "lower": (lo - p).reshape(len(cells), 4, 3),
        "upper": (hi - p).reshape(len(cells), 4, 3),
    }


def collate(
    crops: list[dict[str, Any]], entries: list[int], taus: list[int], classes: int, colours: list[bool] | None = None
) -> Batch:
    """Stack crops."""

    def stack(key: str) -> Tensor:
        return torch.from_numpy(np.stack([c[key] for c in crops]))

    return Batch(
        x=stack("x").permute(0, 3, 1, 2).float().contiguous(),
        features=stack("features"),
        local=stack("local").float(),
        where=stack("where").long(),
        e=stack("e").float(),
        lower=stack("lower").float(),
        upper=stack("upper").float(),
        entry=torch.tensor(entries),
        tau_class=torch.tensor([max(0, min(t, classes) - 1) for t in taus]),
        colours=torch.tensor([1.0] * len(crops) if colours is None else [float(c) for c in colours]),
    )


def near_lossless_groups(
    groups: dict[str, list[Block]], lic: LossyCodec, seed: int, taus: tuple[int, ...]
) -> dict[str, list[Block]]:
    """Every block at one random tau, one in four around its x~ (which the LIC in its final state gives)."""
    rng = np.random.default_rng([seed, 7])
    out: dict[str, list[Block]] = {}
    for name, blocks in groups.items():
        out[name] = []
        for block in blocks:
            if SHARES["sqrc"][block.kind] == 0:
                continue
            b, x_tilde = block, None
            if rng.random() < 0.25 and block.colours:
                h, w = (n // 64 * 64 for n in b.x.shape[:2])
                b = replace(b, x=np.ascontiguousarray(b.x[:h, :w]), pred=b.pred[:h, :w])
                with torch.no_grad():
                    x = torch.from_numpy(b.x.copy()).permute(2, 0, 1)[None].float().to(lic.z_mean.device)
                    x_hat = lic(x, False).x_tilde.round().clamp(0, 255)[0].permute(1, 2, 0)
                    x_tilde = x_hat.cpu().numpy().astype(np.uint8)
            out[name].append(quantised_block(b, int(rng.choice(taus)), x_tilde))
    return out


SHARES = {
    "rc": {"rgb": 1.0, "joint": 1.0, "luma": 0.6, "chroma": 0.2, "pixels": 0.12},
    "sqrc": {"rgb": 1.0, "joint": 0.0, "luma": 0.5, "chroma": 0.1, "pixels": 0.7},
}
"""How often a block of a kind is drawn, by phase. Full-size planes are coded without a bound only."""

ENTRIES = {"rgb": (1, 21), "pixels": (1, 21), "joint": (21, 25), "luma": (25, 29), "chroma": (29, 32)}
"""Bank entries, from and to, that the groups of a kind begin with where there are planes."""


def first_entries(groups: dict[str, list[Block]], bank: int) -> dict[str, npt.NDArray[np.int64]]:
    """The bank entry of every block: its own, or one for each group, or kind and group."""
    planes = any(not b.colours for blocks in groups.values() for b in blocks)
    names = sorted(groups, key=lambda n: n.startswith("sim:"))  # real ones first
    out = {}
    for i, name in enumerate(names):
        at = []
        for block in groups[name]:
            low, high = ENTRIES[block.kind] if planes else (1, 1 + max(bank, len(names)))
            at.append(block.entry if block.entry >= 0 else (low + i % (high - low)) % bank)
        out[name] = np.array(at, np.int64)
    return out


class Sampler:
    """Random batches; a batch is a function of the seed, the phase and the step."""

    def __init__(self, groups: dict[str, list[Block]], cfg: TrainConfig) -> None:
        self.cfg, self.groups = cfg, groups
        self.real = [n for n in groups if not n.startswith("sim:")]
        self.sim = [n for n in groups if n.startswith("sim:")]
        self.entries = first_entries(groups, cfg.profile.bank)
        self.share = {}
        for name, blocks in groups.items():
            weight = np.array([SHARES[cfg.phase][b.kind] for b in blocks])
            self.share[name] = np.cumsum(weight) / weight.sum()

    def draw(self, step: int) -> Batch:
        """The batch of one step: a function of the seed and the step alone, so a resumed run sees the same data."""
        cfg = self.cfg
        rng = np.random.default_rng([cfg.seed, step, 0 if cfg.phase == "rc" else 1])
        crops, entries, taus, colours = [], [], [], []
        for _ in range(cfg.batch):
            names = self.sim if rng.random() < cfg.simulated else self.real
            name = names[int(rng.integers(len(names)))]
            if rng.random() < cfg.background:
                name = "sim:background"
            k = int(np.searchsorted(self.share[name], rng.random(), side="right"))
            block = self.groups[name][k]
            y, x = (int(rng.integers(0, (n - cfg.crop) // 16 + 1)) * 16 for n in block.x.shape[:2])
            cells = rng.choice((cfg.crop // 2) ** 2, cfg.cells, replace=False)
            crops.append(cut(block, y, x, cells, cfg.crop, cfg.context))
            taus.append(block.tau)
            colours.append(block.colours)
            neutral = rng.random() < cfg.neutral
            entries.append(0 if neutral else int(self.entries[name][k]))
        return collate(crops, entries, taus, cfg.profile.tau_classes, colours)
