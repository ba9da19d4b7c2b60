"""An archive as one tiled TIFF, and the readers that open it.

python examples/tiff_archive.py slide.zarr
"""

import sys
from pathlib import Path

import tifffile
import zarr
from tiffslide import TiffSlide

import dlpr_wsi  # noqa: F401  (from now on tifffile reads DLPR tiles)
from dlpr_wsi.sinks.tiff import write_tiff
from dlpr_wsi.sources.opening import open_archive

report = write_tiff(open_archive(Path(sys.argv[1])), Path("slide.tiff"))
print(f"{report.tiles} tiles on {report.levels} levels, {report.file_bytes} bytes")

level0 = tifffile.imread("slide.tiff")  # (H, W, 3)
with tifffile.TiffFile("slide.tiff") as file:  # one region, only its tiles are decoded
    region = zarr.open(file.series[0].aszarr(level=0), mode="r")[40:80, 60:120]
with TiffSlide("slide.tiff") as slide:  # the interface of openslide-python
    same = slide.read_region((60, 40), 0, (60, 40), as_array=True)
    print("mpp", slide.properties["tiffslide.mpp-x"], "levels", slide.level_dimensions)
print("equal", bool((region == level0[40:80, 60:120]).all() and (same == region).all()))
