"""The larger profile for GPUs: what a pixel costs, that its sums are proved, and that every decoder knows its sizes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import dlpr
from dlpr import bitstream, reference
from dlpr.config import PROFILES, SlideProfile
from dlpr.layout import from_planes
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.weights_check import expected

LARGE = PROFILES["large"]


def counted(p: SlideProfile) -> float:
    """Multiply-adds of a decoded pixel, from the shapes of a weights file: each layer's weights by its resolution."""
    blocks = {"h_d.c0": 64, "h_d.c1": 32, "h_d.c2": 16, "g_d.c0": 16, "g_d.up0": 16, "g_d.c1": 8, "g_d.up1": 8}
    blocks |= {"g_d.c2": 4, "g_d.up2": 4, "g_d.c3": 2, "x_head": 2}
    total = 0.0
    for name, (_, shape) in expected(p).items():
        size = float(np.prod([n for n in shape if n is not None]))
        if name.startswith("lic.") and name.endswith(".weight") and not name.startswith(("lic.g_e", "lic.h_e")):
            total += size / blocks[name.removeprefix("lic.").removesuffix(".weight")] ** 2
        elif name == "rc.u_head.weight":
            total += size / 4  # a pixel's parity picks one of four
        elif name.startswith("rc.") and name.endswith(".weight"):
            total += size
    return total + 3 * 66 + 3  # the linear stage's taps, and the channels before


@pytest.mark.parametrize(("name", "most"), [("slide", 30_000), ("large", 150_000)])
def test_what_a_pixel_costs(name: str, most: int) -> None:
    said = sum(PROFILES[name].macs_per_pixel().values())
    assert said <= counted(PROFILES[name]) <= most
    assert counted(PROFILES[name]) == pytest.approx(said, rel=0.01)  # said leaves the hyper-synthesis out


def test_the_slide_profile_is_the_default() -> None:
    assert PROFILES["slide"] == SlideProfile()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Weights of a model that nobody trained, exported: the proof of bounds is part of it."""
    torch = pytest.importorskip("torch")
    from dlpr.modes.networks.export import BOUND, export_model
    from dlpr.modes.networks.model.slide import SlideModel

    torch.manual_seed(0)
    model = SlideModel(LARGE)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5).add_(0.02 * torch.randn_like(p))
    shipped = store.find(store.default_id())
    profile, tensors, bounds = export_model(model, {k: shipped[k] for k in ("linear.mean", "linear.scale")})
    assert {b.name for b in bounds} >= {"rc.first", "rc.hidden.3", "sqrc.out", "lic.g_d.c3"}
    assert max(b.acc for b in bounds) < BOUND
    data = store.dump(profile, tensors)
    folder = tmp_path_factory.mktemp("weights")
    name = hashlib.sha256(data).digest()[:8]
    (folder / f"large-{name.hex()}.dlpw").write_bytes(data)
    return folder, name


@pytest.mark.parametrize("tau", [0, 2])
def test_every_decoder_knows_its_sizes(weights: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch, tau: int) -> None:
    folder, name = weights
    monkeypatch.setenv(store.SEARCH_PATH, str(folder))
    y, x = np.mgrid[:40, :64]
    image = np.stack([128 + 60 * np.sin(x / 9 + c) * np.cos(y / 7) for c in range(3)], -1)
    image = (image + np.random.default_rng(0).normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)
    assert store.find(name).sizes == LARGE
    data = dlpr.encode(image, tau, jpeg="never", colour="never", weights_id=name, min_lossy_side=16)
    assert dlpr.inspect(data).weights_id == name.hex()
    assert dlpr.inspect(data).lossy_layer
    found = dlpr.decode(data)
    assert np.abs(found.astype(int) - image).max() <= tau
    np.testing.assert_array_equal(reference.decode(data), found)
    from dlpr.modes.networks.exact.torch_decoder import decode_batch

    stream = bitstream.parse(data)
    (planes,) = decode_batch([stream], store.find(name))
    np.testing.assert_array_equal(from_planes(planes, stream.header.layout), found)
