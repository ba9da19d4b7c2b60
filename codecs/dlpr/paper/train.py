"""Train the paper profile on a folder of images, for a number of minutes; a checkpoint as CompressAI's examples write.

The folder holds one sub-folder for each source, and crops are drawn by source. The curve of losses goes to a CSV file.
"""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlpr.paper.loss import optimisers, train_step
from dlpr.paper.model import Dlpr
from dlpr.paper.profile import PaperProfile
from dlpr.training.data import list_sources, read_rgb

COLUMNS = ("step", "seconds", "total", "rate_y", "rate_z", "rate_residual", "mse", "sqrc")
_MEAN = 0.95  # what the curve shows is a running mean


def crops(images: Path, batch: int, crop: int, rng: np.random.Generator) -> Tensor:
    """Random crops [b, 3, crop, crop] in 0..1, sources in equal shares."""
    sources = [files for files in list_sources(images).values() if files]
    out: list[npt.NDArray[np.uint8]] = []
    while len(out) < batch:
        files = sources[int(rng.integers(len(sources)))]
        rgb = read_rgb(files[int(rng.integers(len(files)))])
        if min(rgb.shape[:2]) < crop:
            continue
        y, x = (int(rng.integers(0, n - crop + 1)) for n in rgb.shape[:2])
        out.append(rgb[y : y + crop, x : x + crop])
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 255


def train(images: Path, out: Path, cfg: PaperProfile, minutes: float, batch: int, lam: float, lr: float) -> Path:
    """Train and write ``checkpoint.pth.tar`` and ``curve.csv`` into ``out``; the checkpoint's path is returned."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Dlpr(cfg).to(device)
    pair = optimisers(model, lr)
    mean: list[float] = []
    begin, step = time.monotonic(), 0
    with (out / "curve.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        while time.monotonic() - begin < 60 * minutes:
            loss = train_step(model, pair, crops(images, batch, 64, rng).to(device), lam)
            step += 1
            parts = (loss.total, loss.rate_y, loss.rate_z, loss.rate_residual, loss.mse, loss.sqrc)
            now = [float(part.detach()) for part in parts]
            mean = now if not mean else [_MEAN * a + (1 - _MEAN) * b for a, b in zip(mean, now, strict=True)]
            if step % 10 == 0:
                writer.writerow([step, round(time.monotonic() - begin, 1), *(round(v, 4) for v in mean)])
                file.flush()
    model.eval().update(force=True)
    path = out / "checkpoint.pth.tar"
    tmp = path.with_suffix(".tmp")
    torch.save({"state_dict": model.state_dict(), "epoch": 0, "steps": step}, tmp)
    os.replace(tmp, path)
    return path
