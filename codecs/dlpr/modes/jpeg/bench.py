"""JPEGs coded anew beside JPEG XL and Lepton, in one run: ``python -m dlpr.modes.jpeg.bench PATHS``, ``dlpr.bench``.

PATHS are slides with JPEG tiles, JPEG files and folders of them: a table for each folder and each slide, one for all
files. JPEGs that the codec has no use for are named, not coded. With ``--prior`` each set is one slide: its tiles, or
its files cut into windows, coded with and without a prior that some of them taught.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.fields import ColourTransform
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.parse import SourceJpeg, parse, window
from dlpr.modes.jpeg.synthesis import synthesise

__all__ = ["PriorRow", "Row", "codestream", "compare", "slide_jpegs", "table", "with_prior"]

U8 = npt.NDArray[np.uint8]
_SUFFIXES = (".jpg", ".jpeg")
_ADOBE_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
_CONTAINER = bytes.fromhex("0000000c4a584c200d0a870a")


@dataclass(frozen=True)
class Row:
    """A codec on a set of JPEGs."""

    gives: str
    """What a decoder gives back."""
    size: int
    """Bytes of all streams, headers included."""
    share: float
    """Size relative to the JPEGs, whose shared tables (TIFF) are not counted."""
    encode: float
    """MP/s of processor time, the median."""
    decode: float
    """MP/s of processor time, the median."""


@dataclass(frozen=True)
class _Codec:
    gives: str
    encode: Callable[[], list[bytes]]
    decode: Callable[[list[bytes]], Sequence[Any]]


def slide_jpegs(path: Path) -> list[SourceJpeg]:
    """JPEG tiles of the first page of a TIFF slide; none where it holds something else."""
    import tifffile

    with tifffile.TiffFile(path) as slide:
        page = slide.pages.first
        if int(page.compression) != 7:
            return []
        transform = ColourTransform.NONE if int(page.photometric) == 2 else ColourTransform.YCBCR
        out = []
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            slide.filehandle.seek(offset)
            out.append(SourceJpeg(slide.filehandle.read(size), page.jpegtables, transform))
        return out


def codestream(data: bytes) -> bytes:
    """Cut the bare codestream out of a JPEG XL file: all that a decoder needs for the pixels.

    Parameters
    ----------
    data : bytes
        A JPEG XL container, or a codestream, which is given back.

    Returns
    -------
    bytes
        The contents of its ``jxlc`` box, or of its ``jxlp`` boxes in their order; not ``jbrd``, from which with these
        the JPEG file is made again, nor metadata.

    Raises
    ------
    ValueError
        No JPEG XL, or boxes that do not follow each other.
    """
    if data[:2] == b"\xff\x0a":
        return data
    if data[:12] != _CONTAINER:
        raise ValueError("no JPEG XL file")
    out, at = b"", 0
    while at < len(data):
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size == 0:  # up to the end of the file
            size = len(data) - at
        if size < head or size > len(data) - at:
            raise ValueError("a box of a JPEG XL file is cut short")
        content = data[at + head : at + size]
        out += content if kind == b"jxlc" else content[4:] if kind == b"jxlp" else b""  # 4 bytes: the part's number
        at += size
    if not out:
        raise ValueError("a JPEG XL file without a codestream")
    return out


def whole_file(source: SourceJpeg) -> bytes:
    """Join tables and tile of a TIFF to a JPEG file; Adobe's marker where it would be taken for YCbCr otherwise."""
    data = source.data[:2] + source.tables[2:-2] + source.data[2:] if source.tables else source.data
    image = parse(data)
    if source.transform is ColourTransform.NONE and image.transform is ColourTransform.YCBCR:
        data = data[:2] + _ADOBE_RGB + data[2:]
    return data


def _codecs(jpegs: Sequence[SourceJpeg], pixels: Sequence[U8]) -> dict[str, _Codec]:
    import imagecodecs as ic

    files = [whole_file(s) for s in jpegs]
    out = {
        "dlpr": _Codec(
            "pixels",
            lambda: dlpr.encode_batch(pixels, source_jpegs=jpegs, threads=1),
            lambda streams: dlpr.decode_batch(streams, threads=1),
        ),
        "JPEG XL, codestream": _Codec(
            "pixels",
            lambda: [codestream(bytes(ic.jpegxl_encode_jpeg(f, numthreads=1))) for f in files],
            lambda streams: [ic.jpegxl_decode(s, numthreads=1) for s in streams],
        ),
        "JPEG XL, transcode": _Codec(
            "JPEG file",
            lambda: [bytes(ic.jpegxl_encode_jpeg(f, numthreads=1)) for f in files],
            lambda streams: [bytes(ic.jpegxl_decode_jpeg(s, numthreads=1)) for s in streams],
        ),
    }
    try:
        import lepton_jpeg_python as lepton
    except ImportError:
        return out
    options = {"max_partitions": 1}  # one thread, one model
    out["Lepton"] = _Codec(
        "JPEG file",
        lambda: [bytes(lepton.compress_bytes(f, options)) for f in files],
        lambda streams: [bytes(lepton.decompress_bytes(s, options)) for s in streams],
    )
    return out


def _check(name: str, codec: _Codec, back: Sequence[Any], jpegs: Sequence[SourceJpeg], pixels: Sequence[U8]) -> str:
    """What a codec gives back, once seen to be so."""
    if codec.gives == "JPEG file":
        if list(back) != [whole_file(s) for s in jpegs]:
            raise AssertionError(f"{name}: a file differs")
        return codec.gives
    off = max(
        int(np.abs(np.asarray(b).reshape(a.shape).astype(np.int16) - a).max())
        for a, b in zip(pixels, back, strict=True)
    )
    if off and name == "dlpr":
        raise AssertionError("dlpr: a sample differs")
    return f"pixels, off by up to {off}" if off else "pixels"


def compare(jpegs: Sequence[SourceJpeg], repeats: int = 3) -> dict[str, Row]:
    """Size and speed of each codec, each JPEG a stream of its own, on one thread.

    Every stream is decoded and compared: with the pixels of libjpeg, or the JPEG file. Lepton and JPEG XL's transcode
    take whole files, so that their streams hold the tables that a TIFF stores once. Their decoders give a JPEG file,
    whose pixels are not decoded in their time.

    Parameters
    ----------
    jpegs : sequence of SourceJpeg
        JPEGs that `parse` reads.
    repeats : int
        Runs of each codec, taken in turn.

    Returns
    -------
    dict of str to Row
        By codec, ``dlpr`` first; ``Lepton`` where lepton-jpeg-python is installed.
    """
    pixels = [synthesise(parse(s.data, s.tables, s.transform)) for s in jpegs]
    source = sum(len(s.data) for s in jpegs)
    mp = sum(a.shape[0] * a.shape[1] for a in pixels) / 1e6
    codecs = _codecs(jpegs, pixels)
    streams: dict[str, list[bytes]] = {}
    gives: dict[str, str] = {}
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in codecs}
    for i in range(repeats):
        for name, codec in codecs.items():
            start = time.process_time()
            streams[name] = codec.encode()
            middle = time.process_time()
            back = codec.decode(streams[name])
            end = time.process_time()
            seconds[name][0].append(middle - start)
            seconds[name][1].append(end - middle)
            if i == 0:
                gives[name] = _check(name, codec, back, jpegs, pixels)
    out = {}
    for name, parts in streams.items():
        size = sum(map(len, parts))
        encode, decode = (mp / max(statistics.median(s), 1e-9) for s in seconds[name])
        out[name] = Row(gives[name], size, size / source, encode, decode)
    return out


def table(rows: dict[str, Row], jpegs: Sequence[SourceJpeg]) -> str:
    """The rows as Markdown."""
    lines = [
        f"| {len(jpegs)} JPEGs, {sum(len(s.data) for s in jpegs):,} bytes | gives back | bytes | x the JPEGs "
        "| encode | decode |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {r.gives} | {r.size:,} | {r.share:.4f} | {r.encode:.1f} | {r.decode:.1f} |"
        for name, r in rows.items()
    ]
    return "\n".join([*lines, "", "One thread, each JPEG a stream; encode, decode: MP/s of processor time, medians."])


@dataclass(frozen=True)
class PriorRow:
    """A set of JPEGs as one slide, with a prior."""

    chunks: int
    taught: int
    """Chunks that the prior was learnt from."""
    prior: int
    """Size of the prior in bytes."""
    plain: int
    """Bytes of all streams without it."""
    shorter: int
    """Bytes of all streams with it, the prior's not counted."""
    unseen: float
    """With it over without it, the chunks that did not teach it."""

    @property
    def counted(self) -> float:
        """With it over without it, all chunks and the prior's own bytes."""
        return (self.shorter + self.prior) / self.plain


def _chunks(jpegs: Sequence[SourceJpeg], side: int, of_whole: bool) -> tuple[list[JpegImage], list[U8]]:
    """JPEGs of at most ``side`` px as they are, larger ones in windows; their pixels, or those of the whole there."""
    images, pixels = [], []
    for source in jpegs:
        image = parse(source.data, source.tables, source.transform)
        pixels_of_whole = synthesise(image) if of_whole else None
        for top in range(0, image.height, side):
            for left in range(0, image.width, side):
                height, width = min(side, image.height - top), min(side, image.width - left)
                images.append(window(image, top, left, height, width))
                if pixels_of_whole is None:
                    pixels.append(synthesise(images[-1]))
                else:
                    part = pixels_of_whole[top : top + height, left : left + width]
                    pixels.append(np.ascontiguousarray(part))
    return images, pixels


def with_prior(jpegs: Sequence[SourceJpeg], most: int = 64, side: int = 256, of_whole: bool = False) -> PriorRow | None:
    """Code JPEGs with a prior that one in eight of their chunks taught, ``most`` at most; every stream is decoded.

    Parameters
    ----------
    jpegs : sequence of SourceJpeg
        JPEGs that `parse` reads.
    most : int
        Chunks to learn from at most.
    side : int
        Larger JPEGs are cut into windows of so many px.
    of_whole : bool
        Take the windows' pixels from the decoded whole, where subsampled chroma at a cut is made of blocks on either
        side, so that windows need a residual there; else each window is a tile of its own JPEG data.

    Returns
    -------
    PriorRow or None
        None where nothing was learnt.
    """
    images, pixels = _chunks(jpegs, side, of_whole)
    count = max(1, min(most, len(images) // 8))
    taught = {(2 * i + 1) * len(images) // (2 * count) for i in range(count)}
    prior = dlpr.Prior.learn([images[i] for i in sorted(taught)])
    if prior is None:
        return None
    sizes = []
    for one in (None, prior):
        streams = dlpr.encode_batch(pixels, source_jpegs=images, jpeg="given", prior=one)
        for want, back in zip(pixels, dlpr.decode_batch(streams, prior=one), strict=True):
            if not np.array_equal(want, back):
                raise AssertionError("dlpr: a sample differs")
        sizes.append([len(stream) for stream in streams])
    others = [i for i in range(len(images)) if i not in taught]
    plain, shorter = (sum(part[i] for i in others) for part in sizes)
    return PriorRow(
        len(images), len(taught), len(prior.data), sum(sizes[0]), sum(sizes[1]), shorter / plain if plain else 1.0
    )


def prior_line(row: PriorRow) -> str:
    """The row as a sentence."""
    return (
        f"{row.chunks} chunks, {row.taught} of which taught a prior of {row.prior:,} bytes: {row.plain:,} bytes become "
        f"{row.shorter:,}; {row.unseen:.4f} x of the others, {row.counted:.4f} x of all with the prior's bytes"
    )


def usable(paths: Sequence[Path]) -> list[SourceJpeg]:
    """JPEGs of slides and files, without those that the codec has no use for."""
    found: list[SourceJpeg] = []
    for path in paths:
        is_file = path.suffix.lower() in _SUFFIXES
        for source in [SourceJpeg(path.read_bytes())] if is_file else slide_jpegs(path):
            try:
                parse(source.data, source.tables, source.transform)
            except UnsupportedInputError as error:
                print(f"{path}: {error}")
            else:
                found.append(source)
    return found


def sets(paths: Sequence[Path]) -> Iterator[tuple[str, list[Path]]]:
    """Name and files of each set: a folder's JPEG files, a slide, all files that were named."""
    files = [p for p in paths if p.suffix.lower() in _SUFFIXES and not p.is_dir()]
    for path in paths:
        if path.is_dir():
            yield path.name, sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        elif path not in files:
            yield path.name, [path]
    if files:
        yield "files", files


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m dlpr.modes.jpeg.bench``."""
    p = argparse.ArgumentParser(prog="python -m dlpr.modes.jpeg.bench", description=(__doc__ or "").split("\n")[0])
    p.add_argument("paths", type=Path, nargs="+")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--prior", action="store_true", help="each set as one slide, with and without a prior")
    args = p.parse_args(argv)
    rc = 0
    for name, files in sets(args.paths):
        jpegs = usable(files)
        if jpegs and args.prior:
            for of_whole, what in ((False, "tiles of their own JPEG data"), (True, "cut from the decoded whole")):
                row = with_prior(jpegs, of_whole=of_whole)
                print(f"{name}, {what}: {'nothing to learn' if row is None else prior_line(row)}", flush=True)
        elif jpegs:
            print(f"{name}\n\n{table(compare(jpegs, args.repeats), jpegs)}\n", flush=True)
        else:
            print(f"bench: no JPEG in {name} that can be used; name slides with JPEG tiles, or JPEG files")
            rc = 1
    return rc


if __name__ == "__main__":
    raise SystemExit(main())
