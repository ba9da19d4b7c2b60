"""Ablations and leave-one-source-out: networks trained alike but for one thing, compared in real bytes on dev tiles.

Every row is trained (equal steps, data and seed), exported to integers and used to encode and decode the dev tiles. A
row is done once: its result is a JSON file in the run's folder, and a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import dlpr
from dlpr.config import SlideProfile
from dlpr.errors import UnsupportedInputError
from dlpr.exact import weights as store
from dlpr.exact.export import Tensors, export_model
from dlpr.exact.tables import cdf_table
from dlpr.model.residual import Switches
from dlpr.training import evaluate
from dlpr.training.data import Block, build_blocks, sample_tiles
from dlpr.training.loop import SlideModel, TrainConfig, train

Sizes = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One row of the table. ``of`` names the row whose networks are used or started from; "" trains from scratch."""

    name: str
    part: str
    says: str
    of: str = ""
    train: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    taus: tuple[int, ...] = (0,)
    without: str | None = None
    """Source left out of training, simulated scanners included; then ``dev`` names the dev source that shows it."""
    dev: str | None = None


def _rows() -> tuple[Row, ...]:
    rows = [
        Row("base", "baseline", "the slide profile", taus=(0, 1, 3, 5)),
        Row(
            "no-lic",
            "lossy layer",
            "no LIC at all",
            train={"drop_lossy": 1.0, "lic_steps": 0},
            encoder={"lossy_layer": False},
        ),
        Row("lambda-0", "lossy layer", "lambda = 0: x~ is not asked to look like x", train={"lam": 0.0}),
        Row("lambda-0.03", "lossy layer", "lambda = 0.03, the paper's near-lossless setting", train={"lam": 0.03}),
        Row("no-u", "lossy layer", "x~ only, no features u", train={"switches": Switches(u=False)}),
        Row(
            "no-x-tilde",
            "lossy layer",
            "u only, x~ not seen by the context model",
            train={"switches": Switches(x_tilde=False)},
        ),
        Row(
            "layer-dropped",
            "lossy layer",
            "baseline's networks, streams without lossy layer",
            of="base",
            encoder={"lossy_layer": False},
        ),
    ]
    rows += [
        Row(f"k-{k}", "mixture", f"K = {k} logistics", train={"switches": Switches(components=k)}) for k in (1, 2, 3)
    ]
    rows += [
        Row(f, "mixture", f"5 {says}", train={"switches": Switches(family=f)})
        for f, says in (("gaussian", "Gaussians"), ("laplace", "Laplacians"))
    ]
    rows += [Row(f"patch-{p}", "patches", f"patches of {p}", of="base", encoder={"patch": p}) for p in (32, 64, 128)]
    rows += [
        Row(
            "no-linear", "linear stage", "no taps in the chunk's predictor", of="base", encoder={"linear_stage": False}
        ),
        Row(
            "no-search", "linear stage", "one predictor size, neutral bank entry", of="base", encoder={"search": False}
        ),
        Row("no-bank", "conditioning bank", "best predictor, neutral bank entry", of="base", encoder={"bank_entry": 0}),
    ]
    near = {"phase": "sqrc"}
    rows += [
        Row("sqrc", "SQRC", "one network for every tau", of="base", train=near, taus=(1, 3, 5)),
        *(
            Row(
                f"tau-{t}", "SQRC", f"a network for tau = {t} alone", of="base", train={**near, "taus": (t,)}, taus=(t,)
            )
            for t in (1, 3, 5)
        ),
        Row(
            "x-tilde-anchor",
            "SQRC",
            "grid anchored at x~, as in the paper",
            of="sqrc",
            encoder={"anchor": "lossy"},
            taus=(1, 3, 5),
        ),
    ]
    pairs = (
        ("bm_graz", "bm_graz"),
        ("glomeruli", "glomeruli"),
        ("ki67_rouland", "ki67_rouland"),
        ("midog21_ami_br", "midog21_ami_br"),
        ("monuseg", "monuseg"),
    )
    rows += [Row(f"without-{s}", "leave one out", f"trained without {s}", without=s, dev=d) for s, d in pairs]
    return tuple(rows)


ROWS = _rows()
"""The uncorrected PMF is row "base" at tau >= 1: quantised contexts go into RC's own network."""


@dataclass(frozen=True)
class Setting:
    """What all rows share."""

    images: Path
    dev: Path
    out: Path
    steps: int = 1500
    lic_steps: int = 700
    sqrc_steps: int = 700
    per_source: int = 3
    blocks_per_source: int = 110
    blocks_per_simulation: int = 150
    seed: int = 0
    threads: int = 2


def chosen_rows(names: list[str] | None) -> list[Row]:
    """Rows by name, each after the row it starts from."""
    known = {r.name: r for r in ROWS}
    for n in names or ():
        if n not in known:
            raise UnsupportedInputError(f"unknown row {n!r}; known: {', '.join(known)}", reason="input")
    wanted = set(names or known)
    for r in reversed(ROWS):
        if r.name in wanted and r.of:
            wanted.add(r.of)
    return [r for r in ROWS if r.name in wanted]


def _networks(row: Row, s: Setting, blocks: Callable[[str | None], dict[str, list[Block]]]) -> SlideModel:
    """Trained networks of a row (those of ``row.of`` where nothing is trained)."""
    if row.of and not row.train:
        return _networks(next(r for r in ROWS if r.name == row.of), s, blocks)
    base = TrainConfig(steps=s.steps, lic_steps=s.lic_steps, lam=0.0008, seed=s.seed, threads=s.threads)
    cfg = replace(base, **row.train)
    init = None
    if row.of:
        cfg, init = replace(cfg, steps=s.sqrc_steps, lr=1.5e-3), s.out / row.of / "rc.pt"
    path = train(cfg, blocks(row.without), s.out / row.name, init=init)
    model = SlideModel(SlideProfile())
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
        streams = dlpr.encode_batch(source, tau, threads=threads, weights_id=weights_id, **encoder)
        for a, b in zip(source, dlpr.decode_batch(streams, threads=threads), strict=True):
            if int(np.abs(a.astype(np.int16) - b).max()) > tau:
                raise AssertionError(f"{name}: a sample is off by more than {tau}")
        out[name] = 8 * sum(map(len, streams)) / sum(a.shape[0] * a.shape[1] for a in source)
    return out


def run_rows(rows: list[Row], s: Setting, prior: Callable[[Path], Tensors]) -> None:
    """Train, export and measure every row that has no result yet."""
    tiles = sample_tiles(s.dev, s.per_source)

    def cache(without: str | None) -> Path:
        return s.out / ("blocks" if without is None else f"blocks-without-{without}")

    def blocks(without: str | None) -> dict[str, list[Block]]:
        return build_blocks(s.images, cache(without), s.blocks_per_source, s.blocks_per_simulation, s.seed, without)

    for row in rows:
        result = s.out / row.name / "result.json"
        if result.exists():
            continue
        print(f"== {row.name}: {row.says}", flush=True)
        model = _networks(row, s, blocks)
        profile, tensors, _ = export_model(model, prior(cache(row.without)))
        switches = row.train.get("switches", Switches())
        tensors["table.logistic"] = cdf_table(switches.family)
        data = store.dump(profile, tensors)
        sha = hashlib.sha256(data).hexdigest()
        evaluate.install(data, sha, s.out / row.name)
        bits = {str(t): dev_sizes(bytes.fromhex(sha[:16]), tiles, t, row.encoder, s.threads) for t in row.taus}
        result.parent.mkdir(parents=True, exist_ok=True)
        setting = {k: v for k, v in asdict(s).items() if not isinstance(v, Path)}
        tmp = result.with_suffix(".tmp")
        tmp.write_text(
            json.dumps({"row": row.name, "setting": setting, "weights": sha[:16], "bits_per_px": bits}, indent=1)
        )
        tmp.replace(result)


def _macro(sizes: Sizes) -> float:
    return statistics.fmean(sizes.values())


def _cell(value: float | None, reference: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({100 * (value / reference - 1):+.2f} %)" if reference else "")


def table(s: Setting) -> str:
    """Markdown of the rows done so far: dev macro bits per pixel, and the difference to the row compared with."""
    done = {r.name: json.loads(p.read_text()) for r in ROWS if (p := s.out / r.name / "result.json").exists()}
    if "base" not in done:
        raise UnsupportedInputError('no result of row "base" yet: run dlpr-train ablate first', reason="input")
    macro = {n: {int(t): _macro(v) for t, v in d["bits_per_px"].items()} for n, d in done.items()}
    first = done["base"]["setting"]
    count = first["per_source"]
    lines = [
        "# Ablations",
        "",
        f"Every row is trained alike: {first['steps']} steps ({first['lic_steps']} with the LIC), SQRC rows"
        f" {first['sqrc_steps']} steps from the baseline's RC, seed {first['seed']}. Real bytes of the integer codec on"
        f" {count} tiles of each dev source, macro mean in bits/px; in brackets the difference to the baseline at"
        " tau = 0 and to row `sqrc` at tau >= 1. The shipped weights are trained much longer: compare rows with each"
        " other only.",
        "",
        "Each row: `dlpr-train ablate TRAIN --dev DEV --out RUN --rows NAME`; this page:"
        " `dlpr-train ablate ... --table FILE`.",
        "",
        "| row | part | what | tau 0 | tau 1 | tau 3 | tau 5 |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in ROWS:
        if r.name not in done or r.without:
            continue
        cells = []
        for t in (0, 1, 3, 5):
            against = macro.get("base" if t == 0 else "sqrc", {}).get(t)
            cells.append(_cell(macro[r.name].get(t), None if r.name == ("base" if t == 0 else "sqrc") else against))
        says = r.says + ("; at tau >= 1 this is the uncorrected PMF" if r.name == "base" else "")
        lines.append(f"| `{r.name}` | {r.part} | {says} | {' | '.join(cells)} |")
    left_out = [r for r in ROWS if r.without and r.name in done]
    if left_out:
        lines += [
            "",
            "## Leave one source out",
            "",
            "Bits/px of a dev source at tau = 0 under networks that have seen its family in training (`base`), and"
            " under networks that have not, simulated scanners included.",
            "",
            "| dev source | seen | left out | difference |",
            "|---|---|---|---|",
        ]
        for r in left_out:
            dev = str(r.dev)
            seen, out = done["base"]["bits_per_px"]["0"][dev], done[r.name]["bits_per_px"]["0"][dev]
            lines.append(f"| {dev} | {seen:.3f} | {out:.3f} | {100 * (out / seen - 1):+.2f} % |")
    return "\n".join(lines) + "\n"
