"""What slides say, and the pixels they give."""

from pathlib import Path

import numpy as np
import pytest

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import SourceCodec
from dlpr_wsi.sources.codec import source_codec
from dlpr_wsi.sources.opening import open_slide, open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "CMU-1-Small-Region.svs"


def test_pixels_of_a_region(plain_slide, pixels):
    source = open_slide(plain_slide)
    np.testing.assert_array_equal(source.read(100, 50, 120, 90), pixels[50:140, 100:220])
    source.close()


def test_what_was_not_scanned_is_background(plain_slide, pixels):
    source = open_slide(plain_slide)
    region = source.read(20, 190, 40, 30)
    source.close()
    np.testing.assert_array_equal(region[:10], pixels[190:200, 20:60])
    assert (region[10:] == 255).all()


def test_facts_of_the_example_slide():
    source = open_slide(EXAMPLE)
    facts = source.facts
    source.close()
    assert facts.vendor == "aperio"
    assert facts.file_bytes == 1938955
    assert facts.codec == SourceCodec("JPEG", True, 30)
    assert str(facts.codec) == "JPEG, quality 30"
    assert [(level.width, level.height) for level in facts.levels] == [(2220, 2967)]
    assert (facts.tile_width, facts.tile_height) == (240, 240)
    assert (facts.mpp_x, facts.mpp_y, facts.objective_power) == (0.499, 0.499, 20.0)
    assert facts.associated == ("label", "macro", "thumbnail")


def test_example_slide_is_the_one_of_provenance_md():
    from hashlib import sha256

    assert sha256(EXAMPLE.read_bytes()).hexdigest() in (EXAMPLE.parent / "PROVENANCE.md").read_text()


def test_levels_of_a_pyramid(svs):
    source = open_slide(svs)
    levels = source.facts.levels
    source.close()
    assert [(level.width, level.height, level.downsample) for level in levels] == [
        (404, 300, 1),
        (202, 150, 2),
        (58, 43, pytest.approx(6.97, abs=0.01)),
    ]


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no slide"])
def test_not_a_slide(tmp_path, content):
    (tmp_path / "a.svs").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.svs: OpenSlide cannot open"):
        open_slide(tmp_path / "a.svs")
    with pytest.raises(SourceError, match="no such file"):
        open_slide(tmp_path / "b.svs")


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("compression", "codec"),
    [(None, SourceCodec("uncompressed", False)), ("zlib", SourceCodec("Deflate", False))],
)
def test_codec_of_a_tiff(tmp_path, bigtiff, byteorder, compression, codec):
    import tifffile

    path = tmp_path / "a.tiff"
    image = np.zeros((64, 64, 3), np.uint8)
    tifffile.imwrite(path, image, bigtiff=bigtiff, byteorder=byteorder, compression=compression, tile=(64, 64))
    assert source_codec(path, {}) == codec


@pytest.mark.parametrize(
    ("properties", "codec"),
    [
        ({"dicom.TransferSyntaxUID": "1.2.840.10008.1.2.4.50"}, SourceCodec("JPEG", True)),
        ({"dicom.TransferSyntaxUID": "1.2.840.10008.1.2.4.90"}, SourceCodec("JPEG 2000", False)),
        (
            {"dicom.TransferSyntaxUID": "1.2.840.10008.1.2.4.90", "dicom.LossyImageCompression": "01"},
            SourceCodec("JPEG 2000", True),
        ),
        ({"dicom.TransferSyntaxUID": "1.2.3"}, SourceCodec()),
        ({"mirax.LAYER_0_LEVEL_0_SECTION.IMAGE_FORMAT": "JPEG"}, SourceCodec("JPEG", True)),
        ({}, SourceCodec()),
    ],
)
def test_codec_by_properties(tmp_path, properties, codec):
    path = tmp_path / "a"
    path.write_bytes(b"MM")
    assert source_codec(path, properties) == codec


def test_stored_tiles_of_a_slide(svs):
    source = open_slide(svs)
    grid = source.tile_grid(0)
    assert (grid.width, grid.height, grid.rows, grid.columns) == (128, 128, 3, 4)
    tile = source.source_tile(0, 2, 3)
    assert tile.ycbcr
    assert tile.data[:2] == b"\xff\xd8"
    source.close()


def test_stored_tiles_of_other_codecs_are_none(plain_slide):
    source = open_slide(plain_slide)
    assert source.tile_grid(0) is None
    source.close()


@pytest.fixture
def ome_tiff(tmp_path, pixels):
    """An OME-TIFF with its pyramid in SubIFDs, which OpenSlide does not look at."""
    import tifffile

    path = tmp_path / "a.ome.tif"
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
        writer.write(pixels, subifds=1, metadata=metadata, **options)
        writer.write(np.ascontiguousarray(pixels[::2, ::2]), subfiletype=1, **options)
    return path


def test_ome_tiff_through_tifffile(ome_tiff, pixels):
    source = open_source(ome_tiff)
    facts = source.facts
    assert facts.vendor == "ome-tiff"
    assert [(level.width, level.height) for level in facts.levels] == [(330, 200), (165, 100)]
    assert (facts.mpp_x, facts.mpp_y) == (0.5, 0.25)
    np.testing.assert_array_equal(source.read(100, 50, 120, 90), pixels[50:140, 100:220])
    np.testing.assert_array_equal(source.read(0, 0, 165, 100, 1), pixels[::2, ::2])
    assert (source.read(-5, 195, 10, 10)[6:] == 255).all()
    source.close()


def test_plain_zarr_and_ome_zarr(tmp_path, pixels):
    import zarr

    zarr.create_array(tmp_path / "hwc.zarr", data=pixels, chunks=(64, 64, 3))
    zarr.create_array(tmp_path / "chw.zarr", data=np.ascontiguousarray(pixels.transpose(2, 0, 1)), chunks=(3, 64, 64))
    for name in ("hwc", "chw"):
        source = open_source(tmp_path / f"{name}.zarr")
        np.testing.assert_array_equal(source.read(100, 50, 120, 90), pixels[50:140, 100:220])
        assert (source.read(320, 190, 20, 20)[10:] == 255).all()
        source.close()
    zarr.create_array(tmp_path / "bad.zarr", data=pixels[..., :2])
    with pytest.raises(SourceError, match="uint8 and"):
        open_source(tmp_path / "bad.zarr")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_images(tmp_path, pixels, mode):
    from PIL import Image

    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    np.testing.assert_array_equal(source.read(10, 20, 30, 40), np.asarray(image.convert("RGB"))[20:60, 10:40])
    source.close()


def test_alpha_is_composited_on_the_background(tmp_path):
    from PIL import Image

    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    assert (source.read(0, 0, 4, 4) == 255).all()
    source.close()


@pytest.mark.parametrize("name", ["a.png", "a.zarr", "a.tif"])
def test_what_is_none_of_these(tmp_path, name):
    (tmp_path / name).write_bytes(b"II*\0 nothing of use")
    with pytest.raises(SourceError, match=name):
        open_source(tmp_path / name)
    with pytest.raises(SourceError, match="a folder"):
        open_source(tmp_path)


def test_properties_by_allow_list():
    from dlpr_wsi.sources.properties import allowed_properties

    given = {
        "aperio.MPP": "0.25",
        "aperio.AppMag": "Jane Doe",
        "aperio.User": "jdoe",
        "aperio.Filename": "S12-3456",
        "dicom.PatientName": "Doe^Jane",
        "dicom.Modality": "SM",
        "tiff.ImageDescription": "anything",
        "openslide.mpp-x": "0.25",
        "aperio.Title": "1",
    }
    assert allowed_properties(given) == {"aperio.MPP": "0.25", "dicom.Modality": "SM", "openslide.mpp-x": "0.25"}
