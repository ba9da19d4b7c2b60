"""DICOM whole slides: an instance of VL Whole Slide Microscopy Image Storage for each level, of one series.

After DICOM PS3.3 C.8.12.4 and PS3.5 A.4 (encapsulated frames, basic and extended offset tables), and
openslide-vendor-dicom.c on what it looks at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import pydicom
from kit_common import Change, Pixels, halved, jpeg, tiles, tissue, unchanged
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import JPEGBaseline8Bit

ROOT = "1.2.826.0.1.3680043.8.498.13"
STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def dicom(
    folder: Path,
    pixels: Pixels,
    *,
    levels: int = 3,
    tile: tuple[int, int] = (128, 128),
    quality: int = 80,
    subsampling: str = "422",
    rgb: bool = False,
    fragments: int = 1,
    table: str = "basic",
    sparse: bool = False,
    missing: Collection[tuple[int, int, int]] = (),
    parts: int = 1,
    label: bool = True,
    change: Change = unchanged,
) -> list[Pixels]:
    """Write the instances of a slide into a folder and return the pixels of the levels.

    Parameters
    ----------
    folder : Path
        Made here; level0.dcm, level1.dcm, ..., label.dcm.
    pixels : array, (h, w, 3) uint8
        Level 0.
    levels : int
        How many, each half the one before.
    tile : tuple of int
        Width and height of a frame in px.
    quality, subsampling : int, str
        Of the JPEGs.
    rgb : bool
        Whether components are R, G, B and the photometric interpretation says so; else YBR_FULL_422.
    fragments : int
        Of each frame.
    table : str
        "basic", "extended" or "none": the offset table (an extended one wants one fragment a frame).
    sparse : bool
        TILED_SPARSE: each frame says where it is; they are stored in turned order then.
    missing : collection of (level, row, column)
        Frames that a sparse slide does not have.
    parts : int
        Instances that level 0 is cut into (a concatenation).
    label : bool
        Whether there is a label.
    change : callable
        Alters frames.
    """
    folder.mkdir()
    images = [halved(pixels, level) for level in range(levels)]
    for level, image in enumerate(images):
        frames = [
            (row, column, change(level, row, column, jpeg(part, quality, subsampling, rgb=rgb)))
            for row, column, part in tiles(image, *tile)
            if (level, row, column) not in missing
        ]
        if sparse:
            frames.reverse()
        count = parts if level == 0 else 1
        size = -(-len(frames) // count)
        for part in range(count):
            mine = frames[part * size : (part + 1) * size]
            data = _instance(image, tile, mine, level, rgb=rgb, sparse=sparse)
            _encapsulate(data, [frame for *_, frame in mine], fragments, table)
            name = f"level{level}.dcm"
            if count > 1:
                name = f"level{level}-{part}.dcm"
                data.ConcatenationUID = f"{ROOT}.7"
                data.InConcatenationNumber, data.InConcatenationTotalNumber = part + 1, count
                data.ConcatenationFrameOffsetNumber = part * size
                data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.9.{level}.{part}"
            pydicom.dcmwrite(folder / name, data, enforce_file_format=True)
    if label:
        image = tissue(96, 64, 0, 0)
        data = _instance(image, (96, 64), [(0, 0, b"")], 99, rgb=rgb, sparse=False)
        data.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
        _encapsulate(data, [jpeg(image, 85, "422", rgb=rgb)], 1, "basic")
        pydicom.dcmwrite(folder / "label.dcm", data, enforce_file_format=True)
    return images


def _encapsulate(data: Dataset, frames: list[bytes], fragments: int, table: str) -> None:
    """Store frames as OB of undefined length."""
    if table == "extended":
        data.PixelData, data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        data.PixelData = encapsulate(frames, fragments, has_bot=table == "basic")
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True


def _instance(
    image: Pixels,
    tile: tuple[int, int],
    frames: Iterable[tuple[int, int, bytes]],
    level: int,
    *,
    rgb: bool,
    sparse: bool,
) -> Dataset:
    """Return an instance without its frames, with a patient's name that must never come out again."""
    height, width = image.shape[:2]
    data, data.file_meta = Dataset(), FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = STORAGE
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.9.{level}"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (f"{ROOT}.{n}" for n in (1, 2, 3))
    data.Modality, data.InstanceNumber = "SM", level + 1
    data.PatientName, data.PatientID, data.AccessionNumber = "Doe^Jane", "12345", "S12-3456"
    data.ImageType = (
        ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"] if not level else ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    )
    data.Rows, data.Columns = tile[1], tile[0]
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
    data.TotalPixelMatrixFocalPlanes = data.NumberOfOpticalPaths = 1
    data.SamplesPerPixel, data.PlanarConfiguration, data.PixelRepresentation = 3, 0, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PhotometricInterpretation = "RGB" if rgb else "YBR_FULL_422"
    data.LossyImageCompression = "01"
    measures, optics, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{0.00025 * 2**level:.9g}"] * 2 if level < 32 else ["0.01", "0.01"]
    optics.ObjectiveLensPower = "40"
    shared.PixelMeasuresSequence = [measures]
    data.OpticalPathSequence, data.SharedFunctionalGroupsSequence = [optics], [shared]
    data.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    count = 0
    groups = []
    for row, column, _ in frames:
        count += 1
        place, group = Dataset(), Dataset()
        place.ColumnPositionInTotalImagePixelMatrix = 1 + column * tile[0]
        place.RowPositionInTotalImagePixelMatrix = 1 + row * tile[1]
        group.PlanePositionSlideSequence = [place]
        groups.append(group)
    if sparse:
        data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames = count
    return data
