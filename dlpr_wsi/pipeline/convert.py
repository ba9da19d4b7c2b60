"""Slide to archive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dlpr
from dlpr_wsi.errors import SourceError
from dlpr_wsi.pipeline.plan import Plan, Run, make_plan
from dlpr_wsi.pipeline.pool import NoProgress, Progress, SourcePool, default_threads, run_bounded
from dlpr_wsi.sources import SlideFacts

__all__ = ["ConvertReport", "convert", "stored_facts"]


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion did.

    Parameters
    ----------
    source : SlideFacts
        The slide.
    width, height, tile, tau : int
        The archive: px, px, px, levels.
    tiles : int
        Number of chunks.
    raw_bytes, archive_bytes : int
        Size of the slide's pixels, and of all files of the archive.
    tiles_by_mode : mapping of str to int
        How chunks were coded: coded, constant, stored.
    seconds : float
        Wall-clock time.
    """

    source: SlideFacts
    width: int
    height: int
    tile: int
    tau: int
    tiles: int
    raw_bytes: int
    archive_bytes: int
    seconds: float
    tiles_by_mode: Mapping[str, int] = field(default_factory=dict)

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the archive per px of the slide."""
        return 8 * self.archive_bytes / (self.width * self.height)

    @property
    def megapixels_per_second(self) -> float:
        """Speed of the whole conversion."""
        return self.width * self.height / 1e6 / max(self.seconds, 1e-9)


def convert(
    slide: Path,
    out: Path,
    *,
    tau: int = 0,
    tile: int = 256,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConvertReport:
    """Convert level 0 of a slide to an archive.

    Parameters
    ----------
    slide : Path
        Anything that OpenSlide reads.
    out : Path
        The archive's name. It appears when the archive is complete, not before.
    tau : int, default 0
        Largest error allowed per sample, 0 to 255; 0 is lossless.
    tile : int, default 256
        Side of a chunk in px.
    threads : int, optional
        Threads that read and encode; default: one per CPU core.
    overwrite : bool, default False
        Replace an archive of that name.
    progress : Progress, optional
        Told of every finished run of tiles.

    Returns
    -------
    ConvertReport

    Raises
    ------
    dlpr_wsi.errors.UsageError
        ``out`` cannot be written, or exists.
    dlpr_wsi.errors.SourceError
        The slide cannot be read.
    dlpr_wsi.errors.MissingDependencyError
        OpenSlide or zarr 3 is not installed.
    """
    from dlpr_wsi.sinks.zarr3 import ZarrSink, check_destination

    begin = time.perf_counter()
    check_destination(out, overwrite=overwrite)
    threads = threads or default_threads()
    progress = progress or NoProgress()
    sources = SourcePool(slide)
    try:
        facts = sources.get().facts
        level = facts.levels[0]
        plan = make_plan(level.width, level.height, tile, threads)
        sink = ZarrSink(
            out,
            width=plan.width,
            height=plan.height,
            tile=tile,
            tau=tau,
            attributes=stored_facts(facts, tau),
            overwrite=overwrite,
            batch=plan.run,
        )
        try:
            modes = _encode_all(plan, sources, sink.write, threads, progress)
            archive_bytes = sink.commit()
        except BaseException:
            sink.discard()
            raise
    finally:
        progress.close()
        sources.close()
    return ConvertReport(
        source=facts,
        width=plan.width,
        height=plan.height,
        tile=tile,
        tau=tau,
        tiles=plan.tiles,
        raw_bytes=plan.raw_bytes,
        archive_bytes=archive_bytes,
        seconds=time.perf_counter() - begin,
        tiles_by_mode=modes,
    )


def _encode_all(plan: Plan, sources: SourcePool, write: Any, threads: int, progress: Progress) -> dict[str, int]:
    """Read, encode and store every run; return the number of chunks by mode."""

    def work(run: Run) -> Counter[str]:
        pixels = sources.get().read(run.x, run.y, run.width, run.height)
        if pixels.shape != (run.height, run.width, 3):
            raise SourceError(f"the slide gave {pixels.shape} at x={run.x} y={run.y}")
        return Counter(mode_name(stream) for stream in write(run.row, run.column, pixels))

    modes: Counter[str] = Counter()
    progress.start(plan.tiles)
    with closing(run_bounded(work, plan.runs(), threads)) as results:
        for counted in results:
            modes.update(counted)
            progress.advance(counted.total())
    return dict(modes)


def mode_name(stream: bytes) -> str:
    """Return how a stream is coded, as a plain string."""
    mode = dlpr.inspect(stream).mode
    return str(getattr(mode, "value", mode))


def stored_facts(facts: SlideFacts, tau: int) -> dict[str, Any]:
    """Return what an archive records about its source: numbers and fixed words, no text from the slide."""
    return {
        "software": f"dlpr-wsi {dlpr.__version__}",
        "tau": tau,
        "level": 0,
        "vendor": facts.vendor,
        "mpp_x": facts.mpp_x,
        "mpp_y": facts.mpp_y,
        "objective_power": facts.objective_power,
        "background": "{:02X}{:02X}{:02X}".format(*facts.background),
        "source_bytes": facts.file_bytes,
        "source_codec": facts.codec.name,
        "source_codec_lossy": facts.codec.lossy,
        "source_quality": facts.codec.quality,
    }
