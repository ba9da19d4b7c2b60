"""Codestreams taken apart and made again: byte for byte, and with little beside the image."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from dlpr.errors import CorruptError, UnsupportedInputError
from dlpr.modes.j2k.parse import parse
from dlpr.modes.j2k.write import Structure, rebuild, take_apart

imagecodecs = pytest.importorskip("imagecodecs")

STREAMS = {path.stem: path for path in sorted((Path(__file__).parent / "streams").iterdir())}
REFUSED = {"region-of-interest"}


@pytest.mark.parametrize("name", sorted(set(STREAMS) - REFUSED))
def test_every_stream_comes_back(name: str) -> None:
    data = STREAMS[name].read_bytes()
    image, structure = take_apart(data)
    assert rebuild(image, structure) == data
    for one, other in zip(image.coefficients, parse(data).coefficients, strict=True):
        assert np.array_equal(one, other)
    # without layers little but the ends of codewords is needed beside the image
    packets = len(data) - len(structure.template)
    if name in ("lossless", "reset", "no-transform", "seven-resolutions", "guard", "lengths"):
        assert len(structure.details) <= 4 + 0.07 * packets


def test_lossless_needs_nothing() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (100, 90, 3)).astype(np.uint8)
    data = imagecodecs.jpeg2k_encode(image, level=0, reversible=True, codecformat="j2k")
    _, structure = take_apart(data)
    assert len(structure.details) <= 8
    assert len(structure.template) < 180
    assert len(data) > 27000


def test_bytes_around_the_codestream_come_back() -> None:
    data = STREAMS["lossless"].read_bytes()
    jp2 = STREAMS["file"].read_bytes()
    for whole in (data + b"\0", data + b"padding" * 9, jp2 + b"\0\0\0\x0cfree1234"):
        image, structure = take_apart(whole)
        assert rebuild(image, structure) == whole


def test_templates_of_a_slides_tiles_are_one() -> None:
    rng = np.random.default_rng(2)
    templates = set()
    for _ in range(3):
        tile = np.clip(rng.normal(200, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
        data = imagecodecs.jpeg2k_encode(tile, level=30, reversible=False, codecformat="j2k")
        templates.add(take_apart(data)[1].template)
    assert len(templates) == 1


def test_open_ended_tile_part_comes_back() -> None:
    """A last tile part of length 0 goes on to EOC."""
    data = bytearray(STREAMS["causal"].read_bytes())
    at = data.index(b"\xff\x90")
    data[at + 6 : at + 10] = bytes(4)
    image, structure = take_apart(bytes(data))
    assert rebuild(image, structure) == bytes(data)


def test_unusual_codewords_and_headers_are_kept() -> None:
    """Bits that no encoder writes so: they are kept, or the file is refused."""
    data = STREAMS["layers-9-7"].read_bytes()
    body, rng = data.index(b"\xff\x93") + 2, np.random.default_rng(5)
    kept = 0
    for _ in range(300):
        changed = bytearray(data)
        changed[int(rng.integers(body, len(data) - 2))] ^= 1 << int(rng.integers(8))
        try:
            image, structure = take_apart(bytes(changed))
        except UnsupportedInputError:
            continue
        assert rebuild(image, structure) == bytes(changed)
        kept += 1
    assert kept > 150


@pytest.mark.parametrize("name", ["layers-9-7", "tiles-off-grid", "all-styles-layers", "file"])
def test_damaged_structures_give_an_error_or_bytes(name: str) -> None:
    image, (template, details) = take_apart(STREAMS[name].read_bytes())
    rng = np.random.default_rng(6)
    for _ in range(100):
        parts = [bytearray(template), bytearray(details)]
        which = int(rng.integers(2))
        for _ in range(int(rng.integers(1, 3))):
            parts[which][int(rng.integers(len(parts[which])))] = int(rng.integers(256))
        if rng.random() < 0.2:
            del parts[which][int(rng.integers(len(parts[which]))) :]
        with suppress(CorruptError):
            rebuild(image, Structure(bytes(parts[0]), bytes(parts[1])))


def test_another_images_structure_is_refused() -> None:
    image, _ = take_apart(STREAMS["layers-9-7"].read_bytes())
    _, structure = take_apart(STREAMS["small-blocks"].read_bytes())
    with pytest.raises(CorruptError, match="another image"):
        rebuild(image, structure)


def test_templates_compress() -> None:
    _, structure = take_apart(STREAMS["tiles"].read_bytes())
    assert len(zlib.compress(structure.template)) < len(structure.template)
