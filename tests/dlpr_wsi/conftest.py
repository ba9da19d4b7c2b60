"""Small slides to convert."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zarr", minversion="3.0")
pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "CMU-1-Small-Region.svs"
REAL_SLIDES = ROOT.parent / "shared" / "data" / "slides"


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


def icc_profile():
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def write_svs(path, kind="420", height=300, width=404, tile=128, seed=1):
    """Write an Aperio SVS: three levels, label, macro, thumbnail, ICC profile, and a patient's name in its text.

    ``kind`` is rgb, 444, 422 or 420 (JPEG) or j2k. Width 404 makes the lower levels' downsamples no whole numbers.
    """
    image = tissue(height, width, seed)
    if kind == "j2k":
        coded = {"compression": 33005, "compressionargs": {"level": 45}, "photometric": "rgb"}
    elif kind == "rgb":
        coded = {"compression": "jpeg", "compressionargs": {"level": 70}, "photometric": "rgb"}
    else:
        sampling = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}[kind]
        coded = {
            "compression": "jpeg",
            "compressionargs": {"level": 70},
            "photometric": "ycbcr",
            "subsampling": sampling,
        }
    name = "J2K/KDU Q=45" if kind == "j2k" else "JPEG/RGB Q=70"
    facts = f"({tile}x{tile}) {name}|AppMag = 40|MPP = 0.2525|Patient = Jane Doe|Filename = S12-3456"
    head = "Aperio Image Library v11.2.1\r\n"
    with tifffile.TiffWriter(path) as writer:

        def add(data, description, **options):
            writer.write(data, description=head + description, metadata=None, software=False, **options)

        add(image, f"{width}x{height} {facts}", tile=(tile, tile), iccprofile=icc_profile(), **coded)
        thumb = {"compression": "jpeg", "photometric": "rgb"}
        add(image[::4, ::4], f"{width // 4}x{height // 4}", rowsperstrip=16, **thumb)
        for step in (2, 7):
            small = np.ascontiguousarray(image[::step, ::step])
            add(small, f"{small.shape[1]}x{small.shape[0]} {facts}", tile=(tile, tile), **coded)
        add(tissue(60, 50), "label 50x60", subfiletype=1, photometric="rgb")
        add(tissue(40, 90), "macro 90x40", subfiletype=9, photometric="rgb")
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
    """An Aperio SVS with JPEG tiles."""
    pytest.importorskip("imagecodecs")
    return write_svs(tmp_path_factory.mktemp("slides") / "synthetic.svs")


@pytest.fixture(scope="session", params=["rgb", "444", "422", "420", "j2k"])
def any_svs(tmp_path_factory, request):
    """Aperio SVS of every kind of tile."""
    pytest.importorskip("imagecodecs")
    return write_svs(tmp_path_factory.mktemp("slides") / f"{request.param}.svs", request.param)


@pytest.fixture(scope="session")
def j2k_svs(tmp_path_factory):
    """An Aperio SVS of JPEG 2000 tiles."""
    pytest.importorskip("imagecodecs")
    return write_svs(tmp_path_factory.mktemp("slides") / "j2k.svs", "j2k")


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


@pytest.fixture
def loose(tmp_path, plain_slide):
    """The same as OME-Zarr 0.4: a file for each chunk."""
    from dlpr_wsi.pipeline.convert import ConvertOptions, convert
    from dlpr_wsi.sinks.omezarr import OmeVersion

    options = ConvertOptions(tau=1, tile=64, version=OmeVersion.V04)
    convert(plain_slide, tmp_path / "loose.zarr", options=options, threads=2)
    return tmp_path / "loose.zarr"


NAMES = ("DAPI", "FITC <&>", "Cy5 \u00fc", "mCherry", "channel 4")
COLOURS = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 128, 0), (255, 255, 255))


def cells(count, height, width, seed=0):
    """Return blobs on black, (height, width, count) uint8; every channel differs from the others."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    out = rng.poisson(3, (height, width, count)).astype(float)
    for channel in range(count):
        for _ in range(12):
            cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(4, 14)
            out[..., channel] += rng.uniform(60, 220) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / r**2)
    return np.clip(out, 0, 255).astype(np.uint8)


class Fluorescence:
    """Levels of (h, w, n) pixels as a `PixelSource`: what a reader of fluorescence gives, from arrays."""

    def __init__(self, path, levels):
        from dlpr_wsi.sources import Channel, Level, SlideFacts, SourceCodec

        self._levels = levels
        codec = SourceCodec("zstd", False)
        height, width, count = levels[0].shape
        self.facts = SlideFacts(
            name=path.name,
            vendor="ome-tiff",
            file_bytes=path.stat().st_size,
            codec=codec,
            levels=tuple(Level(a.shape[1], a.shape[0], (width / a.shape[1] + height / a.shape[0]) / 2) for a in levels),
            tile_width=None,
            tile_height=None,
            mpp_x=0.325,
            mpp_y=0.325,
            objective_power=20.0,
            associated=(),
            background=(255, 255, 255),
            channels=tuple(Channel(NAMES[i % 5], COLOURS[i % 5]) for i in range(count)),
            reader="tests 1.0",
            notes=("2 focal planes were left out",),
        )

    def read(self, x, y, width, height, level=0):
        image = self._levels[level]
        assert 0 <= x < x + width <= image.shape[1]
        assert 0 <= y < y + height <= image.shape[0]
        return image[y : y + height, x : x + width].copy()

    def tile_grid(self, level):
        return None

    def source_tile(self, level, row, column):
        return None

    def close(self):
        pass


@pytest.fixture(scope="session")
def paint():
    """Return the function `cells`."""
    return cells


@pytest.fixture(scope="module")
def fluorescence():
    """Return a function that makes a file which opens as levels of (h, w, n) pixels; only in this process."""
    import dlpr_wsi.info
    import dlpr_wsi.sources.opening

    known = {}
    genuine = dlpr_wsi.sources.opening.open_source

    def opened(path, selection=None):
        return Fluorescence(path, known[path]) if path in known else genuine(path, selection)

    def make(path, *levels):
        path.write_bytes(b"".join(level.tobytes() for level in levels))
        known[path] = levels
        return path

    with pytest.MonkeyPatch.context() as patch:
        for module in ("sources.opening", "pipeline.work", "viewer.stores", "info"):
            patch.setattr(f"dlpr_wsi.{module}.open_source", opened)
        yield make
