"""Mode coded: a chunk by the networks' integer code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dlpr import _native
from dlpr.arrays import Bytes8
from dlpr.config import DEFAULT_PATCH, EncoderOptions
from dlpr.device import Device
from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.frame import Header, Mode, Stream, finished
from dlpr.layout import from_planes
from dlpr.modes.networks import payload as fields
from dlpr.modes.networks import weights as weights_store
from dlpr.modes.networks.payload import CODED_SIZE, MAX_LOSSY_BLOCKS, CodedPayload, payload_of
from dlpr.modes.protocol import Chunk, ChunkMode, Decoded, Description
from dlpr.quantise import quantise

__all__ = ["NetworksMode", "native_model"]

LEAST = 128
"""Streams up to this size are left alone: header, predictor, lossy layer and lanes seldom take less."""
STRIPS, STRIP = 8, 4
"""Strips of so many rows for a rough price of the pixels."""
FAR_SMALLER = 0.4
"""Share of what a simple predictor's residuals take below which another stream has no rival: the networks reach about
0.6 of JPEG-LS."""


@lru_cache(maxsize=4)
def native_model(weights_id: bytes, simd: str = "") -> Any:
    """The native model of one weights file, built once per process."""
    w = weights_store.find(weights_id)
    return _native.Model(dict(w.profile), {k: np.ascontiguousarray(v) for k, v in w.tensors.items()}, simd)


class NetworksMode(ChunkMode):
    """The door of ``modes/networks``."""

    mode = Mode.CODED

    def pack(self, out: bytearray, payload: CodedPayload) -> None:
        """Append section 3."""
        fields.pack(out, payload)

    def parse(self, view: memoryview, header: Header) -> CodedPayload:
        """Read section 3."""
        return fields.parse(view, header)

    def parse_lossy(self, view: memoryview, header: Header) -> CodedPayload:
        """Read section 3 without linear part and lanes: the first 52 + A bytes are enough."""
        return fields.parse_lossy(view, header)

    def describe(self, stream: Stream, size: int) -> Description:
        """Header, lossy layer, linear part, lanes with their table."""
        p = payload_of(stream)
        a, b = len(p.lossy_part), len(p.linear_part)
        return Description(
            {"header": CODED_SIZE, "lossy": a, "linear": b, "lanes": size - CODED_SIZE - a - b},
            p.lossy,
            CODED_SIZE + a,
            weights_id=p.weights_id.hex(),
            patch=1 << p.patch_exp,
            lanes=1 << p.lane_exp,
            bank_entry=p.bank_entry,
            interval=p.interval,
        )

    def can_beat(self, chunk: Chunk, size: int) -> bool:
        """Compare with what a simple predictor would need."""
        if size <= LEAST:
            return False
        if size >= chunk.planes.size:
            return True
        height, tau = chunk.header.height, chunk.header.tau
        if height >= 4 * STRIPS * STRIP:  # a rough price at first, which settles most
            starts = [i * (height - STRIP) // (STRIPS - 1) for i in range(STRIPS)]
            strips = np.concatenate([chunk.planes[y : y + STRIP] for y in starts])
            rough = float(_native.prediction_bits(strips, tau)) * height / len(strips)
            if 8 * size < FAR_SMALLER / 2 * rough:
                return False
        return 8 * size >= FAR_SMALLER * float(_native.prediction_bits(chunk.planes, tau))

    def encode_batch(self, chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[Stream | None]:
        """Code chunks natively; the networks can carry any."""
        weights_id, jobs = _jobs(chunks, options)
        parts = _native.encode_batch(native_model(weights_id), jobs, threads)
        return [_stream(chunk, weights_id, job[1], part) for chunk, job, part in zip(chunks, jobs, parts, strict=True)]

    def encode_on(
        self, device: Device, chunks: Sequence[Chunk], options: EncoderOptions, threads: int
    ) -> list[Stream | None]:
        """Code chunks in tensors."""
        from dlpr.modes.networks import on_device

        weights_id, jobs = _jobs(chunks, options)
        parts = on_device.encode(device, weights_id, jobs, threads)
        return [_stream(chunk, weights_id, job[1], part) for chunk, job, part in zip(chunks, jobs, parts, strict=True)]

    def decode_batch(self, streams: Sequence[Stream], threads: int) -> list[Decoded]:
        """Decode natively, streams of the same weights together."""
        out: dict[int, Decoded] = {}
        by_weights: dict[bytes, list[int]] = defaultdict(list)
        for i, stream in enumerate(streams):
            by_weights[payload_of(stream).weights_id].append(i)
        for weights_id, members in by_weights.items():
            model, bank = native_model(weights_id), int(weights_store.find(weights_id).profile["bank"])
            jobs = {}
            for i in members:
                entry = payload_of(streams[i]).bank_entry
                if entry >= bank:
                    out[i] = CorruptError(f"bank entry {entry} does not exist", offset=35)
                else:
                    jobs[i] = _job(streams[i])
            results = _native.decode_batch(model, list(jobs.values()), threads)
            for i, (planes, error) in zip(jobs, results, strict=True):
                bad = CorruptError(error, offset=CODED_SIZE) if error else None
                out[i] = bad or from_planes(planes, streams[i].header.layout)
        return [out[i] for i in range(len(streams))]

    def decode_on(
        self, device: Device, streams: Sequence[Stream], threads: int, expected: Sequence[Bytes8 | None]
    ) -> list[Decoded]:
        """Decode in tensors, all pixels at once where the expected ones are right; damaged streams natively."""
        from dlpr.modes.networks import on_device

        planes = on_device.decode(device, streams, threads, expected)
        rest = [i for i, array in enumerate(planes) if array is None]
        out = dict(zip(rest, self.decode_batch([streams[i] for i in rest], threads), strict=True))
        out |= {i: from_planes(x, streams[i].header.layout) for i, x in enumerate(planes) if x is not None}
        return [out[i] for i in range(len(streams))]

    def decode_lossy(self, stream: Stream) -> Bytes8:
        """Decode x~."""
        h, p = stream.header, payload_of(stream)
        x = _native.decode_lossy_layer(native_model(p.weights_id), h.height, h.width, bytes(p.lossy_part))
        if x is None:
            raise CorruptError("the lossy part is damaged", offset=CODED_SIZE)
        return from_planes(np.ascontiguousarray(x[..., : h.layout.channels]), h.layout)

    def decode_reference(self, stream: Stream, weights: weights_store.Weights | None = None) -> Bytes8:
        """Decode by sections 3 to 11."""
        from dlpr.modes.networks.exact import reference

        known = weights or weights_store.find(payload_of(stream).weights_id)
        return from_planes(reference.decode_payload(stream, known), stream.header.layout)


def _jobs(chunks: Sequence[Chunk], options: EncoderOptions) -> tuple[bytes, list[tuple[Bytes8, dict[str, Any]]]]:
    """Weights to code chunks with; samples and options of each as the native encoder takes them."""
    weights_id = options.weights_id or weights_store.default_id()
    bank, entry = weights_store.find(weights_id).sizes.bank, options.bank_entry
    if entry is not None and not 0 <= entry < bank:
        raise UnsupportedInputError(f"bank_entry must be in 0..{bank - 1}, not {entry!r}", reason="input")
    return weights_id, [(chunk.planes, _native_options(chunk.header, options)) for chunk in chunks]


def _native_options(h: Header, o: EncoderOptions) -> dict[str, Any]:
    """Options of one chunk as the native encoder takes them."""
    blocks = -(-h.height // 64) * -(-h.width // 64)
    lossy = o.lossy_layer and min(h.height, h.width) >= o.min_lossy_side and blocks <= MAX_LOSSY_BLOCKS
    patch = o.patch or DEFAULT_PATCH
    return {
        "tau": h.tau,
        "lossy": int(lossy),
        "anchor_lossy": int(lossy and h.tau > 0 and o.anchor == "lossy"),
        "patch_exp": patch.bit_length() - 1,
        "lane_exp": o.lanes.bit_length() - 1,
        "frac": o.coefficient_bits,
        "coef_bits": o.coefficient_price,
        "bank": (-1 if o.search else 0) if o.bank_entry is None else o.bank_entry,
        "search": int(o.search),
        "max_taps": 66 if o.linear_stage else 0,
        "max_classes": o.linear_classes,
        "context": o.linear_context,
    }


def _stream(chunk: Chunk, weights_id: bytes, options: dict[str, Any], part: dict[str, Any]) -> Stream:
    """Fields of a chunk from the parts that the native encoder gives."""
    per_patch = 1 << options["lane_exp"]
    view, at, lanes = memoryview(part["lanes"]), 0, []
    for size in part["lane_sizes"]:
        lanes.append(view[at : at + size])
        at += size
    payload = CodedPayload(
        weights_id=weights_id,
        lossy=bool(options["lossy"]),
        anchor_lossy=bool(options["anchor_lossy"]),
        patch_exp=options["patch_exp"],
        lane_exp=options["lane_exp"],
        bank_entry=part["bank_entry"],
        interval=part["interval"],
        base=part["base"],
        lossy_part=part["lossy_part"],
        linear_part=part["linear_part"],
        lanes=tuple(tuple(lanes[i : i + per_patch]) for i in range(0, len(lanes), per_patch)),
    )
    array = from_planes(_reconstruct(chunk, payload), chunk.header.layout)
    return Stream(finished(chunk.header, Mode.CODED, array), payload)


def _reconstruct(chunk: Chunk, p: CodedPayload) -> Bytes8:
    """What the decoder will give."""
    h, planes = chunk.header, chunk.planes
    if h.tau == 0:
        return planes
    anchor = np.array(p.base[: planes.shape[2]])
    if p.anchor_lossy:
        x_tilde = _native.decode_lossy_layer(native_model(p.weights_id), h.height, h.width, p.lossy_part)
        anchor = x_tilde[..., : planes.shape[2]]
    return quantise(planes, anchor, h.tau)[0]


def _job(stream: Stream) -> dict[str, Any]:
    """Fields of a stream as the native decoder takes them."""
    h, p = stream.header, payload_of(stream)
    return {
        "H": h.height,
        "W": h.width,
        "channels": h.layout.channels,
        "tau": h.tau,
        "lossy": int(p.lossy),
        "anchor_lossy": int(p.anchor_lossy),
        "patch_exp": p.patch_exp,
        "lane_exp": p.lane_exp,
        "bank_entry": p.bank_entry,
        "interval": p.interval,
        "base": tuple(p.base),
        "lossy_part": bytes(p.lossy_part),
        "linear_part": bytes(p.linear_part),
        "lanes": b"".join(lane for patch in p.lanes for lane in patch),
        "lane_sizes": [len(lane) for patch in p.lanes for lane in patch],
    }
