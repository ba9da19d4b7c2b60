"""Taps, borders and features of a patch (docs/format sections 6 and 8), NumPy int64."""

from __future__ import annotations

import numpy as np

from dlpr.arrays import Ints, clamp

TAPS: tuple[tuple[int, int], ...] = (
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, -1), (-2, 1), (-1, -2), (-2, -2), (-2, 2),
    (0, -3), (-3, 0), (-1, -3), (-3, -1), (-3, 1), (-2, -3), (-2, 3), (-3, -2), (-3, 2), (-3, -3), (-3, 3),
)  # fmt: skip
"""M_7^3: (dy, dx) of the decoded pixels a pixel is predicted from, nearest first."""
NEAR = 11
"""The first of them, whose residuals are features too."""
AROUND = ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1))
"""(dy, dx) of x~ among the features."""
BORDER = 3

TAP_DY, TAP_DX = (np.array(d, np.int64) for d in zip(*TAPS, strict=True))
AROUND_DY, AROUND_DX = (np.array(d, np.int64) for d in zip(*AROUND, strict=True))


class Patch:
    """Samples P, residuals E and their logs G of one patch, with borders around them."""

    def __init__(self, height: int, width: int, base: tuple[int, int, int]) -> None:
        self.height, self.width = height, width
        shape = (height + BORDER, width + 2 * BORDER, 3)
        self.samples = np.zeros(shape, np.int64) + np.array(base)  # rows above, and left of row 0
        self.residuals = np.zeros(shape, np.int64)
        self.logs = np.zeros(shape, np.int64)

    def step(self, s: int) -> tuple[Ints, Ints]:
        """Rows and columns of the pixels of step s, by increasing row."""
        y = np.arange(max(0, (s - self.width + 2) // 2), min(self.height - 1, s // 2) + 1)
        return y, s - 2 * y

    def inside(self) -> Ints:
        """Samples of the patch without its borders: [h, w, 3]."""
        samples: Ints = self.samples[BORDER:, BORDER:-BORDER]
        return samples

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.width + 2 * (self.height - 1)

    def at(self, y: int, x: int) -> tuple[int, int]:
        """Index of a pixel in the bordered arrays."""
        return y + BORDER, x + BORDER

    def complete(self, y: int, x: int) -> None:
        """Repeat a pixel's samples in the borders that show them, once they are known."""
        row, column = self.at(y, x)
        if x == self.width - 1:
            self.samples[row, column + 1 :] = self.samples[row, column]
        if x == 0 and y + 1 < self.height:
            self.samples[row + 1, :BORDER] = self.samples[row, column]

    def taps(self, y: Ints, x: Ints) -> Ints:
        """P at the taps of pixels: [n, 22, 3]."""
        taps: Ints = self.samples[y[:, None] + TAP_DY + BORDER, x[:, None] + TAP_DX + BORDER]
        return taps

    def local_base(self, y: Ints, x: Ints) -> Ints:
        """Mean b of the pixels above and to the left: [n, 3]."""
        above, left = self.samples[y - 1 + BORDER, x + BORDER], self.samples[y + BORDER, x - 1 + BORDER]
        base: Ints = (above + left + 1) >> 1
        return base

    def features(self, y: Ints, x: Ints, pred_0: Ints) -> Ints:
        """Features 0..132 of pixels: [n, 133]."""
        n = len(y)
        b = self.local_base(y, x)
        taps = 4 * (self.taps(y, x) - b[:, None])
        near = (y[:, None] + TAP_DY[:NEAR] + BORDER, x[:, None] + TAP_DX[:NEAR] + BORDER)
        residuals = np.concatenate([self.residuals[near], self.logs[near]], axis=2)
        relative = clamp(4 * pred_0 - 64 * b[:, 0], -2047, 2047)
        return np.concatenate([taps.reshape(n, -1), residuals.reshape(n, -1), relative[:, None]], axis=1)

    def lossy_features(self, y: Ints, x: Ints, y0: int, x0: int, x_tilde: Ints) -> Ints:
        """Features 133..147 of pixels of the patch whose corner is (y0, x0): [n, 15]."""
        height, width = x_tilde.shape[:2]
        rows = clamp(y0 + y[:, None] + AROUND_DY, 0, height - 1)
        columns = clamp(x0 + x[:, None] + AROUND_DX, 0, width - 1)
        return (4 * (x_tilde[rows, columns] - self.local_base(y, x)[:, None])).reshape(len(y), -1)
