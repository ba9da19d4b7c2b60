"""Magnitudes to few levels, and other arithmetic of contexts (docs/format section 18)."""

from __future__ import annotations

__all__ = ["divided", "fine_level", "level", "limited"]


def level(v: int) -> int:
    """Magnitude to 12 levels: 0, 1, 2, 3, 4, 5-6, 7-8, 9-12, 13-20, 21-32, 33-63, 64 and above."""
    return sum(v > top for top in (0, 1, 2, 3, 4, 6, 8, 12, 20, 32, 63))


def fine_level(v: int) -> int:
    """Magnitude to 40 levels: 0..7, then four for each doubling."""
    if v < 8:
        return v
    k = v.bit_length() - 1
    return min(39, 4 * (k - 1) + (v >> (k - 2) & 3))


def divided(a: int, b: int) -> int:
    """A / b towards zero."""
    return a // b if a >= 0 else -(-a // b)


def limited(v: int, top: int) -> int:
    """Limit to -top..top."""
    return min(max(v, -top), top)
