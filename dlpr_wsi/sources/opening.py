"""From a path to the source or archive that reads it."""

from __future__ import annotations

from pathlib import Path

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import IMAGE_SUFFIXES, PixelSource, Selection
from dlpr_wsi.sources.archive import Archive, is_zarr, open_zarr_archive

__all__ = ["open_archive", "open_slide", "open_source"]


def open_archive(path: Path) -> Archive:
    """Open an archive: a Zarr folder or a TIFF file.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        The path holds no archive of the kind that `dlpr_wsi.pipeline.convert` writes.
    """
    if path.is_file():
        from dlpr_wsi.sources.tiff_archive import open_tiff_archive

        return open_tiff_archive(path)
    return open_zarr_archive(path)


def open_slide(path: Path) -> PixelSource:
    """Open a slide through OpenSlide alone.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        OpenSlide is not installed.
    dlpr_wsi.errors.SourceError
        The file is missing or no slide.
    """
    from dlpr_wsi.sources.openslide import OpenSlideSource

    return OpenSlideSource(path)


def open_source(path: Path, selection: Selection | None = None) -> PixelSource:
    """Open a slide, a tiled TIFF, a Zarr or OME-Zarr folder, a folder of one DICOM slide, or an image file.

    Parameters
    ----------
    path : Path
        The file or folder.
    selection : Selection, optional
        Which picture of it, where it holds several.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        The package that reads this kind of file is not installed.
    dlpr_wsi.errors.SourceError
        The path is missing, or nothing of the kind.
    """
    from dlpr_wsi.sources.dicom import holds_dicom, is_dicom
    from dlpr_wsi.sources.files import is_mirax
    from dlpr_wsi.sources.header import Kind, sniff

    selection = selection or Selection()
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if path.is_dir():
        if is_zarr(path):
            from dlpr_wsi.sources.zarr import ZarrSource

            return ZarrSource(path, selection)
        if not holds_dicom(path):
            raise SourceError(f"{path}: a folder, but not a Zarr array or group, and without DICOM files")
    if path.is_dir() or is_dicom(path):
        from dlpr_wsi.sources.dicom_source import DicomSource

        return DicomSource(path, selection)
    with path.open("rb") as file:
        kind = sniff(file.read(16))
    if kind is Kind.TIFF:
        from dlpr_wsi.sources.tiff import open_tiff

        return open_tiff(path, selection)
    if not is_mirax(path) and (kind is not None or path.suffix.lower() in IMAGE_SUFFIXES):
        from dlpr_wsi.sources.image import ImageSource

        return ImageSource(path, selection)
    from dlpr_wsi.sources.openslide import OpenSlideSource

    return OpenSlideSource(path, selection)
