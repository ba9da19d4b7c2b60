"""NDPI beside SVS of the same pixels: bytes, share of chunks kept, speed of conversion with its check.

    python tests/benchmarks/ndpi.py IMAGES... [--megapixels 130] [--subsampling 444 422 420]

IMAGES are pictures, or folders of them. NDPI strips are 2,048 px wide, as on level 0 of real slides, and the slide is
as wide as whole strips; SVS tiles are 256 px. Quality 80, level 0 alone; every archive is checked chunk by chunk
against OpenSlide's pixels as it is made. At 4:2:0 OpenSlide reads levels without restart markers only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from reversible_cost import mosaic

sys.path.insert(0, str(Path(__file__).parents[1] / "dlpr_wsi" / "kit"))
from kit_ndpi import ndpi
from kit_svs import svs

from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.plan import Pyramid


def measure(slide: Path) -> float:
    """Convert a slide, print what came of it and return MP/s."""
    report = convert(slide, slide.with_name(slide.name + ".zarr"), options=ConvertOptions(pyramid=Pyramid.NEVER))
    held = slide.stat().st_size
    pixels = sum(level.width * level.height for level in report.plan.levels)
    kept = report.tiles_by_mode.get("jpeg", 0) / sum(report.tiles_by_mode.values())
    speed = pixels / 1e6 / report.seconds
    print(
        f"{slide.name:14} {pixels / 1e6:6.1f} MP {held:12,} bytes, archive {report.archive_bytes / held:.3f} x, "
        f"kept {kept:.1%}, {speed:.2f} MP/s, max |error| {report.max_error}",
        flush=True,
    )
    return speed


def main() -> None:
    """Make the slides, convert them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--megapixels", type=float, default=130)
    parser.add_argument("--subsampling", nargs="+", default=["444", "422", "420"])
    options = parser.parse_args()
    pixels, different = mosaic(options.images, options.megapixels)
    print(f"{different} different tiles")
    for subsampling in options.subsampling:
        with tempfile.TemporaryDirectory() as folder:
            hamamatsu, aperio = Path(folder, f"{subsampling}.ndpi"), Path(folder, f"{subsampling}.svs")
            whole = (0,) if subsampling == "420" else ()
            ndpi(hamamatsu, pixels, levels=1, strip=2048, subsampling=subsampling, whole=whole)
            svs(aperio, pixels, steps=(), tile=256, subsampling=subsampling, kind="big")
            print(f"NDPI has {measure(hamamatsu) / measure(aperio):.2f} x the speed of SVS")


if __name__ == "__main__":
    main()
