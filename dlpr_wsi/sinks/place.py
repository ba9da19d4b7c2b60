"""Names that appear only when what they name is complete.

Everything is written under another name in the same folder, brought to the disk, then renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dlpr_wsi.errors import UsageError
from dlpr_wsi.sources.archive import is_zarr

__all__ = ["check_destination", "move_into_place", "sync_folder", "write_file"]


def write_file(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file so that its name means that it is whole, also after a power cut.

    Raises
    ------
    OSError
        The disk is full or cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def check_destination(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError unless an archive may be written under this name."""
    if not out.name:
        raise UsageError("OUT", f"{out} is not a name for an archive")
    if not out.parent.is_dir():
        raise UsageError("OUT", f"the folder {out.parent} does not exist")
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise UsageError("OUT", f"{out} exists; give --overwrite to replace it")
    is_tiff = out.suffix.lower() in (".tif", ".tiff") and out.is_file()
    if out.is_symlink() or not (is_tiff or (out.is_dir() and is_zarr(out))):
        raise UsageError("--overwrite", f"{out} is no archive, so it is not replaced")


def move_into_place(new: Path, out: Path, *, overwrite: bool) -> None:
    """Give a complete archive its name. One that is replaced stays in place until this moment."""
    check_destination(out, overwrite=overwrite)
    if not out.exists():
        new.rename(out)
        sync_folder(out.parent)
        return
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    old = folder / out.name
    try:
        out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        folder.rmdir()
        raise
    sync_folder(out.parent)
    shutil.rmtree(folder, ignore_errors=True)
