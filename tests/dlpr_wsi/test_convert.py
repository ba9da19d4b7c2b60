"""Slide to archive through the library."""

import json

import numpy as np
import pytest
import zarr

from dlpr_wsi.errors import SourceError, UsageError
from dlpr_wsi.pipeline.convert import convert
from dlpr_wsi.pipeline.verify import verify


def read(path):
    return zarr.open_array(path, mode="r")[...].transpose(1, 2, 0)


@pytest.mark.parametrize("tau", [0, 1, 3])
def test_archive_holds_the_pixels_within_tau(tmp_path, plain_slide, pixels, tau):
    report = convert(plain_slide, tmp_path / "a.zarr", tau=tau, tile=64)
    assert np.abs(read(tmp_path / "a.zarr").astype(int) - pixels).max() <= tau
    assert (report.width, report.height, report.tiles) == (330, 200, 24)
    assert report.raw_bytes == pixels.nbytes
    assert sum(report.tiles_by_mode.values()) == 24
    assert report.tiles_by_mode["constant"] >= 4  # the white border
    assert report.archive_bytes == sum(p.stat().st_size for p in (tmp_path / "a.zarr").rglob("*") if p.is_file())
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_layout_of_the_archive(archive, plain_slide):
    metadata = json.loads((archive / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["shape"] == [3, 200, 330]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [3, 64, 64]
    assert metadata["codecs"] == [{"name": "dlpr", "configuration": {"tau": 1}}]
    assert metadata["fill_value"] == 255
    assert metadata["dimension_names"] == ["c", "y", "x"]
    facts = metadata["attributes"]["dlpr_wsi"]
    assert facts["source_bytes"] == plain_slide.stat().st_size
    assert facts["source_codec"] == "uncompressed"
    assert len(list((archive / "c").rglob("*/*/*"))) == 24  # also the chunks that equal the fill value


@pytest.mark.parametrize("tile", [48, 100, 512])
def test_bytes_do_not_depend_on_threads(tmp_path, plain_slide, pixels, tile):
    stored = []
    for threads in (1, 3):
        out = tmp_path / f"{threads}.zarr"
        convert(plain_slide, out, tile=tile, threads=threads)
        np.testing.assert_array_equal(read(out), pixels)
        stored.append({str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert stored[0] == stored[1]


def test_free_text_of_the_slide_stays_out(tmp_path, svs):
    report = convert(svs, tmp_path / "a.zarr")
    assert report.source.associated == ("label", "macro", "thumbnail")
    facts = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]["dlpr_wsi"]
    assert (facts["vendor"], facts["mpp_x"], facts["objective_power"]) == ("aperio", 0.2525, 40.0)
    assert (facts["source_codec"], facts["source_codec_lossy"], facts["source_quality"]) == ("JPEG", True, 70)
    everything = b"".join(p.read_bytes() for p in (tmp_path / "a.zarr").rglob("*") if p.is_file())
    assert b"Jane" not in everything
    assert b"synthetic" not in everything


@pytest.mark.parametrize("slide", ["svs", "real_slide"])
def test_convert_then_verify(tmp_path, slide, request):
    path = request.getfixturevalue(slide)
    for tau in (0, 2):
        convert(path, tmp_path / f"{tau}.zarr", tau=tau, tile=128)
        report = verify(tmp_path / f"{tau}.zarr", path)
        assert report.ok
        assert report.max_error == tau


def test_existing_archive_is_kept_unless_told(tmp_path, plain_slide, real_slide, pixels):
    out = tmp_path / "a.zarr"
    convert(real_slide, out)
    with pytest.raises(UsageError, match="give --overwrite"):
        convert(plain_slide, out)
    convert(plain_slide, out, overwrite=True)
    np.testing.assert_array_equal(read(out), pixels)
    assert list(tmp_path.iterdir()) == [out]


def test_only_archives_are_overwritten(tmp_path, plain_slide):
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not a Zarr archive"):
        convert(plain_slide, precious, overwrite=True)
    assert (precious / "letter.txt").read_text() == "dear"


def test_failure_leaves_nothing_and_keeps_the_old_archive(tmp_path, plain_slide, real_slide, monkeypatch):
    from dlpr_wsi.sources.openslide import OpenSlideSource

    out = tmp_path / "a.zarr"
    convert(real_slide, out, tile=128)
    genuine = OpenSlideSource.read

    def failing(self, x, y, width, height):
        if y >= 128:
            raise SourceError(f"damaged at y={y}")
        return genuine(self, x, y, width, height)

    monkeypatch.setattr(OpenSlideSource, "read", failing)
    with pytest.raises(SourceError, match="damaged at y=128"):
        convert(plain_slide, out, tile=64, overwrite=True)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [out]
    assert verify(out, real_slide).ok
