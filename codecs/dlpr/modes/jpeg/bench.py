"""JPEGs coded anew beside JPEG XL's lossless transcode: ``python -m dlpr.modes.jpeg.bench FILES`` and ``dlpr.bench``.

FILES are slides with JPEG tiles or JPEG files; those that cannot be used (progressive ...) are counted, not coded.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dlpr
from dlpr.errors import UnsupportedInputError
from dlpr.modes.jpeg.fields import ColourTransform
from dlpr.modes.jpeg.parse import SourceJpeg, parse
from dlpr.modes.jpeg.synthesis import synthesise

__all__ = ["compare", "slide_jpegs"]


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


def compare(jpegs: list[SourceJpeg], threads: int, repeats: int = 3) -> dict[str, float]:
    """Sizes relative to the JPEGs (their tables not counted), and speed.

    Returns
    -------
    dict
        ``jpeg`` (bytes of the JPEGs), ``dlpr`` and ``JPEG XL transcode`` (share of them, all headers included),
        ``encode`` and ``decode`` (MP/s, medians; with one thread of processor time).
    """
    import imagecodecs

    pixels = [synthesise(parse(s.data, s.tables, s.transform)) for s in jpegs]
    streams = dlpr.encode_batch(pixels, source_jpegs=jpegs, threads=threads)
    for a, b in zip(pixels, dlpr.decode_batch(streams, threads=threads), strict=True):
        if (a != b).any():
            raise AssertionError("a sample differs")
    whole = [s.data[:2] + s.tables[2:-2] + s.data[2:] if s.tables else s.data for s in jpegs]
    peer = sum(len(imagecodecs.jpegxl_encode_jpeg(data)) for data in whole)
    source = sum(len(s.data) for s in jpegs)
    mp = sum(a.shape[0] * a.shape[1] for a in pixels) / 1e6

    def speed(run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter() if threads > 1 else time.process_time()
            run()
            seconds.append((time.perf_counter() if threads > 1 else time.process_time()) - start)
        return float(mp / statistics.median(seconds))

    return {
        "jpeg": source,
        "dlpr": sum(map(len, streams)) / source,
        "JPEG XL transcode": peer / source,
        "encode": speed(lambda: dlpr.encode_batch(pixels, source_jpegs=jpegs, threads=threads)),
        "decode": speed(lambda: dlpr.decode_batch(streams, threads=threads)),
    }


def usable(paths: Sequence[Path]) -> list[SourceJpeg]:
    """JPEGs of slides and files, without those that the codec has no use for."""
    found: list[SourceJpeg] = []
    for path in paths:
        is_file = path.suffix.lower() in (".jpg", ".jpeg")
        for source in [SourceJpeg(path.read_bytes())] if is_file else slide_jpegs(path):
            try:
                parse(source.data, source.tables, source.transform)
            except UnsupportedInputError as error:
                print(f"{path}: {error}")
            else:
                found.append(source)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m dlpr.modes.jpeg.bench``."""
    p = argparse.ArgumentParser(prog="python -m dlpr.modes.jpeg.bench", description=(__doc__ or "").split("\n")[0])
    p.add_argument("files", type=Path, nargs="+")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args(argv)
    jpegs = usable(args.files)
    if not jpegs:
        print("bench: no JPEG that can be used; name slides with JPEG tiles, or sequential JPEG files")
        return 1
    result = compare(jpegs, args.threads)
    print(f"{len(jpegs)} JPEGs, {result['jpeg']:.0f} bytes; {args.threads} threads")
    print(f"dlpr {result['dlpr']:.4f} x, JPEG XL transcode {result['JPEG XL transcode']:.4f} x")
    print(f"encode {result['encode']:.2f} MP/s, decode {result['decode']:.2f} MP/s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
