"""Slides of JPEG 2000 tiles through the pipeline: kept like JPEG, and exactly OpenSlide's pixels."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

openslide = pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

from PIL import Image  # noqa: E402

import dlpr  # noqa: E402
from dlpr_wsi.cli import main  # noqa: E402
from dlpr_wsi.errors import ArchiveError, UsageError  # noqa: E402
from dlpr_wsi.export import ExportCodec, export, export_lines  # noqa: E402
from dlpr_wsi.pipeline.convert import ConvertOptions, convert  # noqa: E402
from dlpr_wsi.pipeline.encode import encode_chunks, padded  # noqa: E402
from dlpr_wsi.pipeline.plan import Pyramid, SourceTiles  # noqa: E402
from dlpr_wsi.pipeline.unkept import Unkept, why_unkept  # noqa: E402
from dlpr_wsi.pipeline.verify import verify  # noqa: E402
from dlpr_wsi.reversible.restore import restore  # noqa: E402
from dlpr_wsi.sinks.omezarr import OmeVersion  # noqa: E402
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


def shown(path):
    """Levels, size of a px and magnification by OpenSlide."""
    with openslide.OpenSlide(path) as slide:
        facts = [slide.properties.get(f"openslide.{name}") for name in ("mpp-x", "objective-power")]
        sizes = slide.level_dimensions
        return [np.asarray(slide.read_region((0, 0), i, size)) for i, size in enumerate(sizes)], facts


def stored(path, *, subifds=False):
    """Tiles of each level as tifffile decodes them, and their compression."""
    with tifffile.TiffFile(path) as file:
        pages = [file.pages.first, *file.pages.first.pages] if subifds else list(file.pages)
        return [(int(page.compression), page.asarray()) for page in pages]


@pytest.mark.parametrize(("kind", "level"), [(33003, 34), (33005, 34), (33005, 25), (33003, 0), (33005, 0)])
def test_exports_are_the_slides_codestreams(tmp_path, kind, level):
    slide, out = write(tmp_path / "a.svs", kind, level), tmp_path / "out.svs"
    report = convert(slide, tmp_path / "a.zarr", options=ConvertOptions(source_tiles=SourceTiles.ONLY))
    exported = export(tmp_path / "a.zarr", out, codec=ExportCodec.SOURCE_J2K, subifds=False)
    counts = exported.source_j2k
    assert (counts.kept, counts.recoded, counts.nearest) == (16, 0, 0)
    assert exported.compared == (counts.equal == 16)
    assert counts.equal == 16
    (levels, facts), (expected, wanted) = shown(out), shown(slide)
    assert facts == wanted == ["0.5", "20"]
    for one, other in zip(levels, expected, strict=True):
        assert np.array_equal(one, other)
    for (code, one), (_, other) in zip(stored(out), stored(slide), strict=True):
        assert code == kind
        assert np.array_equal(one, other)
    assert out.stat().st_size < 1.05 * slide.stat().st_size
    again = convert(out, tmp_path / "b.zarr", options=ConvertOptions(source_tiles=SourceTiles.ONLY))
    assert again.tiles_by_mode == report.tiles_by_mode
    assert "16 tiles are the slide's JPEG 2000" in "\n".join(export_lines(exported))


@pytest.mark.parametrize("kind", [33005, 34712])
def test_ome_tiff_of_the_slides_codestreams(tmp_path, kind):
    slide, out = write(tmp_path / "a.tif", kind, aperio=kind == 33005), tmp_path / "out.ome.tiff"
    convert(slide, tmp_path / "a.zarr")
    assert main(["export", str(tmp_path / "a.zarr"), str(out), "--codec", "source-j2k"]) == 0
    for (code, one), (_, other) in zip(stored(out, subifds=True), stored(slide), strict=True):
        assert code == 34712
        assert np.array_equal(one, other)


def test_exports_that_are_refused(tmp_path):
    convert(write(tmp_path / "y.svs", 33003), tmp_path / "y.zarr")
    with pytest.raises(UsageError, match=r"--pages.*33003"):
        export(tmp_path / "y.zarr", tmp_path / "y.tiff", codec=ExportCodec.SOURCE_J2K)
    with pytest.raises(UsageError, match="lossless"):
        export(tmp_path / "y.zarr", tmp_path / "y.tiff", codec=ExportCodec.SOURCE_J2K, quality=80)
    Image.fromarray(picture()).save(tmp_path / "p.png")
    convert(tmp_path / "p.png", tmp_path / "p.zarr")
    with pytest.raises(ArchiveError, match="keeps no JPEG 2000 tiles on level 0"):
        export(tmp_path / "p.zarr", tmp_path / "p.tiff", codec=ExportCodec.SOURCE_J2K)
    assert not (tmp_path / "y.tiff").exists()
    assert not (tmp_path / "p.tiff").exists()


@pytest.mark.parametrize("kind", [33003, 33005])
def test_exports_of_mixed_tiles(tmp_path, kind):
    """Other chunks are lossless; of Y, Cb, Cr white is exact, colours are the nearest; both kinds are refused."""
    options = ConvertOptions(version=OmeVersion.V04)
    for each in (33003, 33005):
        convert(write(tmp_path / f"{each}.svs", each), tmp_path / f"{each}.zarr", options=options)
    archive, place, out = tmp_path / f"{kind}.zarr", tmp_path / f"{kind}.zarr/0/0/1/1", tmp_path / "out.tif"
    white, colours = np.full((SIDE, SIDE, 3), 255, np.uint8), picture(SIDE, SIDE)
    for pixels, exact in ((white, True), (colours, kind == 33005)):
        place.write_bytes(dlpr.encode(pixels.transpose(2, 0, 1).copy()))
        report = export(archive, out, codec=ExportCodec.SOURCE_J2K, subifds=False, overwrite=True)
        counts = report.source_j2k
        assert (counts.kept, counts.recoded, counts.nearest) == (15, 1, int(not exact))
        assert report.compared == exact == (counts.equal == 16)
        part = shown(out)[0][0][SIDE : 2 * SIDE, SIDE : 2 * SIDE, :3]
        off = np.abs(part.astype(int) - pixels).max()
        assert off == 0 if exact else 0 < off <= 2
    other = tmp_path / f"{33003 + 33005 - kind}.zarr/0/0/1/1"
    place.write_bytes(other.read_bytes())
    with pytest.raises(ArchiveError, match=r"row 1 column 1 is a JPEG 2000 tile of .*, those before it of .*"):
        export(archive, tmp_path / "c.svs", codec=ExportCodec.SOURCE_J2K, subifds=False)
    place.write_bytes(place.read_bytes()[:-40])
    with pytest.raises(ArchiveError, match=r"row 1 column 1"):
        export(archive, tmp_path / "c.svs", codec=ExportCodec.SOURCE_J2K, subifds=False)
    assert not (tmp_path / "c.svs").exists()


def test_a_tile_that_was_found_in_pixels_is_no_codestream(tmp_path):
    """A chunk may be all of a JPEG 2000 image that is found in its pixels; its coefficients are not the slide's."""
    convert(write(tmp_path / "a.svs", 33005), tmp_path / "a.zarr", options=ConvertOptions(version=OmeVersion.V04))
    grain = np.random.default_rng(1).integers(-20, 21, (SIDE, SIDE, 1))
    detailed = np.clip(picture(SIDE, SIDE, 5) // 2 + 60 + grain, 0, 255).astype(np.uint8)
    pixels = imagecodecs.jpeg2k_decode(coded(detailed, 33005, 31))
    found = dlpr.encode(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    assert dlpr.inspect(found).mode == "j2k"
    (tmp_path / "a.zarr/0/0/1/1").write_bytes(found)
    report = export(tmp_path / "a.zarr", tmp_path / "out.tif", codec=ExportCodec.SOURCE_J2K, subifds=False)
    assert (report.source_j2k.kept, report.source_j2k.recoded) == (15, 1)
    assert np.array_equal(shown(tmp_path / "out.tif")[0][0][SIDE : 2 * SIDE, SIDE : 2 * SIDE, :3], pixels)


def test_exports_of_levels_that_the_slide_had_not(tmp_path):
    """Made levels become lossless JPEG 2000; within tau of the archive's samples the coefficients are the slide's."""
    slide, whole = tmp_path / "a.tif", picture(2 * SIDE, 3 * SIDE)
    places = [(y, x) for y in range(0, 2 * SIDE, SIDE) for x in range(0, 3 * SIDE, SIDE)]
    with tifffile.TiffWriter(slide) as writer:
        writer.write(
            (coded(whole[y : y + SIDE, x : x + SIDE], 34712, 30) for y, x in places),
            shape=whole.shape,
            dtype=np.uint8,
            tile=(SIDE, SIDE),
            compression=34712,
            photometric="rgb",
            metadata=None,
        )
    options = ConvertOptions(pyramid=Pyramid.ALWAYS, tile=SIDE)
    convert(slide, tmp_path / "a.zarr", tau=1, options=options)
    report = export(tmp_path / "a.zarr", tmp_path / "b.tiff", codec=ExportCodec.SOURCE_J2K)
    assert report.levels > 1
    assert report.source_j2k.kept == 6
    assert report.source_j2k.recoded == report.tiles - 6
    (_, one), *rest = stored(tmp_path / "b.tiff", subifds=True)
    assert np.array_equal(one, stored(slide)[0][1])
    for (_, level), held in zip(rest, source_levels(tmp_path / "a.zarr")[1:], strict=True):
        assert np.array_equal(level, held)
