"""The bank entry a training block belongs to: the one that codes it best, as an encoder chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dlpr import _native
from dlpr.modes.networks.model.residual import Conditioned
from dlpr.modes.networks.model.slide import SlideModel
from dlpr.training.batches import TrainConfig, cut
from dlpr.training.data import Block, save_arrays
from dlpr.training.loop import Run

__all__ = ["assigned", "remembered"]


def assigned(
    model: SlideModel, groups: dict[str, list[Block]], seed: int, cells: int = 64, crop: int = 128
) -> dict[str, list[Block]]:
    """The same blocks, each with the bank entry under which RC needs the fewest bits.

    Bits are those of ``cells`` 2x2 cells of a crop of ``crop`` px, without lossy layer. Training on what this gives,
    and asking again, is Lloyd's algorithm: entries move towards the blocks that chose them.
    """
    net = model.rc
    bank = net.cfg.bank
    rng = np.random.default_rng([seed, 11])
    with torch.no_grad():
        every = net.conditioned(torch.arange(bank))
        weights = [Conditioned(*(t[e : e + 1].contiguous() for t in every)) for e in range(bank)]
    arrays = [[t.numpy() for t in w] for w in weights]
    lossy = np.zeros((1, cells, 4, 15), np.float32)
    trunk = np.zeros((1, cells, net.cfg.widths[3]), np.float32)
    out: dict[str, list[Block]] = {}
    for name, blocks in groups.items():
        out[name] = []
        for block in blocks:
            y, x = (int(rng.integers(0, (n - crop) // 16 + 1)) * 16 for n in block.x.shape[:2])
            c = cut(block, y, x, rng.choice((crop // 2) ** 2, cells, replace=False), crop)
            position = (c["where"][..., 0] % 8 * 8 + c["where"][..., 1] % 8).astype(np.int64)[None]
            samples = [np.ascontiguousarray(c[k], np.float32)[None] for k in ("e", "lower", "upper")]
            nats = [
                _native.pixel_net_nll(c["features"][None], lossy, trunk, position, *samples, *w, False, 1, 0)[0]
                for w in arrays
            ]
            out[name].append(replace(block, entry=int(np.argmin(nats))))
    return out


def remembered(
    path: Path, init: Path | None, cfg: TrainConfig, groups: dict[str, list[Block]]
) -> dict[str, list[Block]]:
    """`assigned` under the networks that training starts from; written to a file, which a resumed run reads."""
    if not path.exists():
        chosen = assigned(Run.start(cfg, path.with_suffix(".none"), init).model, groups, cfg.seed)
        save_arrays(path, {name: np.array([b.entry for b in blocks]) for name, blocks in chosen.items()})
    with np.load(path) as z:
        return {
            name: [replace(b, entry=int(k)) for b, k in zip(blocks, z[name], strict=True)]
            for name, blocks in groups.items()
        }
