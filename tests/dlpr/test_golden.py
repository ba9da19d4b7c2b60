"""Goldens: streams of every version decode to the same samples for ever, and the encoder writes the same bytes.

A difference here is a change of the format or of the shipped weights. tests/golden/make_goldens.py says how goldens
are written; nothing in this file writes.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import dlpr
from dlpr import errors, reference
from dlpr.modes.networks import weights as weights_store

TESTS = Path(__file__).resolve().parent.parent
GOLDEN, ERRORS, SIZES = TESTS / "golden", TESTS / "golden-errors", TESTS / "regression" / "sizes.csv"
SCRIPT = GOLDEN / "make_goldens.py"
FILES = {"input.npy", "stream.dlpr", "case.json"}

# Every golden there has ever been. Append only: one that is gone fails by name.
CASES = [
    "v3/anchor-lossy-tau2",
    "v3/background",
    "v3/chw-leading",
    "v3/column-tau2",
    "v3/constant",
    "v3/constant-within-tau",
    "v3/grey-chw",
    "v3/grey-hw-tau1",
    "v3/jpeg-420",
    "v3/jpeg-420-box",
    "v3/jpeg-420-phase",
    "v3/jpeg-422",
    "v3/jpeg-440-phase",
    "v3/jpeg-444",
    "v3/jpeg-chw-leading",
    "v3/jpeg-grey-hw",
    "v3/jpeg-own-table",
    "v3/jpeg-residual-tau0",
    "v3/jpeg-residual-tau2",
    "v3/jpeg-rgb",
    "v3/no-linear-stage",
    "v3/no-lossy-layer",
    "v3/patches-lanes",
    "v3/patches-lanes-tau3",
    "v3/rgb-tau0",
    "v3/rgb-tau1",
    "v3/rgb-tau15-odd",
    "v3/rgb-tau5",
    "v3/row-tau1",
    "v3/stored",
    "v3/tiny",
    "v3/colour-420",
    "v3/colour-420-tau1",
    "v3/colour-422-floor",
    "v3/colour-444",
    "v3/colour-bt601-video",
    "v3/colour-chw",
    "v3/colour-grey",
    "v3/colour-jpeg-planes",
    "v3/colour-photoycc",
    "v3/colour-420-bank-32",
    "v3/colour-444-bank-32",
    "v3/rgb-tau2-bank-32",
    "v3/j2k-53",
    "v3/j2k-97",
    "v3/j2k-causal",
    "v3/j2k-grey-hw",
    "v3/j2k-residual-tau0",
    "v3/j2k-residual-tau2",
    "v3/j2k-rgb",
    "v3/j2k-subsampled",
    "v3/j2k-tiles",
    "v3/j2k-window",
    "v3/j2k-window-causal",
    "v3/j2k-window-points",
    "v3/j2k-window-whole-numbers",
    "v3/j2k-window-ycc-tau1",
    "v3/j2k-ycc-chw",
]


@lru_cache(maxsize=1)
def make_goldens() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("make_goldens", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load(name: str) -> tuple[np.ndarray, bytes, dict[str, Any]]:
    folder = GOLDEN / name
    have = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    assert have - {"source.npz", "source.j2k"} == FILES, (
        f"golden {name} is not complete: {sorted(have)}; restore it from git, do not make it anew"
    )
    case = json.loads((folder / "case.json").read_text("utf-8"))
    return np.load(folder / "input.npy"), (folder / "stream.dlpr").read_bytes(), case


def test_no_golden_is_missing_or_unlisted() -> None:
    found = {f"{v.name}/{c.name}" for v in GOLDEN.glob("v*") for c in v.iterdir()}
    assert found == set(CASES)
    assert {name.removeprefix("v3/") for name in CASES} == set(make_goldens().golden_cases())


def test_goldens_cover_the_format() -> None:
    infos = [dlpr.inspect(load(name)[1]) for name in CASES]
    assert {info.mode for info in infos} == {"coded", "constant", "stored", "jpeg", "colour", "j2k"}
    assert {info.layout for info in infos} == {"HWC", "CHW", "HW"}
    assert {0, 1, 5, 15} <= {info.tau for info in infos}
    coded = [info for info in infos if info.mode == "coded"]
    assert {info.lossy_layer for info in coded} == {True, False}
    assert {info.lanes for info in coded} >= {1, 4, 32}
    assert {info.patch for info in coded} >= {32, 256}


@pytest.mark.parametrize("name", CASES)
def test_golden_decodes(name: str) -> None:
    image, data, case = load(name)
    assert sha256(data) == case["stream_sha256"]
    info = dlpr.inspect(data)
    assert (info.mode, info.tau, info.weights_id) == (case["mode"], case["tau"], case["weights_id"])
    if info.weights_id:
        assert info.weights_id in {entry["id"] for entry in weights_store.manifest()["weights"]}, (
            "weights that wrote streams of a released version stay shipped"
        )
    out = dlpr.decode(data)
    assert (list(out.shape), out.dtype, sha256(out.tobytes())) == (case["shape"], np.uint8, case["decoded_sha256"])
    assert int(np.abs(out.astype(int) - image.astype(int)).max()) <= case["tau"]


@pytest.mark.parametrize("name", CASES)
def test_golden_decodes_in_the_reference(name: str) -> None:
    _, data, case = load(name)
    assert sha256(reference.decode(data).tobytes()) == case["decoded_sha256"]


@pytest.mark.parametrize("name", CASES)
def test_encoder_writes_the_golden(name: str) -> None:
    image, data, case = load(name)
    weights_id = bytes.fromhex(case["weights_id"]) if case["weights_id"] else None
    source = make_goldens().load_source(GOLDEN / name, case)
    again = dlpr.encode(image, case["tau"], weights_id=weights_id, source=source, **case["options"])
    assert again == data, "the encoder writes other bytes than before: a change for the changelog, and a breaking one"


# ---- errors ---------------------------------------------------------------------------------------------

REASONS = {
    "bad-lane-state": "corrupt",
    "bank-entry-255": "corrupt",
    "draft-version": "version",
    "draft-version-2": "version",
    "empty": "truncated",
    "flipped-header": "checksum",
    "flipped-lane": "checksum",
    "flipped-lossy": "checksum",
    "huge": "unsupported",
    "interval-0": "corrupt",
    "j2k-component-reserved": "corrupt",
    "j2k-window-beside": "corrupt",
    "j2k-window-far": "corrupt",
    "j2k-window-points-0": "corrupt",
    "j2k-window-whole-5-3": "corrupt",
    "j2k-window-points-9": "corrupt",
    "j2k-window-whole": "corrupt",
    "j2k-first-sampling-2": "corrupt",
    "j2k-kind-reserved": "unsupported",
    "j2k-lane-cut": "corrupt",
    "j2k-levels-33": "corrupt",
    "j2k-lossy-checksum": "checksum",
    "j2k-lossy-too-long": "truncated",
    "j2k-other-coefficients": "corrupt",
    "j2k-residual-cut": "corrupt",
    "j2k-without-residual": "pixels",
    "jpeg-box-without-subsampling": "corrupt",
    "jpeg-kind-reserved": "unsupported",
    "jpeg-lane-cut": "corrupt",
    "jpeg-lossy-checksum": "checksum",
    "jpeg-lossy-too-long": "truncated",
    "jpeg-other-coefficients": "corrupt",
    "jpeg-phase-beyond-mcu": "corrupt",
    "jpeg-residual-cut": "corrupt",
    "jpeg-subsampled-rgb": "corrupt",
    "jpeg-table-202": "corrupt",
    "jpeg-table-again-first": "corrupt",
    "jpeg-trailing-byte": "corrupt",
    "jpeg-unknown-prior": "prior",
    "jpeg-without-residual": "pixels",
    "lane-exponent-6": "corrupt",
    "linear-frac-13": "corrupt",
    "lossy-checksum": "checksum",
    "no-rows": "corrupt",
    "patch-exponent-4": "corrupt",
    "reserved-flag": "unsupported",
    "reserved-layout-bit": "unsupported",
    "short-lane": "corrupt",
    "three-channels-hw": "corrupt",
    "trailing-byte": "corrupt",
    "truncated-header": "truncated",
    "truncated-payload": "checksum",
    "truncated-payload-sealed": "truncated",
    "unknown-mode": "unsupported",
    "unknown-weights": "weights",
    "wrong-magic": "magic",
    "wrong-pixels": "pixels",
    "wrong-version": "version",
}


def test_no_golden_error_is_missing() -> None:
    table = json.loads((ERRORS / "reasons.json").read_text("utf-8"))
    assert {name: entry["reason"] for name, entry in table.items()} == REASONS
    assert {path.stem for path in ERRORS.glob("*.dlpr")} == set(REASONS)


@pytest.mark.parametrize("name", REASONS)
def test_golden_error(name: str) -> None:
    entry = json.loads((ERRORS / "reasons.json").read_text("utf-8"))[name]
    data = (ERRORS / f"{name}.dlpr").read_bytes()
    for decode in (dlpr.decode, reference.decode):
        with pytest.raises(errors.BitstreamError) as caught:
            decode(data)
        assert (type(caught.value).__name__, caught.value.reason) == (entry["error"], entry["reason"])
        if decode is dlpr.decode:
            assert caught.value.offset == entry["offset"]


# ---- sizes ----------------------------------------------------------------------------------------------


def test_sizes_are_those_on_record() -> None:
    with SIZES.open(newline="", encoding="utf-8") as file:
        record = {row["case"]: int(row["bytes"]) for row in csv.DictReader(file)}
    now = make_goldens().measured_sizes()
    changed = [
        f"{name}: {record.get(name, 'none')} -> {now.get(name, 'gone')} bytes"
        for name in sorted(record.keys() | now.keys())
        if record.get(name) != now.get(name)
    ]
    total = f"total {sum(record.values())} -> {sum(now.values())}"
    assert not changed, (
        "\n".join(["sizes changed:", *changed, total]) + "\n"
        "if that is meant: python tests/golden/make_goldens.py --sizes, and say so in the commit"
    )


# ---- the script itself ----------------------------------------------------------------------------------


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, writing into an empty folder and with two small cases."""
    script = make_goldens()
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "GOLDEN", tmp_path / "golden" / "v2")
    monkeypatch.setattr(script, "ERRORS", tmp_path / "errors")
    monkeypatch.setattr(script, "SIZES", tmp_path / "regression" / "sizes.csv")
    every = script.golden_cases()
    monkeypatch.setattr(script, "golden_cases", lambda: {name: every[name] for name in ("tiny", "stored")})
    monkeypatch.setattr(script, "size_cases", dict)
    (tmp_path / "CHANGELOG.md").write_text("## Unreleased\n\n### Format\n- Version 3 is a draft: it may change\n")
    return script


def test_goldens_are_never_overwritten(sandbox: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert sandbox.main([]) == 0
    path = sandbox.GOLDEN / "tiny" / "case.json"
    good = path.read_text()
    path.write_text("{}")
    (sandbox.GOLDEN / "stored" / "input.npy").unlink()
    assert sandbox.main([]) == 0
    assert "0 goldens written" in capsys.readouterr().out
    assert path.read_text() == "{}"
    assert not (sandbox.GOLDEN / "stored" / "input.npy").exists()
    assert sandbox.main(["--replace-draft"]) == 0
    assert path.read_text() == good


def test_goldens_of_a_published_format_cannot_be_replaced(sandbox: ModuleType) -> None:
    assert sandbox.main([]) == 0
    before = {path: path.read_bytes() for path in sandbox.ROOT.rglob("*") if path.is_file()}
    changelog = sandbox.ROOT / "CHANGELOG.md"
    for text in ("## 1.0.0\n\n### Format\n- Version 3\n", "", "- Version 3 is a draft\n\n### Format\n- Version 3\n"):
        changelog.write_text(text)
        assert sandbox.main(["--replace-draft"]) == 2
    assert all(path.read_bytes() == data for path, data in before.items() if path != changelog)
