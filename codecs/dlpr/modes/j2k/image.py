"""A JPEG 2000 image as numbers: what its code blocks say of the quantised wavelet coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlpr.errors import UnsupportedInputError
from dlpr.modes.j2k.fields import MAX_PLANES, Fields

__all__ = ["Coefficients", "Counts", "J2kImage"]

Coefficients = npt.NDArray[np.int32]
"""Quantised coefficients of a band [rows, columns]: sign and magnitude, the bits that were not decoded 0."""

Counts = npt.NDArray[np.uint8]
"""A number for each code block of a band [block rows, block columns]."""


@dataclass(frozen=True, eq=False)
class J2kImage:
    """Decisions of all code blocks: fields, coefficients, and how far each block was coded.

    These numbers decide the samples, and they are those that an encoder must carry. With K = planes - missing bit
    planes of a block, its passes are: cleanup of plane K - 1, then significance, refinement and cleanup of each plane
    below. After n passes 1 + (n - 1) // 3 planes are complete, and the next plane p has had (n - 1) % 3 passes:

    - 0: nothing of p is known;
    - 1 (significance): coefficients with magnitude exactly 2**p became significant in p and are known down to p, the
      others that are not 0 down to p + 1;
    - 2 (refinement too): all that are not 0 are known down to p.

    So the number of bits that each coefficient has follows from its magnitude and its block's passes, and magnitudes
    have zeros below. `lowest_planes` computes it. Samples take the middle of what is left open.

    Parameters
    ----------
    fields : Fields
        Sizes, transforms, quantiser; ``fields.bands`` names the bands in the order of the arrays below.
    coefficients : tuple of numpy.ndarray
        int32 [rows, columns] for each band, magnitudes below 2**30.
    passes : tuple of numpy.ndarray
        uint8 [block rows, block columns] for each band: coding passes, 0 .. 3 K - 2; 0 where a block is left out.
    missing : tuple of numpy.ndarray
        uint8, the same shape: missing most significant bit planes of each block, 0 where it has no passes.

    Raises
    ------
    UnsupportedInputError
        Arrays do not fit the fields or each other.

    Examples
    --------
    >>> from dlpr.modes.j2k.fields import Colour, Component, Wavelet
    >>> grey = Component((1, 1), Wavelet.REVERSIBLE, ((6, 6),), ((8, 0),), 2)
    >>> fields = Fields((0, 0, 2, 2), (0, 0, 2, 2), (grey,), False, Colour.NONE)
    >>> q, one = np.array([[8, -4], [0, 24]], np.int32), np.ones((1, 1), np.uint8)
    >>> image = J2kImage(fields, (q,), (5 * one,), (4 * one,))  # planes 4 and 3 complete, 2 has its first pass
    >>> image.lowest_planes(0).tolist()
    [[3, 2], [0, 3]]
    """

    fields: Fields
    coefficients: tuple[Coefficients, ...]
    passes: tuple[Counts, ...]
    missing: tuple[Counts, ...]

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit."""
        bands = self.fields.bands
        if not len(self.coefficients) == len(self.passes) == len(self.missing) == len(bands):
            _refuse(f"{len(self.coefficients)} arrays for {len(bands)} bands")
        for number, band in enumerate(bands):
            q = self.coefficients[number]
            if q.dtype != np.int32 or q.shape != band.shape:
                _refuse(f"coefficients of {q.dtype} {q.shape}; int32 {band.shape} are needed")
            for name, counts in (("passes", self.passes[number]), ("missing", self.missing[number])):
                if counts.dtype != np.uint8 or counts.shape != band.grid:
                    _refuse(f"{name} of {counts.dtype} {counts.shape}; uint8 {band.grid} are needed")
        passes = np.concatenate([p.ravel() for p in self.passes])
        missing = np.concatenate([m.ravel() for m in self.missing])
        coded = passes > 0
        planes = self.fields.block_planes - missing
        if np.any(coded & ((planes < 1) | (planes > MAX_PLANES) | (passes > 3 * planes - 2))):
            _refuse("more passes than a block has bit planes")
        if np.any(missing[~coded]):
            _refuse("missing bit planes of a block without passes")

    def lowest_planes(self, band: int) -> npt.NDArray[np.int64]:
        """Lowest bit plane that is known of each coefficient of a band; 0 for coefficients that are 0.

        Parameters
        ----------
        band : int
            Number of the band.

        Returns
        -------
        numpy.ndarray
            int64 [rows, columns].
        """
        place, q = self.fields.bands[band], np.abs(self.coefficients[band].astype(np.int64))
        out = np.zeros(place.shape, np.int64)
        for row, column in np.ndindex(*place.grid):
            window = place.block(row, column)
            count = int(self.passes[band][row, column])
            if not count:
                continue
            complete, more = divmod(count - 1, 3)
            lowest = place.planes - int(self.missing[band][row, column]) - 1 - complete
            if more == 1:  # plane `lowest` - 1 has had its significance pass only
                out[window] = np.where(q[window] == 1 << (lowest - 1), lowest - 1, lowest)
            else:
                out[window] = lowest - (more == 2)
        out[q == 0] = 0
        return out


def _refuse(what: str) -> None:
    """Raise for numbers that are no JPEG 2000 image."""
    raise UnsupportedInputError(f"{what}: not a JPEG 2000 image that the codec takes; code the pixels alone")
