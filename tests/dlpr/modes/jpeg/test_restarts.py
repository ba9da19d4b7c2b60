"""A scan written anew with restart markers: the same coefficients, row by row; damage is refused."""

import io

import numpy as np
import pytest

from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.parse import add_restarts, parse
from dlpr.modes.jpeg.synthesis import synthesise

pillow = pytest.importorskip("PIL.Image")


def coded(height=83, width=117, seed=1, **options):
    """Return the header of a JPEG and its scan."""
    rng = np.random.default_rng(seed)
    wave = 128 + 90 * np.sin(np.mgrid[:height, :width].sum(0) / 9)
    image = np.clip(wave[..., None] * [1, 0.7, 0.9] + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    pillow.fromarray(image).save(file, "JPEG", **options)
    data = file.getvalue()
    at = data.index(b"\xff\xda")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[:end], data[end:]


def restarted(header, columns, data):
    return header[:2] + b"\xff\xdd\x00\x04" + columns.to_bytes(2, "big") + header[2:] + data + b"\xff\xd9"


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 90, 100])
def test_the_same_coefficients(sampling, quality):
    header, scan = coded(subsampling=sampling, quality=quality)
    columns, data, starts = add_restarts(header, scan)
    whole, again = parse(header + scan), parse(restarted(header, columns, data))
    assert all(np.array_equal(a, b) for a, b in zip(whole.coefficients, again.coefficients, strict=True))
    assert columns == -(-117 // whole.mcu[1])
    assert len(starts) == -(-83 // whole.mcu[0])
    markers = [data[int(start) - 2 : int(start)] for start in starts[1:]]
    assert markers == [b"\xff" + bytes((0xD0 + row % 8,)) for row in range(len(markers))]
    shown = np.asarray(pillow.open(io.BytesIO(restarted(header, columns, data))))  # libjpeg reads it too
    np.testing.assert_array_equal(shown, synthesise(whole))


def test_damage_is_refused():
    header, scan = coded(subsampling=1)
    for wrong, said in (
        ((header, scan[: len(scan) // 2]), "cut short"),
        ((header, b""), "too short"),
        ((header[:3], scan), "a marker is missing"),
        ((header[: len(header) - 14], scan), "a marker is missing"),
        ((header.replace(b"\xff\xc4", b"\xff\xfe"), scan), "Huffman table is missing"),
    ):
        with pytest.raises(UnsupportedInputError, match=said):
            add_restarts(*wrong)


def test_a_table_without_what_a_row_needs():
    """Tables made for the picture may lack a code; nothing is made up then."""
    flat = np.full((32, 32, 3), 250, np.uint8)
    flat[:, :, 0] = 240
    file = io.BytesIO()
    pillow.fromarray(flat).save(file, "JPEG", quality=95, optimize=True, subsampling=0)
    data = file.getvalue()
    at = data.index(b"\xff\xda") + 14
    columns, again, _ = add_restarts(data[:at], data[at:])
    assert parse(restarted(data[:at], columns, again)).width == 32
    stepped = np.repeat(np.repeat(np.arange(32, dtype=np.uint8)[:, None] * 4, 8, 0), 8 * 32, 1)
    file = io.BytesIO()
    pillow.fromarray(np.stack([stepped] * 3, -1)).save(file, "JPEG", quality=95, optimize=True, subsampling=0)
    data = file.getvalue()
    at = data.index(b"\xff\xda") + 14
    with pytest.raises(UnsupportedInputError, match="lacks what a row's first DC needs"):
        add_restarts(data[:at], data[at:])


def test_random_damage():
    header, scan = coded(40, 48)
    rng = np.random.default_rng(5)
    for _ in range(400):
        changed = bytearray(header + scan)
        for _ in range(int(rng.integers(1, 5))):
            changed[int(rng.integers(2, len(changed)))] = int(rng.integers(256))
        try:
            columns, data, starts = add_restarts(bytes(changed[: len(header)]), bytes(changed[len(header) :]))
        except UnsupportedInputError:
            continue
        assert columns > 0
        assert len(starts) > 0
        assert len(data) < 2 * len(changed) + 16 * len(starts)
