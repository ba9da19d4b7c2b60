"""The masked contexts M_7^5 .. M_7^1 of the paper at the slide profile's scale, for ablations.

The integer format has the taps of M_7^3. Here the linear stage and the causal features come from the exact taps of any
context, all five by the same rules, so that rows compare with each other: regressors and features nearest first, the 11
nearest taps give residuals too, the local base is the mean of the two nearest, and everything outside a block is its
base colour. Code length is that of the mixture (float); coefficients of the linear stage are counted at 6 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlpr import _native
from dlpr.modes.networks.exact.geometry import BORDER, NEAR
from dlpr.modes.networks.exact.tables import PRED_MAX, PRED_MIN, log_table
from dlpr.paper.context import taps as tap_set
from dlpr.training.data import Block, save_arrays

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
CONTEXTS = (5, 4, 3, 2, 1)
KERNEL = 7
FRAC = 8
COEFFICIENT_BITS, GROUP_BITS = 6.0, 40.0
LOG_TABLE = log_table()


def taps(n: int) -> I32:
    """Offsets (dy, dx) of M_7^n, nearest first, [taps, 2]."""
    return np.array(sorted(tap_set(KERNEL, n), key=lambda t: (t[0] ** 2 + t[1] ** 2, -t[0], t[1])), np.int32)


def feature_count(n: int) -> int:
    """Causal features of a pixel under M_7^n."""
    return 3 * len(taps(n)) + 6 * NEAR + 1


def features(block: Block, window: tuple[slice, slice], where: I32, n: int) -> tuple[Any, Any]:
    """Features int16 [pixels, feature_count(n)] and local bases int16 [pixels, 3] of pixels of a window of a block."""
    x, pred = (np.ascontiguousarray(a[window]) for a in (block.x, block.pred))
    return _native.context_features(x, pred, block.base, LOG_TABLE, where, taps(n), NEAR)  # type: ignore[no-any-return]


UNION = np.array(sorted({t for n in CONTEXTS for t in map(tuple, taps(n).tolist())}), np.int32)
OWN = 3 * len(UNION)
"""First column of the pixel's own channels in the design matrix; the constant follows them."""


@dataclass(frozen=True)
class LinearFit:
    """Linear stage of one block: predictions int16 [h,w,3] in 1/16 level, and what its coefficients cost."""

    pred: npt.NDArray[np.int16]
    bits: float


def _columns(n: int, c: int) -> list[int]:
    """Columns of the design matrix for channel c: constant, channels before, taps with the own channel first."""
    place = {t: 3 * i for i, t in enumerate(map(tuple, UNION.tolist()))}
    order = [c, *(k for k in range(3) if k != c)]
    near = [place[t] + k for t in map(tuple, taps(n).tolist()) for k in order]
    return [OWN + 3, *(OWN + k for k in range(c)), *near]


def _fit(gram: F64, count: float, n: int, c: int) -> tuple[F64, float]:
    """Quantised coefficients over all columns and the estimated cost in bits, size chosen as the codec does."""
    return fit_columns(gram, count, _columns(n, c), OWN + c, c)


def fit_columns(gram: F64, count: float, cols: list[int], target: int, before: int) -> tuple[F64, float]:
    """Predict column ``target`` of a design matrix from the first of ``cols``, as many as pay.

    ``gram`` [k,k] is the matrix's Gram matrix, ``count`` its rows; ``cols`` begins with the constant and ``before``
    channels of the same pixel, which are always used. Gives quantised coefficients [k] and the estimated cost in bits.
    """
    ridge = np.full(len(cols), 1e-4 * count + 1)
    ridge[0] = 1e-6
    lower = np.linalg.cholesky(gram[np.ix_(cols, cols)] + np.diag(ridge))
    z = np.linalg.solve(lower, gram[cols, target])
    left = np.maximum(gram[target, target] - np.cumsum(z**2), 0)[before:]
    size = np.arange(len(left))
    cost = 0.5 * count * np.log2(left / count + 0.02) + COEFFICIENT_BITS * (size + before) + GROUP_BITS
    m = 1 + before + int(cost.argmin())
    free, out = z[:m].copy(), np.zeros(len(gram))
    for i in range(m - 1, -1, -1):  # what rounding changes is passed on to the regressors still free
        unit = 8 if i == 0 else 1 << FRAC
        value = max(-8191, min(8191, round(float(free[i] / lower[i, i]) * unit))) / unit
        free[:i] -= lower[i, :i] * value
        out[cols[i]] = value
    return out, float(cost.min())


def linear_bits(coefficients: int, classes: int) -> float:
    """What a linear stage is counted at: all coefficients it stores, and the headers of their groups."""
    return COEFFICIENT_BITS * coefficients + 3 * GROUP_BITS * classes


PHASES = [(slice(a, None, 2), slice(b, None, 2)) for a in (0, 1) for b in (0, 1)]
CLASSES = (((0, 1, 2, 3),), ((0, 2), (1, 3)), ((0,), (1,), (2,), (3,)))
"""Phases that share a predictor, for 1, 2 and 4 classes."""


def _fit_phases(grams: list[F64], counts: list[int], n: int) -> tuple[F64, float]:
    """Coefficients of each phase [4, 3, columns] under the number of classes that costs least, and their bits."""
    best, out, bits = np.inf, np.zeros((4, 3, OWN + 4)), 0.0
    for classes in CLASSES:
        total, found, stored = 0.0, np.zeros_like(out), 0
        for group in classes:
            gram = np.sum([grams[k] for k in group], axis=0)
            fits = [_fit(gram, float(sum(counts[k] for k in group)), n, c) for c in range(3)]
            found[list(group)] = np.stack([coefficients for coefficients, _ in fits])
            total += sum(cost for _, cost in fits)
            stored += int(np.count_nonzero(found[group[0]]))
        if total < best:
            best, out, bits = total, found, linear_bits(stored, len(classes))
    return out, bits


def linear_stages(x: npt.NDArray[np.uint8], base: npt.NDArray[np.uint8], contexts: tuple[int, ...]) -> list[LinearFit]:
    """Linear stage of a block under each of some contexts: one predictor for each of 1, 2 or 4 classes of phases."""
    h, w = x.shape[:2]
    edge = np.empty((h + 2 * BORDER, w + 2 * BORDER, 3), np.float64)
    edge[:] = base
    edge[BORDER : BORDER + h, BORDER : BORDER + w] = x
    shifted = [edge[BORDER + dy : BORDER + dy + h, BORDER + dx : BORDER + dx + w] for dy, dx in [*UNION, (0, 0)]]
    design = np.concatenate([*(s - 128 for s in shifted), np.ones((h, w, 1))], 2)
    rows = [design[p].reshape(-1, OWN + 4) for p in PHASES]
    grams, counts = [r.T @ r for r in rows], [len(r) for r in rows]
    out = []
    for n in contexts:
        coefficients, bits = _fit_phases(grams, counts, n)
        pred = np.empty((h, w, 3), np.int16)
        for p, r, weight in zip(PHASES, rows, coefficients, strict=True):
            value = np.floor(16 * (r @ weight.T + 128) + 0.5)
            pred[p] = np.clip(value, PRED_MIN, PRED_MAX).reshape(*pred[p].shape)
        out.append(LinearFit(pred, bits))
    return out


def context_blocks(groups: dict[str, list[Block]], n: int, cache: Path) -> dict[str, list[Block]]:
    """Every second block with the linear stage of M_7^n; those of all contexts are made at once and kept on disk."""
    cache.mkdir(parents=True, exist_ok=True)
    out = {}
    for name, every in groups.items():
        blocks, stem = every[::2], name.replace(":", "_")
        if not (cache / f"{stem}-{CONTEXTS[-1]}.npz").exists():
            fits = [linear_stages(b.x, b.base, CONTEXTS) for b in blocks]
            for i, m in enumerate(CONTEXTS):
                save_arrays(cache / f"{stem}-{m}.npz", {f"p{j}": f[i].pred for j, f in enumerate(fits)})
            print(f"linear stages {name}: {len(blocks)}", flush=True)
        with np.load(cache / f"{stem}-{n}.npz") as z:
            out[name] = [Block(b.x, z[f"p{j}"], b.base) for j, b in enumerate(blocks)]
    return out
