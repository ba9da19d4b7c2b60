"""The torch decoder: one wavefront step at a time for all patches of all chunks of a batch, on any device.

::

    streams --lossy parts (host: rANS of the latents; device: networks)--> x~, trunk of every chunk
            --patches grouped by (network, channels, patch size, lanes)--> for each step of a group:
                 features, network: all pixels of the step of all patches, matrix products in fp32
                 symbols: rows of the step in blocks of 2^l, so that each lane is named once in a block

It equals `reference.py` bit for bit. Imported on request only: reading an archive does not need torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dlpr.arrays import Bytes8
from dlpr.errors import CorruptError, UnsupportedError
from dlpr.frame import Stream
from dlpr.modes.networks.exact.linear import LinearStage, parse_linear
from dlpr.modes.networks.exact.reference import patch_corners
from dlpr.modes.networks.exact.torch_group import PatchGroup, PatchJob
from dlpr.modes.networks.exact.torch_parts import I32, Model, exact_matmul
from dlpr.modes.networks.payload import CodedPayload, payload_of
from dlpr.modes.networks.weights import Weights

__all__ = ["decode_batch", "decode_lossy_batch", "decode_with"]


@dataclass
class _Chunk:
    """One stream of the batch on its way."""

    stream: Stream
    payload: CodedPayload
    linear: LinearStage | None = None
    x_tilde: Tensor | None = None
    trunk: Tensor | None = None


def decode_batch(streams: Sequence[Stream], weights: Weights, device: str | torch.device = "cpu") -> list[Bytes8]:
    """Decode coded streams, without the check of the samples' checksum.

    Parameters
    ----------
    streams : sequence of Stream
        As `dlpr.bitstream.parse` returns them, of mode coded and of the same weights; sizes, tau and options may
        differ. Streams of other modes are for `dlpr.decode_batch`.
    weights : Weights
        Those that the streams name.
    device : str or torch.device
        Where to compute. The result does not depend on it.

    Returns
    -------
    list of numpy.ndarray
        uint8 [H, W, channels] each, coding order.

    Raises
    ------
    CorruptError
        A stream holds a value that no encoder writes; the message names its place in the batch.
    DeviceError
        The device rounds fp32 products.
    """
    where = torch.device(device)
    with torch.inference_mode(), exact_matmul(where):
        return decode_with(Model(weights, where), streams)


def decode_with(model: Model, streams: Sequence[Stream], threads: int = 1) -> list[Bytes8]:
    """Decode as `decode_batch`, with a model that is on its device already; within `exact_matmul`."""
    chunks, weights = [_Chunk(s, payload_of(s)) for s in streams], model.weights
    for i, chunk in enumerate(chunks):
        if chunk.payload.bank_entry >= weights.sizes.bank:
            have = weights.sizes.bank
            raise CorruptError(
                f"bank entry {chunk.payload.bank_entry}, these weights have {have} (stream {i})", offset=35
            )
    _decode_lossy_parts(model, chunks, threads)
    groups: dict[tuple[bool, int, int, int], list[PatchJob]] = defaultdict(list)
    out: list[Bytes8] = []
    for i, chunk in enumerate(chunks):
        header, payload = chunk.stream.header, chunk.payload
        channels = header.layout.channels
        out.append(np.zeros((header.height, header.width, channels), np.uint8))
        with _named(i):
            linear = parse_linear(payload.linear_part, weights, channels)
        key = (header.tau == 0, channels, payload.patch_exp, payload.lane_exp)
        for (y0, x0), lanes in zip(patch_corners(header, payload), payload.lanes, strict=True):
            groups[key].append(PatchJob(i, header, payload, linear, y0, x0, lanes, chunk.x_tilde, chunk.trunk))
    for jobs in groups.values():
        group = PatchGroup(model, jobs)
        group.decode()
        for job, bad, samples in zip(jobs, group.damaged(), group.result(), strict=True):
            if bad:
                raise CorruptError(f"a lane does not fit its symbols; fetch the stream again (stream {job.chunk})")
            out[job.chunk][job.y0 : job.y0 + samples.shape[0], job.x0 : job.x0 + samples.shape[1]] = samples
    return out


def decode_lossy_batch(streams: Sequence[Stream], weights: Weights, device: str | torch.device = "cpu") -> list[Bytes8]:
    """Decode the lossy layers of coded streams alone: x~, uint8 [H, W, channels] each, coding order."""
    where = torch.device(device)
    chunks = [_Chunk(s, payload_of(s)) for s in streams]
    for i, chunk in enumerate(chunks):
        if not chunk.payload.lossy:
            raise UnsupportedError(f"stream {i} has no lossy layer; decode all of it instead", offset=32)
    with torch.inference_mode(), exact_matmul(where):
        _decode_lossy_parts(Model(weights, where), chunks, 1)
    out: list[Bytes8] = []
    for chunk in chunks:
        if chunk.x_tilde is not None:
            x_tilde = chunk.x_tilde[..., : chunk.stream.header.layout.channels]
            out.append(x_tilde.to(torch.uint8).cpu().numpy())
    return out


@contextmanager
def _named(index: int) -> Iterator[None]:
    """Add a stream's place in the batch to an error."""
    try:
        yield
    except CorruptError as error:
        error.message += f" (stream {index})"
        raise


def _decode_lossy_parts(model: Model, chunks: Sequence[_Chunk], threads: int) -> None:
    """Section 5 for the chunks that have a lossy layer, those of one size together."""
    by_size: dict[tuple[int, int], list[tuple[int, _Chunk]]] = defaultdict(list)
    for i, chunk in enumerate(chunks):
        header = chunk.stream.header
        if chunk.payload.lossy:
            by_size[(-(-header.height // 64), -(-header.width // 64))].append((i, chunk))
    for (gh, gw), members in by_size.items():
        y_hat, good = model.decode_latents([chunk.payload.lossy_part for _, chunk in members], gh, gw, threads)
        if not all(good):
            number = members[good.index(False)][0]
            raise CorruptError(f"the lossy part does not fit its symbols; fetch the stream again (stream {number})")
        x_tilde, trunk = model.synthesise(y_hat)
        for k, (_, chunk) in enumerate(members):
            header = chunk.stream.header
            x = x_tilde[k, [0, 0, 0]] if header.layout.channels == 1 else x_tilde[k]
            chunk.x_tilde = x.permute(1, 2, 0)[: header.height, : header.width].to(I32)
            chunk.trunk = trunk[k].permute(1, 2, 0).to(I32)
