"""Zarr format 3: DLPR is the serializer, with and without shards. Needs zarr 3.1."""

import numpy as np
import zarr

from dlpr_wsi import DLPR

y, x = np.mgrid[:300, :400]
image = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)]).astype(np.uint8)  # (3, H, W)

plain = zarr.create_array(
    "format3.zarr",
    shape=image.shape,
    chunks=(3, 256, 256),
    dtype="uint8",
    fill_value=255,
    serializer=DLPR(tau=1),
    compressors=None,  # else zarr adds zstd on top
)
plain[:] = image

sharded = zarr.create_array(
    "sharded.zarr",
    shape=image.shape,
    chunks=(3, 128, 128),
    shards=(3, 256, 256),  # 4 chunks in one file; one writer writes a whole shard
    dtype="uint8",
    fill_value=255,
    serializer=DLPR(),
    compressors=None,
)
sharded[:] = image

for name in ("format3.zarr", "sharded.zarr"):
    with zarr.config.set({"codec_pipeline.batch_size": 16}):  # 16 chunks for one call of the codec
        again = zarr.open_array(name, mode="r")
        print(f"{name}: max |error|", np.abs(again[:].astype(int) - image).max())
