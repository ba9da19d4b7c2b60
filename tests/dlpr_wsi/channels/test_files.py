"""Channels in TIFF archives and in exports: what tifffile, Pillow and zarr-python read there."""

from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from dlpr_wsi.errors import ArchiveError, UsageError
from dlpr_wsi.export import ExportCodec, export
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources.opening import open_archive

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
NAMES = ["DAPI", "FITC <&>", "Cy5 ü"]
COLOURS = [(0, 0, 255), (0, 255, 0), (255, 0, 0)]


@pytest.fixture(scope="module")
def levels(paint):
    image = paint(3, 100, 165)
    return [image, np.ascontiguousarray(image[::3, ::3])]


@pytest.fixture(scope="module")
def slide(tmp_path_factory, fluorescence, levels):
    return fluorescence(tmp_path_factory.mktemp("slides") / "cells.fake", *levels)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, slide):
    out = tmp_path_factory.mktemp("archives") / "a.zarr"
    convert(slide, out, options=ConvertOptions(tile=32), threads=2)
    return out


@pytest.fixture(scope="module")
def tiff(tmp_path_factory, slide):
    out = tmp_path_factory.mktemp("archives") / "a.tiff"
    convert(slide, out, options=ConvertOptions(tile=32), threads=2)
    return out


def signed(colour):
    """Return OME's Color of an opaque RGB."""
    red, green, blue = colour
    number = red << 24 | green << 16 | blue << 8 | 255
    return number - (1 << 32) if number >= 1 << 31 else number


def check_ome(path, levels):
    """Check axes, pixels of every level, resolution and channels of an OME-TIFF through tifffile."""
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        (series,) = file.series
        assert series.axes == "CYX"
        assert len(series.levels) == len(levels)
        for found, expected in zip(series.levels, levels, strict=True):
            np.testing.assert_array_equal(found.asarray(), expected.transpose(2, 0, 1))
        assert len(file.pages) == 3
        pixels = ElementTree.fromstring(file.ome_metadata).find(f".//{OME}Pixels")
        assert pixels.get("SizeC") == "3"
        assert float(pixels.get("PhysicalSizeX")) == 0.325
        channels = pixels.findall(f"{OME}Channel")
        assert [channel.get("Name") for channel in channels] == NAMES
        assert [int(channel.get("Color")) for channel in channels] == [signed(colour) for colour in COLOURS]
        assert [channel.get("SamplesPerPixel") for channel in channels] == ["1"] * 3
        places = pixels.findall(f"{OME}TiffData")
        assert [(place.get("FirstC"), place.get("IFD")) for place in places] == [("0", "0"), ("1", "1"), ("2", "2")]
        assert {int(page.aspage().photometric) for page in file.pages} == {1}
        assert {page.aspage().samplesperpixel for page in file.pages} == {1}


def test_tiff_archive_reads_through_tifffile(tiff, levels):
    check_ome(tiff, levels)


def test_tiff_archive_holds_the_streams_of_the_zarr_archive(tiff, archive, slide, levels):
    one, other = open_archive(tiff), open_archive(archive)
    assert one.channels == other.channels
    assert one.samples == 3
    assert one.levels[0].channels == 3
    for level in other.levels:
        for channel in range(3):
            for place in level.positions():
                assert one.stream(level.index, *place, channel) == other.stream(level.index, *place, channel)
        np.testing.assert_array_equal(one.hashes(level.index), other.hashes(level.index))
    np.testing.assert_array_equal(one.read(-3, 10, 60, 100)[:90, 3:], levels[0][10:, :57])
    report = verify(tiff, slide, threads=2)
    assert (report.ok, report.hashes, report.tiles) == (True, True, other.levels[0].stack * (24 + 4))


def test_a_damaged_tile_of_a_tiff_is_named_with_its_channel(tiff, tmp_path):
    data = bytearray(tiff.read_bytes())
    with tifffile.TiffFile(tiff) as file:
        data[file.pages[1].dataoffsets[7] + 30] ^= 255
    (tmp_path / "b.tiff").write_bytes(data)
    (bad,) = verify(tmp_path / "b.tiff", threads=2).bad
    assert (bad.level, bad.row, bad.column, bad.message.split(":")[0]) == (0, 1, 1, "channel 1")


@pytest.mark.parametrize("codec", ["deflate", "lzw", "zstd", "jpegxl", "jpeg2000"])
def test_ome_tiff_export(tmp_path, archive, levels, codec):
    pytest.importorskip("imagecodecs")
    report = export(archive, tmp_path / "a.ome.tiff", codec=ExportCodec(codec), threads=2)
    assert (report.compared, report.tiles, report.raw_bytes) == (True, 3 * 28, 3 * (100 * 165 + 34 * 55))
    check_ome(tmp_path / "a.ome.tiff", levels)


def test_ome_tiff_export_of_a_tiff_archive_opens_in_pillow(tmp_path, tiff, levels):
    export(tiff, tmp_path / "a.ome.tiff", threads=2)
    with Image.open(tmp_path / "a.ome.tiff") as image:
        assert image.n_frames == 3
        for channel in range(3):
            image.seek(channel)
            np.testing.assert_array_equal(np.asarray(image), levels[0][..., channel])


def test_jpeg_export_of_channels_is_close(tmp_path, archive, levels):
    pytest.importorskip("imagecodecs")
    report = export(archive, tmp_path / "a.ome.tiff", codec=ExportCodec.JPEG, quality=95, threads=2)
    assert not report.compared
    found = tifffile.imread(tmp_path / "a.ome.tiff").transpose(1, 2, 0)
    assert 0 < np.abs(found.astype(int) - levels[0]).max() < 25


@pytest.mark.parametrize("version", list(OmeVersion))
def test_ome_zarr_export(tmp_path, archive, levels, version):
    export(archive, tmp_path / "a.zarr", version=version, threads=2)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for number, expected in enumerate(levels):
        array = group[str(number)]
        assert array.chunks == (1, 32, 32)
        assert array.fill_value == 0
        np.testing.assert_array_equal(array[:], expected.transpose(2, 0, 1))
    attributes = dict(group.attrs)
    omero = attributes.get("ome", attributes)["omero"]
    assert [channel["label"] for channel in omero["channels"]] == NAMES
    assert [channel["color"] for channel in omero["channels"]] == ["0000FF", "00FF00", "FF0000"]


def test_what_does_not_go_with_channels_is_refused(tmp_path, archive):
    pytest.importorskip("imagecodecs")
    with pytest.raises(UsageError, match="--pages"):
        export(archive, tmp_path / "a.tiff", subifds=False)
    with pytest.raises(ArchiveError, match="holds channels"):
        export(archive, tmp_path / "a.tiff", codec=ExportCodec.SOURCE_JPEG)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2])
def test_few_channels_as_tiff(tmp_path, fluorescence, paint, count):
    image = paint(count, 50, 70)
    slide = fluorescence(tmp_path / "cells.fake", image)
    convert(slide, tmp_path / "a.tiff", options=ConvertOptions(tile=64), threads=2)
    export(tmp_path / "a.tiff", tmp_path / "b.ome.tiff", threads=2)
    assert open_archive(tmp_path / "a.tiff").levels[0].channels == count
    for path in (tmp_path / "a.tiff", tmp_path / "b.ome.tiff"):
        np.testing.assert_array_equal(tifffile.imread(path).reshape(count, 50, 70), image.transpose(2, 0, 1))
    assert verify(tmp_path / "a.tiff", slide, threads=2).ok


@pytest.mark.parametrize("name", ["b.ome.tiff", "b.zarr"])
def test_an_export_reads_back_as_the_same_channels(tmp_path, archive, levels, name):
    """Through our readers of others' files: what an export says, they understand."""
    from dlpr_wsi.info import info

    export(archive, tmp_path / name, threads=2)
    facts = info(tmp_path / name)
    assert facts.channels == open_archive(archive).channels
    assert (facts.mpp_x, len(facts.levels)) == (0.325, 2)
    assert verify(archive, tmp_path / name, threads=2).max_error == 0


def test_an_ome_tiff_of_others(tmp_path, levels):
    planes = np.ascontiguousarray(levels[0].transpose(2, 0, 1))
    described = {"axes": "CYX", "Channel": {"Name": NAMES, "Color": [signed(colour) for colour in COLOURS]}}
    tifffile.imwrite(tmp_path / "a.ome.tiff", planes, photometric="minisblack", metadata=described)
    report = convert(tmp_path / "a.ome.tiff", tmp_path / "a.zarr", options=ConvertOptions(tile=64), threads=2)
    assert [(channel.name, channel.colour) for channel in report.source.channels] == list(
        zip(NAMES, COLOURS, strict=True)
    )
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "a.zarr", mode="r")["0"][:], planes)
    assert verify(tmp_path / "a.zarr", tmp_path / "a.ome.tiff", threads=2).ok


def test_an_ome_zarr_of_others(tmp_path, levels):
    planes = np.ascontiguousarray(levels[0].transpose(2, 0, 1))
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=planes.shape, chunks=(1, 64, 64), dtype="uint8")[:] = planes
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scale = [{"type": "scale", "scale": [1, 1, 1]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    colours = ["0000FF", "00FF00", "FF0000"]
    group.attrs["omero"] = {
        "channels": [{"label": name, "color": colour} for name, colour in zip(NAMES, colours, strict=True)]
    }
    report = convert(tmp_path / "a.zarr", tmp_path / "b.tiff", options=ConvertOptions(tile=64), threads=2)
    assert [channel.name for channel in report.source.channels] == NAMES
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tiff"), planes)
    assert verify(tmp_path / "b.tiff", tmp_path / "a.zarr", threads=2).ok
