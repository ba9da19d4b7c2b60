"""docs/format/source-map.md read as it is written, sharing nothing with the package but the archive."""

import hashlib
import struct
import zlib
from pathlib import Path

import imagecodecs
import pytest

PAGE = Path(__file__).parents[3] / "docs" / "format" / "source-map.md"


class Index:
    """Takes fields off the front of the index."""

    def __init__(self, data):
        self.data = data

    def take(self, size):
        piece, self.data = self.data[:size], self.data[size:]
        assert len(piece) == size
        return piece

    def numbers(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def bytes(self):
        return self.take(*self.numbers("<Q"))

    def column(self, count):
        (width,) = self.take(1)
        planes = self.take(width * count)
        return [sum(planes[k * count + i] << 8 * k for k in range(width)) for i in range(count)]

    def signed(self, count):
        return [v // 2 if v % 2 == 0 else -(v + 1) // 2 for v in self.column(count)]


def read(data):
    """Return files, parts as dictionaries, segments of each file, and the kept bytes."""
    assert data[:8] == b"DLPRSRC\x01"
    trailer = data[-44:]
    offset, stored, size, crc, version, end = struct.unpack("<QQQII8s", trailer[:40])
    assert (version, end, zlib.crc32(trailer[:40])) == (1, b"DLPRSRC\n", struct.unpack("<I", trailer[40:])[0])
    assert offset + stored == len(data) - 44
    raw = imagecodecs.zstd_decode(data[offset : offset + stored])
    assert (len(raw), zlib.crc32(raw)) == (size, crc)
    index = Index(raw)
    version, files, templates, parts, segments, blocks = index.numbers("<IQQQQQ")
    assert version == 1
    names = [(index.bytes().decode(), *index.numbers("<Q32sQ")) for _ in range(files)]
    makers = [(index.take(1)[0], index.bytes()) for _ in range(templates)]
    (total,) = index.numbers("<Q")
    sizes, crcs = index.column(blocks), index.column(blocks)
    kept, at = b"", 8
    for length, check in zip(sizes, crcs, strict=True):
        block = imagecodecs.zstd_decode(data[at : at + length])
        assert zlib.crc32(block) == check
        kept, at = kept + block, at + length
    assert (len(kept), at) == (total, offset)
    fields = {name: index.column(parts) for name in ("template", "level")}
    fields |= {name: index.signed(parts) for name in ("x", "y")}
    fields |= {name: index.column(parts) for name in ("width", "height", "size", "crc", "hint")}
    gaps = index.signed(sum(size > 64 for size in fields["hint"]))
    short = index.bytes()
    assert sum(size for size in fields["hint"] if size <= 64) == len(short)
    for name in ("x", "y"):
        for i in range(1, parts):
            fields[name][i] += fields[name][i - 1]
    made, rest, step = index.column(segments), index.column(segments), index.signed(segments)
    inside = iter(index.column(sum(made)))
    assert index.data == b""
    out, last, end = [], -1, 0
    for is_made, left, gap in zip(made, rest, step, strict=True):
        if is_made:
            last, begin = last + 1 + gap, next(inside)
            out.append((last, begin, fields["size"][last] - begin - left))
        else:
            out.append((None, end + gap, left))
            end += gap + left
    return names, makers, fields, out, kept, gaps


@pytest.mark.parametrize("where", ["zarr", "j2k", "tiff"])
def test_the_page_says_what_is_written(rev_svs, rev_j2k, rev_tiff, where):
    slide, maker_number, first = rev_svs[0], 1, b"\xff\xd8"
    if where == "j2k":
        slide, maker_number, first = rev_j2k[0], 3, b"\xff\x4f\xff\x51"
        data = (rev_j2k[1] / "source" / "c" / "0").read_bytes()
    elif where == "zarr":
        data = (rev_svs[1] / "source" / "c" / "0").read_bytes()
    else:
        import tifffile

        with tifffile.TiffFile(rev_tiff[1]) as file:
            offset, size = file.pages[0].tags[65474].value
        assert offset % 8 == 0
        data = rev_tiff[1].read_bytes()[offset : offset + size]
    original = slide.read_bytes()
    names, makers, parts, segments, kept, _ = read(data)
    ((name, size, digest, count),) = names
    assert (name, size, digest) == (slide.name, len(original), hashlib.sha256(original).digest())
    assert count == len(segments)
    assert {maker for maker, _ in makers} == {maker_number}
    at = 0
    for part, begin, length in segments:
        if part is None:
            assert original[at : at + length] == kept[begin : begin + length]
        else:
            assert (begin, length) == (0, parts["size"][part])
            assert zlib.crc32(original[at : at + length]) == parts["crc"][part]
            assert original[at : at + length].startswith(first)
            assert (parts["x"][part] % 128, parts["y"][part] % 128) == (0, 0)
        at += length
    assert at == len(original)


def test_the_page_names_what_the_code_has():
    from dlpr_wsi.reversible import layout
    from dlpr_wsi.reversible.makers import MAKERS
    from dlpr_wsi.sources.tiff_archive import TAG_SOURCE

    page = PAGE.read_text()
    assert f"version {layout.VERSION}" in page
    assert f"private tag {TAG_SOURCE}" in page
    assert f"trailer        {layout.TRAILER} bytes" in page
    assert (layout.BLOCK, layout.MAX_INDEX, layout.SHORT_HINT) == (1 << 18, 1 << 26, 64)
    assert all(f"\n| {number} | " in page for number in MAKERS)
