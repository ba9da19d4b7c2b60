"""Which coefficients reach a sample that is kept: intervals of a band's rows or columns (docs/format J6)."""

from __future__ import annotations

__all__ = ["Interval", "bands_behind", "farthest"]

Interval = tuple[int, int]
"""First and behind the last, in coordinates of the samples or of the band (Part 1, Annex B); may be empty."""


def bands_behind(kept: Interval, extent: Interval, levels: int, reversible: bool) -> list[tuple[Interval, Interval]]:
    """Return what of low and high bands along one axis reaches samples.

    A value of a resolution depends on low values at most three places away in it and on high ones at most four (5/3:
    one and two), symmetric extension included, for what is mirrored lies nearer.

    Parameters
    ----------
    kept : tuple of int
        Samples that are kept, within ``extent``; empty where there are none.
    extent : tuple of int
        Samples of the tile.
    levels : int
        Number of decompositions.
    reversible : bool
        The wavelet is 5/3.

    Returns
    -------
    list of tuple
        (low, high) for each resolution from the highest down; the last one's low is what LL holds. Without
        decompositions a single entry, its low the samples themselves.

    Examples
    --------
    >>> bands_behind((10, 11), (0, 64), 1, False)
    [((4, 7), (3, 7))]
    >>> bands_behind((3, 9), (0, 9), 0, False)
    [((3, 9), (0, 0))]
    """
    if kept[0] >= kept[1]:
        return [((0, 0), (0, 0))] * max(levels, 1)
    if not levels:
        return [(kept, (0, 0))]
    out = []
    (first, end), (start, stop) = kept, extent
    before, behind = (0, 2) if reversible else (2, 4)
    for _ in range(levels):
        high = max((first - before - 2) >> 1, start >> 1), min((end + behind) >> 1, stop >> 1)
        start, stop = (start + 1) >> 1, (stop + 1) >> 1
        first, end = max((first - before) >> 1, start), min((end + behind) >> 1, stop)
        out.append(((first, end), high))
    return out


def farthest(levels: int) -> int:
    """Return how many samples away a coefficient reaches with the 9/7 wavelet.

    Examples
    --------
    >>> farthest(5)
    109
    """
    return 7 * (1 << (levels - 1)) - 3 if levels else 0
