"""Small slides to convert."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zarr", minversion="3.0")
pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")

EXAMPLE = Path(__file__).parents[2] / "examples" / "CMU-1-Small-Region.svs"


def tissue(height, width, seed=0):
    """Return something pink with texture and a white border, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shade = 40 * np.sin(x / 19) * np.cos(y / 31)
    image = np.stack([215 + shade / 2, 150 + shade, 190 + shade / 3], axis=-1) + rng.normal(0, 3, (height, width, 3))
    image[:, width * 3 // 4 :] = 255
    return np.clip(image, 0, 255).astype(np.uint8)


def write_tiled_tiff(path, image, **options):
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), **options)
    return path


@pytest.fixture(scope="session")
def pixels():
    return tissue(200, 330)


@pytest.fixture(scope="session")
def plain_slide(tmp_path_factory, pixels):
    """An uncompressed tiled TIFF: its pixels are known without OpenSlide."""
    return write_tiled_tiff(tmp_path_factory.mktemp("slides") / "plain.tiff", pixels)


@pytest.fixture(scope="session")
def svs(tmp_path_factory):
    """An Aperio SVS with JPEG tiles, two levels, thumbnail, label and macro."""
    pytest.importorskip("imagecodecs")
    path = tmp_path_factory.mktemp("slides") / "synthetic.svs"
    image = tissue(300, 400, seed=1)
    facts = "(128x128) JPEG/RGB Q=70|AppMag = 40|MPP = 0.2525|Patient = Jane Doe"
    jpeg = {"compression": "jpeg", "compressionargs": {"level": 70}, "photometric": "rgb"}
    with tifffile.TiffWriter(path) as writer:

        def add(data, description, **options):
            writer.write(data, description=description, metadata=None, software=False, **options)

        add(image, f"Aperio Image Library v11.2.1\r\n400x300 {facts}", tile=(128, 128), **jpeg)
        add(image[::4, ::4], "Aperio Image Library v11.2.1\r\n100x75", rowsperstrip=16, **jpeg)
        add(image[::2, ::2], f"Aperio Image Library v11.2.1\r\n200x150 {facts}", tile=(128, 128), **jpeg)
        add(tissue(60, 50), "Aperio Image Library v11.2.1\r\nlabel 50x60", subfiletype=1, photometric="rgb")
        add(tissue(40, 90), "Aperio Image Library v11.2.1\r\nmacro 90x40", subfiletype=9, photometric="rgb")
    return path


@pytest.fixture(scope="session")
def real_slide(tmp_path_factory):
    """512 x 384 px of the example slide, where tissue meets background."""
    import openslide

    with openslide.OpenSlide(EXAMPLE) as slide:
        region = np.asarray(slide.read_region((300, 1200), 0, (512, 384)))[..., :3]
    return write_tiled_tiff(tmp_path_factory.mktemp("slides") / "real.tiff", region)


@pytest.fixture
def archive(tmp_path, plain_slide):
    """The plain slide at tau 1 in chunks of 64 px."""
    from dlpr_wsi.pipeline.convert import convert

    convert(plain_slide, tmp_path / "archive.zarr", tau=1, tile=64, threads=2)
    return tmp_path / "archive.zarr"
