"""Slides of every container that the package knows: they come back byte for byte, made of their chunks."""

import imagecodecs
import pytest
from kit_common import halved, tissue
from kit_dicom import J2K_LOSSLESS, write_dicom
from kit_mirax import mirax
from kit_ndpi import ndpi
from kit_philips import philips
from kit_scn import scn
from kit_vms import vms

from dlpr_wsi.reversible.attach import slide_file_names
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.reversible.restore import restore


def _ndpi(folder):
    ndpi(folder / "a.ndpi", tissue(1024, 512), levels=2)
    return folder / "a.ndpi"


def _vms(folder):
    vms(folder / "a.vms", tissue(1024, 512))
    return folder / "a.vms"


def _scn(folder):
    scn(folder / "a.scn", [(256, 128, tissue(512, 384))], levels=2)
    return folder / "a.scn"


def _philips(folder):
    philips(folder / "a.tiff", tissue(400, 300))
    return folder / "a.tiff"


def _dicom(folder):
    return write_dicom(folder / "series", [tissue(400, 300), halved(tissue(400, 300), 1)])


def _fragments(folder):
    write_dicom(folder / "series", [tissue(400, 300)], fragments=3, table="extended")
    return folder / "series"


def _dicom_j2k(folder):
    def code(frame):
        return bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k", mct=False, reversible=True))

    options = {"photometric": "RGB", "syntax": J2K_LOSSLESS, "code": code, "fragments": 2}
    return write_dicom(folder / "series", [tissue(400, 300)], **options)


def _mirax(folder):
    mirax(folder / "a.mrxs", tissue(384, 192))
    return folder / "a.mrxs"


@pytest.mark.parametrize(
    ("make", "made"),
    [
        (_ndpi, 0.9),
        (_vms, 0.85),
        (_scn, 0.4),
        (_philips, 0.4),
        (_dicom, 0.85),
        (_fragments, 0.85),
        (_dicom_j2k, 0.85),
        (_mirax, 0.0),
    ],
    ids=lambda value: value.__name__[1:] if callable(value) else None,
)
def test_comes_back(tmp_path, make, made, convert_reversible):
    folder, back = tmp_path / "in", tmp_path / "back"
    folder.mkdir()
    back.mkdir()
    slide = make(folder)
    report = convert_reversible(slide, tmp_path / "a.zarr")
    assert report.reversible["made_bytes"] >= made * report.reversible["file_bytes"]
    restore(tmp_path / "a.zarr", back, threads=2)
    names = slide_file_names(slide)
    assert sorted(p.relative_to(back).as_posix() for p in back.rglob("*") if p.is_file()) == sorted(names)
    assert all((back / name).read_bytes() == path.read_bytes() for name, path in names.items())


def test_intervals_cost_little(tmp_path, convert_reversible):
    """NDPI: hundreds of restart intervals, one template a level, no hints."""
    convert_reversible(_ndpi(tmp_path), tmp_path / "a.zarr")
    with Originals(tmp_path / "a.zarr") as originals:
        found = originals.map
        assert {template.maker for template in found.templates} == {2}
        assert len(found.templates) == 2
        assert int(found.parts.hint_size.sum()) == 0
        assert originals.map_bytes - int(found.kept.stored.sum()) < 600 + 9 * len(found.parts.size)
