"""Puts the byte map of a slide into the archive that a conversion has just written, and proves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import ArchiveError, SourceError, UsageError
from dlpr_wsi.progress import Progress
from dlpr_wsi.reversible.build import SlideFiles, build_source_map
from dlpr_wsi.reversible.layout import FileEntry
from dlpr_wsi.reversible.originals import Originals
from dlpr_wsi.sinks.omezarr import OmeVersion, source_map_file, write_source_map
from dlpr_wsi.sinks.place import sync_folder
from dlpr_wsi.sources import PixelSource
from dlpr_wsi.sources.archive import Archive
from dlpr_wsi.sources.files import slide_files
from dlpr_wsi.sources.pyramid import PyramidSource

__all__ = ["add_source_map", "bad_originals", "check_reversible", "known_files", "prove", "slide_file_names"]


def check_reversible(tau: int, *, deidentify: bool = False) -> None:
    """Refuse options that a reversible archive cannot have.

    Raises
    ------
    dlpr_wsi.errors.UsageError
        Naming the option and why.
    """
    if tau:
        raise UsageError(
            "--reversible",
            f"needs --tau 0: with tau {tau} the archive's coefficients are not the slide's, so the whole slide would "
            "have to be kept beside them",
        )
    if deidentify:
        raise UsageError(
            "--reversible",
            "keeps the slide's file as it is, with label, macro image, names and dates: it cannot go together with "
            "--deidentify",
        )


def slide_file_names(slide: Path) -> dict[str, Path]:
    """Return a slide's files by the names under which they are given back.

    Names are relative to the folder that the slide is in; of a slide that is a folder they begin with its name.
    """
    root = slide.absolute().parent
    try:
        return {file.absolute().relative_to(root).as_posix(): file for file in slide_files(slide.absolute())}
    except ValueError as error:
        raise SourceError(f"{slide}: its files lie in different folders, which cannot be given back") from error
    except OSError as error:
        raise SourceError(f"{slide}: cannot be read ({error.strerror})") from error


def add_source_map(
    slide: Path, source: PixelSource, archive: Archive, version: OmeVersion, threads: int, progress: Progress
) -> dict[str, Any]:
    """Write the byte map of a slide into its archive; return the facts to record.

    Parameters
    ----------
    slide : Path
        The slide.
    source : PixelSource
        The same, open.
    archive : Archive
        The archive, complete but for the map, in its folder.
    version : OmeVersion
        Its layout.
    threads : int
        That make and compress.
    progress : Progress
        Told of every part.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A file cannot be read or given back.
    OSError
        The archive cannot be written.
    """
    file = source_map_file(archive.path, version)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    known = known_files(slide, source)
    found = build_source_map(known, archive, partial, threads=threads, progress=progress)
    partial.replace(file)
    sync_folder(file.parent)
    size = file.stat().st_size
    write_source_map(archive.path, size, version)
    return {
        "version": 1,
        "files": len(found.files),
        "file_bytes": found.total_bytes,
        "made_bytes": found.made_bytes,
        "kept_bytes": found.total_bytes - found.made_bytes,
        "bytes": size,
    }


def known_files(slide: Path, source: PixelSource) -> SlideFiles:
    """Return a slide's files with what its reader knows of them.

    Parameters
    ----------
    slide : Path
        The slide.
    source : PixelSource
        The same, open.

    Raises
    ------
    dlpr_wsi.errors.SourceError
        A file cannot be read or given back.
    """
    names = slide_file_names(slide)
    reader: Any = source
    if isinstance(source, PyramidSource):
        reader = source.source
    store = getattr(reader, "store", None)
    if store is not None:
        return SlideFiles(names, tuple(store.files), dict(store.levels))
    return SlideFiles(names)  # nothing is known: the files are kept whole


def prove(archive: Path | Archive, threads: int | None, progress: Progress) -> tuple[FileEntry, ...]:
    """Make every file of a reversible archive and compare it with the recorded SHA-256; return the files.

    Raises
    ------
    dlpr_wsi.errors.ArchiveError
        Naming what cannot be given back.
    """
    with Originals(archive, threads=threads) as originals:
        for problem in _problems(originals, progress):
            raise problem
        return originals.files


def bad_originals(archive: Archive, threads: int, progress: Progress) -> tuple[int, tuple[str, ...]]:
    """Return how many files an archive gives back, and what is wrong with them; 0 where it is not reversible."""
    promised = archive.facts.get("reversible") is not None
    try:
        if not promised and archive.source_map() is None:
            return 0, ()
        with Originals(archive, threads=threads) as originals:
            return len(originals.files), tuple(str(problem) for problem in _problems(originals, progress))
    except (ArchiveError, OSError) as error:
        return 1, (str(error),)


def _problems(originals: Originals, progress: Progress) -> Iterator[ArchiveError]:
    """Make every file; yield what is wrong."""
    progress.start(max(1, sum(file.size for file in originals.files) >> 20))
    done = 0

    def count(size: int) -> None:
        nonlocal done
        progress.advance(((done + size) >> 20) - (done >> 20))
        done += size

    for number in range(len(originals.files)):
        try:
            originals.check(number, count)
        except ArchiveError as error:
            yield error
