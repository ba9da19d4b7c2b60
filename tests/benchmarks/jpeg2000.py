"""Slides of JPEG 2000 tiles through convert, plain and reversible: sizes, residual, time.

    python tests/benchmarks/jpeg2000.py IMAGES... [--rates 1.0 1.7 3.0] [--slides SLIDE...] [--rounds 1] [--export]

Up to four IMAGES are put together as level 0 of SVS slides of kind 33005 (RGB, with OpenJPEG's colour transform) and
33003 (YCbCr without one); level 1 has a quarter of the sides. Tiles of 256 px, 5 decompositions, blocks of 64 x 64, one
layer, 9/7, each tile brought to the rate; rate 0 is lossless (5/3, RCT). ``--slides`` are measured as they are.
Sizes are shares of the stored tiles (``tiles``) or of the slide's file (``file``); MP/s count the pixels of all levels
and the wall time of convert with its check, the quickest of the rounds. ``--export`` measures, in place of this, the
plain archive's way back: export --codec source-j2k --pages on one thread, its size as a share of the slide's file, and
how many samples OpenSlide shows otherwise than the slide's.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

import dlpr
from dlpr_wsi.export import ExportCodec, export
from dlpr_wsi.pipeline.convert import ConvertOptions, ConvertReport, convert
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.sources.opening import open_archive

SIDE = 256
Pixels = NDArray[np.uint8]


def coded(tile: Pixels, kind: int, rate: float) -> bytes:
    """Code a tile at a rate in bits for each pixel."""
    if kind == 33003:
        tile = np.asarray(Image.fromarray(tile).convert("YCbCr"))

    def at(quality: float) -> bytes:
        options = {"codecformat": "j2k", "resolutions": 6, "reversible": not quality, "mct": kind != 33003}
        return bytes(imagecodecs.jpeg2k_encode(np.ascontiguousarray(tile), level=quality, **options))

    if not rate:
        return at(0)
    least, most = 15.0, 60.0  # dB
    for _ in range(9):
        middle = (least + most) / 2
        least, most = (middle, most) if 8 * len(at(middle)) <= rate * SIDE * SIDE else (least, middle)
    return at(least)


def write(path: Path, image: Pixels, kind: int, rate: float) -> None:
    """Write a slide of two levels."""
    height, width = image.shape[:2]
    text = f"Aperio Image Library v11.2.1 \r\n{width}x{height} ({SIDE}x{SIDE}) J2K/KDU Q=70|AppMag = 20|MPP = 0.5"
    small = np.asarray(Image.fromarray(image).resize((width // 4, height // 4), Image.Resampling.BOX))

    def tiles(part: Pixels) -> Iterator[bytes]:
        whole = np.pad(part, [(0, -part.shape[0] % SIDE), (0, -part.shape[1] % SIDE), (0, 0)], "edge")
        for y in range(0, whole.shape[0], SIDE):
            for x in range(0, whole.shape[1], SIDE):
                yield coded(whole[y : y + SIDE, x : x + SIDE], kind, rate)

    with tifffile.TiffWriter(path) as writer:
        for number, part in enumerate((image, small)):
            writer.write(
                tiles(part),
                shape=part.shape,
                dtype=np.uint8,
                tile=(SIDE, SIDE),
                compression=kind,
                photometric="rgb",
                metadata=None,
                subfiletype=number,
                description=text,
            )


def together(images: list[Path]) -> Pixels:
    """Put up to four images together, cut to the smallest."""
    read = [np.asarray(Image.open(path).convert("RGB")) for path in images[:4]]
    height, width = (min(image.shape[axis] for image in read) for axis in (0, 1))
    cut = [image[:height, :width] for image in read]
    if len(cut) < 4:
        return np.concatenate(cut, axis=1)
    return np.concatenate([np.concatenate(cut[:2], axis=1), np.concatenate(cut[2:], axis=1)])


def converted(slide: Path, out: Path, rounds: int, *, reversible: bool) -> tuple[ConvertReport, float]:
    """Convert a slide; the report and the shortest time in s."""
    best = float("inf")
    for _ in range(rounds):
        shutil.rmtree(out, ignore_errors=True)
        begin = time.perf_counter()
        report = convert(slide, out, options=ConvertOptions(reversible=reversible))
        best = min(best, time.perf_counter() - begin)
    return report, best


def residual(path: Path) -> float:
    """Share of the chunks' bytes that are residual."""
    archive = open_archive(path)
    parts, total = 0, 0
    for index, level in enumerate(archive.levels):
        for row, column in level.positions():
            stream = archive.stream(index, row, column) or b""
            total += len(stream)
            if dlpr.inspect(stream).mode == "j2k":
                parts += dlpr.inspect(stream).bytes_by_part["residual"]
    return parts / max(total, 1)


def measure(name: str, slide: Path, folder: Path, rounds: int) -> None:
    """Print a line of figures."""
    size = slide.stat().st_size
    plain, seconds = converted(slide, folder / "a.zarr", rounds, reversible=False)
    whole, longer = converted(slide, folder / "b.zarr", rounds, reversible=True)
    pixels = sum(level.width * level.height for level in open_archive(folder / "a.zarr").levels) / 1e6
    tiles = max(plain.source_tile_bytes, 1)
    facts = whole.reversible or {}
    with Originals(folder / "b.zarr") as originals:
        hints = int(originals.map.parts.hint_size.sum())
    modes = ", ".join(f"{mode} {count}" for mode, count in plain.tiles_by_mode.items() if count)
    print(
        f"{name:22} | {sum(plain.bytes_by_mode.values()) / tiles:.4f} | {plain.archive_bytes / size:.4f} "
        f"| {100 * residual(folder / 'a.zarr'):.2f} % | {pixels / seconds:.1f} | {whole.archive_bytes / size:.4f} "
        f"| {facts['made_bytes'] / tiles:.4f} | {100 * hints / tiles:.2f} % | {pixels / longer:.1f} | {modes}",
        flush=True,
    )


def measure_export(name: str, slide: Path, folder: Path, _rounds: int) -> None:
    """Print a line of figures of the way back."""
    import openslide

    shutil.rmtree(folder / "a.zarr", ignore_errors=True)
    convert(slide, folder / "a.zarr")
    out = folder / "back.tif"
    begin = time.process_time()
    report = export(folder / "a.zarr", out, codec=ExportCodec.SOURCE_J2K, subifds=False, threads=1, overwrite=True)
    seconds = time.process_time() - begin
    counts, pixels, off = report.source_j2k, 0.0, 0
    assert counts is not None
    with openslide.OpenSlide(slide) as before, openslide.OpenSlide(out) as after:
        for level, (width, height) in enumerate(before.level_dimensions):
            a, b = (np.asarray(s.read_region((0, 0), level, (width, height))) for s in (before, after))
            pixels, off = pixels + width * height / 1e6, off + int((a != b).sum())
    print(
        f"{name:22} | {out.stat().st_size / slide.stat().st_size:.4f} | {pixels / seconds:.1f} | {counts.kept} of "
        f"{report.tiles} | {counts.equal} | {off}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--rates", nargs="*", type=float, default=[1.0, 1.7, 3.0])
    parser.add_argument("--slides", nargs="*", type=Path, default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--export", action="store_true")
    arguments = parser.parse_args()
    show = measure_export if arguments.export else measure
    if arguments.export:
        print("slide                  | export / slide | MP/s a core | kept | equal to the archive | samples off")
    else:
        print(
            "slide                  | chunks / tiles | archive / file | residual | MP/s | reversible / file "
            "| made / tiles | hints / tiles | MP/s | modes of the plain archive"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for slide in arguments.slides:
            show(slide.name, slide, folder, arguments.rounds)
        if arguments.images:
            image = together(arguments.images)
            for kind in (33005, 33003):
                for rate in arguments.rates:
                    write(folder / "a.svs", image, kind, rate)
                    show(f"{kind}, {rate} bits/px", folder / "a.svs", folder, arguments.rounds)


if __name__ == "__main__":
    main()
