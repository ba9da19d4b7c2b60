"""Plain TIFF in all its kinds: equal to the array it was made from and to OpenSlide, or refused by name."""

from contextlib import closing

import numpy as np
import pytest
import tifffile
from PIL import Image

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Channel, Selection
from dlpr_wsi.sources.opening import open_source

TILE, STRIP = {"tile": (64, 48)}, {"rowsperstrip": 13}


def check(kit, path, wanted, reader=None):
    """Compare a source with an array, and with OpenSlide where that opens the file."""
    source = open_source(path)
    if reader:
        assert source.facts.reader.startswith(reader)
    np.testing.assert_array_equal(kit.whole(source), wanted)
    np.testing.assert_array_equal(source.read(50, 40, 90, 70), wanted[40:110, 50:140])
    assert (source.read(-4, -4, 8, 8)[:4] == 255).all()
    facts = source.facts
    source.close()
    try:
        levels = kit.by_openslide(path)
    except Exception:
        levels = []
    for level, image in enumerate(levels):
        source = open_source(path)
        np.testing.assert_array_equal(kit.whole(source, level), image)
        source.close()
    return facts


@pytest.mark.parametrize("layout", [TILE, STRIP, {}])
@pytest.mark.parametrize("codec", [None, "lzw", "zlib", "zstd", "packbits", "lzma", "webp", "jpeg2000"])
@pytest.mark.parametrize(
    "how", [{}, {"bigtiff": True, "byteorder": ">"}, {"predictor": True}, {"planarconfig": "separate"}]
)
def test_lossless_codecs(kit, rgb, make, layout, codec, how):
    if how.get("predictor") and codec not in ("lzw", "zlib", "zstd", "lzma"):
        pytest.skip("no predictor there")
    if how.get("planarconfig") and codec == "webp":
        pytest.skip("WebP has no single planes")
    args = {"webp": {"lossless": True}, "jpeg2000": {"level": 0}}.get(codec)
    array = np.ascontiguousarray(rgb.transpose(2, 0, 1)) if "planarconfig" in how else rgb
    path = make(array, photometric="rgb", compression=codec, compressionargs=args, **layout, **how)
    check(kit, path, rgb, None if layout is TILE else "tifffile")


@pytest.mark.parametrize("layout", [TILE, STRIP])
@pytest.mark.parametrize(
    "kind", ["minisblack", "miniswhite", "bits", "white bits", "palette 256", "palette 257", "palette 1"]
)
def test_one_sample(kit, rgb, make, layout, kind):
    grey = rgb[..., 0]
    options = {"photometric": kind}
    wanted = grey
    if "bits" in kind:
        options["photometric"] = "miniswhite" if "white" in kind else "minisblack"
        layout = {"tile": (64, 48)} if layout is TILE else layout
        grey = grey > 128
        wanted = grey * np.uint8(255)
    if "white" in kind:
        wanted = 255 - wanted
    wanted = wanted[..., None].repeat(3, -1)
    if "palette" in kind:
        table = np.random.default_rng(0).integers(0, 256, (3, 256))
        options = {"photometric": "palette", "colormap": (table * int(kind.split()[1])).astype(np.uint16)}
        wanted = table.T.astype(np.uint8)[grey]
    check(kit, make(grey, compression="zlib", **options, **layout), wanted)


@pytest.mark.parametrize("layout", [TILE, STRIP])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("levels", [0, 1])
def test_alpha(tmp_path, kit, rgb, layout, kind, levels):
    """Laid on white within a rounding of it, in tiles as OpenSlide does it to the bit, and said."""
    alpha = np.clip(rgb[..., 1:2].astype(int) * 2 - 100, 0, 255)
    colours = rgb if kind == "unassalpha" else rgb.astype(int) * alpha // 255
    array = np.concatenate([colours, alpha], -1).astype(np.uint8)
    path = tmp_path / "a.tif"
    options = {"photometric": "rgb", "extrasamples": [kind], "metadata": None, **layout}
    with tifffile.TiffWriter(path) as writer:
        writer.write(array, subifds=levels, **options)
        if levels:
            writer.write(array[::2, ::2], **options)
    source = open_source(path)
    exact = (rgb * (alpha / 255) + 255 - alpha).astype(float)
    assert np.abs(kit.whole(source) - exact).max() <= 2.5
    if layout is TILE:
        np.testing.assert_array_equal(kit.whole(source), kit.by_openslide(path)[0])
    assert source.facts.reader.startswith("OpenSlide" if layout is TILE and not levels else "tifffile")
    if not source.facts.reader.startswith("OpenSlide"):
        assert any("laid on white" in note for note in source.facts.notes)
    source.close()


@pytest.mark.parametrize("layout", [TILE, STRIP])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unspecified", "1 extra sample a px of a kind it does not name"),
        ("two", "2 extra samples"),
        ("cmyk", "CMYK"),
        ("lab", "L\\*a\\*b\\*"),
        ("16", "16 bits"),
        ("float", "floating point"),
        ("signed", "signed"),
        ("palette", "palette has colours of 16 bits"),
        ("turned", "orientation tag"),
    ],
)
def test_refused(rgb, make, layout, kind, reason):
    four = np.concatenate([rgb, rgb[..., :1]], -1)
    path = {
        "unspecified": lambda: make(four, photometric="rgb", extrasamples=["unspecified"], **layout),
        "two": lambda: make(np.concatenate([rgb, rgb[..., :2]], -1), photometric="rgb", extrasamples=[0, 0], **layout),
        "cmyk": lambda: make(four, photometric="separated", **layout),
        "lab": lambda: make(rgb, photometric="cielab", **layout),
        "16": lambda: make(rgb.astype(np.uint16), photometric="rgb", **layout),
        "float": lambda: make(rgb.astype(np.float32), photometric="rgb", **layout),
        "signed": lambda: make(rgb.astype(np.int8), photometric="rgb", **layout),
        "palette": lambda: make(
            rgb[..., 0], photometric="palette", colormap=np.arange(768).reshape(3, 256).astype("u2") * 83, **layout
        ),
        "turned": lambda: make(rgb, photometric="rgb", extratags=[(274, 3, 1, 6, False)], **layout),
    }[kind]()
    with pytest.raises(SourceError, match=reason):
        open_source(path)


@pytest.mark.parametrize("how", ["marked", "unmarked", "subifds", "strips"])
@pytest.mark.parametrize("up", [False, True])
def test_levels(tmp_path, kit, how, up):
    """Odd sizes, rounded either way."""
    levels = [kit.picture(151, 213)]
    for _ in range(3):
        height, width = ((side + up) // 2 for side in levels[-1].shape[:2])
        levels.append(kit.picture(height, width, len(levels)))
    path = tmp_path / "a.tif"
    layout = STRIP if how == "strips" else TILE
    with tifffile.TiffWriter(path) as writer:
        for k, level in enumerate(levels):
            options = {"subifds": 3} if how == "subifds" and not k else {}
            kind = 1 if k and how != "unmarked" else 0
            writer.write(level, photometric="rgb", metadata=None, subfiletype=kind, **layout, **options)
    source = open_source(path)
    assert source.facts.reader.startswith("OpenSlide" if how == "marked" else "tifffile")
    for k, level in enumerate(levels):
        np.testing.assert_array_equal(kit.whole(source, k), level)
    assert source.facts.notes == ()
    source.close()


def test_pages_beside_the_slide(tmp_path, kit, rgb):
    """A page that is marked as reduced and has another shape is left out and said; a mask too."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for image, kind in ((rgb, 0), (rgb[::2, ::2], 1), (kit.picture(40, 90), 1), (rgb[..., 0] > 99, 4)):
            options = {"photometric": "rgb" if image.ndim == 3 else "minisblack", "metadata": None}
            writer.write(image, subfiletype=kind, rowsperstrip=20, **options)
    source = open_source(path)
    assert len(source.facts.levels) == 2
    assert source.facts.notes == (
        "left out: page 2 (beside the slide), 90 x 40 px",
        "left out: page 3 (a mask), 210 x 150 px",
    )
    source.close()
    source = open_source(path, Selection(page=2))
    assert source.facts.levels[0].width == 90
    source.close()


@pytest.mark.parametrize("name", ["Aperio", "Hamamatsu", "Leica", "PHILIPS"])
def test_words_in_descriptions(kit, rgb, make, name):
    """A vendor is a structure: words elsewhere than where the vendor's files have them say nothing."""
    facts = check(kit, make(rgb, photometric="rgb", description=f"made for {name}", tile=(64, 48)), rgb)
    assert facts.vendor == "generic-tiff"


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("layout", [{"tile": (64, 48)}, {"rowsperstrip": 16}])
def test_jpeg(kit, rgb, make, subsampling, layout):
    """Decoded as libtiff and Pillow do it."""
    path = make(rgb, photometric="ycbcr", compression="jpeg", subsampling=subsampling, **layout)
    source = open_source(path)
    got = kit.whole(source)
    source.close()
    if "tile" in layout:
        np.testing.assert_array_equal(got, kit.by_openslide(path)[0])
    with Image.open(path) as image:
        np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")))


def test_jpeg_markers_against_tags(tmp_path, kit, rgb):
    """OpenSlide follows the tag, and so does an archive; where it does not open the file it is refused."""
    import imagecodecs

    def encode(tile):
        return imagecodecs.jpeg8_encode(tile, level=90, colorspace="RGB", outcolorspace="RGB")

    for layout in ({"tile": (64, 64)}, {"rowsperstrip": 150}):
        path = tmp_path / "a.tif"
        tiles = [encode(rgb)]
        if "tile" in layout:
            padded = np.pad(rgb, ((0, 42), (0, 46), (0, 0)), mode="edge")
            tiles = [encode(padded[y : y + 64, x : x + 64]) for y in range(0, 192, 64) for x in range(0, 256, 64)]
        options = {"photometric": "ycbcr", "compression": 7, "metadata": None, "shape": rgb.shape, "dtype": np.uint8}
        with tifffile.TiffWriter(path) as writer:
            writer.write(iter(tiles), **options, **layout)
        if "tile" in layout:
            source = open_source(path)
            np.testing.assert_array_equal(kit.whole(source), kit.by_openslide(path)[0])
            source.close()
        else:
            with pytest.raises(SourceError, match="contradict"):
                open_source(path)


@pytest.mark.parametrize("layout", [TILE, STRIP, {"rowsperstrip": 13, "compression": "zlib"}])
def test_missing(kit, rgb, make, layout):
    path = kit.drop_tiles(make(rgb, photometric="rgb", **layout), 0, 1, 2)
    wanted = rgb.copy()
    wanted[slice(0, 64) if "tile" in layout else slice(13, 39), slice(48, 144) if "tile" in layout else slice(None)] = (
        255
    )
    facts = check(kit, path, wanted)
    assert "tiles that the file lacks are background" in facts.notes


def test_damage_is_named(kit, rgb, make):
    """Data that ends early, counts beyond the file, a cut-off file: an error of ours, at opening or at reading."""
    for layout in (TILE, STRIP, {"rowsperstrip": 13, "compression": "zlib"}):
        path = make(rgb, photometric="rgb", **layout)
        data = path.read_bytes()
        name = "TileByteCounts" if "tile" in layout else "StripByteCounts"
        with tifffile.TiffFile(path) as tiff:
            counts = list(tiff.pages[0].databytecounts)
        for what in ("short", "long", "cut"):
            path.write_bytes(data[: len(data) // 2] if what == "cut" else data)
            if what != "cut":
                kit.overwrite_tag(path, 0, name, [10, *counts[1:]] if what == "short" else [*counts[:-1], 60000])
            readable = {"short": layout is TILE, "long": layout is STRIP}  # by its size, without the count
            if readable.get(what):
                check(kit, path, rgb)
                continue
            with pytest.raises(SourceError, match=r"a\.tif"), closing(open_source(path)) as source:
                kit.whole(source)


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [
        ((40000, 20000), 3, (0.25, 0.5)),
        ((101600, 101600), 2, (0.25, 0.25)),
        ((1, 1), 1, (None, None)),
        ((1, 1), 2, (None, None)),
    ],
)
def test_resolution(kit, rgb, make, resolution, unit, mpp):
    for layout in (TILE, STRIP):
        facts = check(kit, make(rgb, photometric="rgb", resolution=resolution, resolutionunit=unit, **layout), rgb)
        assert (facts.mpp_x, facts.mpp_y) == mpp


def philips(path, kit):
    """Write what Philips' exporter does: lower levels padded to whole tiles, their sizes in pixel spacings."""
    spacing = "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" '
        f'Element="0x0030" PMSVR="IDoubleArray">"{0.00025 * step}" "{0.00025 * step}"</Attribute></DataObject>'
        for step in (1, 2, 4)
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport"><Attribute '
        'Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" '
        'PMSVR="IString">WSI</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" '
        f'Element="0x8B01" PMSVR="IDataObjectArray"><Array>{spacing}</Array></Attribute></DataObject></Array>'
        "</Attribute></DataObject>"
    )
    sizes = [(384, 640), (256, 384), (128, 256)]
    with tifffile.TiffWriter(path) as writer:
        for k, (height, width) in enumerate(sizes):
            options = {"description": text, "software": "Philips DP v1.0"} if not k else {"software": False}
            options |= {"tile": (128, 128), "photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)}
            writer.write(kit.picture(height, width, k), metadata=None, subfiletype=1 if k else 0, **options)
    return path


def test_philips_levels_keep_their_jpeg_tiles(tmp_path, kit):
    path = philips(tmp_path / "a.tiff", kit)
    source = open_source(path)
    assert source.facts.vendor == "philips"
    assert [(level.width, level.height) for level in source.facts.levels] == [(640, 384), (320, 192), (160, 96)]
    for level, image in enumerate(kit.by_openslide(path)):
        np.testing.assert_array_equal(kit.whole(source, level), image)
        grid = source.tile_grid(level)
        assert (grid.rows, grid.columns) == (-(-image.shape[0] // 128), -(-image.shape[1] // 128))
        assert source.source_tile(level, grid.rows - 1, grid.columns - 1).data[:2] == b"\xff\xd8"
    source.close()


def qptiff(path, levels, count, photometric, kit):
    kinds = [("FullResolution", level) for level in levels[:1]] + [("ReducedResolution", level) for level in levels[1:]]
    with tifffile.TiffWriter(path) as writer:

        def add(image, kind, number=0, **options):
            colour = ("0,0,255", "0,255,0", "255,0,0")[number]
            name = "" if photometric == "rgb" else f"<Name>N{number}</Name><Color>{colour}</Color>"
            text = (
                '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
                f"<SlideID>Jane Doe</SlideID><ImageType>{kind}</ImageType>{name}</PerkinElmer-QPI-ImageDescription>"
            )
            writer.write(image, description=text, metadata=None, resolution=(20000, 20000), resolutionunit=3, **options)

        for kind, level in kinds:
            for number in range(count):
                image = level if photometric == "rgb" else level[..., number]
                add(image, kind, number, photometric=photometric, tile=(64, 64), compression="lzw")
            if kind == "FullResolution":
                add(kit.picture(30, 40), "Thumbnail", photometric="rgb")
        add(kit.picture(50, 30), "Label", photometric="rgb")
    return path


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_qptiff(tmp_path, kit, rgb, photometric):
    levels = [rgb, rgb[::2, ::2], rgb[::4, ::4]]
    source = open_source(qptiff(tmp_path / "a.qptiff", levels, 1 if photometric == "rgb" else 3, photometric, kit))
    facts = source.facts
    assert facts.vendor == "qptiff"
    assert (facts.mpp_x, facts.mpp_y) == (0.5, 0.5)
    colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0)]
    channels = tuple(Channel(f"N{number}", colours[number]) for number in range(3))
    assert facts.channels == (None if photometric == "rgb" else channels)
    assert facts.notes == ("left out: the thumbnail, 40 x 30 px", "left out: the label, 30 x 50 px")
    assert "Jane" not in str(facts)
    for level, image in enumerate(levels):
        np.testing.assert_array_equal(kit.whole(source, level), image)
    source.close()


def test_ndpi_of_several_focal_planes(tmp_path, kit, rgb):
    """OpenSlide reads the plane at offset 0 and passes over the others in silence."""

    def tags(focus):
        return [(65420, 4, 1, 1, False), (65421, 11, 1, 20.0, False), (65424, 9, 1, focus, False)]

    def write(name, *planes):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for focus in planes:
                options = {"photometric": "ycbcr", "compression": "jpeg", "rowsperstrip": 152, "software": False}
                writer.write(np.roll(rgb, focus, 1), metadata=None, extratags=tags(focus), **options)
        return tmp_path / name

    source = open_source(write("a.tif", 0))
    assert source.facts.vendor == "hamamatsu"
    np.testing.assert_array_equal(kit.whole(source), kit.by_openslide(tmp_path / "a.tif")[0])
    source.close()
    path = write("b.tif", 0, -1500, 1500)
    with pytest.raises(SourceError, match=r"3 focal planes.*--plane N"):
        open_source(path)
    with pytest.raises(SourceError, match="offset 0 only, --plane 1"):
        open_source(path, Selection(plane=2))
    source = open_source(path, Selection(plane=1))
    np.testing.assert_array_equal(kit.whole(source), kit.by_openslide(path)[0])
    assert "3 focal planes, of which the one at offset 0 was chosen" in source.facts.notes
    source.close()


def test_sixteen_bits_in_a_slide(tmp_path, kit, rgb):
    """OpenSlide would cut them."""
    wide = tmp_path / "a.svs"
    text = "Aperio Image Library v1 \r\n210x150 (64x64)|AppMag = 20"
    tifffile.imwrite(
        wide, rgb.astype(np.uint16) * 257, photometric="rgb", tile=(64, 64), description=text, metadata=None
    )
    with pytest.raises(SourceError, match="16 bits a sample"):
        open_source(wide)
    with pytest.raises(SourceError, match="--plane 1 is not there"):
        open_source(kit.write_slide(tmp_path / "b.svs", [rgb]), Selection(plane=1))
