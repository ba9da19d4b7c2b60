"""Made-up images to train on, and others to measure with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw_images(root: Path, seed: int) -> Path:
    """Two sources of one image each below ``root``."""
    rng = np.random.default_rng(seed)
    for source, scale in (("a", 9), ("b", 21)):
        (root / source).mkdir(parents=True)
        y, x = np.mgrid[:432, :432]
        wave = 150 + 60 * np.sin(y / scale) * np.cos(x / (scale + 3))
        rgb = wave[..., None] - [0, 30, 60] + rng.normal(0, 3, (432, 432, 3))
        Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(root / source / "image.png")
    return root


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training images."""
    return draw_images(tmp_path_factory.mktemp("images") / "train", 0)


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that training must not read."""
    return draw_images(tmp_path_factory.mktemp("images") / "dev", 1)
