"""The networks' domain: what another mode takes is changed until none does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("imagecodecs")
pytest.importorskip("matplotlib")
from PIL import Image

from dlpr.evaluation import cli
from dlpr.evaluation.domain import networks_domain, reaches_networks


def tissue(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:192, :192]
    wave = 150 + 50 * np.sin(y / 9) * np.cos(x / 13)
    rgb = wave[..., None] - [0, 30, 60] + rng.normal(0, 4, (192, 192, 3)) * [1, 0.6, 0.8]
    return np.clip(rgb, 0, 255).astype(np.uint8)


def test_a_decoded_jpeg_is_changed_and_a_camera_image_is_not() -> None:
    out = io.BytesIO()
    Image.fromarray(tissue(0)).save(out, "JPEG", quality=75)
    jpeg = np.asarray(Image.open(out))
    camera = tissue(1)
    assert not reaches_networks(jpeg)
    assert reaches_networks(camera)
    found = networks_domain({"a": [camera, jpeg]})
    assert {name: [t.shape for t in tiles] for name, tiles in found.items()} == {
        "a": [(192, 192, 3)],
        "a, shrunk": [(96, 96, 3)],
        "a, JPEG 2000": [(96, 96, 3)],
    }
    assert (found["a"][0] == camera).all()
    mean = jpeg[:2, :2].astype(float).mean((0, 1))
    assert np.abs(found["a, shrunk"][0][0, 0] - mean).max() <= 0.5
    assert 0 < np.abs(found["a, JPEG 2000"][0].astype(int) - found["a, shrunk"][0]).mean() < 6


def test_page_names_the_domain(tmp_path: Path) -> None:
    (tmp_path / "dev" / "a").mkdir(parents=True)
    Image.fromarray(tissue(2)).save(tmp_path / "dev" / "a" / "image.png")
    args = ["--set", f"dev={tmp_path / 'dev'}", "--out", str(tmp_path / "out"), "--tau", "0", "--per-source", "1"]
    assert cli.main([*args, "--domain", "networks", "--no-peers"]) == 0
    assert "--domain networks" in (tmp_path / "out" / "README.md").read_text()
