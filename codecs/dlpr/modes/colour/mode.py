"""Mode colour: a chunk as the planes Y, Cb, Cr that its pixels were made from, and a residual."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dlpr import _native
from dlpr.arrays import Bytes8
from dlpr.config import EncoderOptions
from dlpr.device import Device
from dlpr.errors import CorruptError
from dlpr.frame import Header, Mode, Stream, finished
from dlpr.layout import CODING_ORDER, from_planes, to_planes
from dlpr.modes.colour import payload as fields
from dlpr.modes.colour.chroma import Filter
from dlpr.modes.colour.find import Planes, find_batch, pixels_batch
from dlpr.modes.colour.payload import (
    COLOUR_SIZE,
    ColourPayload,
    Plane,
    joint_image,
    payload_of,
    plane_headers,
    plane_streams,
    three_planes,
)
from dlpr.modes.colour.plane_jpegs import find_jpegs, samples_of
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.jpeg.recover import Kind
from dlpr.modes.jpeg.stream import decode_planes as decode_jpegs
from dlpr.modes.networks import weights as weights_store
from dlpr.modes.networks.mode import NetworksMode
from dlpr.modes.networks.payload import CodedPayload
from dlpr.modes.networks.payload import payload_of as coded_payload_of
from dlpr.modes.protocol import Chunk, ChunkMode, Decoded, Description
from dlpr.quantise import quantise

__all__ = ["ColourMode"]

NETWORKS = NetworksMode()
MOST_OF_PIXELS = 0.95
"""Share of what a simple predictor needs for the pixels up to which it must be content with planes and residual."""
SMALL = 0.55
"""Share of what a simple predictor needs for the pixels below which the networks on pixels have no chance: they need
0.53 to 0.75 of it where pixels lie on a lattice, and planes 0.37 to 0.7."""
BITS_OF_A_MISS = 9.0
"""What a pixel costs that the planes do not give."""
FAR_SMALLER = 0.33
"""Share of what a simple predictor needs for the pixels below which another stream has no rival here."""
SMALLEST_SIDE = 8


class ColourMode(ChunkMode):
    """The door of ``modes/colour``."""

    mode = Mode.COLOUR

    def pack(self, out: bytearray, payload: ColourPayload) -> None:
        """Append C1."""
        fields.pack(out, payload)

    def parse(self, view: memoryview, header: Header) -> ColourPayload:
        """Read C1."""
        return fields.parse(view, header)

    def describe(self, stream: Stream, size: int) -> Description:
        """Header, luma, chroma, residual."""
        p = payload_of(stream)
        sizes = [_plane_size(plane, p.joint) for plane in p.planes]
        residual = len(p.residual_part)
        parts = {"header": size - sum(sizes) - residual}
        parts |= {"planes": sizes[0]} if p.joint else {"luma": sizes[0], "chroma": sizes[1] + sizes[2]}
        parts["residual"] = residual
        luma = next((plane for plane in p.planes if isinstance(plane, CodedPayload)), None)
        if luma is None:
            return Description(parts, False, size, weights_id=p.weights_id.hex())
        return Description(
            parts,
            False,
            size,
            weights_id=p.weights_id.hex(),
            patch=1 << luma.patch_exp,
            lanes=1 << luma.lane_exp,
            bank_entry=luma.bank_entry,
            interval=luma.interval,
        )

    def can_beat(self, chunk: Chunk, size: int) -> bool:
        """Compare with what a simple predictor would need."""
        if size <= COLOUR_SIZE or chunk.header.layout.channels != 3:
            return False
        return 8 * size >= FAR_SMALLER * _price(chunk.planes, chunk.header.tau)

    def supersedes(self, chunk: Chunk, stream: Stream, size: int) -> frozenset[Mode]:
        """The networks on pixels are a rival where a bound is given or the residual is large: both are tried then."""
        small = chunk.header.tau == 0 and 8 * size < SMALL * _price(chunk.planes, 0)
        return frozenset({Mode.CODED}) if small else frozenset()

    def encode_batch(self, chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[Stream | None]:
        """Code chunks whose colours lie on a lattice."""
        return _encode(chunks, options, threads, NETWORKS.encode_batch)

    def encode_on(
        self, device: Device, chunks: Sequence[Chunk], options: EncoderOptions, threads: int
    ) -> list[Stream | None]:
        """Code them with planes coded on a device; planes are searched natively."""
        return _encode(chunks, options, threads, partial(NETWORKS.encode_on, device))

    def decode_batch(self, streams: Sequence[Stream], threads: int) -> list[Decoded]:
        """Decode natively, the planes of all streams together."""
        return _decode(streams, threads, [None] * len(streams), lambda coded, _: NETWORKS.decode_batch(coded, threads))

    def decode_on(
        self, device: Device, streams: Sequence[Stream], threads: int, expected: Sequence[Bytes8 | None]
    ) -> list[Decoded]:
        """Decode with planes on a device; what is expected of pixels tells what to expect of planes."""
        hoped = [i for i, x in enumerate(expected) if x is not None]
        guesses = dict(zip(hoped, find_batch([_rgb(x) for x in expected if x is not None], threads), strict=True))
        known = [guesses.get(i) for i in range(len(streams))]
        lost = [i for i in hoped if known[i] is None or not _fits(streams[i], known[i])]
        out = dict(zip(lost, self.decode_batch([streams[i] for i in lost], threads), strict=True))
        rest = [i for i in range(len(streams)) if i not in out]
        code = partial(_decode_planes_on, device, threads)
        out |= zip(rest, _decode([streams[i] for i in rest], threads, [known[i] for i in rest], code), strict=True)
        return [out[i] for i in range(len(streams))]

    def decode_reference(self, stream: Stream, weights: weights_store.Weights | None = None) -> Bytes8:
        """Decode by C1 to C4."""
        from dlpr.modes.colour import reference

        return from_planes(reference.decode_planes(stream, weights), stream.header.layout)


def _decode(
    streams: Sequence[Stream],
    threads: int,
    expected: Sequence[Planes | None],
    decode: Callable[[Sequence[Stream], Sequence[Bytes8 | None]], list[Decoded]],
) -> list[Decoded]:
    """Decode streams, the planes of all of them together; those of mode coded by ``decode``."""
    parts = [plane_streams(s) for s in streams]
    coded, hopes, jpegs = [], [], []
    for three, planes in zip(parts, expected, strict=True):
        for k, part in enumerate(three):
            if isinstance(part, Stream) and part.header.mode is Mode.JPEG:
                jpegs.append(part)
            elif isinstance(part, Stream):
                coded.append(part)
                hopes.append(None if planes is None else _plane(planes, k, len(three) == 1))
    decoded = {
        Mode.CODED: iter(decode(coded, hopes) if coded else []),
        Mode.JPEG: iter(decode_jpegs(jpegs, threads)),
    }
    out: dict[int, Decoded] = {}
    whole: dict[int, Planes] = {}
    for i, stream in enumerate(streams):
        arrays = [_array(part, decoded) for part in parts[i]]
        bad = [a for a in arrays if isinstance(a, CorruptError)]
        if bad:
            out[i] = CorruptError(f"a plane is damaged: {bad[0].message}", offset=COLOUR_SIZE)
            continue
        p = payload_of(stream)
        whole[i] = Planes(p.lattice, p.shape, three_planes([a for a in arrays if not isinstance(a, CorruptError)]))
    for i, made in zip(whole, pixels_batch(list(whole.values()), threads), strict=True):
        out[i] = _with_residual(streams[i], made)
    return [out[i] for i in range(len(streams))]


def _decode_planes_on(
    device: Device, threads: int, coded: Sequence[Stream], expected: Sequence[Bytes8 | None]
) -> list[Decoded]:
    """Decode planes of mode coded on a device."""
    return NETWORKS.decode_on(device, coded, threads, expected)


def _plane(planes: Planes, k: int, joint: bool) -> Bytes8:
    """Plane number k as the networks code it, or the image of all three."""
    return joint_image(planes.planes) if joint else planes.planes[k][..., None]


def _fits(stream: Stream, planes: Planes | None) -> bool:
    """Whether planes can be what a stream holds."""
    p = payload_of(stream)
    return planes is not None and (planes.lattice, planes.shape) == (p.lattice, p.shape)


def _array(part: Stream | tuple[Header, int], decoded: Mapping[Mode, Iterator[Decoded]]) -> Decoded:
    """A plane's samples [H, W, channels], coding order, or what is wrong with them."""
    if isinstance(part, Stream):
        array = next(decoded[part.header.mode])
        if isinstance(array, CorruptError) or part.header.mode is Mode.JPEG:
            return array
        return to_planes(array, part.header.layout)
    header, value = part
    return np.full((header.height, header.width, 1), value, np.uint8)


def _with_residual(stream: Stream, made: Bytes8) -> Decoded:
    """Add the residual part to pixels made from planes."""
    part = payload_of(stream).residual_part
    whole: Bytes8 | None = _native.residual_decode(made, bytes(part), stream.header.tau) if len(part) else made
    if whole is None:
        return CorruptError("the residual is damaged", offset=COLOUR_SIZE)
    return from_planes(whole, stream.header.layout)


def _plane_size(plane: Plane, joint: bool) -> int:
    """Bytes of a packed plane."""
    out = bytearray()
    fields.pack_plane(out, plane, joint)
    return len(out)


def _rgb(planes: Bytes8) -> Bytes8:
    """Red, green, blue from coding order."""
    return np.ascontiguousarray(planes[..., [CODING_ORDER.index(c) for c in range(3)]])


def _can_have(h: Header) -> bool:
    """Whether a colour layer is looked for."""
    return h.layout.channels == 3 and min(h.height, h.width) >= SMALLEST_SIDE


# ---- the encoder's choices --------------------------------------------------------------------------------


def _encode(
    chunks: Sequence[Chunk],
    options: EncoderOptions,
    threads: int,
    code: Callable[[Sequence[Chunk], EncoderOptions, int], list[Stream | None]],
) -> list[Stream | None]:
    """Code chunks whose colours lie on a lattice, with planes coded by ``code``."""
    out: list[Stream | None] = [None] * len(chunks)
    if options.colour == "never":
        return out
    work = [i for i, chunk in enumerate(chunks) if _can_have(chunk.header)]
    found = find_batch([_rgb(chunks[i].planes) for i in work], threads)
    plans = {i: _plan(chunks[i], f) for i, f in zip(work, found, strict=True) if f is not None}
    chosen = {i: plan for i, plan in plans.items() if plan is not None}
    if options.jpeg == "auto":
        _add_jpegs(list(chosen.values()), threads)
    plain = replace(options, lossy_layer=False, anchor="base")
    jobs = [(i, k, chunk) for i, plan in chosen.items() for k, chunk in plan.to_code().items()]
    coded = code([chunk for _, _, chunk in jobs], plain, threads) if jobs else []
    payloads = {(i, k): coded_payload_of(s) for (i, k, _), s in zip(jobs, coded, strict=True) if s is not None}
    weights_id = options.weights_id or weights_store.default_id()
    for i, plan in chosen.items():
        planes = plan.smallest({k: p for (at, k), p in payloads.items() if at == i})
        out[i] = _stream(chunks[i], plan, planes, weights_id)
    return out


@dataclass(eq=False)
class _Plan:
    """Planes and the bounds they are coded with."""

    header: Header
    found: Planes
    taus: tuple[int, int]
    jpegs: tuple[JpegPayload | None, ...] = (None, None, None)
    """What luma, Cb and Cr are as JPEGs."""

    @property
    def headers(self) -> list[Header]:
        """Of luma, Cb and Cr."""
        return plane_headers(self.header, self.found.shape, self.taus, joint=False)

    @property
    def values(self) -> list[int | None]:
        """The value of all samples of a plane, if there is one."""
        return [int(p.flat[0]) if (p == p.flat[0]).all() else None for p in self.found.planes]

    def to_code(self) -> dict[int, Chunk]:
        """What the networks are to code: planes by number; -1 is the image of all of them."""
        values, headers = self.values, self.headers
        out = {}
        if self.found.shape.filter is Filter.NONE and values == [None] * 3:
            (header,) = plane_headers(self.header, self.found.shape, self.taus, joint=True)
            out[-1] = Chunk(header, joint_image(self.found.planes))
            if self.jpegs == (None, None, None):
                return out
        for k, (value, jpeg, header) in enumerate(zip(values, self.jpegs, headers, strict=True)):
            chunk = Chunk(header, self.found.planes[k][..., None])
            if value is None and (jpeg is None or NETWORKS.can_beat(chunk, _plane_size(jpeg, joint=False))):
                out[k] = chunk
        return out

    def smallest(self, coded: Mapping[int, CodedPayload]) -> tuple[Plane, ...]:
        """The planes, each in its smallest form, or all in one image if that is smaller."""
        if set(coded) == {-1}:
            return (coded[-1],)
        planes: list[Plane] = []
        for k, (value, jpeg) in enumerate(zip(self.values, self.jpegs, strict=True)):
            forms: list[Plane] = [f for f in (value, jpeg, coded.get(k)) if f is not None]
            planes.append(min(forms, key=lambda f: _plane_size(f, joint=False)))
        size = sum(_plane_size(p, joint=False) for p in planes)
        if -1 in coded and _plane_size(coded[-1], joint=True) <= size:
            return (coded[-1],)
        return tuple(planes)

    def decoded(self, planes: tuple[Plane, ...]) -> tuple[Bytes8, Bytes8, Bytes8]:
        """What a decoder will have of luma, Cb and Cr."""
        if self.taus == (0, 0):
            return self.found.planes
        if len(planes) == 1:
            return three_planes([_decoded(joint_image(self.found.planes), planes[0], self.headers[0])])
        arrays = [p[..., None] for p in self.found.planes]
        return three_planes([_decoded(a, p, h) for a, p, h in zip(arrays, planes, self.headers, strict=True)])


def _add_jpegs(plans: Sequence[_Plan], threads: int) -> None:
    """Search the JPEGs behind the planes of several chunks."""
    work = [(plan, k) for plan in plans for k, value in enumerate(plan.values) if value is None]
    planes = [(plan.headers[k], plan.found.planes[k]) for plan, k in work]
    found = find_jpegs(planes, [Kind.CHROMA if k else Kind.LUMA for _, k in work], threads)
    for plan in plans:
        mine = {k: jpeg for (of, k), jpeg in zip(work, found, strict=True) if of is plan}
        plan.jpegs = tuple(mine.get(k) for k in range(3))


def _plan(chunk: Chunk, found: Planes) -> _Plan | None:
    """Choose the planes' bounds; None if coding the pixels looks cheaper."""
    tau = chunk.header.tau
    if tau and found.shape.filter is Filter.NONE:
        return None  # planes at full size lose to the networks on pixels: docs/decisions/0013
    price, taus = _cheapest_bounds(found, tau)
    (made,) = pixels_batch([found])
    differ = np.abs(chunk.planes.astype(np.int16) - made) > tau
    price += BITS_OF_A_MISS * int(differ.any(-1).sum())
    if price > MOST_OF_PIXELS * _price(chunk.planes, tau):
        return None
    return _Plan(chunk.header, found, taus)


def _price(planes: Bytes8, tau: int) -> float:
    """Bits of what a simple predictor leaves of [H, W, channels]."""
    return float(_native.prediction_bits(np.ascontiguousarray(planes), tau))


def _cheapest_bounds(found: Planes, tau: int) -> tuple[float, tuple[int, int]]:
    """Bounds of luma and chroma that keep pixels within tau of what exact planes give, of least price."""
    best = (float("inf"), (0, 0))
    luma, cb, cr = (p[..., None] for p in found.planes)
    for chroma in range(tau + 1):
        fit = [t for t in range(tau + 1) if found.lattice.spread(t, chroma) <= tau]
        if not fit:
            break
        total = _price(luma, fit[-1]) + _price(cb, chroma) + _price(cr, chroma)
        best = min(best, (total, (fit[-1], chroma)))
    return best


def _stream(chunk: Chunk, plan: _Plan, planes: tuple[Plane, ...], weights_id: bytes) -> Stream:
    """Fields of a chunk, with a residual for what its planes lack."""
    h = chunk.header
    (made,) = pixels_batch([Planes(plan.found.lattice, plan.found.shape, plan.decoded(planes))])
    residual, samples, _ = _native.residual_encode(np.ascontiguousarray(chunk.planes), made, h.tau)
    payload = ColourPayload(plan.found.lattice, plan.found.shape, plan.taus, weights_id, planes, residual)
    return Stream(finished(h, Mode.COLOUR, from_planes(samples, h.layout)), payload)


def _decoded(plane: Bytes8, coded: Plane, header: Header) -> Bytes8:
    """What a decoder will have of a plane."""
    if header.tau == 0 or isinstance(coded, int):
        return plane
    if isinstance(coded, JpegPayload):
        return samples_of(header, coded)
    return quantise(plane, np.array(coded.base[: plane.shape[2]]), header.tau)[0]
