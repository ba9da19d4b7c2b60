"""Chunks to streams and back: the only place where the pipeline calls the codec."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dlpr
from dlpr.errors import DeviceError, DlprError
from dlpr.modes.jpeg.fields import ColourTransform
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import JpegPiece, SourceJpeg, SourcePieces, image_of
from dlpr.modes.jpeg.synthesis import synthesise
from dlpr_wsi.pipeline.gpu import decode_on_device
from dlpr_wsi.pipeline.jpeg2000 import j2k_pixels, source_j2k
from dlpr_wsi.sources import Coding, SourceTile

__all__ = [
    "Decoder",
    "decode_chunks",
    "encode_chunks",
    "jpeg_image",
    "keeps_jpeg",
    "mode_name",
    "padded",
    "source_jpeg",
]


def mode_name(stream: bytes) -> str:
    """Return how a stream is coded: coded, constant, stored, jpeg, colour, j2k."""
    return str(dlpr.inspect(stream).mode)


def keeps_jpeg() -> bool:
    """Tell whether the installed codec can keep the JPEG data of a slide's tile."""
    return "source_jpegs" in inspect.signature(dlpr.encode_batch).parameters


def source_jpeg(tile: SourceTile) -> SourceJpeg | SourcePieces:
    """Return a stored tile in the codec's terms."""
    if tile.pieces:
        return SourcePieces(
            tuple(JpegPiece(_whole(piece.tile), piece.at, piece.shown) for piece in tile.pieces), tile.background
        )
    return _whole(tile)


def _whole(tile: SourceTile) -> SourceJpeg:
    """Return one JPEG in the codec's terms."""
    transform = ColourTransform.YCBCR if tile.ycbcr else ColourTransform.NONE
    return SourceJpeg(tile.data, tile.tables, transform, tile.offset, tile.extended)


def jpeg_image(tile: SourceTile, height: int, width: int) -> JpegImage | None:
    """Return the coefficients behind a chunk of a size in px; None where the codec cannot read the tile."""
    return image_of(source_jpeg(tile), height, width)


def _source(tile: SourceTile) -> Any:
    """Return a stored tile of any coding in the codec's terms."""
    return source_j2k(tile) if tile.coding is Coding.JPEG2000 else source_jpeg(tile)


def padded(
    pixels: NDArray[np.uint8], height: int, width: int, tile: SourceTile | None, fill: int = 255
) -> NDArray[np.uint8]:
    """Fill a chunk at the edge of a level up to its full size.

    With white, channels with black; where the slide's own tile is at hand with what it has there, so that it can
    be kept.

    Parameters
    ----------
    pixels : ndarray of uint8, (h, w, samples)
        At most of the full size.
    height, width : int
        The full size in px.
    tile : SourceTile or None
        The slide's own tile at this place.
    fill : int
        The sample that fills up: `dlpr_wsi.sinks.omezarr.fill_value`.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    out = np.full((height, width, pixels.shape[2]), fill, np.uint8)
    if tile is not None and keeps_jpeg():
        if tile.coding is Coding.JPEG2000:
            whole = j2k_pixels(tile)
            if whole is not None and whole.shape == out.shape:
                out = whole
        else:
            image = jpeg_image(tile, height, width)
            if image is not None and image.components == out.shape[2]:
                out = synthesise(image)
    out[: pixels.shape[0], : pixels.shape[1]] = pixels
    return out


def encode_chunks(
    chunks: Sequence[NDArray[np.uint8]],
    tau: int,
    tiles: Sequence[SourceTile | None],
    threads: int,
    prior: dlpr.Prior | None = None,
    keep_source: bool = False,
    tuned: dlpr.Tuned | None = None,
    device: dlpr.Device | None = None,
) -> list[bytes]:
    """Encode chunks of (height, width, 3) as streams of (3, height, width); of one channel, 1 in place of 3.

    Parameters
    ----------
    chunks : sequence of ndarray of uint8
        Padded to full size.
    tau : int
        Bound on the error of every sample.
    tiles : sequence of SourceTile or None
        The slide's own tile of each chunk, where it may be kept.
    threads : int
        Of the codec.
    prior : dlpr.Prior or None
        The slide's, see `dlpr.Prior`.
    keep_source : bool
        Keep the slide's own tile wherever its pixels are the chunk's, even where the pixels alone take less.
    tuned : dlpr.Tuned or None
        Weights tuned to the slide.
    device : dlpr.Device or None
        Where the networks run; None: natively on the CPU.
    """
    same: dict[tuple[int, ...], int] = {}  # background: one colour, coded once
    places: list[int] = []
    todo: list[int] = []
    for index, chunk in enumerate(chunks):
        colour = _only_colour(chunk)
        place = len(todo) if colour is None else same.setdefault((*colour, *chunk.shape), len(todo))
        if place == len(todo):
            todo.append(index)
        places.append(place)
    images = [chunks[index].transpose(2, 0, 1) for index in todo]
    options: dict[str, Any] = {}
    if keeps_jpeg() and any(tiles[index] is not None for index in todo):
        options["sources"] = [_source(tile) if (tile := tiles[index]) is not None else None for index in todo]
        if keep_source:
            options["keep_source"] = True
    learnt: dict[str, Any] = {"prior": prior, "tuned": tuned}
    streams = dlpr.encode_batch(images, tau, threads=threads, device=device, **learnt, **options)
    return [streams[place] for place in places]


def _only_colour(chunk: NDArray[np.uint8]) -> tuple[int, ...] | None:
    """Return the colour of a chunk that has one; None for any other."""
    colour = chunk[0, 0]
    if (chunk[:: max(1, chunk.shape[0] // 8), :: max(1, chunk.shape[1] // 8)] != colour).any():
        return None
    if any((chunk[..., channel] != colour[channel]).any() for channel in range(chunk.shape[2])):
        return None
    return tuple(colour.tolist())


@dataclass(frozen=True)
class Decoder:
    """Where chunks are decoded.

    Parameters
    ----------
    threads : int
        Of the native decoder.
    device : dlpr.Device or None
        Where the networks run; None: natively on the CPU.
    """

    threads: int = 1
    device: dlpr.Device | None = None


Expected = Sequence[NDArray[np.uint8]] | None


def decode_chunks(
    streams: Sequence[bytes], decoder: Decoder, expected: Expected = None
) -> list[NDArray[np.uint8] | DlprError]:
    """Decode streams; a damaged one gives its error in place of its pixels, equal ones share an array.

    ``expected``: the chunks that were encoded, where they are at hand; they help a device, see `dlpr.decode_batch`.
    """
    first = {stream: i for i, stream in reversed(list(enumerate(streams)))}
    different = list(dict.fromkeys(streams))
    hopes = None if expected is None else [expected[first[stream]] for stream in different]
    found = dict(zip(different, _decode_each(different, decoder, hopes), strict=True))
    return [found[stream] for stream in streams]


def _decode_each(streams: Sequence[bytes], decoder: Decoder, expected: Expected) -> list[NDArray[np.uint8] | DlprError]:
    """Decode streams in one batch; natively one by one if one of them is damaged."""
    try:
        return list(_decode(streams, decoder, expected))
    except DeviceError:
        raise  # the streams have no part in it
    except DlprError as error:
        if len(streams) == 1:
            return [error]
    alone = Decoder(decoder.threads)
    return [image for stream in streams for image in _decode_each([stream], alone, None)]


def _decode(streams: Sequence[bytes], decoder: Decoder, expected: Expected) -> Sequence[NDArray[np.uint8]]:
    if decoder.device is None:
        return dlpr.decode_batch(streams, threads=decoder.threads)
    return decode_on_device(streams, decoder.device, decoder.threads, expected)
