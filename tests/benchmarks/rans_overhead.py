"""What a 32-bit rANS coder costs above the entropy, by lower bound and renormalisation (docs/decisions/0003)."""

from __future__ import annotations

import math

import numpy as np

TOTAL = 1 << 16


def overhead(freqs: list[int], starts: list[int], low_bits: int, unit: int) -> float:
    """Bits written for symbols with these frequencies and starts; the state is in [2^low, 2^(low + unit))."""
    x, bits = 1 << low_bits, 0
    for f, c in zip(freqs, starts, strict=True):
        limit = f << (low_bits - 16 + unit)
        while x >= limit:
            x >>= unit
            bits += unit
        x = (x // f << 16) + c + x % f
    return bits + math.log2(x) - low_bits


def main() -> None:
    """Print a table over the scale of a discretised logistic."""
    rng = np.random.default_rng(0)
    n, symbols = 150_000, 81
    print("| logistic scale | bits/symbol | 2^16, 16-bit words | 2^23, bytes |\n|---|---|---|---|")
    for scale in (0.1, 0.5, 1, 3, 8):
        edges = np.arange(-40.5, 41.5) - rng.random() * 0.9
        cdf = np.floor(1 / (1 + np.exp(-edges / scale)) * (TOTAL - symbols)).astype(int) + np.arange(symbols + 1)
        cdf[0], cdf[-1] = 0, TOTAL
        f = np.diff(cdf)
        s = rng.choice(symbols, n, p=f / TOTAL)
        ideal = float(-np.log2(f[s] / TOTAL).sum())
        row = [overhead(f[s].tolist(), cdf[s].tolist(), low, unit) / ideal - 1 for low, unit in ((16, 16), (23, 8))]
        print(f"| {scale} | {ideal / n:.3f} | {row[0]:+.3%} | {row[1]:+.4%} |")


if __name__ == "__main__":
    main()
