"""DICOM whole slides, written by pydicom and judged by the arrays, lossy ones by Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from diff_common import Truth, Verdict, grey3, level_sizes, picture, shrunk
from diff_tiff import tiles
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

from dlpr_wsi.sources import Selection

SYNTAX = {"raw": ExplicitVRLittleEndian, "jpeg": JPEGBaseline8Bit, "j2k": JPEG2000Lossless}


@dataclass(frozen=True)
class DicomCase:
    """One slide: an instance for each level, perhaps a label, perhaps as a folder."""

    width: int = 100
    height: int = 80
    seed: int = 0
    coding: str = "raw"  # of SYNTAX
    photometric: str = "RGB"  # RGB, YBR_FULL_422, MONOCHROME2
    tile: int = 64
    steps: tuple[float, ...] = ()
    sparse: bool = False
    missing: int | None = None  # a frame that a sparse level does not have
    label: bool = False
    folder: bool = True
    suffix: str = ".dcm"
    mpp: float = 0.25
    deep: bool = False

    selection = Selection()

    @property
    def verdict(self):
        if self.deep:
            return Verdict.REFUSE
        plain = self.coding == "jpeg" and self.photometric != "MONOCHROME2" and not self.sparse
        return Verdict.CONVERT if plain and (self.folder or self.suffix == ".dcm") else Verdict.EITHER

    def _levels(self):
        samples = 1 if self.photometric == "MONOCHROME2" else 3
        first = picture(self.seed, self.height, self.width, samples, np.uint16 if self.deep else np.uint8)
        return [first, *(shrunk(first, *size) for size in level_sizes(self.width, self.height, self.steps))]

    def _frames(self, level):
        return [self._coded(tile) for tile in tiles(level, self.tile)]

    def _coded(self, tile):
        tile = np.ascontiguousarray(tile)
        plain = tile[..., 0] if tile.shape[-1] == 1 else tile
        if self.coding == "raw":
            return plain.tobytes()
        if self.coding == "j2k":
            return bytes(imagecodecs.jpeg2k_encode(plain, level=0, codecformat="j2k", mct=False, reversible=True))
        coded = io.BytesIO()
        ycbcr = {"subsampling": 1} if self.photometric == "YBR_FULL_422" else {"keep_rgb": True, "subsampling": 0}
        Image.fromarray(plain).save(coded, "JPEG", quality=80, **(ycbcr if tile.shape[-1] == 3 else {}))
        return coded.getvalue()

    def write(self, folder: Path) -> Path:
        place = folder / "case"
        place.mkdir()
        root = f"1.2.826.0.1.3680043.8.498.{self.seed}"
        uids = {name: f"{root}.{k}" for k, name in enumerate(("study", "series", "frame"), 1)}
        first = None
        for index, level in enumerate(self._levels()):
            kind = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"] if index else ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
            mpp = self.mpp * self.width / level.shape[1]
            data = self._dataset(level, self._frames(level), uids, index, kind, mpp)
            name = place / f"level{index}{self.suffix}"
            pydicom.dcmwrite(name, data, enforce_file_format=True)
            first = first or name
        if self.label:
            label = picture(3, 30, 40, self._levels()[0].shape[-1])  # of 8 bits whatever the slide has
            frames = [self._coded(label)]
            data = self._dataset(label, frames, uids, 9, ["ORIGINAL", "PRIMARY", "LABEL", "NONE"], 10.0, (40, 30))
            pydicom.dcmwrite(place / f"label{self.suffix}", data, enforce_file_format=True)
        return place if self.folder else first

    def _dataset(self, level, frames, uids, number, flavour, mpp, tile=None):
        """Return an instance of VL Whole Slide Microscopy Image Storage."""
        across, down = tile or (self.tile, self.tile)
        height, width, samples = level.shape
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = SYNTAX[self.coding]
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=[str(self), str(number)]
        )
        data.StudyInstanceUID, data.SeriesInstanceUID = uids["study"], uids["series"]
        data.FrameOfReferenceUID, data.Modality, data.ImageType = uids["frame"], "SM", flavour
        data.PatientName, data.PatientID = "Doe^Jane", "12345"
        data.InstanceNumber = number + 1
        data.Rows, data.Columns = down, across
        data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
        data.TotalPixelMatrixFocalPlanes = 1
        data.NumberOfOpticalPaths = 1
        data.SamplesPerPixel = samples
        data.PhotometricInterpretation = self.photometric
        if samples == 3:
            data.PlanarConfiguration = 0
        bits = 8 * level.dtype.itemsize
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
        data.ImagedVolumeWidth, data.ImagedVolumeHeight = width * mpp / 1e3, height * mpp / 1e3
        data.ImagedVolumeDepth = 0.001
        measures = Dataset()
        measures.PixelSpacing = [f"{mpp / 1e3:.9g}"] * 2
        shared = Dataset()
        shared.PixelMeasuresSequence = Sequence([measures])
        data.SharedFunctionalGroupsSequence = Sequence([shared])
        data.DimensionOrganizationType = "TILED_SPARSE" if self.sparse else "TILED_FULL"
        columns = -(-width // across)
        if self.sparse:
            keep = list(range(len(frames)))
            if self.missing is not None and len(frames) > 1:
                keep.remove(self.missing % len(frames))
            groups = []
            for k in keep:
                place, group = Dataset(), Dataset()
                place.ColumnPositionInTotalImagePixelMatrix = 1 + across * (k % columns)
                place.RowPositionInTotalImagePixelMatrix = 1 + down * (k // columns)
                group.PlanePositionSlideSequence = Sequence([place])
                groups.append(group)
            data.PerFrameFunctionalGroupsSequence = Sequence(groups)
            frames = [frames[k] for k in keep]
        data.NumberOfFrames = len(frames)
        if self.coding == "raw":
            whole = b"".join(frames)
            data.PixelData = whole + b"\0" * (len(whole) % 2)
            data["PixelData"].VR = "OB" if bits == 8 else "OW"
        else:
            data.PixelData = encapsulate(frames)
            data["PixelData"].VR = "OB"
            data["PixelData"].is_undefined_length = True
        return data

    def truths(self, path: Path) -> list[Truth]:
        levels = []
        for level in self._levels():
            shown = self._decoded(level) if self.coding == "jpeg" else level
            shown = np.array(grey3(shown) if shown.shape[-1] == 1 else shown)
            columns = -(-level.shape[1] // self.tile)
            count = columns * -(-level.shape[0] // self.tile)
            if self.sparse and self.missing is not None and count > 1:
                y, x = (self.tile * (self.missing % count // columns), self.tile * (self.missing % count % columns))
                shown[y : y + self.tile, x : x + self.tile] = 255
            levels.append(shown)
        return [Truth("the arrays", tuple(levels), (self.mpp,) * 2)]

    def _decoded(self, level):
        columns = -(-level.shape[1] // self.tile)
        rows = -(-level.shape[0] // self.tile)
        out = np.empty((rows * self.tile, columns * self.tile, level.shape[2]), np.uint8)
        for k, frame in enumerate(self._frames(level)):
            with Image.open(io.BytesIO(frame)) as image:
                y, x = self.tile * (k // columns), self.tile * (k % columns)
                out[y : y + self.tile, x : x + self.tile] = np.asarray(image).reshape(self.tile, self.tile, -1)
        return out[: level.shape[0], : level.shape[1]]


@st.composite
def dicom_cases(draw):
    """Draw a DICOM slide."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    coding = pick("raw", "jpeg", "jpeg", "j2k")
    photometric = pick("RGB", "YBR_FULL_422", "MONOCHROME2") if coding == "jpeg" else pick("RGB", "RGB", "MONOCHROME2")
    sparse = pick(False, False, True)
    return DicomCase(
        width=draw(st.integers(64, 200)),
        height=draw(st.integers(64, 200)),
        seed=draw(st.integers(0, 99)),
        coding=coding,
        photometric=photometric,
        tile=pick(64, 64, 32),
        steps=pick((), (2,), (2, 4), (2.3,)),
        sparse=sparse,
        missing=pick(None, 0, 3) if sparse else None,
        label=pick(False, True),
        folder=pick(True, True, False),
        suffix=pick(".dcm", ".dcm", ""),
        mpp=pick(0.25, 0.5),
        deep=coding != "jpeg" and pick(*[False] * 9, True),
    )
