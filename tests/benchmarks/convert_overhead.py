"""What convert costs beyond the codec: its wall time against encoding, and encoding plus decoding, of the same tiles.

    python tests/benchmarks/convert_overhead.py [SLIDE] [--rounds 3] [--source-tiles auto|never] [--workers 0]

Rounds alternate and the quickest of each counts. "encode" is `dlpr.encode_batch` over all tiles in memory on all cores,
"decode" `dlpr.decode_batch`; convert also reads the slide, writes, reads back, decodes and compares every chunk.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

from dlpr_wsi.pipeline.convert import ConvertOptions, convert, make_executor, preview
from dlpr_wsi.pipeline.encode import Decoder, decode_chunks, encode_chunks, padded
from dlpr_wsi.pipeline.execute import default_threads
from dlpr_wsi.pipeline.plan import SourceTiles
from dlpr_wsi.pipeline.work import open_with_levels

EXAMPLE = Path(__file__).parents[2] / "examples" / "CMU-1-Small-Region.svs"
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", nargs="?", type=Path, default=EXAMPLE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source-tiles", choices=("auto", "never"), default="auto")
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    options = ConvertOptions(source_tiles=SourceTiles(arguments.source_tiles))
    threads = default_threads()
    plan = preview(arguments.slide, options).plan
    source = open_with_levels(arguments.slide, len(plan.levels))
    chunks, tiles = [], []
    for index, level in enumerate(plan.levels):
        for row in range(level.rows):
            for column in range(level.columns):
                x, y, width, height = level.box(row, column)
                tile = source.source_tile(index, row, column) if level.follows_source else None
                pixels = source.read(x, y, width, height, index)
                chunks.append(padded(pixels, level.tile_height, level.tile_width, tile))
                tiles.append(tile)
    source.close()
    folder = Path(tempfile.mkdtemp())
    executor = make_executor(0, workers=arguments.workers)
    best = {"encode": 1e9, "decode": 1e9, "convert": 1e9}
    try:
        for _ in range(arguments.rounds):
            begin = time.perf_counter()
            streams = []
            for i in range(0, len(chunks), BATCH):
                streams += encode_chunks(chunks[i : i + BATCH], options.tau, tiles[i : i + BATCH], threads)
            encoded = time.perf_counter()
            for i in range(0, len(streams), BATCH):
                decode_chunks(streams[i : i + BATCH], Decoder(threads))
            decoded = time.perf_counter()
            report = convert(arguments.slide, folder / "a.zarr", options=options, executor=executor, overwrite=True)
            best["convert"] = min(best["convert"], time.perf_counter() - decoded)
            best["encode"] = min(best["encode"], encoded - begin)
            best["decode"] = min(best["decode"], decoded - encoded)
    finally:
        executor.close()
        shutil.rmtree(folder, ignore_errors=True)
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.stages.items())
    print(f"tiles {len(chunks)}, {report.tiles_by_mode}, threads {threads}")
    print(f"encode {best['encode']:.2f} s, decode {best['decode']:.2f} s, convert {best['convert']:.2f} s")
    print(f"stages of the last convert, summed over two tasks side by side: {stages}")
    print(f"convert / encode {best['convert'] / best['encode']:.2f}")
    print(f"convert / (encode + decode) {best['convert'] / (best['encode'] + best['decode']):.2f}")
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"peak RSS of a process {peak >> 10} MiB")


if __name__ == "__main__":
    main()
