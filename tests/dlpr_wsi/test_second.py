"""The second reader: it confirms what is right, notices what is wrong, and says what it cannot judge."""

import json

import numpy as np
import pytest
from diff_dicom import DicomCase
from diff_image import ImageCase
from diff_ome import OmeCase
from diff_tiff import AperioCase, TiffCase
from diff_zarr import ZarrCase

from dlpr_wsi.cli import main
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.execute import LocalExecutor
from dlpr_wsi.pipeline.plan import Pyramid
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.report import verify_lines
from dlpr_wsi.sources.openslide import OpenSlideSource


def converted(slide, folder, pyramid=Pyramid.NEVER, tau=0, selection=None):
    options = ConvertOptions(
        tile=64, tau=tau, pyramid=pyramid, **({} if selection is None else {"selection": selection})
    )
    out = folder / "out.zarr"
    convert(slide, out, options=options, executor=LocalExecutor(1))
    return out


CONFIRMED = [  # the slide, what reads it a second time, by how much it may differ
    (AperioCase(steps=(2, 4), subsampling=2), "TIFF parser", 0),
    (AperioCase(coding="jpeg-rgb", steps=(2.3,)), "TIFF parser", 0),
    (AperioCase(coding="33005", steps=(2.3,)), "TIFF parser", 0),
    (AperioCase(coding="33003"), "TIFF parser", 1),
    (TiffCase(compression="lzw", predictor=True, steps=(2,)), "TIFF parser", 0),
    (TiffCase(compression="deflate", tile=0, predictor=True, byteorder=">", big=True), "TIFF parser", 0),
    (TiffCase(compression="jpeg", photometric="ycbcr", subsampling=2, tile=0), "TIFF parser", 0),
    (TiffCase(photometric="palette", compression="packbits"), "TIFF parser", 0),
    (TiffCase(photometric="miniswhite", compression="zstd"), "TIFF parser", 0),
    (TiffCase(planar=True, steps=(2,), lower="subifds"), "TIFF parser", 0),
    (TiffCase(compression="webp"), "TIFF parser", 0),
    (TiffCase(pages=3, page=1), "TIFF parser", 0),
    (TiffCase(photometric="ycbcr", compression="deflate"), "TIFF parser", 2),
    (OmeCase(compression="deflate", steps=(2, 4)), "TIFF parser", 0),
    (OmeCase(axes="CYX", sizes=(5,), compression="lzw", steps=(2,)), "TIFF parser", 0),
    (OmeCase(axes="TCZYX", sizes=(2, 2, 3), plane=1, time=1), "TIFF parser", 0),
    (OmeCase(aside="label"), "TIFF parser", 0),
    (ZarrCase(steps=(2,), missing=True), "Zarr parser", 0),
    (ZarrCase(axes="tczyx", sizes=(1, 3, 1), version="0.5", layout="bf2raw", sharded=True), "Zarr parser", 0),
    (ZarrCase(axes="czyx", sizes=(2, 3), plane=2, compressor="zstd"), "Zarr parser", 0),
    (DicomCase(coding="jpeg", photometric="YBR_FULL_422", steps=(2,), label=True), "pydicom|OpenSlide", 0),
    (DicomCase(coding="j2k"), "pydicom|OpenSlide", 0),
    (ImageCase("png", "RGB"), "imagecodecs", 0),
    (ImageCase("png", "RGBA"), "imagecodecs", 1),
    (ImageCase("jpg", "RGB", subsampling=2, progressive=True), "imagecodecs", 0),
    (ImageCase("webp", "RGB"), "imagecodecs", 0),
    (ImageCase("jp2", "RGB"), "imagecodecs", 0),
    (ImageCase("bmp", "P"), "BMP parser", 0),
    (ImageCase("ppm", "1"), "PNM parser", 0),
]


@pytest.mark.parametrize(("case", "name", "tolerance"), CONFIRMED, ids=[str(k) for k in range(len(CONFIRMED))])
def test_every_chunk_is_confirmed(case, name, tolerance, tmp_path):
    slide = case.write(tmp_path)
    report = verify(converted(slide, tmp_path, selection=case.selection), slide)
    assert report.ok
    for level in report.readers:
        assert any(word in level.second for word in name.split("|"))
        assert level.first
        assert (level.confirmed, level.disagreed, level.alone) == (level.chunks, 0, {})
        assert level.tolerance <= tolerance


def test_levels_that_were_made_are_computed_again(tmp_path):
    slide = TiffCase(width=197, height=151).write(tmp_path)
    report = verify(converted(slide, tmp_path, Pyramid.ALWAYS, tau=1), slide)
    assert report.ok
    assert len(report.readers) > 2
    assert all(level.confirmed == level.chunks for level in report.readers)


def test_a_first_reader_that_is_wrong_is_noticed(tmp_path, monkeypatch):
    """The archive agrees with its reader, and is wrong with it."""
    read = OpenSlideSource.read

    def wrong(self, x, y, width, height, level=0):
        pixels = np.array(read(self, x, y, width, height, level))
        if level == 1 and x <= 70 < x + width and y <= 3 < y + height:
            pixels[3 - y, 70 - x, 1] ^= 1
        return pixels

    monkeypatch.setattr(OpenSlideSource, "read", wrong)
    slide = AperioCase(width=200, height=150, steps=(2,)).write(tmp_path)
    report = verify(converted(slide, tmp_path), slide)
    assert [(bad.level, bad.row, bad.column, bad.reason) for bad in report.bad] == [(1, 0, 1, "readers-disagree")]
    assert "OpenSlide" in report.bad[0].message
    assert "Pillow" in report.bad[0].message
    assert "up to 1" in report.bad[0].message
    assert report.max_error == 0
    assert [level.disagreed for level in report.readers] == [0, 1]


def test_tiles_that_the_slide_lacks_cannot_be_judged(tmp_path):
    slide = AperioCase(width=190, height=130, steps=(2,), missing=(1, 0)).write(tmp_path)
    report = verify(converted(slide, tmp_path), slide)
    assert report.ok
    assert report.readers[0].confirmed == report.readers[0].chunks
    (reason,) = report.readers[1].alone
    assert reason.startswith("no tile is stored there")
    text = "\n".join(verify_lines(report))
    assert "by the first alone: no tile is stored there" in text


def test_an_archive_as_source_has_one_reader(tmp_path, capsys):
    slide = TiffCase().write(tmp_path)
    first = converted(slide, tmp_path)
    (tmp_path / "again").mkdir()
    again = converted(first, tmp_path / "again")
    report = verify(again, first)
    assert report.ok
    assert report.readers[0].second is None
    assert report.no_second == "DLPR chunks are decoded by this package alone"
    assert f"second reader none: {report.no_second}" in verify_lines(report)
    assert main(["verify", str(again), "--source", str(first), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["no_second"] == report.no_second
    assert found["readers"][0]["second"] is None
    assert found["readers"][0]["alone"] == {report.no_second: report.tiles}


def test_without_a_slide_nobody_reads_it(archive):
    report = verify(archive)
    assert report.readers == ()
    assert not any("second reader" in line for line in verify_lines(report))
