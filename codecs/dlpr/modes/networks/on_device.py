"""Batches of mode coded on a device of torch: what fits into its memory together, and what to do where it does not.

::

    chunks --those of one size--> as many as the device's memory holds (predicted) --> torch_encoder, torch_expected,
                                  out of memory: half as many, then the CPU            torch_decoder

What is coded does not depend on any of it.
"""

from __future__ import annotations

import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch

from dlpr.arrays import Bytes8
from dlpr.config import SlideProfile
from dlpr.device import Device
from dlpr.errors import CorruptError, DeviceError, DeviceWarning
from dlpr.frame import Stream
from dlpr.modes.networks import weights as weights_store
from dlpr.modes.networks.exact.torch_decoder import decode_with
from dlpr.modes.networks.exact.torch_encoder import ROUGH, Settings, encode_chunks
from dlpr.modes.networks.exact.torch_expected import prove
from dlpr.modes.networks.exact.torch_known import LEAST_ROWS
from dlpr.modes.networks.exact.torch_parts import HOST, Model, exact_matmul
from dlpr.modes.networks.payload import payload_of

__all__ = ["Budget", "decode", "decode_bytes", "encode", "encode_bytes", "prove_bytes"]

Item = TypeVar("Item")
Result = TypeVar("Result")
_Samples = Bytes8 | None
_Decoding = tuple[Stream, Bytes8 | None]
Job = tuple[Bytes8, dict[str, Any]]
"""Samples of a chunk and the native encoder's options of it."""

_LOCK = threading.Lock()  # one batch at a time: the memory that is free is counted once
UNKNOWN_MEMORY = 2 << 30
"""Bytes to use where a device does not say what it has."""
SLAB_BYTES = 3500
"""Of memory for a pixel of a slab, while it is coded."""
LOSSY_BYTES = 600
"""Of memory for a pixel of a slab whose lossy layer is coded; a chunk is not divided for it."""
SLABS = (1 << 13, 1 << 18)
"""Least and most pixels of a slab."""
CPU_SLAB = 1 << 15
"""Pixels of a slab on the CPU: more leave its caches."""
KNOWN_BYTES = 100
"""Of memory for a pixel of a batch that is encoded or proven, all along."""
DECODED_BYTES = 160
"""Of memory for a pixel of a batch that is decoded step by step, all along."""
STEP_BYTES = 12000
"""Of memory for a pixel of a step of each patch of that batch."""
FIXED_BYTES = 16 << 20
"""Weights and tables."""


@dataclass(frozen=True)
class Budget:
    """What a device may take.

    Parameters
    ----------
    memory : int
        Bytes of a batch.
    slab : int
        Pixels that are worked on at a time.
    """

    memory: int
    slab: int

    @classmethod
    def of(cls, device: Device) -> Budget:
        """Look at a device."""
        memory = device.memory or _free_bytes(torch.device(device.name))
        if torch.device(device.name).type == "cpu":
            return cls(memory, CPU_SLAB)
        pixels = memory // 4 // SLAB_BYTES
        return cls(memory, max(SLABS[0], min(SLABS[1], 1 << max(pixels, 1).bit_length() - 1)))


def prove_bytes(chunks: int, height: int, width: int, slab: int) -> int:
    """Predict the memory that chunks of one size take to prove, in bytes."""
    return encode_bytes(chunks, height, width, slab, bank=0)


def encode_bytes(chunks: int, height: int, width: int, slab: int, bank: int = SlideProfile().bank) -> int:
    """Predict the memory that chunks of one size take to encode with a choice of so many bank entries, in bytes."""
    area = _area(height, width)
    sampled = min(ROUGH * 5 // 4, height * width) * bank  # of one chunk, under every bank entry
    at_once = max(slab, LEAST_ROWS * chunks, sampled)
    return FIXED_BYTES + chunks * area * KNOWN_BYTES + max(at_once * SLAB_BYTES, area * LOSSY_BYTES)


def decode_bytes(chunks: int, height: int, width: int, patch: int) -> int:
    """Predict the memory that chunks of one size take to decode step by step, in bytes."""
    patches = -(-height // patch) * -(-width // patch)
    side = min(patch, max(height, width))
    return FIXED_BYTES + chunks * (_area(height, width) * DECODED_BYTES + patches * side * STEP_BYTES)


def _area(height: int, width: int) -> int:
    """Pixels of a chunk in whole blocks of the lossy layer."""
    return 4096 * -(-height // 64) * -(-width // 64)


def encode(device: Device, weights_id: bytes, jobs: Sequence[Job], threads: int) -> list[dict[str, Any]]:
    """Encode chunks; the parts of each stream as ``dlpr._native.encode_batch`` gives them.

    Parameters
    ----------
    device : Device
    weights_id : bytes
    jobs : sequence of (planes, options)
    threads : int
        Of the host's part, and of what does not fit the device.
    """
    groups: dict[Settings, list[int]] = defaultdict(list)
    for i, (planes, options) in enumerate(jobs):
        groups[Settings.of(planes, options)].append(i)
    out: dict[int, dict[str, Any]] = {}
    with _held(device, weights_id) as (model, budget):
        for s, members in groups.items():

            def on_device(some: Sequence[int], s: Settings = s) -> list[dict[str, Any]]:
                return encode_chunks([jobs[i][0] for i in some], s, model, budget.slab, threads)

            def on_cpu(some: Sequence[int]) -> list[dict[str, Any]]:
                parts: list[dict[str, Any]] = HOST.encode_batch(model.native, [jobs[i] for i in some], threads)
                return parts

            def predicted(count: int, s: Settings = s) -> int:
                return encode_bytes(count, s.height, s.width, budget.slab)

            out |= zip(
                members, _in_batches(device, "encoded", members, budget, predicted, on_device, on_cpu), strict=True
            )
    return [out[i] for i in range(len(jobs))]


def decode(
    device: Device, streams: Sequence[Stream], threads: int, expected: Sequence[Bytes8 | None]
) -> list[Bytes8 | None]:
    """Decode streams of mode coded; None where that is left to the native decoder.

    It is for streams that are damaged, that do not hold what is expected, or that do not fit the device's memory.

    Parameters
    ----------
    device : Device
    streams : sequence of Stream
    threads : int
        Of the host's part.
    expected : sequence of numpy.ndarray or None
        What each is thought to hold: uint8 [H, W, channels], coding order, before coding.
    """
    by_kind: dict[tuple[bytes, int, int, int, bool], list[int]] = defaultdict(list)
    for i, stream in enumerate(streams):
        h, p = stream.header, payload_of(stream)
        by_kind[(p.weights_id, h.height, h.width, 1 << p.patch_exp, expected[i] is not None)].append(i)
    out: list[Bytes8 | None] = [None] * len(streams)
    for (weights_id, height, width, patch, hoped), members in by_kind.items():
        with _held(device, weights_id) as (model, budget):
            planes = [x for i in members if (x := expected[i]) is not None]
            work = [(streams[i], planes[k] if hoped else None) for k, i in enumerate(members)]

            def predicted(count: int, height: int = height, width: int = width, patch: int = patch) -> int:
                return decode_bytes(count, height, width, patch)

            def predicted_proof(count: int, height: int = height, width: int = width, slab: int = budget.slab) -> int:
                return prove_bytes(count, height, width, slab)

            def prove_some(some: Sequence[_Decoding], model: Model = model, slab: int = budget.slab) -> list[_Samples]:
                return prove(model, [s for s, _ in some], [x for _, x in some if x is not None], slab, threads)

            def decode_some(some: Sequence[_Decoding], model: Model = model) -> Sequence[_Samples]:
                try:
                    return decode_with(model, [s for s, _ in some], threads)
                except CorruptError:  # which of them, the native decoder says
                    return _none(some)

            if hoped:
                found = _in_batches(device, "proven", work, budget, predicted_proof, prove_some, _none)
            else:
                found = _in_batches(device, "decoded", work, budget, predicted, decode_some, _none)
            for i, samples in zip(members, found, strict=True):
                out[i] = samples
    device.count("decoded on the CPU", sum(x is None for x in out))
    return out


def _none(some: Sequence[Item]) -> list[_Samples]:
    """Leave it to the native decoder."""
    return [None] * len(some)


def _in_batches(
    device: Device,
    what: str,
    items: Sequence[Item],
    budget: Budget,
    predicted: Callable[[int], int],
    on_device: Callable[[Sequence[Item]], Sequence[Result]],
    on_cpu: Callable[[Sequence[Item]], Sequence[Result]],
) -> list[Result]:
    """Do items in batches that should fit; where one does not, half of it, and what does not fit alone on the CPU."""
    out: list[Result] = []
    size, left = _fitting(budget, predicted, len(items)), list(items)
    while left:
        some = left[: max(1, size)]
        try:
            if not size:
                raise MemoryError
            done = on_device(some)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, DeviceError):
                raise
            if not _is_out_of_memory(error):
                raise DeviceError(f"{device.name} failed: {str(error).splitlines()[0]}") from error
            done = None
        if done is not None:
            device.count(what, sum(x is not None for x in done))
        else:
            _release(torch.device(device.name))
            size = len(some) // 2
            if size:
                continue
            warnings.warn(
                f"{device.name} has not enough memory for a chunk ({predicted(1) >> 20} MiB predicted): "
                f"{len(left)} chunks were done on the CPU, with the same result",
                DeviceWarning,
                stacklevel=2,
            )
            some = left
            done = on_cpu(some)
            if what == "encoded":
                device.count("encoded on the CPU", len(some))
        out += done
        left = left[len(some) :]
    return out


def _fitting(budget: Budget, predicted: Callable[[int], int], most: int) -> int:
    """Return the largest number of chunks, up to so many, whose predicted memory is in the budget; 0 if none fits."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if predicted(middle) <= budget.memory:
            low = middle
        else:
            high = middle - 1
    return low


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; devices say so in different ways."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        words in str(error).lower()
        for words in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    )


@lru_cache(maxsize=4)
def _model(weights_id: bytes, name: str) -> Model:
    """Weights on a device, brought there once per process."""
    return Model(weights_store.find(weights_id), torch.device(name))


@contextmanager
def _held(device: Device, weights_id: bytes) -> Iterator[tuple[Model, Budget]]:
    """Have the device to oneself: its model, and what may be used."""
    with _LOCK, torch.inference_mode(), exact_matmul(torch.device(device.name)):
        yield _model(weights_id, device.name), Budget.of(device)


def _free_bytes(device: torch.device) -> int:
    """Return the memory that a batch may use: nine tenths of what the device has free."""
    if device.type in ("cuda", "xpu"):
        of = getattr(torch, device.type)
        free, _ = of.mem_get_info(device)
        cached = of.memory_reserved(device) - of.memory_allocated(device)
        return (int(free) + int(cached)) * 9 // 10
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) * 9 // 10
    return UNKNOWN_MEMORY


def _release(device: torch.device) -> None:
    """Give back what torch holds for later."""
    if device.type in ("cuda", "xpu", "mps"):
        getattr(torch, device.type).empty_cache()
