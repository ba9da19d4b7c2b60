"""Decoding on a torch device, for the check of what was written. Encoding is native."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr import bitstream
from dlpr.layout import from_planes
from dlpr.modes.colour.payload import ColourPayload
from dlpr.modes.networks import weights as weights_store
from dlpr.modes.networks.payload import CodedPayload
from dlpr_wsi.errors import MissingDependencyError, UsageError

__all__ = ["decode_on_device", "require_device"]

_BYTES_PER_PIXEL = 6000  # of device memory for one px of a batch, rounded up
_lock = threading.Lock()  # one batch at a time: the memory below is counted once


def require_device(device: str) -> None:
    """Raise unless torch is installed and the device is there."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", "gpu") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--gpu", "torch finds no CUDA device on this machine")


def decode_on_device(streams: Sequence[bytes], device: str, threads: int) -> list[NDArray[np.uint8]]:
    """Decode streams of the networks on the device, in batches that fit into its memory; others on the CPU."""
    from dlpr.modes.colour import torch_pixels
    from dlpr.modes.networks.exact import torch_decoder

    decoders = {CodedPayload: torch_decoder.decode_batch, ColourPayload: torch_pixels.decode_batch}

    out: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(streams)
    parsed = [bitstream.parse(stream) for stream in streams]
    coded = [i for i, stream in enumerate(parsed) if type(stream.payload) in decoders]
    rest = [i for i in range(len(streams)) if i not in set(coded)]
    for i, image in zip(rest, dlpr.decode_batch([streams[i] for i in rest], threads=threads), strict=True):
        out[i] = image
    with _lock:
        while coded:
            kind, weights_id = _kind(parsed[coded[0]])
            header = parsed[coded[0]].header
            limit = max(1, _free_bytes(device) // (_BYTES_PER_PIXEL * header.height * header.width))
            batch = [i for i in coded if _kind(parsed[i]) == (kind, weights_id)][:limit]
            images = decoders[kind]([parsed[i] for i in batch], weights_store.find(weights_id), device)
            for i, planes in zip(batch, images, strict=True):
                header = parsed[i].header
                out[i] = from_planes(planes, header.layout)
                bitstream.check_pixels(header, out[i])
            coded = [i for i in coded if i not in set(batch)]
    return out


def _kind(stream: bitstream.Stream) -> tuple[type, bytes]:
    """What is decoded together: one mode, one set of weights."""
    return type(stream.payload), getattr(stream.payload, "weights_id", b"")


def _free_bytes(device: str) -> int:
    """Return the memory that a batch may use: nine tenths of what the device has free."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info()
        return int(free) * 9 // 10
    return 2 << 30
