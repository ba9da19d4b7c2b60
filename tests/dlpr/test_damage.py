"""Damaged and forged streams: a typed error or the right pixels; never another exception, a crash or a hang."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

import dlpr
from dlpr import bitstream, reference
from dlpr.bitstream import HEADER_SIZE, Header, Mode, Stream, crc32c
from dlpr.errors import BitstreamError, ChecksumError, CorruptError, DlprError, TruncatedError
from dlpr.layout import Layout
from dlpr.modes.j2k.fields import Colour, Component, Fields, Wavelet
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.payload import J2K_SIZE
from dlpr.modes.j2k.synthesis import synthesise as j2k_synthesise
from dlpr.modes.jpeg.image import ColourTransform, JpegImage, Upsampling
from dlpr.modes.jpeg.payload import JPEG_SIZE
from dlpr.modes.jpeg.synthesis import synthesise
from dlpr.modes.jpeg.tables import standard_table
from dlpr.modes.networks import weights as weights_store
from dlpr.modes.networks.payload import CODED_SIZE, CodedPayload

Bytes = bytes | bytearray
REASONS = {"truncated", "magic", "version", "unsupported", "checksum", "corrupt", "pixels", "weights", "prior"}
START = b"DLPR" + bytes([bitstream.VERSION])


def smooth(height: int, width: int, channels: int = 3, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = 128 + 80 * np.sin(y / 7) * np.cos(x / 9)
    return np.clip(wave[..., None] + rng.normal(0, 5, (height, width, channels)), 0, 255).astype(np.uint8)


def jpeg_stream(*, with_prior: bool = False) -> bytes:
    """Blocks of some frequencies, and pixels that differ in places."""
    rng = np.random.default_rng(6)
    blocks = [np.zeros((n, n, 8, 8), np.int16) for n in (4, 2, 2)]
    for q in blocks:
        q[..., :2, :3] = rng.integers(-6, 7, q[..., :2, :3].shape)
    tables = (np.full((8, 8), 9, np.uint16), *2 * (standard_table(140),))
    fancy, ycc = Upsampling.FANCY, ColourTransform.YCBCR
    image = JpegImage(26, 25, (3, 1), ycc, (2, 2), fancy, True, tables, tuple(blocks))
    pixels = synthesise(image)
    pixels[4:7, 5:9] ^= 3
    prior = dlpr.Prior.learn([image] * 3) if with_prior else None
    return dlpr.encode(pixels, source_jpeg=image, jpeg="given", prior=prior)


def j2k_stream() -> bytes:
    """A stream of mode j2k with a residual."""
    step = ((8, 0), (9, 0), (9, 0), (10, 0))
    component = Component((1, 1), Wavelet.REVERSIBLE, ((4, 4), (4, 4)), step, 2)
    fields = Fields((0, 0, 30, 34), (0, 0, 30, 34), (component,) * 3, True, Colour.NONE)
    rng, arrays = np.random.default_rng(8), []
    for band in fields.bands:
        q = (rng.laplace(0, 3, band.shape).astype(np.int32) >> 1) << 1
        planes, counts = 8, np.full(band.grid, 3 * 7 - 2, np.uint8)
        arrays.append((q, counts, np.full(band.grid, band.planes - planes, np.uint8)))
    image = J2kImage(fields, *(tuple(group) for group in zip(*arrays, strict=True)))
    pixels = j2k_synthesise(image).copy()
    pixels[4:7, 5:9] ^= 3
    return dlpr.encode(pixels, source=image, jpeg="given")


@pytest.fixture(scope="module")
def streams() -> dict[str, bytes]:
    """One small stream of each mode, and coded ones of several shapes."""
    made = {
        "coded": dlpr.encode(smooth(40, 40)),
        "coded tau": dlpr.encode(smooth(33, 37), 2, anchor="lossy", patch=32, lanes=2),
        "coded bare": dlpr.encode(smooth(20, 12), lossy_layer=False),
        "coded grey": dlpr.encode(smooth(36, 33, 1), 1, lanes=4),
        "constant": dlpr.encode(np.full((40, 40, 3), 77, np.uint8)),
        "stored": dlpr.encode(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)),
        "jpeg": jpeg_stream(),
        "jpeg prior": jpeg_stream(with_prior=True),
        "j2k": j2k_stream(),
    }
    assert made["jpeg prior"][24] & 32
    modes = {name: dlpr.inspect(data).mode for name, data in made.items()}
    assert modes == {name: name.split()[0] for name in made}
    return made


def seal(data: Bytes) -> bytes:
    """Make the checksums of the bytes right, so that what is behind them is reached."""
    out = bytearray(data)
    if len(out) >= CODED_SIZE and out[5] == Mode.CODED:
        (size,) = struct.unpack_from("<I", out, 40)
        crc = crc32c(bytes(out[52 : 52 + size]), crc32c(bytes(out[24:48]), crc32c(bytes(out[:16]), 0)))
        struct.pack_into("<I", out, 48, crc)
    if len(out) >= JPEG_SIZE and out[5] == Mode.JPEG:
        (size,) = struct.unpack_from("<I", out, 26)
        size += 8 if out[24] & 32 else 0  # the prior's name
        crc = crc32c(bytes(out[34 : 34 + size]), crc32c(bytes(out[24:30]), crc32c(bytes(out[:16]), 0)))
        struct.pack_into("<I", out, 30, crc)
    if len(out) >= J2K_SIZE and out[5] == Mode.J2K:
        (size,) = struct.unpack_from("<I", out, 25)
        crc = crc32c(bytes(out[33 : 33 + size]), crc32c(bytes(out[24:29]), crc32c(bytes(out[:16]), 0)))
        struct.pack_into("<I", out, 29, crc)
    if len(out) >= HEADER_SIZE:
        struct.pack_into("<I", out, 20, crc32c(bytes(out[24:]), crc32c(bytes(out[:20]), 0)))
    return bytes(out)


def outcome(decode: Callable[[bytes], np.ndarray], data: Bytes) -> str | tuple[tuple[int, ...], bytes]:
    """Reason of the error, or the pixels. Anything but a BitstreamError is passed on and fails the test."""
    try:
        out = decode(bytes(data))
    except BitstreamError as error:
        return error.reason if error.reason in REASONS and str(error).startswith("dlpr: ") else repr(error)
    return out.shape, out.tobytes()


def native(data: bytes) -> np.ndarray:
    return dlpr.decode(data, threads=1)


# ---- accidents ------------------------------------------------------------------------------------------


def test_truncation_at_every_length(streams: dict[str, bytes]) -> None:
    for name, data in streams.items():
        for size in range(len(data)):
            assert outcome(native, data[:size]) == ("truncated" if size < HEADER_SIZE else "checksum"), (name, size)
            with pytest.raises(DlprError):
                dlpr.inspect(data[:size])


def test_truncation_under_right_checksums(streams: dict[str, bytes]) -> None:
    for name, data in streams.items():
        for size in range(HEADER_SIZE, len(data)):
            found = outcome(native, seal(data[:size]))
            # an arithmetic lane that is cut may end well, with other symbols
            lane = found == "pixels" and name.split()[0] in ("jpeg", "j2k")
            assert lane or found in {"truncated", "checksum", "corrupt"}, (name, size)


def test_trailing_bytes_are_refused(streams: dict[str, bytes]) -> None:
    for data in streams.values():
        assert outcome(native, data + b"\0") == "checksum"
        assert outcome(native, seal(data + b"\0")) == "corrupt"


def flip_bits(streams: dict[str, bytes], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = list(streams.values())
    for i in range(count):
        data = bytearray(pool[i % len(pool)])
        at = int(rng.integers(len(data)))
        data[at] ^= 1 << int(rng.integers(8))
        found = outcome(native, data)
        if at >= 16:
            assert found == "checksum", at
        else:
            assert found in (
                {"magic"} if at < 4 else {"version"} if at == 4 else {"unsupported", "corrupt", "checksum"}
            )


def test_random_bit_flips(streams: dict[str, bytes]) -> None:
    flip_bits(streams, 1000, 1)


@pytest.mark.full
def test_many_random_bit_flips(streams: dict[str, bytes]) -> None:
    flip_bits(streams, 10_000, 2)


def test_random_bytes() -> None:
    rng = np.random.default_rng(3)
    for i in range(2000):
        noise = rng.bytes(int(rng.integers(0, 300)))
        for data in (noise, b"DLPR" + noise, START + noise, seal(START + noise)):
            assert isinstance(outcome(native, data), str), i


def test_random_headers_under_right_checksums() -> None:
    """Small sizes, all else at random: the fields' checks, mode by mode."""
    rng = np.random.default_rng(4)
    known = weights_store.default_id()
    for i in range(3000):
        layout = int(rng.choice([0, 1, 2, 32, 33, 34, 38, 64, rng.integers(256)]))
        tau, size = int(rng.integers(256)), rng.integers(0, 50, 2)
        head = START + struct.pack("<BBBII", i % 5, tau, layout, *size)
        coded = known + bytes([int(rng.integers(4)), *rng.integers((4, 0, 0, 0), (10, 7, 20, 256))])
        sizes = struct.pack("<III", int(rng.integers(0, 40)), int(rng.integers(0, 80)), 0)
        data = head + bytes(8) + coded + rng.bytes(3) + sizes + rng.bytes(int(rng.integers(300)))
        assert isinstance(outcome(native, seal(data)), str), i


def test_swapped_parts_of_two_streams(streams: dict[str, bytes]) -> None:
    one, other = dlpr.encode(smooth(40, 40, seed=8)), streams["coded"]
    for at in range(0, min(len(one), len(other)), 13):
        mixed = one[:at] + other[at:]
        assert isinstance(outcome(native, mixed), str) or mixed in (one, other)


@pytest.mark.parametrize("layer", ["full", "lossy"])
def test_not_a_buffer(layer: str) -> None:
    for thing in (None, 5, "DLPR", 1.5):
        with pytest.raises((TypeError, DlprError)):
            dlpr.decode(thing, layer=layer)  # type: ignore[call-overload]
    with pytest.raises(DlprError):
        dlpr.decode(b"", layer=layer)  # type: ignore[call-overload]


# ---- forgeries: every checksum of the bytes is right -----------------------------------------------------


def payload_of(data: bytes) -> tuple[Header, CodedPayload]:
    stream = bitstream.parse(data)
    assert isinstance(stream.payload, CodedPayload)
    return stream.header, stream.payload


def noise_like(rng: np.random.Generator, part: bytes) -> bytes:
    """Some change of a part: flipped bits, another length, other bytes, a new beginning (a lane's first state)."""
    out = bytearray(part)
    kind = int(rng.integers(6))
    if kind == 0:
        for _ in range(int(rng.integers(1, 4))):
            out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del out[int(rng.integers(4, len(out) + 1)) :]
    elif kind == 2:
        out += rng.bytes(int(rng.integers(1, 9)))
    elif kind == 3:
        out[4:] = rng.bytes(len(out) - 4)
    elif kind == 4:
        out[:4] = struct.pack("<I", int(rng.integers(1 << 22, 1 << 32)))
    else:
        out = bytearray(struct.pack("<I", int(rng.integers(1 << 23, 1 << 31))) + rng.bytes(int(rng.integers(600))))
    return bytes(out)


def forge(rng: np.random.Generator, data: bytes) -> bytes:
    """A stream with right checksums of bytes and something else wrong."""
    header, p = payload_of(data)
    kind = int(rng.integers(6))
    if kind == 0:  # header
        field = int(rng.integers(3))
        if field == 0:
            header = replace(header, tau=int(rng.integers(256)))
        elif field == 1:
            header = replace(header, height=int(rng.integers(1, 80)), width=int(rng.integers(1, 80)))
        else:
            header = replace(header, layout=Layout(header.layout.axes, int(rng.integers(8)), header.layout.channels))
    elif kind == 1:  # fixed fields
        base = rng.integers(0, 256, 3) if header.layout.channels == 3 else [int(rng.integers(256))] * 3
        change = [
            {"interval": int(rng.integers(1, 256))},
            {"bank_entry": int(rng.integers(24))},
            {"base": tuple(map(int, base))},
            {"patch_exp": int(rng.integers(5, 9))},
            {"anchor_lossy": not p.anchor_lossy},
            {"weights_id": rng.bytes(8)},
        ][int(rng.integers(6))]
        p = replace(p, **change)  # type: ignore[arg-type]
    elif kind == 2 and p.lossy:
        p = replace(p, lossy_part=noise_like(rng, bytes(p.lossy_part)))
    elif kind in (2, 3):
        part = bytearray(p.linear_part)
        heads = 2 + 5 * header.layout.channels * (1 << part[1])
        if rng.random() < 0.6:  # fields of the groups
            part[int(rng.integers(heads))] = int(rng.choice([0, 1, 2, 4, 8, 12, 13, 31, 64, 66, 67, 128, 255]))
        else:
            part[heads:] = noise_like(rng, bytes(part[heads:]))
        p = replace(p, linear_part=bytes(part))
    else:  # lanes, with a table that fits
        lanes = [[bytes(lane) for lane in patch] for patch in p.lanes]
        patch = lanes[int(rng.integers(len(lanes)))]
        i = int(rng.integers(len(patch)))
        if kind == 4:
            patch[i] = noise_like(rng, patch[i])
        else:
            j = int(rng.integers(len(patch)))
            patch[i], patch[j] = patch[j], bytes(patch[i]) + rng.bytes(1)
        p = replace(p, lanes=tuple(map(tuple, lanes)))
    return bitstream.pack(Stream(header, p))


def forgeries(streams: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(seed)
    names = [name for name in streams if name.startswith("coded")]
    for i in range(count):
        name = names[i % len(names)]
        yield name, forge(rng, streams[name])


def check_forgeries(streams: dict[str, bytes], count: int, seed: int) -> None:
    good = {name: dlpr.decode(data).tobytes() for name, data in streams.items()}
    errors = 0
    for i, (name, data) in enumerate(forgeries(streams, count, seed)):
        found = outcome(native, data)
        if isinstance(found, str):
            assert found in REASONS, found
            errors += 1
        else:
            assert found[1] == good[name], f"{name}: forgery {i} decodes to other pixels"
        with suppress(BitstreamError):  # the lossy layer has no checksum of its samples: some image, or a typed error
            assert dlpr.decode(data, layer="lossy").dtype == np.uint8
    assert errors > count // 2


def test_forged_streams(streams: dict[str, bytes]) -> None:
    check_forgeries(streams, 1500, 5)


@pytest.mark.full
def test_many_forged_streams(streams: dict[str, bytes]) -> None:
    check_forgeries(streams, 20_000, 6)


def test_raw_changes_under_right_checksums(streams: dict[str, bytes]) -> None:
    """Any byte of a stream: lane table and reserved bits are reached too."""
    rng = np.random.default_rng(7)
    for data in streams.values():
        good = dlpr.decode(data).tobytes()
        for at in (*range(min(len(data), 60)), *rng.integers(24, len(data), 200).tolist()):
            if not 16 <= at < 24:
                changed = bytearray(data)
                changed[at] ^= 1 << int(rng.integers(8))
                found = outcome(native, seal(changed))
                assert isinstance(found, str) or found[1] == good or at == 6, at


def test_wrong_lane_tables(streams: dict[str, bytes]) -> None:
    info = dlpr.inspect(streams["coded tau"])
    table = CODED_SIZE + info.bytes_by_part["lossy"] + info.bytes_by_part["linear"]
    data = streams["coded tau"]
    for entry in (
        b"\0",
        b"\3",
        b"\x7f",
        b"\x80\x00",
        b"\xff" * 5,
        b"\xff\xff\xff\xff\x0f",
        b"\x80" * 300,
        b"\xff\xff\x03",
    ):
        for at in range(table, table + 8):
            for end in (at, at + 1, at + 2):
                changed = data[:at] + entry + data[end:]
                if changed != data:
                    assert outcome(native, seal(changed)) in {"corrupt", "truncated", "pixels"}, (entry, at, end)


def test_threads_and_batches_report_damage_alike(streams: dict[str, bytes]) -> None:
    bad = [data for _, data in forgeries(streams, 60, 8)]
    good = streams["coded"]
    for data in bad:
        expected = outcome(native, data)
        assert outcome(lambda d: dlpr.decode(d, threads=4), data) == expected
        assert outcome(lambda d: dlpr.decode_batch([good, d, good], threads=2)[1], data) == expected
    for _ in range(20):  # an error leaves nothing behind
        assert dlpr.decode(good).tobytes() == smooth(40, 40).tobytes()


def compare_with_reference(small: dict[str, bytes], count: int, seed: int) -> None:
    for i, (name, data) in enumerate(forgeries(small, count, seed)):
        assert outcome(native, data) == outcome(reference.decode, data), f"{name}: forgery {i}"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checksum of the samples, decoders must agree on what a forged stream means."""
    monkeypatch.setattr(bitstream, "check_pixels", lambda *_: None)


@pytest.fixture(scope="module")
def small() -> dict[str, bytes]:
    made = {
        "coded": dlpr.encode(smooth(9, 10), min_lossy_side=1),
        "coded tau": dlpr.encode(smooth(10, 9), 1, anchor="lossy", min_lossy_side=1, lanes=2),
        "coded bare": dlpr.encode(smooth(11, 8)),
        "coded grey": dlpr.encode(smooth(16, 12, 1), 1, min_lossy_side=1),
    }
    assert {dlpr.inspect(data).mode for data in made.values()} == {"coded"}
    return made


@pytest.mark.usefixtures("unchecked")
def test_forgeries_mean_the_same_to_the_reference(small: dict[str, bytes]) -> None:
    compare_with_reference(small, 120, 9)


@pytest.mark.full
@pytest.mark.usefixtures("unchecked")
def test_many_forgeries_mean_the_same_to_the_reference(small: dict[str, bytes]) -> None:
    compare_with_reference(small, 3000, 10)


# ---- size bombs -----------------------------------------------------------------------------------------


def bomb(mode: Mode, height: int, width: int, payload: bytes, layout: int = 0) -> bytes:
    head = struct.pack("<4sBBBBIIII", b"DLPR", bitstream.VERSION, mode, 1, layout, height, width, 0, 0)
    return seal(head + payload)


def coded_bomb(height: int, width: int, a: int, b: int, tail: bytes, flags: int = 1) -> bytes:
    fields = weights_store.default_id() + bytes([flags, 5, 5, 0, 255, 1, 2, 3]) + struct.pack("<III", a, b, 0)
    return bomb(Mode.CODED, height, width, fields + tail)


def bombs() -> dict[str, bytes]:
    top, side = (1 << 32) - 1, 1 << 13
    out = {
        f"{mode.name} {h}x{w}": bomb(mode, h, w, bytes(40))
        for mode in Mode
        for h, w in ((top, top), (top, 1), (side, side + 1), (1 << 16, 1 << 16))
    }
    out |= {f"stored {layout}": bomb(Mode.STORED, side, side, bytes(99), layout) for layout in (0, 1, 34, 62)}
    for flags in (0, 1, 3):
        for a, b in ((0, 0), (40, 0), (40, 30), (top, 0), (0, top), (top, top)):
            out[f"coded {flags} {a} {b}"] = coded_bomb(side, side, a, b, bytes(300), flags)
            out[f"coded thin {flags} {a} {b}"] = coded_bomb(1, side * side, a, b, bytes(300), flags)
    out["lanes"] = coded_bomb(40, 40, 0, 2, b"\4\0" + b"\xff\xff\xff\xff\x0f" * 128, 0)
    out["lane of 4 GiB"] = coded_bomb(32, 32, 0, 2, b"\4\0" + b"\4" * 31 + b"\xff\xff\xff\xff\x0f" + bytes(400), 0)
    return out


BOMBED = """
import json, resource, sys, time
import dlpr
from dlpr.errors import BitstreamError
with open(sys.argv[1]) as file:
    bombs = {name: bytes.fromhex(data) for name, data in json.load(file).items()}
dlpr.decode(bytes.fromhex(sys.argv[2]), threads=1)  # loads everything
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[3]) << 20), resource.RLIM_INFINITY))
for name, data in bombs.items():
    for layer in ("full", "lossy"):
        start = time.process_time()
        try:
            dlpr.decode(data, threads=1, layer=layer)
            print(name, layer, "decoded")
        except BitstreamError:
            pass
        if time.process_time() - start > float(sys.argv[4]):
            print(name, layer, time.process_time() - start, "s")
"""


def explode(data: dict[str, bytes], good: bytes, path: str, mebibytes: int, seconds: float) -> None:
    with open(path, "w") as file:
        json.dump({name: stream.hex() for name, stream in data.items()}, file)
    done = subprocess.run(
        [sys.executable, "-c", BOMBED, path, good.hex(), str(mebibytes), str(seconds)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc")
def test_claims_of_huge_shapes_fail_before_memory_is_taken(streams: dict[str, bytes], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    explode(bombs(), streams["coded"], str(tmp_path_factory.mktemp("bombs") / "bombs.json"), 32, 0.5)


def largest() -> dict[str, bytes]:
    """Claims of the largest chunk that the format allows, with all the lanes it needs but nothing in them."""
    side, lane = 1 << 13, struct.pack("<I", 1 << 23)
    linear = b"\x08\x00" + b"\0\0\0\x20\0" * 3 + lane
    known = weights_store.default_id()
    out = {"constant": bomb(Mode.CONSTANT, side, side, b"\1\2\3")}
    for flags, a in ((0, b""), (1, lane + bytes(60)), (3, struct.pack("<I", (1 << 31) - 1))):
        fields = known + bytes([flags, 8, 0, 0, 255, 1, 2, 3]) + struct.pack("<III", len(a), len(linear), 0)
        out[f"coded {flags}"] = bomb(Mode.CODED, side, side, fields + a + linear + b"\4" * 1024 + lane * 1024)
    return out


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc")
def test_the_largest_chunk_stays_within_the_limits(streams: dict[str, bytes], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    explode(largest(), streams["coded"], str(tmp_path_factory.mktemp("bombs") / "largest.json"), 1024, 20)


def test_reasons_of_the_error_tree() -> None:
    data = dlpr.encode(smooth(8, 8))
    with pytest.raises(TruncatedError):
        dlpr.decode(data[:10])
    with pytest.raises(ChecksumError):
        dlpr.decode(data[:-1])
    with pytest.raises(CorruptError):
        dlpr.decode(seal(data + b"\0"))
    changed = bytearray(data)
    changed[16] ^= 1
    with pytest.raises(ChecksumError) as caught:
        dlpr.decode(seal(changed))
    assert caught.value.reason == "pixels"
