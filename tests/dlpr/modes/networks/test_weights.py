"""Weights files: round trip, every rule of the format, and finding them by their id."""

import hashlib
import json
import os

import numpy as np
import pytest

from dlpr.errors import DlprError, WeightsError
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.weights_check import BOUND, accumulator_bounds, expected


def changed(weights, **tensors):
    """Dump the weights with some tensors replaced (None leaves one out)."""
    all_tensors = {**weights.tensors, **{name.replace("__", "."): value for name, value in tensors.items()}}
    return store.dump(weights.profile, {k: v for k, v in all_tensors.items() if v is not None})


def test_round_trip(weights, weights_bytes):
    assert weights.id == hashlib.sha256(weights_bytes).digest()[:8]
    assert set(expected(weights.sizes)) == set(weights.tensors)
    assert store.dump(weights.profile, dict(reversed(weights.tensors.items()))) == weights_bytes
    assert not weights["rc.masked.weight"].flags.writeable
    data_start = 8 + int.from_bytes(weights_bytes[4:8], "little")
    assert weights_bytes[8:data_start].decode().startswith("{")


def test_further_tensors_are_kept(weights):
    extra = {**weights.tensors, "lic.g_e.c0.weight": np.ones((2, 3, 1, 1), np.int8)}
    again = store.load(store.dump(weights.profile, extra))
    assert again["lic.g_e.c0.weight"].shape == (2, 3, 1, 1)
    assert again.id != weights.id


def test_every_needed_tensor_is_needed(weights):
    for name in ("table.log", "gauss.cdf", "lic.g_d.up1.mult", "rc.position", "sqrc.tau_out_bias", "linear.scale"):
        with pytest.raises(WeightsError, match=name):
            changed(weights, **{name.replace(".", "__"): None})


def test_types_shapes_and_ranges(weights):
    def edited(name, at, value):
        array = weights[name].copy()
        array.flat[at] = value
        return {name.replace(".", "__"): array}

    bad = [
        {"rc__position": weights["rc.position"].astype(np.int16)},
        {"rc__position": weights["rc.position"][:7]},
        {"linear__mean": np.zeros(204, np.int16)},
        edited("rc.first.shift", 0, 25),
        edited("lic.x_head.shift", 1, 255),
        edited("lic.z_scale", 0, 64),
        edited("table.log", 100, 2000),
        edited("table.exp", 0, 0),
        edited("table.exp", 9, 65535),
        edited("table.logistic", 300, 5),
        edited("table.scale_mant", 0, 8192),
        edited("table.scale_mant", 0, 0),
        edited("table.scale_shift", 3, -1),
        edited("gauss.range", 0, -1),
        edited("gauss.range", 63, 30000),
        edited("gauss.offset", 5, 1 << 30),
        edited("gauss.cdf", 1, 0),
        edited("gauss.cdf", 0, 1),
        {"rc__masked__weight": np.full_like(weights["rc.masked.weight"], 127)},
        {"lic__g_d__c3__acc_bias": np.full_like(weights["lic.g_d.c3.acc_bias"], BOUND)},
    ]
    for tensors in bad:
        with pytest.raises(WeightsError) as info:
            changed(weights, **tensors)
        assert info.value.reason == "weights"
    with pytest.raises(WeightsError):
        changed(weights, more=np.zeros(3, np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 0}, {"hidden": 7}, {"components": 4}, {"blocks": 99}, {"bank": True}, {"latent": "4"},
        {"widths": [8, 6, 5]}, {"widths": [8, 6, 5, 23]}, {"widths": None}, {"tau_classes": None},
    ],
)  # fmt: skip
def test_profiles_that_are_refused(weights, change):
    with pytest.raises(WeightsError):
        store.dump({**weights.profile, **change}, weights.tensors)


def test_bounds_are_reached_by_real_inputs(weights):
    """The proof is tight: inputs exist that give each row's largest sum."""
    bounds = accumulator_bounds(weights.sizes, weights.tensors)
    assert all(0 < b < BOUND for b in bounds.values())
    w, bias = weights["rc.hidden.0.weight"].astype(int), weights["rc.hidden.0.acc_bias"].astype(int)
    largest = (np.where(w > 0, 2047, -256) * w).sum(1) + bias
    smallest = (np.where(w > 0, -256, 2047) * w).sum(1) + bias
    assert max(largest.max(), -smallest.min()) <= bounds["rc.hidden.0"]


def test_damaged_files(weights_bytes):
    rng = np.random.default_rng(0)
    cuts = [*range(0, 40), *rng.integers(40, len(weights_bytes), 40).tolist()]
    for n in cuts:
        with pytest.raises(WeightsError):
            store.load(weights_bytes[:n])
    index_end = 8 + int.from_bytes(weights_bytes[4:8], "little")
    for at in rng.integers(0, index_end, 150).tolist():
        data = bytearray(weights_bytes)
        data[at] ^= 1 << int(rng.integers(8))
        try:
            store.load(bytes(data))
        except DlprError:
            continue


ENTRIES = [
    {"dtype": "i8", "shape": [-1], "offset": 0},
    {"dtype": "i8", "shape": [0], "offset": 0},
    {"dtype": "i8", "shape": [1 << 60, 1 << 60], "offset": 0},
    {"dtype": "i8", "shape": [1], "offset": -5},
    {"dtype": "i8", "shape": [1], "offset": 1 << 70},
    {"dtype": "f4", "shape": [1], "offset": 0},
    {"dtype": "i8", "shape": [1e400], "offset": 0},
    {"dtype": "i8", "shape": [1] * 99, "offset": 0},
    {"dtype": ["i8"], "shape": [1], "offset": 0},
    {"dtype": "i8", "shape": 1, "offset": 0},
    {},
]
INDICES = [json.dumps({"profile": {}, "tensors": {"a": entry}}).encode() for entry in ENTRIES]


@pytest.mark.parametrize("index", [b"[]", b"{}", b"\xff", b"[" * 100000, b'{"profile": 3, "tensors": {}}', *INDICES])
def test_hostile_indices(index):
    data = b"DLPW" + len(index).to_bytes(4, "little") + index
    with pytest.raises(WeightsError):
        store.load(data + bytes(-len(data) % 8) + bytes(64))


# ---- registry ----


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(store.SEARCH_PATH, os.pathsep.join(["/nowhere", str(tmp_path)]))
    return tmp_path


def test_find_in_a_folder(folder, weights, weights_bytes):
    missing = b"\1\2\3\4\5\6\7\10"
    with pytest.raises(WeightsError, match=missing.hex()) as info:
        store.find(missing)
    assert info.value.offset == 24
    (folder / "any-name.dlpw").write_bytes(weights_bytes)
    found = store.find(weights.id)
    assert found.id == weights.id
    assert found.source.endswith("any-name.dlpw")
    assert store.find(weights.id) is found
    assert weights.id.hex() in store.installed()


def test_shipped_weights():
    content = store.manifest()
    if not content["weights"]:
        pytest.skip("no weights in this tree")
    assert content["default"] in store.installed()
    for entry in content["weights"]:
        found = store.find(bytes.fromhex(entry["id"]))
        assert entry["sha256"].startswith(found.id.hex())
    assert store.default_id().hex() == content["default"]


def test_cannot_read(tmp_path):
    with pytest.raises(WeightsError, match="cannot read"):
        store.load(tmp_path / "none.dlpw")
