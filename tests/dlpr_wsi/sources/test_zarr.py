"""OME-Zarr of every version and plain arrays: axes by name, units, channels, several images; or refused by name."""

import json

import numpy as np
import pytest

from dlpr_wsi.errors import SourceError, UsageError
from dlpr_wsi.sources import Channel, Selection
from dlpr_wsi.sources.opening import open_source

zarr = pytest.importorskip("zarr", minversion="3.0")

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (70, 90, 3), np.uint8)
HALF = np.ascontiguousarray(RGB[::2, ::2])
PLANES = np.ascontiguousarray(RGB.transpose(2, 0, 1))
TYPES = {"c": "channel", "t": "time"}
RED_GREEN_BLUE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
PRIMARIES = ["FF0000", "00FF00", "0000FF"]


def arrange(pixels, axes):
    """Put (h, w, c) into an array of these axes, others of length 1."""
    kept = [axis for axis in axes if axis in "yxc"]
    array = pixels.transpose(["yxc".index(axis) for axis in kept]) if "c" in kept else pixels[..., 0].copy()
    return array.reshape([dict(zip(kept, array.shape, strict=True)).get(axis, 1) for axis in axes])


def write_image(group, levels, axes, *, version="0.4", unit="micrometer", scale=0.25, after=None, omero=None, **array):
    """Write one OME-Zarr image, arrays in the order of ``axes``."""
    listed = [
        {"name": axis, "type": TYPES.get(axis, "space"), **({"unit": unit} if unit and axis in "zyx" else {})}
        for axis in axes
    ]
    datasets = []
    for index, data in enumerate(levels):
        node = group.create_array(str(index), shape=data.shape, dtype=data.dtype, **({"chunks": data.shape} | array))
        node[...] = data
        dataset = {"path": str(index)}
        if version in ("0.4", "0.5") and scale is not None:
            steps = [scale * 2**index if axis in "yx" else 1 for axis in axes]
            dataset["coordinateTransformations"] = [
                {"type": "scale", "scale": steps},
                {"type": "translation", "translation": [0.5] * len(axes)},
            ]
        datasets.append(dataset)
    image = {"datasets": datasets}
    if version in ("0.4", "0.5"):
        image["axes"] = listed
    elif version == "0.3":
        image["axes"] = list(axes)
    if after is not None:
        image["coordinateTransformations"] = [{"type": "scale", "scale": [after] * len(axes)}]
    ome = {"multiscales": [image]} | ({} if omero is None else {"omero": omero})
    if version == "0.5":
        group.attrs["ome"] = {"version": version, **ome}
    else:
        image["version"] = version
        group.attrs.update(ome)
    return group


def new_group(path, version="0.4"):
    return zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)


def check_rgb(source, levels=(RGB,)):
    facts = source.facts
    assert facts.channels is None
    assert [(level.width, level.height) for level in facts.levels] == [(a.shape[1], a.shape[0]) for a in levels]
    for index, image in enumerate(levels):
        height, width = image.shape[:2]
        np.testing.assert_array_equal(source.read(0, 0, width, height, index), image)
        region = source.read(width - 10, height - 8, 15, 12, index)
        np.testing.assert_array_equal(region[:8, :10], image[-8:, -10:])
        assert (region[8:] == 255).all()
        assert (region[:, 10:] == 255).all()
    source.close()


@pytest.mark.parametrize("axes", ["cyx", "tczyx", "yxc", "zyxc", "xyc", "tcyx"])
@pytest.mark.parametrize("version", ["0.3", "0.4", "0.5"])
def test_axes_by_name(tmp_path, version, axes):
    levels = [arrange(RGB, axes), arrange(HALF, axes)]
    write_image(new_group(tmp_path / "a.zarr", version), levels, axes, version=version)
    source = open_source(tmp_path / "a.zarr")
    assert source.facts.vendor == "ome-zarr"
    assert source.facts.reader.startswith("zarr 3.")
    assert (source.facts.mpp_x, source.facts.mpp_y) == ((None, None) if version == "0.3" else (0.25, 0.25))
    check_rgb(source, (RGB, HALF))


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_versions_without_axes_are_tczyx(tmp_path, version):
    write_image(new_group(tmp_path / "a.zarr"), [arrange(RGB, "tczyx")], "tczyx", version=version)
    check_rgb(open_source(tmp_path / "a.zarr"))


def test_no_axis_is_told_by_its_length(tmp_path):
    square = RNG.integers(0, 256, (3, 3, 3), np.uint8)
    write_image(new_group(tmp_path / "a.zarr"), [square], "cyx")
    source = open_source(tmp_path / "a.zarr")
    np.testing.assert_array_equal(source.read(0, 0, 3, 3), square.transpose(1, 2, 0))


@pytest.mark.parametrize("chunks", [(1, 7, 90), (3, 70, 90), (2, 33, 1), (1, 1, 1)])
def test_chunks_of_any_shape(tmp_path, chunks):
    small = PLANES[:, :20, :30] if chunks == (1, 1, 1) else PLANES
    write_image(new_group(tmp_path / "a.zarr"), [small], "cyx", chunks=chunks)
    check_rgb(open_source(tmp_path / "a.zarr"), (small.transpose(1, 2, 0),))


@pytest.mark.parametrize(
    ("unit", "scale", "mpp"),
    [
        ("micrometer", 0.25, 0.25),
        ("nanometer", 250, 0.25),
        ("millimeter", 0.00025, 0.25),
        ("centimeter", 0.000025, 0.25),
        ("angstrom", 2500, 0.25),
        ("inch", 0.00001, 0.254),
        ("foot", 0.000001, 0.3048),
        ("picometer", 250_000, 0.25),
        ("meter", 0.25e-6, 0.25),
        ("micrometre", 0.25, 0.25),
        ("µm", 0.25, 0.25),
        ("nm", 250, 0.25),
        ("second", 0.25, None),
        ("pixel", 0.25, None),
        (None, 0.25, None),
        ("micrometer", None, None),
        ("micrometer", 0, None),
        ("micrometer", -0.25, None),
    ],
)
def test_units(tmp_path, unit, scale, mpp):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES], "cyx", unit=unit, scale=scale)
    facts = open_source(tmp_path / "a.zarr").facts
    assert facts.mpp_x == (None if mpp is None else pytest.approx(mpp, rel=1e-12))
    assert facts.mpp_y == facts.mpp_x


def test_both_transformations_multiply(tmp_path):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES], "cyx", scale=0.5, after=0.5)
    assert open_source(tmp_path / "a.zarr").facts.mpp_x == 0.25
    write_image(new_group(tmp_path / "b.zarr"), [PLANES], "cyx", scale=None, after=0.5)
    assert open_source(tmp_path / "b.zarr").facts.mpp_x == 0.5


@pytest.mark.parametrize("scale", [[0.25, 0.25], ["x", 1, 1], [1, 1, 0.25, 0.25], None, {"a": 1}])
def test_a_scale_that_does_not_fit_is_unknown_or_refused(tmp_path, scale):
    group = write_image(new_group(tmp_path / "a.zarr"), [PLANES], "cyx")
    image = group.attrs["multiscales"]
    image[0]["datasets"][0]["coordinateTransformations"][0]["scale"] = scale
    group.attrs["multiscales"] = image
    try:
        assert open_source(tmp_path / "a.zarr").facts.mpp_x is None
    except SourceError as error:
        assert "damaged" in str(error)  # noqa: PT017


@pytest.mark.parametrize(("axis", "option"), [("z", "plane"), ("t", "time")])
def test_planes_and_times(tmp_path, axis, option):
    stack = RNG.integers(0, 256, (4, 3, 40, 50), np.uint8)
    write_image(new_group(tmp_path / "a.zarr"), [stack], f"{axis}cyx")
    with pytest.raises(SourceError, match=rf"a\.zarr: axis {axis} has the length 4.*--{option} N"):
        open_source(tmp_path / "a.zarr")
    source = open_source(tmp_path / "a.zarr", Selection(**{option: 2}))
    np.testing.assert_array_equal(source.read(0, 0, 50, 40), stack[2].transpose(1, 2, 0))
    assert source.facts.notes == (f"{option} 2 of 4 was taken (axis {axis}); the others are not in the archive",)
    with pytest.raises(UsageError, match=f"--{option}: 4: there are 4"):
        open_source(tmp_path / "a.zarr", Selection(**{option: 4}))


def test_three_planes_are_not_red_green_and_blue(tmp_path):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES], "zyx")
    with pytest.raises(SourceError, match="axis z has the length 3"):
        open_source(tmp_path / "a.zarr")
    source = open_source(tmp_path / "a.zarr", Selection(plane=1))
    assert source.facts.channels == (Channel("channel 0", (255, 255, 255)),)
    np.testing.assert_array_equal(source.read(0, 0, 90, 70), RGB[..., 1:2])


def test_other_axes_are_refused_by_name(tmp_path):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES], ["lambda", "y", "x"])
    with pytest.raises(SourceError, match="axis lambda has the length 3"):
        open_source(tmp_path / "a.zarr")
    write_image(new_group(tmp_path / "b.zarr"), [PLANES], ["Jane Doe, 1970", "y", "x"])
    with pytest.raises(SourceError, match="axis 0 has the length 3"):
        open_source(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("labels", "colours"),
    [
        ([None] * 3, [None] * 3),
        (["Red", "Green", "Blue"], [None] * 3),
        (["R", "G", "B"], ["FFFFFF"] * 3),
        (["Channel 0", "Channel 1", "Channel 2"], PRIMARIES),
        ([None] * 3, PRIMARIES),
    ],
)
def test_three_channels_that_are_one_picture(tmp_path, labels, colours):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES], "cyx", omero=omero(labels, colours))
    check_rgb(open_source(tmp_path / "a.zarr"))


def omero(labels, colours):
    pairs = zip(labels, colours, strict=True)
    return {
        "channels": [{k: v for k, v in (("label", a), ("color", b)) if v is not None} | {"active": 1} for a, b in pairs]
    }


@pytest.mark.parametrize(
    ("labels", "colours", "expected"),
    [
        (
            ["DAPI", "FITC", "Cy5"],
            ["0000FF", "00FF00", "FF0000"],
            [("DAPI", (0, 0, 255)), ("FITC", (0, 255, 0)), ("Cy5", (255, 0, 0))],
        ),
        (["DAPI", "FITC", "Cy5"], PRIMARIES, [("DAPI", (255, 0, 0)), ("FITC", (0, 255, 0)), ("Cy5", (0, 0, 255))]),
        ([None] * 3, PRIMARIES[::-1], [(f"channel {n}", RED_GREEN_BLUE[2 - n]) for n in range(3)]),
        (["DAPI"], ["00aaff"], [("DAPI", (0, 170, 255))]),
        (["a\x00b" + "c" * 80, " "], ["blue", "12345"], [("ab" + "c" * 62, (255, 0, 0)), ("channel 1", (0, 255, 0))]),
        ([None] * 4, [None] * 4, [(f"channel {n}", c) for n, c in enumerate([*RED_GREEN_BLUE, (255, 0, 255)])]),
    ],
)  # fmt: skip
def test_channels_of_their_own(tmp_path, labels, colours, expected):
    pixels = RNG.integers(0, 256, (len(labels), 40, 50), np.uint8)
    write_image(new_group(tmp_path / "a.zarr"), [pixels[:, None]], "czyx", omero=omero(labels, colours))
    source = open_source(tmp_path / "a.zarr")
    assert source.facts.channels == tuple(Channel(*pair) for pair in expected)
    assert source.facts.samples == len(labels)
    region = source.read(-2, 30, 20, 15)
    np.testing.assert_array_equal(region[:10, 2:], pixels[:, 30:, :18].transpose(1, 2, 0))
    assert not region[10:].any()
    assert not region[:, :2].any()


def test_no_axis_c_is_one_channel(tmp_path):
    write_image(new_group(tmp_path / "a.zarr"), [RGB[..., 0].copy()], "yx")
    source = open_source(tmp_path / "a.zarr")
    assert source.facts.channels == (Channel("channel 0", (255, 255, 255)),)
    np.testing.assert_array_equal(source.read(0, 0, 90, 70), RGB[..., :1])


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bool", "float32", "int32"])
def test_other_dtypes_are_refused_by_name(tmp_path, dtype):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES.astype(dtype)], "cyx")
    with pytest.raises(SourceError, match=rf"a\.zarr: samples of dtype {dtype}: archives hold 8 bits"):
        open_source(tmp_path / "a.zarr")


def test_levels_that_disagree(tmp_path):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES, PLANES[:2, ::2, ::2].copy()], "cyx")
    with pytest.raises(SourceError, match="levels disagree: axis c has the length 3 in one and 2 in another"):
        open_source(tmp_path / "a.zarr")
    write_image(new_group(tmp_path / "b.zarr"), [PLANES, PLANES[:, ::2, ::2].astype(np.uint16)], "cyx")
    with pytest.raises(SourceError, match="dtype uint16"):
        open_source(tmp_path / "b.zarr")


def test_missing_chunks_have_the_fill_value(tmp_path):
    for fill, expected in ((200, 200), (None, 0)):
        group = new_group(tmp_path / f"{fill}.zarr")
        write_image(group, [PLANES], "cyx", chunks=(3, 35, 45), fill_value=fill)
        for file in (tmp_path / f"{fill}.zarr" / "0").glob("0.1.1"):
            file.unlink()
        source = open_source(tmp_path / f"{fill}.zarr")
        pixels = source.read(0, 0, 90, 70)
        np.testing.assert_array_equal(pixels[:35], RGB[:35])
        assert (pixels[35:, 45:] == expected).all()


def test_stale_consolidated_metadata_are_not_believed(tmp_path):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES], "cyx")
    zarr.consolidate_metadata(str(tmp_path / "a.zarr"))
    (tmp_path / "a.zarr" / ".zmetadata").write_text(
        (tmp_path / "a.zarr" / ".zmetadata").read_text().replace("90", "60")
    )
    check_rgb(open_source(tmp_path / "a.zarr"))


@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": []},
        {"multiscales": [{}]},
        {"multiscales": "x"},
        {"multiscales": [{"version": "0.4", "datasets": [{"path": "0"}]}]},
        {"multiscales": [{"version": "0.9", "axes": ["y", "x"], "datasets": [{"path": "0"}]}]},
        {"multiscales": [{"version": "0.4", "axes": [{"name": "y"}, {"name": "y"}], "datasets": [{"path": "0"}]}]},
        {"multiscales": [{"version": "0.4", "axes": [{"name": "a"}, {"name": "b"}], "datasets": [{"path": "0"}]}]},
        {"multiscales": [{"version": "0.3", "axes": ["y", "x"], "datasets": [{"path": "0"}]}]},
        {"multiscales": [{"version": "0.3", "axes": ["c", "y", "x"], "datasets": [{"path": "../../x"}]}]},
        {"multiscales": [{"version": "0.3", "axes": ["c", "y", "x"], "datasets": [{"path": "nothing"}]}]},
        {"multiscales": [{"version": "0.3", "axes": ["c", "y", "x"], "datasets": [{"path": 7}]}]},
        {"multiscales": [{"version": "0.3", "axes": ["c", "y", "x"], "datasets": []}]},
        {"multiscales": [{"version": "0.3", "axes": ["c", "y", {"x": 1}], "datasets": [{"path": "0"}]}]},
        {"plate": {"rows": []}},
        {"well": {"images": []}},
        {"labels": ["nuclei"]},
        {"multiscales": [{"version": "0.3", "axes": ["c", "y", "x"], "datasets": [{"path": "0"}]}], "image-label": {}},
        {"bioformats2raw.layout": 3},
    ],
)
def test_refused_by_name(tmp_path, attributes):
    group = new_group(tmp_path / "a.zarr")
    group.create_array("nested", shape=(3, 4, 4), dtype="uint8")
    write_image(group, [PLANES], "cyx")
    del group.attrs["multiscales"]
    group.attrs.update(attributes)
    if "bioformats2raw.layout" in attributes:
        (tmp_path / "a.zarr" / "0").rename(tmp_path / "a.zarr" / "other")
    with pytest.raises(SourceError, match=r"a\.zarr: "):
        open_source(tmp_path / "a.zarr")


def test_sizes_are_not_believed(tmp_path):
    path = tmp_path / "a.zarr"
    for shape, chunks in (((3, 10**9, 10**9), (3, 256, 256)), ((3, 10**5, 10**5), (3, 10**5, 10**5))):
        write_image(new_group(path), [PLANES], "cyx")
        meta = json.loads((path / "0" / ".zarray").read_text())
        (path / "0" / ".zarray").write_text(json.dumps(meta | {"shape": shape, "chunks": chunks}))
        with pytest.raises(SourceError, match=r"larger than|chunks of"):
            open_source(path)


# plain arrays


def test_plain_arrays_by_shape(tmp_path):
    for name, data in (("hwc", RGB), ("chw", PLANES), ("leading", PLANES[None, None])):
        zarr.create_array(tmp_path / f"{name}.zarr", data=np.ascontiguousarray(data))
        check_rgb(open_source(tmp_path / f"{name}.zarr"))
    zarr.create_array(tmp_path / "both.zarr", data=RGB[:3])
    with pytest.raises(SourceError, match=r"shape \(3, 90, 3\) can be"):
        open_source(tmp_path / "both.zarr")
    for data in (RGB[..., :2], RGB[..., 0], np.stack([PLANES, PLANES])):
        zarr.create_array(tmp_path / "bad.zarr", data=np.ascontiguousarray(data), overwrite=True)
        with pytest.raises(SourceError, match="needed are uint8 and"):
            open_source(tmp_path / "bad.zarr")
    with pytest.raises(UsageError, match="--page"):
        open_source(tmp_path / "hwc.zarr", Selection(page=0))
    with pytest.raises(UsageError, match="--image"):
        open_source(tmp_path / "hwc.zarr", Selection(image=1))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_arrays_by_name(tmp_path, zarr_format):
    def write(name, data, names):
        options = {"dimension_names": names} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": names}}
        data = np.ascontiguousarray(data)
        zarr.create_array(tmp_path / name, data=data, zarr_format=zarr_format, **options)
        return tmp_path / name

    source = open_source(write("a.zarr", RGB[:3], ["y", "x", "c"]))
    np.testing.assert_array_equal(source.read(0, 0, 90, 3), RGB[:3])
    check_rgb(open_source(write("b.zarr", RGB.transpose(1, 2, 0), ["x", "channel", "y"])))
    check_rgb(open_source(write("f.zarr", RGB, ["dim_0", "dim_1", "dim_2"])))
    source = open_source(write("c.zarr", RGB[..., :2], ["Row", "Column", "band"]))
    assert [channel.name for channel in source.facts.channels] == ["channel 0", "channel 1"]
    np.testing.assert_array_equal(source.read(0, 0, 90, 70), RGB[..., :2])
    with pytest.raises(SourceError, match="axis z has the length 3"):
        open_source(write("d.zarr", PLANES, ["z", "y", "x"]))
    with pytest.raises(SourceError, match="not one y and one x"):
        open_source(write("e.zarr", PLANES, ["c", "y", "w"]))


# several images

LABEL, MACRO = RNG.integers(0, 256, (20, 30, 3), np.uint8), RNG.integers(0, 256, (16, 40, 3), np.uint8)


def bioformats2raw(path, images, *, version="0.4", xml=None, series=None, **options):
    """Write bioformats2raw's layout: images "0", "1", ... of axes tczyx in chunks of one colour."""
    root = new_group(path, version)
    layout = {"bioformats2raw.layout": 3}
    root.attrs.update({"ome": {"version": version, **layout}} if version == "0.5" else layout)
    names = series or [str(index) for index in range(len(images))]
    for name, levels in zip(names, images, strict=True):
        arrays = [arrange(level, "tczyx") for level in levels]
        write_image(root.create_group(name), arrays, "tczyx", version=version, chunks=(1, 1, 1, 32, 32), **options)
    if xml is not None or series is not None:
        ome = root.create_group("OME")
        if series is not None:
            ome.attrs.update(
                {"ome": {"version": version, "series": series}} if version == "0.5" else {"series": series}
            )
        if xml is not None:
            (path / "OME" / "METADATA.ome.xml").write_text(xml)
    return path


def ome_xml(*images):
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    body = "".join(
        f'<Image ID="Image:{n}"{" Name=" + repr(name) if name else ""}>'
        f'<Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" {size}>'
        f'<Channel ID="Channel:{n}:0" SamplesPerPixel="3"/></Pixels></Image>'
        for n, (name, size) in enumerate(images)
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{namespace}">{body}</OME>'


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_bioformats2raw_with_label_and_macro(tmp_path, version):
    size = 'PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.5"'
    xml = ome_xml(("S12-3456 Jane Doe", size), ("label image", ""), ("macro image", ""))
    images = [[RGB, HALF], [LABEL], [MACRO]]
    path = bioformats2raw(tmp_path / "a.zarr", images, version=version, xml=xml, unit=None, scale=1)
    source = open_source(path)
    facts = source.facts
    assert facts.associated == ("label", "macro")
    assert (facts.mpp_x, facts.mpp_y) == (0.25, 0.5)
    assert "Jane" not in str(facts)
    np.testing.assert_array_equal(source.associated("label"), LABEL)
    np.testing.assert_array_equal(source.associated("macro"), MACRO)
    check_rgb(source, (RGB, HALF))
    source = open_source(path, Selection(image=2))
    check_rgb(source, (MACRO,))
    with pytest.raises(UsageError, match="--image: 3: there are 3 images, 0 to 2"):
        open_source(path, Selection(image=3))


def test_bioformats2raw_of_an_ndpi(tmp_path):
    """Bio-Formats calls the slide nothing, and has a mask beside the macro image."""
    xml = ome_xml(("", ""), ("macro image", ""), ("macro mask image", ""))
    source = open_source(bioformats2raw(tmp_path / "a.zarr", [[RGB], [MACRO], [HALF]], xml=xml))
    assert source.facts.associated == ("macro",)
    assert source.facts.notes == ("image 2 of the group is not in the archive",)
    check_rgb(source)


def test_bioformats2raw_label_first(tmp_path):
    xml = ome_xml(("label", ""), ("the slide", ""))
    path = bioformats2raw(tmp_path / "a.zarr", [[LABEL], [RGB, HALF]], xml=xml, series=["first", "second"])
    source = open_source(path)
    assert source.facts.associated == ("label",)
    assert source.facts.mpp_x == 0.25
    check_rgb(source, (RGB, HALF))


def test_bioformats2raw_without_ome_xml(tmp_path):
    path = bioformats2raw(tmp_path / "a.zarr", [[RGB], [LABEL], [MACRO]])
    source = open_source(path)
    assert source.facts.notes == ("images 1, 2 of the group are not in the archive",)
    check_rgb(source)
    path = bioformats2raw(tmp_path / "b.zarr", [[RGB], [HALF]])
    with pytest.raises(SourceError, match=r"b\.zarr: 2 images, and they are of similar size: --image N"):
        open_source(path)
    check_rgb(open_source(path, Selection(image=1)), (HALF,))
    xml = ome_xml(("region one", ""), ("region two", ""))
    path = bioformats2raw(tmp_path / "c.zarr", [[RGB], [LABEL]], xml=xml)
    with pytest.raises(SourceError, match="2 images, and none of them stands out"):
        open_source(path)


@pytest.mark.parametrize("xml", ["<OME", "<!DOCTYPE a [<!ENTITY b 'c'>]><OME/>"])
def test_bioformats2raw_with_damaged_ome_xml(tmp_path, xml):
    with pytest.raises(SourceError, match=r"METADATA\.ome\.xml: its OME-XML"):
        open_source(bioformats2raw(tmp_path / "a.zarr", [[RGB], [LABEL]], xml=xml))


def test_a_group_around_an_image(tmp_path):
    root = new_group(tmp_path / "a.zarr")
    write_image(root.create_group("picture"), [PLANES], "cyx")
    root.create_array("table", shape=(4,), dtype="uint8")
    check_rgb(open_source(tmp_path / "a.zarr"))
    write_image(root.create_group("another"), [PLANES], "cyx")
    with pytest.raises(SourceError, match="2 images, and they are of similar size: --image N"):
        open_source(tmp_path / "a.zarr")
    check_rgb(open_source(tmp_path / "a.zarr", Selection(image=1)))
    new_group(tmp_path / "empty.zarr")
    with pytest.raises(SourceError, match="a Zarr group without multiscales"):
        open_source(tmp_path / "empty.zarr")


def test_label_masks_are_said_to_be_left_out(tmp_path):
    root = new_group(tmp_path / "a.zarr")
    write_image(root, [PLANES], "cyx")
    labels = root.create_group("labels", attributes={"labels": ["nuclei"]})
    write_image(labels.create_group("nuclei"), [RGB[..., 0].copy()], "yx")
    source = open_source(tmp_path / "a.zarr")
    assert source.facts.notes == ("label masks (the group labels) are not in the archive",)
    check_rgb(source)


def test_damaged_chunks_are_a_source_error(tmp_path):
    write_image(new_group(tmp_path / "a.zarr"), [PLANES], "cyx", chunks=(3, 70, 90))
    (tmp_path / "a.zarr" / "0" / "0.0.0").write_bytes(b"\xff" * 100)
    with pytest.raises(SourceError, match="of level 0 failed"):
        open_source(tmp_path / "a.zarr").read(0, 0, 5, 5)


def test_conversion(tmp_path):
    from dlpr_wsi.pipeline.convert import ConvertOptions, convert
    from dlpr_wsi.sources.opening import open_archive

    xml = ome_xml(("a", ""), ("label image", ""))
    path = bioformats2raw(tmp_path / "a.zarr", [[RGB, HALF], [LABEL]], xml=xml)
    report = convert(path, tmp_path / "out.zarr", tile=32, threads=1)
    assert report.dropped == ("label",)
    archive = open_archive(tmp_path / "out.zarr")
    assert archive.mpp == (0.25, 0.25)
    np.testing.assert_array_equal(archive.read(0, 0, 90, 70), RGB)
    np.testing.assert_array_equal(archive.read(0, 0, 45, 35, 1), HALF)
    check_rgb(open_source(tmp_path / "out.zarr"), (RGB, HALF))
    report = convert(path, tmp_path / "kept.zarr", options=ConvertOptions(tile=32, keep=("label",)), threads=1)
    assert report.kept == ("label",)
    kept = zarr.open_array(tmp_path / "kept.zarr" / "associated" / "label" / "0", mode="r")[...]
    np.testing.assert_array_equal(kept[:, :20, :30], LABEL.transpose(2, 0, 1))
    with pytest.raises(UsageError, match="--plane"):
        open_source(tmp_path / "out.zarr", Selection(plane=1))
