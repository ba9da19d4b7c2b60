"""Streams whose pixels the caller expects, proven in tensors: every pixel at once, where a decoder walks step by step.

A decoder's contexts are samples it has decoded. Take the expected ones for them: they give an interval for each symbol,
and the lanes, read with these intervals (on the host), either meet every interval and end where a lane must end, or
they do not. If they do, then by induction over the symbols a decoder finds these very samples: the first symbol has no
decoded sample in its context, and each further one has only samples that are proven. If they do not, nothing is said
about the stream; it must be decoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dlpr.arrays import Bytes8
from dlpr.frame import Stream
from dlpr.modes.networks.exact.known_geometry import geometry
from dlpr.modes.networks.exact.torch_known import KnownChunks, Lossy
from dlpr.modes.networks.exact.torch_parts import HOST, Model
from dlpr.modes.networks.payload import CodedPayload, payload_of

__all__ = ["prove"]


def prove(
    model: Model, streams: Sequence[Stream], expected: Sequence[Bytes8], slab: int, threads: int = 1
) -> list[Bytes8 | None]:
    """Prove of streams of mode coded that they decode to what is expected.

    Parameters
    ----------
    model : Model
        The weights that the streams name, on the device; within `exact_matmul`.
    streams : sequence of Stream
        Parsed.
    expected : sequence of numpy.ndarray
        For each the samples that were coded, uint8 [H, W, channels], coding order; with tau >= 1 those before coding.
    slab : int
        Pixels to work on at a time.
    threads : int
        Of the host's part.

    Returns
    -------
    list
        For each stream what it decodes to, uint8 [H, W, channels], or None where the expected samples are not it.
    """
    out: list[Bytes8 | None] = [None] * len(streams)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    coefficients = {}
    for i, (stream, planes) in enumerate(zip(streams, expected, strict=True)):
        h, p = stream.header, payload_of(stream)
        if planes.shape != (h.height, h.width, h.layout.channels) or p.bank_entry >= model.weights.sizes.bank:
            continue
        linear = HOST.read_linear(model.native, bytes(p.linear_part), h.layout.channels)
        if linear is None:
            continue
        coefficients[i], frac = linear
        groups[(*planes.shape, h.tau, p.patch_exp, p.lane_exp, p.lossy, p.anchor_lossy, frac)].append(i)
    for (height, width, channels, tau, patch_exp, lane_exp, _, anchor_lossy, frac), members in groups.items():
        payloads = [payload_of(streams[i]) for i in members]
        good = np.ones(len(members), bool)
        lossy = None
        if payloads[0].lossy:
            lossy, fits = _lossy_layers(model, payloads, height, width, channels, slab, threads)
            good &= fits
        pixels = torch.from_numpy(np.stack([expected[i] for i in members])).to(model.device)
        known = KnownChunks(
            model,
            geometry(height, width, patch_exp, lane_exp),
            pixels.flatten(1, 2).expand(-1, -1, 3),
            channels,
            tau,
            model.tensor(np.array([p.base for p in payloads])),
            lossy,
            anchor_lossy,
            slab,
        )
        known.predict(known.all, model.tensor(np.stack([coefficients[i] for i in members])), frac)
        intervals = np.array([p.interval for p in payloads])
        packed, ends = known.code(intervals, np.array([p.bank_entry for p in payloads]))
        lanes = [bytes(lane) for p in payloads for patch in p.lanes for lane in patch]
        fits = np.array(HOST.check_lanes(packed, ends, lanes, threads)).reshape(len(members), -1)
        good &= fits.all(1)
        samples = known.pixels[..., :channels].to(torch.uint8).cpu().numpy()
        for k, i in enumerate(members):
            if good[k]:
                out[i] = samples[k].reshape(height, width, channels)
    return out


def _lossy_layers(
    model: Model, payloads: Sequence[CodedPayload], height: int, width: int, channels: int, slab: int, threads: int
) -> tuple[Lossy, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Lossy layers of chunks of one size, and which of their parts are good."""
    gh, gw = -(-height // 64), -(-width // 64)
    together = max(1, slab // (4096 * gh * gw))
    good: list[bool] = []
    layers = []
    for at in range(0, len(payloads), together):
        parts = [p.lossy_part for p in payloads[at : at + together]]
        y_hat, fits = model.decode_latents(parts, gh, gw, threads)
        good += fits
        layers.append(Lossy.of(*model.synthesise(y_hat), height, width, channels))
    return Lossy.joined(layers), np.array(good)
