"""Plots of an evaluation, PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlpr.evaluation.measure import NETWORK, OWN, Result
from dlpr.evaluation.report import NEAR_REFERENCES, codecs_at, macro, speed

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, told apart by colour-blind readers."""


def _figure(width: float = 6.4, height: float = 4.0) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def rate(results: Sequence[Result], path: Path) -> None:
    """Bits per pixel over tau, beside JPEG-LS NEAR and quantise-then-JPEG-XL; at tau = 0 their lossless modes."""
    figure, axes = _figure()
    taus = sorted({r.tau for r in results})
    at_zero = {NEAR_REFERENCES[0]: "JPEG XL e7", NEAR_REFERENCES[1]: "JPEG-LS"}
    for colour, marker, codec in zip(COLOURS, "o^sD", (OWN, NETWORK, *NEAR_REFERENCES), strict=False):
        points = [(t, at_zero.get(codec, codec) if t == 0 else codec) for t in taus]
        points = [(t, c) for t, c in points if c in codecs_at(results, t)]
        axes.plot(
            [t for t, _ in points], [macro(results, c, t) for t, c in points], marker=marker, color=colour, label=codec
        )
    axes.set(xlabel="tau (largest error, levels)", ylabel="bits/px, macro mean", xticks=taus)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save(figure, path)


def size_and_speed(results: Sequence[Result], path: Path) -> None:
    """Lossless size against encode (filled) and decode (open) speed of one thread."""
    figure, axes = _figure()
    for colour, codec in zip(COLOURS, codecs_at(results, 0), strict=False):
        size, speeds = macro(results, codec, 0), speed(results, codec, 0)
        axes.plot(speeds, (size, size), color=colour, lw=1, alpha=0.6)
        axes.plot(speeds[0], size, "o", color=colour, label=codec)
        axes.plot(speeds[1], size, "o", color=colour, mfc="white")
    axes.set_xscale("log")
    axes.set(xlabel="MP/s, one thread (filled: encode, open: decode)", ylabel="bits/px, lossless, macro mean")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def parts(results: Sequence[Result], path: Path) -> None:
    """Bits per pixel of each part of this codec's streams over tau."""
    figure, axes = _figure()
    own = [r for r in results if r.codec == OWN]
    taus = sorted({r.tau for r in own})
    bottom = [0.0] * len(taus)
    labels = {
        "lanes": "networks: residual",
        "lossy": "networks: lossy layer",
        "linear": "networks: linear stage",
        "coefficients": "JPEG: coefficients",
        "residual": "JPEG: residual",
        "header": "header",
    }
    for colour, (part, label) in zip(COLOURS, labels.items(), strict=False):
        sums = [[8 * getattr(r, part) for r in own if r.tau == t] for t in taus]
        pixels = [sum(r.pixels for r in own if r.tau == t) for t in taus]
        height = [sum(s) / p for s, p in zip(sums, pixels, strict=True)]
        axes.bar([str(t) for t in taus], height, bottom=bottom, color=colour, label=label)
        bottom = [a + b for a, b in zip(bottom, height, strict=True)]
    axes.set(xlabel="tau", ylabel="bits/px over all pixels")
    axes.legend(frameon=False)
    _save(figure, path)
