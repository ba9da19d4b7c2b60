"""Read an archive over HTTP, S3 or whatever else fsspec knows; only the chunks that are needed travel.

python examples/remote_archive.py http://127.0.0.1:8000/slide.zarr
"""

import sys

import zarr

url = sys.argv[1]
archive = zarr.open_group(url, mode="r")  # needs no dlpr import: the installed plug-in is found by name
level = archive["0"]
_, height, width = level.chunks
tile = level[:, :height, :width]  # of a shard: its index, then the chunk
print(f"level 0 is {level.shape}; its first tile has the mean {tile.mean():.2f}")
