"""Pack and parse: round trips, every limit, pinned reasons, nothing but typed errors on any bytes."""

import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlpr import crc, errors
from dlpr.bitstream import Header, Mode, Stream, check_pixels, crc32c, pack, parse, parse_lossy
from dlpr.errors import BitstreamError, ChecksumError, DlprError, TruncatedError, UnsupportedInputError
from dlpr.layout import Axes, Layout, from_planes, to_planes
from dlpr.modes.jpeg.fields import ColourTransform, Upsampling
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.networks.payload import CodedPayload, coded_size, patch_grid

RGB = Layout(Axes.HWC, 0, 3)
GREY = Layout(Axes.HW, 0, 1)


def stream(layout=RGB, mode=Mode.CONSTANT, payload=b"\1\2\3", height=2, width=2, tau=0):
    return Stream(Header(mode, tau, layout, height, width, 7), payload)


def coded_stream(**changes):
    fields = {
        "weights_id": b"weightid", "lossy": True, "anchor_lossy": False, "patch_exp": 5, "lane_exp": 1,
        "bank_entry": 3, "interval": 20, "base": (1, 2, 3), "lossy_part": b"lossy", "linear_part": b"linear part",
        "lanes": ((b"lane", b"x" * 200), (b"lane three", b"four")),
    }  # fmt: skip
    return stream(mode=Mode.CODED, payload=CodedPayload(**{**fields, **changes}), height=32, width=33)


def jpeg_stream(layout=RGB, **changes):
    fields = {
        "transform": ColourTransform.YCBCR, "sampling": (2, 1), "upsampling": Upsampling.BOX, "crop_edges": True,
        "phase": (9, 3), "lossy_part": b"\x05\0\0lane", "residual_part": b"residual",
    }  # fmt: skip
    return stream(layout, Mode.JPEG, JpegPayload(**{**fields, **changes}), 32, 33)


def reason_of(data):
    with pytest.raises(BitstreamError) as info:
        parse(data)
    return type(info.value).__name__, info.value.reason, info.value.offset


# ---- layouts ----

LAYOUTS = [
    ((5, 6, 3), Axes.HWC, 0, 3),
    ((3, 5, 6), Axes.CHW, 0, 3),
    ((1, 1, 3, 5, 6), Axes.CHW, 2, 3),
    ((1, 5, 6, 3), Axes.HWC, 1, 3),
    ((3, 5, 3), Axes.HWC, 0, 3),
    ((5, 6), Axes.HW, 0, 1),
    ((1, 5, 6), Axes.HW, 1, 1),
    ((1, 1, 5, 6), Axes.HW, 2, 1),
    ((5, 6, 1), Axes.HWC, 0, 1),
    ((5, 3), Axes.HW, 0, 1),
    ((1, 1), Axes.HW, 0, 1),
    ((1, 1, 1), Axes.HW, 1, 1),
]


@pytest.mark.parametrize(("shape", "axes", "leading", "channels"), LAYOUTS)
def test_layout_of(shape, axes, leading, channels):
    layout, height, width = Layout.of(shape)
    assert layout == Layout(axes, leading, channels)
    assert layout.shape(height, width) == shape
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    planes = to_planes(image, layout)
    assert planes.shape == (height, width, channels)
    assert planes.flags.c_contiguous
    np.testing.assert_array_equal(from_planes(planes, layout), image)
    np.testing.assert_array_equal(to_planes(np.asfortranarray(image), layout), planes)


def test_coding_order():
    assert to_planes(np.array([[[10, 20, 30]]], np.uint8), RGB).tolist() == [[[20, 10, 30]]]


@pytest.mark.parametrize(
    "shape", [(), (5,), (2, 5, 6), (5, 6, 4), (2, 3, 5, 6), (0, 5), (5, 0, 3), (1,) * 8 + (5, 6), (1 << 14, 1 << 13)]
)
def test_shapes_that_are_refused(shape):
    with pytest.raises(UnsupportedInputError) as info:
        Layout.of(shape)
    assert info.value.reason == "input"
    assert isinstance(info.value, TypeError)
    assert isinstance(info.value, ValueError)


# ---- round trips ----


@pytest.mark.parametrize(
    "s",
    [
        stream(),
        stream(GREY, payload=b"\5"),
        stream(Layout(Axes.CHW, 7, 3), Mode.STORED, bytes(range(12)), tau=255),
        stream(Layout(Axes.HWC, 2, 1), Mode.STORED, bytes(4)),
        coded_stream(),
        coded_stream(lossy=False, lossy_part=b""),
        coded_stream(anchor_lossy=True, linear_part=b""),
        jpeg_stream(),
        jpeg_stream(prior=b"8 bytes."),
        jpeg_stream(sampling=(2, 2), phase=(15, 15), upsampling=Upsampling.FANCY, crop_edges=False, residual_part=b""),
        jpeg_stream(
            GREY,
            transform=ColourTransform.NONE,
            sampling=(1, 1),
            upsampling=Upsampling.FANCY,
            crop_edges=False,
            phase=(7, 0),
        ),
    ],
)
def test_round_trip(s):
    data = pack(s)
    for buffer in (data, bytearray(data), memoryview(data)):
        back = parse(buffer)
        assert back.header == s.header
        same = isinstance(s.payload, (CodedPayload, JpegPayload))
        assert (back.payload == s.payload) if same else bytes(back.payload) == s.payload
    assert pack(back) == data


def test_bytes_as_specified():
    data = pack(coded_stream())
    head = struct.unpack_from("<4sBBBBIIII8sBBBBB3sIII", data)
    assert head[:8] == (b"DLPR", 3, 0, 0, 0, 32, 33, 7)
    assert head[9:18] == (b"weightid", 1, 5, 1, 3, 20, b"\1\2\3", 5, 11)
    assert head[8] == crc.crc32c(data[24:], crc.crc32c(data[:20]))
    assert head[18] == crc.crc32c(data[:16] + data[24:48] + b"lossy")
    assert data[52:] == b"lossylinear part" + b"\x04\xc8\x01\x0a\x04" + b"lane" + b"x" * 200 + b"lane threefour"
    parts = {"lossy_part": b"lossy", "linear_part": b"linear part", "lane_sizes": [4, 200, 10, 4]}
    assert coded_size(parts) == len(data)
    assert patch_grid(parse(data).header, 5) == (1, 2)


def test_lossy_prefix():
    data = pack(coded_stream())
    payload = parse_lossy(data[: 52 + 5]).payload
    assert (bytes(payload.lossy_part), payload.lanes) == (b"lossy", ())
    assert bytes(parse_lossy(data).payload.lossy_part) == b"lossy"
    for n in range(52 + 5):
        with pytest.raises(TruncatedError):
            parse_lossy(data[:n])
    for at in (6, 30, 45, 48, 54):
        with pytest.raises(BitstreamError):
            parse_lossy(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 : 57])
    assert bytes(parse_lossy(pack(stream())).payload) == b"\1\2\3"
    with pytest.raises(errors.UnsupportedError):
        parse_lossy(pack(coded_stream(lossy=False, lossy_part=b"")))


# ---- damage ----


def test_jpeg_bytes_as_specified():
    data = pack(jpeg_stream())
    kind, phase, size, checksum = struct.unpack_from("<BBII", data, 24)
    assert (data[5], kind, phase, size) == (3, 1 | 2 | 8 | 16, 0x93, 7)
    assert checksum == crc.crc32c(data[:16] + data[24:30] + data[34:41])
    assert data[34:] == b"\x05\0\0laneresidual"
    assert bytes(parse_lossy(data[:41]).payload.lossy_part) == b"\x05\0\0lane"
    for n in range(41):
        with pytest.raises(TruncatedError):
            parse_lossy(data[:n])
    for at in (6, 24, 25, 26, 30, 40):
        with pytest.raises(BitstreamError):
            parse_lossy(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 : 41])


@pytest.mark.parametrize(
    ("changes", "offset"),
    [
        ({"layout": GREY, "sampling": (1, 1), "upsampling": 0, "crop_edges": False, "phase": (0, 0)}, 24),
        ({"transform": 0}, 24),
        ({"sampling": (1, 1), "phase": (0, 0)}, 24),
        ({"phase": (9, 8)}, 25),
        ({"phase": (16 + 3, 0)}, None),
        ({"lossy_part": b"\1\2\3"}, 26),
    ],
)
def test_jpeg_fields_are_checked(changes, offset):
    if offset is None:  # no room for it
        with pytest.raises(errors.CorruptError):
            pack(jpeg_stream(**changes))
        return
    assert reason_of(pack(jpeg_stream(**changes))) == ("CorruptError", "corrupt", offset)


@pytest.mark.parametrize("s", [stream(), stream(mode=Mode.STORED, payload=bytes(12)), coded_stream(), jpeg_stream()])
def test_cut_and_flipped(s):
    data = pack(s)
    for n in range(len(data)):
        name, reason, _ = reason_of(data[:n])
        assert (name, reason) == (("TruncatedError", "truncated") if n < 24 else ("ChecksumError", "checksum"))
        for bit in range(8):
            flipped = data[:n] + bytes([data[n] ^ 1 << bit]) + data[n + 1 :]
            assert reason_of(flipped)[1] in ("magic", "version", "unsupported", "corrupt", "checksum")
    assert reason_of(data + b"\0")[1] == "checksum"


PINNED = [  # (offset, bytes to put there, class, reason, offset of the error) under right checksums
    (0, b"DLPX", "UnsupportedError", "magic", 0),
    (4, b"\1", "UnsupportedError", "version", 4),
    (4, b"\2", "UnsupportedError", "version", 4),
    (4, b"\4", "UnsupportedError", "version", 4),
    (5, b"\6", "UnsupportedError", "unsupported", 5),
    (7, b"\x40", "UnsupportedError", "unsupported", 7),
    (7, b"\3", "UnsupportedError", "unsupported", 7),
    (7, b"\2", "CorruptError", "corrupt", 7),
    (8, bytes(4), "CorruptError", "corrupt", 8),
    (8, b"\xff\xff\xff\xff", "UnsupportedError", "unsupported", 8),
    (8, b"\0\0\0\2", "UnsupportedError", "unsupported", 8),
    (32, b"\2", "CorruptError", "corrupt", 32),
    (32, b"\5", "UnsupportedError", "unsupported", 32),
    (32, b"\0", "CorruptError", "corrupt", 40),
    (33, b"\4", "CorruptError", "corrupt", 33),
    (33, b"\x09", "CorruptError", "corrupt", 33),
    (34, b"\6", "CorruptError", "corrupt", 34),
    (36, b"\0", "CorruptError", "corrupt", 36),
    (40, b"\0", "CorruptError", "corrupt", 40),
    (40, b"\3", "CorruptError", "corrupt", 40),
    (40, b"\xff\xff\xff\xff", "TruncatedError", "truncated", 291),
    (44, b"\xff\xff\xff\xff", "TruncatedError", "truncated", 291),
    (34, b"\5", "TruncatedError", "truncated", 291),
    (68, b"\x03", "CorruptError", "corrupt", 290),
    (68, b"\x05", "TruncatedError", "truncated", 291),
    (69, b"\x48", "CorruptError", "corrupt", 159),
    (69, b"\x80\x80\x80\x80\x80", "CorruptError", "corrupt", 74),
    (69, b"\xff\xff\xff\xff\x7f", "CorruptError", "corrupt", 73),
    (69, b"\x84\x00", "CorruptError", "corrupt", 70),
]


@pytest.mark.parametrize(("at", "value", "name", "reason", "offset"), PINNED)
def test_pinned_reasons(at, value, name, reason, offset, reseal):
    data = bytearray(pack(coded_stream()))
    assert len(data) == 291
    data[at : at + len(value)] = value
    assert reason_of(reseal(data)) == (name, reason, offset)


def test_more_pinned_reasons(reseal):
    long, short = pack(stream()) + b"\0", pack(stream())[:-1]
    assert reason_of(reseal(long)) == ("CorruptError", "corrupt", 27)
    assert reason_of(reseal(short)) == ("TruncatedError", "truncated", 26)
    assert reason_of(reseal(pack(coded_stream()) + b"\0")) == ("CorruptError", "corrupt", 291)
    tiny_lane = pack(coded_stream(lanes=((b"lan", b"four and one"), (b"four",) * 2)))
    assert reason_of(tiny_lane) == ("CorruptError", "corrupt", 68)
    grey = pack(Stream(Header(Mode.CODED, 0, GREY, 32, 33, 7), coded_stream().payload))
    assert reason_of(grey) == ("CorruptError", "corrupt", 37)
    data = bytearray(pack(coded_stream()))
    data[53] ^= 1
    data[20:24] = crc32c(bytes(data[24:]), crc32c(bytes(data[:20]), 0)).to_bytes(4, "little")
    assert reason_of(data) == ("ChecksumError", "checksum", 48)
    thin = pack(Stream(Header(Mode.CODED, 0, RGB, 1 << 21, 1, 7), coded_stream().payload))
    assert reason_of(thin) == ("UnsupportedError", "unsupported", 8)


def test_pixels_reason():
    image = np.zeros((2, 2, 3), np.uint8)
    header = Header(Mode.STORED, 0, RGB, 2, 2, crc32c(image, 0))
    check_pixels(header, image)
    with pytest.raises(ChecksumError) as info:
        check_pixels(header, image + np.uint8(1))
    assert info.value.reason == "pixels"


def test_pack_refuses_what_does_not_fit():
    for bad in (stream(tau=256), stream(height=1 << 32), coded_stream(interval=256), coded_stream(bank_entry=-1)):
        with pytest.raises(errors.CorruptError):
            pack(bad)


@given(st.binary(max_size=400))
def test_random_bytes(data):
    with pytest.raises(DlprError):
        parse(data)


@given(st.binary(max_size=300), st.sampled_from(list(Mode)), st.integers(0, 255))
def test_random_payload_under_right_checksums(payload, mode, layout):
    data = bytearray(struct.pack("<4sBBBBIIII", b"DLPR", 3, mode, 1, layout, 7, 40, 0, 0) + payload)
    if mode is Mode.CODED and len(data) >= 52:
        data[33:35] = bytes([5 + data[33] % 5, data[34] % 3])
        size = data[40] % 9
        data[40:48] = struct.pack("<II", size, data[44] % 30)
        data[32] = data[32] % 4
        crc_lossy = crc32c(bytes(data[52 : 52 + size]), crc32c(bytes(data[24:48]), crc32c(bytes(data[:16]), 0)))
        data[48:52] = crc_lossy.to_bytes(4, "little")
    if mode is Mode.JPEG and len(data) >= 34:
        data[24] &= 127
        size = data[26] % 9
        data[26:30] = struct.pack("<I", size)
        end = 34 + size + (8 if data[24] & 32 else 0)
        crc_lossy = crc32c(bytes(data[34:end]), crc32c(bytes(data[24:30]), crc32c(bytes(data[:16]), 0)))
        data[30:34] = crc_lossy.to_bytes(4, "little")
    data[20:24] = crc32c(bytes(data[24:]), crc32c(bytes(data[:20]), 0)).to_bytes(4, "little")
    try:
        found = parse(data)
    except DlprError as error:
        reason = error.reason
    else:
        reason = "none"
        assert pack(found) == bytes(data)
    assert reason in ("none", "truncated", "unsupported", "corrupt")


# ---- errors and checksums ----


def test_errors_cross_process_borders():
    for kind in (errors.CorruptError, errors.WeightsError, errors.UnsupportedInputError, errors.TruncatedError):
        error = kind("what", reason="why", offset=3)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.reason, again.offset) == (kind, str(error), "why", 3)


@pytest.mark.parametrize("n", [0, 1, 9, 511, 512, 513, 4097, 70001])
def test_crc_twin(n):
    data = np.random.default_rng(n).integers(0, 256, n, dtype=np.uint8).tobytes()
    assert crc.crc32c(data) == crc32c(data, 0)
    assert crc.crc32c(data[n // 3 :], crc.crc32c(data[: n // 3])) == crc32c(data, 0)
    assert crc.crc32c(b"123456789") == 0xE3069283
