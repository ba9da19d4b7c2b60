"""Training tiles in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from dlpr.errors import UnsupportedInputError
from dlpr.training import cli, domain, origins
from dlpr.training.pack import pack, unpack


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One image, and two of the origins."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:432, :432]
    wave = 150 + 60 * np.sin(y / 9) * np.cos(x / 12)
    image = np.clip(wave[..., None] - [0, 30, 60] + rng.normal(0, 3, (432, 432, 3)), 0, 255).astype(np.uint8)
    (tmp_path / "images" / "a").mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "images" / "a" / "image.png")
    some = dict(list(origins.ORIGINS.items())[:2])
    monkeypatch.setattr(domain, "ORIGINS", some)
    return tmp_path / "images"


def test_a_pack_gives_the_blocks_of_the_images(images: Path, tmp_path: Path) -> None:
    size = pack(images, tmp_path / "tiles.npz", 2, 2, 5)
    assert size == (tmp_path / "tiles.npz").stat().st_size
    packed, built = unpack(tmp_path / "tiles.npz"), domain.build_blocks(images, tmp_path / "cache", 2, 2, 5)
    assert list(packed) == list(built)
    for name, blocks in built.items():
        assert [b.kind for b in packed[name]] == [b.kind for b in blocks]
        for a, b in zip(packed[name], blocks, strict=True):
            np.testing.assert_array_equal(a.x, b.x)
            np.testing.assert_array_equal(a.pred, b.pred)
            np.testing.assert_array_equal(a.base, b.base)


def test_too_much_is_refused_and_nothing_written(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInputError, match="draw fewer"):
        pack(images, tmp_path / "tiles.npz", 2, 2, 5, most=1000)
    assert not list(tmp_path.glob("tiles*"))


def test_on_the_command_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = str(tmp_path / "tiles.npz")
    assert cli.main(["pack", str(images), "--out", where, "--per-source", "1", "--per-simulation", "1"]) == 0
    assert "bytes" in capsys.readouterr().out
    short = ["--steps", "1", "--lic-steps", "0", "--sqrc-steps", "1", "--threads", "1", "--config", "batch=2"]
    assert cli.main(["fit", where, "--out", str(tmp_path / "run"), *short]) == 0
    assert (tmp_path / "run" / "sqrc.pt").exists()
    assert cli.main(["fit", where, "--out", str(tmp_path / "run"), "--held-out", str(images)]) == 1
    (tmp_path / "other.npz").write_bytes(b"not a pack")
    assert cli.main(["fit", str(tmp_path / "other.npz"), "--out", str(tmp_path / "run2"), *short]) == 1
    assert "dlpr-train pack" in capsys.readouterr().err
