"""Exports: standard files that need nothing of this package, with the archive's pixels."""

import json
import shutil
import subprocess
import sys

import numcodecs
import numpy as np
import pytest
import tifffile

from dlpr_wsi import export as module
from dlpr_wsi.cli import main
from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.export import ExportCodec, export
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources.opening import open_archive

# Runs a reader where neither dlpr nor dlpr_wsi can be imported, entry points or not.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dlpr", "dlpr_wsi"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy
path, expected = sys.argv[1], numpy.load(sys.argv[2])
levels = [expected[name] for name in sorted(expected)]
"""
_OTHERS = (ExportCodec.JPEG, ExportCodec.SOURCE_JPEG, ExportCodec.SOURCE_J2K, ExportCodec.BLOSC)
LOSSLESS = [codec for codec in ExportCodec if codec not in _OTHERS]


def without_plugin(script, *args):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def expected(tmp_path_factory, archives):
    """The archives' decoded levels by tau: arrays, and a file of them."""
    result = {}
    for tau, path in archives.items():
        archive = open_archive(path)
        levels = [archive.read(0, 0, level.width, level.height, level.index) for level in archive.levels]
        file = tmp_path_factory.mktemp("expected") / "levels.npz"
        np.savez(file, **{str(index): level for index, level in enumerate(levels)})
        result[tau] = levels, file
    return result


@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_tiff_has_the_archives_pixels_without_the_plug_in(tmp_path, archives, expected, codec):
    report = export(archives[1], tmp_path / "a.ome.tiff", codec=codec, threads=2)
    assert (report.compared, report.quality, report.container, report.tiles) == (True, None, "OME-TIFF", 32)
    assert report.out_bytes == (tmp_path / "a.ome.tiff").stat().st_size
    script = """
import tifffile
with tifffile.TiffFile(path) as file:
    assert file.is_ome and file.is_bigtiff and len(file.series[0].levels) == len(levels)
    for level, array in zip(file.series[0].levels, levels):
        assert (level.asarray() == array).all()
"""
    without_plugin(script, tmp_path / "a.ome.tiff", expected[1][1])


def test_a_tiff_archive_exports_to_the_same_bytes(tmp_path, archives, tiffs):
    export(archives[0], tmp_path / "a.tiff")
    export(tiffs[0], tmp_path / "b.tiff")
    assert (tmp_path / "a.tiff").read_bytes() == (tmp_path / "b.tiff").read_bytes()


def test_structure(tmp_path, archives, icc):
    export(archives[0], tmp_path / "a.tiff")
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        first = file.pages.first
        pages = [first, *first.pages]
        assert {(int(page.compression), page.predictor, page.tilewidth) for page in pages} == {(8, 2, 64)}
        assert [int(page.subfiletype) for page in pages] == [0, 1, 1]
        assert all(page.tags[34675].value == icc for page in pages)
        assert first.tags[282].value[0] / first.tags[282].value[1] == pytest.approx(40000)
        assert 'PhysicalSizeX="0.25"' in first.description
        assert "dlpr-wsi archive" in first.description
        assert 65472 not in first.tags


def test_openslide_reads_deflate_and_jpeg_without_the_plug_in(tmp_path, archives, expected):
    pytest.importorskip("openslide")
    export(archives[0], tmp_path / "deflate.tiff")
    export(archives[0], tmp_path / "jpeg.tiff", codec=ExportCodec.JPEG)
    script = """
import openslide
with openslide.OpenSlide(path) as slide:
    assert slide.dimensions == (330, 200)
    assert 0.249 < float(slide.properties["openslide.mpp-x"]) < 0.251
    assert slide.color_profile is not None
    read = numpy.asarray(slide.read_region((0, 0), 0, (330, 200)))[..., :3].astype(int)
error = abs(read - levels[0]).max()
assert error == 0 if path.endswith("deflate.tiff") else 0 < error < 60, error
"""
    for name in ("deflate.tiff", "jpeg.tiff"):
        without_plugin(script, tmp_path / name, expected[0][1])


def test_levels_as_pages_are_levels_to_openslide(tmp_path, archives, expected):
    pytest.importorskip("openslide")
    pytest.importorskip("tiffslide")
    report = export(archives[0], tmp_path / "a.tiff", subifds=False)
    assert (report.container, report.compared) == ("TIFF", True)
    script = """
import openslide, tifffile, tiffslide
with openslide.OpenSlide(path) as slide:
    assert slide.level_dimensions == tuple((level.shape[1], level.shape[0]) for level in levels)
    for index, level in enumerate(levels):
        size = slide.level_dimensions[index]
        assert (numpy.asarray(slide.read_region((0, 0), index, size))[..., :3] == level).all()
with tifffile.TiffFile(path) as file:
    for page, level in zip(file.pages, levels):
        assert (page.asarray() == level).all()
"""
    without_plugin(script, tmp_path / "a.tiff", expected[0][1])


@pytest.mark.parametrize(("codec", "tag"), [(ExportCodec.JPEG, 7), (ExportCodec.JPEGXL, 50002)])
def test_quality(tmp_path, archives, expected, codec, tag):
    sizes, errors = [], []
    for quality in (20, 60, 95):
        path = tmp_path / f"{quality}.tiff"
        report = export(archives[0], path, codec=codec, quality=quality)
        assert (report.quality, report.compared) == (quality, False)
        with tifffile.TiffFile(path) as file:
            assert int(file.pages.first.compression) == tag
            levels = [level.asarray() for level in file.series[0].levels]
        sizes.append(report.out_bytes)
        errors.append([np.square(a.astype(float) - b).mean() for a, b in zip(levels, expected[0][0], strict=True)])
    assert sizes == sorted(sizes)
    for level in zip(*errors, strict=True):
        assert 0 < level[2] < level[1] < level[0] < 400


def test_jpeg_chroma(tmp_path, archives):
    for quality, sampling in ((80, (2, 2)), (90, (1, 1))):
        export(archives[0], tmp_path / f"{quality}.tiff", codec=ExportCodec.JPEG, quality=quality)
        with tifffile.TiffFile(tmp_path / f"{quality}.tiff") as file:
            assert file.pages.first.tags[530].value == sampling
            assert int(file.pages.first.photometric) == 6


@pytest.mark.parametrize("version", list(OmeVersion))
@pytest.mark.parametrize("codec", [ExportCodec.ZSTD, ExportCodec.BLOSC])
def test_zarr_has_the_archives_pixels_without_the_plug_in(tmp_path, archives, expected, version, codec):
    report = export(archives[1], tmp_path / "a.zarr", codec=codec, version=version)
    assert (report.compared, report.container) == (True, f"OME-Zarr {version.value}")
    script = """
import zarr
group = zarr.open(path, mode="r")
assert [name for name in sorted(group.array_keys())] == ["0", "1", "2"]
for index, level in enumerate(levels):
    assert group[str(index)].chunks == (3, 64, 64)
    assert (group[str(index)][...].transpose(1, 2, 0) == level).all()
"""
    without_plugin(script, tmp_path / "a.zarr", expected[1][1])


@pytest.mark.parametrize("version", list(OmeVersion))
def test_zarr_is_valid_ome_zarr(tmp_path, archives, expected, version):
    ome_zarr = pytest.importorskip("ome_zarr.reader")
    models = pytest.importorskip("ome_zarr_models")
    import zarr
    from ome_zarr.io import parse_url

    export(archives[0], tmp_path / "a.zarr", version=version)
    assert models.open_ome_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r")).ome_zarr_version == version.value
    (node,) = list(ome_zarr.Reader(parse_url(tmp_path / "a.zarr"))())
    for read, level in zip(node.data, expected[0][0], strict=True):
        np.testing.assert_array_equal(np.asarray(read).transpose(1, 2, 0), level)


def test_many_blocks(tmp_path, make_archive):
    colours = np.random.default_rng(0).integers(0, 256, (11, 19, 3), dtype=np.uint8)
    image = colours.repeat(16, axis=0).repeat(16, axis=1)[:170, :300]  # constant tiles: nothing to compute
    make_archive(tmp_path / "a.zarr", [image], tile=16)
    export(tmp_path / "a.zarr", tmp_path / "b.zarr")
    export(tmp_path / "a.zarr", tmp_path / "b.tiff", codec=ExportCodec.ZSTD)
    import zarr

    np.testing.assert_array_equal(zarr.open(tmp_path / "b.zarr", mode="r")["0"][...].transpose(1, 2, 0), image)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tiff"), image)


@pytest.mark.parametrize(
    ("out", "options", "named"),
    [
        ("a.tiff", {"codec": ExportCodec.BLOSC}, "--codec"),
        ("a.zarr", {"codec": ExportCodec.JPEG}, "--codec"),
        ("a.tiff", {"codec": ExportCodec.LZW, "quality": 80}, "--quality"),
        ("a.tiff", {"codec": ExportCodec.JPEG, "quality": 0}, "--quality"),
        ("a.tiff", {"codec": ExportCodec.JPEGXL, "quality": 101}, "--quality"),
        ("none/a.tiff", {}, "OUT"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, archives, out, options, named):
    with pytest.raises(UsageError) as caught:
        export(archives[0], tmp_path / out, **options)
    assert caught.value.option == named
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["b.tiff", "b.zarr"])
def test_damage_is_named_and_leaves_nothing(tmp_path, make_archive, images, name):
    path = make_archive(tmp_path / "a.zarr", images[:2])
    shard = path / "0" / "c" / "0" / "1" / "1"
    data = bytearray(shard.read_bytes())
    data[60] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ArchiveError, match="level 0 row 2 column 2"):
        export(path, tmp_path / name)
    shard.unlink()
    with pytest.raises(ArchiveError, match="level 0 row 2 column 2 is missing"):
        export(path, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_tiff_compressor_that_loses_something_is_found_out(tmp_path, archives, monkeypatch):
    lossy = module._tiff_options(ExportCodec.JPEGXL, 50, 1)
    monkeypatch.setattr(module, "_tiff_options", lambda *_: lossy)
    with pytest.raises(ArchiveError, match=r"level 0 row 0 column 0 .*reads back differently"):
        export(archives[0], tmp_path / "a.tiff", codec=ExportCodec.ZSTD)
    assert list(tmp_path.iterdir()) == []


def test_a_zarr_compressor_that_loses_something_is_found_out(tmp_path, archives, monkeypatch):
    class Liar(numcodecs.Zstd):
        def decode(self, buf, out=None):
            data = np.array(np.frombuffer(super().decode(buf), np.uint8))
            data[100] ^= 1
            return data

    monkeypatch.setattr(module, "_zarr_compressor", lambda *_: Liar(level=1))
    with pytest.raises(ArchiveError, match=r"level 0 row 0 column 0 .* reads back differently"):
        export(archives[0], tmp_path / "a.zarr", version=OmeVersion.V04)
    assert list(tmp_path.iterdir()) == []


def test_overwrite(tmp_path, archives, images):
    for name in ("a.tiff", "a.zarr"):
        export(archives[1], tmp_path / name)
        with pytest.raises(UsageError, match="--overwrite"):
            export(archives[0], tmp_path / name)
        export(archives[0], tmp_path / name, overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tiff"), images[0])
    with pytest.raises(UsageError, match="archive itself"):
        export(archives[0], archives[0], overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tiff", "a.zarr"]


def test_command(tmp_path, archives, capsys):
    assert main(["export", str(archives[1]), str(tmp_path / "a.tiff"), "--codec", "jpegxl"]) == 0
    assert "equal to the archive's (within 1 of the slide's)" in capsys.readouterr().out
    assert main(["export", str(archives[1]), str(tmp_path / "b"), "--zarr", "--ome-zarr", "0.4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["container"], report["codec"], report["tau"]) == ("OME-Zarr 0.4", "zstd", 1)
    assert (tmp_path / "b" / ".zattrs").is_file()
    assert main(["export", str(archives[1]), str(tmp_path / "c.tiff"), "--codec", "lzw", "--quality", "3"]) == 2
    assert "argument --quality: lzw is lossless" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "c.tiff")]) == 1
    assert "none: no such file" in capsys.readouterr().err
    assert main(["export", str(archives[1]), str(tmp_path / "c.tiff"), "--threads", "0"]) == 2
    assert "argument --threads" in capsys.readouterr().err


@pytest.fixture(scope="module", params=[("ycbcr", (2, 2)), ("ycbcr", (2, 1)), ("rgb", (1, 1))], ids=str)
def jpeg_slide(request, tmp_path_factory, images):
    """A TIFF of JPEG tiles, two levels, and its archive."""
    from dlpr_wsi.pipeline.convert import convert

    folder = tmp_path_factory.mktemp("jpeg")
    space, sampling = request.param
    jpeg = {"compression": "jpeg", "compressionargs": {"level": 60, "outcolorspace": space}, "subsampling": sampling}
    with tifffile.TiffWriter(folder / "slide.tiff") as writer:
        for index, image in enumerate(images[:2]):
            writer.write(image, tile=(64, 64), photometric="rgb", subfiletype=int(index > 0), metadata=None, **jpeg)
    convert(folder / "slide.tiff", folder / "slide.zarr")
    return folder / "slide.tiff", folder / "slide.zarr"


@pytest.mark.parametrize("subifds", [True, False])
def test_source_jpeg_gives_the_slides_coefficients_back(tmp_path, jpeg_slide, subifds):
    from dlpr.modes.jpeg.parse import parse

    slide, archive = jpeg_slide
    report = export(archive, tmp_path / "a.tiff", codec=ExportCodec.SOURCE_JPEG, subifds=subifds)
    counts = report.source_jpeg
    assert counts.kept + counts.recoded == report.tiles == 24 + 6
    assert counts.kept >= 24
    same = 0
    with tifffile.TiffFile(slide) as source, tifffile.TiffFile(tmp_path / "a.tiff") as written:
        pages = [written.pages.first, *written.pages.first.pages] if subifds else list(written.pages)
        for before, after in zip(source.pages, pages, strict=True):
            assert (before.photometric, before.subsampling) == (after.photometric, after.subsampling)
            assert after.shape == before.shape
            for number in range(len(before.dataoffsets)):
                tiles = []
                for page in (before, after):
                    page.parent.filehandle.seek(page.dataoffsets[number])
                    data = page.parent.filehandle.read(page.databytecounts[number])
                    tiles.append(parse(data, page.jpegtables))
                one, other = tiles
                equal = zip(one.coefficients, other.coefficients, strict=True)
                same += all(np.array_equal(a, b) for a, b in equal)
            if counts.recoded == 0:
                np.testing.assert_array_equal(before.asarray(), after.asarray())
    assert same >= counts.kept
    if not subifds:
        openslide = pytest.importorskip("openslide")
        with openslide.OpenSlide(slide) as one, openslide.OpenSlide(tmp_path / "a.tiff") as other:
            assert one.level_dimensions == other.level_dimensions
            if counts.recoded == 0:
                assert one.read_region((0, 0), 0, (330, 200)) == other.read_region((0, 0), 0, (330, 200))


def test_source_jpeg_of_mixed_sampling_is_refused(tmp_path, images):
    """A tile of another sampling would have to be coded anew, with a loss, though it is the slide's JPEG."""
    from dlpr_wsi.pipeline.convert import ConvertOptions, convert

    for name, sampling in (("a", (2, 2)), ("b", (1, 1))):
        jpeg = {"compression": "jpeg", "compressionargs": {"level": 60}, "subsampling": sampling}
        tifffile.imwrite(tmp_path / f"{name}.tiff", images[0], tile=(64, 64), photometric="rgb", metadata=None, **jpeg)
        options = ConvertOptions(version=OmeVersion.V04)
        convert(tmp_path / f"{name}.tiff", tmp_path / f"{name}.zarr", options=options)
    shutil.copy(tmp_path / "b.zarr/0/0/1/1", tmp_path / "a.zarr/0/0/1/1")
    with pytest.raises(ArchiveError, match=r"row 1 column 1 is a JPEG tile of ycbcr, chroma 1 x 1, .* chroma 2 x 2"):
        export(tmp_path / "a.zarr", tmp_path / "c.tiff", codec=ExportCodec.SOURCE_JPEG)
    assert not (tmp_path / "c.tiff").exists()


def test_source_jpeg_of_an_archive_without_jpeg(tmp_path, archives):
    with pytest.raises(ArchiveError, match="keeps no JPEG tiles on level 0"):
        export(archives[0], tmp_path / "a.tiff", codec=ExportCodec.SOURCE_JPEG)
    assert list(tmp_path.iterdir()) == []


def test_real_tissue_exports_exactly(tmp_path, make_archive):
    openslide = pytest.importorskip("openslide")
    from pathlib import Path

    example = Path(__file__).parents[3] / "examples" / "CMU-1-Small-Region.svs"
    with openslide.OpenSlide(example) as slide:
        image = np.asarray(slide.read_region((300, 1200), 0, (256, 192)))[..., :3]
    make_archive(tmp_path / "a.zarr", [image], tile=128)
    for codec in (ExportCodec.DEFLATE, ExportCodec.JPEGXL):
        export(tmp_path / "a.zarr", tmp_path / f"{codec.value}.tiff", codec=codec)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{codec.value}.tiff"), image)
