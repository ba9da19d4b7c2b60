"""Training of the slide profile: LIC and RC together, then SQRC from RC's weights with the rest fixed.

Resumable: every checkpoint holds networks, optimiser, average, step and random states. All bits are per pixel.
"""

from __future__ import annotations

import csv
import math
import os
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Queue

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlpr.modes.networks.model.residual import Switches
from dlpr.modes.networks.model.slide import SlideModel
from dlpr.modes.networks.weights import load as load_weights
from dlpr.training.batches import Batch, Sampler, TrainConfig, near_lossless_groups
from dlpr.training.data import Block
from dlpr.training.likelihood import network_bits
from dlpr.training.rebuild import rebuild


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
    keep = keep * batch.colours
    use = torch.arange(len(keep)) if lic_on or not keep.any() else keep.nonzero()[:, 0].cpu()
    x, where = batch.x[use], batch.where[use]
    with torch.set_grad_enabled(lic_on and torch.is_grad_enabled()):
        lic = model.lic(x, noisy and lic_on)
    noise = torch.rand_like(lic.x_tilde) - 0.5 if noisy and lic_on else 0.0
    x_tilde = (lic.x_tilde + noise).clamp(0, 255)
    if not lic_on:
        x_tilde = torch.round(x_tilde)
    half = batch.x.shape[-1] // 2
    lossy = lossy_features(x_tilde, where, batch.local[use]) * keep[use].view(-1, 1, 1, 1)
    cell = where[:, :, 0, 0] // 2 * half + where[:, :, 0, 1] // 2
    trunk = lic.trunk.flatten(2).transpose(1, 2).gather(1, cell[..., None].expand(-1, -1, lic.trunk.shape[1]))
    trunk = trunk * keep[use].view(-1, 1, 1)
    if not lic_on:  # crops without lossy layer are not shown to the LIC
        lossy = lossy.new_zeros(len(keep), *lossy.shape[1:]).index_copy(0, use.to(lossy.device), lossy)
        trunk = trunk.new_zeros(len(keep), *trunk.shape[1:]).index_copy(0, use.to(trunk.device), trunk)
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
    area = x.numel() / 3
    mse = F.mse_loss(lic.x_tilde, x)
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
    mean: dict[str, float] = field(default_factory=dict)
    """Running means of what the log shows."""

    @classmethod
    def start(cls, cfg: TrainConfig, path: Path, init: Path | None) -> Run:
        """Fresh or resumed."""
        torch.manual_seed(cfg.seed)
        model = SlideModel(cfg.profile, cfg.causal).to(cfg.device)
        if init and init.suffix == ".dlpw":
            model.load_state_dict(rebuild(load_weights(init), cfg.profile).state_dict())
        elif init:
            model.load_state_dict(torch.load(init, weights_only=True, map_location=cfg.device)["ema"])
        if cfg.phase == "sqrc" and not cfg.own_sqrc:
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
            run.ema, run.step, run.mean = state["ema"], state["step"], state.get("mean", {})
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
            "mean": self.mean,
            "rng": torch.get_rng_state(),
            "config": asdict(cfg),
        }
        tmp = path.with_suffix(".tmp")
        torch.save(state, tmp)
        os.replace(tmp, path)


LOG = ("step", "seconds", "bits", "rate", "mse", "lr", "px_per_s", "px_per_cpu_s")


def _reopen(log: Path, step: int) -> None:
    """A log without the rows after ``step``, which a killed run wrote and the resumed one will write again."""
    rows = list(csv.reader(log.read_text().splitlines()))[1:] if log.exists() else []
    tmp = log.with_suffix(".tmp")
    with tmp.open("w", newline="") as f:
        csv.writer(f).writerows([LOG, *(r for r in rows if len(r) == len(LOG) and int(r[0]) <= step)])
    os.replace(tmp, log)


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
    _reopen(log, run.step)
    mean = run.mean
    started = since = time.time()
    used = time.process_time()
    pixels = 0
    with log.open("a", newline="") as f:
        writer = csv.writer(f)
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
                speed = [round(pixels / max(t, 1e-9)) for t in (now - since, time.process_time() - used)]
                row = [run.step, round(now - started, 1), *bits, f"{lr:.2e}", *speed]
                since, used, pixels = now, time.process_time(), 0
                writer.writerow(row)
                f.flush()
                print(*row, flush=True)
                run.save(path, cfg)
    stop.set()
    return path
