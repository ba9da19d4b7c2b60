"""DLPR on every route into Zarr 3: formats 2 and 3, chunked and sharded."""

import threading

import numpy as np
import pytest

import dlpr
from dlpr import DLPR
from dlpr.errors import BitstreamError, ChecksumError, UnsupportedInputError

zarr = pytest.importorskip("zarr", minversion="3.0")

RNG = np.random.default_rng(2)
PLANAR = np.clip(210 + RNG.normal(0, 6, (3, 100, 130)), 0, 255).astype(np.uint8)  # edge chunks at 64 px


def layout(image, chunks):
    return {"shape": image.shape, "chunks": chunks, "dtype": "uint8", "fill_value": 255}


def v2_compressor(path, codec, image, chunks):
    return zarr.open(path, mode="w", zarr_format=2, compressor=codec, **layout(image, chunks))


def v2_create_array(path, codec, image, chunks):
    return zarr.create_array(path, zarr_format=2, compressors=codec, **layout(image, chunks))


def v3_codecs(path, codec, image, chunks):
    return zarr.open(path, mode="w", zarr_format=3, codecs=[codec], **layout(image, chunks))


def v3_serializer(path, codec, image, chunks):
    return zarr.create_array(path, serializer=codec, compressors=None, **layout(image, chunks))


def v3_sharded(path, codec, image, chunks):
    shards = tuple(2 * size if size > 3 else size for size in chunks)
    return zarr.create_array(path, serializer=codec, compressors=None, shards=shards, **layout(image, chunks))


ROUTES = [v2_compressor, v2_create_array, v3_codecs, v3_serializer, v3_sharded]
IMAGES = {
    "planar": (PLANAR, (3, 64, 64)),
    "interleaved": (PLANAR.transpose(1, 2, 0), (64, 64, 3)),
    "leading ones": (PLANAR[None, None], (1, 1, 3, 64, 64)),
    "tczyx": (PLANAR[None, :, None], (1, 3, 1, 64, 64)),
    "czyx": (np.stack([PLANAR[:, :64, :64], PLANAR[::-1, -64:, :64]], axis=1), (3, 1, 64, 64)),
    "tczyx grey": (PLANAR[None, :2, None, :64, :64], (1, 1, 1, 64, 64)),
    "tczyx narrow": (PLANAR[None, :, None, :, :3], (1, 3, 1, 64, 3)),
    "one channel": (PLANAR[0], (64, 64)),
    "fortran": (np.asfortranarray(PLANAR), (3, 64, 64)),
    "strided": (PLANAR[:, ::-2, ::3], (3, 32, 32)),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("route", ROUTES)
def test_round_trip(tmp_path, route, name):
    image, chunks = IMAGES[name]
    for tau in (0, 2):
        path = str(tmp_path / f"{tau}.zarr")
        route(path, DLPR(tau), image, chunks)[...] = image
        decoded = zarr.open(path, mode="r")[...]
        assert np.abs(decoded.astype(int) - image).max() <= tau


@pytest.mark.parametrize("route", ROUTES)
def test_partial_writes_and_reads(tmp_path, route):
    array = route(str(tmp_path / "a.zarr"), DLPR(), PLANAR, (3, 64, 64))
    expected = np.full_like(PLANAR, 255)
    for part in (np.s_[:, 10:80, 5:70], np.s_[:, 60:100, 60:130], np.s_[1, 3:5, :]):
        array[part] = PLANAR[part]
        expected[part] = PLANAR[part]
    np.testing.assert_array_equal(array[:, 33:90, 100:], expected[:, 33:90, 100:])
    np.testing.assert_array_equal(array[...], expected)


def test_chunks_are_plain_dlpr_streams(tmp_path):
    v3_serializer(str(tmp_path / "a.zarr"), DLPR(1), PLANAR, (3, 64, 64))[...] = PLANAR
    stream = (tmp_path / "a.zarr" / "c" / "0" / "0" / "1").read_bytes()
    assert dlpr.inspect(stream).tau == 1
    assert dlpr.decode(stream).shape == (3, 64, 64)


def test_colours_before_other_axes_are_one_rgb_picture(tmp_path):
    v3_serializer(str(tmp_path / "a.zarr"), DLPR(), PLANAR[None, :, None], (1, 3, 1, 64, 64))[...] = PLANAR[
        None, :, None
    ]
    stream = (tmp_path / "a.zarr" / "c" / "0" / "0" / "0" / "0" / "0").read_bytes()
    assert stream == dlpr.encode(PLANAR[None, None, :, :64, :64])


def compressors_list(path):
    zarr.create_array(path, compressors=[DLPR()], **layout(PLANAR, (3, 64, 64)))


def compressors_alone(path):
    zarr.create_array(path, compressors=DLPR(), **layout(PLANAR, (3, 64, 64)))


def compressors_beside_the_serializer(path):
    zarr.create_array(path, serializer=DLPR(), compressors=[DLPR()], **layout(PLANAR, (3, 64, 64)))


def compressors_sharded(path):
    zarr.create_array(path, compressors=[DLPR()], shards=(3, 128, 128), **layout(PLANAR, (3, 64, 64)))


def filters(path):
    zarr.create_array(path, filters=[DLPR()], **layout(PLANAR, (3, 64, 64)))


@pytest.mark.parametrize(
    "create",
    [compressors_list, compressors_alone, compressors_beside_the_serializer, compressors_sharded, filters],
)
def test_in_the_wrong_place_the_error_says_what_to_pass(tmp_path, create):
    with pytest.raises(TypeError, match=r"DLPR codes whole chunks.*pass serializer=DLPR\(\), compressors=None"):
        create(tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr" / "zarr.json").exists()


def test_metadata_is_minimal(tmp_path):
    array = v3_serializer(str(tmp_path / "a.zarr"), DLPR(1, threads=2), PLANAR, (3, 64, 64))
    assert array.metadata.to_dict()["codecs"] == ({"name": "dlpr", "configuration": {"tau": 1}},)
    assert array.metadata.codecs[0].threads == 2


def test_a_batch_is_one_call(tmp_path, monkeypatch):
    calls = []
    batched = dlpr.encode_batch, dlpr.decode_batch

    def encode_batch(images, *args, **kwargs):
        calls.append(("encode", len(images), threading.current_thread() is threading.main_thread()))
        return batched[0](images, *args, **kwargs)

    def decode_batch(streams, *args, **kwargs):
        calls.append(("decode", len(streams), threading.current_thread() is threading.main_thread()))
        return batched[1](streams, *args, **kwargs)

    monkeypatch.setattr(dlpr, "encode_batch", encode_batch)
    monkeypatch.setattr(dlpr, "decode_batch", decode_batch)
    image = np.tile(PLANAR[:, :64, :64], (1, 4, 4))
    with zarr.config.set({"codec_pipeline.batch_size": 16}):
        array = v3_serializer(str(tmp_path / "a.zarr"), DLPR(), image, (3, 64, 64))
        array[...] = image
        np.testing.assert_array_equal(array[...], image)
    assert calls == [("encode", 16, False), ("decode", 16, False)]


def test_chunks_that_are_missing_read_as_the_fill_value(tmp_path):
    with zarr.config.set({"codec_pipeline.batch_size": 16}):
        array = v3_serializer(str(tmp_path / "a.zarr"), DLPR(), PLANAR, (3, 64, 64))
        array[:, :64, :64] = PLANAR[:, :64, :64]
        decoded = array[...]
    np.testing.assert_array_equal(decoded[:, :64, :64], PLANAR[:, :64, :64])
    assert (decoded[:, 64:] == 255).all()


@pytest.mark.parametrize(
    ("dtype", "chunks", "named"),
    [
        ("float32", (3, 64, 64), r"dtype float32 is not supported.*uint8"),
        ("int8", (3, 64, 64), "dtype int8 is not supported"),
        ("uint8", (2, 64, 64), r"shape \(2, 64, 64\) is not an image.*\(3, H, W\)"),
        ("uint8", (4, 64, 64), r"shape \(4, 64, 64\) is not an image"),
    ],
)
def test_unsupported_arrays_are_refused_when_created(tmp_path, dtype, chunks, named):
    with pytest.raises(UnsupportedInputError, match=named):
        zarr.create_array(
            tmp_path / "a.zarr",
            shape=(4, 128, 128),
            dtype=dtype,
            chunks=chunks,
            serializer=DLPR(),
            compressors=None,
        )
    assert not (tmp_path / "a.zarr" / "zarr.json").exists()


def test_unsupported_dtype_is_refused_when_a_sharded_array_is_created(tmp_path):
    with pytest.raises(UnsupportedInputError, match="dtype float32 is not supported"):
        zarr.create_array(
            tmp_path / "a.zarr",
            shape=(3, 128, 128),
            dtype="float32",
            chunks=(3, 64, 64),
            shards=(3, 128, 128),
            serializer=DLPR(),
            compressors=None,
        )
    assert not (tmp_path / "a.zarr" / "zarr.json").exists()


def test_unsupported_chunks_in_shards_are_refused(tmp_path):
    """Newer versions of zarr ask the codec when the array is created, older ones at the first write."""
    with pytest.raises(UnsupportedInputError, match="4, 64, 64"):
        zarr.create_array(
            tmp_path / "a.zarr",
            shape=(4, 128, 128),
            dtype="uint8",
            chunks=(4, 64, 64),
            shards=(4, 128, 128),
            serializer=DLPR(),
            compressors=None,
        )[...] = 7


@pytest.mark.parametrize("sharded", [False, True])
def test_stack_of_images(tmp_path, sharded):
    image = np.stack([PLANAR, 255 - PLANAR, PLANAR // 2])
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=image.shape,
        dtype="uint8",
        chunks=(1, 3, 64, 64),
        shards=(2, 3, 128, 128) if sharded else None,
        serializer=DLPR(),
        compressors=None,
    )
    array[...] = image
    np.testing.assert_array_equal(zarr.open(tmp_path / "a.zarr", mode="r")[...], image)


def test_format_2_float_array_is_refused_when_written(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(3, 64, 64), dtype="f4", zarr_format=2, compressors=DLPR())
    with pytest.raises(UnsupportedInputError, match="float32"):
        array[...] = 1.5


def test_format_2_fortran_array_is_refused_when_written(tmp_path):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(3, 64, 64), dtype="u1", zarr_format=2, compressors=DLPR(), order="F"
    )
    with pytest.raises(UnsupportedInputError, match="order='C'"):
        array[...] = PLANAR[:, :64, :64]


def test_unknown_option_in_metadata_is_refused_by_name(tmp_path):
    v3_serializer(str(tmp_path / "a.zarr"), DLPR(1), PLANAR, (3, 64, 64))
    metadata = tmp_path / "a.zarr" / "zarr.json"
    text = metadata.read_text()
    metadata.write_text(text.replace('"tau": 1', '"tau": 1, "quality": 3'))
    assert metadata.read_text() != text
    with pytest.raises(ValueError, match="unknown option quality"):
        zarr.open(str(tmp_path / "a.zarr"), mode="r")


def test_damaged_chunk_raises_and_never_reads_as_pixels(tmp_path):
    array = v3_serializer(str(tmp_path / "a.zarr"), DLPR(), PLANAR, (3, 64, 64))
    array[...] = PLANAR
    chunk = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[-5] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ChecksumError):
        array[:, :8, :8]
    np.testing.assert_array_equal(array[:, :, 64:], PLANAR[:, :, 64:])


def test_chunk_of_another_shape_raises(tmp_path):
    array = v3_serializer(str(tmp_path / "a.zarr"), DLPR(), PLANAR, (3, 64, 64))
    array[...] = PLANAR
    (tmp_path / "a.zarr" / "c" / "0" / "0" / "0").write_bytes(dlpr.encode(PLANAR))
    with pytest.raises(BitstreamError, match=r"\(3, 100, 130\)"):
        array[:, :8, :8]
