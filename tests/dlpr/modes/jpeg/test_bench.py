"""The benchmark's peers: boxes of JPEG XL, whole files from slides, one run over several kinds of JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from dlpr.modes.jpeg.bench import codestream, compare, main, slide_jpegs, usable, whole_file, with_prior
from dlpr.modes.jpeg.image import ColourTransform
from dlpr.modes.jpeg.parse import SourceJpeg, parse
from dlpr.modes.jpeg.synthesis import synthesise

pillow = pytest.importorskip("PIL.Image")
imagecodecs = pytest.importorskip("imagecodecs")
SLIDE = Path("examples/CMU-1-Small-Region.svs")


def jpeg(seed: int = 0, **options: object) -> bytes:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :150]
    wave = 128 + 70 * np.sin(y / 9) * np.cos(x / 11)
    pixels = np.clip(wave[..., None] * [1, 0.8, 0.9] + rng.normal(0, 6, (120, 150, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, "JPEG", quality=80, **options)
    return file.getvalue()


def box(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + kind + content


SIGNATURE = box(b"JXL ", b"\r\n\x87\n")


def test_codestream_boxes_only() -> None:
    head = SIGNATURE + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    assert codestream(b"\xff\x0abare") == b"\xff\x0abare"
    assert codestream(head + box(b"jbrd", b"file") + box(b"jxlc", b"all")) == b"all"
    assert codestream(head + box(b"Exif", b"who") + box(b"jxlc", b"all", size=0)) == b"all"
    parts = [box(b"jxlp", b"\0\0\0\0one"), box(b"jbrd", b"file"), box(b"jxlp", b"\x80\0\0\1two")]
    assert codestream(head + b"".join(parts)) == b"onetwo"
    wide = (1).to_bytes(4, "big") + b"jxlc" + (16 + 3).to_bytes(8, "big") + b"all"
    assert codestream(head + wide + box(b"jbrd", b"file")) == b"all"
    for bad, what in (
        (b"", "no JPEG XL"),
        (jpeg(), "no JPEG XL"),
        (head, "without a codestream"),
        (head + box(b"jxlc", b"all", size=100), "cut short"),
        (head + box(b"jxlc", b"all", size=4), "cut short"),
        (head + b"\0\0", "cut short"),
    ):
        with pytest.raises(ValueError, match=what):
            codestream(bad)


def test_a_codestream_has_the_pixels_but_not_the_file() -> None:
    whole = bytes(imagecodecs.jpegxl_encode_jpeg(jpeg()))
    bare = codestream(whole)
    assert bare[:2] == b"\xff\x0a"
    assert b"jbrd" in whole
    assert len(bare) < len(whole) - 100
    assert np.array_equal(imagecodecs.jpegxl_decode(bare), imagecodecs.jpegxl_decode(whole))


def test_whole_files_of_slide_tiles() -> None:
    pytest.importorskip("tifffile")
    for source in slide_jpegs(SLIDE)[40:42]:
        assert source.tables
        data = whole_file(source)
        assert parse(data).transform is ColourTransform.NONE
        with pillow.open(io.BytesIO(data)) as opened:
            assert np.array_equal(np.asarray(opened), synthesise(parse(source.data, source.tables, source.transform)))
    assert whole_file(SourceJpeg(jpeg())) == jpeg()


def test_every_codec_in_one_run() -> None:
    pytest.importorskip("tifffile")
    jpegs = [SourceJpeg(jpeg()), SourceJpeg(jpeg(1, progressive=True)), *slide_jpegs(SLIDE)[40:42]]
    rows = compare(jpegs, repeats=1)
    source = sum(len(s.data) for s in jpegs)
    assert rows["dlpr"].gives == "pixels"
    assert rows["JPEG XL, codestream"].gives.startswith("pixels, off by up to")
    for name in {"JPEG XL, transcode", "Lepton"} & set(rows):
        assert rows[name].gives == "JPEG file"
    for row in rows.values():
        assert row.share == row.size / source
        assert rows["dlpr"].size <= row.size < source * 1.2
        assert row.encode > 0 < row.decode
    assert rows["JPEG XL, codestream"].size < rows["JPEG XL, transcode"].size


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jpg").write_bytes(jpeg())
    (tmp_path / "set" / "b.JPG").write_bytes(jpeg(progressive=True))
    (tmp_path / "set" / "c.jpg").write_bytes(jpeg()[:300])
    (tmp_path / "set" / "notes.txt").write_text("no picture")
    assert main([str(tmp_path / "set"), "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("| dlpr | pixels |") == 1
    assert "| 2 JPEGs, " in out
    assert "c.jpg: dlpr: the source JPEG is not used" in out
    assert main([str(tmp_path / "set" / "c.jpg")]) == 1
    assert usable([]) == []


def test_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1, subsampling=2))
    row = with_prior([SourceJpeg(jpeg(1, subsampling=2))], side=32)
    cut = with_prior([SourceJpeg(jpeg(1, subsampling=2))], side=32, of_whole=True)
    assert row is not None
    assert cut is not None
    assert (row.chunks, row.taught, row.prior) == (cut.chunks, cut.taught, cut.prior) == (20, 2, row.prior)
    assert cut.plain > row.plain  # chroma at the cuts
    assert row.shorter < row.plain
    assert row.counted == (row.shorter + row.prior) / row.plain
    assert main(["--prior", str(tmp_path / "a.jpg")]) == 0
    assert "1 chunks, 1 of which taught a prior" in capsys.readouterr().out
