"""Weights tuned to chunks: from integers and back without a change, and smaller streams after a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import dlpr
from dlpr import reference
from dlpr.evaluation import adapt as experiment
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.tuned import remember
from dlpr.modes.networks.weights_check import BOUND, accumulator_rows
from dlpr.training import adapt
from dlpr.training.adapt import AdaptConfig, coded_again, network_parts, tune
from dlpr.training.likelihood import network_bits

OLD = bytes.fromhex("d11104fe68c77679")
"""Weights of which it is known how much a few steps take off."""


def tile(seed: int, side: int = 96) -> np.ndarray:
    """Something that no weights were trained on: a weave of two colours and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] + rng.integers(0, 50, (2, 1, 1))
    weave = np.where((x // 3 + y // 5) % 2, 180, 120) + 20 * np.sin(x / 11)
    rgb = np.stack([weave, 250 - weave, 0.5 * weave + 60], -1) + rng.normal(0, 5, (side, side, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def parts_of(tau: int, seeds: range, weights_id: bytes | None = None) -> list[adapt.Part]:
    options = {"jpeg": "never", "colour": "never", "weights_id": weights_id}
    streams = dlpr.encode_batch([tile(s) for s in seeds], tau, threads=1, **options)
    return [part for data in streams for part in network_parts(data)]


@pytest.mark.parametrize("name", ["rc", "sqrc"])
def test_integers_survive_floats(name: str) -> None:
    weights = store.find(store.default_id())
    net = adapt.AdaptedNet(weights, name)
    for key, value in net.integers("all").items():
        assert value.dtype == weights[key].dtype
        np.testing.assert_array_equal(value, weights[key], key)


@pytest.mark.parametrize("tau", [0, 3])
def test_the_floats_price_chunks_as_the_integers_do(tau: int) -> None:
    weights = store.find(store.default_id())
    (part,) = parts_of(tau, range(1))
    sample = adapt.sample_of(part, weights)
    net = adapt.AdaptedNet(weights, "sqrc" if tau else "rc")
    cells = sample.x.shape[0] * sample.x.shape[1] // 4
    rng = np.random.default_rng(0)
    drawn = [t[None] for t in adapt._draw(sample, cells, rng)]
    classes = torch.tensor([tau - 1]) if tau else None
    with torch.no_grad():
        bits = network_bits(net, tuple(drawn[:4]), tuple(drawn[4:]), (torch.tensor([sample.entry]), classes), 1)
    p = adapt.payload_of(part.stream)
    real = 8 * sum(len(lane) for patch in p.lanes for lane in patch)
    assert abs(float(bits) / real - 1) < 0.01


@pytest.mark.parametrize(("tau", "parts"), [(0, "all"), (0, "entry"), (2, "all")])
def test_a_few_steps_make_other_chunks_smaller(tau: int, parts: str) -> None:
    taught, others = parts_of(tau, range(3), OLD), parts_of(tau, range(7, 9), OLD)
    cfg = AdaptConfig(parts, steps=30, batch=3, cells=256)
    tuned = remember(tune(taught, cfg))
    before, after = sum(p.size for p in others), sum(coded_again(others, tuned))
    assert sum(coded_again(others, None)) == pytest.approx(before, rel=1e-3 if tau else 0)  # of what decodes
    assert after < before * (0.97 if parts == "all" else 0.99)
    assert tune(taught, cfg).data == tuned.data
    data = dlpr.encode(tile(20, 64), tau, jpeg="never", colour="never", tuned=tuned)
    assert dlpr.inspect(data).weights_id == tuned.id.hex()
    np.testing.assert_array_equal(dlpr.decode(data), reference.decode(data))


def test_sums_stay_in_24_bits() -> None:
    weights = store.find(store.default_id())
    wild, rows = dict(weights.tensors), accumulator_rows(weights.sizes, weights.tensors)
    for name, row in (("rc.masked.weight", 7), ("rc.hidden.1.weight", 3), ("rc.position", None)):
        array = wild[name].copy()
        if row is None:
            array[..., 5] += 1 << 24
        else:
            array[row] = np.where(array[row] > 0, 127, -127)
        wild[name] = array
    wild["rc.hidden.1.acc_bias"] = wild["rc.hidden.1.acc_bias"] + np.int32(16_000_000) * (np.arange(48) == 3)
    wild["rc.hidden.1.acc_bias"] = wild["rc.hidden.1.acc_bias"].astype(np.int32)
    found = adapt._within_bounds(weights, wild)
    after = accumulator_rows(weights.sizes, found)
    assert max(int(v.max()) for v in after.values()) < BOUND
    assert {k for k in wild if not np.array_equal(wild[k], found[k])} >= {"rc.position", "rc.hidden.1.weight"}
    others = np.delete(np.arange(48), [3])
    np.testing.assert_array_equal(found["rc.hidden.1.weight"][others], wild["rc.hidden.1.weight"][others])
    assert set(rows) == set(after)
    same = adapt._within_bounds(weights, dict(weights.tensors))
    assert all(same[k] is v for k, v in weights.tensors.items())


def test_planes_are_tuned_to() -> None:
    from PIL import Image

    y, x = np.mgrid[:128, :128]
    noise = np.random.default_rng(0).normal(0, 3, (128, 128))
    luma = 150 + 40 * np.sin(x / 9) * np.cos(y / 7) + noise
    ycc = np.stack([luma, 128 + 20 * np.sin(y / 13), 128 + 20 * np.cos(x / 17)], -1).astype(np.uint8)
    rgb = np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB"))
    data = dlpr.encode(rgb, jpeg="never", threads=1)
    parts = network_parts(data)
    assert dlpr.inspect(data).mode == "colour"
    assert {p.planes.shape[2] for p in parts} <= {1, 3}
    tuned = remember(tune(parts, AdaptConfig(steps=20, batch=2, cells=256)))
    assert sum(coded_again(parts, tuned)) < sum(p.size for p in parts)
    again = dlpr.encode(rgb, jpeg="never", tuned=tuned, threads=1)
    assert len(again) < len(data)
    np.testing.assert_array_equal(dlpr.decode(again), rgb)


def test_streams_without_networks_have_no_parts() -> None:
    assert network_parts(dlpr.encode(np.full((64, 64, 3), 7, np.uint8))) == []


def test_the_experiment_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.fromarray(tile(3, 192)).save(tmp_path / "a.png")
    experiment.main([str(tmp_path / "a.png"), "--shrink", "2", "--parts", "bank", "--steps", "2", "--tau", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split()[0] for line in lines] == ["1", "bank"]
