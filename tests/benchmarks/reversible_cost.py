"""What an archive that gives the slide back costs: bytes, restoring, and reading the mounted file at random.

    python tests/benchmarks/reversible_cost.py IMAGES... [--megapixels 200] [--folder DIR] [--quality 80]

IMAGES are pictures, or folders of them. They are cut into tiles of 256 px, each used as often as all others, and stored
as an Aperio SVS (JPEG 4:2:0, BigTIFF, levels 1, 4 and 16). Printed: the reversible archive against the plain one plus
what the file holds outside its tiles (compressed); restoring against decoding all chunks; 1,000 reads of 64 KiB at
different places of the mounted file, by one reader and by 8, first cold (a new mount, whose caches are empty), then the
same again. With --folder the archives stay, so that timings can be repeated alone (--only).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "dlpr_wsi" / "kit"))
from kit_svs import svs

from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.encode import Decoder, decode_chunks
from dlpr_wsi.pipeline.execute import default_threads
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.reversible.restore import restore
from dlpr_wsi.sources.opening import open_archive

TILE = 256
READ = 64 << 10


def tiles(paths: list[Path]) -> Iterator[np.ndarray]:
    """Cut pictures into tiles; what is left over at their edges is not used."""
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix.lower() not in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
                continue
            pixels = np.asarray(Image.open(file).convert("RGB"))
            for y in range(0, pixels.shape[0] - TILE + 1, TILE):
                for x in range(0, pixels.shape[1] - TILE + 1, TILE):
                    yield pixels[y : y + TILE, x : x + TILE]


def mosaic(paths: list[Path], megapixels: float) -> tuple[np.ndarray, int]:
    """Return a square of tiles, and how many of them differ."""
    side = round((megapixels * 1e6) ** 0.5 / TILE)
    out = np.empty((side * TILE, side * TILE, 3), np.uint8)
    places = [(y * TILE, x * TILE) for y in range(side) for x in range(side)]
    count = 0
    for (y, x), tile in zip(places, tiles(paths), strict=False):
        out[y : y + TILE, x : x + TILE] = tile
        count += 1
    if not count:
        raise SystemExit("no pictures of 256 px and more there")
    for number in range(count, len(places)):
        (y, x), (fy, fx) = places[number], places[number % count]
        out[y : y + TILE, x : x + TILE] = out[fy : fy + TILE, fx : fx + TILE]
    return out, count


def size_of(folder: Path) -> int:
    """Return the bytes of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def decode(archive: Path, threads: int) -> float:
    """Read and decode all chunks; return the seconds."""
    found = open_archive(archive)
    begin = time.perf_counter()
    decoder, waiting = Decoder(threads), []
    for level in found.levels:
        for row in range(level.rows):
            for column in range(level.columns):
                stream = found.stream(level.index, row, column)
                if stream is not None:
                    waiting.append(stream)
                if len(waiting) == 64:
                    decode_chunks(waiting, decoder)
                    waiting = []
    decode_chunks(waiting, decoder)
    return time.perf_counter() - begin


def speed(archive: Path, folder: Path, threads: int, rounds: int) -> None:
    """Decode and restore in turn, and print the quickest of each."""
    decoding, restoring = [], []
    for _ in range(rounds):
        decoding.append(decode(archive, threads))
        restoring.append(restore(archive, folder / "back.svs", threads=threads, overwrite=True).seconds)
        (folder / "back.svs").unlink()
    ratio = min(decoding) / min(restoring)
    print(
        f"decode {min(decoding):.1f} s, restore {min(restoring):.1f} s: restoring has {ratio:.2f} x the speed; "
        f"{threads} threads",
        flush=True,
    )


def read_at_random(file: Path, places: list[int], readers: int) -> list[float]:
    """Return how long each read took, in ms."""
    with file.open("rb", buffering=0) as handle:
        descriptor = handle.fileno()
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

        def read(at: int) -> float:
            begin = time.perf_counter()
            os.pread(descriptor, READ, at)
            return 1000 * (time.perf_counter() - begin)

        with ThreadPoolExecutor(readers) as pool:
            return list(pool.map(read, places))


def mounted(archive: Path, slide: Path, folder: Path, readers: int) -> None:
    """Mount, read, and print."""
    folder.mkdir()
    command = [sys.executable, "-m", "dlpr_wsi.cli", "mount", str(archive), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if "mounted at" not in process.stdout.readline():
            raise SystemExit("it cannot be mounted")
        blocks = range(slide.stat().st_size // READ)
        places = [READ * block for block in random.Random(0).sample(blocks, min(1000, len(blocks)))]
        for name in ("cold", "warm"):
            begin = time.perf_counter()
            took = sorted(read_at_random(folder / slide.name, places, readers))
            rate = len(took) * READ / 1e6 / (time.perf_counter() - begin)
            print(
                f"{readers} readers, {name}: {len(took)} reads, median {statistics.median(took):.2f} ms, "
                f"95 % {took[len(took) * 95 // 100]:.2f} ms, {rate:.0f} MB/s"
            )
        if readers > 1:
            same = subprocess.run(["cmp", str(folder / slide.name), str(slide)], check=False).returncode == 0
            print("cmp of the mounted file and the slide:", "equal" if same else "DIFFERENT")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--megapixels", type=float, default=200)
    parser.add_argument("--quality", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("speed", "mount"), help="of what is timed once the archives are there")
    parser.add_argument("--folder", type=Path, help="kept, and what lies there is used again")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    threads = default_threads()
    slide, plain, whole = folder / "slide.svs", folder / "plain.zarr", folder / "whole.zarr"
    try:
        if not slide.exists():
            pixels, different = mosaic(arguments.images, arguments.megapixels)
            print(
                f"{pixels.shape[0] * pixels.shape[1] / 1e6:.0f} MP, {different} different tiles, Q{arguments.quality}"
            )
            partial = folder / "partial.svs"
            svs(partial, pixels, steps=(2, 4), tile=TILE, quality=arguments.quality, kind="big")
            partial.rename(slide)
            del pixels
        for archive in (plain, whole):
            if not archive.exists():
                begin = time.perf_counter()
                options = ConvertOptions(reversible=archive is whole)
                report = convert(slide, archive, options=options, threads=threads)
                print(f"{archive.name}: {time.perf_counter() - begin:.1f} s, {report.tiles_by_mode}", flush=True)
        with Originals(whole) as originals:
            outside, made = int(originals.map.kept.stored.sum()), originals.map.made_bytes
        ratio = (size_of(whole) - outside) / size_of(plain)
        print(f"slide {slide.stat().st_size:,} bytes, of them made {made:,}; outside tiles {outside:,} (compressed)")
        print(f"plain {size_of(plain):,}, reversible {size_of(whole):,}; without what is outside {ratio:.5f} x plain")
        if arguments.only != "mount":
            speed(whole, folder, threads, arguments.rounds)
        if arguments.only != "speed":
            for readers in (1, 8):
                mounted(whole, slide, folder / "mnt", readers)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
