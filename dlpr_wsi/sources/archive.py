"""A finished archive: one Zarr format 3 array, (3, H, W) uint8, whose serializer is DLPR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dlpr_wsi.errors import ArchiveError, MissingDependencyError

__all__ = ["ATTRIBUTES", "Archive", "chunk_key", "directory_bytes", "is_zarr", "open_archive", "require_zarr"]

ATTRIBUTES = "dlpr_wsi"  # the key that holds this package's facts in the array's attributes


@dataclass(frozen=True)
class Archive:
    """An archive's metadata and the way to its stored chunks.

    Parameters
    ----------
    path : Path
        The folder.
    width, height : int
        Level 0 in px.
    tile : int
        Side of a chunk in px.
    tau : int
        The bound on the error of every sample that the metadata promises.
    facts : mapping
        What the conversion recorded about the source.
    """

    path: Path
    width: int
    height: int
    tile: int
    tau: int
    facts: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Rows of chunks."""
        return -(-self.height // self.tile)

    @property
    def columns(self) -> int:
        """Columns of chunks."""
        return -(-self.width // self.tile)

    def stored(self, row: int, column: int) -> bytes | None:
        """Return a chunk as it lies on disk, or None where there is none."""
        try:
            return (self.path / chunk_key(row, column)).read_bytes()
        except FileNotFoundError:
            return None

    def positions(self) -> Iterator[tuple[int, int]]:
        """Yield (row, column) of every chunk, row by row."""
        return ((row, column) for row in range(self.rows) for column in range(self.columns))


def require_zarr() -> None:
    """Raise MissingDependencyError unless a zarr is installed that writes format 3 with DLPR."""
    try:
        found = version("zarr")
        import_module("zarr")
    except ImportError as error:  # PackageNotFoundError is one
        raise MissingDependencyError("zarr 3.1 or later", "wsi") from error
    if tuple(int(part) for part in found.split(".")[:2]) < (3, 1):
        raise MissingDependencyError(f"zarr 3.1 or later (there is {found})", "wsi")


def chunk_key(row: int, column: int) -> str:
    """Return a chunk's path inside the archive, which is also its name in messages."""
    return f"c/0/{row}/{column}"


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr array or group of any format."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def directory_bytes(path: Path) -> int:
    """Return the size of all files under a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def open_archive(path: Path) -> Archive:
    """Open an archive.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError
        zarr 3 is not installed.
    dlpr_wsi.errors.ArchiveError
        The path holds no array of the kind that `dlpr_wsi.pipeline.convert` writes.
    """
    require_zarr()
    import zarr

    if not path.is_dir():
        raise ArchiveError(f"{path}: no such folder")
    if not is_zarr(path):
        raise ArchiveError(f"{path}: not a Zarr array")
    try:
        array = zarr.open_array(path, mode="r")
        metadata = array.metadata
        attributes = dict(array.attrs)
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise ArchiveError(f"{path}: its metadata cannot be read ({error})") from error
    if metadata.zarr_format != 3:
        raise ArchiveError(f"{path}: a Zarr format 2 array, not an archive of this package")
    chunks = array.chunks
    codecs = [codec.to_dict() for codec in metadata.codecs]
    if (
        array.ndim != 3
        or array.shape[0] != 3
        or len(chunks) != 3
        or chunks[0] != 3
        or chunks[1] != chunks[2]
        or [codec["name"] for codec in codecs] != ["dlpr"]
        or metadata.encode_chunk_key((0, 1, 2)) != chunk_key(1, 2)
    ):
        raise ArchiveError(
            f"{path}: not an archive of this package: expected a (3, H, W) array in chunks of (3, t, t) with "
            f"the codec dlpr alone, found shape {array.shape}, chunks {chunks}, "
            f"codecs {', '.join(str(codec['name']) for codec in codecs)}"
        )
    configuration: Any = codecs[0].get("configuration", {})
    facts = attributes.get(ATTRIBUTES)
    return Archive(
        path=path,
        width=array.shape[2],
        height=array.shape[1],
        tile=chunks[1],
        tau=int(configuration.get("tau", 0)),
        facts=facts if isinstance(facts, dict) else {},
    )
