"""Small archives with known pixels, written with zarr alone."""

import base64

import numpy as np


def tissue(height, width, seed=0):
    """Return something pink with texture and a white border, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shade = 40 * np.sin(x / 19) * np.cos(y / 31)
    image = np.stack([215 + shade / 2, 150 + shade, 190 + shade / 3], axis=-1) + rng.normal(0, 3, (height, width, 3))
    image[:, width * 3 // 4 :] = 255
    return np.clip(image, 0, 255).astype(np.uint8)


def write_archive(path, images, *, tau=0, tile=64, icc=None, mpp=0.25, facts=None):
    """Write an OME-Zarr 0.5 archive of the images (largest first) and return its path."""
    import zarr

    from dlpr import DLPR

    recorded = {"tau": tau, "mpp_x": mpp, "mpp_y": mpp, "background": "FFFFFF", "objective_power": 40.0}
    if icc is not None:
        recorded["icc_profile"] = base64.b64encode(icc).decode()
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [1.0, 2.0**i, 2.0**i]}]}
        for i in range(len(images))
    ]
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    attributes = {"ome": ome, "dlpr_wsi": {**recorded, **(facts or {})}}
    group = zarr.create_group(path, attributes=attributes, zarr_format=3)
    for index, image in enumerate(images):
        array = group.create_array(
            str(index),
            shape=(3, *image.shape[:2]),
            chunks=(3, tile, tile),
            shards=(3, 2 * tile, 2 * tile),
            dtype="uint8",
            serializer=DLPR(tau, threads=1),
            compressors=None,
            fill_value=255,
            config={"write_empty_chunks": True},
        )
        array[...] = image.transpose(2, 0, 1)
    return path
