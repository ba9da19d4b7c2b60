"""Reference = native (every instruction set) = torch, on what the encoder really writes for real and awkward tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlpr
from dlpr import _native, bitstream, reference
from dlpr.layout import from_planes
from dlpr.modes.colour.payload import ColourPayload
from dlpr.modes.networks import mode as networks_mode
from dlpr.modes.networks import weights as weights_store
from dlpr.modes.networks.exact import reference as networks_reference
from dlpr.modes.networks.payload import CodedPayload

SLIDE = Path(__file__).resolve().parents[2] / "examples" / "CMU-1-Small-Region.svs"
TAUS = (0, 1, 2, 3, 4, 5, 6, 15, 60, 255)
KINDS = ("slide", "noise", "gradient", "odd pixel", "two values", "row", "column", "slide grey", "faint noise")
SIDES = (1, 2, 3, 5, 8, 13, 16, 17, 21, 31, 32, 33)


@dataclass
class Tile:
    """One tile and how it is coded."""

    name: str
    image: np.ndarray
    tau: int
    options: dict[str, Any]


@pytest.fixture(scope="module")
def slide() -> np.ndarray:
    """Part of the example slide with tissue, edges and background, RGB."""
    import openslide

    with openslide.OpenSlide(str(SLIDE)) as opened:
        return np.asarray(opened.read_region((0, 0), 0, (1200, 1400)).convert("RGB"))


def content(kind: str, rng: np.random.Generator, height: int, width: int, slide: np.ndarray) -> np.ndarray:
    """Pixels [H, W, 3] or [H, W]."""
    shape = (height, width, 3)
    if kind.startswith("slide"):
        y, x = rng.integers(0, slide.shape[0] - height), rng.integers(0, slide.shape[1] - width)
        crop = slide[y : y + height, x : x + width]
        return crop[..., 1] if kind == "slide grey" else crop
    if kind == "noise":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "faint noise":
        return rng.integers(120, 150, shape[: int(rng.integers(2, 4))], np.uint8)
    if kind == "odd pixel":
        image = np.full(shape, rng.integers(0, 256, 3), np.uint8)
        image[rng.integers(height), rng.integers(width), rng.integers(3)] ^= 255
        return image
    if kind == "two values":
        return rng.choice(np.array([0, 255], np.uint8), shape, p=[0.97, 0.03])
    y, x = np.mgrid[:height, :width]
    slope = rng.uniform(-6, 6, (2, 3))
    return np.clip(128 + y[..., None] * slope[0] + x[..., None] * slope[1], 0, 255).astype(np.uint8)


def tiles(count: int, largest: int, seed: int, slide: np.ndarray) -> Iterator[Tile]:
    """Tiles of all kinds, with every tau, whatever options."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        kind, tau = KINDS[i % len(KINDS)], TAUS[i % len(TAUS)]
        height, width = (int(rng.choice([s for s in (*SIDES, largest, largest - 1) if s <= largest])) for _ in "hw")
        height, width = (1 if kind == "row" else height), (1 if kind == "column" else width)
        image = content("slide" if kind in ("row", "column") else kind, rng, height, width, slide)
        options = {
            "anchor": str(rng.choice(["base", "lossy"])),
            "lossy_layer": bool(rng.random() < 0.8),
            "min_lossy_side": int(rng.choice([1, 16])),
            "patch": int(rng.choice([32, 64, 128, 256])),
            "lanes": int(rng.choice([1, 1, 2, 4, 8, 16, 32])),
            "coefficient_bits": int(rng.choice([4, 8, 8, 10, 12])),
            "linear_stage": bool(rng.random() < 0.9),
        }
        yield Tile(f"{i}: {kind} {height}x{width} tau {tau} {options}", image, tau, options)


def check_all_decoders(chosen: list[Tile], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every decoder gives the same samples, within tau; every instruction set writes the same bytes."""
    streams = [dlpr.encode(t.image, t.tau, threads=1, jpeg="never", **t.options) for t in chosen]
    expected = [reference.decode(data) for data in streams]
    for tile, out in zip(chosen, expected, strict=True):
        assert out.shape == tile.image.shape, tile.name
        assert int(np.abs(out.astype(int) - tile.image.astype(int)).max()) <= tile.tau, tile.name
    check_native(chosen, streams, expected, monkeypatch)
    check_torch(chosen, streams, expected)
    return streams


def check_native(
    chosen: list[Tile], streams: list[bytes], expected: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = networks_mode.native_model
    for simd in _native.simd_available():
        with monkeypatch.context() as patched:
            patched.setattr(networks_mode, "native_model", lambda weights_id, simd=simd: usual(weights_id, simd))
            for tile, out, back in zip(chosen, expected, dlpr.decode_batch(streams, threads=1), strict=True):
                assert np.array_equal(out, back), f"{simd} differs from the reference: {tile.name}"
            for tile, data in zip(chosen, streams, strict=True):
                again = dlpr.encode(tile.image, tile.tau, threads=1, jpeg="never", **tile.options)
                assert again == data, f"{simd} writes other bytes: {tile.name}"


def check_torch(chosen: list[Tile], streams: list[bytes], expected: list[np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    torch_decoder = pytest.importorskip("dlpr.modes.networks.exact.torch_decoder")
    torch_pixels = pytest.importorskip("dlpr.modes.colour.torch_pixels")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parsed = [bitstream.parse(data) for data in streams]
        coded = [i for i, s in enumerate(parsed) if isinstance(s.payload, CodedPayload)]
        weights = weights_store.find(weights_store.default_id())
        for i, planes in zip(coded, torch_decoder.decode_batch([parsed[i] for i in coded], weights), strict=True):
            out = from_planes(planes, parsed[i].header.layout)
            assert np.array_equal(out, expected[i]), f"torch differs from the reference: {chosen[i].name}"
        colour = [i for i, s in enumerate(parsed) if isinstance(s.payload, ColourPayload)]
        for i, planes in zip(colour, torch_pixels.decode_batch([parsed[i] for i in colour], weights), strict=True):
            out = from_planes(planes, parsed[i].header.layout)
            assert np.array_equal(out, expected[i]), f"torch differs from the reference: {chosen[i].name}"
    finally:
        torch.set_num_threads(threads)


def test_decoders_agree(slide: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = list(tiles(90, 24, 1, slide))
    for tau, lanes in ((0, 4), (3, 32), (60, 1)):  # several patches
        image = content("slide" if tau < 60 else "noise", np.random.default_rng(tau), 35, 40, slide)
        chosen.append(Tile(f"patches, tau {tau}", image, tau, {"patch": 32, "lanes": lanes, "anchor": "lossy"}))
    streams = check_all_decoders(chosen, monkeypatch)
    coded = [info for info in map(dlpr.inspect, streams) if info.mode == "coded"]
    assert {info.tau for info in coded} >= set(TAUS) - {255}
    assert {info.patch for info in coded} == {32, 64, 128, 256}
    assert {info.lanes for info in coded} == {1, 2, 4, 8, 16, 32}
    assert {info.lossy_layer for info in coded} == {True, False}
    assert len(coded) > 25


@pytest.mark.full
@pytest.mark.parametrize("part", range(6))
def test_decoders_agree_on_many_tiles(part: int, slide: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 x 45 tiles; the last part with larger ones."""
    check_all_decoders(list(tiles(45, (40, 48, 64, 70, 40, 140)[part], 100 + part, slide)), monkeypatch)


@pytest.mark.parametrize("tau", [0, 2])
def test_lossy_layers_agree(tau: int, slide: np.ndarray) -> None:
    weights = weights_store.find(weights_store.default_id())
    crops = [slide[1200:1236, 900:990], slide[1220:1253, 930:970, 1], np.moveaxis(slide[1250:1320, 1000:1040], -1, 0)]
    streams = [dlpr.encode(crop, tau, jpeg="never") for crop in crops]
    parsed = [bitstream.parse_lossy(data[: dlpr.inspect(data).lossy_prefix]) for data in streams]
    expected = [from_planes(networks_reference.decode_lossy(s, weights), s.header.layout) for s in parsed]
    for simd in _native.simd_available():
        model = networks_mode.native_model(weights_store.default_id(), simd)
        for stream, out in zip(parsed, expected, strict=True):
            h, p = stream.header, stream.payload
            assert isinstance(p, CodedPayload)
            x = _native.decode_lossy_layer(model, h.height, h.width, bytes(p.lossy_part))
            assert np.array_equal(from_planes(np.ascontiguousarray(x[..., : h.layout.channels]), h.layout), out), simd
    for data, out in zip(streams, expected, strict=True):
        assert np.array_equal(dlpr.decode(data, layer="lossy"), out)
    torch_decoder = pytest.importorskip("dlpr.modes.networks.exact.torch_decoder")
    for stream, planes, out in zip(parsed, torch_decoder.decode_lossy_batch(parsed, weights), expected, strict=True):
        assert np.array_equal(from_planes(planes, stream.header.layout), out)
