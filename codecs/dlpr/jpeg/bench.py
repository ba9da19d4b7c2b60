"""Source JPEGs of a slide coded anew, beside JPEG XL's lossless transcode, for ``python -m dlpr.bench``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import dlpr
from dlpr.jpeg.fields import ColourTransform
from dlpr.jpeg.parse import SourceJpeg, parse
from dlpr.jpeg.synthesis import synthesise

__all__ = ["compare", "slide_jpegs"]


def slide_jpegs(path: Path) -> list[SourceJpeg]:
    """JPEG tiles of the first page of a TIFF slide; none where it holds something else."""
    import tifffile

    with tifffile.TiffFile(path) as slide:
        page = slide.pages[0]
        if int(page.compression) != 7:
            return []
        transform = ColourTransform.NONE if int(page.photometric) == 2 else ColourTransform.YCBCR
        out = []
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            slide.filehandle.seek(offset)
            out.append(SourceJpeg(slide.filehandle.read(size), page.jpegtables, transform))
        return out


def compare(jpegs: list[SourceJpeg], threads: int, repeats: int = 3) -> dict[str, float]:
    """Sizes relative to the JPEGs (their tables not counted), and speed.

    Returns
    -------
    dict
        ``jpeg`` (bytes of the JPEGs), ``dlpr`` and ``JPEG XL transcode`` (share of them, all headers included),
        ``encode`` and ``decode`` (MP/s, medians).
    """
    import imagecodecs

    pixels = [synthesise(parse(s.data, s.tables, s.transform)) for s in jpegs]
    streams = dlpr.encode_batch(pixels, source_jpegs=jpegs, threads=threads)
    for a, b in zip(pixels, dlpr.decode_batch(streams, threads=threads), strict=True):
        if (a != b).any():
            raise AssertionError("a sample differs")
    whole = [s.data[:2] + s.tables[2:-2] + s.data[2:] if s.tables else s.data for s in jpegs]
    peer = sum(len(imagecodecs.jpegxl_encode_jpeg(data)) for data in whole)
    source, mp = sum(len(s.data) for s in jpegs), sum(a.shape[0] * a.shape[1] for a in pixels) / 1e6

    def speed(run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return mp / statistics.median(seconds)

    return {
        "jpeg": source,
        "dlpr": sum(map(len, streams)) / source,
        "JPEG XL transcode": peer / source,
        "encode": speed(lambda: dlpr.encode_batch(pixels, source_jpegs=jpegs, threads=threads)),
        "decode": speed(lambda: dlpr.decode_batch(streams, threads=threads)),
    }
