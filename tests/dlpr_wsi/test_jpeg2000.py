"""Slides of JPEG 2000 tiles through the pipeline: kept like JPEG, and exactly OpenSlide's pixels."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

from PIL import Image  # noqa: E402

import dlpr  # noqa: E402
from dlpr_wsi.pipeline.convert import ConvertOptions, convert  # noqa: E402
from dlpr_wsi.pipeline.encode import encode_chunks, padded  # noqa: E402
from dlpr_wsi.pipeline.plan import SourceTiles  # noqa: E402
from dlpr_wsi.pipeline.unkept import Unkept, why_unkept  # noqa: E402
from dlpr_wsi.pipeline.verify import verify  # noqa: E402
from dlpr_wsi.reversible.restore import restore  # noqa: E402
from dlpr_wsi.sources import Coding, SourceTile  # noqa: E402
from dlpr_wsi.sources.opening import open_source  # noqa: E402

SIDE = 64


def picture(height=150, width=200, seed=3):
    """Smooth blobs with grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth.astype(int) + rng.integers(-3, 4, smooth.shape), 0, 255).astype(np.uint8)


def coded(tile, kind, level):
    """A tile as an Aperio scanner codes it: 33003 holds Y, Cb, Cr without a transform of its own."""
    if kind == 33003:
        tile = np.asarray(Image.fromarray(tile).convert("YCbCr"))
    options = {"codecformat": "j2k", "resolutions": 6, "reversible": level == 0, "mct": kind != 33003}
    return imagecodecs.jpeg2k_encode(np.ascontiguousarray(tile), level=level, **options)


def write(path, kind, level=34, aperio=True, spoil=False):
    """Write a slide of two levels; with `spoil` its first tile is cut."""
    image = picture()
    height, width = image.shape[:2]
    text = f"Aperio Image Library v1 \r\n{width}x{height} ({SIDE}x{SIDE})|AppMag = 20|MPP = 0.5"

    def tiles(part):
        for y in range(0, part.shape[0], SIDE):
            for x in range(0, part.shape[1], SIDE):
                tile = part[y : y + SIDE, x : x + SIDE]
                pad = ((0, SIDE - tile.shape[0]), (0, SIDE - tile.shape[1]), (0, 0))
                yield coded(np.pad(tile, pad, "edge"), kind, level)

    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            part = image[::step, ::step]
            writer.write(
                tiles(part),
                shape=part.shape,
                dtype=np.uint8,
                tile=(SIDE, SIDE),
                compression=kind,
                photometric="rgb",
                metadata=None,
                subfiletype=int(step > 1),
                description=text if aperio else None,
            )
    return path


def source_levels(path):
    """All pixels of a slide."""
    source = open_source(path)
    found = [source.read(0, 0, level.width, level.height, i) for i, level in enumerate(source.facts.levels)]
    source.close()
    return found


def assert_holds(archive, expected):
    """An archive has these levels."""
    group = zarr.open_group(archive, mode="r")
    for index, wanted in enumerate(expected):
        assert np.array_equal(group[str(index)][...].transpose(1, 2, 0), wanted)


@pytest.mark.parametrize("kind", [33003, 33005])
def test_aperio_tiles_are_kept(tmp_path, kind):
    slide = write(tmp_path / "a.svs", kind)
    expected = source_levels(slide)
    report = convert(slide, tmp_path / "a.zarr", options=ConvertOptions(source_tiles=SourceTiles.ONLY))
    assert report.tiles_by_mode["j2k"] == 12 + 4
    assert report.bytes_by_mode["j2k"] < report.source_tile_bytes
    assert_holds(tmp_path / "a.zarr", expected)
    assert verify(tmp_path / "a.zarr", slide).ok
    bound = convert(slide, tmp_path / "b.zarr", tau=1)
    assert bound.tiles_by_mode["j2k"] == 12 + 4
    assert bound.max_error <= 1
    without = convert(slide, tmp_path / "c.zarr", options=ConvertOptions(source_tiles=SourceTiles.NEVER))
    assert "j2k" not in {mode for mode, count in without.tiles_by_mode.items() if count}
    assert without.archive_bytes > 2 * report.archive_bytes


def test_tiff_34712_is_kept(tmp_path):
    slide = write(tmp_path / "a.tif", 34712, aperio=False)
    expected = source_levels(slide)
    report = convert(slide, tmp_path / "a.zarr")
    assert report.tiles_by_mode["j2k"] == 12 + 4
    assert_holds(tmp_path / "a.zarr", expected)


def test_lossless_tiles_take_what_is_smallest(tmp_path):
    slide = write(tmp_path / "a.svs", 33005, level=0)
    report = convert(slide, tmp_path / "a.zarr")
    assert report.bytes_by_mode.get("j2k", 0) + report.bytes_by_mode.get("coded", 0) < report.source_tile_bytes
    options = ConvertOptions(source_tiles=SourceTiles.NEVER, tile=SIDE)
    pixels = convert(slide, tmp_path / "b.zarr", options=options)
    assert sum(report.bytes_by_mode.values()) <= sum(pixels.bytes_by_mode.values())  # at the edges too
    only = convert(slide, tmp_path / "c.zarr", options=ConvertOptions(source_tiles=SourceTiles.ONLY))
    assert set(only.tiles_by_mode) <= {"j2k", "constant"}
    assert_holds(tmp_path / "a.zarr", [picture()])


def test_tiles_that_do_not_give_the_pixels(tmp_path):
    pixels = picture(SIDE, SIDE)
    right = SourceTile(coded(pixels, 34712, 34), None, False, Coding.JPEG2000)
    wrong = SourceTile(coded(pixels[::-1], 34712, 34), None, False, Coding.JPEG2000)
    damaged = SourceTile(right.data[:100], None, False, Coding.JPEG2000)
    shown = imagecodecs.jpeg2k_decode(right.data)
    streams = encode_chunks([shown] * 3, 0, [right, wrong, damaged], 1)
    assert dlpr.inspect(streams[0]).mode == "j2k"
    assert "j2k" not in [dlpr.inspect(stream).mode for stream in streams[1:]]
    for stream in streams:
        assert np.array_equal(dlpr.decode(stream), shown.transpose(2, 0, 1))
    edge = padded(shown[:40], SIDE, SIDE, right)
    assert edge.shape == shown.shape
    assert np.abs(edge.astype(int) - shown).max() <= 1
    assert (padded(shown[:40], SIDE, SIDE, damaged)[40:] == 255).all()


@pytest.mark.parametrize(("kind", "level"), [(33003, 34), (33005, 34), (33003, 0), (33005, 0)])
def test_reversible_archives_give_the_codestreams_back(tmp_path, kind, level):
    slide = write(tmp_path / "a.svs", kind, level)
    options = ConvertOptions(reversible=True)
    report = convert(slide, tmp_path / "a.zarr", options=options)
    assert report.reversible["made_bytes"] > 0.98 * report.source_tile_bytes
    assert report.tiles_by_mode["j2k"] == 12 + 4
    assert report.bytes_by_mode["j2k"] + report.reversible["bytes"] < slide.stat().st_size
    restored = restore(tmp_path / "a.zarr", tmp_path / "out").paths[0]
    assert restored.read_bytes() == slide.read_bytes()
    assert_holds(tmp_path / "a.zarr", source_levels(slide)[:1])


def test_a_tile_that_cannot_be_made_is_kept(tmp_path):
    slide = write(tmp_path / "a.svs", 33005)
    with tifffile.TiffFile(slide) as file:
        page = file.pages[0]
        whole = {at: size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)}
    data = bytearray(slide.read_bytes())
    at = list(whole)[5]
    data[at + whole[at] - 30] ^= 0xFF  # the same length, other bytes in its last codewords
    slide.write_bytes(data)
    report = convert(slide, tmp_path / "a.zarr", options=ConvertOptions(reversible=True))
    assert 0 < report.reversible["made_bytes"] <= report.source_tile_bytes
    assert restore(tmp_path / "a.zarr", tmp_path / "out").paths[0].read_bytes() == bytes(data)


def test_tiles_are_kept_for_reversible_archives_where_pixels_take_less():
    jpeg = imagecodecs.jpeg8_encode(picture(SIDE, SIDE), level=70)
    pixels = imagecodecs.jpeg8_decode(jpeg)  # a JPEG lies behind the lossless codestream
    tile = SourceTile(coded(pixels, 33005, 0), None, False, Coding.JPEG2000)
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    other = SourceTile(coded(pixels[::-1], 33005, 0), None, False, Coding.JPEG2000)
    modes = {}
    for keep in (False, True):
        streams = encode_chunks([pixels, white, pixels], 0, [tile, tile, other], 1, keep_source=keep)
        modes[keep] = [dlpr.inspect(stream).mode for stream in streams]
        for stream, wanted in zip(streams, (pixels, white, pixels), strict=True):
            assert np.array_equal(dlpr.decode(stream).transpose(1, 2, 0), wanted)
    assert modes[False][0] != "j2k"
    assert modes[True] == ["j2k", "constant", modes[False][2]]


def test_jpeg_tiles_are_kept_for_reversible_archives_where_planes_take_less():
    jpeg = imagecodecs.jpeg8_encode(picture(128, 128), level=100, subsampling="444")
    tile = SourceTile(jpeg, None, True)
    shown = imagecodecs.jpeg8_decode(jpeg)
    found = [dlpr.inspect(encode_chunks([shown], 0, [tile], 1, keep_source=keep)[0]).mode for keep in (False, True)]
    assert found == ["colour", "jpeg"]


def test_few_bits_of_a_lossless_tile_do_not_settle_it():
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    jpeg = imagecodecs.jpeg8_encode(picture(24, 24), level=70)
    pixels[:24, :24] = imagecodecs.jpeg8_decode(jpeg)  # the rest is background: few bits for each pixel of all
    tile = SourceTile(coded(pixels, 33005, 0), None, False, Coding.JPEG2000)
    with_tile, without = (encode_chunks([pixels], 0, [one], 1)[0] for one in (tile, None))
    assert 8 * len(tile.data) < 4 * SIDE * SIDE
    assert len(with_tile) <= len(without)


def test_tiles_that_are_of_no_use_are_counted_by_reason():
    pixels = picture(SIDE, SIDE)
    data = coded(pixels, 34712, 34)
    shown = imagecodecs.jpeg2k_decode(data)
    right = SourceTile(data, None, False, Coding.JPEG2000)
    assert why_unkept(right, "j2k", shown) is None
    assert why_unkept(right, "coded", shown[:40]) is None  # of use, but something else was smaller
    wrong = SourceTile(coded(pixels[::-1], 34712, 34), None, False, Coding.JPEG2000)
    assert why_unkept(wrong, "coded", shown) is Unkept.DIFFERENT
    cut = SourceTile(data[:100], None, False, Coding.JPEG2000)
    assert why_unkept(cut, "coded", shown) is Unkept.UNREADABLE
