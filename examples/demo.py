"""Convert a slide as it is and its pixels at tau 0, 1 and 3, verify, compare the sizes. ``make demo`` runs this.

    python examples/demo.py [SLIDE] [--out FOLDER] [--tile N] [--taus 0,1,3]

A slide whose tiles are JPEG is converted with the default options first: those tiles are kept, re-packed without
loss. The other rows code its decoded pixels (--source-tiles never). Their peer is JPEG XL, effort 7, on the very same
tiles (edge tiles padded with white, as in the archive): lossless at tau 0; at tau >= 1 lossless coding of the pixels
rounded to multiples of 2 tau + 1, which keeps the same bound.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.execute import default_threads
from dlpr_wsi.pipeline.plan import Pyramid, SourceTiles
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.progress import make_progress
from dlpr_wsi.report import slide_lines
from dlpr_wsi.sources.opening import open_source

try:
    import imagecodecs
except ImportError:
    imagecodecs = None

HERE = Path(__file__).parent


def jpegxl_bytes(slide: Path, tile: int, tau: int) -> tuple[int, float] | None:
    """Return the size of all tiles as JPEG XL e7 streams, and the seconds it took on all cores."""
    if imagecodecs is None:
        return None
    source = open_source(slide)
    level = source.facts.levels[0]
    tiles = []
    for y in range(0, level.height, tile):
        for x in range(0, level.width, tile):
            width, height = min(tile, level.width - x), min(tile, level.height - y)
            padded = np.full((tile, tile, 3), 255, np.uint8)
            padded[:height, :width] = source.read(x, y, width, height)
            tiles.append(padded)
    source.close()

    def size(pixels: np.ndarray) -> int:
        rounded = ((pixels.astype(np.int32) + tau) // (2 * tau + 1)).astype(np.uint8)
        return len(imagecodecs.jpegxl_encode(rounded, lossless=True, effort=7, numthreads=1))

    begin = time.perf_counter()
    with ThreadPoolExecutor(default_threads()) as pool:
        total = sum(pool.map(size, tiles))
    return total, time.perf_counter() - begin


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Convert, verify and compare with JPEG XL.")
    parser.add_argument("slide", nargs="?", type=Path, default=HERE / "CMU-1-Small-Region.svs")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the archives")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--taus", type=lambda text: [int(tau) for tau in text.split(",")], default=[0, 1, 3])
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)

    source = open_source(options.slide)
    facts = source.facts
    source.close()
    print("\n".join(slide_lines(facts)), end="\n\n")

    rows = []
    good = True
    runs = [(tau, SourceTiles.NEVER) for tau in options.taus]
    if facts.codec.name == "JPEG" and facts.tile_width is not None:
        runs.insert(0, (0, SourceTiles.AUTO))
    for tau, kept in runs:
        label = "tiles kept" if kept is SourceTiles.AUTO else f"tau {tau}"
        archive = options.out / f"{options.slide.stem}-{label.replace(' ', '-')}.zarr"
        tile = None if kept is SourceTiles.AUTO else options.tile
        written = convert(
            options.slide,
            archive,
            options=ConvertOptions(tau=tau, tile=tile, source_tiles=kept, pyramid=Pyramid.NEVER),
            overwrite=True,
            restart=True,
            progress=make_progress(f"convert, {label}", sys.stderr),
        )
        checked = verify(archive, options.slide, progress=make_progress(f"verify, {label}", sys.stderr))
        good &= checked.ok
        peer = jpegxl_bytes(options.slide, options.tile, tau) if kept is SourceTiles.NEVER else None
        bits = 8 / (written.width * written.height)
        rows.append(
            [
                str(tau),
                "kept" if kept is SourceTiles.AUTO else "pixels",
                f"{written.archive_bytes:,}",
                f"{written.bits_per_pixel:.3f}",
                f"{peer[0]:,}" if peer else "-",
                f"{peer[0] * bits:.3f}" if peer else "-",
                f"{written.archive_bytes / peer[0]:.3f}" if peer else "-",
                f"{written.seconds:.1f}",
                f"{checked.seconds:.1f}",
                f"{peer[1]:.1f}" if peer else "-",
                "-" if checked.max_error is None else str(checked.max_error),
                "ok" if checked.ok else f"{len(checked.bad)} BAD CHUNKS",
            ]
        )
    header = [
        ["tau", "tiles", "DLPR", "DLPR", "JPEG XL e7", "JPEG XL", "DLPR /", "convert", "verify", "JPEG XL", "max", ""],
        ["", "", "bytes", "bits/px", "bytes", "bits/px", "JPEG XL", "s", "s", "s", "|error|", "verified"],
    ]
    widths = [max(len(row[column]) for row in header + rows) for column in range(len(header[0]))]
    print(f"source file {facts.file_bytes:,} bytes ({facts.codec}); raw pixels {written.raw_bytes:,} bytes")
    for row in header + rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print()
    if facts.codec.lossy:
        print(
            f"The source is a lossy {facts.codec.name} slide. Where its tiles are kept (the default) the archive is\n"
            "smaller than they are and gives the same pixels; coding decoded pixels anew takes more bytes."
        )
    print(
        "DLPR counts every file of the archive. Seconds are wall-clock times; convert checks every chunk\n"
        f"against the slide, verify does so again; all run on {default_threads()} cores. At tau >= 1 JPEG XL codes\n"
        "pixels rounded to multiples of 2 tau + 1."
    )
    if imagecodecs is None:
        print("JPEG XL is missing from the table: pip install 'dlpr-wsi[bench]'")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
