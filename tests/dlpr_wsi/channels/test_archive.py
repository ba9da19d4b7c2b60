"""Images of channels as archives: layout, metadata, pixels, checked by readers that are not ours where possible."""

import hashlib
import json
import shutil
import struct

import numpy as np
import pytest
import zarr

import dlpr
from dlpr_wsi.cli import main
from dlpr_wsi.errors import ArchiveError, SourceError, UsageError
from dlpr_wsi.pipeline.convert import ConvertOptions, convert, preview
from dlpr_wsi.pipeline.execute import LocalExecutor
from dlpr_wsi.pipeline.plan import MAX_SHARD_BYTES, Pyramid, SourceTiles, Task, make_plan
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources.opening import open_archive

NAMES = ["DAPI", "FITC <&>", "Cy5 ü", "mCherry", "channel 4"]
HEX = ["0000FF", "00FF00", "FF0000", "FF8000", "FFFFFF"]


@pytest.fixture(scope="module")
def levels(paint):
    image = paint(5, 100, 165)
    return [image, np.ascontiguousarray(image[::3, ::3])]


@pytest.fixture(scope="module", params=list(OmeVersion))
def versioned(request, tmp_path_factory, fluorescence, levels):
    """(archive, version) of five channels on two levels, chunks of 32 px, lossless."""
    folder = tmp_path_factory.mktemp("channels")
    slide = fluorescence(folder / "cells.fake", *levels)
    options = ConvertOptions(tile=32, version=request.param)
    convert(slide, folder / "a.zarr", options=options, threads=2)
    return folder / "a.zarr", request.param


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_zarr_python_reads_the_pixels(versioned, levels):
    path, _ = versioned
    group = zarr.open_group(path, mode="r")
    for number, expected in enumerate(levels):
        array = group[str(number)]
        assert array.shape == (5, *expected.shape[:2])
        assert array.chunks == (1, 32, 32)
        assert array.fill_value == 0
        np.testing.assert_array_equal(array[:], expected.transpose(2, 0, 1))


def test_one_file_a_shard_for_all_channels_or_one_a_chunk(versioned):
    path, version = versioned
    found = {name for name in files(path) if name.startswith(("0/", "1/")) and not name.endswith(("json", ".zarray"))}
    if version is OmeVersion.V05:
        meta = json.loads((path / "0" / "zarr.json").read_text())
        assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [5, 64, 64]
        inner = meta["codecs"][0]["configuration"]
        assert inner["chunk_shape"] == [1, 32, 32]
        shards = {f"0/c/0/{row}/{column}" for row in range(2) for column in range(3)}
        assert found == {*shards, "1/c/0/0/0"}
    else:
        chunks = {f"0/{c}/{row}/{column}" for c in range(5) for row in range(4) for column in range(6)}
        assert found == {
            *chunks,
            *(f"1/{c}/{row}/{column}" for c in range(5) for row in range(2) for column in range(2)),
        }


def test_a_shard_by_the_letter_of_the_specification(versioned, levels):
    """The index in C order over (channel, row, column), parsed here by hand; each stream is the chunk of that place."""
    path, version = versioned
    if version is OmeVersion.V04:
        pytest.skip("no shards")
    content = (path / "0/c/0/1/1").read_bytes()
    index = struct.unpack(f"<{2 * 5 * 2 * 2}Q", content[-(16 * 20 + 4) : -4])
    padded = np.zeros((128, 192, 5), np.uint8)
    padded[:100, :165] = levels[0]
    for number in range(20):
        channel, row, column = np.unravel_index(number, (5, 2, 2))
        offset, size = index[2 * number], index[2 * number + 1]
        y, x = 64 + 32 * row, 64 + 32 * column
        decoded = dlpr.decode(content[offset : offset + size])
        np.testing.assert_array_equal(decoded, padded[None, y : y + 32, x : x + 32, channel])


def test_zarr_python_would_write_the_same_array_metadata(versioned, tmp_path):
    from dlpr import DLPR

    path, version = versioned
    common = {"shape": (5, 100, 165), "chunks": (1, 32, 32), "dtype": "uint8", "fill_value": 0}
    if version is OmeVersion.V05:
        options = {
            "serializer": DLPR(),
            "compressors": None,
            "shards": (5, 64, 64),
            "dimension_names": ("c", "y", "x"),
        }
        name = "zarr.json"
    else:
        key = {"name": "v2", "separator": "/"}
        options, name = {"zarr_format": 2, "compressors": DLPR(), "chunk_key_encoding": key}, ".zarray"
    zarr.create_array(tmp_path / "t.zarr", **options, **common)
    mine, theirs = (json.loads((folder / name).read_text()) for folder in (path / "0", tmp_path / "t.zarr"))
    for meta in (mine, theirs):
        meta.pop("attributes", None)
        meta.pop("storage_transformers", None)
    assert mine == theirs


def test_others_accept_the_metadata(versioned, levels):
    pytest.importorskip("ome_zarr_models")
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models import open_ome_zarr

    path, version = versioned
    image = open_ome_zarr(zarr.open_group(path, mode="r"))
    assert f".v{version.replace('.', '')}." in type(image).__module__
    attributes = image.model_dump()["attributes"]
    omero = attributes.get("ome", attributes)["omero"]
    assert [(c["label"], c["color"], c["active"]) for c in omero["channels"]] == [
        (name, colour, True) for name, colour in zip(NAMES, HEX, strict=True)
    ]
    node = next(iter(Reader(parse_url(str(path), mode="r"))()))
    assert node.metadata["channel_names"] == NAMES
    np.testing.assert_array_equal(node.data[1].compute(), levels[1].transpose(2, 0, 1))


def test_our_reader_gives_the_same(versioned, levels):
    path, _ = versioned
    archive = open_archive(path)
    assert archive.samples == 5
    assert [(c.name, c.hexadecimal) for c in archive.channels] == list(zip(NAMES, HEX, strict=True))
    assert archive.background == (0, 0, 0)
    np.testing.assert_array_equal(archive.read(0, 0, 165, 100), levels[0])
    region = archive.read(-5, 75, 50, 50)
    assert not region[25:].any()
    assert not region[:, :5].any()
    np.testing.assert_array_equal(region[:25, 5:], levels[0][75:, :45])
    with pytest.raises(ArchiveError, match="no chunk at level 0 row 0 column 0 channel 5"):
        archive.stream(0, 0, 0, 5)


def test_hashes_are_those_of_every_chunk(versioned):
    path, _ = versioned
    array = zarr.open_group(path, mode="r")["hashes/0"]
    assert array.shape == (5, 4, 6, 32)
    recorded = array[:]
    archive = open_archive(path)
    for channel, row, column in np.ndindex(5, 4, 6):
        digest = hashlib.sha256(archive.stream(0, row, column, channel)).digest()
        assert recorded[channel, row, column].tobytes() == digest


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_channels(tmp_path, fluorescence, paint, count):
    image = paint(count, 90, 70)
    report = convert(fluorescence(tmp_path / "a.fake", image), tmp_path / "a.zarr", tau=2, tile=64, threads=2)
    assert (report.tiles, report.raw_bytes, report.max_error <= 2) == (4 * count, count * 90 * 70, True)
    array = zarr.open_group(tmp_path / "a.zarr", mode="r")["0"]
    assert array.chunks == (1, 64, 64)
    assert np.abs(array[:].astype(int) - image.transpose(2, 0, 1)).max() <= 2
    archive = open_archive(tmp_path / "a.zarr")
    assert archive.levels[0].channels == count  # three channels are no RGB picture
    assert verify(tmp_path / "a.zarr", tmp_path / "a.fake", threads=2).ok


def test_made_levels_are_means_of_each_channel(tmp_path, fluorescence, paint):
    image = paint(2, 131, 97)
    slide = fluorescence(tmp_path / "a.fake", image)
    convert(slide, tmp_path / "a.zarr", options=ConvertOptions(tile=64, pyramid=Pyramid.ALWAYS), threads=2)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for number in (1, 2):
        padded = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge").astype(int)
        image = ((padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2] + 2) // 4).astype(
            np.uint8
        )
        np.testing.assert_array_equal(group[str(number)][:], image.transpose(2, 0, 1))


def test_resumed_is_byte_identical(tmp_path, fluorescence, levels):
    """The first run ends after three shards; the second does the rest, and a shard that lost a channel's file."""
    slide = fluorescence(tmp_path / "cells.fake", levels[0][..., :2])

    class Interrupted(LocalExecutor):
        def run(self, function, job, tasks):
            for number, outcome in enumerate(super().run(function, job, tasks)):
                if number == 3:
                    raise KeyboardInterrupt
                yield outcome

    for version in OmeVersion:
        options = ConvertOptions(tile=32, version=version)
        whole, out = tmp_path / f"whole{version}.zarr", tmp_path / f"a{version}.zarr"
        convert(slide, whole, options=options, threads=2)
        with pytest.raises(KeyboardInterrupt):
            convert(slide, out, options=options, executor=Interrupted(2))
        if version is OmeVersion.V04:
            next((tmp_path / f".{out.name}.partial" / "data" / "0" / "1").glob("*/*")).unlink()
        report = convert(slide, out, options=options, threads=2)
        assert report.resumed == 3
        assert files(out) == files(whole)
        assert verify(out, slide, threads=2).ok


def test_damage_is_named_with_its_channel(tmp_path, fluorescence, levels, versioned):
    path, version = versioned
    if version is OmeVersion.V05:
        pytest.skip("chunks are no files")
    slide = fluorescence(tmp_path / "cells.fake", *levels)
    shutil.copytree(path, tmp_path / "a.zarr")
    (tmp_path / "a.zarr/0/3/1/2").unlink()
    other = (tmp_path / "a.zarr/0/2/0/0").read_bytes()
    (tmp_path / "a.zarr/0/1/0/0").write_bytes(other)  # a whole stream, of another channel
    for source in (None, slide):
        report = verify(tmp_path / "a.zarr", source, threads=2)
        assert [(b.row, b.column, b.message.split(":")[0]) for b in report.bad] == [
            (0, 0, "channel 1"),
            (1, 2, "channel 3"),
        ]
    with pytest.raises(ArchiveError, match="level 0 row 1 column 2 channel 3 is missing"):
        open_archive(tmp_path / "a.zarr").read(0, 0, 165, 100)


def test_another_slide_is_refused(tmp_path, fluorescence, levels, versioned):
    fewer = fluorescence(tmp_path / "fewer.fake", *(np.ascontiguousarray(level[..., :3]) for level in levels))
    with pytest.raises(ArchiveError, match=r"holds 5 channels, .* has 3 channels"):
        verify(versioned[0], fewer)


def test_an_archive_of_channels_is_a_source(tmp_path, versioned, levels):
    path, _ = versioned
    convert(path, tmp_path / "again.zarr", options=ConvertOptions(tile=64), threads=2)
    again = open_archive(tmp_path / "again.zarr")
    assert again.channels == open_archive(path).channels
    np.testing.assert_array_equal(again.read(0, 0, 165, 100), levels[0])


def test_facts_and_report(tmp_path, fluorescence, levels, capsys):
    slide = fluorescence(tmp_path / "cells.fake", *levels)
    out = tmp_path / "a.zarr"
    assert main(["convert", str(slide), str(out), "--tile", "32", "--workers", "0"]) == 0
    text = capsys.readouterr().out
    lines = ["channel 0     DAPI (#0000FF)", "channel 2     Cy5 ü (#FF0000)", "reader        tests 1.0"]
    note = "note          2 focal planes were left out"
    assert all(line in text.splitlines() for line in (*lines, note))
    assert main(["info", str(slide)]) == 0
    text = capsys.readouterr().out
    assert all(line in text.splitlines() for line in (*lines, note))
    assert main(["info", str(out)]) == 0
    text = capsys.readouterr().out
    assert all(line in text.splitlines() for line in (*lines[:2], note, "source        reader: tests 1.0"))
    assert "level 0       (5, 100, 165) in chunks of (1, 32, 32), shards of 2 x 2; 120 chunks" in text
    assert main(["info", "--json", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["channels"][2] == {"name": "Cy5 ü", "colour": [255, 0, 0]}
    assert facts["raw_bytes"] == 5 * (100 * 165 + 34 * 55)
    assert facts["bits_per_pixel"] == pytest.approx(8 * facts["bytes"] / (100 * 165 + 34 * 55))
    stored = facts["source"]
    assert (stored["reader"], stored["notes"]) == ("tests 1.0", ["2 focal planes were left out"])
    assert main(["convert", "--dry-run", "--json", str(slide)]) == 0
    assert len(json.loads(capsys.readouterr().out)["source"]["channels"]) == 5


def test_estimate_counts_chunks(tmp_path, fluorescence, levels):
    found = preview(fluorescence(tmp_path / "cells.fake", *levels), ConvertOptions(tile=32), threads=2)
    assert found.plan.tiles == 5 * (24 + 4)
    report = convert(tmp_path / "cells.fake", tmp_path / "a.zarr", tile=32, threads=2)
    assert 0.3 < found.estimate.archive_bytes / sum(report.bytes_by_mode.values()) < 3


def test_many_channels_make_small_shards(tmp_path, fluorescence):
    slide = fluorescence(tmp_path / "many.fake", np.zeros((4, 4, 60), np.uint8))
    with pytest.raises(UsageError, match="--source-tiles"):
        preview(slide, ConvertOptions(source_tiles=SourceTiles.ONLY))
    from dataclasses import replace

    from dlpr_wsi.sources import Level
    from dlpr_wsi.sources.opening import open_source

    facts = replace(open_source(slide).facts, levels=(Level(50_000, 50_000, 1.0),))
    (level,) = make_plan(facts, [None]).levels
    size = 60 * level.shard_rows * level.shard_columns * level.tile_width * level.tile_height
    assert MAX_SHARD_BYTES / 4 < size <= MAX_SHARD_BYTES
    assert len(level.keys(Task(0, 0, 0))) == 60 * level.shard_rows * level.shard_columns


@pytest.mark.parametrize("damage", [[], [{"name": "a"}] * 5, [{"name": "a", "colour": "red"}] * 5, 7])
def test_damaged_facts_are_refused(tmp_path, versioned, damage):
    path, version = versioned
    shutil.copytree(path, tmp_path / "a.zarr")
    file = tmp_path / "a.zarr" / ("zarr.json" if version is OmeVersion.V05 else ".zattrs")
    content = json.loads(file.read_text())
    content.get("attributes", content)["dlpr_wsi"]["channels"] = damage
    file.write_text(json.dumps(content))
    with pytest.raises(ArchiveError, match="channels"):
        open_archive(tmp_path / "a.zarr")


def test_too_many_channels_are_refused(tmp_path, fluorescence, versioned):
    slide = fluorescence(tmp_path / "many.fake", np.zeros((1, 1, 4097), np.uint8))
    with pytest.raises(SourceError, match="4097 channels"):
        convert(slide, tmp_path / "a.zarr")
    path, version = versioned
    shutil.copytree(path, tmp_path / "b.zarr")
    for number in (0, 1):  # metadata that would have a reader make a billion names
        file = tmp_path / "b.zarr" / str(number) / ("zarr.json" if version is OmeVersion.V05 else ".zarray")
        content = json.loads(file.read_text())
        content["shape"][0] = 10**9
        if version is OmeVersion.V05:
            content["chunk_grid"]["configuration"]["chunk_shape"][0] = 10**9
        file.write_text(json.dumps(content))
    with pytest.raises(ArchiveError, match="1000000000 channels"):
        open_archive(tmp_path / "b.zarr")
