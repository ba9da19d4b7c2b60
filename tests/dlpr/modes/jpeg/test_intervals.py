"""Restart intervals by themselves: from one chunk, from several side by side, with windows that cut MCUs."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest

from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.intervals import interval_template, join_intervals, paste, run_of_mcus, split_interval
from dlpr.modes.jpeg.parse import parse, window
from dlpr.modes.jpeg.rewrite import Template, join, split

pillow = pytest.importorskip("PIL.Image")
REAL_SLIDES = Path(__file__).parents[5] / "shared" / "data" / "slides"


def pixels(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    wave = 128 + 70 * np.sin(y / 6) * np.cos(x / 8)
    return np.clip(wave[..., None] * [1, 0.8, 0.9] + rng.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """Head and restart intervals of a JPEG of one scan."""
    start = data.index(b"\xff\xda")
    start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start], re.split(rb"\xff[\xd0-\xd7]", data[start:-2])


def runs(count: int, each: int) -> list[tuple[int, int]]:
    return [(at, min(each, count - at)) for at in range(0, count, each)]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(("size", "each"), [((48, 96), 3), ((45, 61), 2), ((64, 64), 1), ((40, 100), 7)])
def test_intervals_of_one_chunk(subsampling: int, size: tuple[int, int], each: int) -> None:
    for colour in (True, False):
        image = pixels(*size)
        data = jpeg(image if colour else image[..., 0], subsampling=subsampling, restart_marker_blocks=each)
        head, intervals = cut(data)
        whole, template = parse(data), interval_template(head)
        v, h = whole.sampling
        count = whole.blocks(0)[0] // v * (whole.blocks(0)[1] // h)
        assert join_intervals(template, whole, runs(count, each)) == intervals
        assert template.is_interval
        assert len(template.data) < 80
        for run, interval in zip(runs(count, each), intervals, strict=True):
            parts = split_interval(head, interval, run[1])
            assert parts.template == template
            assert parts.hint(run_of_mcus(whole, *run)) == b""
        with pytest.raises(CorruptError):
            join_intervals(template, whole, [(count - 1, 2)])


@pytest.mark.parametrize("subsampling", [0, 2])
def test_chunks_side_by_side(subsampling: int) -> None:
    data = jpeg(pixels(64, 160), subsampling=subsampling, restart_marker_rows=1)
    head, intervals = cut(data)
    whole = parse(data)
    mcu = whole.mcu[0]
    columns, rows = 160 // mcu, 64 // mcu
    template = interval_template(head)
    at = [(top, left) for top in (0, 32) for left in (0, 64, 128)]
    pieces = [(y // mcu, x // mcu, window(whole, y, x, 32, min(64, 160 - x))) for y, x in at]
    both = paste(pieces)
    assert join_intervals(template, both, runs(rows * columns, columns)) == intervals
    lower = paste(pieces[3:])
    assert join_intervals(template, lower, runs(rows * columns // 2, columns)) == intervals[rows // 2 :]
    with pytest.raises(UnsupportedInputError, match="rectangle"):
        paste([pieces[0], pieces[2]])
    other = parse(jpeg(pixels(64, 160), quality=20, subsampling=subsampling))
    with pytest.raises(UnsupportedInputError, match="different"):
        paste([pieces[0], (0, 4, other)])


def without_hidden_blocks(image: JpegImage) -> JpegImage:
    """What a stream holds: blocks of component 0 that show no pixel are 0."""
    luma = np.zeros_like(image.coefficients[0])
    (y, x), (bottom, right) = image.phase, (image.phase[0] + image.height, image.phase[1] + image.width)
    rows, columns = slice(y // 8, -(-bottom // 8)), slice(x // 8, -(-right // 8))
    luma[rows, columns] = image.coefficients[0][rows, columns]
    return JpegImage(
        image.height,
        image.width,
        image.phase,
        image.transform,
        image.sampling,
        image.upsampling,
        image.crop_edges,
        image.tables,
        (luma, *image.coefficients[1:]),
    )


def test_windows_that_cut_mcus() -> None:
    """Chunks of 24 px in a JPEG of 16 px MCUs share MCUs; each holds the blocks that it shows."""
    data = jpeg(pixels(45, 125), subsampling=2, restart_marker_rows=1)
    head, intervals = cut(data)
    whole = parse(data)
    pieces = []
    for y in range(0, 45, 24):
        for x in range(0, 125, 24):
            piece = window(whole, y, x, min(24, 45 - y), min(24, 125 - x))
            pieces.append((y // 16, x // 16, without_hidden_blocks(piece)))
    both = paste(pieces)
    assert both.blocks(0) == (6, 16)
    assert join_intervals(interval_template(head), both, runs(24, 8)) == intervals


def test_departures() -> None:
    """Odd padding, missing blocks and coefficients that differ come as hints, each for its interval."""
    data = jpeg(pixels(48, 80), subsampling=0, restart_marker_rows=1)
    head, intervals = cut(data)
    whole, template = parse(data), interval_template(head)
    intervals[1] += b"\xff\xff"
    arrays = [c.copy() for c in whole.coefficients]
    arrays[1][3, 5, 0, 0] += 7
    stored = JpegImage(48, 80, (0, 0), whole.transform, (1, 1), whole.upsampling, True, whole.tables, tuple(arrays))
    hints = []
    for run, interval in zip(runs(60, 10), intervals, strict=True):
        hints.append(split_interval(head, interval, 10).hint(run_of_mcus(stored, *run)))
    assert [bool(hint) for hint in hints] == [False, True, False, True, False, False]
    assert max(len(hint) for hint in hints) < 12
    assert join_intervals(template, stored, runs(60, 10), hints) == intervals
    with pytest.raises(CorruptError, match="hints"):
        join_intervals(template, stored, runs(60, 10), hints[1:])
    narrow = window(whole, 0, 0, 48, 40)  # half of each interval is somewhere else
    hint = split_interval(head, intervals[0], 10).hint(run_of_mcus(narrow, 0, 5))
    assert hint


def test_padding_with_zeros() -> None:
    data = jpeg(pixels(16, 64)[..., 0], restart_marker_rows=1)
    head, intervals = cut(data)
    whole = parse(data)
    zeros = join_intervals(interval_template(head, zeros=True), whole, runs(16, 8))
    changed = [a for a, b in zip(zeros, intervals, strict=True) if a != b]
    assert changed
    assert all(a[:-1] == b[:-1] and a[-1] & b[-1] == a[-1] for a, b in zip(zeros, intervals, strict=True))
    assert split_interval(head, changed[0], 8).template == interval_template(head, zeros=True)


def test_refusals() -> None:
    data = jpeg(pixels(16, 64), subsampling=0, restart_marker_rows=1)
    head, intervals = cut(data)
    whole = parse(data)
    with pytest.raises(UnsupportedInputError, match="progressive"):
        interval_template(cut(jpeg(pixels(16, 64), progressive=True))[0])
    for bad in (b"", head[:-1], head[:2], b"\xff\xd8\xff\xd9"):
        with pytest.raises(UnsupportedInputError):
            interval_template(bad)
        with pytest.raises(UnsupportedInputError):
            split_interval(bad, intervals[0], 8)
    for count in (0, -1, 9, 1 << 20):
        with pytest.raises(UnsupportedInputError):
            split_interval(head, intervals[0], count)
    with pytest.raises(CorruptError, match="whole JPEG"):
        join_intervals(split(data).template, whole, [(0, 8)])
    with pytest.raises(CorruptError, match="intervals"):
        join(interval_template(head), whole)
    with pytest.raises(CorruptError):
        join_intervals(interval_template(head), parse(jpeg(pixels(16, 64)[..., 0])), [(0, 8)])
    with pytest.raises(CorruptError):
        join_intervals(Template(interval_template(head).data[:-1]), whole, [(0, 8)])
    with pytest.raises(UnsupportedInputError, match="pieces"):
        paste([])


@pytest.mark.skipif(not REAL_SLIDES.is_dir(), reason="real slides are not here")
def test_ndpi_strips() -> None:
    """Every strip of a level, from pasted chunks of 256 px."""
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(REAL_SLIDES / "hamamatsu-test3-DAPI.ndpi") as file:
        page = file.pages[2]
        head = cut(page.jpegheader + b"\xff\xd9")[0]
        strips = []
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.filehandle.seek(offset)
            strips.append(file.filehandle.read(size)[:-2])
        height, width = page.shape[:2]
    template = interval_template(head)
    columns = width // 8
    parts = [split_interval(head, strip, columns) for strip in strips]
    assert {p.template for p in parts} == {template}
    level = paste([(row, 0, p.image) for row, p in enumerate(parts)])
    pieces = [
        (y // 8, x // 8, window(level, y, x, min(256, height - y), min(256, width - x)))
        for y in range(0, height, 256)
        for x in range(0, width, 256)
    ]
    assert join_intervals(template, paste(pieces), runs(columns * len(strips), columns)) == strips
