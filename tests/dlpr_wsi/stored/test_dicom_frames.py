"""The frames of DICOM slides are kept, however the file lays them out; OpenSlide's pixels are the judge."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from kit_common import halved, jpeg, tissue
from kit_dicom import J2K_LOSSLESS, frames_of, write_dicom

from dlpr_wsi.errors import ConversionError, SourceError
from dlpr_wsi.pipeline.convert import ConvertOptions, convert, preview
from dlpr_wsi.pipeline.plan import SourceTiles
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.report import convert_lines
from dlpr_wsi.sources import Coding, TileGrid
from dlpr_wsi.sources.archive import directory_bytes
from dlpr_wsi.sources.opening import open_archive, open_source
from dlpr_wsi.stored.dicom import DicomStore

REAL = Path(__file__).parents[4] / "shared" / "data" / "slides"
IMAGE = tissue(300, 260)
LEVELS = [IMAGE, halved(IMAGE), halved(IMAGE, 2)]


def kept_exactly(slide, out, count):
    """Convert; every level has the reader's pixels, ``count`` chunks are frames of the file."""
    report = convert(slide, out, threads=1)
    archive, source = open_archive(out), open_source(slide)
    for index, level in enumerate(source.facts.levels):
        whole = (0, 0, level.width, level.height, index)
        np.testing.assert_array_equal(archive.read(*whole), source.read(*whole))
    source.close()
    assert report.tiles_by_mode.get("jpeg", 0) == count
    assert verify(out, slide, threads=1).ok
    return report


@pytest.mark.parametrize("table", ["basic", "extended", "none"])
@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_every_layout(tmp_path, table, fragments, sparse):
    missing = frozenset({(0, 1)}) if sparse else frozenset()
    layout = {"table": table, "fragments": fragments, "sparse": sparse, "missing": missing}
    slide = write_dicom(tmp_path / "s", LEVELS, **layout)
    if table == "none" and fragments > 1:  # OpenSlide does not read these
        with pytest.raises((SourceError, ConversionError), match="too many frames"):
            convert(slide, tmp_path / "a.zarr", threads=1)
        store = DicomStore(_as_seen(slide))
        assert {level: sum(1 for _ in found.parts()) for level, found in store.levels.items()} == (
            {0: 8, 1: 3, 2: 1} if sparse else {0: 9, 1: 4, 2: 1}
        )
        store.close()
        return
    source = open_source(slide)
    store = source.store
    assert isinstance(store, DicomStore)
    assert ([path.name for path in store.files], store.notes) == (["level0.dcm", "level1.dcm", "level2.dcm"], ())
    for index, image in enumerate(LEVELS):
        level = store.levels[index]
        assert level.grid() == TileGrid(128, 128, -(-image.shape[0] // 128), -(-image.shape[1] // 128))
        expected = {(r, c): data for r, c, data in frames_of(image, 128, lambda f: jpeg(f, 80, "422"))}
        if sparse:
            expected.pop((0, 1), None)
        parts = list(level.parts())
        assert [(part.y // 128, part.x // 128) for part in parts] == sorted(expected)
        for part in parts:
            where = (part.y // 128, part.x // 128)
            assert len(part.ranges) == fragments
            stored = b"".join(_bytes(store.files[r.file], r) for r in part.ranges)
            assert stored[: len(expected[where])] == expected[where]
            tile = level.tile(*where)
            assert (tile.data, tile.ycbcr, tile.coding) == (stored, True, Coding.JPEG)
        if sparse:
            assert level.tile(0, 1) is None
    source.close()
    kept_exactly(slide, tmp_path / "a.zarr", 12 if sparse else 14)


def _bytes(path, where):
    with path.open("rb") as file:
        file.seek(where.offset)
        return file.read(where.size)


def _as_seen(slide):
    from dlpr_wsi.sources import Selection
    from dlpr_wsi.stored.container import SlideFile

    return SlideFile(slide, "dicom", [(image.shape[1], image.shape[0]) for image in LEVELS], Selection())


@pytest.mark.parametrize(
    ("photometric", "subsampling"), [("RGB", "444"), ("YBR_FULL_422", "420"), ("YBR_FULL_422", "444")]
)
def test_colours_are_told_by_the_photometric_interpretation(tmp_path, photometric, subsampling):
    slide = write_dicom(tmp_path / "s", LEVELS[:2], photometric=photometric, subsampling=subsampling)
    kept_exactly(slide, tmp_path / "a.zarr", 13)


def test_a_series_shrinks(tmp_path):
    image = tissue(1024, 768)
    slide = write_dicom(tmp_path / "s", [image, halved(image), halved(image, 2)], tile=256)
    report = kept_exactly(slide.parent, tmp_path / "a.zarr", 12 + 4 + 1)
    held = sum(path.stat().st_size for path in slide.parent.iterdir())
    assert directory_bytes(tmp_path / "a.zarr") == report.archive_bytes <= 0.80 * held
    everything = b"".join(path.read_bytes() for path in (tmp_path / "a.zarr").rglob("*") if path.is_file())
    assert b"Jane" not in everything
    assert b"S12-3456" not in everything


def test_jpeg_2000_frames_are_there_and_kept_where_that_is_smallest(tmp_path):
    slide = write_dicom(
        tmp_path / "s",
        LEVELS[1:],
        photometric="RGB",
        syntax=J2K_LOSSLESS,
        code=lambda f: bytes(imagecodecs.jpeg2k_encode(f, level=0, codecformat="j2k", mct=False, reversible=True)),
    )
    source = open_source(slide)
    assert source.source_tile(0, 0, 0).coding is Coding.JPEG2000
    assert source.source_tile(0, 0, 0).data[:2] == b"\xff\x4f"
    source.close()
    told = [kept.text for kept in preview(slide, threads=1).kept_levels]
    assert len(told) == 2
    for text in told:
        assert text.startswith("the slide's own lossless JPEG 2000 tiles, each kept as it is or coded as pixels")
    for options in (ConvertOptions(reversible=True), ConvertOptions(source_tiles=SourceTiles.ONLY)):
        told = [kept.text for kept in preview(slide, options, threads=1).kept_levels]
        assert told == ["the slide's own JPEG 2000 tiles, kept as they are"] * 2
    convert(slide, tmp_path / "a.zarr", threads=1)
    assert verify(tmp_path / "a.zarr", slide, threads=1).ok


@pytest.mark.parametrize("table", ["basic", "extended"])
@pytest.mark.parametrize("number", [1, 7])
def test_a_table_that_does_not_ascend_is_refused(tmp_path, table, number):
    """OpenSlide's library for DICOM ends the process on such a table: it must not get so far."""
    slide = write_dicom(tmp_path / "s", LEVELS[:1], table=table)
    data, width = bytearray(slide.read_bytes()), 4 if table == "basic" else 8
    if table == "basic":
        at = data.index(struct.pack("<HHI", 0xFFFE, 0xE000, width * 9)) + 8
    else:
        at = data.index(struct.pack("<HH2sHI", 0x7FE0, 1, b"OV", 0, width * 9)) + 12
    place = slice(at + width * number, at + width * (number + 1))
    data[place] = data[at + width * (number + 1) : at + width * (number + 2)]
    slide.write_bytes(data)
    with pytest.raises(SourceError, match=r"level0\.dcm: its table of offsets of frames is damaged"):
        open_source(slide)


def _odd(frame):
    """A JPEG that OpenSlide decodes and the codec does not take: chroma at a quarter of the width."""
    return bytes(imagecodecs.jpeg8_encode(frame, level=80, subsampling="411"))


def test_a_frame_that_the_codec_does_not_take_costs_bytes_and_no_pixel(tmp_path):
    odd = _odd(np.ascontiguousarray(IMAGE[128:256, 128:256]))

    def change(level, row, column, data):
        return odd if (row, column) == (1, 1) else data

    slide = write_dicom(tmp_path / "s", LEVELS[:1], change=change)
    report = kept_exactly(slide, tmp_path / "a.zarr", 9)  # its pixels show that they were JPEG
    assert not report.unkept


def test_a_level_that_the_codec_does_not_take_is_said_to_be_coded_as_pixels(tmp_path):
    slide = write_dicom(tmp_path / "s", [IMAGE[:128, :128]], code=_odd)
    report = kept_exactly(slide, tmp_path / "a.zarr", 1)  # found in its pixels
    text = (
        "JPEG tiles that the codec does not take (chroma sampling other than 4:4:4, 4:2:2, 4:4:0 and 4:2:0): "
        "coded as pixels"
    )
    assert (report.kept_levels[0].kept, report.kept_levels[0].text) == (False, text)
    assert convert_lines(report)[0 if not report.grew else 1].endswith(text)


def test_a_frame_that_ends_early_is_named(tmp_path):
    """OpenSlide does not decode it: no archive."""

    def cut(level, row, column, data):
        return data[: len(data) // 2] + b"\xff\xd9" if (row, column) == (1, 0) else data

    slide = write_dicom(tmp_path / "s", LEVELS[:1], change=cut)
    with pytest.raises(ConversionError, match="level 0 row 1 column 0"):
        convert(slide, tmp_path / "a.zarr", threads=1)


def test_frames_that_cannot_be_told_apart_are_said(tmp_path):
    """Fragments without a table, of which one frame has lost its start marker."""

    def spoilt(level, row, column, data):
        return b"\0\0" + data[2:] if (level, row, column) == (0, 1, 1) else data

    slide = write_dicom(tmp_path / "s", LEVELS, table="none", fragments=3, change=spoilt)
    store = DicomStore(_as_seen(slide))
    assert sorted(store.levels) == [1, 2]
    assert store.notes == (
        "level 0: its frames cannot be found in the file, 27 fragments for 9 frames, and no table that tells where "
        "they begin; coded as pixels",
    )
    store.close()


def test_other_tiles_than_the_slides(tmp_path):
    slide = write_dicom(tmp_path / "s", LEVELS[:1])
    found = preview(slide, ConvertOptions(tile=256), threads=1)
    assert found.kept_levels[0].text == (
        "stored tiles not kept (--tile 256 was given, and the slide's tiles have 128 px: leave it out to keep them): "
        "coded as pixels"
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="the real slides are not here")
def test_a_real_slide(tmp_path):
    slide = REAL / "camelyon-thumb-jpeg.dcm"
    report = kept_exactly(slide, tmp_path / "a.zarr", 15)
    assert report.archive_bytes <= 0.80 * slide.stat().st_size
    lines = convert_lines(report)
    assert lines[0].endswith("in 15 tiles of 256 px, the slide's own JPEG tiles, kept as they are: 15 of 15")
