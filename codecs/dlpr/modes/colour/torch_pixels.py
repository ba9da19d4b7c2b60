"""Mode colour in tensors: planes by the torch decoder of mode coded, then C2 and C3 in 32-bit integers.

Planes that are kept as JPEGs are decoded on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dlpr import _native
from dlpr.arrays import Bytes8
from dlpr.errors import CorruptError
from dlpr.frame import Stream
from dlpr.layout import CODING_ORDER
from dlpr.modes.colour.chroma import ChromaShape, Filter
from dlpr.modes.colour.lattice import MAX_INNER, Lattice, Products, Rounding
from dlpr.modes.colour.payload import COLOUR_SIZE, payload_of, plane_streams, three_planes
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.jpeg.stream import decode_planes as decode_jpegs
from dlpr.modes.networks.exact import torch_decoder
from dlpr.modes.networks.weights import Weights

__all__ = ["decode_batch"]


def decode_batch(streams: Sequence[Stream], weights: Weights, device: str | torch.device = "cpu") -> list[Bytes8]:
    """Decode streams of mode colour, without the check of the samples' checksum.

    Parameters
    ----------
    streams : sequence of Stream
        As `dlpr.bitstream.parse` returns them, of the same weights.
    weights : Weights
        Those that the streams name.
    device : str or torch.device
        Where to compute; residuals are decoded on the host. The result does not depend on it.

    Returns
    -------
    list of numpy.ndarray
        uint8 [H, W, 3] each, coding order.

    Raises
    ------
    CorruptError
        A stream holds a value that no encoder writes.
    """
    where = torch.device(device)
    planes = [plane_streams(s) for s in streams]
    coded = [x for three in planes for x in three if isinstance(x, Stream) and not isinstance(x.payload, JpegPayload)]
    decoded = iter(torch_decoder.decode_batch(coded, weights, where) if coded else [])
    out = []
    for i, stream in enumerate(streams):
        p, h = payload_of(stream), stream.header
        arrays = []
        for plane in planes[i]:
            if isinstance(plane, Stream) and isinstance(plane.payload, JpegPayload):
                (array,) = decode_jpegs([plane])
                if isinstance(array, CorruptError):
                    raise CorruptError(f"a plane is damaged: {array.message} (stream {i})", offset=COLOUR_SIZE)
                arrays.append(array)
            elif isinstance(plane, Stream):
                arrays.append(next(decoded))
            else:
                header, value = plane
                arrays.append(np.full((header.height, header.width, 1), value, np.uint8))
        three = [torch.from_numpy(x).to(where, torch.int32) for x in three_planes(arrays)]
        full = [upsample(p.shape, plane, h.height, h.width) for plane in three[1:]]
        made = pixels(p.lattice, three[0], full[0], full[1])[..., list(CODING_ORDER)]
        array = np.ascontiguousarray(made.to(torch.uint8).cpu().numpy())
        if len(p.residual_part):
            whole: Bytes8 | None = _native.residual_decode(array, bytes(p.residual_part), h.tau)
            if whole is None:
                raise CorruptError(f"the residual is damaged (stream {i})", offset=COLOUR_SIZE)
            array = whole
        out.append(array)
    return out


def upsample(shape: ChromaShape, plane: Tensor, height: int, width: int) -> Tensor:
    """C3: int32 [height, width]."""
    if shape.filter is Filter.NONE:
        return plane
    rows = _taps(shape, height, shape.vertical, shape.row, plane.device)
    columns = _taps(shape, width, shape.horizontal, shape.column, plane.device)
    t = rows[2] * plane[rows[0]].mT + rows[3] * plane[rows[1]].mT
    t = columns[2] * t[columns[0]].mT + columns[3] * t[columns[1]].mT
    both = shape.vertical * shape.horizontal == 4
    if shape.filter is Filter.REPETITION:
        return t
    if shape.filter is Filter.MEAN:
        return (t + 2) >> 2 if both else (t + 1) >> 1
    odd_row = ((torch.arange(height, device=plane.device) + shape.row) & 1).to(torch.int32)[:, None]
    odd_column = ((torch.arange(width, device=plane.device) + shape.column) & 1).to(torch.int32)
    if both:
        return (t + 8 - odd_column) >> 4
    return (t + 1 + (odd_row if shape.horizontal == 1 else odd_column)) >> 2


def _taps(shape: ChromaShape, n: int, factor: int, parity: int, device: torch.device) -> tuple[Tensor, ...]:
    """Two samples for each row or column, and their weights."""
    i = torch.arange(n, device=device)
    one, zero = torch.ones(n, dtype=torch.int32, device=device), torch.zeros(n, dtype=torch.int32, device=device)
    if factor == 1:
        return i, i, one, zero
    k = i + (2 - parity if shape.filter is Filter.TRIANGLE else parity)
    j, odd = k >> 1, k & 1
    if shape.filter is Filter.REPETITION:
        return j, j, one, zero
    if shape.filter is Filter.MEAN:
        return j, j + odd, one, one
    return j, j + 2 * odd - 1, 3 * one, one


def pixels(lattice: Lattice, luma: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """C2: red, green, blue, int32 [..., 3] in 0..255. No sum leaves 32 bits."""

    def divide(n: Tensor) -> Tensor:
        d = lattice.denominator
        if lattice.rounding is Rounding.TRUNCATE:
            return torch.div(n, d, rounding_mode="trunc")
        if lattice.rounding is Rounding.CEIL:
            return -torch.div(-n, d, rounding_mode="floor")
        half = d // 2 if lattice.rounding is Rounding.NEAREST else 0
        return torch.div(n + half, d, rounding_mode="floor")

    y, u, v = luma - lattice.offset, cb - 128, cr - 128
    if lattice.products is Products.EACH:
        grey = divide(lattice.luma * y)
        red, blue = grey + divide(lattice.red * v), grey + divide(lattice.blue * u)
        green = grey + divide(lattice.green_blue * u) + divide(lattice.green_red * v)
    else:
        red, blue = divide(lattice.luma * y + lattice.red * v), divide(lattice.luma * y + lattice.blue * u)
        if lattice.products is Products.GREEN_OF_ROUNDED:
            u = divide(lattice.blue * u).clamp(-MAX_INNER, MAX_INNER)
            v = divide(lattice.red * v).clamp(-MAX_INNER, MAX_INNER)
        green = divide(lattice.luma * y + lattice.green_blue * u + lattice.green_red * v)
    return torch.stack([red, green, blue], -1).clamp(0, 255)
