"""Dask reads and writes DLPR arrays; its chunks are whole shards."""

import dask
import dask.array as da
import numpy as np
import zarr

from dlpr_wsi import DLPR

SHARD = (3, 128, 128)
dask.config.set({"array.chunk-size": 3 * 128 * 128})  # bytes of a shard: to_zarr writes so much at a time


def create(name, shape):
    options = {"dtype": "uint8", "fill_value": 255, "serializer": DLPR(), "compressors": None}
    return zarr.create_array(name, shape=shape, chunks=(3, 64, 64), shards=SHARD, **options)


y, x = np.mgrid[:300, :350]
image = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)]).astype(np.uint8)

# Two tasks must never write into one shard: a Dask chunk is a shard, or several whole ones.
da.to_zarr(da.from_array(image, chunks=SHARD), create("dask.zarr", image.shape))

slide = da.from_zarr("dask.zarr", chunks=SHARD)
print("mean by channel", slide.mean(axis=(1, 2)).compute().round(2).tolist())

half = da.coarsen(np.mean, slide, {1: 2, 2: 2}).round().astype("uint8")  # half the resolution
half = half.rechunk(SHARD)  # shards of the new array, not halves of the old ones
da.to_zarr(half, create("half.zarr", half.shape))
print("half", zarr.open_array("half.zarr", mode="r").shape)
