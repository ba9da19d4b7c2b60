"""A chunk across several JPEGs: joined blocks give the pixels that the JPEGs give, wherever it begins."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlpr
from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.parse import JpegPiece, SourceJpeg, SourcePieces, image_of
from dlpr.modes.jpeg.synthesis import synthesise

Image = pytest.importorskip("PIL.Image")
SIDE = 48


def picture(seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 3 * SIDE, : 3 * SIDE]
    shade = 60 * np.sin(x / 9 + seed) * np.cos(y / 13)
    return np.clip(np.stack([200 + shade / 2, 140 + shade, 180 - shade], -1) + rng.normal(0, 4, (*x.shape, 3)), 0, 255)


def coded(pixels, quality=75, subsampling="4:4:4"):
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return out.getvalue()


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def grid(subsampling="4:4:4", quality=lambda row, column: 75):
    """Return nine JPEGs by (row, column), and their pixels side by side."""
    image, tiles, out = picture(), {}, np.empty((3 * SIDE, 3 * SIDE, 3), np.uint8)
    for row in range(3):
        for column in range(3):
            place = np.s_[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            tiles[row, column] = coded(image[place], quality(row, column), subsampling)
            out[place] = pixels_of(tiles[row, column])
    return tiles, out


def source(tiles, y, x, skip=()):
    pieces = [
        JpegPiece(SourceJpeg(data), (row * SIDE - y, column * SIDE - x), (0, 0, SIDE, SIDE))
        for (row, column), data in tiles.items()
        if (row, column) not in skip
    ]
    return SourcePieces(tuple(pieces))


@settings(max_examples=25, deadline=None)
@given(y=st.integers(0, SIDE), x=st.integers(0, SIDE), height=st.integers(9, 2 * SIDE), width=st.integers(9, 2 * SIDE))
def test_joined_blocks_are_exact_without_subsampling(y, x, height, width):
    tiles, whole = grid()
    image = image_of(source(tiles, y, x), height, width)
    np.testing.assert_array_equal(synthesise(image), whole[y : y + height, x : x + width])


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2"])
@pytest.mark.parametrize(("y", "x"), [(16, 32), (19, 37), (0, 5)])
def test_subsampled_chroma_differs_at_edges_only(subsampling, y, x):
    tiles, whole = grid(subsampling)
    expected = whole[y : y + 64, x : x + 64]
    image = image_of(source(tiles, y, x), 64, 64)
    wrong = (synthesise(image) != expected).any(axis=-1)
    rows, columns = np.arange(y, y + 64) % SIDE, np.arange(x, x + 64) % SIDE
    far = (np.minimum(rows, SIDE - 1 - rows) > 1)[:, None] & (np.minimum(columns, SIDE - 1 - columns) > 1)[None]
    assert not wrong[1:-1, 1:-1][far[1:-1, 1:-1]].any()
    chunk = np.ascontiguousarray(expected.transpose(2, 0, 1))
    stream = dlpr.encode(chunk, source_jpeg=source(tiles, y, x))
    assert dlpr.inspect(stream).mode == "jpeg"
    np.testing.assert_array_equal(dlpr.decode(stream), chunk)


def test_where_nothing_lies_there_is_background():
    tiles, _ = grid()
    pixels = synthesise(image_of(source(tiles, 0, 0, skip={(1, 1), (0, 2)}), 96, 144))
    for empty in (pixels[48:96, 48:96], pixels[:48, 96:]):
        assert np.abs(empty.astype(int) - 255).max() <= 4  # as near as the tables let it be


def test_hidden_parts_are_hidden():
    first, second = coded(picture()[:SIDE, :SIDE]), coded(picture(5)[:SIDE, :SIDE])
    pieces = (
        JpegPiece(SourceJpeg(first), (0, 0), (0, 0, SIDE, SIDE)),
        JpegPiece(SourceJpeg(second), (0, 32), (0, 8, SIDE, 40)),
    )
    pixels = synthesise(image_of(SourcePieces(pieces), SIDE, 80))
    np.testing.assert_array_equal(pixels[:, :40], pixels_of(first)[:, :40])
    np.testing.assert_array_equal(pixels[:, 40:], pixels_of(second)[:, 8:])


def test_jpegs_that_do_not_agree():
    """Most of the chunk decides; where no kind has most of it there is no source."""
    tiles, whole = grid(quality=lambda row, column: 75 if column < 2 else 40)
    image = image_of(source(tiles, 8, 8), 64, 100)
    np.testing.assert_array_equal(synthesise(image)[:, :88], whole[8:72, 8:96])
    assert image_of(source(tiles, 8, 40), 64, 100) is None
    assert image_of(SourcePieces(()), 64, 64) is None
    broken = {place: data[:60] for place, data in tiles.items()}
    assert image_of(source(broken, 8, 8), 64, 64) is None
    assert image_of(3, 8, 8) is None
    with pytest.raises(UnsupportedInputError, match="SourcePieces"):
        dlpr.encode(np.zeros((8, 8, 3), np.uint8), source=3)
