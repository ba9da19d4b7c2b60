"""DICOM: the files of one series are one slide; what OpenSlide cannot read whole is refused by its reason."""

import io
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from dlpr_wsi.errors import SourceError, UsageError
from dlpr_wsi.pipeline.batch import expand, name_outputs
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.files import slide_bytes, slide_files
from dlpr_wsi.sources.opening import open_source

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("openslide")

ROOT = Path(__file__).parents[3]
REAL = sorted((ROOT.parent / "shared" / "data" / "slides").glob("*.dcm"))
WSM = "1.2.840.10008.5.1.4.1.1.77.1.6"
EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
LEVEL, SMALLER = ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"), ("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED")
RNG = np.random.default_rng(6)
RGB = RNG.integers(0, 256, (150, 200, 3), np.uint8)
HALF = np.ascontiguousarray(RGB[::2, ::2])
LABEL = RNG.integers(0, 256, (30, 40, 3), np.uint8)


def write(path, image, kind=LEVEL, *, series="1.2.3.4", tile=64, jpeg=False, sop=WSM, syntax=None, **other):
    """Write one instance; ``other`` sets or, as None, deletes attributes."""
    from PIL import Image
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import generate_uid

    height, width = image.shape[:2]
    rows, columns = (tile, tile) if kind[2:3] == ("VOLUME",) else (height, width)
    data, data.file_meta = Dataset(), FileMetaDataset()
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.file_meta.TransferSyntaxUID = syntax or (JPEG if jpeg else EXPLICIT)
    data.PatientName, data.AccessionNumber = "Doe^Jane", "S12-3456"
    data.SeriesInstanceUID, data.ImageType, data.DimensionOrganizationType = series, list(kind), "TILED_FULL"
    data.SamplesPerPixel, data.PlanarConfiguration, data.PixelRepresentation = 3, 0, 0
    data.PhotometricInterpretation = "YBR_FULL_422" if jpeg else "RGB"
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.Rows, data.Columns, data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = rows, columns, height, width
    optics, measures, shared = Dataset(), Dataset(), Dataset()
    optics.ObjectiveLensPower, measures.PixelSpacing = "20", ["0.0005", "0.0005"]
    shared.PixelMeasuresSequence = [measures]
    data.OpticalPathSequence, data.SharedFunctionalGroupsSequence = [optics], [shared]
    frames = []
    for y in range(0, height, rows):
        for x in range(0, width, columns):
            part = image[y : y + rows, x : x + columns]
            frame = np.zeros((rows, columns, 3), np.uint8)
            frame[: part.shape[0], : part.shape[1]] = part
            if jpeg:
                coded = io.BytesIO()
                Image.fromarray(frame).save(coded, "JPEG", quality=90, subsampling="4:2:2")
                frames.append(coded.getvalue())
            else:
                frames.append(frame.tobytes())
    data.NumberOfFrames = len(frames)
    data.PixelData = encapsulate(frames) if jpeg else b"".join(frames)
    data["PixelData"].VR = "OB"
    for name, value in other.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def slide(tmp_path):
    """A series of two levels and a label, and a file of another series."""
    folder = tmp_path / "study"
    folder.mkdir()
    write(folder / "b.dcm", HALF, SMALLER)
    write(folder / "IM0001", RGB)
    write(folder / "c.dcm", LABEL, ("ORIGINAL", "PRIMARY", "LABEL", "NONE"))
    (folder / "notes").write_text("no DICOM" * 50)
    return folder


def check(source):
    facts = source.facts
    assert facts.vendor == "dicom"
    assert [(level.width, level.height) for level in facts.levels] == [(200, 150), (100, 75)]
    assert (facts.mpp_x, facts.mpp_y, facts.objective_power) == (0.5, 0.5, 20)
    assert facts.associated == ("label",)
    assert "Jane" not in str(facts)
    assert "S12-3456" not in str(facts)
    np.testing.assert_array_equal(source.read(0, 0, 200, 150), RGB)
    np.testing.assert_array_equal(source.read(0, 0, 100, 75, 1), HALF)
    np.testing.assert_array_equal(source.associated("label"), LABEL)
    source.close()


@pytest.mark.parametrize("name", ["", "IM0001", "b.dcm", "c.dcm"])
def test_a_series_is_one_slide_by_folder_and_by_any_file(slide, name):
    source = open_source(slide / name)
    assert source.facts.name == (name or "study")
    assert source.facts.file_bytes == sum((slide / file).stat().st_size for file in ("b.dcm", "IM0001", "c.dcm"))
    assert source.facts.notes == ()
    check(source)
    assert {file.name for file in slide_files(slide / name)} == {"b.dcm", "IM0001", "c.dcm"}
    with pytest.raises(UsageError, match="--plane: 1: a DICOM slide has one"):
        open_source(slide / name, Selection(plane=1))


def test_jpeg_frames(tmp_path):
    from PIL import Image

    smooth = np.asarray(Image.fromarray(RGB[:10, :13]).resize((200, 150), Image.Resampling.BICUBIC))
    source = open_source(write(tmp_path / "a.dcm", smooth, jpeg=True))
    assert str(source.facts.codec) == "JPEG"
    data = pydicom.dcmread(tmp_path / "a.dcm")
    frame = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=data.NumberOfFrames))
    np.testing.assert_array_equal(source.read(0, 0, 64, 64), np.asarray(Image.open(io.BytesIO(frame)).convert("RGB")))
    source.close()


def test_another_series_in_the_folder(slide):
    write(slide / "other.dcm", RGB[:64, :64].copy(), series="1.2.3.5")
    check(open_source(slide / "b.dcm"))
    assert slide_bytes(slide / "other.dcm") == (slide / "other.dcm").stat().st_size
    with pytest.raises(SourceError, match="a folder of 2 DICOM slides"):
        open_source(slide)


def test_a_label_in_a_series_of_its_own_is_said_to_be_left_out(slide):
    write(slide / "d.dcm", LABEL, ("ORIGINAL", "PRIMARY", "OVERVIEW", "NONE"), series="1.2.3.5")
    source = open_source(slide)
    assert source.facts.notes == ("DICOM files of other series in the folder, no part of the slide and left out: 1",)
    assert source.facts.file_bytes == sum((slide / file).stat().st_size for file in ("b.dcm", "IM0001", "c.dcm"))
    check(source)


def test_conversion_of_a_folder(slide, tmp_path):
    from dlpr_wsi.pipeline.convert import convert
    from dlpr_wsi.pipeline.verify import verify
    from dlpr_wsi.sources.opening import open_archive

    out = tmp_path / "out.zarr"
    report = convert(slide, out, threads=1)
    assert report.dropped == ("label",)
    archive = open_archive(out)
    np.testing.assert_array_equal(archive.read(0, 0, 200, 150), RGB)
    np.testing.assert_array_equal(archive.read(0, 0, 100, 75, 1), HALF)
    assert verify(out, slide).ok
    assert convert(slide, out, threads=1).already
    data = bytearray((slide / "IM0001").read_bytes())
    data[-64 * 64 * 3] ^= 1  # a pixel of the same file
    (slide / "IM0001").write_bytes(data)
    with pytest.raises(UsageError, match="exists"):
        convert(slide, out, threads=1)
    for file in out.rglob("*.json"):
        assert not any(word in file.read_text() for word in ("Jane", "S12-3456", "1.2.3.4"))


def test_info_of_a_folder(slide, capsys):
    from dlpr_wsi.cli import main

    assert main(["info", str(slide)]) == 0
    assert "200 x 150 px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}, "16 bits a sample"),
        ({"BitsStored": 7}, "7 bits a sample"),
        ({"PixelRepresentation": 1}, "signed samples"),
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}, "1 sample a px"),
        ({"PlanarConfiguration": 1}, "colours in planes"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colours that are not known"),
        ({"PhotometricInterpretation": "YBR_FULL"}, "colours YBR_FULL "),
        ({"TotalPixelMatrixFocalPlanes": 3}, "3 focal planes"),
        ({"NumberOfOpticalPaths": 2}, "2 optical paths"),
        ({"NumberOfFrames": 24}, "24 frames for 12 tiles"),
        ({"ConcatenationUID": "1.2", "InConcatenationTotalNumber": 2}, "one part of 2 of a DICOM concatenation"),
        ({"syntax": "1.2.840.10008.1.2"}, "pixels coded as Implicit VR Little Endian"),
        ({"syntax": "1.2.840.9"}, "pixels coded as something that is not in the standard"),
        ({"cut": 400}, "its DICOM header cannot be read"),
        ({"cut": 150}, "DICOM of another kind|its DICOM header cannot be read"),
        ({"sop": "1.2.840.10008.5.1.4.1.1.7"}, "DICOM of another kind .Secondary Capture Image Storage"),
        ({"TotalPixelMatrixRows": None}, "without the size"),
        ({"kind": ("ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED")}, "no level that OpenSlide takes"),
        ({"kind": ("ORIGINAL", "PRIMARY", "LABEL", "NONE")}, "no level that OpenSlide takes"),
        ({"kind": ("Jane Doe",)}, "no level that OpenSlide takes"),
    ],
)
def test_refused_by_its_reason(tmp_path, caplog, change, reason):
    path = tmp_path / "a.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(path, RGB, **{name: value for name, value in change.items() if name not in ("syntax", "cut")})
    caplog.clear()  # pydicom's, of writing
    data = path.read_bytes()
    if "syntax" in change:  # in place: the writer would code the header in it
        data = data.replace(EXPLICIT.encode() + b"\0", change["syntax"].encode().ljust(len(EXPLICIT) + 1, b"\0"), 1)
    path.write_bytes(data[: change.get("cut")])
    with pytest.raises(SourceError, match=rf"a\.dcm: .*({reason})") as raised:
        open_source(path)
    assert "Jane" not in str(raised.value) + caplog.text


def sparse(path, positions):
    """Write a picture of 2 x 2 tiles whose frames tell their positions, (row, column) counted from 1."""
    from pydicom.dataset import Dataset

    data = pydicom.dcmread(write(path, RGB[:128, :128]))
    data.DimensionOrganizationType, data.NumberOfFrames = "TILED_SPARSE", len(positions)
    data.PerFrameFunctionalGroupsSequence = []
    for row, column in positions:
        frame, place = Dataset(), Dataset()
        place.RowPositionInTotalImagePixelMatrix, place.ColumnPositionInTotalImagePixelMatrix = row, column
        frame.PlanePositionSlideSequence = [place]
        data.PerFrameFunctionalGroupsSequence.append(frame)
    data.PixelData = data.PixelData[: len(positions) * 64 * 64 * 3]
    data["PixelData"].VR = "OB"
    data.save_as(path, enforce_file_format=True)
    return path


def test_sparse_tiles(tmp_path):
    source = open_source(sparse(tmp_path / "a.dcm", [(65, 65), (1, 1), (1, 65)]))
    pixels = source.read(0, 0, 128, 128)
    source.close()
    np.testing.assert_array_equal(pixels[64:, 64:], RGB[:64, :64])
    np.testing.assert_array_equal(pixels[:64, :64], RGB[:64, 64:128])
    np.testing.assert_array_equal(pixels[:64, 64:], RGB[64:128, :64])
    assert (pixels[64:, :64] == 255).all()
    (tmp_path / "a.dcm").unlink()
    with pytest.raises(SourceError, match=r"b\.dcm: several frames in one place"):
        open_source(sparse(tmp_path / "b.dcm", [(1, 1), (1, 1), (1, 65)]))
    (tmp_path / "b.dcm").unlink()
    with pytest.raises(SourceError, match=r"c\.dcm: frames that do not lie on one grid"):
        open_source(sparse(tmp_path / "c.dcm", [(1, 1), (1, 50)]))


def test_levels_that_would_be_passed_over(slide):
    write(slide / "bigger.dcm", np.repeat(RGB, 2, 0), ("ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED"))
    with pytest.raises(SourceError, match=r"bigger\.dcm: the largest picture"):
        open_source(slide)
    write(slide / "bigger.dcm", HALF[:40], ("ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED"))
    source = open_source(slide)
    assert source.facts.notes == ("DICOM files of the series whose ImageType OpenSlide passes over, left out: 1",)
    source.close()
    write(slide / "bigger.dcm", RGB[::-1])
    with pytest.raises(SourceError, match="two levels of the same size in one series"):
        open_source(slide)
    shutil.copy(slide / "IM0001", slide / "bigger.dcm")  # the same instance twice does no harm
    check(open_source(slide))
    (slide / "bigger.dcm").write_bytes((slide / "IM0001").read_bytes()[:400])
    with pytest.raises(SourceError, match=r"bigger\.dcm: its DICOM header cannot be read, and it may be a level"):
        open_source(slide / "b.dcm")
    (slide / "bigger.dcm").unlink()
    write(slide / "c.dcm", LABEL, ("ORIGINAL", "PRIMARY", "LABEL", "NONE"), SamplesPerPixel=1)
    with pytest.raises(SourceError, match=r"c\.dcm: 1 sample a px .*no level of the slide \(LABEL\): move it out"):
        open_source(slide)


def test_a_resampled_largest_level_is_noted(tmp_path):
    source = open_source(write(tmp_path / "a.dcm", HALF, SMALLER))
    assert "a larger one may be missing" in source.facts.notes[0]
    source.close()


def test_batch_groups_by_series(slide, tmp_path):
    assert expand([slide]) == [slide]
    write(slide / "other.dcm", RGB[:64, :64].copy(), series="1.2.3.5")
    assert expand([slide]) == [slide / "IM0001", slide / "other.dcm"]
    nested = tmp_path / "study" / "deeper" / "1.2.840.77"
    nested.mkdir(parents=True)
    write(nested / "1.2.840.5", RGB)
    write(nested / "1.2.840.6", LABEL, ("ORIGINAL", "PRIMARY", "OVERVIEW", "NONE"), series="1.2.3.7")
    write(tmp_path / "a.svs", RGB)  # named as something else: its name is believed
    assert expand([slide]) == [slide / "IM0001", nested, slide / "other.dcm"]
    assert expand([tmp_path]) == [tmp_path / "a.svs", slide / "IM0001", nested, slide / "other.dcm"]
    outs = name_outputs(expand([slide]), tmp_path, ".zarr")
    assert [out.name for out in outs] == ["IM0001.zarr", "1.2.840.77.zarr", "other.zarr"]


def test_batch_without_a_slide_and_with_dicomdir(tmp_path):
    write(tmp_path / "DICOMDIR", LABEL, ("ORIGINAL",), sop="1.2.840.10008.1.3.10")
    (tmp_path / "README").write_text("x" * 500)
    with pytest.raises(UsageError, match="holds no slides"):
        expand([tmp_path])
    write(tmp_path / "ct1", LABEL, sop="1.2.840.10008.5.1.4.1.1.2", series="1.2.9")
    write(tmp_path / "ct2", LABEL, sop="1.2.840.10008.5.1.4.1.1.2", series="1.2.9")
    (tmp_path / "cut.dcm").write_bytes(b"no DICOM")
    assert expand([tmp_path]) == [tmp_path / "ct1", tmp_path / "cut.dcm"]
    with pytest.raises(SourceError, match="CT Image Storage"):
        open_source(tmp_path / "ct1")
    with pytest.raises(SourceError, match="no DICOM slide in the folder"):
        open_source(tmp_path)


def test_missing_pydicom_names_the_extra(slide):
    script = "import sys; sys.modules['pydicom'] = None; from dlpr_wsi.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "info", str(slide)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pydicom is not installed; it comes with: pip install 'dlpr-wsi[wsi]'" in done.stderr


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_files(path, tmp_path):
    import openslide

    shutil.copy(path, tmp_path / "FILE")
    source = open_source(tmp_path / "FILE")
    with openslide.OpenSlide(path) as slide:
        assert [(level.width, level.height) for level in source.facts.levels] == list(slide.level_dimensions)
        expected = np.asarray(slide.read_region((300, 200), 0, (300, 200)))[..., :3]
    np.testing.assert_array_equal(source.read(300, 200, 300, 200), expected)
    assert source.facts.file_bytes == path.stat().st_size
    assert expand([tmp_path]) == [tmp_path]
    source.close()


# other slides of several files


def test_files_of_other_slides(tmp_path):
    def put(name, size):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
        return tmp_path / name

    mirax, inside = put("a.mrxs", 10), [put("a/Data0000.dat", 20), put("a/Slidedat.ini", 30)]
    assert slide_files(mirax) == (mirax, *inside)
    assert slide_bytes(mirax) == 60
    beside = [put(name, 5) for name in ("b.opt", "b_map.jpg", "b_0.jpg", "b_1.jpg")]
    for name in ("b.vms", "b.vmu"):
        lines = ["[Virtual Microscope Specimen]", "NoLayers=1", "ImageFile=b_0.jpg", "ImageFile(1,0)=b_1.jpg"]
        lines += ["MapFile=b_map.jpg", "OptimisationFile=b.opt", "MacroImage=../a.mrxs", "AuthCode=", "Other=missing"]
        (tmp_path / name).write_text("\r\n".join(lines))
        assert slide_files(tmp_path / name) == (tmp_path / name, *sorted(beside))
    assert slide_files(beside[0]) == (beside[0],)


def test_batch_of_a_study(slide, tmp_path, capsys):
    from dlpr_wsi.cli import main
    from dlpr_wsi.sources.opening import open_archive

    write(slide / "other.dcm", RGB[:64, :64].copy(), series="1.2.3.5")
    assert main(["convert", str(slide), "--out", str(tmp_path / "out"), "--workers", "0"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["IM0001.zarr", "other.zarr"]
    for name, image in (("IM0001", RGB), ("other", RGB[:64, :64])):
        archive = open_archive(tmp_path / "out" / f"{name}.zarr")
        np.testing.assert_array_equal(archive.read(0, 0, image.shape[1], image.shape[0]), image)
    assert "Jane" not in capsys.readouterr().out
