"""Small slides and reversible archives of them."""

import pytest

pytest.importorskip("zarr", minversion="3.0")
pytest.importorskip("openslide")
pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")


def reversible(slide, out, **options):
    from dlpr_wsi.pipeline.convert import ConvertOptions, convert

    return convert(slide, out, options=ConvertOptions(reversible=True, **options), threads=2)


@pytest.fixture(scope="session")
def convert_reversible():
    """Return the function `reversible`."""
    return reversible


@pytest.fixture(scope="session")
def rev_svs(tmp_path_factory, svs):
    """The synthetic SVS as a reversible archive; not to be changed."""
    out = tmp_path_factory.mktemp("rev") / "svs.zarr"
    return svs, out, reversible(svs, out)


@pytest.fixture(scope="session")
def rev_j2k(tmp_path_factory, j2k_svs):
    """One of JPEG 2000 tiles; not to be changed."""
    out = tmp_path_factory.mktemp("rev") / "j2k.zarr"
    return j2k_svs, out, reversible(j2k_svs, out)


@pytest.fixture(scope="session")
def rev_tiff(tmp_path_factory, svs):
    """The same as a TIFF; not to be changed."""
    out = tmp_path_factory.mktemp("rev") / "svs.tif"
    return svs, out, reversible(svs, out)
