"""Zarr format 2: DLPR is the compressor. Runs with zarr 2.18 and with zarr 3."""

import numpy as np
import zarr

from dlpr_wsi import DLPR

y, x = np.mgrid[:300, :400]
image = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)]).astype(np.uint8)  # (3, H, W)

options = {} if zarr.__version__.startswith("2.") else {"zarr_format": 2}  # zarr 3 would make format 3
array = zarr.open(
    "format2.zarr",
    mode="w",
    shape=image.shape,
    chunks=(3, 256, 256),  # all colours of a tile in one chunk
    dtype="uint8",
    fill_value=255,  # pads the chunks at the edge
    compressor=DLPR(tau=1),  # no sample off by more than 1; DLPR() is lossless
    **options,
)
array[:] = image

again = zarr.open("format2.zarr", mode="r")  # the metadata name the codec, so readers need no object
print("format 2: max |error|", np.abs(again[:].astype(int) - image).max())
