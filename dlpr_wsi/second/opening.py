"""From a slide to the second reader that can judge it."""

from __future__ import annotations

from pathlib import Path

from dlpr_wsi.second import NoSecond, SecondReader
from dlpr_wsi.sources import Selection, SlideFacts

__all__ = ["open_second"]


def open_second(path: Path, facts: SlideFacts, selection: Selection, levels: int) -> SecondReader:
    """Open the second reader for a slide.

    Parameters
    ----------
    path : Path
        The slide.
    facts : SlideFacts
        What conversion's reader says about it: sizes of levels, channels, background, its name.
    selection : Selection
        Which picture of the slide.
    levels : int
        Levels of the archive; those that the slide lacks are made from level 0.

    Raises
    ------
    NoSecond
        There is none; says why.
    """
    reader = _open(path, facts, selection)
    if levels > len(facts.levels):
        from dlpr_wsi.second.made import MadeLevels

        return MadeLevels(reader, facts.levels[0].width, facts.levels[0].height, len(facts.levels), levels)
    return reader


def _open(path: Path, facts: SlideFacts, selection: Selection) -> SecondReader:
    """Choose by the first bytes of the file, never by its name or by what conversion took it for."""
    try:
        if path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
            from dlpr_wsi.second.zarr import ZarrReader

            return ZarrReader(path, facts, selection)
        head = b""
        if not path.is_dir():
            with path.open("rb") as file:
                head = file.read(132)
        if path.is_dir() or head[128:] == b"DICM":
            from dlpr_wsi.second.dicom import DicomReader

            return DicomReader(path, facts)
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            if facts.vendor == "hamamatsu":
                from dlpr_wsi.second.ndpi import NdpiReader

                return NdpiReader(path, facts)
            from dlpr_wsi.second.tiff import TiffReader

            return TiffReader(path, facts, selection)
        if facts.vendor == "image":
            from dlpr_wsi.second.image import ImageReader

            return ImageReader(path, facts)
    except NoSecond:
        raise
    except ImportError as error:
        raise NoSecond(f"{error.name or 'a package'} is not installed") from error
    except Exception as error:  # what libraries raise, and files of a kind that this package's parsers do not know
        raise NoSecond(f"it cannot open the slide ({type(error).__name__})") from error
    raise NoSecond(f"slides of the kind {facts.vendor!r} are read by {facts.reader or 'one library'} alone")
