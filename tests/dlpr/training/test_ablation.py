"""Ablation rows on made-up images: trained, exported, measured in real bytes, and what the table says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import dlpr
from dlpr import bitstream
from dlpr.errors import UnsupportedInputError
from dlpr.modes.networks import weights
from dlpr.modes.networks.exact.geometry import NEAR, TAPS
from dlpr.modes.networks.exact.linear import parse_linear
from dlpr.modes.networks.model.residual import CAUSAL_FEATURES, masked_columns
from dlpr.modes.networks.payload import CodedPayload
from dlpr.training import cli, data, evaluate
from dlpr.training.ablation_rows import ROWS, chosen_rows
from dlpr.training.data import SIMULATIONS, build_blocks, read_rgb, sample_tiles


def command(images: Path, dev: Path, run: Path, *more: str) -> list[str]:
    small = ["--steps", "3", "--lic-steps", "1", "--sqrc-steps", "2", "--cells", "200", "--threads", "1"]
    small += ["--per-source", "1", "--blocks-per-source", "1", "--blocks-per-simulation", "1"]
    return ["ablate", str(images), "--dev", str(dev), "--out", str(run), *small, *more]


def test_rows_in_real_bytes(
    images: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.delenv("DLPR_WEIGHTS_PATH", raising=False)
    run, table = tmp_path / "run", tmp_path / "ablations.md"
    rows = ["k-1", "laplace", "patch-64", "linear-1", "sqrc", "context-2-masked", "context-1", "base-likelihood"]
    assert cli.main(command(images, dev, run, "--rows", *rows, "--table", str(table))) == 0
    bits = {p.parent.name: json.loads(p.read_text())["bits_per_px"] for p in run.glob("*/result.json")}
    assert set(bits) == {"base", *rows}
    for other in ("patch-64", "laplace", "k-1", "linear-1", "context-2-masked"):
        assert bits[other]["0"] != bits["base"]["0"], other
    for source, exact in bits["base"]["0"].items():
        # the same networks, bytes against likelihood: what differs is header, search and rounding
        assert bits["base-likelihood"]["0"][source] == pytest.approx(exact, rel=0.1)
    out = torch.load(run / "k-1" / "rc.pt", weights_only=True)["ema"]["rc.out.weight"]
    assert not out[61:65].any()
    assert out[60].any()
    masked = torch.load(run / "context-2-masked" / "rc.pt", weights_only=True)["ema"]["rc.masked.weight"]
    assert not masked[:, masked_columns(2)].any()
    assert masked[:, 0].any()
    page = table.read_text()
    assert page.count("| `") == len(bits)
    assert "| `context-1` | M_7^1 | 21 | 64 | 256 | 90.0 |" in page
    assert "--steps 3 --lic-steps 1 --sqrc-steps 2 --cells 200" in page
    stamp = (run / "base" / "result.json").stat().st_mtime_ns
    assert cli.main(command(images, dev, run, "--rows", "base")) == 0
    assert (run / "base" / "result.json").stat().st_mtime_ns == stamp, "a finished row was done again"
    assert cli.main(command(images, dev, run, "--rows", "base", "--steps", "4")) == 1
    assert "was trained with" in capsys.readouterr().err


def test_refuses_dev_images_among_those_of_training(images: Path, dev: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "train"
    shutil.copytree(images, mixed)
    shutil.copy(dev / "a" / "image.png", mixed / "a" / "again.png")
    assert cli.main(command(mixed, dev, tmp_path / "run")) == 1
    assert not (tmp_path / "run").exists()


def test_rows_come_after_those_they_start_from() -> None:
    assert [r.name for r in chosen_rows(["x-tilde-anchor", "no-lic"])] == ["base", "sqrc", "x-tilde-anchor", "no-lic"]
    assert chosen_rows(None) == list(ROWS)
    with pytest.raises(UnsupportedInputError, match="unknown row"):
        chosen_rows(["nothing"])


def test_masked_features_are_those_of_the_missing_taps() -> None:
    missing = [t for t in range(len(TAPS)) if 3 * t in masked_columns(2)]
    assert [TAPS[t] for t in missing] == [(-1, 1), (-2, 2), (-2, 3), (-3, 3)]
    assert len(masked_columns(2)) == 3 * 4 + 6 * sum(t < NEAR for t in missing)
    assert max(masked_columns(2)) < CAUSAL_FEATURES
    assert masked_columns(3) == []


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("context", [2, 3])
def test_linear_stage_keeps_to_its_limits(dev: Path, classes: int, context: int) -> None:
    tile = sample_tiles(dev, 1, size=128)["b"][0]
    stream = dlpr.encode(tile, linear_classes=classes, linear_context=context, coefficient_price=0.0, search=False)
    assert np.array_equal(dlpr.decode(stream), tile)
    payload = bitstream.parse(stream).payload
    assert isinstance(payload, CodedPayload)
    stage = parse_linear(bytes(payload.linear_part), weights.find(payload.weights_id), 3)
    assert len(stage.groups) <= classes
    taps = stage.matrices()[2]
    used = {TAPS[t] for t in range(len(TAPS)) if taps[:, :, t].any()}
    assert used <= {(dy, dx) for dy, dx in TAPS if (context - 1) * dy + dx < 0}
    assert len(used) > 9


def test_a_source_left_out_is_not_read(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def record(path: Path) -> data.U8:
        read.append(path.parent.name)
        return read_rgb(path)

    monkeypatch.setattr(data, "read_rgb", record)
    groups = build_blocks(images, tmp_path, 1, 3, 0, without="b")
    assert set(groups) == {"a", *(f"sim:{k}" for k in SIMULATIONS)}
    assert set(read) == {"a"}
    whole = build_blocks(images, tmp_path, 1, 3, 0)
    assert np.array_equal(whole["a"][0].x, groups["a"][0].x)
    assert set(read) == {"a", "b"}


def test_only_the_networks_are_measured() -> None:
    options = evaluate.learned_only(patch=64)
    assert options.patch == 64
    assert getattr(options, "jpeg", "never") == "never"
