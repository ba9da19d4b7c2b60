"""OME-TIFF: axes, channels, images, and what its XML can say wrongly."""

import numpy as np
import pytest
import tifffile

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Channel, Selection
from dlpr_wsi.sources.ome import channel_name
from dlpr_wsi.sources.ome_xml import OmeError, is_ome_xml, parse_ome_xml, planes_of
from dlpr_wsi.sources.opening import open_source

NAMES = ["DAPI", "FITC\u200b", "Cy5", "x" * 80]
COLOURS = [65535, -16776961, 16711935, -1]  # RGBA in a signed number: blue, red, green, white


def write(path, array, axes, subifds=0, **options):
    metadata = {"axes": axes, **options.pop("metadata", {})}
    options.setdefault("photometric", "minisblack")
    options.setdefault("tile", (64, 64))
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(array, metadata=metadata, subifds=subifds, **options)
        for step in range(1, subifds + 1):
            writer.write(array[..., :: 2**step, :: 2**step], subfiletype=1, **options)
    return path


@pytest.fixture
def planes(kit):
    return np.stack([kit.picture(90, 130, seed)[..., 0] for seed in range(4)])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("tile", [(64, 64), None])
def test_channels(tmp_path, kit, planes, count, tile):
    channel = {"Name": NAMES[:count], "Color": COLOURS[:count]}
    array = planes[:count]
    path = write(tmp_path / "a.ome.tif", array, "CYX", 2, metadata={"Channel": channel}, tile=tile, compression="zlib")
    source = open_source(path)
    wanted = (Channel("DAPI", (0, 0, 255)), Channel("FITC", (255, 0, 0)), Channel("Cy5", (0, 255, 0)))
    assert source.facts.channels == (*wanted, Channel("x" * 64, (255, 255, 255)))[:count]
    assert source.facts.samples == count
    assert source.facts.background == (0, 0, 0)
    assert [level.width for level in source.facts.levels] == [130, 65, 33]
    for level in range(3):
        step = 2**level
        np.testing.assert_array_equal(kit.whole(source, level), array[:, ::step, ::step].transpose(1, 2, 0))
    assert (source.read(-3, 80, 10, 20)[:, :3] == 0).all()
    assert source.tile_grid(0) is None
    source.close()


def test_grey_alone_is_one_channel(tmp_path, kit, planes):
    source = open_source(write(tmp_path / "a.ome.tif", planes[0], "YX"))
    assert source.facts.channels == (Channel("channel 0", (255, 255, 255)),)
    np.testing.assert_array_equal(kit.whole(source)[..., 0], planes[0])
    source.close()


@pytest.mark.parametrize(
    ("channel", "rgb"),
    [
        ({}, True),
        ({"Name": ["red", "green", "blue"]}, True),
        ({"Name": ["Red", "Green", "Blue"], "Color": [-16776961, 16711935, 65535]}, True),
        ({"Color": [-16776961, 16711935, 65535]}, True),
        ({"Name": ["DAPI", "FITC", "Cy5"]}, False),
        ({"Color": [65535, 16711935, -16776961]}, False),
    ],
)
def test_three_channels(tmp_path, kit, planes, channel, rgb):
    path = write(tmp_path / "a.ome.tif", planes[:3], "CYX", metadata={"Channel": channel} if channel else {})
    source = open_source(path)
    assert (source.facts.channels is None) == rgb
    np.testing.assert_array_equal(kit.whole(source), planes[:3].transpose(1, 2, 0))
    source.close()


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_focus_and_time(tmp_path, kit, planes, axes):
    path = write(tmp_path / "a.ome.tif", planes, axes)
    option, what = {"ZYX": ("plane", "4 focal planes"), "TYX": ("time", "4 time points")}[axes]
    with pytest.raises(SourceError, match=f"{what}.*--{option} N"):
        open_source(path)
    source = open_source(path, Selection(**{option: 2}))
    np.testing.assert_array_equal(kit.whole(source)[..., 0], planes[2])
    assert f"{what}, of which one was chosen" in source.facts.notes
    source.close()
    with pytest.raises(SourceError, match=f"--{option} 4 is not there"):
        open_source(path, Selection(**{option: 4}))


@pytest.mark.parametrize("axes", ["TZCYX", "CZTYX", "ZCTYX", "TCZYX"])
def test_order_of_dimensions(tmp_path, kit, axes):
    sizes = {"T": 2, "Z": 3, "C": 2}
    array = np.random.default_rng(0).integers(0, 256, [sizes[axis] for axis in axes[:3]] + [40, 50], dtype=np.uint8)
    source = open_source(write(tmp_path / "a.ome.tif", array, axes), Selection(plane=2, time=1))
    wanted = array.transpose([axes.index(axis) for axis in "TZCYX"])[1, 2].transpose(1, 2, 0)
    np.testing.assert_array_equal(kit.whole(source), wanted)
    source.close()


def test_several_images(tmp_path, kit, rgb):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image in (rgb, rgb[::-1]):
            writer.write(image, metadata={"axes": "YXS"}, photometric="rgb", tile=(64, 64))
    with pytest.raises(SourceError, match=r"2 images.*--image N"):
        open_source(path)
    source = open_source(path, Selection(image=1))
    np.testing.assert_array_equal(kit.whole(source), rgb[::-1])
    source.close()


@pytest.mark.parametrize("options", [{"planarconfig": "separate"}, {"tile": None, "rowsperstrip": 7}, {"tile": None}])
def test_planar_and_strips(tmp_path, kit, rgb, options):
    planar = "planarconfig" in options
    array = np.ascontiguousarray(rgb.transpose(2, 0, 1)) if planar else rgb
    path = tmp_path / "a.ome.tif"
    options = {"photometric": "rgb", "compression": "lzw", "tile": (64, 64), **options}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(array, metadata={"axes": "SYX" if planar else "YXS"}, subifds=1, **options)
        writer.write(np.ascontiguousarray(array[..., ::2, ::2] if planar else array[::2, ::2]), **options)
    source = open_source(path)
    np.testing.assert_array_equal(kit.whole(source), rgb)
    np.testing.assert_array_equal(kit.whole(source, 1), rgb[::2, ::2])
    source.close()


@pytest.mark.parametrize("kind", ["uint16", "int8", "float32"])
def test_other_types_are_refused(tmp_path, planes, kind):
    path = write(tmp_path / "a.ome.tif", planes.astype(kind), "CYX")
    with pytest.raises(SourceError, match=r"bits a sample|floating point"):
        open_source(path)


def test_missing_tiles_are_background(tmp_path, kit, planes, rgb):
    path = kit.drop_tiles(write(tmp_path / "a.ome.tif", rgb, "YXS", photometric="rgb"), 0, 1)
    source = open_source(path)
    wanted = rgb.copy()
    wanted[:64, 64:128] = 255
    np.testing.assert_array_equal(kit.whole(source), wanted)
    np.testing.assert_array_equal(kit.whole(source), kit.by_openslide(path)[0])
    assert "tiles that the file lacks are background" in source.facts.notes
    source.close()


def test_jpeg_tiles_are_there(tmp_path, kit, rgb):
    path = write(tmp_path / "a.ome.tif", rgb, "YXS", photometric="rgb", compression="jpeg")
    source = open_source(path)
    assert source.tile_grid(0).columns == 4
    assert source.source_tile(0, 1, 2).data[:2] == b"\xff\xd8"
    np.testing.assert_array_equal(kit.whole(source), kit.by_openslide(path)[0])
    source.close()


ONE = (
    '<OME><Image Name="{name}"><Pixels SizeX="9" SizeY="8" SizeC="{c}" SizeZ="1" SizeT="1" Type="uint8">'
    "{more}</Pixels></Image></OME>"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<OME><Image>", "damaged"),
        ('<!DOCTYPE OME [<!ENTITY a "b">]><OME/>', "document type"),
        ("<OME/>", "no image"),
        ("<OME><Image/></OME>", "without Pixels"),
        (ONE.format(name="", c="x", more=""), "no number"),
        (ONE.format(name="", c="0", more=""), "make no sense"),
        (ONE.format(name="", c="99999999", more=""), "make no sense"),
        (ONE.format(name="", c="1", more='<TiffData IFD="-1"/>'), "TiffData"),
    ],
)
def test_damaged_xml(text, reason):
    with pytest.raises(OmeError, match=reason):
        [planes_of(image) for image in parse_ome_xml(text)]


def test_xml():
    more = '<Channel Name=" A\nB " Color="-1"/><TiffData IFD="3" FirstC="1"/><TiffData IFD="7"/>'
    (image,) = parse_ome_xml(ONE.format(name="Label", c="2", more=more))
    assert image.role == "label"
    assert [(plane.c, plane.ifd) for plane in planes_of(image)[0]] == [(0, 7), (1, 3)]
    assert image.channels[0].colour == (255, 255, 255)
    (image,) = parse_ome_xml(ONE.format(name="", c="2", more=""))
    assert [(plane.c, plane.ifd) for plane in planes_of(image)[0]] == [(0, 0), (1, 1)]
    assert is_ome_xml('<?xml version="1.0"?>\n<!-- a comment --><ome:OME xmlns:ome="x">')
    assert not is_ome_xml("Aperio Image Library <OME/>")
    assert channel_name("\x00") is None


def test_planes_in_other_files(tmp_path, planes):
    path = write(tmp_path / "a.ome.tif", planes[:2], "CYX")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        text = tiff.ome_metadata
        own = text.split('UUID="')[1].split('"')[0]
        data = '<TiffData IFD="0" PlaneCount="2"/>'
        other = '<TiffData IFD="0" PlaneCount="2"><UUID FileName="b.tif">urn:uuid:0</UUID></TiffData>'
        assert data in text
        assert own
        tiff.pages[0].tags["ImageDescription"].overwrite(text.replace(data, other))
    with pytest.raises(SourceError, match="other files"):
        open_source(path)
