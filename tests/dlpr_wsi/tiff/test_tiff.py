"""Archives as TIFF files: what is in them, who reads them, and what happens on errors."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

import dlpr
from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.sinks import tiff as sink
from dlpr_wsi.sinks.tiff import write_tiff
from dlpr_wsi.sources.opening import open_archive
from dlpr_wsi.sources.tiff_archive import is_dlpr_tiff, open_tiff_archive


def run(script, *args):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, timeout=60, check=False
    )


def decoded(archive):
    return [archive.read(0, 0, level.width, level.height, level.index) for level in archive.levels]


def test_report(tmp_path, archives):
    archive = open_archive(archives[1])
    report = write_tiff(archive, tmp_path / "a.tiff")
    assert (report.levels, report.tiles, report.tau) == (3, 24 + 6 + 2, 1)
    assert report.file_bytes == (tmp_path / "a.tiff").stat().st_size
    assert report.stream_bytes < report.file_bytes < report.stream_bytes + 20_000
    assert report.raw_bytes == 3 * (200 * 330 + 100 * 165 + 50 * 83)


@pytest.mark.parametrize("tau", [0, 1])
def test_tiles_are_the_streams_and_the_interface_is_the_archives(tiffs, archives, images, icc, tau):
    archive, written = open_archive(archives[tau]), open_archive(tiffs[tau])
    assert [(v.width, v.height, v.tile, v.rows, v.columns, v.downsample, v.tau) for v in written.levels] == [
        (v.width, v.height, v.tile, v.rows, v.columns, v.downsample, v.tau) for v in archive.levels
    ]
    assert (written.tau, written.facts, written.mpp, written.icc_profile) == (tau, archive.facts, (0.25, 0.25), icc)
    for level in archive.levels:
        hashes = written.hashes(level.index)
        for row, column in level.positions():
            stream = archive.stream(level.index, row, column)
            assert written.stream(level.index, row, column) == stream
            assert dlpr.decode(stream).shape == (3, 64, 64)
            assert bytes(hashes[row, column]) == __import__("hashlib").sha256(stream).digest()
    for image, read in zip(images, decoded(written), strict=True):
        assert np.abs(read.astype(int) - image).max() <= tau
    np.testing.assert_array_equal(written.read(-5, 190, 40, 20, 0), archive.read(-5, 190, 40, 20, 0))
    with pytest.raises(ArchiveError, match="no chunk"):
        written.stream(0, 4, 0)


def test_the_same_archive_gives_the_same_bytes(tmp_path, archives, tiffs):
    write_tiff(open_archive(archives[0]), tmp_path / "again.tiff")
    assert (tmp_path / "again.tiff").read_bytes() == tiffs[0].read_bytes()


def test_structure(tiffs, icc):
    with tifffile.TiffFile(tiffs[1]) as file:
        assert file.is_bigtiff
        assert file.is_ome
        assert len(file.pages) == 1
        page = file.pages.first
        parts = [page, *page.pages]
        assert [part.shape for part in parts] == [(200, 330, 3), (100, 165, 3), (50, 83, 3)]
        assert {(int(part.compression), part.tilewidth, int(part.photometric)) for part in parts} == {(65471, 64, 2)}
        assert [int(part.subfiletype) for part in parts] == [0, 1, 1]
        assert all(part.tags[34675].value == icc for part in parts)
        assert [int(part.tags[296].value) for part in parts] == [3, 3, 3]
        resolutions = [part.tags[282].value for part in parts]
        assert [a / b for a, b in resolutions] == pytest.approx([40000, 20000, 10000], rel=0.01)
        assert page.software.startswith("dlpr-wsi ")
        assert "DateTime" not in page.tags
        (series,) = file.series
        assert (series.kind, len(series.levels), series.axes) == ("ome", 3, "YXS")


def test_description_is_ome_xml_with_the_facts(tiffs, archives):
    with tifffile.TiffFile(tiffs[1]) as file:
        text = file.pages.first.description
    space = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    root = ElementTree.fromstring(text)
    pixels = root.find("o:Image/o:Pixels", space).attrib
    assert (pixels["SizeX"], pixels["SizeY"], pixels["PhysicalSizeX"]) == ("330", "200", "0.25")
    assert pixels["PhysicalSizeXUnit"] == "\u00b5m"
    assert root.find("o:Instrument/o:Objective", space).get("NominalMagnification") == "40.0"
    facts = json.loads(root.find("o:StructuredAnnotations/o:CommentAnnotation/o:Value", space).text)
    assert facts == {**open_archive(archives[1]).facts, "level_tau": [1, 1, 1]}


def test_facts_with_markup_survive(tmp_path, make_archive, images):
    facts = {"vendor": 'a<b>&"c\u00e9]]>', "nested": {"x": [1, None]}}
    archive = open_archive(make_archive(tmp_path / "a.zarr", images[2:], facts=facts))
    write_tiff(archive, tmp_path / "a.tiff")
    assert open_archive(tmp_path / "a.tiff").facts == archive.facts
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        assert file.is_ome


def test_without_resolution_profile_or_lower_levels(tmp_path, make_archive, images):
    write_tiff(open_archive(make_archive(tmp_path / "a.zarr", images[:1], mpp=None)), tmp_path / "a.tiff")
    written = open_archive(tmp_path / "a.tiff")
    assert (len(written.levels), written.mpp, written.icc_profile) == (1, None, None)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tiff"), images[0])


READERS = """
import sys, numpy, dlpr_wsi
import tifffile, zarr, tiffslide
path, expected = sys.argv[1], numpy.load(sys.argv[2])
levels = [expected[name] for name in ("a", "b", "c")]
assert (tifffile.imread(path) == levels[0]).all()
for index, level in enumerate(levels):
    assert (tifffile.imread(path, level=index) == level).all()
with tifffile.TiffFile(path) as file:
    group = zarr.open(file.series[0].aszarr(), mode="r")
    for index, level in enumerate(levels):
        assert (group[str(index)][...] == level).all()
    array = zarr.open(file.series[0].aszarr(level=0), mode="r")
    assert (array[150:200, 300:] == levels[0][150:, 300:]).all()
with tiffslide.TiffSlide(path) as slide:
    assert slide.level_dimensions == tuple((v.shape[1], v.shape[0]) for v in levels), slide.level_dimensions
    assert abs(slide.properties["tiffslide.mpp-x"] - 0.25) < 1e-6
    for index, level in enumerate(levels):
        scale = slide.level_downsamples[index]
        region = slide.read_region((0, 0), index, (60, 40), as_array=True)
        assert (region == level[:40, :60]).all()
    assert (slide.read_region((70, 90), 0, (90, 80), as_array=True) == levels[0][90:170, 70:160]).all()
print("read")
"""


@pytest.mark.parametrize("tau", [0, 1])
def test_tifffile_zarr_and_tiffslide_read_it_in_a_fresh_process(tmp_path, tiffs, tau):
    pytest.importorskip("tiffslide")
    a, b, c = decoded(open_archive(tiffs[tau]))
    np.savez(tmp_path / "expected.npz", a=a, b=b, c=c)
    done = run(READERS, tiffs[tau], tmp_path / "expected.npz")
    assert (done.stdout, done.returncode) == ("read\n", 0), done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "import openslide; openslide.OpenSlide(path)",
        "import PIL.Image; PIL.Image.open(path).load()",
        "import tifffile; tifffile.imread(path)",
        "import tiffslide; tiffslide.TiffSlide(path).read_region((0, 0), 0, (9, 9))",
    ],
    ids=["openslide", "pillow", "tifffile", "tiffslide"],
)
def test_others_refuse_it(tiffs, script):
    done = run(f"import sys; path = sys.argv[1]\ntry:\n    {script}\nexcept Exception: print('refused')", tiffs[0])
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr


def test_a_damaged_tile_raises_everywhere(tmp_path, tiffs):
    data = bytearray(tiffs[0].read_bytes())
    with tifffile.TiffFile(tiffs[0]) as file:
        page = file.pages.first
        data[page.dataoffsets[3] + page.databytecounts[3] // 2] ^= 16
    (tmp_path / "a.tiff").write_bytes(data)
    with pytest.raises(dlpr.errors.BitstreamError):
        tifffile.imread(tmp_path / "a.tiff")
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        zarr = pytest.importorskip("zarr")
        with pytest.raises(dlpr.errors.BitstreamError):
            zarr.open(file.series[0].aszarr(level=0), mode="r")[...]
    archive = open_archive(tmp_path / "a.tiff")
    with pytest.raises(dlpr.errors.BitstreamError):
        archive.read(0, 0, 330, 64)
    np.testing.assert_array_equal(archive.read(0, 64, 330, 64), open_archive(tiffs[0]).read(0, 64, 330, 64))


def test_a_truncated_file_is_refused(tmp_path, tiffs):
    data = tiffs[0].read_bytes()
    for size in (0, 3, 8, 100, 1000, len(data) // 2, len(data) - 2000):
        (tmp_path / "a.tiff").write_bytes(data[:size])
        with pytest.raises((ArchiveError, dlpr.errors.DlprError)):
            decoded(open_archive(tmp_path / "a.tiff"))


def test_random_damage_never_gives_wrong_pixels(tmp_path, tiffs):
    expected = decoded(open_archive(tiffs[0]))
    data, rng = tiffs[0].read_bytes(), np.random.default_rng(0)
    failed = 0
    for _ in range(25):
        damaged = bytearray(data)
        damaged[int(rng.integers(0, 3000 if rng.random() < 0.5 else len(data)))] ^= int(rng.integers(1, 256))
        (tmp_path / "a.tiff").write_bytes(damaged)
        try:
            read = decoded(open_archive(tmp_path / "a.tiff"))
        except (ArchiveError, dlpr.errors.DlprError):
            failed += 1
            continue
        if [level.shape for level in read] == [level.shape for level in expected]:
            for one, other in zip(read, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    assert failed > 5


def test_other_files_are_no_archives(tmp_path, images):
    tifffile.imwrite(tmp_path / "plain.tiff", images[0], tile=(64, 64), photometric="rgb")
    (tmp_path / "text.tiff").write_text("no TIFF")
    assert not is_dlpr_tiff(tmp_path / "plain.tiff")
    assert not is_dlpr_tiff(tmp_path / "text.tiff")
    assert not is_dlpr_tiff(tmp_path)
    with pytest.raises(ArchiveError, match=r"not one with DLPR tiles \(compression 1\)"):
        open_archive(tmp_path / "plain.tiff")
    with pytest.raises(ArchiveError, match=r"text.tiff: cannot be read as a TIFF file"):
        open_archive(tmp_path / "text.tiff")
    with pytest.raises(ArchiveError, match="no such file"):
        open_tiff_archive(tmp_path / "none.tiff")


def test_a_file_of_other_software_opens_without_facts(tmp_path, images):
    tiles = [dlpr.encode(images[0][:64, x : x + 64].transpose(2, 0, 1), 2) for x in (0, 64)]
    tifffile.imwrite(
        tmp_path / "a.tiff", iter(tiles), shape=(64, 128, 3), dtype="uint8", tile=(64, 64), photometric="rgb",
        compression=8, metadata=None, resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.tiff", mode="r+") as file:
        file.pages[0].tags[259].overwrite(65471)
    assert is_dlpr_tiff(tmp_path / "a.tiff")
    archive = open_archive(tmp_path / "a.tiff")
    assert (archive.tau, archive.facts, archive.mpp, archive.hashes(0)) == (2, {}, (0.5, 0.5), None)
    assert np.abs(archive.read(0, 0, 128, 64).astype(int) - images[0][:64, :128]).max() <= 2


def test_destination(tmp_path, archives, images):
    archive = open_archive(archives[0])
    with pytest.raises(UsageError, match=r"folder .* does not exist"):
        write_tiff(archive, tmp_path / "none" / "a.tiff")
    (tmp_path / "a.tiff").write_bytes(b"II*\0 something")
    with pytest.raises(UsageError, match="--overwrite"):
        write_tiff(archive, tmp_path / "a.tiff")
    write_tiff(archive, tmp_path / "a.tiff", overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tiff"), images[0])
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="not replaced"):
        write_tiff(archive, tmp_path / "folder", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tiff", "folder"]


def test_tiles_of_a_size_that_tiff_forbids(tmp_path, make_archive, images):
    archive = open_archive(make_archive(tmp_path / "a.zarr", images[2:], tile=40))
    with pytest.raises(UsageError, match="multiples of 16"):
        write_tiff(archive, tmp_path / "a.tiff")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_convert_refuses_such_tiles_before_it_begins(tmp_path, plain_slide):
    from dlpr_wsi.pipeline.convert import convert

    with pytest.raises(UsageError, match="multiples of 16") as caught:
        convert(plain_slide, tmp_path / "a.tiff", tile=72)
    assert caught.value.option == "--tile"
    assert list(tmp_path.iterdir()) == []


def test_convert_writes_tiff_and_every_command_takes_it(tmp_path, plain_slide, pixels, capsys):
    from dlpr_wsi.cli import main

    path = tmp_path / "a.tiff"
    assert main(["convert", str(plain_slide), str(path), "--tile", "64", "--tau", "1"]) == 0
    assert np.abs(tifffile.imread(path).astype(int) - pixels).max() == 1
    assert main(["verify", str(path)]) == 0
    assert main(["verify", str(path), "--source", str(plain_slide)]) == 0
    capsys.readouterr()
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "a.tiff: tiled TIFF" in printed
    assert "in one file" in printed
    assert main(["convert", str(path), str(tmp_path / "again.zarr"), "--tile", "64"]) == 0
    again = open_archive(tmp_path / "again.zarr")
    np.testing.assert_array_equal(again.read(0, 0, 330, 200), tifffile.imread(path))


def test_a_damaged_chunk_is_named_and_nothing_is_left(tmp_path, make_archive, images):
    path = make_archive(tmp_path / "a.zarr", images[:2])
    shard = path / "1" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ArchiveError, match="level 1 row 0 column 0 is damaged"):
        write_tiff(open_archive(path), tmp_path / "a.tiff")
    (path / "0" / "c" / "0" / "1" / "2").unlink()
    with pytest.raises(ArchiveError, match="level 0 row 2 column 4 is missing"):
        write_tiff(open_archive(path), tmp_path / "a.tiff")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_what_reads_back_differently_never_gets_its_name(tmp_path, archives, monkeypatch):
    def damage(path):
        set_compression(path)
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)

    set_compression = sink._set_compression
    monkeypatch.setattr(sink, "_set_compression", damage)
    with pytest.raises(ArchiveError, match="reads back differently"):
        write_tiff(open_archive(archives[0]), tmp_path / "a.tiff")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path, archives, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sink, "write_pyramid", full)
    with pytest.raises(ArchiveError, match=r"a.tiff: cannot be written \(No space left on device\)"):
        write_tiff(open_archive(archives[0]), tmp_path / "a.tiff")
    assert list(tmp_path.iterdir()) == []
