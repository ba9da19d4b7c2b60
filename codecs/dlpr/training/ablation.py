"""Ablations and leave-one-source-out: networks trained alike but for one thing, compared in real bytes on dev tiles.

Every row is trained (equal steps, data and seed), exported to integers and used to encode and decode the dev tiles. A
row is done once: its result is a JSON file in the run's folder, and a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import dlpr
from dlpr.config import SlideProfile
from dlpr.errors import UnsupportedInputError
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.exact.tables import cdf_table
from dlpr.modes.networks.export import export_model
from dlpr.modes.networks.model.residual import Switches
from dlpr.modes.networks.model.slide import SlideModel
from dlpr.training import evaluate
from dlpr.training.ablation_rows import ROWS, Row
from dlpr.training.batches import TrainConfig
from dlpr.training.contexts import context_blocks
from dlpr.training.data import Block, build_blocks, coefficient_prior, refit, sample_tiles
from dlpr.training.loop import train

Sizes = dict[str, float]
"""Bits per pixel by source."""


@dataclass(frozen=True)
class Setting:
    """What all rows share."""

    images: Path
    dev: Path
    out: Path
    steps: int = 1500
    lic_steps: int = 700
    sqrc_steps: int = 700
    cells: int = 1400
    per_source: int = 3
    blocks_per_source: int = 110
    blocks_per_simulation: int = 150
    seed: int = 0
    threads: int = 2

    def shared(self) -> dict[str, int]:
        """What must be equal for rows to be compared."""
        return {k: v for k, v in asdict(self).items() if isinstance(v, int) and k != "threads"}


def _networks(row: Row, s: Setting, blocks: Callable[[Row], dict[str, list[Block]]]) -> SlideModel:
    """Trained networks of a row (those of ``row.of`` where nothing is trained)."""
    if not row.trains:
        return _networks(next(r for r in ROWS if r.name == row.of), s, blocks)
    base = TrainConfig(steps=s.steps, lic_steps=s.lic_steps, lam=0.0008, cells=s.cells, seed=s.seed, threads=s.threads)
    cfg = replace(base, **row.train)
    init = None
    if row.of:
        cfg, init = replace(cfg, steps=s.sqrc_steps, lr=1.5e-3), s.out / row.of / "rc.pt"
    path = train(cfg, blocks(row), s.out / row.name, init=init)
    model = SlideModel(SlideProfile(), cfg.causal)
    model.load_state_dict(torch.load(path, weights_only=True)["ema"])
    if cfg.phase == "rc":
        model.sqrc.load_state_dict(model.rc.state_dict(), strict=False)
    return model


def dev_sizes(
    weights_id: bytes, tiles: dict[str, list[npt.NDArray[np.uint8]]], tau: int, encoder: dict[str, Any], threads: int
) -> Sizes:
    """Bits per pixel by source, every stream decoded and compared."""
    out = {}
    for name, source in tiles.items():
        options = evaluate.learned_only(weights_id=weights_id, **encoder)
        streams = dlpr.encode_batch(source, tau, threads=threads, options=options)
        for a, b in zip(source, dlpr.decode_batch(streams, threads=threads), strict=True):
            if int(np.abs(a.astype(np.int16) - b).max()) > tau:
                raise AssertionError(f"{name}: a sample is off by more than {tau}")
        out[name] = 8 * sum(map(len, streams)) / sum(a.shape[0] * a.shape[1] for a in source)
    return out


def run_rows(rows: list[Row], s: Setting) -> None:
    """Train, export and measure every row that has no result yet."""
    check_setting(s, done_rows(s.out))
    tiles = sample_tiles(s.dev, s.per_source)

    def blocks(row: Row) -> dict[str, list[Block]]:
        groups = build_blocks(
            s.images, s.out / "blocks", s.blocks_per_source, s.blocks_per_simulation, s.seed, row.without
        )
        if row.context:
            return context_blocks(groups, row.context, s.out / "blocks-contexts")
        return refit(groups, row.linear_limits) if row.linear_limits else groups

    for row in rows:
        result = s.out / row.name / "result.json"
        if result.exists():
            continue
        print(f"== {row.name}: {row.says}", flush=True)
        model = _networks(row, s, blocks)
        if row.likelihood:
            sha, bits = "", {"0": evaluate.likelihood_sizes(model, tiles, row.context)}
        else:
            profile, tensors, _ = export_model(model, coefficient_prior(blocks(row).values(), **row.linear_limits))
            tensors["table.logistic"] = cdf_table(row.train.get("switches", Switches()).family)
            data = store.dump(profile, tensors)
            sha = hashlib.sha256(data).hexdigest()
            evaluate.install(data, sha, s.out / row.name)
            bits = {str(t): dev_sizes(bytes.fromhex(sha[:16]), tiles, t, row.encoder, s.threads) for t in row.taus}
        result.parent.mkdir(parents=True, exist_ok=True)
        tmp = result.with_suffix(".tmp")
        tmp.write_text(
            json.dumps({"row": row.name, "setting": s.shared(), "weights": sha[:16], "bits_per_px": bits}, indent=1)
        )
        tmp.replace(result)


def done_rows(out: Path) -> dict[str, dict[str, Any]]:
    """Results so far, by row."""
    return {r.name: json.loads(p.read_text()) for r in ROWS if (p := out / r.name / "result.json").exists()}


def check_setting(s: Setting, done: dict[str, dict[str, Any]]) -> None:
    """Refuse to mix rows that were not trained alike."""
    for name, d in done.items():
        if d["setting"] != s.shared():
            raise UnsupportedInputError(
                f"row {name!r} in {s.out} was trained with {d['setting']}, not {s.shared()}: give the same options, or "
                "another folder",
                reason="input",
            )
