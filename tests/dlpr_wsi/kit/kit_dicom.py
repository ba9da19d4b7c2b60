"""DICOM whole slides as scanners and converters write them: VL Whole Slide Microscopy, one instance a level.

Attributes after PS3.3 A.32.8 and C.8.12.4; encapsulation after PS3.5 A.4, its items written here field by field: with a
Basic Offset Table, an Extended Offset Table (PS3.3 C.7.6.3.1.8) or none, a frame in one fragment or in several.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from kit_common import Change, Pixels, jpeg, unchanged
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

__all__ = ["frames_of", "write_dicom"]

_WSM = "1.2.840.10008.5.1.4.1.1.77.1.6"
JPEG, J2K_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
_ROOT = "1.2.826.0.1.3680043.8.498.77"
_LEVEL, _LOWER = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]


def frames_of(image: Pixels, tile: int, code: Callable[[Pixels], bytes]) -> list[tuple[int, int, bytes]]:
    """Return (row, column, coded) of every frame; at the edges padded with white."""
    found = []
    for row in range(-(-image.shape[0] // tile)):
        for column in range(-(-image.shape[1] // tile)):
            part = image[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            frame = np.full((tile, tile, 3), 255, np.uint8)
            frame[: part.shape[0], : part.shape[1]] = part
            found.append((row, column, code(frame)))
    return found


def write_dicom(
    folder: Path,
    levels: Sequence[Pixels],
    *,
    tile: int = 128,
    quality: int = 80,
    subsampling: str = "422",
    photometric: str = "YBR_FULL_422",
    table: str = "basic",
    fragments: int = 1,
    sparse: bool = False,
    missing: frozenset[tuple[int, int]] = frozenset(),
    syntax: str = JPEG,
    code: Callable[[Pixels], bytes] | None = None,
    change: Change = unchanged,
) -> Path:
    """Write a series, one file for each level; return the first.

    Parameters
    ----------
    table : str
        basic, extended or none.
    fragments : int
        Of a frame.
    sparse : bool
        Frames in another order than by rows, each with its position; without those of ``missing``.
    code : callable, optional
        Codes a frame; by default as JPEG of ``quality`` and ``subsampling``.
    """
    folder.mkdir(exist_ok=True)
    rgb = photometric == "RGB"
    code = code or (lambda frame: jpeg(frame, quality, "444" if rgb else subsampling, rgb=rgb))
    for number, image in enumerate(levels):
        frames = [(r, c, change(number, r, c, data)) for r, c, data in frames_of(image, tile, code)]
        if sparse:
            frames = [one for one in reversed(frames) if one[:2] not in missing]
        data = _instance(image, levels[0], number, tile, photometric, syntax)
        data.NumberOfFrames = len(frames)
        data.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
        if sparse:
            data.PerFrameFunctionalGroupsSequence = [_place(row, column, tile) for row, column, _ in frames]
        _encapsulate(data, [coded for _, _, coded in frames], table, fragments)
        dcmwrite(folder / f"level{number}.dcm", data, enforce_file_format=True)
    return folder / "level0.dcm"


def _instance(image: Pixels, first: Pixels, number: int, tile: int, photometric: str, syntax: str) -> Dataset:
    """Return an instance without its frames."""
    data, meta = Dataset(), FileMetaDataset()
    data.file_meta = meta
    meta.TransferSyntaxUID = UID(syntax)
    data.SOPClassUID = meta.MediaStorageSOPClassUID = UID(_WSM)
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(f"{_ROOT}.9.{number + 1}")
    data.StudyInstanceUID, data.SeriesInstanceUID = UID(f"{_ROOT}.1"), UID(f"{_ROOT}.2")
    data.FrameOfReferenceUID, data.Modality = UID(f"{_ROOT}.3"), "SM"
    data.PatientName, data.PatientID = "Doe^Jane", "S12-3456"
    data.ImageType, data.InstanceNumber = (_LOWER if number else _LEVEL), number + 1
    data.Rows = data.Columns = tile
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = image.shape[:2]
    data.TotalPixelMatrixFocalPlanes = data.NumberOfOpticalPaths = 1
    data.SamplesPerPixel, data.PlanarConfiguration, data.PixelRepresentation = 3, 0, 0
    data.PhotometricInterpretation = photometric
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.LossyImageCompression = "01" if syntax == JPEG else "00"
    optics, measures, shared = Dataset(), Dataset(), Dataset()
    optics.ObjectiveLensPower = "20"
    spacing = str(0.0005 * first.shape[1] / image.shape[1])
    measures.PixelSpacing = [spacing, spacing]
    shared.PixelMeasuresSequence = [measures]
    data.OpticalPathSequence, data.SharedFunctionalGroupsSequence = [optics], [shared]
    return data


def _place(row: int, column: int, tile: int) -> Dataset:
    """Return the functional group of a frame."""
    group, place = Dataset(), Dataset()
    place.ColumnPositionInTotalImagePixelMatrix = 1 + column * tile
    place.RowPositionInTotalImagePixelMatrix = 1 + row * tile
    group.PlanePositionSlideSequence = [place]
    return group


def _encapsulate(data: Dataset, frames: Sequence[bytes], table: str, fragments: int) -> None:
    """Set Pixel Data: the item of the table, the items of the fragments, the end."""
    body, offsets = bytearray(), []
    for frame in frames:
        offsets.append(len(body))
        step = max(2, -(-len(frame) // fragments) // 2 * 2)  # fragments have an even length
        pieces = [frame[at : at + step] for at in range(0, len(frame), step)]
        pieces[fragments - 1 :] = [b"".join(pieces[fragments - 1 :])]
        for piece in pieces:
            even = piece + b"\0" * (len(piece) % 2)
            body += struct.pack("<HHI", 0xFFFE, 0xE000, len(even)) + even
    basic = b"".join(struct.pack("<I", at) for at in offsets) if table == "basic" else b""
    if table == "extended":
        data.ExtendedOffsetTable = b"".join(struct.pack("<Q", at) for at in offsets)
        data.ExtendedOffsetTableLengths = b"".join(struct.pack("<Q", len(frame)) for frame in frames)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data.PixelData = struct.pack("<HHI", 0xFFFE, 0xE000, len(basic)) + basic + bytes(body) + end
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
