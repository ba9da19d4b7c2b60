"""A few steps of training on made-up images: resumable to the bit, exportable, and the export codes real streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from PIL import Image

import dlpr
from dlpr import bitstream
from dlpr.exact import reference, weights
from dlpr.training import cli, loop
from dlpr.training.data import SIMULATIONS, build_blocks, list_sources, sample_tiles, simulate_scanner


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for source, scale in (("a", 9), ("b", 21)):
        (root / source).mkdir()
        y, x = np.mgrid[:432, :432]
        wave = 150 + 60 * np.sin(y / scale) * np.cos(x / (scale + 3))
        rgb = wave[..., None] - [0, 30, 60] + rng.normal(0, 3, (432, 432, 3))
        Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(root / source / "image.png")
    return root


@pytest.fixture(scope="module")
def blocks(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("run") / "blocks"
    groups = build_blocks(images, cache, per_source=1, per_simulation=1, seed=0)
    assert set(groups) == {"a", "b", *(f"sim:{k}" for k in SIMULATIONS)}
    return cache


def config(phase: str = "rc", steps: int = 4) -> loop.TrainConfig:
    return loop.TrainConfig(phase=phase, steps=steps, lic_steps=2, batch=2, cells=64, threads=1)


def test_resumed_run_equals_uninterrupted(
    images: Path, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    groups = build_blocks(images, blocks, 1, 1, 0)
    whole = torch.load(loop.train(config(), groups, tmp_path / "whole", every=1), weights_only=True)
    save = loop.Run.save

    def save_and_die(run: loop.Run, path: Path, cfg: loop.TrainConfig) -> None:
        save(run, path, cfg)
        if run.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        loop.train(config(), groups, tmp_path / "cut", every=1)
    monkeypatch.setattr(loop.Run, "save", save)
    resumed = torch.load(loop.train(config(), groups, tmp_path / "cut", every=1), weights_only=True)
    assert resumed["step"] == whole["step"] == 4
    for key, value in whole["ema"].items():
        assert torch.equal(value, resumed["ema"][key]), key


def test_export_codes_streams(images: Path, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = blocks.parent
    groups = build_blocks(images, blocks, 1, 1, 0)
    rc = loop.train(config(), groups, run)
    loop.train(config("sqrc", 2), groups, run, init=rc)
    shipped = weights.default_id()
    assert cli.main(["export", str(run), "--weights", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.dlpw")
    loaded = weights.load(file)
    assert loaded.id != shipped
    monkeypatch.setenv("DLPR_WEIGHTS_PATH", str(tmp_path))
    tile = sample_tiles(images, 1, size=64)["a"][0]
    for tau in (0, 2):
        stream = dlpr.encode(tile, tau, weights_id=loaded.id)
        assert bitstream.parse(stream).payload.weights_id == loaded.id
        out = dlpr.decode(stream)
        assert int(np.abs(out.astype(int) - tile).max()) <= tau
        assert np.array_equal(reference.decode(stream), out)


@pytest.mark.parametrize("kind", SIMULATIONS)
def test_simulated_scanners(kind: str) -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (448, 448, 3), dtype=np.uint8)
    sim = simulate_scanner(rgb, kind, rng)
    assert sim.dtype == np.uint8
    assert sim.ndim == 3
    assert min(sim.shape[:2]) >= 128


def test_sources_are_sub_folders(images: Path) -> None:
    assert [(k, len(v)) for k, v in list_sources(images).items()] == [("a", 1), ("b", 1)]
