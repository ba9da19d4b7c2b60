"""Mode colour: lattices, chroma at its own size, the search, streams by every decoder, damage."""

import io
import itertools
import random
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import dlpr
from dlpr import _native, bitstream, reference
from dlpr.errors import DlprError, UnsupportedInputError
from dlpr.frame import crc32c
from dlpr.layout import CODING_ORDER
from dlpr.modes.colour.chroma import ChromaShape, Filter
from dlpr.modes.colour.find import find_batch, pixels_batch
from dlpr.modes.colour.lattice import MATRICES, Lattice, Products, Rounding
from dlpr.modes.colour.payload import COLOUR_SIZE, payload_of
from dlpr.modes.jpeg.synthesis import synthesise_reference

JPEG = MATRICES[0]
EXPLICIT = Lattice(32768, 33000, 45941, 58065, -11277, -23401, 3, Rounding.TRUNCATE, Products.EACH)
ROUNDED = [replace(m, rounding=r, products=p) for m in (*MATRICES, EXPLICIT) for r in Rounding for p in Products]
SHAPES = [ChromaShape()] + [
    ChromaShape(kind, v, h, row, column)
    for kind in list(Filter)[1:]
    for v, h in ((1, 2), (2, 1), (2, 2))
    for row in range(v)
    for column in range(h)
]


def smooth(rng, height, width, low=60, high=190, passes=3):
    """A plane of noise that was blurred."""
    x = rng.uniform(0, 1, (height + 8, width + 8))
    for _ in range(passes):
        x = sum(np.roll(x, (i, k), (0, 1)) for i in (-1, 0, 1) for k in (-1, 0, 1)) / 9
    x = x[4 : 4 + height, 4 : 4 + width]
    x = (x - x.min()) / (x.max() - x.min() + 1e-9)
    return np.rint(low + (high - low) * x).astype(np.uint8)


def made(lattice, shape, height=48, width=44, seed=0, low=80, high=180):
    """Pixels of random planes, red, green, blue."""
    rng = np.random.default_rng(seed)
    size = shape.size(height, width)
    planes = [smooth(rng, height, width, low, high, 1), *(smooth(rng, *size, 112, 144) for _ in range(2))]
    return lattice.pixels(planes[0], *(shape.upsample(p, height, width) for p in planes[1:])), planes


def through_jpeg(quality=99, subsampling=2, side=96, crop=(3, 5, 64, 60), seed=1):
    """A tile of a decoded JPEG, cut off the grid of its blocks."""
    rng = np.random.default_rng(seed)
    rgb = np.stack([smooth(rng, side, side, 30, 220, 1), smooth(rng, side, side), smooth(rng, side, side)], -1)
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality, subsampling=subsampling)
    y, x, h, w = crop
    return np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(out.getvalue())))[y : y + h, x : x + w])


def reseal(data):
    """Make the checksum of damaged bytes right, so that what lies behind it is reached."""
    struct.pack_into("<I", data, 20, crc32c(bytes(data[24:]), crc32c(bytes(data[:20]), 0)))
    return bytes(data)


# ---- integers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", ROUNDED, ids=str)
def test_native_lattice(lattice):
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 256, (40, 50), np.uint8) for _ in range(3)]
    planes[0][0, :4], planes[1][0, :4], planes[2][0, :4] = (0, 255, 0, 255), (0, 0, 255, 255), (255, 0, 0, 255)
    (native,) = _native.colour_synthesise_batch([(lattice.fields, ChromaShape().fields, *planes)], 1)
    assert (native == lattice.pixels(*planes)[..., list(CODING_ORDER)]).all()


@pytest.mark.parametrize(
    "lattice", [*ROUNDED, Lattice(1, *[1 << 18] * 5, 255, Rounding.CEIL, Products.GREEN_OF_ROUNDED)]
)
def test_spread_is_a_bound(lattice):
    rng = np.random.default_rng(1)
    exact = rng.integers(0, 256, (3, 4000))
    for luma, chroma in ((1, 0), (0, 1), (3, 2)):
        off = [np.clip(exact[k] + rng.integers(-t, t + 1, 4000), 0, 255) for k, t in enumerate((luma, chroma, chroma))]
        error = np.abs(lattice.pixels(*exact).astype(int) - lattice.pixels(*off)).max()
        assert error <= lattice.spread(luma, chroma)


def test_libjpeg_colours():
    """Pillow's own conversion is libjpeg's arithmetic but for rounding; the decoder's pixels are on the lattice."""
    image = through_jpeg(subsampling=0)
    (found,) = find_batch([image])
    assert (found.lattice, found.shape) == (JPEG, ChromaShape())
    assert (found.lattice.pixels(*found.planes) == image).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("height", "width"), [(9, 12), (12, 9), (1, 1), (2, 3)])
def test_native_upsampling(shape, height, width):
    rng = np.random.default_rng(2)
    luma, size = rng.integers(0, 256, (height, width), np.uint8), shape.size(height, width)
    chroma = [rng.integers(0, 256, size, np.uint8) for _ in range(2)]
    (native,) = _native.colour_synthesise_batch([(JPEG.fields, shape.fields, luma, *chroma)], 1)
    full = [shape.upsample(c, height, width) for c in chroma]
    assert (native == JPEG.pixels(luma, *full)[..., list(CODING_ORDER)]).all()


@pytest.mark.parametrize("subsampling", [1, 2])
def test_triangle_is_that_of_mode_jpeg(subsampling):
    """The same filter as docs/format section 16 states it, which shares no code with this one."""
    from dlpr.modes.jpeg.parse import SourceJpeg, parse

    rng = np.random.default_rng(3)
    rgb = np.stack([smooth(rng, 48, 48) for _ in range(3)], -1)
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=95, subsampling=subsampling)
    source = SourceJpeg(out.getvalue())
    image = parse(source.data, source.tables, source.transform)
    pixels = synthesise_reference(image)[9:41, 8:40]
    shape = ChromaShape(Filter.TRIANGLE, subsampling, 2, 1 if subsampling == 2 else 0, 0)
    (found,) = find_batch([np.ascontiguousarray(pixels)])
    assert found.shape == shape
    (again,) = pixels_batch([found])
    assert (again != pixels[..., list(CODING_ORDER)]).mean() < 0.02


# ---- search -----------------------------------------------------------------------------------------------

SEEN = [
    *(replace(m, rounding=r) for m in MATRICES[:1] for r in (Rounding.NEAREST, Rounding.FLOOR)),
    *MATRICES[1:2],
    *MATRICES[4:8],
    replace(MATRICES[8], rounding=Rounding.FLOOR, products=Products.GREEN_OF_ROUNDED),
]


@pytest.mark.parametrize("lattice", SEEN, ids=str)
def test_lattice_is_found(lattice):
    image, _ = made(lattice, ChromaShape())
    (found,) = find_batch([image])
    assert (found.lattice.pixels(*found.planes) == image).all()
    assert found.lattice.number == lattice.number or found.shape == ChromaShape()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shape_is_found(shape):
    image, _ = made(JPEG, shape, 72, 68)
    (found,) = find_batch([image])
    (again,) = pixels_batch([found])
    assert found.shape == shape
    assert (again != image[..., list(CODING_ORDER)]).any(-1).mean() < 0.02


def test_clamped_pixels_have_planes():
    rng = np.random.default_rng(11)
    luma = np.clip(smooth(rng, 48, 44, 0, 255, 2).astype(int) * 2 - 128, 0, 255)
    image = JPEG.pixels(luma, smooth(rng, 48, 44, 100, 150), smooth(rng, 48, 44, 100, 150))
    assert ((image == 0) | (image == 255)).any(-1).mean() > 0.02
    (found,) = find_batch([image])
    assert (found.lattice.pixels(*found.planes) == image).all()


def test_nothing_is_found_off_the_lattice():
    rng = np.random.default_rng(4)
    image = np.stack([smooth(rng, 64, 64, 20, 230) for _ in range(3)], -1)
    assert find_batch([image]) == [None]
    assert dlpr.encode(image) == dlpr.encode(image, colour="never")


# ---- streams ----------------------------------------------------------------------------------------------


def colour_stream(image, tau=0, **options):
    data = dlpr.encode(image, tau, jpeg="never", **options)
    assert dlpr.inspect(data).mode == "colour"
    return data


def all_decoders(data):
    """The array by the reference, native and torch decoders."""
    torch_colour = pytest.importorskip("dlpr.modes.colour.torch_pixels")
    from dlpr.layout import from_planes
    from dlpr.modes.networks import weights

    stream = bitstream.parse(data)
    known = weights.find(payload_of(stream).weights_id)
    (by_torch,) = torch_colour.decode_batch([stream], known)
    return reference.decode(data), dlpr.decode(data), from_planes(by_torch, stream.header.layout)


@pytest.mark.parametrize(("lattice", "shape"), [*zip(SEEN, itertools.cycle(SHAPES[1:]), strict=False)], ids=str)
def test_decoders_agree(lattice, shape):
    image, _ = made(lattice, shape, 22, 19)
    image[5, 7] = (200, 10, 90)
    data = colour_stream(image)
    for array in all_decoders(data):
        assert (array == image).all()


@pytest.mark.parametrize("tau", [0, 1])
def test_decoders_agree_on_one_image(tau):
    """Planes at full size are coded together, luma first."""
    image = through_jpeg(99, 0, crop=(3, 5, 22, 21))
    stream = bitstream.parse(colour_stream(image))
    assert payload_of(stream).joint
    header = replace(stream.header, tau=tau)
    for array in all_decoders(bitstream.pack(replace(stream, header=header))):
        assert (array == image).all()


@pytest.mark.parametrize("tau", [1, 2, 5, 40])
def test_bound(tau):
    image = through_jpeg()
    data = dlpr.encode(image, tau, jpeg="never")
    assert np.abs(dlpr.decode(data).astype(int) - image).max() <= tau
    assert len(data) <= len(dlpr.encode(image, tau, jpeg="never", colour="never"))


def test_decoders_agree_with_a_bound():
    data = colour_stream(through_jpeg(crop=(3, 5, 24, 20)), 1)
    first, *rest = all_decoders(data)
    assert all((first == other).all() for other in rest)


@pytest.mark.parametrize(("quality", "subsampling"), [*itertools.product((98, 100), (0, 1, 2))])
def test_decoded_jpegs_shrink(quality, subsampling):
    image = through_jpeg(quality, subsampling, 128, (5, 3, 112, 118))
    data = colour_stream(image)
    assert (dlpr.decode(data) == image).all()
    assert len(data) < 0.97 * len(dlpr.encode(image, jpeg="never", colour="never"))


def test_layouts_and_batches():
    image = through_jpeg()
    other = np.ascontiguousarray(np.moveaxis(image, -1, 0)[None])
    noise = np.random.default_rng(5).integers(0, 256, (30, 30, 3), np.uint8)
    streams = dlpr.encode_batch([image, other, noise, image[..., 0]], jpeg="never")
    assert [dlpr.inspect(s).mode for s in streams] == ["colour", "colour", "stored", "coded"]
    for array, back in zip((image, other, noise, image[..., 0]), dlpr.decode_batch(streams), strict=True):
        assert back.shape == array.shape
        assert (back == array).all()
    assert streams == dlpr.encode_batch([image, other, noise, image[..., 0]], jpeg="never", threads=1)


def test_grey_pictures_have_constant_chroma():
    grey = smooth(np.random.default_rng(6), 40, 40)
    image = np.repeat(grey[..., None], 3, -1)
    data = colour_stream(image)
    assert payload_of(bitstream.parse(data)).planes[1:] == (128, 128)
    assert (dlpr.decode(data) == image).all()
    assert (reference.decode(data) == image).all()


def test_whole_stream_is_its_preview():
    image = through_jpeg()
    data = colour_stream(image)
    info = dlpr.inspect(data)
    assert not info.lossy_layer
    assert info.lossy_prefix == len(data)
    assert sum(info.bytes_by_part.values()) == info.size == len(data)
    assert (dlpr.decode(data, layer="lossy") == image).all()


def test_option():
    with pytest.raises(UnsupportedInputError, match="colour must be"):
        dlpr.encode(np.zeros((8, 8, 3), np.uint8), colour="sometimes")


def test_matrix_without_number():
    """No encoder here writes one; every decoder reads it."""
    stream = bitstream.parse(colour_stream(made(JPEG, SHAPES[5], 20, 18)[0]))
    payload = replace(payload_of(stream), lattice=EXPLICIT, residual_part=b"")
    from dlpr.modes.colour.reference import decode_planes

    draft = replace(stream, payload=payload)
    planes = decode_planes(draft)
    rgb = np.ascontiguousarray(planes[..., [CODING_ORDER.index(c) for c in range(3)]])
    data = bitstream.pack(replace(draft, header=replace(stream.header, pixel_crc=crc32c(rgb, 0))))
    assert payload_of(bitstream.parse(data)).lattice == EXPLICIT
    for array in all_decoders(data):
        assert (array == rgb).all()


# ---- damage -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream():
    image = through_jpeg(crop=(3, 5, 40, 36))
    image[9, 9] = (255, 0, 3)
    return colour_stream(image)


def test_fields_survive(stream):
    assert bitstream.pack(bitstream.parse(stream)) == stream


@pytest.mark.parametrize(
    ("at", "value", "reason", "offset"),
    [
        (24, 0xC1, "unsupported", 24),
        (24, 0x0F, "unsupported", 24),
        (25, 0x80, "unsupported", 25),
        (25, 0x41, "corrupt", 25),
        (25, 0x4D, "corrupt", 25),
        (25, 0x00 | 4, "corrupt", 25),
        (25, 0x01, "corrupt", 25),
        (25, 0x01 | 8 | 16, "corrupt", 25),
        (36, 0x09, "corrupt", 36),
        (36, 0x65, "corrupt", 36),
        (38, 0, "corrupt", 38),
        (5, 0, None, None),
    ],
)
def test_pinned_reasons(stream, at, value, reason, offset):
    data = bytearray(stream)
    data[at] = value
    with pytest.raises(DlprError) as error:
        dlpr.decode(reseal(data))
    if reason:
        assert (error.value.reason, error.value.offset) == (reason, offset)


def test_one_channel_has_no_colour_layer(stream):
    data = bytearray(stream)
    data[7] |= 32
    with pytest.raises(DlprError) as error:
        bitstream.parse(reseal(data))
    assert error.value.reason == "corrupt"


def test_every_cut_is_refused(stream):
    for size in [*range(COLOUR_SIZE + 40), *range(COLOUR_SIZE + 40, len(stream), 37)]:
        with pytest.raises(DlprError):
            dlpr.decode(stream[:size])
        if size >= 24:
            with pytest.raises(DlprError):
                dlpr.decode(reseal(bytearray(stream[:size])))


def test_damaged_streams_raise(stream):
    """Flipped bytes behind a right checksum: an error of the codec, or the samples' checksum; native as reference."""
    chance = random.Random(7)
    for i in range(300):
        data = bytearray(stream)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(24, len(data))] ^= 1 << chance.randrange(8)
        data = reseal(data)
        with pytest.raises(DlprError) as native:
            dlpr.decode(data)
        if i < 4:
            with pytest.raises(DlprError) as slow:
                reference.decode(data)
            assert type(slow.value) is type(native.value)


@pytest.mark.full
def test_many_damaged_streams(stream):
    chance = random.Random(8)
    for _ in range(10_000):
        data = bytearray(stream)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(24, len(data))] = chance.randrange(256)
        if bytes(data) == stream:
            continue
        with pytest.raises(DlprError):
            dlpr.decode(reseal(data))


def test_wild_pixels_do_not_hurt():
    """Colours drawn over the picture: never larger than without the layer, and found out quickly."""
    image = through_jpeg().copy()
    rng = np.random.default_rng(12)
    image[10:50, 8:52] = (255, 0, 0)
    wild = rng.random(image.shape[:2]) < 0.3
    image[wild] = np.stack([rng.integers(0, 256, wild.sum()), np.zeros(wild.sum()), np.full(wild.sum(), 255)], -1)
    data = dlpr.encode(image, jpeg="never")
    assert (dlpr.decode(data) == image).all()
    assert len(data) <= len(dlpr.encode(image, jpeg="never", colour="never"))
