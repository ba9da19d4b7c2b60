"""What slides say, and the pixels they give."""

from pathlib import Path

import numpy as np
import pytest

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import SourceCodec, open_slide
from dlpr_wsi.sources.codec import source_codec

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
        (400, 300, 1),
        (200, 150, 2),
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
