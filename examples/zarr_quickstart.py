"""DLPR in Zarr: format 2, format 3 and sharded format 3, from one codec object.

    python examples/zarr_quickstart.py [FOLDER]

Needs zarr 3 to write format 3; the first part runs with zarr 2.18 too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr

from dlpr import DLPR


def picture(height: int, width: int) -> np.ndarray:
    """Return a smooth image with some noise, (3, height, width) uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [200 + 40 * np.sin(x / (17 + 3 * c)) * np.cos(y / (23 - 2 * c)) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 2, (3, height, width))
    return np.clip(np.stack(waves) + noise, 0, 255).astype(np.uint8)


def main(folder: Path) -> None:
    image = picture(300, 400)
    codec = DLPR(tau=1)  # every sample within 1; tau=0 is lossless
    layout = {"shape": image.shape, "chunks": (3, 128, 128), "dtype": "uint8", "fill_value": 255}

    # Format 2. With zarr 2.18 leave zarr_format out.
    version = {} if zarr.__version__.startswith("2.") else {"zarr_format": 2}
    zarr.open(str(folder / "v2.zarr"), mode="w", compressor=codec, **version, **layout)[:] = image
    names = ["v2.zarr"]

    if not zarr.__version__.startswith("2."):
        # Format 3: DLPR is the serializer. compressors=None, or zarr adds zstd on top.
        zarr.create_array(folder / "v3.zarr", serializer=codec, compressors=None, **layout)[:] = image

        # Sharded: many chunks in one file. A shard is what one writer writes at a time.
        sharded = zarr.create_array(
            folder / "v3-sharded.zarr", serializer=codec, compressors=None, shards=(3, 256, 256), **layout
        )
        sharded[:] = image
        names += ["v3.zarr", "v3-sharded.zarr"]

    # Readers need no codec object: the name in the metadata finds it.
    for name in names:
        array = zarr.open(str(folder / name), mode="r")
        error = int(np.abs(array[:].astype(int) - image).max())
        size = sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file())
        print(f"{name:16} {size:8,} bytes of {image.nbytes:,}, max |error| {error}")
        if error > codec.tau:
            raise SystemExit("the bound on the error does not hold")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
