"""Planes that are kept as JPEGs: found, coded, decoded by every decoder, damaged."""

import io
import random
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import dlpr
from dlpr import bitstream, reference
from dlpr.errors import DlprError
from dlpr.frame import Header, Mode, Stream, crc32c
from dlpr.layout import Axes, Layout, from_planes
from dlpr.modes.colour.chroma import ChromaShape, Filter
from dlpr.modes.colour.lattice import MATRICES, Rounding
from dlpr.modes.colour.payload import COLOUR_SIZE, payload_of
from dlpr.modes.colour.plane_jpegs import find_jpegs, samples_of
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.jpeg.recover import Kind

FLOOR = replace(MATRICES[0], rounding=Rounding.FLOOR)
"""OpenSlide's colours for JPEG 2000: libjpeg never makes them, so mode jpeg has no part in it."""


def texture(seed, height, width):
    """Waves and noise, 40..215."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = sum(rng.uniform(4, 16) * np.sin(y / rng.uniform(2, 20) + x / rng.uniform(2, 20) + k) for k in range(6))
    return np.clip(128 + waves + rng.normal(0, 3, (height, width)), 40, 215).astype(np.uint8)


def decoded(plane, quality):
    """A plane through Pillow's JPEG, whose decoder shares no code with this package."""
    out = io.BytesIO()
    Image.fromarray(plane).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(io.BytesIO(out.getvalue())))


def picture(shape, height=96, width=104, quality=85, lattice=FLOOR, chroma=True):
    """Pixels of planes from JPEGs, each cut off the grid; ``chroma`` False: only luma is from one."""
    rows, columns = shape.size(height, width)
    luma = decoded(texture(1, height + 16, width + 16), quality)[3 : 3 + height, 5 : 5 + width]
    pair = []
    for k in (2, 3):
        plane = 64 + texture(k, rows + 8, columns + 8) // 2
        plane = decoded(plane, quality) if chroma else plane
        pair.append(np.ascontiguousarray(plane[2 : 2 + rows, 6 : 6 + columns]))
    image = lattice.pixels(luma, *(shape.upsample(p, height, width) for p in pair))
    return image, [np.ascontiguousarray(luma), *pair]


def kinds(data):
    """Which planes are JPEGs."""
    return [isinstance(p, JpegPayload) for p in payload_of(bitstream.parse(data)).planes]


def reseal(data):
    """Make the checksum of changed bytes right."""
    struct.pack_into("<I", data, 20, crc32c(bytes(data[24:]), crc32c(bytes(data[:20]), 0)))
    return bytes(data)


def all_decoders(data):
    """The array by the reference, native and torch decoders."""
    torch_colour = pytest.importorskip("dlpr.modes.colour.torch_pixels")
    from dlpr.modes.networks import weights

    stream = bitstream.parse(data)
    (by_torch,) = torch_colour.decode_batch([stream], weights.find(payload_of(stream).weights_id))
    return reference.decode(data), dlpr.decode(data), from_planes(by_torch, stream.header.layout)


@pytest.mark.parametrize(
    "shape", [ChromaShape(), ChromaShape(Filter.REPETITION, 1, 2, 0, 1), ChromaShape(Filter.TRIANGLE, 2, 2, 1, 0)]
)
def test_all_planes_are_found(shape):
    image, _ = picture(shape, *((96, 104) if shape.vertical == 1 else (176, 184)))
    data = dlpr.encode(image)
    assert dlpr.inspect(data).mode == "colour"
    assert kinds(data) == [True] * 3
    assert (dlpr.decode(data) == image).all()
    assert len(data) < 0.7 * len(dlpr.encode(image, jpeg="never"))
    info = dlpr.inspect(data)
    assert sum(info.bytes_by_part.values()) == info.size
    assert bitstream.pack(bitstream.parse(data)) == data


def test_luma_alone():
    """As in an image that was compressed twice: luma still shows its first JPEG, chroma does not."""
    image, _ = picture(ChromaShape(Filter.REPETITION, 2, 2, 0, 0), 40, 48, chroma=False)
    data = dlpr.encode(image)
    assert kinds(data) == [True, False, False]
    for array in all_decoders(data):
        assert (array == image).all()


def test_decoders_agree():
    image, _ = picture(ChromaShape(Filter.REPETITION, 1, 2, 0, 0), 40, 64)
    image[7, 9] = (250, 3, 90)
    data = dlpr.encode(image)
    assert any(kinds(data))
    for array in all_decoders(data):
        assert (array == image).all()


def test_chroma_has_its_own_tables():
    """Standard chroma tables are named by a number, not written out, and fit in frequencies that say nothing."""
    _, planes = picture(ChromaShape(), 96, 96)
    header = Header(Mode.CODED, 0, Layout(Axes.HW, 0, 1), 96, 96, 0)
    rng = np.random.default_rng(5)
    rgb = Image.fromarray(np.stack([texture(k, 112, 112) for k in (7, 8, 9)], -1))
    out = io.BytesIO()
    rgb.save(out, "JPEG", quality=90, subsampling=0)
    opened = Image.open(io.BytesIO(out.getvalue()))
    opened.draft("YCbCr", None)
    cb = np.ascontiguousarray(np.asarray(opened)[5:101, 9:105, 1])
    assert opened.mode == "YCbCr"
    found, luma, noise = find_jpegs(
        [(header, cb), (header, planes[0]), (header, rng.integers(0, 256, (96, 96), np.uint8))],
        [Kind.CHROMA, Kind.LUMA, Kind.CHROMA],
    )
    assert noise is None
    assert found.phase == (5, 1)
    assert found.lossy_part[0] == 190
    assert luma.phase == (3, 5)
    assert luma.lossy_part[0] == 85
    assert (samples_of(header, found)[..., 0] == cb).all()


def test_no_search_where_none_is_wanted():
    image, _ = picture(ChromaShape())
    for jpeg in ("never", "given"):
        assert not any(kinds(dlpr.encode(image, jpeg=jpeg)))


@pytest.mark.parametrize("tau", [1, 3])
def test_bound(tau):
    """Planes with a bound of their own: what a decoder gives stays within the chunk's bound."""
    image, planes = picture(ChromaShape(Filter.REPETITION, 2, 2, 0, 0))
    data = dlpr.encode(image, tau)
    assert np.abs(dlpr.decode(data).astype(int) - image).max() <= tau
    header = Header(Mode.CODED, tau, Layout(Axes.HW, 0, 1), *planes[0].shape, 0)
    plane = planes[0].copy()
    plane[20:40, 30:50] += 4
    (payload,) = find_jpegs([(header, plane)], [Kind.LUMA])
    assert np.abs(samples_of(header, payload)[..., 0].astype(int) - plane).max() <= tau
    from dlpr.modes.jpeg.reference import decode_planes

    slow = decode_planes(Stream(replace(header, mode=Mode.JPEG), payload))
    assert (slow == samples_of(header, payload)).all()


# ---- damage -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream():
    image, _ = picture(ChromaShape(Filter.REPETITION, 2, 2, 0, 0), 56, 64)
    image[9, 9] = (255, 0, 3)
    data = dlpr.encode(image)
    assert kinds(data)[0]
    return data


@pytest.mark.parametrize(
    ("at", "value", "reason", "offset"),
    [(36, 2, "corrupt", 36), (37, 64, "corrupt", 37), (38, 1, "corrupt", 38), (25, 0x40, "corrupt", 36)],
)
def test_pinned_reasons(stream, at, value, reason, offset):
    data = bytearray(stream)
    data[at] = value
    with pytest.raises(DlprError) as error:
        dlpr.decode(reseal(data))
    assert (error.value.reason, error.value.offset) == (reason, offset)


def test_every_cut_is_refused(stream):
    for size in [*range(COLOUR_SIZE, COLOUR_SIZE + 30), *range(COLOUR_SIZE + 30, len(stream), 23)]:
        with pytest.raises(DlprError):
            dlpr.decode(reseal(bytearray(stream[:size])))


def test_damaged_streams_raise(stream):
    chance = random.Random(3)
    for i in range(200):
        data = bytearray(stream)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(24, len(data))] ^= 1 << chance.randrange(8)
        data = reseal(data)
        with pytest.raises(DlprError) as native:
            dlpr.decode(data)
        if i < 4:
            with pytest.raises(DlprError) as slow:
                reference.decode(data)
            assert type(slow.value) is type(native.value)
