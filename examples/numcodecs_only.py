"""The codec without Zarr: through numcodecs, and through dlpr itself."""

import numcodecs
import numpy as np

import dlpr

y, x = np.mgrid[:256, :256]
tile = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)], axis=-1).astype(np.uint8)

codec = numcodecs.get_codec({"id": "dlpr", "tau": 1})  # found by its entry point
stream = codec.encode(tile)  # (H, W, 3), (3, H, W), (H, W): the stream remembers
print("tau 1: max |error|", np.abs(codec.decode(stream).astype(int) - tile).max())

info = dlpr.inspect(stream)  # reads the header, decodes nothing
print(f"{info.mode}, {info.bits_per_pixel:.2f} bits/px, shape {info.shape}")
if info.lossy_layer:  # a preview from the first bytes, without a bound
    preview = dlpr.decode(stream[: info.lossy_prefix], layer="lossy")
    print("preview", preview.shape)

tiles = dlpr.decode_batch(dlpr.encode_batch([tile] * 4))  # batches use all cores
print("lossless:", all((t == tile).all() for t in tiles))
