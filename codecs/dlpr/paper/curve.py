"""The curve of a training run as a small SVG: bits per pixel over steps, from the CSV file that training writes."""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["curve_svg"]

SHOWN = (("total", "#1f4e79", "rate of y, z and residual (RC)"), ("sqrc", "#b35900", "residual at a random tau (SQRC)"))
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 320, 48, 16, 16, 40


def curve_svg(log: Path) -> str:
    """Draw ``curve.csv``: bits per pixel from 0 on up to where training began; what is above lies at the upper edge.

    Parameters
    ----------
    log : Path
        What `dlpr.paper.train.train` wrote: a header and a row for every tenth step.

    Raises
    ------
    ValueError
        It has no rows.
    """
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{log} holds no steps: train for longer")
    last = float(rows[-1]["step"])
    top = 5.0 * (max(float(rows[0][name]) for name, _, _ in SHOWN) // 5 + 1)
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(step: float, bits: float) -> str:
        return f"{_LEFT + wide * step / last:.1f},{_TOP + high * (1 - min(bits, top) / top):.1f}"

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
    ]
    for k in range(int(top) // 5 + 1):
        (x, y), (end, _) = at(0, 5 * k).split(","), at(last, 5 * k).split(",")
        out.append(f'<path d="M{x},{y}H{end}" stroke="#ddd"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{5 * k}</text>')
    for k in range(5):
        step = round(last * k / 4)
        x = at(step, 0).split(",")[0]
        out.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{step}</text>')
    out.append(f'<text x="{_LEFT + wide / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">step</text>')
    for k, (name, colour, label) in enumerate(SHOWN):
        points = " ".join(at(float(row["step"]), float(row[name])) for row in rows)
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>')
        row_at = _TOP + 14 + 16 * k
        out.append(f'<text x="{_WIDTH - _RIGHT - 8}" y="{row_at}" text-anchor="end" fill="{colour}">{label}</text>')
    out.append(f'<text x="{_LEFT + 8}" y="{_TOP + high - 8}">bits per pixel, running mean</text></svg>')
    return "\n".join(out) + "\n"
