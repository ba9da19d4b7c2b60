"""Small archives with known pixels, written with zarr alone."""

import base64

import numpy as np
import pytest

pytest.importorskip("zarr", minversion="3.0")
pytest.importorskip("tifffile")


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


def icc_profile():
    """Return the bytes of an sRGB profile."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="session")
def icc():
    return icc_profile()


@pytest.fixture(scope="session")
def images():
    """Three levels; the lower ones are of their own content, as a slide's may be."""
    return [tissue(200, 330), tissue(100, 165, seed=1), tissue(50, 83, seed=2)]


@pytest.fixture(scope="session")
def archives(tmp_path_factory, images, icc):
    """Archives of the images by tau."""
    folder = tmp_path_factory.mktemp("archives")
    return {tau: write_archive(folder / f"tau{tau}.zarr", images, tau=tau, icc=icc) for tau in (0, 1)}


@pytest.fixture(scope="session")
def make_archive():
    return write_archive


@pytest.fixture(scope="session")
def tiffs(tmp_path_factory, archives):
    """The archives as TIFF files by tau."""
    from dlpr_wsi.sinks.tiff import write_tiff
    from dlpr_wsi.sources.opening import open_archive

    folder = tmp_path_factory.mktemp("tiffs")
    for tau, path in archives.items():
        write_tiff(open_archive(path), folder / f"tau{tau}.tiff")
    return {tau: folder / f"tau{tau}.tiff" for tau in archives}
