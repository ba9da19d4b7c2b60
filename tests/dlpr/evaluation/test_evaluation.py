"""dlpr-eval on made-up images: real bytes, every stream checked, tables and plots."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("imagecodecs")
pytest.importorskip("matplotlib")
from PIL import Image

from dlpr.evaluation import cli, measure, peers, report


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    y = np.mgrid[:96, :96][0]
    for i, name in enumerate(("tiles/a", "tiles/b", "whole")):
        (root / name).mkdir(parents=True)
        rgb = 150 + 60 * np.sin(y / (9 + 4 * i))[..., None] - [0, 30, 60] + rng.normal(0, 2, (96, 96, 3))
        Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(root / name / "image.png")
    return root


def test_page_csv_json_and_plots(images: Path, tmp_path: Path) -> None:
    args = ["--set", f"tiles={images / 'tiles'}", "--set", f"whole={images / 'whole'}", "--out", str(tmp_path)]
    assert cli.main([*args, "--tau", "0", "2", "--per-source", "1", "--unseen", "b", "--option", "patch=64"]) == 0
    data = json.loads((tmp_path / "results.json").read_text())
    codecs = {
        0: {measure.OWN, measure.NETWORK, *peers.lossless_peers()},
        2: {measure.OWN, measure.NETWORK, *peers.near_lossless_peers(2)},
    }
    for tau, expected in codecs.items():
        assert {r["codec"] for r in data["results"] if r["tau"] == tau} == expected
    for r in data["results"]:
        if r["codec"] in (measure.OWN, measure.NETWORK):
            assert r["header"] + sum(r[part] for part in measure.PARTS) == r["bytes"]
            assert r["mode"] in ("coded", "jpeg")
    with (tmp_path / "results.csv").open() as f:
        assert len(list(csv.DictReader(f))) == len(data["results"]) == 3 * (len(codecs[0]) + len(codecs[2]))
    page = (tmp_path / "README.md").read_text()
    assert "| b | no | 1 |" in page
    assert "sources without a relative in training" in page
    assert str(images) not in page
    for name in ("rate", "speed", "parts"):
        with Image.open(tmp_path / f"{name}-tiles.png") as im:
            assert im.size[0] > 400


def test_wrong_pixels_stop_the_run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = peers.Peer(lambda a: a.tobytes(), lambda data: np.zeros((96, 96, 3), np.uint8))
    monkeypatch.setattr(measure, "lossless_peers", lambda: {"broken": broken})
    args = ["--set", f"whole={images / 'whole'}", "--out", str(tmp_path / "out"), "--tau", "0"]
    assert cli.main(args) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "args",
    [
        ["--set", "nothing"],
        ["--set", "x=/nonexistent"],
        ["--set", "a/b=."],
        ["--set", "x=.", "--option", "patch=63"],
        ["--set", "x=.", "--option", "patch"],
        ["--set", "x=.", "--weights", "zz"],
    ],
)
def test_bad_usage(args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*args, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("dlpr-eval: ")


def test_means_and_intervals() -> None:
    def rows(codec: str, sizes: dict[str, list[int]]) -> list[measure.Result]:
        return [
            measure.Result("s", source, i, codec, 0, 100, size, 1.0, 0.5)
            for source, column in sizes.items()
            for i, size in enumerate(column)
        ]

    own = rows("dlpr", {"a": [100, 300], "b": [50]})
    other = rows("JPEG XL e9", {"a": [200, 600], "b": [100]})
    assert report.macro(own, "dlpr", 0) == pytest.approx((8 * 400 / 200 + 8 * 50 / 100) / 2)
    low, high = report.ratio_interval(own[:2], other[:2])
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)
    page = report.markdown([*own, *other], {}, ["b"], [])
    assert "| dlpr | 10.000 |" in page
    assert "0.500 x" in page
