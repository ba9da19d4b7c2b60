"""What goes in comes out, byte for byte: slides of every kind, odd TIFFs, files nothing is known of."""

import hashlib
import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.reversible.restore import check, restore

EXAMPLE = Path(__file__).parents[3] / "examples" / "CMU-1-Small-Region.svs"

REAL_SLIDES = Path(__file__).parents[4] / "shared" / "data" / "slides"


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def back(archive, folder):
    folder.mkdir(exist_ok=True)
    return restore(archive, folder, threads=2)


def test_svs_of_every_kind(tmp_path, any_svs, convert_reversible):
    report = convert_reversible(any_svs, tmp_path / "a.zarr")
    facts = report.reversible
    assert facts["file_bytes"] == any_svs.stat().st_size == facts["made_bytes"] + facts["kept_bytes"]
    tiles = sum(size for _, size in tile_ranges(any_svs, (128, 128)))
    assert facts["made_bytes"] > 0.9 * tiles
    done = back(tmp_path / "a.zarr", tmp_path / "out")
    assert [path.name for path in done.paths] == [any_svs.name]
    assert done.paths[0].read_bytes() == any_svs.read_bytes()


def tile_ranges(path, tile):
    with tifffile.TiffFile(path) as file:
        pages = [page for page in file.pages if page.is_tiled and (page.tilewidth, page.tilelength) == tile]
        return [(o, n) for page in pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]


def test_as_tiff_and_as_ome_zarr_04(tmp_path, svs, rev_tiff, convert_reversible):
    from dlpr_wsi.sinks.omezarr import OmeVersion

    convert_reversible(svs, tmp_path / "old.zarr", version=OmeVersion.V04)
    for archive in (rev_tiff[1], tmp_path / "old.zarr"):
        with Originals(archive) as originals:
            assert originals.map.made_bytes > 0
            assert b"".join(originals.stream(0)) == svs.read_bytes()
        assert verify(archive, threads=2).files == 1


def test_costs_little(tmp_path, rev_svs):
    slide, archive, _ = rev_svs
    with Originals(archive) as originals:
        parts = len(originals.map.parts.size)
        index = originals.map_bytes - int(originals.map.kept.stored.sum())
    assert parts == len(tile_ranges(slide, (128, 128)))
    assert index < 700 + 12 * parts


def test_the_pixels_are_those_of_the_plain_archive(tmp_path, rev_svs):
    slide, archive, _ = rev_svs
    convert(slide, tmp_path / "plain.zarr", options=ConvertOptions(), threads=2)
    for file in (tmp_path / "plain.zarr").rglob("*"):
        relative = file.relative_to(tmp_path / "plain.zarr")
        if file.is_file() and relative.as_posix() != "zarr.json":
            assert (archive / relative).read_bytes() == file.read_bytes()


def test_zarr_readers_see_an_image_and_some_bytes(rev_svs):
    import zarr

    group = zarr.open_group(rev_svs[1], mode="r")  # a warning would be an error here
    assert sorted(name for name, _ in group.members()) == ["0", "1", "2", "hashes", "source"]
    assert bytes(group["source"][:7]) == b"DLPRSRC"
    assert group["source"].shape[0] == (rev_svs[1] / "source" / "c" / "0").stat().st_size


def test_same_bytes_whatever_the_threads(tmp_path, svs, rev_svs):
    convert(svs, tmp_path / "one.zarr", options=ConvertOptions(reversible=True), threads=1)
    one, two = (archive / "source" / "c" / "0" for archive in (tmp_path / "one.zarr", rev_svs[1]))
    assert one.read_bytes() == two.read_bytes()


def test_same_bytes_from_dask_workers(tmp_path, svs, rev_svs):
    from dlpr_wsi.pipeline.execute import DaskExecutor

    executor = DaskExecutor(workers=1, threads=1)
    try:
        convert(svs, tmp_path / "a.zarr", options=ConvertOptions(reversible=True), executor=executor)
    finally:
        executor.close()
    for file in rev_svs[1].rglob("*"):
        if file.is_file():
            assert (tmp_path / "a.zarr" / file.relative_to(rev_svs[1])).read_bytes() == file.read_bytes()


@pytest.mark.full
@pytest.mark.skipif(not REAL_SLIDES.is_dir(), reason="real slides are not here")
@pytest.mark.parametrize(
    "name", ["camelyon-thumb-jpeg.dcm", "camelyon-thumb-j2k-lossless.dcm", "hamamatsu-test3-DAPI.ndpi"]
)
def test_real_slides(tmp_path, name, convert_reversible):
    report = convert_reversible(REAL_SLIDES / name, tmp_path / "a.zarr")
    done = back(tmp_path / "a.zarr", tmp_path / "out")
    assert [path.name for path in done.paths] == [name]
    assert done.paths[0].read_bytes() == (REAL_SLIDES / name).read_bytes()
    if "dcm" in name:
        assert report.reversible["made_bytes"] > 0.9 * report.reversible["file_bytes"]
        assert report.archive_bytes < 0.95 * report.reversible["file_bytes"]


def odd_tiff(path, pixels, change):
    """A tiled JPEG TIFF whose tile table ``change`` edits: given (file bytes, offsets, sizes), gives new ones."""
    tifffile.imwrite(path, pixels, photometric="ycbcr", compression="jpeg", tile=(64, 64), subsampling=(2, 2))
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        tags = page.tags["TileOffsets"], page.tags["TileByteCounts"]
        offsets, sizes = list(page.dataoffsets), list(page.databytecounts)
        places = [(tag.valueoffset, tag.dtype) for tag in tags]
    data = bytearray(path.read_bytes())
    change(data, offsets, sizes)
    for (at, dtype), values in zip(places, (offsets, sizes), strict=True):
        form = "<" + {3: "H", 4: "I"}[int(dtype)] * len(values)
        struct.pack_into(form, data, at, *values)
    path.write_bytes(data)
    return path


def shared_offsets(data, offsets, sizes):
    offsets[2], sizes[2] = offsets[1], sizes[1]
    offsets[3], sizes[3] = offsets[1], sizes[1]


def trailing_bytes(data, offsets, sizes):
    data += bytes(range(256)) * 3


def gaps(data, offsets, sizes):
    for tile in (0, 4):
        piece = bytes(data[offsets[tile] : offsets[tile] + sizes[tile]])
        data += b"between" * tile
        offsets[tile] = len(data)
        data += piece


def zero_length(data, offsets, sizes):
    sizes[1] = offsets[1] = 0


def damaged_tile(data, offsets, sizes):
    middle = offsets[2] + sizes[2] // 2  # decodes to something else
    data[middle] ^= 4


def junk_behind_a_tile(data, offsets, sizes):
    piece = bytes(data[offsets[0] : offsets[0] + sizes[0]]) + b"junk behind EOI"
    offsets[0], sizes[0] = len(data), len(piece)
    data += piece


def overlapping(data, offsets, sizes):
    sizes[0] = offsets[1] + sizes[1] // 2 - offsets[0]  # its data ends at EOI; the range goes on into the next tile


@pytest.mark.parametrize(
    "change",
    [shared_offsets, trailing_bytes, gaps, zero_length, damaged_tile, junk_behind_a_tile, overlapping],
    ids=lambda change: change.__name__,
)
def test_odd_tiffs(tmp_path, pixels, change, convert_reversible):
    slide = odd_tiff(tmp_path / "odd.tif", pixels, change)
    report = convert_reversible(slide, tmp_path / "a.zarr")
    assert report.reversible["made_bytes"] > 0
    done = back(tmp_path / "a.zarr", tmp_path / "out")
    assert done.paths[0].read_bytes() == slide.read_bytes()


def test_equal_tiles_that_cannot_be_made_are_kept_once(tmp_path, convert_reversible):
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / "noise.tif"
    tifffile.imwrite(path, np.tile(tile, (4, 4, 1)), photometric="rgb", compression="deflate", tile=(64, 64))
    report = convert_reversible(path, tmp_path / "a.zarr")
    assert report.reversible["made_bytes"] == 0
    assert back(tmp_path / "a.zarr", tmp_path / "out").paths[0].read_bytes() == path.read_bytes()


def test_a_picture_is_kept_whole(tmp_path, pixels, convert_reversible):
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.fromarray(pixels[:64, :96]).save(path)
    report = convert_reversible(path, tmp_path / "a.zarr")
    assert report.reversible["made_bytes"] == 0
    assert back(tmp_path / "a.zarr", tmp_path / "out").paths[0].read_bytes() == path.read_bytes()


def test_a_slide_of_many_files(tmp_path, pixels, convert_reversible):
    import zarr

    source = tmp_path / "in" / "slide.zarr"
    array = zarr.create_array(source, shape=(128, 128, 3), chunks=(64, 64, 3), dtype="uint8")
    array[:] = pixels[:128, :128]
    convert_reversible(source, tmp_path / "a.zarr", tile=64)
    (tmp_path / "out").mkdir()
    restore(tmp_path / "a.zarr", tmp_path / "out")
    restored = tmp_path / "out" / "slide.zarr"
    names = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(restored) for p in restored.rglob("*") if p.is_file())
    assert all((source / name).read_bytes() == (restored / name).read_bytes() for name in names)
    fresh = restore(tmp_path / "a.zarr", tmp_path / "fresh")  # a new folder
    assert len(fresh.paths) == len(names)
    again = restore(tmp_path / "a.zarr", tmp_path / "fresh")
    assert again.there == len(names)


def test_random_reads(rev_svs):
    from dlpr_wsi import open_original

    slide, archive, _ = rev_svs
    data = slide.read_bytes()
    rng = np.random.default_rng(1)
    with open_original(archive, cache_bytes=1 << 16) as file:
        assert (file.raw.name, file.raw.size, file.raw.sha256) == (slide.name, len(data), sha(slide))
        for _ in range(200):
            at, size = int(rng.integers(0, len(data) + 10)), int(rng.integers(0, 9000))
            file.seek(at)
            assert file.read(size) == data[at : at + size]
        assert file.raw.read_at(5, 7) == data[5:12]
        assert file.seek(-10, io.SEEK_END) == len(data) - 10
        assert file.read() == data[-10:]
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_readers_read_the_virtual_file(tmp_path, rev_svs):
    from dlpr_wsi import open_original

    slide, archive, _ = rev_svs
    with open_original(archive) as file, tifffile.TiffFile(file) as virtual, tifffile.TiffFile(slide) as real:
        assert len(virtual.pages) == len(real.pages)
        assert all(np.array_equal(a.asarray(), b.asarray()) for a, b in zip(virtual.pages, real.pages, strict=True))
    with open_original(archive) as file, (tmp_path / "copy").open("wb") as out:
        shutil.copyfileobj(file, out)
    assert (tmp_path / "copy").read_bytes() == slide.read_bytes()


def test_many_threads_read_one_file(rev_svs):
    from concurrent.futures import ThreadPoolExecutor

    slide, archive, _ = rev_svs
    data = slide.read_bytes()
    places = np.random.default_rng(2).integers(0, len(data), 200).tolist()
    with Originals(archive, threads=2) as originals, ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda at: originals.read(0, at, 5000), places)
        assert all(piece == data[at : at + 5000] for piece, at in zip(found, places, strict=True))


def test_check_and_verify(rev_svs):
    slide, archive, _ = rev_svs
    report = check(archive, threads=2)
    assert [(file.name, file.size, file.sha256.hex()) for file in report.files] == [
        (slide.name, slide.stat().st_size, sha(slide))
    ]
    verified = verify(archive, threads=2)
    assert verified.ok
    assert verified.files == 1


def test_real_slide(tmp_path, convert_reversible):
    report = convert_reversible(EXAMPLE, tmp_path / "a.zarr")
    with Originals(tmp_path / "a.zarr") as originals:
        stored = int(originals.map.kept.stored.sum())
    assert report.reversible["made_bytes"] == report.source_tile_bytes
    plain = report.archive_bytes - report.reversible["bytes"]
    assert report.archive_bytes <= 1.004 * plain + stored
    assert back(tmp_path / "a.zarr", tmp_path / "out").paths[0].read_bytes() == EXAMPLE.read_bytes()


def test_command_line(tmp_path, capsys, svs):
    from dlpr_wsi.cli import main

    archive = tmp_path / "a.zarr"
    assert main(["convert", str(svs), str(archive), "--reversible", "--threads", "2"]) == 0
    out = capsys.readouterr().out
    assert "gives back the slide's file" in out
    assert "it may show the patient" in out
    assert "not in the archive:" not in out
    assert main(["info", str(archive)]) == 0
    assert "gives back the slide's file" in capsys.readouterr().out
    assert main(["restore", str(archive), "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["sha256"] == sha(svs)
    assert main(["restore", str(archive), str(tmp_path / "again.svs")]) == 0
    assert "every SHA-256 is the slide's" in capsys.readouterr().out
    assert sha(tmp_path / "again.svs") == sha(svs)
    (tmp_path / "other.svs").write_bytes(b"something else")
    assert main(["restore", str(archive), str(tmp_path / "other.svs")]) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert (tmp_path / "other.svs").read_bytes() == b"something else"
    assert main(["restore", str(archive), str(tmp_path / "other.svs"), "--overwrite"]) == 0
    assert sha(tmp_path / "other.svs") == sha(svs)
    assert main(["verify", str(archive)]) == 0
    assert "made again from the archive" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--tau", "1"], "needs --tau 0"), (["--deidentify"], "cannot go together with --deidentify")],
)
def test_refusals(tmp_path, capsys, svs, options, reason):
    from dlpr_wsi.cli import main

    assert main(["convert", str(svs), str(tmp_path / "a.zarr"), "--reversible", *options]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "a.zarr").exists()
    assert main(["convert", str(svs), str(tmp_path / "a.zarr"), "--deidentify", "--keep-label"]) == 2
    assert "--keep-label" in capsys.readouterr().err


def test_plain_archives_are_refused_by_name(tmp_path, capsys, archive):
    from dlpr_wsi.cli import main

    assert main(["restore", str(archive), "--check"]) == 1
    assert "made without --reversible" in capsys.readouterr().err


def test_templates_that_would_fill_the_index_are_not_listed(tmp_path, svs, monkeypatch, convert_reversible):
    monkeypatch.setattr("dlpr_wsi.reversible.build._MAX_TEMPLATES", 0)
    report = convert_reversible(svs, tmp_path / "a.zarr")
    assert report.reversible["made_bytes"] == 0
    assert back(tmp_path / "a.zarr", tmp_path / "out").paths[0].read_bytes() == svs.read_bytes()
