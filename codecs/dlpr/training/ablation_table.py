"""The ablation rows done so far as a page of Markdown; it is only ever written by ``dlpr-train ablate --table``."""

from __future__ import annotations

import statistics
from typing import Any

from dlpr.errors import UnsupportedInputError
from dlpr.paper.context import scan_angle, step_count
from dlpr.training.ablation import Setting, check_setting, done_rows
from dlpr.training.ablation_rows import ROWS, Row
from dlpr.training.contexts import CONTEXTS, taps

TAUS = (0, 1, 3, 5)
Macro = dict[str, dict[int, float]]


def _against(value: float | None, reference: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({100 * (value / reference - 1):+.2f} %)" if reference else "")


def _head(s: Setting) -> list[str]:
    options = {
        "steps": s.steps,
        "lic-steps": s.lic_steps,
        "sqrc-steps": s.sqrc_steps,
        "cells": s.cells,
        "per-source": s.per_source,
        "blocks-per-source": s.blocks_per_source,
        "blocks-per-simulation": s.blocks_per_simulation,
        "seed": s.seed,
    }
    command = " ".join(f"--{k} {v}" for k, v in options.items())
    return [
        "# Ablations",
        "",
        f"Every row is trained alike: {s.steps} steps ({s.lic_steps} with the LIC) of 12 crops, {4 * s.cells} pixels of"
        f" each; SQRC rows {s.sqrc_steps} steps from the baseline's RC. Real bytes of the integer codec on"
        f" {s.per_source} tiles of each dev source, every stream decoded and compared; macro mean over sources in"
        " bits/px. These are short trainings, many times shorter than that of the shipped weights: compare rows with"
        " each other only. Row `other-seed` says what chance does; smaller differences are none.",
        "",
        "",
        "The command of a row, NAME being its name in the table (`--table FILE` writes this page):",
        "",
        "```",
        f"dlpr-train ablate TRAIN --dev DEV --out RUN {command} --rows NAME",
        "```",
    ]


def _rows_table(macro: Macro) -> list[str]:
    lines = [
        "",
        "In brackets the difference to `base` at tau = 0 and to `sqrc` at tau >= 1. Row `base` at tau >= 1 is the"
        " uncorrected PMF: quantised contexts go into RC's own network.",
        "",
        "| row | part | what | tau 0 | tau 1 | tau 3 | tau 5 |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in ROWS:
        if r.name not in macro or r.without or r.likelihood:
            continue
        cells = []
        for t in TAUS:
            reference = "sqrc" if t else "base"
            against = None if r.name == reference else macro.get(reference, {}).get(t)
            cells.append(_against(macro[r.name].get(t), against))
        lines.append(f"| `{r.name}` | {r.part} | {r.says} | {' | '.join(cells)} |")
    return lines


def _contexts_table(macro: Macro) -> list[str]:
    if not any(f"context-{n}" in macro for n in CONTEXTS):
        return []
    lines = [
        "",
        "## Contexts",
        "",
        "Likelihood, not bytes: the integer format has the 22 taps of M_7^3 and a local base that M_7^1 cannot have."
        " These rows are code lengths of the float networks (neutral bank entry, lossy layer on, linear stage counted"
        " at 6 bits a coefficient). Linear stage, features and borders follow the same rules for all five;"
        " `base-likelihood` is the baseline's network and the format's own features measured in the same way. Steps are"
        " those that decode a patch in parallel, n P - (n - 1). M_7^2 and M_7^1 have taps in rows below, as in the"
        " paper.",
        "",
        "| row | context | taps | steps, 64 x 64 | steps, 256 x 256 | angle | bits/px, likelihood | to M_7^3 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    reference = macro.get("context-3", {}).get(0)

    def difference(value: float) -> str:
        return f"{100 * (value / reference - 1):+.2f} %" if reference else ""

    for n in CONTEXTS:
        if f"context-{n}" in macro:
            v = macro[f"context-{n}"][0]
            lines.append(
                f"| `context-{n}` | M_7^{n} | {len(taps(n))} | {step_count(n, 64)} | {step_count(n, 256)} |"
                f" {scan_angle(n):.1f} | {v:.3f} | {difference(v)} |"
            )
    if "base-likelihood" in macro:
        v = macro["base-likelihood"][0]
        lines.append(
            f"| `base-likelihood` | M_7^3 | 22 | {step_count(3, 64)} | {step_count(3, 256)} | {scan_angle(3):.1f} |"
            f" {v:.3f} | {difference(v)} |"
        )
    return lines


def _left_out_table(done: dict[str, dict[str, Any]]) -> list[str]:
    rows: list[Row] = [r for r in ROWS if r.without and r.name in done]
    if not rows:
        return []
    lines = [
        "",
        "## Leave one source out",
        "",
        "Bits/px of a dev source at tau = 0 under networks that have seen its family in training (`base`), and under"
        " networks that have not, simulated scanners included.",
        "",
        "| row | dev source | seen | left out | difference |",
        "|---|---|---|---|---|",
    ]
    for r in rows:
        seen, out = (done[n]["bits_per_px"]["0"][r.without] for n in ("base", r.name))
        lines.append(f"| `{r.name}` | {r.without} | {seen:.3f} | {out:.3f} | {100 * (out / seen - 1):+.2f} % |")
    return lines


def table(s: Setting) -> str:
    """Markdown of the rows done so far: dev macro bits per pixel, and the difference to the row compared with."""
    done = done_rows(s.out)
    if "base" not in done:
        raise UnsupportedInputError('no result of row "base" yet: run dlpr-train ablate first', reason="input")
    check_setting(s, done)
    macro = {n: {int(t): statistics.fmean(v.values()) for t, v in d["bits_per_px"].items()} for n, d in done.items()}
    missing = [r.name for r in ROWS if r.name not in done]
    lines = [*_head(s), *_rows_table(macro), *_contexts_table(macro), *_left_out_table(done)]
    if missing:
        lines += ["", f"Rows not run: {', '.join(f'`{n}`' for n in missing)}."]
    return "\n".join(lines) + "\n"
