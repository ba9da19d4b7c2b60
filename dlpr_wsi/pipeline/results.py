"""What a conversion shall be, would do and did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlpr_wsi.pipeline.estimate import Estimate
from dlpr_wsi.pipeline.kept import LevelKept
from dlpr_wsi.pipeline.plan import Plan, Pyramid, SourceTiles
from dlpr_wsi.sinks.omezarr import OmeVersion
from dlpr_wsi.sources import Selection, SlideFacts

__all__ = ["ConvertOptions", "ConvertReport", "Preview"]


@dataclass(frozen=True)
class ConvertOptions:
    """What an archive shall be.

    Parameters
    ----------
    tau : int
        Largest error allowed per sample, 0 to 255; 0 is lossless.
    tile : int, optional
        Side of a chunk in px; default: that of the slide's JPEG tiles, or 256.
    version : OmeVersion
        Of OME-Zarr.
    source_tiles : SourceTiles
        Whether JPEG tiles of the slide may, may not or must be kept.
    pyramid : Pyramid
        Whether lower levels are made for a slide of one level.
    keep : tuple of str
        Associated images to keep, of label, macro and thumbnail.
    made_tau : int, optional
        Largest error allowed per sample of levels that are made, where that is more than ``tau``: they are means of
        level 0, which keeps ``tau``. Default: `dlpr_wsi.pipeline.plan.MADE_TAU` for RGB, 0 for channels.
    selection : Selection
        Which picture of a file that holds several.
    reversible : bool
        Whether the archive also holds what is needed to give back the slide's files, byte for byte.
    adapt : bool
        Whether the networks' weights are tuned to the slide where that pays, and carried by the archive.
    """

    tau: int = 0
    tile: int | None = None
    version: OmeVersion = OmeVersion.V05
    source_tiles: SourceTiles = SourceTiles.AUTO
    pyramid: Pyramid = Pyramid.AUTO
    keep: tuple[str, ...] = ()
    made_tau: int | None = None
    selection: Selection = field(default_factory=Selection)
    reversible: bool = False
    adapt: bool = False

    @property
    def keep_source(self) -> bool:
        """Whether the slide's tiles are kept even where their pixels alone take less."""
        return self.reversible or self.source_tiles is SourceTiles.ONLY

    def to_json(self) -> dict[str, Any]:
        """Return the options as the journal and the archive record them."""
        return {
            "tau": self.tau,
            "tile": self.tile,
            "ome_zarr": self.version.value,
            "source_tiles": self.source_tiles.value,
            "pyramid": self.pyramid.value,
            "keep": sorted(self.keep),
            "made_tau": self.made_tau,
            "selection": self.selection.to_json(),
            **({"reversible": True} if self.reversible else {}),
            **({"adapt": True} if self.adapt else {}),
        }


@dataclass(frozen=True)
class Preview:
    """What a conversion would do.

    Parameters
    ----------
    source : SlideFacts
        The slide.
    plan : Plan
        Levels, chunks, shards.
    estimate : Estimate
        Of the size and time.
    kept_levels : tuple of LevelKept
        What is kept of each level, or why nothing is.
    """

    source: SlideFacts
    plan: Plan
    estimate: Estimate
    kept_levels: tuple[LevelKept, ...] = ()


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion did.

    Parameters
    ----------
    source : SlideFacts
        The slide.
    plan : Plan
        What was cut how.
    tau : int
        The bound of levels that were read from the slide; that of each level is in ``plan``.
    archive_bytes : int
        Size of all files of the archive.
    source_tile_bytes : int
        Size of the slide's own tiles under the chunks that follow them; 0 where none do.
    tiles_by_mode, bytes_by_mode : mapping of str to int
        Chunks, and bytes of their streams, by how they are coded.
    max_error : int
        Largest error of a sample that the check found, in levels that were read from the slide.
    dropped, kept : tuple of str
        Associated images left out, and kept.
    resumed : int
        Tasks that an earlier run had finished.
    tasks : int
        Tasks in all.
    seconds : float
        Wall-clock time.
    stages : mapping of str to float
        Seconds that tasks spent on read, encode, write and check, summed over tasks that ran side by side.
    already : bool
        The archive was there, complete, made from this slide with these options.
    prior_bytes : int
        Size of the slide's prior, which the archive's metadata carry; 0 where it has none.
    tuned_bytes : int
        Size of the weights tuned to the slide, likewise; of those of several levels once each.
    reversible : mapping or None
        Of a reversible archive: how many bytes of the slide's files are made and kept, and what that costs.
    made_max_error : int
        As ``max_error``, in levels that were made.
    kept_levels : tuple of LevelKept
        What is kept of each level, or why nothing is.
    level_modes : tuple of mapping
        ``tiles_by_mode`` of each level; empty where the archive was there already.
    unkept : mapping of str to int
        Chunks that are not what the file holds behind them, by reason.
    coders : mapping of str to int
        With a device: chunks by who coded them (`dlpr_wsi.pipeline.gpu.coders`).
    """

    source: SlideFacts
    plan: Plan
    tau: int
    archive_bytes: int
    source_tile_bytes: int
    tiles_by_mode: Mapping[str, int]
    bytes_by_mode: Mapping[str, int]
    max_error: int
    dropped: tuple[str, ...]
    kept: tuple[str, ...]
    resumed: int
    tasks: int
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)
    already: bool = False
    prior_bytes: int = 0
    tuned_bytes: int = 0
    reversible: Mapping[str, Any] | None = None
    unkept: Mapping[str, int] = field(default_factory=dict)
    made_max_error: int = 0
    kept_levels: tuple[LevelKept, ...] = ()
    level_modes: tuple[Mapping[str, int], ...] = ()
    coders: Mapping[str, int] = field(default_factory=dict)

    @property
    def grew(self) -> bool:
        """Whether the archive is larger than the slide."""
        return self.archive_bytes > self.source.file_bytes

    @property
    def made_tau(self) -> int | None:
        """The bound of levels that were made; None where there are none."""
        return self.plan.levels[-1].tau if self.plan.made_levels else None

    @property
    def width(self) -> int:
        """Of level 0 in px."""
        return self.plan.levels[0].width

    @property
    def height(self) -> int:
        """Of level 0 in px."""
        return self.plan.levels[0].height

    @property
    def tiles(self) -> int:
        """Chunks of all levels."""
        return self.plan.tiles

    @property
    def raw_bytes(self) -> int:
        """Size of the pixels of all levels."""
        return self.plan.raw_bytes

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the archive per px of all levels."""
        return 8 * self.archive_bytes / self.plan.pixels

    @property
    def megapixels_per_second(self) -> float:
        """Speed of the whole conversion, its check included."""
        return self.plan.pixels / 1e6 / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return everything, for ``--json``."""
        return {
            "source": self.source.to_json(),
            "tau": self.tau,
            "levels": [
                {
                    "width": level.width,
                    "height": level.height,
                    "tile_width": level.tile_width,
                    "tile_height": level.tile_height,
                    "shard": [level.shard_rows, level.shard_columns],
                    "follows_source": level.follows_source,
                    "tau": level.tau,
                    "kept": kept.kept,
                    "kept_text": kept.text,
                    "tiles_by_mode": dict(self.level_modes[index]) if self.level_modes else None,
                }
                for index, (level, kept) in enumerate(zip(self.plan.levels, self.kept_levels, strict=True))
            ],
            "made_levels": self.plan.made_levels,
            "source_bytes": self.source.file_bytes,
            "source_codec": str(self.source.codec),
            "source_tile_bytes": self.source_tile_bytes,
            "raw_bytes": self.raw_bytes,
            "archive_bytes": self.archive_bytes,
            "ratio_to_raw": self.archive_bytes / self.raw_bytes,
            "ratio_to_source": self.archive_bytes / max(self.source.file_bytes, 1),
            "grew": self.grew,
            "bits_per_pixel": self.bits_per_pixel,
            "tiles": self.tiles,
            "tiles_by_mode": dict(self.tiles_by_mode),
            "bytes_by_mode": dict(self.bytes_by_mode),
            "max_error": self.max_error,
            "made_tau": self.made_tau,
            "made_max_error": self.made_max_error,
            "dropped": list(self.dropped),
            "kept": list(self.kept),
            "tasks": self.tasks,
            "tasks_resumed": self.resumed,
            "seconds": self.seconds,
            "stages": dict(self.stages),
            "megapixels_per_second": self.megapixels_per_second,
            "already": self.already,
            "prior_bytes": self.prior_bytes,
            "tuned_bytes": self.tuned_bytes,
            "reversible": None if self.reversible is None else dict(self.reversible),
            "unkept": dict(self.unkept),
            "coders": dict(self.coders),
        }
