"""An image of channels as an archive: convert, read one channel, read a picture in the channels' colours."""

from pathlib import Path

import numpy as np
import tifffile
import zarr

from dlpr_wsi import TileReader
from dlpr_wsi.pipeline.convert import convert

y, x = np.mgrid[:300, :400]
image = np.stack([120 + 100 * np.sin(x / s) * np.cos(y / 30) for s in (20, 33)]).astype(np.uint8)  # (2, H, W)
described = {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC"], "Color": [0x0000FFFF, 0x00FF00FF]}}
tifffile.imwrite("cells.ome.tiff", image, photometric="minisblack", metadata=described)
convert(Path("cells.ome.tiff"), Path("cells.zarr"))

group = zarr.open_group("cells.zarr", mode="r")
level = group["0"]
names = [channel["label"] for channel in group.attrs["ome"]["omero"]["channels"]]
dapi = level[0, 100:200, 100:200]  # chunks of (1, t, t): the other channel is not decoded
print(names, level.shape, "in chunks of", level.chunks, "equal", bool((dapi == image[0, 100:200, 100:200]).all()))

with TileReader("cells.zarr") as reader:
    samples = reader.read(100, 100, 50, 50)  # (50, 50, 2)
    picture = reader.read_region((100, 100), 0, (50, 50), channels=[1])  # RGBA, FITC in its colour
    print(samples.shape, picture.mode, picture.getpixel((0, 0)) == (0, int(samples[0, 0, 1]), 0, 255))
