"""Training of the slide profile: LIC and RC together, then SQRC from RC's weights with the rest fixed.

Resumable: every checkpoint holds networks, optimiser, average, step and random states. All bits are per pixel.
"""

from __future__ import annotations

import csv
import math
import os
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlpr import _native
from dlpr.config import SlideProfile
from dlpr.exact.tables import log_table
from dlpr.model.lic import LossyCodec
from dlpr.model.residual import CAUSAL_FEATURES, ResidualCompressor, Switches
from dlpr.quantise import quantise
from dlpr.training.data import Block, quantised_block
from dlpr.training.likelihood import network_bits

LOG_TABLE = log_table()
OPEN = np.float32(1e6)


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


class SlideModel(nn.Module):
    """All networks of the slide profile."""

    def __init__(self, cfg: SlideProfile) -> None:
        super().__init__()
        self.lic = LossyCodec(cfg)
        self.rc = ResidualCompressor(cfg)
        self.sqrc = ResidualCompressor(cfg, cfg.tau_classes)


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


def bin_edges(block: Block, window: tuple[slice, slice]) -> tuple[Any, Any]:
    """Lower and upper edge of each sample's bin, in levels; open at the ends of the grid."""
    if block.true is None or block.anchor is None:
        centre = block.x[window].astype(np.int32)
    else:
        _, centre = quantise(block.true[window], block.anchor[window], block.tau)
    lower = np.where(centre - block.tau <= 0, -OPEN, centre - block.tau - 0.5).astype(np.float32)
    upper = np.where(centre + block.tau >= 255, OPEN, centre + block.tau + 0.5).astype(np.float32)
    return lower, upper


def cut(block: Block, y: int, x: int, cells: np.ndarray[Any, Any], size: int) -> dict[str, Any]:
    """One training crop: causal features of the chosen 2x2 cells, true neighbours kept as margin."""
    y0, x0 = max(0, y - 3), max(0, x - 3)
    y1, x1 = y + size, min(block.x.shape[1], x + size + 3)
    window = (slice(y0, y1), slice(x0, x1))
    true = (block.x if block.true is None else block.true)[y : y + size, x : x + size]
    rec, pred = (np.ascontiguousarray(a[window]) for a in (block.x, block.pred))
    lo, hi = bin_edges(block, window)
    iy, ix = cells // (size // 2) * 2, cells % (size // 2) * 2
    py = (iy[:, None] + np.array([0, 0, 1, 1])).ravel()
    px = (ix[:, None] + np.array([0, 1, 0, 1])).ravel()
    ry, rx = py + y - y0, px + x - x0
    features, local = _native.block_features(rec, pred, block.base, LOG_TABLE, np.stack([ry, rx], 1).astype(np.int32))
    p = pred[ry, rx].astype(np.float32) / 16
    return {
        "x": true,
        "features": features.reshape(len(cells), 4, CAUSAL_FEATURES),
        "local": local.reshape(len(cells), 4, 3),
        "where": np.stack([py, px], 1).reshape(len(cells), 4, 2),
        "e": (rec[ry, rx].astype(np.float32) - p).reshape(len(cells), 4, 3),
        "lower": (lo[ry, rx] - p).reshape(len(cells), 4, 3),
        "upper": (hi[ry, rx] - p).reshape(len(cells), 4, 3),
    }


def collate(crops: list[dict[str, Any]], entries: list[int], taus: list[int], classes: int) -> Batch:
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
            b, x_tilde = block, None
            if rng.random() < 0.25:
                h, w = (n // 64 * 64 for n in b.x.shape[:2])
                b = Block(np.ascontiguousarray(b.x[:h, :w]), b.pred[:h, :w], b.base)
                with torch.no_grad():
                    x = torch.from_numpy(b.x).permute(2, 0, 1)[None].float().to(lic.z_mean.device)
                    x_hat = lic(x, False).x_tilde.round().clamp(0, 255)[0].permute(1, 2, 0)
                    x_tilde = x_hat.cpu().numpy().astype(np.uint8)
            out[name].append(quantised_block(b, int(rng.choice(taus)), x_tilde))
    return out


class Sampler:
    """Random batches; the state of its generator is part of a checkpoint."""

    def __init__(self, groups: dict[str, list[Block]], cfg: TrainConfig) -> None:
        self.cfg, self.groups = cfg, groups
        self.real = [n for n in groups if not n.startswith("sim:")]
        self.sim = [n for n in groups if n.startswith("sim:")]
        self.entry = {n: 1 + i for i, n in enumerate([*self.real, *self.sim])}

    def draw(self, step: int) -> Batch:
        """The batch of one step: a function of the seed and the step alone, so a resumed run sees the same data."""
        cfg = self.cfg
        rng = np.random.default_rng([cfg.seed, step, 0 if cfg.phase == "rc" else 1])
        crops, entries, taus = [], [], []
        for _ in range(cfg.batch):
            names = self.sim if rng.random() < cfg.simulated else self.real
            name = names[int(rng.integers(len(names)))]
            if rng.random() < cfg.background:
                name = "sim:background"
            block = self.groups[name][int(rng.integers(len(self.groups[name])))]
            y, x = (int(rng.integers(0, (n - cfg.crop) // 16 + 1)) * 16 for n in block.x.shape[:2])
            cells = rng.choice((cfg.crop // 2) ** 2, cfg.cells, replace=False)
            crops.append(cut(block, y, x, cells, cfg.crop))
            taus.append(block.tau)
            neutral = rng.random() < cfg.neutral
            entries.append(0 if neutral else self.entry[name] % cfg.profile.bank)
        return collate(crops, entries, taus, cfg.profile.tau_classes)


def lossy_features(x_tilde: Tensor, where: Tensor, local: Tensor) -> Tensor:
    """x~ at the pixel and at E, S, SE, SW relative to the local base, [b,cells,4,15] in network units."""
    b, _, h, w = x_tilde.shape
    flat = x_tilde.flatten(2).transpose(1, 2)
    out = []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1)):
        y = (where[..., 0] + dy).clamp(max=h - 1)
        x = (where[..., 1] + dx).clamp(0, w - 1)
        at = (y * w + x).view(b, -1, 1).expand(-1, -1, 3)
        out.append(flat.gather(1, at).view(*where.shape[:3], 3) - local)
    return torch.cat(out, -1) / 16


def step_loss(
    model: SlideModel, batch: Batch, cfg: TrainConfig, lic_on: bool, keep: Tensor, noisy: bool = True
) -> dict[str, Tensor]:
    """Loss of one batch and its parts in bits per pixel; ``keep`` [b] is 0 for crops coded without lossy layer."""
    sqrc = cfg.phase == "sqrc"
    with torch.set_grad_enabled(lic_on and torch.is_grad_enabled()):
        lic = model.lic(batch.x, noisy and lic_on)
    noise = torch.rand_like(lic.x_tilde) - 0.5 if noisy and lic_on else 0.0
    x_tilde = (lic.x_tilde + noise).clamp(0, 255)
    if not lic_on:
        x_tilde = torch.round(x_tilde)
    half = batch.x.shape[-1] // 2
    lossy = lossy_features(x_tilde, batch.where, batch.local) * keep.view(-1, 1, 1, 1)
    cell = batch.where[:, :, 0, 0] // 2 * half + batch.where[:, :, 0, 1] // 2
    trunk = lic.trunk.flatten(2).transpose(1, 2).gather(1, cell[..., None].expand(-1, -1, lic.trunk.shape[1]))
    trunk = trunk * keep.view(-1, 1, 1)
    position = batch.where[..., 0] % 8 * 8 + batch.where[..., 1] % 8
    net = model.sqrc if sqrc else model.rc
    total = network_bits(
        net,
        (batch.features, lossy, trunk, position),
        (batch.e, batch.lower, batch.upper),
        (batch.entry, batch.tau_class if sqrc else None),
        cfg.threads,
        cfg.switches.family,
    )
    bits = total / position.numel()
    area = batch.x.numel() / 3
    mse = F.mse_loss(lic.x_tilde, batch.x)
    rate = (lic.bits_y + lic.bits_z) / area
    loss = bits + (rate + cfg.lam * mse if lic_on else 0.0)
    return {"loss": loss, "bits": bits, "rate": rate, "mse": mse}


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Short warm-up, then cosine to 1 %."""
    return (
        cfg.lr * min(1.0, (step + 1) / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / cfg.steps))))
    )


@dataclass
class Run:
    """Networks, optimiser and average of one phase, restored from its checkpoint where there is one."""

    model: SlideModel
    opt: torch.optim.Adam
    ema: dict[str, Tensor]
    step: int = 0

    @classmethod
    def start(cls, cfg: TrainConfig, path: Path, init: Path | None) -> Run:
        """Fresh or resumed."""
        torch.manual_seed(cfg.seed)
        model = SlideModel(cfg.profile).to(cfg.device)
        if init:
            model.load_state_dict(torch.load(init, weights_only=True, map_location=cfg.device)["ema"])
        if cfg.phase == "sqrc":
            model.sqrc.load_state_dict(model.rc.state_dict(), strict=False)
        (model.sqrc if cfg.phase == "sqrc" else model.rc).restrict(cfg.switches)
        fast: list[Tensor] = []
        slow: list[Tensor] = []
        for m in [model.lic, model.rc] if cfg.phase == "rc" else [model.sqrc]:
            for k, p in m.named_parameters():
                (fast if k.startswith(("bank_", "tau_")) else slow).append(p)
        run = cls(model, torch.optim.Adam([{"params": slow}, {"params": fast}], cfg.lr), {})
        run.ema = {k: v.clone() for k, v in model.state_dict().items()}
        if path.exists():
            state = torch.load(path, weights_only=True, map_location=cfg.device)
            model.load_state_dict(state["model"])
            run.opt.load_state_dict(state["opt"])
            run.ema, run.step = state["ema"], state["step"]
            torch.set_rng_state(state["rng"].cpu())
        return run

    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [p for g in self.opt.param_groups for p in g["params"]]

    def average(self, cfg: TrainConfig) -> None:
        """Move the average towards the networks."""
        decay = min(cfg.ema, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for k, v in self.model.state_dict().items():
                self.ema[k].lerp_(v, 1 - decay)

    def save(self, path: Path, cfg: TrainConfig) -> None:
        """Write a checkpoint so that a kill never leaves half of one."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "opt": self.opt.state_dict(),
            "step": self.step,
            "rng": torch.get_rng_state(),
            "config": asdict(cfg),
        }
        tmp = path.with_suffix(".tmp")
        torch.save(state, tmp)
        os.replace(tmp, path)


def _feed(sampler: Sampler, steps: range, queue: Queue[Batch], stop: threading.Event) -> None:
    for s in steps:
        if stop.is_set():
            return
        queue.put(sampler.draw(s))


def train(
    cfg: TrainConfig, groups: dict[str, list[Block]], out: Path, init: Path | None = None, every: int = 250
) -> Path:
    """Train one phase; returns the checkpoint. Run again with the same arguments to go on after a kill."""
    torch.set_num_threads(cfg.threads)
    device = torch.device(cfg.device)
    out.mkdir(parents=True, exist_ok=True)
    path, log = out / f"{cfg.phase}.pt", out / f"{cfg.phase}.csv"
    run = Run.start(cfg, path, init)
    sqrc = cfg.phase == "sqrc"
    sampler = Sampler(near_lossless_groups(groups, run.model.lic, cfg.seed, cfg.taus) if sqrc else groups, cfg)
    queue: Queue[Batch] = Queue(3)
    stop = threading.Event()
    threading.Thread(target=_feed, args=(sampler, range(run.step, cfg.steps), queue, stop), daemon=True).start()
    fresh = not log.exists()
    mean: dict[str, float] = {}
    started = since = time.time()
    pixels = 0
    with log.open("a", newline="") as f:
        writer = csv.writer(f)
        if fresh:
            writer.writerow(["step", "seconds", "bits", "rate", "mse", "lr", "px_per_s"])
        while run.step < cfg.steps:
            lr = learning_rate(cfg, run.step)
            run.opt.param_groups[0]["lr"], run.opt.param_groups[1]["lr"] = lr, 3 * lr
            net = run.model.sqrc if sqrc else run.model.rc
            net.rounded = run.step >= (1 - cfg.rounded) * cfg.steps
            batch = queue.get().to(device)
            keep = (torch.rand(batch.x.shape[0]) >= cfg.drop_lossy).float().to(device)
            parts = step_loss(run.model, batch, cfg, not sqrc and run.step < cfg.lic_steps, keep)
            run.opt.zero_grad(set_to_none=True)
            parts["loss"].backward()
            nn.utils.clip_grad_norm_(run.parameters(), cfg.clip)
            run.opt.step()
            if cfg.switches != Switches():
                net.restrict(cfg.switches)
            run.average(cfg)
            run.step += 1
            pixels += batch.e.numel() // 3
            for k in ("bits", "rate", "mse"):
                v = float(parts[k].detach())
                mean[k] = v if k not in mean else 0.99 * mean[k] + 0.01 * v
            if run.step % every == 0 or run.step == cfg.steps:
                bits = [round(mean[k], 4) for k in ("bits", "rate", "mse")]
                now = time.time()
                row = [run.step, round(now - started, 1), *bits, f"{lr:.2e}", round(pixels / max(now - since, 1e-9))]
                since, pixels = now, 0
                writer.writerow(row)
                f.flush()
                print(*row, flush=True)
                run.save(path, cfg)
    stop.set()
    return path
