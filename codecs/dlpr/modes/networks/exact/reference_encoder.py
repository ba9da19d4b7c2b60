"""A minimal encoder in the style of the reference decoder: every choice is the caller's (docs/format section 12).

For tests, which code random choices, and for readers of the specification. `dlpr.encode` chooses well and fast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dlpr.arrays import Bytes8, Ints
from dlpr.frame import Header, Mode, Stream, crc32c
from dlpr.layout import Layout, from_planes
from dlpr.modes.networks.exact.linear import Group, LinearStage, pack_linear
from dlpr.modes.networks.exact.lossy import code_latents, synthesise
from dlpr.modes.networks.exact.mixture import Grid, nearest
from dlpr.modes.networks.exact.rans import LaneEncoder, Latents, uniform
from dlpr.modes.networks.exact.reference import code_patch, patch_corners
from dlpr.modes.networks.payload import CodedPayload
from dlpr.modes.networks.weights import Weights

NO_PREDICTOR = Group(0, 0, 32, 0, np.zeros(0, np.int64))


def flat_linear_stage(channels: int) -> LinearStage:
    """Return a linear stage that predicts mid-grey."""
    groups = tuple(replace(NO_PREDICTOR, coefficients=np.zeros(c, np.int64)) for c in range(channels))
    return LinearStage(8, (groups,))


@dataclass(frozen=True)
class Choices:
    """What an encoder is free to choose."""

    z_sym: Ints | None = None
    """Symbols of z, [Nz, GH, GW]; None leaves the lossy layer out."""
    y_sym: Ints | None = None
    """Symbols of y, [N, 4GH, 4GW]."""
    anchor_lossy: bool = False
    linear: LinearStage | None = None
    bank_entry: int = 0
    interval: int = 255
    patch_exp: int = 6
    lane_exp: int = 0
    base: tuple[int, int, int] = (128, 128, 128)


def encode(planes: Bytes8, tau: int, weights: Weights, choices: Choices, layout: Layout | None = None) -> Stream:
    """Encode a chunk.

    Parameters
    ----------
    planes : numpy.ndarray
        uint8 [H, W, 1 or 3], coding order.
    tau : int
        Bound on the error of every sample, 0..255.
    weights : Weights
        Weights to code with.
    choices : Choices
        All else.
    layout : Layout, optional
        Layout that the header tells; (H, W, channels) if not given.

    Returns
    -------
    Stream
        For `dlpr.bitstream.pack`.
    """
    height, width, channels = planes.shape
    layout = layout or Layout.of((height, width, 1 if channels == 1 else 3))[0]
    linear = choices.linear or flat_linear_stage(channels)
    lossy, lossy_part = None, b""
    if choices.z_sym is not None and choices.y_sym is not None:
        symbols = {"z": choices.z_sym, "y": choices.y_sym}
        lane, latents = LaneEncoder(), Latents(weights)

        def write_latent(which: tuple[str, int, int, int], scale: int) -> int:
            symbol = int(symbols[which[0]][which[1:]])
            latents.encode(lane, scale, symbol)
            return symbol

        y_hat = code_latents(weights, height, width, write_latent)
        lossy, lossy_part = synthesise(weights, y_hat, height, width, channels), lane.finish()
    header = Header(Mode.CODED, tau, layout, height, width, 0)
    payload = CodedPayload(
        weights.id, lossy is not None, choices.anchor_lossy, choices.patch_exp, choices.lane_exp, choices.bank_entry,
        choices.interval, choices.base, lossy_part, pack_linear(linear, weights), (),
    )  # fmt: skip
    decoded = np.zeros_like(planes)
    all_lanes: list[tuple[bytes, ...]] = []
    for y0, x0 in patch_corners(header, payload):
        lanes, part = [LaneEncoder() for _ in range(1 << choices.lane_exp)], planes[y0:, x0:]

        def write(
            y: int, x: int, c: int, grid: Grid, f: list[int], part: Bytes8 = part, lanes: list[LaneEncoder] = lanes
        ) -> int:
            symbol = nearest(int(part[y, x, c]), grid.anchor, tau)
            write_symbol(lanes[y % len(lanes)], grid, f, symbol)
            return symbol

        patch = code_patch(header, payload, weights, linear, lossy, y0, x0, write)
        decoded[y0 : y0 + patch.shape[0], x0 : x0 + patch.shape[1]] = patch[..., :channels]
        all_lanes.append(tuple(lane_encoder.finish() for lane_encoder in lanes))
    header = replace(header, pixel_crc=crc32c(from_planes(decoded, layout), 0))
    return Stream(header, replace(payload, lanes=tuple(all_lanes)))


def write_symbol(lane: LaneEncoder, grid: Grid, f: list[int], symbol: int) -> None:
    """Write a symbol and, at the ends of the interval, its escape (section 9)."""
    q = min(max(symbol, grid.lo), grid.hi)
    if grid.lo < grid.hi:
        lane.symbol(f, q - grid.lo)
    if q == grid.lo > grid.qmin:
        lane.symbol(uniform(grid.lo - grid.qmin + 1), grid.lo - symbol)
    elif q == grid.hi < grid.qmax:
        lane.symbol(uniform(grid.qmax - grid.hi + 1), symbol - grid.hi)
