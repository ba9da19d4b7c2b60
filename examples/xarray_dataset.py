"""xarray stores variables with DLPR and opens them again, lazily through Dask."""

import numpy as np
import xarray as xr

from dlpr_wsi import DLPR

y, x = np.mgrid[:300, :400]
image = np.stack([200 + 40 * np.sin(x / s) * np.cos(y / 30) for s in (20, 23, 26)]).astype(np.uint8)
data = xr.Dataset(
    {"slide": (("c", "y", "x"), image)},
    coords={"y": np.arange(300) * 0.25, "x": np.arange(400) * 0.25},  # micrometres
)
encoding = {"slide": {"chunks": (3, 128, 128), "serializer": DLPR(tau=1), "compressors": ()}}
data.to_zarr("xarray.zarr", mode="w", zarr_format=3, consolidated=False, encoding=encoding)

again = xr.open_zarr("xarray.zarr", consolidated=False)
region = again["slide"].sel(y=slice(20, 60), x=slice(50, 90))  # in micrometres
print("region", region.shape, "max |error|", int(abs(again["slide"].astype(int) - image).max()))
