"""DLPR as a numcodecs codec and as the object that users hold."""

import copy
import json
import pickle

import numcodecs
import numpy as np
import pytest

import dlpr
import dlpr_wsi
from dlpr import DLPR
from dlpr.errors import BitstreamError, UnsupportedInputError

RNG = np.random.default_rng(1)
TILE = np.clip(200 + RNG.normal(0, 9, (3, 40, 56)), 0, 255).astype(np.uint8)


def test_importable_from_both_packages():
    assert dlpr_wsi.DLPR is DLPR
    assert dlpr_wsi.__version__ == dlpr.__version__


@pytest.mark.parametrize("tau", [0, 1, 5])
@pytest.mark.parametrize(
    "shape", [(3, 40, 56), (40, 56, 3), (1, 1, 3, 40, 56), (40, 56), (1, 40, 56), (40, 56, 1), (3, 1, 1)]
)
def test_round_trip(shape, tau):
    image = np.resize(TILE, shape)
    codec = DLPR(tau)
    decoded = codec.decode(codec.encode(image))
    assert decoded.shape == shape
    assert decoded.flags.c_contiguous
    assert np.abs(decoded.astype(int) - image).max() <= tau


@pytest.mark.parametrize("shape", [(1, 3, 1, 40, 56), (3, 1, 40, 56), (1, 3, 1, 1, 40, 3)])
def test_colours_before_other_axes(shape):
    image = np.resize(TILE, shape)
    stream = DLPR().encode(image)
    ones = (1,) * (len(shape) - 3)
    np.testing.assert_array_equal(DLPR().decode(stream), image.reshape((*ones, 3, *shape[-2:])))
    out = np.empty(shape, np.uint8)
    np.testing.assert_array_equal(DLPR().decode(stream, out), image)


@pytest.mark.parametrize("shape", [(3, 3, 1, 8, 8), (2, 1, 8, 8), (1, 3, 2, 8, 8), (3, 2, 8, 8)])
def test_several_pictures_in_a_chunk_are_refused(shape):
    with pytest.raises(UnsupportedInputError, match="is not an image"):
        DLPR().encode(np.zeros(shape, np.uint8))


def test_stream_is_a_plain_dlpr_stream():
    assert DLPR(2).encode(TILE) == dlpr.encode(TILE, 2)


@pytest.mark.parametrize(
    "view",
    [
        TILE[:, ::2, ::-1],
        TILE.transpose(1, 2, 0),
        np.lib.stride_tricks.as_strided(TILE, (3, 20, 20), (2240, 56, 2)),
    ],
    ids=["reversed", "transposed", "strided"],
)
def test_encodes_by_index_whatever_the_strides(view):
    codec = DLPR()
    np.testing.assert_array_equal(codec.decode(codec.encode(view)), view)


def test_fortran_order_is_refused():
    with pytest.raises(UnsupportedInputError, match=r"Fortran order.*order='C'"):
        DLPR().encode(np.asfortranarray(TILE))


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (TILE.astype(np.float32), "float32"),
        (TILE.astype(np.uint16), "uint16"),
        (np.zeros((4, 8, 8), np.uint8), "4, 8, 8"),
        (np.zeros(64, np.uint8), "64"),
    ],
)
def test_unsupported_input_is_refused_by_name(image, named):
    with pytest.raises(UnsupportedInputError, match=named):
        DLPR().encode(image)


@pytest.mark.parametrize(
    "out",
    [
        np.empty(TILE.shape, np.uint8),
        np.empty(TILE.shape, np.uint8, order="F"),
        np.empty((3, 56, 40), np.uint8).transpose(0, 2, 1),
        np.empty(TILE.size, np.uint8),
        bytearray(TILE.size),
    ],
    ids=["same", "fortran", "strided", "flat", "bytearray"],
)
def test_decode_honours_out(out):
    codec = DLPR()
    assert codec.decode(codec.encode(TILE), out=out) is out
    np.testing.assert_array_equal(np.asarray(out, np.uint8).reshape(TILE.shape), TILE)


def test_decode_refuses_out_of_another_size():
    codec = DLPR()
    with pytest.raises(ValueError, match="out holds 10 bytes"):
        codec.decode(codec.encode(TILE), out=np.empty(10, np.uint8))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)])
def test_decode_takes_any_buffer(kind):
    codec = DLPR()
    np.testing.assert_array_equal(codec.decode(kind(codec.encode(TILE))), TILE)


def test_damage_is_a_typed_error():
    with pytest.raises(BitstreamError):
        DLPR().decode(b"not a stream at all, but long enough to hold a header or two of most formats")


def test_config_holds_what_is_not_default():
    assert DLPR().get_config() == {"id": "dlpr", "tau": 0}
    assert DLPR(1, threads=4).get_config() == {"id": "dlpr", "tau": 1}
    assert DLPR(1, lossy_layer=False, patch=128).get_config() == {
        "id": "dlpr",
        "tau": 1,
        "lossy_layer": False,
        "patch": 128,
    }
    assert dict(DLPR(3)) == {"name": "dlpr", "configuration": {"tau": 3}}


@pytest.mark.parametrize("codec", [DLPR(), DLPR(7), DLPR(2, lossy_layer=False, patch=64)])
def test_config_survives_json(codec):
    assert numcodecs.get_codec(json.loads(json.dumps(codec.get_config()))) == codec


def test_copies_and_comparisons():
    codec = DLPR(2, threads=3)
    for other in (copy.copy(codec), copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):
        assert isinstance(other, DLPR)
        assert other == codec
        assert hash(other) == hash(codec)
        assert other.threads == 3
    assert codec == DLPR(2)  # threads is a setting of the process, not of the data
    assert codec != DLPR(3)
    assert codec != numcodecs.Zlib()
    assert codec == {"name": "dlpr", "configuration": {"tau": 2}}
    assert repr(DLPR(2, threads=3)) == "DLPR(tau=2, threads=3)"


@pytest.mark.parametrize("tau", [-1, 256])
def test_tau_out_of_range_is_refused(tau):
    with pytest.raises(ValueError, match="tau must be from 0 to 255"):
        DLPR(tau)


@pytest.mark.parametrize("tau", [1.0, "1", None, True])
def test_tau_of_another_type_is_refused(tau):
    with pytest.raises(TypeError, match="tau must be an integer"):
        DLPR(tau)


def test_other_options_are_checked():
    with pytest.raises(ValueError, match="patch must be one of 32, 64, 128, 256"):
        DLPR(patch=100)
    with pytest.raises(TypeError, match="lossy_layer must be true or false"):
        DLPR(lossy_layer=1)


def test_numpy_integers_are_stored_as_json_numbers():
    assert json.dumps(DLPR(np.int64(3)).get_config()) == '{"id": "dlpr", "tau": 3}'


def test_unknown_option_in_metadata_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown option quality"):
        numcodecs.get_codec({"id": "dlpr", "tau": 1, "quality": 3})
