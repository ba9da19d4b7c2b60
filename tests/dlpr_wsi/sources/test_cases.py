"""Inputs that were once handled wrongly, made here, with the values that are right."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.opening import open_source

TILED = {"tile": (64, 64), "compression": "deflate"}


def ome(path, *images):
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image, options, metadata in images:
            writer.write(image, metadata=metadata, **TILED, **options)
    return path


def test_aperio_33003_and_missing_tile(tmp_path, kit, rgb):
    """F1a, F1b: as OpenSlide on every level."""
    for name, kind in (("a", "33003"), ("b", "jpeg")):
        path = kit.write_slide(tmp_path / f"{name}.svs", [rgb, kit.picture(38, 52)], kind, 64)
        if name == "b":
            kit.drop_tiles(path, 1, 0)
        source = open_source(path)
        for level, wanted in enumerate(kit.by_openslide(path)):
            np.testing.assert_array_equal(kit.whole(source, level), wanted)
        if name == "b":
            assert not (kit.whole(source, 1) == 255).all()
        source.close()


@pytest.mark.parametrize("tags", [{}, {"low": True}])
def test_ycbcr_outside_jpeg(tmp_path, kit, rgb, tags):
    """F1c, F1g: RGB within a rounding of it, and OpenSlide's to the bit; through either reader."""
    extra = []
    if tags:
        rationals = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
        extra = [(532, 5, 6, rationals, False)]
    options = {"photometric": "ycbcr", "subsampling": (1, 1), "extratags": extra}
    plain = tmp_path / "a.tif"
    with tifffile.TiffWriter(plain) as writer:
        writer.write(kit.ycc(rgb), metadata=None, **TILED, **options)
        writer.write(kit.ycc(rgb[::2, ::2]), metadata=None, subfiletype=1, **TILED, **options)
    named = ome(tmp_path / "a.ome.tif", (kit.ycc(rgb), options, {"axes": "YXS"}))
    for path, reader in ((plain, "OpenSlide"), (named, "tifffile")):
        source = open_source(path)
        assert source.facts.reader.startswith(reader)
        for level, wanted in enumerate(kit.by_openslide(path)):
            np.testing.assert_array_equal(kit.whole(source, level), wanted)
        if not tags:
            assert np.abs(kit.whole(source).astype(int) - rgb).max() <= 3
        source.close()


def test_three_pages_of_one_picture(tmp_path, kit, rgb):
    """F2a: no colours and no names: red, green, blue."""
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    path = ome(tmp_path / "a.ome.tif", (planes, {"photometric": "minisblack"}, {"axes": "CYX"}))
    source = open_source(path)
    assert source.facts.channels is None
    np.testing.assert_array_equal(kit.whole(source), rgb)
    source.close()


def test_pages_of_one_size(tmp_path, kit, rgb):
    """F2c: refused, or the page that is chosen."""
    path = tmp_path / "a.tif"
    pages = [np.roll(rgb, 40 * k, 1) for k in range(3)]
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, photometric="rgb", metadata=None, **TILED)
    with pytest.raises(SourceError, match=r"3 pages, 3 of them pictures of their own.*--page N"):
        open_source(path)
    for number, page in enumerate(pages):
        source = open_source(path, Selection(page=number))
        np.testing.assert_array_equal(kit.whole(source), page)
        assert source.facts.notes == ("left out: 2 other pages of the file",)
        source.close()
    with pytest.raises(SourceError, match="--page 3 is not there"):
        open_source(path, Selection(page=3))


def test_label_first(tmp_path, kit, rgb):
    """F2f: the slide, with its own mpp; the label's text is nowhere."""
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    path = ome(
        tmp_path / "a.ome.tif",
        (kit.picture(60, 70), {"photometric": "rgb"}, {"axes": "YXS", "Name": "label", "PhysicalSizeX": 9.0}),
        (rgb, {"photometric": "rgb"}, {"axes": "YXS", "Name": "Jane Doe 1950", **sizes}),
    )
    source = open_source(path)
    np.testing.assert_array_equal(kit.whole(source), rgb)
    assert (source.facts.mpp_x, source.facts.mpp_y) == (0.25, 0.25)
    assert source.facts.notes == ("left out: image 0 (beside the slide), 70 x 60 px",)
    source.close()
    source = open_source(path, Selection(image=0))
    assert source.facts.levels[0].width == 70
    assert "Jane" not in str(source.facts)
    source.close()


def test_sixteen_bits(tmp_path, rgb, make):
    """F3: refused by the file's own depth."""
    import imagecodecs

    wide = rgb.astype(np.uint16) * 257
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(wide))
    for path in (tmp_path / "a.png", make(wide, photometric="rgb", tile=(64, 64)), make(wide, "b.tif")):
        with pytest.raises(SourceError, match="16 bits a sample"):
            open_source(path)


@pytest.mark.parametrize("name", ["a scanner", "Hamamatsu NanoZoomer", "Aperio", "PHILIPS"])
def test_words_in_ome_xml_decide_nothing(tmp_path, kit, rgb, name):
    """F4: levels in sub-directories and mpp, whoever is named."""
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        metadata = {"axes": "YXS", "Name": name, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        writer.write(rgb, subifds=1, metadata=metadata, photometric="rgb", **TILED)
        writer.write(rgb[::2, ::2], subfiletype=1, photometric="rgb", **TILED)
    source = open_source(path)
    assert [(level.width, level.height) for level in source.facts.levels] == [(210, 150), (105, 75)]
    assert source.facts.mpp_x == 0.25
    np.testing.assert_array_equal(kit.whole(source, 1), rgb[::2, ::2])
    source.close()


@pytest.mark.parametrize(
    ("unit", "size", "mpp"),
    [("mm", 0.00025, 0.25), ("nm", 250, 0.25), ("µm", 0.5, 0.5), ("inch", 1, None), ("pixel", 1, None), ("m", 1, None)],
)
def test_units(tmp_path, rgb, unit, size, mpp):
    """F6."""
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit, "PhysicalSizeY": 0.5}
    path = ome(tmp_path / "a.ome.tif", (rgb, {"photometric": "rgb"}, metadata))
    source = open_source(path)
    assert (source.facts.mpp_x, source.facts.mpp_y) == (mpp, 0.5)
    source.close()


def test_strips(kit, rgb, make):
    """F7: the same picture as in any other file."""
    source = open_source(make(rgb, photometric="rgb"))
    np.testing.assert_array_equal(kit.whole(source), rgb)
    source.close()


def test_above_pillows_limit(tmp_path, monkeypatch):
    """F8: Pillow's limit is lowered here, so that the image can be small; ours is in its header."""
    import struct
    import zlib

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (40, 30), (240, 240, 242)).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    assert (source.read(0, 0, 40, 30) == (240, 240, 242)).all()
    source.close()
    assert Image.MAX_IMAGE_PIXELS == 100
    head = b"IHDR" + struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(SourceError, match="40000 x 40000 px; images are decoded as a whole"):
        open_source(tmp_path / "b.png")


@pytest.mark.parametrize(("space", "kept"), [(b"RGB ", True), (b"GRAY", False), (b"CMYK", False), (b"", False)])
def test_profiles_that_do_not_fit(tmp_path, rgb, space, kept):
    """F9: dropped, and said."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = space or b"RGB "
    profile = bytes(profile) if space else bytes(profile[:150])
    grey = space == b"GRAY"
    Image.fromarray(rgb[..., 0] if grey else rgb).save(tmp_path / "a.jpg", icc_profile=profile)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb", tile=(64, 64), metadata=None, iccprofile=profile)
    for name in ("a.jpg", "a.tif"):
        source = open_source(tmp_path / name)
        assert (source.facts.icc_profile == profile) == kept
        assert any("colour profile left out" in note for note in source.facts.notes) != kept
        source.close()
