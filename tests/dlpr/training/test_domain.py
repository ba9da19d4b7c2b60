"""Training on what reaches the networks: planes behind pixels, single channels, weights files as a start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

import dlpr
from dlpr import bitstream
from dlpr.layout import CODING_ORDER
from dlpr.modes.colour.payload import ColourPayload
from dlpr.modes.networks import weights
from dlpr.modes.networks.export import export_model
from dlpr.modes.networks.payload import CodedPayload
from dlpr.training import bank, cli, decompose, domain, origins
from dlpr.training.batches import SHARES, Sampler, TrainConfig, near_lossless_groups
from dlpr.training.rebuild import rebuild


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:432, :432]
    wave = 150 + 60 * np.sin(y / 9) * np.cos(x / 12)
    return np.clip(wave[..., None] - [0, 30, 60] + rng.normal(0, 3, (432, 432, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shipped() -> weights.Weights:
    return weights.find(weights.default_id())


@pytest.mark.parametrize("name", origins.ORIGINS)
def test_origins_give_pixels(image: np.ndarray, name: str) -> None:
    out = origins.ORIGINS[name](image, np.random.default_rng(1))
    assert out.dtype == np.uint8
    assert out.ndim == 3
    assert out.shape[2] == 3
    assert min(out.shape[:2]) >= domain.LEAST_SIDE
    assert out.std() > 1


def test_blocks_are_what_an_encoder_codes(image: np.ndarray) -> None:
    made = np.ascontiguousarray(origins.film(image, np.random.default_rng(0))[:256, :256])
    payload = bitstream.parse(dlpr.encode(made, jpeg="never", lossy_layer=False)).payload
    assert isinstance(payload, ColourPayload)
    blocks = domain.hand_over(made)
    assert [b.kind for b in blocks] == ["pixels", "luma", "chroma", "chroma"]
    assert (blocks[0].x == made[..., list(CODING_ORDER)]).all()
    for block, plane in zip(blocks[1:], payload.planes, strict=True):
        assert isinstance(plane, CodedPayload)
        assert block.channels == 1
        assert plane.base[0] == block.base[0]
        assert (block.x == block.x[..., :1]).all()
        assert (block.pred == block.pred[..., :1]).all()
    assert [b.kind for b in domain.hand_over(image[:128, :128])] == ["rgb"]


def test_only_the_first_channel_of_a_plane_counts(image: np.ndarray, shipped: weights.Weights) -> None:
    from dlpr.training.batches import collate, cut
    from dlpr.training.loop import step_loss

    model = rebuild(shipped, shipped.sizes)
    block = domain.coded_block(np.ascontiguousarray(image[:128, :128, 1:2]), domain.LUMA)
    cells = np.arange(64 * 64)
    batch = collate([cut(block, 0, 0, cells, 128)], [3], [0], 8, [False])
    with torch.no_grad():
        parts = step_loss(model, batch, TrainConfig(threads=1), False, torch.ones(1), noisy=False)
    bits = float(parts["bits"]) * 128 * 128
    data = dlpr.encode(image[:128, :128, 1], lossy_layer=False, bank_entry=3, search=False, jpeg="never")
    real = 8 * dlpr.inspect(data).bytes_by_part["lanes"]
    assert bits == pytest.approx(real, rel=0.02)


def test_rebuilt_networks_export_to_as_good_integers(
    image: np.ndarray, shipped: weights.Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = replace(shipped.sizes, bank=shipped.sizes.bank + 2)
    model = rebuild(shipped, grown)
    assert torch.equal(model.rc.bank_scale[-1], model.rc.bank_scale[0])
    prior = {k: np.array(shipped[k]) for k in ("linear.mean", "linear.scale")}
    profile, tensors, _ = export_model(model, prior)
    (tmp_path / "again.dlpw").write_bytes(weights.dump(profile, tensors))
    again = weights.load(tmp_path / "again.dlpw")
    monkeypatch.setenv("DLPR_WEIGHTS_PATH", str(tmp_path))
    tile = np.ascontiguousarray(image[:96, :96])
    for tau, entry in ((0, 0), (0, 7), (2, 5)):
        sizes = [
            len(dlpr.encode(tile, tau, weights_id=i, bank_entry=entry, jpeg="never", colour="never"))
            for i in (shipped.id, again.id)
        ]
        assert sizes[1] == pytest.approx(sizes[0], rel=0.003)


def test_sampler_draws_by_kind_and_entries_are_kept(
    image: np.ndarray, shipped: weights.Weights, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    groups = {
        "a": domain.hand_over(np.ascontiguousarray(origins.film(image, rng)[:256, :256])),
        "sim:background": domain.hand_over(image[:256, :256]),
    }
    cfg = TrainConfig(batch=8, cells=16, threads=1, profile=shipped.sizes)
    sampler = Sampler(groups, cfg)
    assert {int(c) for k in range(4) for c in sampler.draw(k).colours} == {0, 1}
    a, b = sampler.draw(5), sampler.draw(5)
    assert torch.equal(a.features, b.features)
    path = tmp_path / "entries.npz"
    chosen = bank.assigned(rebuild(shipped, shipped.sizes), groups, 0, cells=16)
    assert all(0 <= b.entry < shipped.sizes.bank for blocks in chosen.values() for b in blocks)
    model = rebuild(shipped, shipped.sizes)
    near = near_lossless_groups(chosen, model.lic, 0, (2,))
    kept = [b.entry for b in chosen["a"] if SHARES["sqrc"][b.kind]]
    assert [b.entry for b in near["a"]] == kept
    assert not path.exists()
    file = tmp_path / "start.dlpw"
    file.write_bytes(weights.dump(shipped.profile, shipped.tensors))
    first = bank.remembered(path, file, cfg, groups)
    again = bank.remembered(path, None, cfg, groups)  # from the file: nothing is asked
    assert [b.entry for b in first["a"]] == [b.entry for b in again["a"]]


def test_fit_on_the_networks_domain(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "start.dlpw"
    known = weights.find(weights.default_id())
    file.write_bytes(weights.dump(known.profile, known.tensors))
    fit = ["fit", str(images), "--out", str(tmp_path / "run"), "--domain", "networks", "--init", str(file)]
    fit += ["--steps", "1", "--lic-steps", "0", "--sqrc-steps", "1", "--per-source", "1", "--per-simulation", "1"]
    fit += ["--assign", "--threads", "1", "--config", "cells=64", "--config", "batch=2"]
    assert cli.main(fit) == 0
    assert cli.main(["export", str(tmp_path / "run"), "--weights", str(tmp_path / "weights")]) == 0
    (made,) = (tmp_path / "weights").glob("*.dlpw")
    assert weights.load(made).sizes.bank >= known.sizes.bank


def test_parts_add_up(image: np.ndarray, shipped: weights.Weights) -> None:
    coded, rest = decompose.coded_images(np.ascontiguousarray(image[:64, :64]), shipped.id)
    assert len(coded) == 1
    data = dlpr.encode(image[:64, :64], jpeg="never", lossy_layer=False)
    assert rest + coded[0].lanes + coded[0].linear == len(data)
    parts = decompose.decompose(rebuild(shipped, shipped.sizes).rc, coded[0])
    assert sum(v for k, v in parts.items() if k.startswith("channel")) == pytest.approx(parts["float"])
    assert sum(v for k, v in parts.items() if k.startswith("activity")) == pytest.approx(parts["float"])
    assert parts["float"] == pytest.approx(parts["lanes"], rel=0.05)
    assert parts["= best entry"] <= parts["float"] * 1.001
    assert parts["= best scale of the image"] <= parts["float"] * 1.001
