"""The estimate of a reversible archive against the archive."""

import numpy as np
import pytest
import tifffile
from kit_common import tissue
from kit_ndpi import ndpi
from kit_svs import svs
from PIL import Image

from dlpr_wsi.pipeline.convert import ConvertOptions, convert, preview
from dlpr_wsi.report import preview_lines

imagecodecs = pytest.importorskip("imagecodecs")


def guessed(slide, folder):
    """Estimate and make; return the estimate and the report."""
    options = ConvertOptions(reversible=True)
    found = preview(slide, options, threads=1)
    assert any("give the slide's files back" in line for line in preview_lines(found))
    return found.estimate, convert(slide, folder / "a.zarr", options=options, threads=1, overwrite=True)


def near(guess, report, share):
    """The map is as foreseen within a share, or a few hundred bytes; so the archive is."""
    made = report.reversible["bytes"]
    assert abs(guess.map_bytes - made) <= max(share * made, 800), (guess.map_bytes, made)
    off = abs(guess.archive_bytes - report.archive_bytes)
    assert off <= guess.margin + max(share * made, 800) + 0.01 * report.archive_bytes


def test_jpeg_tiles(tmp_path):
    """Label, macro and thumbnail are kept; tiles are made."""
    svs(tmp_path / "a.svs", tissue(700, 600), quality=70)
    guess, report = guessed(tmp_path / "a.svs", tmp_path)
    near(guess, report, 0.05)
    plain = preview(tmp_path / "a.svs", ConvertOptions(), threads=1).estimate
    assert plain.map_bytes == 0
    assert abs(plain.archive_bytes + guess.map_bytes - guess.archive_bytes) < 50


def test_tiles_that_cannot_be_made(tmp_path):
    """Half of the tiles end in bytes that no writer of JPEG makes."""

    def change(level, row, column, data):
        return data + bytes(np.random.default_rng(row * 99 + column).integers(0, 255, 900, np.uint8)) * (column % 2)

    svs(tmp_path / "a.svs", tissue(900, 700), change=change)
    guess, report = guessed(tmp_path / "a.svs", tmp_path)
    near(guess, report, 0.25)


def test_intervals(tmp_path):
    ndpi(tmp_path / "a.ndpi", tissue(1024, 512))
    guess, report = guessed(tmp_path / "a.ndpi", tmp_path)
    near(guess, report, 0.3)


@pytest.mark.parametrize("level", [0, 34])
def test_jpeg2000_tiles(tmp_path, level):
    image = tissue(640, 512)
    tiles = [
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(image[y : y + 128, x : x + 128]), level=level, codecformat="j2k", reversible=level == 0
        )
        for y in range(0, 512, 128)
        for x in range(0, 640, 128)
    ]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        shape = {"shape": image.shape, "dtype": np.uint8, "tile": (128, 128)}
        writer.write(iter(tiles), **shape, compression=33005, photometric="rgb", metadata=None)
    guess, report = guessed(tmp_path / "a.tif", tmp_path)
    near(guess, report, 0.25)


def test_a_file_of_no_parts(tmp_path):
    """All of it is kept, compressed."""
    Image.fromarray(tissue(100, 80)).save(tmp_path / "a.png")
    guess, report = guessed(tmp_path / "a.png", tmp_path)
    near(guess, report, 0.02)
    tifffile.imwrite(tmp_path / "b.tif", np.full((300, 400, 3), 9, np.uint8), compression=None)
    guess, report = guessed(tmp_path / "b.tif", tmp_path)
    near(guess, report, 0.02)
