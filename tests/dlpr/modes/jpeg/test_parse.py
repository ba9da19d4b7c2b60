"""JPEG bytes to coefficients: what libjpeg reads the same way, typed refusals, damage."""

from __future__ import annotations

import io
import struct
from itertools import pairwise

import numpy as np
import pytest

import dlpr
from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.image import ColourTransform
from dlpr.modes.jpeg.parse import SourceJpeg, image_of, parse, window
from dlpr.modes.jpeg.synthesis import synthesise

pillow = pytest.importorskip("PIL.Image")


def pixels(height: int = 45, width: int = 61) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    wave = 128 + 70 * np.sin(y / 6) * np.cos(x / 8)
    return np.clip(wave[..., None] * [1, 0.8, 0.9] + rng.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    with pillow.open(io.BytesIO(data)) as opened:
        return np.asarray(opened)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 30},
        {"quality": 95, "subsampling": 0},
        {"quality": 80, "subsampling": 1, "optimize": True},
        {"quality": 80, "restart_marker_blocks": 1},
        {"quality": 60, "restart_marker_blocks": 7},
        {"quality": 60, "restart_marker_rows": 1, "subsampling": 0},
        {"qtables": [list(range(1, 65)), [9] * 64]},
    ],
)
def test_pixels_of_pillow(options: dict[str, object]) -> None:
    for image in (pixels(), pixels(8, 8), pixels(1, 1), pixels(17, 16), pixels()[..., 0]):
        data = jpeg(image, **options)
        out = synthesise(parse(data))
        assert np.array_equal(out if image.ndim == 3 else out[..., 0], decoded(data))


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """Marker segments up to the scan, whose entropy-coded bytes belong to the last."""
    out, at = [], 2
    while True:
        marker, size = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xDA:
            return [*out, (marker, data[at:])]
        out.append((marker, data[at : at + 2 + size]))
        at += 2 + size


def joined(parts: list[bytes]) -> bytes:
    return b"\xff\xd8" + b"".join(parts)


def without_jfif(data: bytes) -> list[bytes]:
    return [s for marker, s in segments(data) if marker != 0xE0]


def adobe(transform: int) -> bytes:
    return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def test_colour_transform_as_libjpeg_decides() -> None:
    data = jpeg(pixels(), subsampling=0)
    assert parse(data).transform is ColourTransform.YCBCR
    assert parse(data, transform=ColourTransform.NONE).transform is ColourTransform.NONE
    plain = without_jfif(data)
    named = [
        s.replace(b"\1\x11\0", b"R\x11\0").replace(b"\2\x11\1", b"G\x11\1").replace(b"\3\x11\1", b"B\x11\1")
        if s[1] == 0xC0
        else s[:5] + b"R" + s[6:7] + b"G" + s[8:9] + b"B" + s[10:]
        if s[1] == 0xDA
        else s
        for s in plain
    ]
    for parts, expected in (
        (plain, ColourTransform.YCBCR),
        ([adobe(0), *plain], ColourTransform.NONE),
        ([adobe(1), *plain], ColourTransform.YCBCR),
        (named, ColourTransform.NONE),
        ([adobe(1), *named], ColourTransform.YCBCR),
    ):
        image = parse(joined(parts))
        assert image.transform is expected
        assert np.array_equal(synthesise(image), decoded(joined(parts)))


def test_tables_apart() -> None:
    data = jpeg(pixels())
    parts = segments(data)
    tables = joined([s for marker, s in parts if marker in (0xDB, 0xC4)]) + b"\xff\xd9"
    rest = joined([s for marker, s in parts if marker not in (0xDB, 0xC4)])
    assert np.array_equal(synthesise(parse(rest, tables)), decoded(data))
    with pytest.raises(UnsupportedInputError, match="missing"):
        parse(rest)
    with pytest.raises(UnsupportedInputError, match="among the tables"):
        parse(rest, data)


def test_slide_tiles() -> None:
    tifffile = pytest.importorskip("tifffile")
    imagecodecs = pytest.importorskip("imagecodecs")
    with tifffile.TiffFile("examples/CMU-1-Small-Region.svs") as slide:
        page = slide.pages[0]
        for i in (0, 40, 77):
            slide.filehandle.seek(page.dataoffsets[i])
            data = slide.filehandle.read(page.databytecounts[i])
            image = parse(data, page.jpegtables, ColourTransform.NONE)
            expected = imagecodecs.jpeg8_decode(data, tables=page.jpegtables, colorspace="RGB", outcolorspace="RGB")
            assert np.array_equal(synthesise(image), expected)


def test_refusals() -> None:
    good = jpeg(pixels())
    frame = next(s for marker, s in segments(good) if marker == 0xC0)
    cases = {
        "neither sequential nor progressive": good.replace(frame, b"\xff\xc9" + frame[2:]),
        "neither one nor three": good.replace(frame, b"\xff\xc0\0\x0e" + frame[4:9] + b"\2" + frame[10:16]),
        "more than 8 bits": good.replace(frame, frame[:4] + b"\x0c" + frame[5:]),
        "size of 0": good.replace(frame, frame[:5] + b"\0\0" + frame[7:]),
        "two frames": good.replace(frame, frame + frame),
        "sampling": good.replace(frame, frame[:11] + b"\x41" + frame[12:]),
        "no JPEG": b"RIFF" + good,
        "marker": good[:20],
        "scan before": joined([s for marker, s in segments(good) if marker != 0xC0]),
        "too short": good.replace(frame, frame[:5] + b"\x20\0\x20\0" + frame[9:]),
        "cut short": good[: len(good) // 2],
    }
    for what, data in cases.items():
        with pytest.raises(UnsupportedInputError, match=what):
            parse(data)


@pytest.mark.parametrize("quality", [20, 75, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_progressive_has_the_coefficients_of_sequential(quality: int, subsampling: int) -> None:
    options = {"quality": quality, "subsampling": subsampling}
    for image in (pixels(), pixels(8, 8), pixels(1, 1), pixels(9, 33), pixels(200, 136), pixels()[..., 0]):
        for restart in ({}, {"restart_marker_blocks": 2}, {"restart_marker_rows": 1}):
            data = jpeg(image, progressive=True, **options, **restart)
            assert b"\xff\xc2" in data
            one, other = parse(data), parse(jpeg(image, **options))
            out = synthesise(one)
            assert np.array_equal(out if image.ndim == 3 else out[..., 0], decoded(data))
            assert np.array_equal(one.tables, other.tables)
            seen = -(-one.height // 8), -(-one.width // 8)  # luma that only fills an MCU has no AC in progressive files
            for c, (a, b) in enumerate(zip(one.coefficients, other.coefficients, strict=True)):
                rows, columns = a.shape[:2] if c else seen
                assert np.array_equal(a[:rows, :columns], b[:rows, :columns])


def test_progressive_source_gives_the_same_stream() -> None:
    image = pixels(70, 90)
    one, other = jpeg(image, quality=80, progressive=True), jpeg(image, quality=80)
    out = decoded(one)
    data = dlpr.encode(out, source_jpeg=SourceJpeg(one))
    assert dlpr.inspect(data).mode == "jpeg"
    assert data == dlpr.encode(out, source_jpeg=SourceJpeg(other))
    assert np.array_equal(dlpr.decode(data), out)


def scans(data: bytes) -> list[bytes]:
    """A progressive file in pieces: up to the first scan, each scan with the tables before it, EOI."""
    at = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    starts = [at[0]]
    for last, following in pairwise(at):
        table = data.find(b"\xff\xc4", last, following)
        starts.append(table if table >= 0 else following)
    return [data[: at[0]], *(data[i:j] for i, j in zip(starts, [*starts[1:], len(data) - 2], strict=True)), data[-2:]]


def test_progressive_files_that_lack_something_are_refused() -> None:
    data = jpeg(pixels(), progressive=True)
    head, *middle, end = scans(data)
    assert len(middle) == 10
    assert np.array_equal(synthesise(parse(head + b"".join(middle) + end)), decoded(data))
    for i in range(10):
        with pytest.raises(UnsupportedInputError, match=r"not complete|follow|AC before DC|missing"):
            parse(head + b"".join(middle[:i] + middle[i + 1 :]) + end)
        with pytest.raises(UnsupportedInputError, match=r"follow|missing"):
            parse(head + b"".join(middle[: i + 1] + middle[i:]) + end)
    with pytest.raises(UnsupportedInputError, match="marker is missing"):
        parse(data[:-2])
    frame = data.index(b"\xff\xc2")
    with pytest.raises(UnsupportedInputError, match="too short"):
        parse(data[: frame + 5] + b"\x20\0\x20\0" + data[frame + 9 :])


def test_damage_is_refused_or_read() -> None:
    rng = np.random.default_rng(2)
    files = [jpeg(pixels(24, 31), subsampling=s, restart_marker_blocks=r) for s in (0, 2) for r in (0, 2)]
    files += [jpeg(pixels(24, 31), subsampling=s, restart_marker_blocks=s, progressive=True) for s in (0, 2)]
    refused = 0
    for i in range(4500):
        data = bytearray(files[i % 6])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        if rng.random() < 0.2:
            del data[int(rng.integers(len(data))) :]
        try:
            image = parse(bytes(data))
        except UnsupportedInputError:
            refused += 1
        else:
            if image.height * image.width < 1 << 16:
                assert synthesise(image).shape == (image.height, image.width, image.components)
    assert refused > 300
    for size in range(len(files[0])):
        try:
            parse(files[0][:size])
        except UnsupportedInputError:
            continue
        assert size >= len(files[0]) - 3  # only the end marker is missing


def test_windows() -> None:
    rng = np.random.default_rng(3)
    for subsampling in (0, 1, 2):
        whole = parse(jpeg(pixels(100, 120), quality=70, subsampling=subsampling))
        full = synthesise(whole)
        for _ in range(20):
            top, left = int(rng.integers(0, 60)), int(rng.integers(0, 60))
            height, width = int(rng.integers(1, 100 - top)), int(rng.integers(1, 120 - left))
            part = window(whole, top, left, height, width)
            differs = (synthesise(part) != full[top : top + height, left : left + width]).any(axis=2)
            if subsampling == 0:
                assert not differs.any()
            assert not differs[2:-2, 2:-2].any()  # chroma beside the cut, at most
            again = window(part, 0, 0, height, width)
            assert np.array_equal(synthesise(again), synthesise(part))
        corner = window(whole, 32, 48, 68, 72)
        assert corner.crop_edges
        with pytest.raises(UnsupportedInputError):
            window(whole, 50, 0, 51, 10)


def test_sources() -> None:
    data = jpeg(pixels())
    assert image_of(data, 45, 61) is not None
    assert image_of(data, 46, 61) is None
    assert image_of(SourceJpeg(data, offset=(5, 6)), 40, 55) is not None
    assert image_of(SourceJpeg(data, offset=(5, 7)), 40, 55) is None
    assert image_of(parse(data), 45, 61) is not None
    assert image_of(parse(data), 45, 60) is None
    assert image_of(b"no JPEG", 5, 5) is None
    assert image_of("path.jpg", 5, 5) is None
    with pytest.raises(UnsupportedInputError, match="SourceJpeg"):
        dlpr.encode(np.zeros((5, 5), np.uint8), source="path.jpg")  # type: ignore[arg-type]
