"""Rows of the ablation table: what each changes of the baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlpr.errors import UnsupportedInputError
from dlpr.modes.networks.model.residual import Switches
from dlpr.training.contexts import CONTEXTS


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
    """Source left out of training, simulated scanners included; the dev source of that name shows it."""
    likelihood: bool = False
    """Code length of the float networks instead of real bytes, where the integer format has no such thing."""

    @property
    def trains(self) -> bool:
        """Networks of its own; else those of ``of``."""
        return bool(self.train) or not self.of

    @property
    def linear_limits(self) -> dict[str, int]:
        """Limits of the linear stage in training, those that the encoder has."""
        names = {"linear_classes": "max_classes", "linear_context": "context"}
        limits = {names[k]: int(v) for k, v in self.encoder.items() if k in names}
        return limits if self.encoder.get("linear_stage", True) else {**limits, "max_taps": 0}

    @property
    def context(self) -> int:
        """N of an exact context M_7^n, 0 for the format's features."""
        return int(self.train.get("context", 0))


def _lossy_layer() -> list[Row]:
    part = "lossy layer"

    def row(name: str, says: str, **train: Any) -> Row:
        return Row(name, part, says, train=train)

    off = {"lossy_layer": False}
    return [
        Row("no-lic", part, "no LIC at all", train={"drop_lossy": 1.0, "lic_steps": 0}, encoder=off),
        row("lambda-0", "lambda = 0: x~ is not asked to look like x", lam=0.0),
        row("lambda-0.03", "lambda = 0.03, the paper's near-lossless setting", lam=0.03),
        row("no-u", "x~ only, no features u", switches=Switches(u=False)),
        row("no-x-tilde", "u only, x~ not seen by the context model", switches=Switches(x_tilde=False)),
        Row("layer-dropped", part, "baseline's networks, streams without lossy layer", of="base", encoder=off),
    ]


def _encoder_options() -> list[Row]:
    def row(name: str, part: str, says: str, **encoder: Any) -> Row:
        return Row(name, part, says, of="base", encoder=encoder)

    return [
        *(row(f"patch-{p}", "patches", f"patches of {p} (baseline: 256)", patch=p) for p in (32, 64, 128)),
        row("no-search", "linear stage", "one predictor size, neutral bank entry", search=False),
        row("no-bank", "conditioning bank", "best predictor, neutral bank entry", bank_entry=0),
    ]


def _linear_stage() -> list[Row]:
    part = "linear stage"
    return [
        Row("no-linear", part, "no taps in the chunk's predictor", encoder={"linear_stage": False}),
        Row("linear-1", part, "one predictor for all pixels", encoder={"linear_classes": 1}),
        Row("linear-2", part, "up to two, by column (baseline: up to four phases)", encoder={"linear_classes": 2}),
    ]


def _near_lossless() -> list[Row]:
    near, part, all_taus = {"phase": "sqrc"}, "SQRC", (1, 3, 5)
    anchor = {"anchor": "lossy"}
    own = (
        Row(f"tau-{t}", part, f"a network for tau = {t} alone", of="base", train={**near, "taus": (t,)}, taus=(t,))
        for t in all_taus
    )
    return [
        Row("sqrc", part, "one network for every tau", of="base", train=near, taus=all_taus),
        *own,
        Row("x-tilde-anchor", part, "grid at x~, as in the paper", of="sqrc", encoder=anchor, taus=all_taus),
    ]


def _contexts() -> list[Row]:
    masked = {"switches": Switches(context=2)}
    real = "M_7^2 less its 3 taps below, 18 of the format's 22"
    return [
        Row("context-2-masked", "context", real, train=masked, encoder={"linear_context": 2}),
        Row("base-likelihood", "context", "baseline's networks, format's features", of="base", likelihood=True),
        *(
            Row(f"context-{n}", "context", f"M_7^{n}, exact taps", train={"context": n}, likelihood=True)
            for n in CONTEXTS
        ),
    ]


def _rows() -> tuple[Row, ...]:
    fewer = ((1, "a single logistic"), (2, "two logistics"), (3, "three logistics (baseline: five)"))
    logistic = ((Switches(components=k), says) for k, says in fewer)
    others = (("gaussian", "Gaussians"), ("laplace", "Laplacians"))
    left_out = ("bm_graz", "glomeruli", "ki67_rouland", "midog21_ami_br", "monuseg")
    return (
        Row("base", "baseline", "the slide profile", taus=(0, 1, 3, 5)),
        Row("other-seed", "baseline", "the same from another seed: what chance does", train={"seed": 1}),
        *_lossy_layer(),
        *(
            Row(f"k-{s.components}", "mixture", f"K = {s.components}: {says}", train={"switches": s})
            for s, says in logistic
        ),
        *(Row(f, "mixture", f"5 {says}", train={"switches": Switches(family=f)}) for f, says in others),
        *_linear_stage(),
        *_encoder_options(),
        *_near_lossless(),
        *_contexts(),
        *(Row(f"without-{s}", "leave one out", f"trained without {s}", without=s) for s in left_out),
    )


ROWS = _rows()
"""The uncorrected PMF is row "base" at tau >= 1: quantised contexts go into RC's own network."""


def chosen_rows(names: list[str] | None) -> list[Row]:
    """Rows in the order named (default: all), each after the row it starts from."""
    known = {r.name: r for r in ROWS}
    out: dict[str, Row] = {}
    for n in names or known:
        if n not in known:
            raise UnsupportedInputError(f"unknown row {n!r}; known: {', '.join(known)}", reason="input")
        chain = [known[n]]
        while chain[0].of:
            chain.insert(0, known[chain[0].of])
        out.update({r.name: r for r in chain})
    return list(out.values())
