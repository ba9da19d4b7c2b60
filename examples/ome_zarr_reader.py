"""Open an archive as what it is, an OME-Zarr image, with ome-zarr-py.

python examples/ome_zarr_reader.py slide.zarr
"""

import sys

from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

node = next(iter(Reader(parse_url(sys.argv[1]))()))
print("axes", [axis["name"] for axis in node.metadata["axes"]], "levels", [level.shape for level in node.data])
thumbnail = node.data[-1].compute()  # Dask arrays; nothing is read before
print("mean", thumbnail.mean().round(2))
