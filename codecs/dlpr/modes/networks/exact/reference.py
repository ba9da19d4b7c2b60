"""The reference decoder of coded streams: docs/format made executable, in NumPy int64, for reading and for tests.

::

    stream --sections 2 (bitstream.py), 3 (payload.py)--> fields
    lossy part  --5 (lossy.py)--> x~, trunk ------------------------+
    linear part --7 (linear.py)--> predictors ---------------+      |
    lanes --10 (rans.py)--> symbols --9 (mixture.py)--> samples <-- network <-- features (8: geometry.py, layers.py)

All pixels of one step are computed at once up to their symbols; else nothing is done for speed. `dlpr.reference`
decodes streams of any mode.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlpr.arrays import Bytes8, Ints
from dlpr.errors import CorruptError, UnsupportedError
from dlpr.frame import Header, Stream
from dlpr.modes.networks.exact.geometry import Patch
from dlpr.modes.networks.exact.layers import LIMIT, PixelNetwork
from dlpr.modes.networks.exact.linear import LinearStage, parse_linear
from dlpr.modes.networks.exact.lossy import LossyLayer, decode_lossy_part
from dlpr.modes.networks.exact.mixture import Grid, MixtureTables
from dlpr.modes.networks.exact.rans import LaneDecoder, uniform
from dlpr.modes.networks.exact.tables import PRED_MAX
from dlpr.modes.networks.payload import CodedPayload, patch_grid, payload_of
from dlpr.modes.networks.weights import Weights

__all__ = ["CodeSymbol", "code_patch", "decode_lossy", "decode_payload"]

CodeSymbol = Callable[[int, int, int, Grid, list[int]], int]
"""(y, x, channel, grid, F of lo..hi + 1) -> symbol, after reading or writing it in the lane of row y."""


def decode_lossy(stream: Stream, weights: Weights) -> Bytes8:
    """Decode the lossy layer alone, from `dlpr.bitstream.parse_lossy` or a complete stream.

    Returns
    -------
    numpy.ndarray
        x~, uint8 [H, W, channels], coding order.
    """
    header, payload = stream.header, payload_of(stream)
    if not payload.lossy:
        raise UnsupportedError("the stream has no lossy layer; decode all of it instead", offset=32)
    channels = header.layout.channels
    layer = decode_lossy_part(payload.lossy_part, weights, header.height, header.width, channels)
    return layer.x_tilde[..., :channels].astype(np.uint8)


def decode_payload(stream: Stream, weights: Weights) -> Bytes8:
    """Decode a coded stream (section 11), without the check of the samples' checksum.

    Parameters
    ----------
    stream : Stream
        As `dlpr.bitstream.parse` returns it, mode coded.
    weights : Weights
        Those that the stream names.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W, channels], coding order.

    Raises
    ------
    CorruptError
        A value or a lane that no encoder writes.
    """
    header, payload = stream.header, payload_of(stream)
    if payload.bank_entry >= weights.sizes.bank:
        raise CorruptError(f"bank entry {payload.bank_entry}, these weights have {weights.sizes.bank}", offset=35)
    channels = header.layout.channels
    lossy = None
    if payload.lossy:
        lossy = decode_lossy_part(payload.lossy_part, weights, header.height, header.width, channels)
    linear = parse_linear(payload.linear_part, weights, channels)
    out = np.zeros((header.height, header.width, channels), np.uint8)
    mask = (1 << payload.lane_exp) - 1
    for (y0, x0), lane_bytes in zip(patch_corners(header, payload), payload.lanes, strict=True):
        lanes = [LaneDecoder(lane) for lane in lane_bytes]

        def read(y: int, x: int, c: int, grid: Grid, f: list[int], lanes: list[LaneDecoder] = lanes) -> int:
            return read_symbol(lanes[y & mask], grid, f)

        patch = code_patch(header, payload, weights, linear, lossy, y0, x0, read)
        for lane in lanes:
            lane.finish()
        out[y0 : y0 + patch.shape[0], x0 : x0 + patch.shape[1]] = patch[..., :channels]
    return out


def patch_corners(header: Header, payload: CodedPayload) -> list[tuple[int, int]]:
    """Top left corners of the patches, by rows."""
    rows, columns = patch_grid(header, payload.patch_exp)
    return [(i << payload.patch_exp, j << payload.patch_exp) for i in range(rows) for j in range(columns)]


def read_symbol(lane: LaneDecoder, grid: Grid, f: list[int]) -> int:
    """Read a symbol and, at the ends of the interval, its escape (section 9)."""
    q = grid.lo if grid.lo == grid.hi else grid.lo + lane.symbol(f)
    if q == grid.lo > grid.qmin:
        return q - lane.symbol(uniform(grid.lo - grid.qmin + 1))
    if q == grid.hi < grid.qmax:
        return q + lane.symbol(uniform(grid.qmax - grid.hi + 1))
    return q


def code_patch(
    header: Header,
    payload: CodedPayload,
    weights: Weights,
    linear: LinearStage,
    lossy: LossyLayer | None,
    y0: int,
    x0: int,
    code: CodeSymbol,
) -> Ints:
    """Walk over one patch step by step (sections 6 to 9); ``code`` reads or writes each symbol.

    Returns
    -------
    numpy.ndarray
        Reconstructed samples [h, w, 3].
    """
    size, channels, tau = 1 << payload.patch_exp, header.layout.channels, header.tau
    patch = Patch(min(size, header.height - y0), min(size, header.width - x0), payload.base)
    network, tables = PixelNetwork(weights, tau, payload.bank_entry), MixtureTables(weights)
    bias, own, tap_coefficients = linear.matrices()
    for s in range(patch.steps):
        y, x = patch.step(s)
        if len(y) == 0:
            continue
        k = linear.classes_of(y, x)
        # [n, c]: what the taps and the bias add; the channels of the pixel itself follow as they are known
        acc = np.einsum("nctj,ntj->nc", tap_coefficients[k], patch.taps(y, x) - 128) + bias[k]
        features = patch.features(y, x, linear.prediction(acc[:, 0]))
        around, trunk = np.zeros((len(y), 15), np.int64), np.zeros((len(y), 24), np.int64)
        if lossy is not None:
            around = patch.lossy_features(y, x, y0, x0, lossy.x_tilde)
            trunk = lossy.trunk[:, (y0 + y) // 2, (x0 + x) // 2].T
        out = network(np.concatenate([features, around], axis=1), trunk, y0 + y, x0 + x)
        for i, (row, column) in enumerate(zip(y.tolist(), x.tolist(), strict=True)):
            at = patch.at(row, column)
            anchors = lossy.x_tilde[y0 + row, x0 + column].tolist() if lossy and payload.anchor_lossy else payload.base
            e, g = [0, 0, 0], [0, 0, 0]
            for c in range(channels):
                before = own[k[i], c] @ (patch.samples[at] - 128)
                pred = int(linear.prediction(acc[i, c] + before))
                grid = Grid.of(anchors[c], tau, payload.interval, pred)
                f = tables.cumulative(tables.mixture(out[i], c, pred, e, g), grid)
                value = grid.value(code(row, column, c, grid, f))
                e[c] = 16 * value - pred
                g[c] = int(tables.log[min(abs(e[c]), PRED_MAX)])
                same = slice(c, c + 1) if channels == 3 else slice(0, 3)
                patch.samples[(*at, same)] = value
                patch.residuals[(*at, same)] = min(max(e[c], -LIMIT), LIMIT)
                patch.logs[(*at, same)] = g[c] - 64
            patch.complete(row, column)
    return patch.inside()
