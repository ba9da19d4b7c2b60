"""Slides to archives through the library."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from dlpr_wsi.errors import ConversionError, SourceError, UsageError
from dlpr_wsi.info import archive_info
from dlpr_wsi.pipeline.convert import ConvertOptions, convert, preview
from dlpr_wsi.pipeline.execute import LocalExecutor
from dlpr_wsi.pipeline.plan import Pyramid, SourceTiles
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.report import convert_lines
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources.opening import open_archive, open_source
from dlpr_wsi.sources.pyramid import box_mean
from dlpr_wsi.tile_reader import TileReader

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "CMU-1-Small-Region.svs"
REAL_SLIDES = ROOT.parent / "shared" / "data" / "slides"


def read(path, level=0):
    return zarr.open_group(path, mode="r")[str(level)][...].transpose(1, 2, 0)


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def source_levels(path):
    source = open_source(path)
    levels = [source.read(0, 0, level.width, level.height, i) for i, level in enumerate(source.facts.levels)]
    source.close()
    return levels


@pytest.mark.parametrize("version", list(OmeVersion))
@pytest.mark.parametrize("tau", [0, 1, 3])
def test_archive_holds_the_pixels_within_tau(tmp_path, plain_slide, pixels, tau, version):
    out = tmp_path / "a.zarr"
    report = convert(plain_slide, out, options=ConvertOptions(tau=tau, tile=64, version=version))
    assert np.abs(read(out).astype(int) - pixels).max() <= tau
    assert (report.width, report.height, report.tiles) == (330, 200, 24)
    assert report.raw_bytes == pixels.nbytes
    assert sum(report.tiles_by_mode.values()) == 24
    assert report.max_error == tau
    assert report.tiles_by_mode["constant"] >= 4  # the white border
    assert report.archive_bytes == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert verify(out, plain_slide).ok


def test_every_level_of_every_kind_of_slide(tmp_path, any_svs):
    expected = source_levels(any_svs)
    assert [level.shape[:2] for level in expected] == [(300, 404), (150, 202), (43, 58)]
    for tau in (0, 2):
        out = tmp_path / f"{tau}.zarr"
        report = convert(any_svs, out, tau=tau)
        for index, level in enumerate(expected):
            assert np.abs(read(out, index).astype(int) - level).max() <= tau
        assert verify(out, any_svs).ok
        assert verify(out).ok
        mode = "j2k" if any_svs.stem == "j2k" else "jpeg"
        if tau == 0:
            assert report.tiles_by_mode[mode] >= 0.7 * report.tiles
            assert report.bytes_by_mode[mode] < report.source_tile_bytes
    np.testing.assert_array_equal(read(tmp_path / "0.zarr", 2), expected[2])


def test_levels_with_broken_downsamples_equal_openslide(any_svs):
    import openslide

    with openslide.OpenSlide(any_svs) as slide:
        for index, (level, (width, height)) in enumerate(
            zip(source_levels(any_svs), slide.level_dimensions, strict=True)
        ):
            whole = np.asarray(slide.read_region((0, 0), index, (width, height)))[..., :3]
            np.testing.assert_array_equal(level, whole)


@pytest.mark.skipif(not REAL_SLIDES.is_dir(), reason="real slides are not here")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("camelyon-thumb-jpeg.dcm", marks=pytest.mark.full),
        "synthetic-boxes-4level.tiff",
        pytest.param("camelyon-thumb-j2k-lossless.dcm", marks=pytest.mark.full),
        pytest.param("CMU-1-Small-Region.svs", marks=pytest.mark.full),
        pytest.param("hamamatsu-test3-DAPI.ndpi", marks=pytest.mark.full),
    ],
)
def test_real_slides(tmp_path, name):
    out = tmp_path / "a.zarr"
    report = convert(REAL_SLIDES / name, out, tau=0)
    assert report.max_error == 0
    archive = open_archive(out)
    for index, level in enumerate(source_levels(REAL_SLIDES / name)):
        np.testing.assert_array_equal(archive.read(0, 0, level.shape[1], level.shape[0], index), level)
    assert verify(out, REAL_SLIDES / name).ok
    text = "".join(p.read_text() for p in out.rglob("zarr.json"))
    assert "Penelope" not in text
    assert "GO-16" not in text
    assert Path(name).stem not in text


def test_tiles_of_the_example_are_kept(tmp_path):
    """A sample of its tiles; test_the_example_shrinks does them all."""
    found = preview(EXAMPLE)
    assert found.plan.levels[0].follows_source
    assert (found.plan.levels[0].tile_width, found.plan.levels[0].tile_height) == (240, 240)
    assert set(found.estimate.modes) == {"jpeg"}
    assert found.estimate.archive_bytes <= 0.85 * 1_275_934
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_the_example_shrinks(tmp_path):
    report = convert(EXAMPLE, tmp_path / "a.zarr")
    assert report.source_tile_bytes == 1_275_934
    assert report.archive_bytes <= 0.80 * report.source_tile_bytes
    assert report.max_error == 0


def test_source_tiles_never_and_only(tmp_path, svs, plain_slide):
    report = convert(svs, tmp_path / "n.zarr", options=ConvertOptions(source_tiles=SourceTiles.NEVER))
    assert "jpeg" not in report.tiles_by_mode
    assert report.plan.levels[0].tile_width == 256
    with pytest.raises(UsageError, match=r"--source-tiles.*level 0 of plain.tiff: uncompressed: coded as pixels"):
        convert(plain_slide, tmp_path / "o.zarr", options=ConvertOptions(source_tiles=SourceTiles.ONLY))
    with pytest.raises(UsageError, match="--tile 64 was given, and the slide's tiles have 128 px"):
        convert(svs, tmp_path / "o.zarr", options=ConvertOptions(tile=64, source_tiles=SourceTiles.ONLY))


def test_layout_of_the_archive(archive, plain_slide):
    metadata = json.loads((archive / "0" / "zarr.json").read_text())
    assert metadata["shape"] == [3, 200, 330]
    (sharding,) = metadata["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == [3, 64, 64]
    assert sharding["configuration"]["codecs"] == [{"name": "dlpr", "configuration": {"tau": 1}}]
    group = json.loads((archive / "zarr.json").read_text())["attributes"]
    assert group["ome"]["version"] == "0.5"
    facts = group["dlpr_wsi"]
    assert facts["source_bytes"] == plain_slide.stat().st_size
    assert facts["source_codec"] == "uncompressed"
    opened = open_archive(archive)
    assert all(opened.stream(0, row, column) for row, column in opened.levels[0].positions())  # white ones too


@pytest.mark.parametrize("tile", [48, 100, pytest.param(512, marks=pytest.mark.full)])
def test_bytes_do_not_depend_on_threads(tmp_path, plain_slide, pixels, tile):
    stored = []
    for threads in (1, 3):
        out = tmp_path / f"{threads}.zarr"
        convert(plain_slide, out, tile=tile, threads=threads)
        np.testing.assert_array_equal(read(out), pixels)
        stored.append(files(out))
    assert stored[0] == stored[1]


def test_made_levels_follow_the_stated_filter(tmp_path, plain_slide, pixels):
    out = tmp_path / "a.zarr"
    convert(plain_slide, out, options=ConvertOptions(tile=64, pyramid=Pyramid.ALWAYS, made_tau=0))
    level = pixels
    archive = open_archive(out)
    assert [(lv.width, lv.height) for lv in archive.levels] == [(330, 200), (165, 100), (83, 50), (42, 25)]
    for index in range(4):
        np.testing.assert_array_equal(read(out, index), level)
        level = box_mean(np.pad(level, ((0, level.shape[0] % 2), (0, level.shape[1] % 2), (0, 0)), mode="edge"))
    assert "mean of 2x2" in archive.facts["pyramid"]
    assert verify(out, plain_slide).ok


def test_what_the_slide_says_survives_and_free_text_stays_out(tmp_path, svs):
    report = convert(svs, tmp_path / "a.zarr")
    assert report.dropped == ("label", "macro", "thumbnail")
    archive = open_archive(tmp_path / "a.zarr")
    facts = archive.facts
    assert (facts["vendor"], archive.mpp, facts["objective_power"]) == ("aperio", (0.2525, 0.2525), 40.0)
    assert (facts["source_codec"], facts["source_codec_lossy"], facts["source_quality"]) == ("JPEG", True, 70)
    assert facts["properties"]["aperio.MPP"] == "0.2525"
    assert archive.icc_profile
    assert archive.icc_profile[36:40] == b"acsp"
    everything = b"".join(p.read_bytes() for p in (tmp_path / "a.zarr").rglob("*") if p.is_file())
    for secret in (b"Jane", b"S12-3456", b"synthetic", b"Patient"):
        assert secret not in everything
    assert not (tmp_path / "a.zarr" / "associated").exists()


@pytest.mark.parametrize("version", list(OmeVersion))
def test_label_is_kept_on_request(tmp_path, svs, version):
    report = convert(svs, tmp_path / "a.zarr", options=ConvertOptions(keep=("label",), version=version))
    assert (report.kept, report.dropped) == (("label",), ("macro", "thumbnail"))
    label = zarr.open_group(tmp_path / "a.zarr", mode="r")["associated/label/0"][...]
    assert label.shape == (3, 60, 50)
    source = open_source(svs)
    np.testing.assert_array_equal(label.transpose(1, 2, 0), source.associated("label"))
    source.close()


def test_an_archive_is_a_source(tmp_path, archive, svs):
    again = convert(archive, tmp_path / "again.zarr", tile=64)
    np.testing.assert_array_equal(read(tmp_path / "again.zarr"), read(archive))
    assert again.source.codec.name == "DLPR"
    convert(svs, tmp_path / "s.zarr")
    report = convert(tmp_path / "s.zarr", tmp_path / "s2.zarr")
    assert len(report.plan.levels) == 3
    assert (report.source.mpp_x, report.source.objective_power) == (0.2525, 40.0)
    assert open_archive(tmp_path / "s2.zarr").icc_profile == open_archive(tmp_path / "s.zarr").icc_profile


def test_the_same_again_has_nothing_to_do(tmp_path, plain_slide):
    out = tmp_path / "a.zarr"
    first = convert(plain_slide, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = convert(plain_slide, out)
    assert again.already
    assert again.archive_bytes == first.archive_bytes
    assert again.tiles_by_mode == first.tiles_by_mode
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def test_existing_archive_is_kept_unless_told(tmp_path, plain_slide, real_slide, pixels):
    out = tmp_path / "a.zarr"
    convert(real_slide, out)
    with pytest.raises(UsageError, match="give --overwrite"):
        convert(plain_slide, out)
    convert(plain_slide, out, overwrite=True)
    np.testing.assert_array_equal(read(out), pixels)
    assert list(tmp_path.iterdir()) == [out]


def test_only_archives_are_overwritten(tmp_path, plain_slide):
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="no archive"):
        convert(plain_slide, precious, overwrite=True)
    assert (precious / "letter.txt").read_text() == "dear"


def test_unreadable_tiles_are_named_and_the_rest_is_kept(tmp_path, plain_slide, real_slide, monkeypatch):
    from dlpr_wsi.sources.openslide import OpenSlideSource

    out = tmp_path / "a.zarr"
    convert(real_slide, out, tile=128)
    genuine = OpenSlideSource.read

    def failing(self, x, y, width, height, level=0):
        if y + height > 192 and x < 64:
            raise SourceError("damaged")
        return genuine(self, x, y, width, height, level)

    monkeypatch.setattr(OpenSlideSource, "read", failing)
    with pytest.raises(ConversionError) as caught:
        convert(plain_slide, out, tile=64, overwrite=True)
    assert [(t.level, t.row, t.column) for t in caught.value.bad] == [(0, 3, 0)]
    assert "row 3 column 0 (x=0 y=192 64x8 px): damaged" in str(caught.value)
    monkeypatch.undo()
    assert verify(out, real_slide).ok  # the old archive is still there
    report = convert(plain_slide, out, tile=64, overwrite=True)
    assert 0 < report.resumed < report.tasks
    assert list(tmp_path.iterdir()) == [out]


def test_only_names_the_tile_that_cannot_be_kept(tmp_path, svs, monkeypatch):
    from dlpr_wsi.pipeline import places

    genuine = places.encode_chunks

    def without_the_second(chunks, tau, tiles, threads, *_, **__):
        return genuine(chunks, tau, [tile if number != 1 else None for number, tile in enumerate(tiles)], threads)

    monkeypatch.setattr(places, "encode_chunks", without_the_second)
    with pytest.raises(ConversionError, match=r"level 0 row 0 column 1 .*--source-tiles only"):
        convert(svs, tmp_path / "a.zarr", options=ConvertOptions(source_tiles=SourceTiles.ONLY))
    monkeypatch.undo()
    report = convert(svs, tmp_path / "a.zarr", options=ConvertOptions(source_tiles=SourceTiles.ONLY))
    assert set(report.tiles_by_mode) <= {"jpeg", "constant"}


def test_storage_that_fails_once_is_tried_again(tmp_path, plain_slide, pixels, monkeypatch):
    from dlpr_wsi.sources.openslide import OpenSlideSource

    genuine, failures = OpenSlideSource.read, []

    def failing(self, x, y, width, height, level=0):
        if y == 128 and not failures:
            failures.append(y)
            raise SourceError("the network is away")
        return genuine(self, x, y, width, height, level)

    monkeypatch.setattr(OpenSlideSource, "read", failing)
    convert(plain_slide, tmp_path / "a.zarr", tile=64)
    assert failures
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), pixels)


@pytest.mark.parametrize(("tau", "made_tau", "expected"), [(0, None, 4), (0, 2, 2), (3, 1, 3)])
@pytest.mark.parametrize("container", ["zarr", "tif"])
def test_levels_made_here_have_their_own_bound(tmp_path, plain_slide, pixels, tau, made_tau, expected, container):
    """Level 0 keeps tau; what is made may be coarser, and every place that tells a bound tells each level's."""
    out = tmp_path / f"a.{container}"
    options = ConvertOptions(tau=tau, tile=64, pyramid=Pyramid.ALWAYS, made_tau=made_tau)
    report = convert(plain_slide, out, options=options)
    bounds = (tau, *[expected] * 3)
    assert (report.tau, report.made_tau) == (tau, expected)
    assert report.max_error <= tau < report.made_max_error <= expected or tau >= expected
    archive = open_archive(out)
    assert (archive.tau, archive.level_tau) == (tau, bounds)
    assert (archive.facts["tau"], archive.facts["made_tau"]) == (tau, expected)
    level = pixels
    for index, bound in enumerate(bounds):
        found = archive.read(0, 0, level.shape[1], level.shape[0], index).astype(int)
        assert np.abs(found - level).max() <= bound
        level = box_mean(np.pad(level, ((0, level.shape[0] % 2), (0, level.shape[1] % 2), (0, 0)), mode="edge"))
    checked = verify(out, plain_slide)
    assert checked.ok
    assert [(one.level, one.tau) for one in checked.levels] == list(enumerate(bounds))
    assert all(one.max_error is not None and one.max_error <= one.tau for one in checked.levels)
    facts = archive_info(out)
    assert (facts.tau, tuple(one.tau for one in facts.levels)) == (tau, bounds)
    with TileReader(out) as reader:
        assert (reader.tau, reader.level_tau) == (tau, bounds)
        assert reader.properties["dlpr.level[1].tau"] == str(expected)
    if container == "zarr":
        codecs = [json.loads((out / str(i) / "zarr.json").read_text())["codecs"][0] for i in range(4)]
        assert [c["configuration"]["codecs"][0]["configuration"]["tau"] for c in codecs] == list(bounds)
        source = open_source(out)
        assert [one.codec.lossy for one in source.facts.levels] == [bound > 0 for bound in bounds]
        source.close()
    lines = [line for line in convert_lines(report) if line.startswith(("tau", "     "))]
    assert any(f"{expected} in levels 1, 2, 3, made from" in line for line in lines) == (expected != tau)


def test_a_level_coded_more_coarsely_than_it_promises_is_found(tmp_path, plain_slide):
    """The metadata of a made level promise more than its streams: verify says so without the slide."""
    out = tmp_path / "a.zarr"
    convert(plain_slide, out, options=ConvertOptions(tile=64, pyramid=Pyramid.ALWAYS, made_tau=2))
    place = out / "1" / "zarr.json"
    place.write_text(place.read_text().replace('"tau": 2', '"tau": 1'))
    report = verify(out)
    assert {(chunk.level, chunk.reason) for chunk in report.bad} == {(1, "tau")}


def test_a_resumed_conversion_keeps_the_bound_of_made_levels(tmp_path, plain_slide):
    """Another bound for made levels is another conversion; the same one goes on to the same bytes."""
    options = ConvertOptions(tile=64, pyramid=Pyramid.ALWAYS, made_tau=2)

    class Interrupted(LocalExecutor):
        def run(self, function, job, tasks):
            for number, outcome in enumerate(super().run(function, job, tasks)):
                if number == 9:
                    raise KeyboardInterrupt
                yield outcome

    out = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        convert(plain_slide, out, options=options, executor=Interrupted(1))
    with pytest.raises(UsageError, match="another options"):
        convert(plain_slide, out, options=replace(options, made_tau=3))
    assert convert(plain_slide, out, options=options).resumed
    convert(plain_slide, tmp_path / "b.zarr", options=options)
    assert files(out) == files(tmp_path / "b.zarr")
