"""JPEG bytes made again: libjpeg's and mozjpeg's kinds, unusual markers and padding, chunks of all modes, damage."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

import dlpr
from dlpr.errors import BitstreamError, CorruptError, PriorError, UnsupportedInputError
from dlpr.modes.jpeg.extract import stored_jpeg
from dlpr.modes.jpeg.hint import MOST_INFLATED, unpack_hint
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import SourceJpeg, parse, window
from dlpr.modes.jpeg.rewrite import Split, Template, join, split
from dlpr.modes.jpeg.synthesis import synthesise
from dlpr.modes.jpeg.write import write

pillow = pytest.importorskip("PIL.Image")
ROOT = Path(__file__).parents[4]
REAL_SLIDES = ROOT.parent / "shared" / "data" / "slides"

KINDS: list[dict[str, object]] = [
    {"quality": 30},
    {"quality": 95, "subsampling": 0},
    {"quality": 80, "subsampling": 1, "optimize": True},
    {"quality": 50, "optimize": True},
    {"quality": 80, "restart_marker_blocks": 1},
    {"quality": 60, "restart_marker_blocks": 7, "optimize": True},
    {"quality": 60, "restart_marker_rows": 1, "subsampling": 0},
    {"qtables": [list(range(1, 65)), [9] * 64]},
    {"quality": 85, "progressive": True},
    {"quality": 97, "progressive": True, "subsampling": 0, "restart_marker_blocks": 5},
    {"quality": 20, "progressive": True, "subsampling": 1, "restart_marker_rows": 2},
    {"keep_rgb": True},
]


def pixels(height: int = 45, width: int = 61, noise: float = 9) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    wave = 128 + 70 * np.sin(y / 6) * np.cos(x / 8)
    return np.clip(wave[..., None] * [1, 0.8, 0.9] + rng.normal(0, noise, (height, width, 3)), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    with pillow.open(io.BytesIO(data)) as opened:
        return np.asarray(opened)


def made_again(data: bytes, tables: bytes | None = None) -> tuple[Split, bytes]:
    """The parts of a JPEG, whose bytes were made of them; the hint beside its own coefficients."""
    parts = split(data, tables)
    hint = parts.hint(parts.image)
    assert join(Template(parts.template.data), parts.image, hint) == data
    assert join(parts.template, None, parts.hint(None)) == data
    return parts, hint


def chunk_of(data: bytes, height: int | None = None, width: int | None = None) -> JpegImage:
    """What a chunk's stream holds of a JPEG, which may be cut at its lower and right edge."""
    whole = parse(data)
    image = window(whole, 0, 0, height or whole.height, width or whole.width)
    plain = synthesise(image)
    stream = dlpr.encode(plain if image.components == 3 else plain[..., 0], source_jpeg=image, jpeg="given")
    stored = stored_jpeg(stream)
    assert stored is not None
    return stored


@pytest.mark.parametrize("options", KINDS)
def test_bytes_of_libjpeg(options: dict[str, object]) -> None:
    for image in (pixels(), pixels(8, 8), pixels(1, 1), pixels(17, 16), pixels(200, 72, 0), pixels()[..., 0]):
        data = jpeg(image, **options)
        parts, hint = made_again(data)
        assert hint == b""
        assert parts.splices == ()
        assert np.array_equal(decoded(write(parts.image)), decoded(data))


@pytest.mark.parametrize("options", KINDS[::2])
def test_from_a_chunks_stream(options: dict[str, object]) -> None:
    """Sizes whose last MCU has blocks that show no pixel: the stream does not hold them."""
    for height, width in ((45, 61), (40, 40), (8, 8), (17, 24), (33, 9)):
        data = jpeg(pixels(height, width), **options)
        if synthesise(parse(data)).std() == 0:
            continue
        parts, stored = split(data), chunk_of(data)
        assert parts.hint(stored) == b""
        assert join(parts.template, stored) == data


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440"])
@pytest.mark.parametrize("optimize", [False, True])
def test_bytes_of_imagecodecs(subsampling: str, optimize: bool) -> None:
    codecs = pytest.importorskip("imagecodecs")
    for height, width in ((45, 61), (64, 48), (7, 30)):
        data = bytes(codecs.jpeg8_encode(pixels(height, width), 77, subsampling=subsampling, optimize=optimize))
        parts, hint = made_again(data)
        assert hint == b""
        assert parts.hint(chunk_of(data)) == b""


def test_bytes_of_mozjpeg() -> None:
    """Scans in mozjpeg's order, several tables in a segment, long runs of ended blocks."""
    files = sorted((Path(__file__).parent / "data").glob("mozjpeg-*.jpg"))
    assert len(files) == 2
    for file in files:
        parts, hint = made_again(file.read_bytes())
        assert hint == b""
        assert len(parts.template.data) < 300


def test_tiles_share_a_template() -> None:
    """Optimised tables, other quality and standard tables are named, not stored."""
    for options in ({}, {"optimize": True}, {"progressive": True}):
        tiles = [jpeg(pixels(48, 64, n), quality=q, **options) for n in (0, 3, 20) for q in (30, 75, 95)]
        found = {split(tile).template for tile in tiles}
        assert len(found) == 1
        assert len(next(iter(found)).data) < 260


def test_other_huffman_tables_stay() -> None:
    """Tables that are neither standard nor libjpeg's: those of dlpr's own writer, of another image."""
    data = write(parse(jpeg(pixels())))
    assert made_again(data)[1] == b""
    optimised, other = jpeg(pixels(noise=2), optimize=True), jpeg(pixels(noise=2) // 2, quality=40)
    tables = segments(optimised, 0xC4)
    foreign = replaced(write(parse(other)), 0xC4, [])
    assert len(tables) == 4
    assert foreign  # without tables it is abbreviated
    with pytest.raises(UnsupportedInputError, match="keep its bytes"):
        split(foreign)


def segments(data: bytes, marker: int) -> list[bytes]:
    """Marker segments of a kind before the first scan."""
    return [data[a:b] for kind, a, b in walk(data) if kind == marker]


def walk(data: bytes) -> list[tuple[int, int, int]]:
    """Marker, begin and end of the segments up to the first scan."""
    out, at = [], 2
    while not out or out[-1][0] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        out.append((data[at + 1], at, end))
        at = end
    return out


def replaced(data: bytes, marker: int, by: list[bytes]) -> bytes:
    """Leave segments of a kind out and put others before the scan."""
    kept = [data[a:b] for kind, a, b in walk(data) if kind != marker]
    return data[:2] + b"".join([*kept[:-1], *by, kept[-1]]) + data[walk(data)[-1][2] :]


def test_shared_tables() -> None:
    for options in ({}, {"optimize": True}, {"subsampling": 0}):
        data = jpeg(pixels(), **options)
        tables = b"\xff\xd8" + b"".join(segments(data, 0xDB) + segments(data, 0xC4)) + b"\xff\xd9"
        tile = replaced(replaced(data, 0xDB, []), 0xC4, [])
        assert made_again(tile, tables)[1] == b""
        with pytest.raises(UnsupportedInputError):
            split(tile)


def test_unusual_markers() -> None:
    """Comments, unknown segments, fill bytes, 16-bit tables, an empty DHT; behind the scan DNL, junk or nothing."""
    data = jpeg(pixels(), restart_marker_blocks=3)
    scan = walk(data)[-1][2]
    comment, unknown = b"\xff\xfe\0\7abcde", b"\xff\xc8\0\3x"
    wide = b"".join(
        b"\xff\xdb\0\x83" + bytes([0x10 | s[4]]) + b"".join(bytes([0, v]) for v in s[5:69])
        for s in segments(data, 0xDB)
    )
    plain = [
        replaced(data, 0xFF, [comment, b"\xff\xe7\0\4hi", comment]),
        replaced(data, 0xFF, [b"\xff\xff" + comment, b"\xff\xff\xff" + comment]),
        replaced(data, 0xFF, [b"\xff\xc4\0\2", b"\xff\xdb\0\2"]),
        replaced(data, 0xDB, [wide]),
        data[:2] + b"\xff" + data[2:],
        data[:-2],  # no EOI
        data + b"\0",
        data + b"\xff\xff",
        data[:-2] + b"\xff\xdc\0\4\0\x2d\xff\xd9",
    ]
    for changed in plain:
        assert made_again(changed)[1] == b""
    hinted = [
        data + b"some junk",
        data[:-2] + b"junk",
        data[:-2] + b"\xff\xff\xff\xd9",
        data[:-2] + b"\0\0\xff\xd9",
        data[:scan] + data[scan:].replace(b"\xff\xd0", b"\xff\xff\xd0"),
    ]
    for changed in hinted:
        parts, hint = made_again(changed)
        assert 0 < len(hint) < 40
        assert parts.template in (split(data).template, split(data[:-2]).template)
    with pytest.raises(UnsupportedInputError):
        split(replaced(data, 0xFF, [unknown]))


def zero_padded(data: bytes, rng: np.random.Generator | None = None) -> bytes:
    """Set the bits that fill up each restart interval to 0 or, given a generator, some of them; Pillow says which."""
    want, out = decoded(data), bytearray(data)
    scan = walk(data)[-1][2]
    ends = [
        k
        for k in range(scan, len(data) - 1)
        if data[k] == 0xFF and (0xD0 <= data[k + 1] <= 0xD7 or data[k + 1] == 0xD9)
    ]
    for end in ends:
        last = end - 1 if out[end - 1] or out[end - 2] != 0xFF else end - 2
        for bits in range(7, 0, -1):
            ones = (1 << bits) - 1
            if out[last] & ones != ones or out[last] == 0xFF:
                continue
            kept = out[last]
            out[last] &= ~ones
            if np.array_equal(decoded(bytes(out)), want):
                out[last] |= int(rng.integers(ones)) if rng is not None else 0
                break
            out[last] = kept
    return bytes(out)


def test_padding() -> None:
    data = jpeg(pixels()[..., 0], restart_marker_blocks=5)
    zeros = zero_padded(data)
    assert zeros != data
    parts, hint = made_again(zeros)
    assert hint == b""
    assert parts.template != split(data).template
    odd = zero_padded(data, np.random.default_rng(3))
    parts, hint = made_again(odd)
    count = data.count(b"\xff\xd0") * 8
    assert 0 < len(parts.splices) <= count
    assert len(hint) <= 5 * len(parts.splices) + 2


def test_part_of_a_jpeg() -> None:
    """A chunk that lacks MCUs: the hint holds them; where they repeat the last block they cost nothing."""
    data = jpeg(pixels(96, 112), subsampling=2)
    parts = split(data)
    for height, width in ((96, 104), (80, 112), (41, 33)):
        stored = chunk_of(data, height, width)
        hint = parts.hint(stored)
        assert 0 < len(hint) <= len(parts.hint(None)) + 3
        assert join(parts.template, stored, hint) == data
    image = pixels(96, 112)
    image[:, 48:] = image[:, 47:48]
    image[64:] = image[63:64, 47:48]
    flat = jpeg(image, subsampling=2)
    assert len(split(flat).hint(chunk_of(flat, 64, 112))) < 40


def test_chunks_of_other_modes() -> None:
    """A tile of one colour is a chunk of mode constant; other tiles without a JPEG take what mode jpeg would."""
    for options in ({}, {"subsampling": 0, "optimize": True}, {"progressive": True}):
        for grey in (False, True):
            image = np.full((64, 80, 3), (231, 200, 213), np.uint8)
            data = jpeg(image[..., 0] if grey else image, **options)
            assert len(data) > 150
            parts, _ = made_again(data)
            assert len(parts.hint(None)) <= (6 if grey else 12)
    data = jpeg(pixels(128, 128), quality=80)
    assert len(split(data).hint(None)) < 0.85 * (len(data) - 600)
    prior = dlpr.Prior.learn([parse(jpeg(pixels(64, 64, n), quality=80)) for n in (8, 9, 10)])
    hint = split(data).hint(None, prior)
    assert len(hint) < len(split(data).hint(None))
    assert join(split(data).template, None, hint, prior) == data
    with pytest.raises(PriorError, match="prior"):
        join(split(data).template, None, hint)
    with pytest.raises(CorruptError, match="neither"):
        join(split(data).template, None)


def test_a_jpeg_found_in_pixels() -> None:
    """Its steps of frequencies that are not there are guesses, some coefficients are wrong."""
    data = jpeg(pixels(64, 64, 3), quality=70)
    parts = split(data)
    image = parts.image
    tables, arrays = [t.copy() for t in image.tables], [c.copy() for c in image.coefficients]
    tables[1][7, 7] = 3
    arrays[0][2, 3, 0, 0] += 5
    arrays[0][4, 1, 7, 7] -= 1
    arrays[2][1, 1, 0, 1] = 0
    guess = JpegImage(
        64, 64, (0, 0), image.transform, image.sampling, image.upsampling, True, tuple(tables), tuple(arrays)
    )
    hint = parts.hint(guess)
    assert 0 < len(hint) < 60
    assert join(parts.template, guess, hint) == data
    assert join(parts.template, guess) != data
    other = parse(jpeg(pixels(64, 64, 3), subsampling=0))
    assert join(parts.template, other, parts.hint(other)) == data  # of another form: coded anew


def test_slide_tiles() -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(ROOT / "examples" / "CMU-1-Small-Region.svs") as file:
        page = file.pages[0]
        found = set()
        for offset, size in list(zip(page.dataoffsets, page.databytecounts, strict=True))[::9]:
            file.filehandle.seek(offset)
            data, tables = file.filehandle.read(size), page.jpegtables
            parts = split(data, tables)
            source = SourceJpeg(data, tables, parts.image.transform)
            plain = synthesise(parts.image)
            stored = stored_jpeg(dlpr.encode(plain, source_jpeg=source))
            hint = parts.hint(stored)
            assert join(parts.template, stored, hint) == data
            assert len(hint) <= (0 if stored is not None else 12)
            found.add(parts.template)
        assert len(found) == 1


@pytest.mark.skipif(not REAL_SLIDES.is_dir(), reason="real slides are not here")
def test_dicom_frames() -> None:
    pydicom = pytest.importorskip("pydicom")
    slide = pydicom.dcmread(REAL_SLIDES / "camelyon-thumb-jpeg.dcm")
    frames = list(pydicom.encaps.generate_frames(slide.PixelData, number_of_frames=int(slide.NumberOfFrames)))
    assert len(frames) > 10
    assert all(made_again(bytes(frame))[1] == b"" for frame in frames)
    assert len({split(bytes(frame)).template for frame in frames}) == 2  # a byte fills up odd frames


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Cut bytes off or change some."""
    if rng.random() < 0.3:
        return data[: int(rng.integers(len(data)))]
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
    return bytes(changed)


def check_damaged_files(rng: np.random.Generator, files: list[bytes]) -> bool:
    """Damage a JPEG: its very bytes are made, or it is refused; whether they were made."""
    changed = damaged(rng, files[int(rng.integers(len(files)))])
    try:
        parts = split(changed)
    except UnsupportedInputError:
        return False
    assert join(parts.template, parts.image, parts.hint(parts.image)) == changed
    return True


def check_damaged_parts(rng: np.random.Generator, files: list[bytes]) -> bool:
    """Damage template or hint: some bytes, or a typed error; whether there were bytes."""
    parts = split(files[int(rng.integers(len(files)))])
    stored = parts.image if rng.random() < 0.5 else None
    other = JpegImage(
        parts.image.height,
        parts.image.width,
        (0, 0),
        parts.image.transform,
        parts.image.sampling,
        parts.image.upsampling,
        True,
        parts.image.tables,
        tuple(np.where(rng.random(c.shape) < 0.01, c + 1, c).astype(np.int16) for c in parts.image.coefficients),
    )
    hint = parts.hint(other if stored is not None else None)
    template = parts.template
    if rng.random() < 0.5:
        template = Template(damaged(rng, template.data))
    else:
        hint = damaged(rng, hint) if hint else bytes(rng.integers(0, 256, 9).astype(np.uint8))
    try:
        out = join(template, stored, hint)
    except BitstreamError:
        return False
    assert len(out) < 1 << 24
    return True


def files() -> list[bytes]:
    """Small JPEGs of several kinds."""
    image = pixels(24, 31)
    return [
        *(jpeg(image, subsampling=s, restart_marker_blocks=r, optimize=s == 1) for s in (0, 1, 2) for r in (0, 2)),
        *(jpeg(image, subsampling=s, restart_marker_blocks=s, progressive=True) for s in (0, 2)),
        jpeg(image[..., 0], optimize=True),
        jpeg(image[..., 0], progressive=True),
        jpeg(np.full((24, 31, 3), 200, np.uint8)) + b"junk",
    ]


def test_damage() -> None:
    rng, some = np.random.default_rng(14), files()
    for check, count in ((check_damaged_files, 400), (check_damaged_parts, 300)):
        outcomes = [check(rng, some) for _ in range(count)]
        assert 0.03 < np.mean(outcomes) < 0.9


@pytest.mark.full
def test_much_damage() -> None:
    rng, some = np.random.default_rng(15), files()
    for check in (check_damaged_files, check_damaged_parts):
        for _ in range(4000):
            check(rng, some)


def test_hints_are_bounded() -> None:
    import zlib

    bomb = bytes([64 | 16]) + zlib.compress(bytes(MOST_INFLATED + 1), 9, wbits=-15)
    with pytest.raises(CorruptError, match="hint"):
        unpack_hint(bomb)
    for bad in (b"\x80", b"\xff", b"\x10", b"\x10\1", b"\x40", b"\x08\2", b"\x04\3\0", b"\x01\3\xff\xff\xff\x7f"):
        with pytest.raises(CorruptError):
            unpack_hint(bad)
