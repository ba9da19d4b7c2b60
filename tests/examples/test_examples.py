"""The examples run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zarr", minversion="3.0")
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *args, cwd):
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )


def test_demo_on_a_small_slide(tmp_path):
    pytest.importorskip("openslide")
    tifffile = pytest.importorskip("tifffile")
    image = np.random.default_rng(0).integers(200, 220, (90, 150, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "small.tiff", image, photometric="rgb", tile=(64, 64))
    done = run("demo.py", "small.tiff", "--tile", 64, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.endswith("ok")]
    assert [row[0] for row in rows] == ["0", "1", "3"]
    assert [row[-2] for row in rows] == ["0", "1", "3"]
