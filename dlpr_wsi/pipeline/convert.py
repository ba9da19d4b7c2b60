"""Slide to archive."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

import dlpr
from dlpr.modes.networks import weights as weights_store
from dlpr_wsi.errors import ArchiveError, ConversionError, GrowthError, SourceError, UsageError
from dlpr_wsi.pipeline.associated import write_associated
from dlpr_wsi.pipeline.estimate import estimate
from dlpr_wsi.pipeline.execute import DaskExecutor, Executor, LocalExecutor, Lost, default_threads
from dlpr_wsi.pipeline.gpu import ANY, device_name, require_device
from dlpr_wsi.pipeline.growth import Limit, already_larger
from dlpr_wsi.pipeline.journal import Journal, TaskRecord, fingerprint, job_id, partial_folder
from dlpr_wsi.pipeline.kept import LevelKept, kept_levels
from dlpr_wsi.pipeline.plan import Plan, SourceTiles, Task, make_plan, pyramid_levels
from dlpr_wsi.pipeline.prior import slide_prior
from dlpr_wsi.pipeline.results import ConvertOptions, ConvertReport, Preview
from dlpr_wsi.pipeline.tuned import Weights, remember_weights, remembered, slide_weights
from dlpr_wsi.pipeline.work import BadTile, Job, convert_task, open_with_levels
from dlpr_wsi.progress import NoProgress, Progress
from dlpr_wsi.reversible.attach import add_source_map, check_reversible, known_files, prove
from dlpr_wsi.sinks.omezarr import bytes_beside, chunk_files, write_hashes, write_metadata
from dlpr_wsi.sinks.place import check_destination, move_into_place
from dlpr_wsi.sources import PixelSource, SlideFacts
from dlpr_wsi.sources.archive import MAX_CHANNELS, directory_bytes
from dlpr_wsi.sources.opening import open_archive
from dlpr_wsi.sources.pyramid import FILTER

__all__ = ["ConvertOptions", "ConvertReport", "Preview", "convert", "make_executor", "preview", "stored_facts"]

CLUSTER_PIXELS = 64_000_000  # from here on an embedded cluster is worth the seconds that it takes to start
_TIFF_SUFFIXES = (".tif", ".tiff")


def make_executor(
    pixels: int,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    gpu: bool | str = False,
) -> Executor:
    """Choose where tasks run.

    Parameters
    ----------
    pixels : int
        Of all slides to be converted.
    scheduler : str, optional
        Address of a Dask scheduler.
    workers : int, optional
        Worker processes of an embedded cluster; 0 runs in this process. By default a conversion of fewer than 64 MP
        does, and a longer one gets a worker for every 8 CPU cores.
    threads : int, optional
        Codec threads, all together on this machine; on a cluster, of one task.
    gpu : bool or str
        Code on a device where a worker has one: True is the device that torch finds, or its name. Of a cluster those
        workers have one that have the resource GPU; the others code natively. An embedded cluster has one worker then.

    Raises
    ------
    dlpr_wsi.errors.MissingDependencyError, dlpr_wsi.errors.UsageError
        The device is to be used on this machine and cannot be; or see `dlpr_wsi.pipeline.execute.DaskExecutor`.
    """
    if gpu and scheduler is None:
        require_device(device_name(gpu) or ANY)
    if scheduler is not None and workers is not None:
        raise UsageError("--workers", "is for the embedded cluster; with --scheduler the cluster has its workers")
    if scheduler is None and workers is None and pixels < CLUSTER_PIXELS:
        workers = 0
    if scheduler is None and workers == 0:
        return LocalExecutor(threads)
    return DaskExecutor(scheduler, workers=workers, threads=threads, gpu=bool(gpu))


def _open(slide: Path, options: ConvertOptions) -> tuple[PixelSource, Plan]:
    """Open a slide with the levels of its archive, and cut it."""
    source = open_with_levels(slide, 1, options.selection)
    count = pyramid_levels(source.facts, options.tile or 256, options.pyramid)
    made = count - len(source.facts.levels)
    if made:
        source.close()
        source = open_with_levels(slide, count, options.selection)
    try:
        if source.facts.channels is not None and not 1 <= source.facts.samples <= MAX_CHANNELS:
            raise SourceError(f"{slide}: {source.facts.samples} channels; archives have 1 to {MAX_CHANNELS}")
        grids = [source.tile_grid(index) for index in range(count)]
        plan = make_plan(
            source.facts,
            grids,
            tile=options.tile,
            source_tiles=options.source_tiles,
            made_levels=made,
            tau=options.tau,
            made_tau=options.made_tau,
        )
        if options.source_tiles is SourceTiles.ONLY and not plan.levels[0].follows_source:
            raise UsageError(
                "--source-tiles",
                f"only: level 0 of {slide.name}: {_kept(source, plan, options)[0].text}",
            )
    except BaseException:
        source.close()
        raise
    return source, plan


def _kept(source: PixelSource, plan: Plan, options: ConvertOptions) -> tuple[LevelKept, ...]:
    """Say what is kept of each level."""
    return kept_levels(
        source, plan, tile=options.tile, source_tiles=options.source_tiles, keep_source=options.keep_source
    )


def _look(
    slide: Path,
    source: PixelSource,
    plan: Plan,
    options: ConvertOptions,
    threads: int,
    prior: dlpr.Prior | None,
    tuned: Weights = (),
) -> Preview:
    """Return what a conversion would do."""
    facts = _facts(source, plan, options, "0" * 64, options.keep, [])
    learnt: dict[str, Any] = {"prior": prior, "tuned": tuned}
    beside = bytes_beside(plan, options.version, facts=facts, channels=source.facts.channels, **learnt)
    keep = options.keep_source
    files = known_files(slide, source) if options.reversible else None
    guess = estimate(
        source, plan, options.source_tiles, threads, beside=beside, keep_source=keep, files=files, **learnt
    )
    return Preview(source.facts, plan, guess, _kept(source, plan, options))


def preview(slide: Path, options: ConvertOptions | None = None, *, threads: int | None = None) -> Preview:
    """Return what a conversion would do, without writing anything."""
    options = options or ConvertOptions()
    source, plan = _open(slide, options)
    try:
        threads = LocalExecutor(threads).threads
        prior = slide_prior(source, plan, options.source_tiles)
        return _look(slide, source, plan, options, threads, prior, _tuned(source, plan, options, threads, prior))
    finally:
        source.close()


def convert(
    slide: Path,
    out: Path,
    *,
    tau: int = 0,
    tile: int | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    restart: bool = False,
    options: ConvertOptions | None = None,
    executor: Executor | None = None,
    gpu: bool | str = False,
    progress: Progress | None = None,
    on_preview: Callable[[Preview], None] | None = None,
    no_growth: bool = False,
) -> ConvertReport:
    """Convert a slide to an archive.

    Parameters
    ----------
    slide : Path
        Anything that `dlpr_wsi.sources.opening.open_source` opens.
    out : Path
        The archive's name: OME-Zarr, or a TIFF where it ends in .tif or .tiff. It appears when the archive is complete
        and every chunk has been decoded and compared with the slide.
    tau, tile : int, optional
        Short forms of the same fields of ``options``.
    threads : int, optional
        Codec threads where no executor is given.
    overwrite : bool, default False
        Replace an archive of that name.
    restart : bool, default False
        Do not go on with what an interrupted run left.
    options : ConvertOptions, optional
        What the archive shall be.
    executor : Executor, optional
        Where tasks run; default: `make_executor` chooses.
    gpu : bool or str
        Code and check on a device, see `make_executor`.
    progress : Progress, optional
        Told of every finished task.
    on_preview : callable, optional
        Given the plan and the estimate before the first task.
    no_growth : bool, default False
        Make no archive that is larger than the slide: stop before the first task where the estimate says so beyond its
        margin, else as soon as what is written is larger, at the latest before the archive takes its name.

    Returns
    -------
    ConvertReport

    Raises
    ------
    dlpr_wsi.errors.UsageError
        ``out`` cannot be written, or exists, or an unfinished conversion with other options is there.
    dlpr_wsi.errors.SourceError
        The slide cannot be opened.
    dlpr_wsi.errors.GrowthError
        With ``no_growth``: the archive would be larger than the slide. Nothing of it stays.
    dlpr_wsi.errors.ConversionError
        Tiles of it cannot be read or kept; everything else is done, and a later run goes on from there.
    dlpr_wsi.errors.MissingDependencyError
        A package is not installed.
    OSError
        The archive cannot be written. What is finished stays for a later run.
    """
    begin = time.perf_counter()
    options = options or ConvertOptions(tau=tau, tile=tile)
    progress = progress or NoProgress()
    if options.reversible:
        check_reversible(options.tau)
    own = executor is None
    source, plan = _open(slide, options)
    try:
        header = _header(slide, out, options)
        done = _already(out, header, source, plan, options, begin) if not overwrite else None
        if done is not None:
            if no_growth and done.grew:
                raise GrowthError(already_larger(out, done.archive_bytes, source.facts))
            return done
        _check_out(out, plan, overwrite)
        executor = executor or make_executor(plan.pixels, threads=threads, gpu=gpu)
        with closing(Journal(out, header, restart=restart)) as journal:
            prior = slide_prior(source, plan, options.source_tiles)
            tuned = _tuned(source, plan, options, _cores_here(executor), prior, journal)
            guess = None
            if on_preview is not None or no_growth:
                try:
                    guess = _look(slide, source, plan, options, executor.threads, prior, tuned)
                except SourceError:  # no estimate then; the conversion will name every tile that cannot be read
                    source.close()
                    source, plan = _open(slide, options)
            if guess is not None and on_preview is not None:
                on_preview(guess)
            limit = Limit(source.facts, plan, options.tau, journal) if no_growth else None
            if limit is not None and guess is not None:
                limit.foresee(guess.estimate)
            before = len(journal.records)
            job = Job(
                key=job_id(header)[:16],
                source=slide.absolute(),
                data=journal.data.absolute(),
                plan=plan,
                version=options.version,
                source_tiles=options.source_tiles,
                threads=executor.threads,
                device=device_name(gpu),
                selection=options.selection,
                prior=prior,
                keep_source=options.keep_source,
                tuned=tuned,
            )
            try:
                stages = _run(job, journal, executor, progress, limit)
                kept, reversible = _finish(
                    job, journal, source, options, job_id(header), _cores_here(executor), progress
                )
                size = _place(journal, out, overwrite, _cores_here(executor), progress, limit)
            except GrowthError:
                journal.remove()
                raise
            kept_now = _kept(source, plan, options) if guess is None else guess.kept_levels
            records = list(journal.records.values())
    finally:
        progress.close()
        source.close()
        if own and executor is not None:
            executor.close()
    return ConvertReport(
        source=source.facts,
        plan=plan,
        tau=options.tau,
        kept_levels=kept_now,
        level_modes=tuple(
            _sum(record.tiles_by_mode for record in records if record.level == index)
            for index in range(len(plan.levels))
        ),
        archive_bytes=size,
        source_tile_bytes=sum(record.source_bytes for record in records),
        tiles_by_mode=_sum(record.tiles_by_mode for record in records),
        bytes_by_mode=_sum(record.bytes_by_mode for record in records),
        max_error=_max_error(plan, records, made=False),
        made_max_error=_max_error(plan, records, made=True),
        dropped=tuple(name for name in source.facts.associated if name not in kept),
        kept=kept,
        resumed=before,
        tasks=plan.task_count,
        seconds=time.perf_counter() - begin,
        stages=stages,
        prior_bytes=0 if job.prior is None else len(job.prior.data),
        tuned_bytes=_bytes_of(job.tuned),
        reversible=reversible,
        unkept=_sum(record.unkept for record in records),
        coders=_sum(record.coders for record in records),
    )


def _check_out(out: Path, plan: Plan, overwrite: bool) -> None:
    """Refuse what cannot be written now, and not when everything is encoded."""
    check_destination(out, overwrite=overwrite)
    if out.suffix.lower() in _TIFF_SUFFIXES:
        from dlpr_wsi.sinks.ometiff import check_tile_size

        for level in plan.levels:
            check_tile_size(level.tile_width, level.tile_height, "--tile")


def _tuned(
    source: PixelSource,
    plan: Plan,
    options: ConvertOptions,
    threads: int,
    prior: dlpr.Prior | None,
    journal: Journal | None = None,
) -> Weights:
    """Tune weights to the slide where that is asked for; a conversion that goes on takes those that it began with."""
    if not options.adapt:
        return ()
    file = None if journal is None else journal.folder / "tuned.json"
    if journal is not None and file is not None and journal.resumed:
        found = remembered(file)
        if found is None:
            raise ArchiveError(f"{file}: the weights of the unfinished conversion cannot be read; give --restart")
        return found
    keep = options.keep_source
    found = slide_weights(source, plan, options.source_tiles, threads, prior=prior, keep_source=keep)
    if file is not None:
        remember_weights(file, found)
    return found


def _bytes_of(tuned: Iterable[dlpr.Tuned | None]) -> int:
    """Size of weights tuned to a slide, each once."""
    return sum(len(one.data) for one in set(tuned) if one is not None)


def _cores_here(executor: Executor) -> int:
    """Return how many threads work in this process that is not done by tasks."""
    return executor.threads if isinstance(executor, LocalExecutor) else default_threads()


def _header(slide: Path, out: Path, options: ConvertOptions) -> dict[str, Any]:
    """Return what must be the same for a conversion to be resumed."""
    return {
        "source": fingerprint(slide),
        "options": options.to_json(),
        "container": "tiff" if out.suffix.lower() in _TIFF_SUFFIXES else "zarr",
        "weights": weights_store.default_id().hex(),
        "dlpr": dlpr.__version__,
    }


def _already(
    out: Path, header: Mapping[str, Any], source: PixelSource, plan: Plan, options: ConvertOptions, begin: float
) -> ConvertReport | None:
    """Return a report where the very archive is there already; tidy up what a kill after the renaming left."""
    if not out.is_dir():
        return None
    try:
        archive = open_archive(out)
    except Exception:
        return None
    if archive.facts.get("job") != job_id(header):
        return None
    leftover = partial_folder(out)
    if leftover.is_dir() and not (leftover / "data").exists():
        with closing(Journal(out, header)) as journal:
            journal.remove()
    facts, modes = source.facts, archive.facts.get("tiles_by_mode", {})
    kept = tuple(archive.facts.get("associated_kept", ()))
    return ConvertReport(
        source=facts,
        plan=plan,
        tau=options.tau,
        archive_bytes=directory_bytes(out),
        source_tile_bytes=int(archive.facts.get("source_tile_bytes", 0)),
        tiles_by_mode=modes,
        bytes_by_mode=archive.facts.get("bytes_by_mode", {}),
        max_error=int(archive.facts.get("max_error", 0)),
        made_max_error=int(archive.facts.get("made_max_error", 0)),
        kept_levels=_kept(source, plan, options),
        dropped=tuple(name for name in facts.associated if name not in kept),
        kept=kept,
        resumed=plan.task_count,
        tasks=plan.task_count,
        seconds=time.perf_counter() - begin,
        already=True,
        prior_bytes=0 if archive.levels[0].prior is None else len(archive.levels[0].prior.data),
        tuned_bytes=_bytes_of([one for level in archive.levels for one in level.tuned]),
        reversible=archive.facts.get("reversible"),
        unkept=archive.facts.get("unkept", {}),
    )


def _run(
    job: Job, journal: Journal, executor: Executor, progress: Progress, limit: Limit | None = None
) -> dict[str, float]:
    """Do every task that the journal does not have; return the seconds by stage."""
    bad: list[BadTile] = []
    stages = np.zeros(4)

    def missing(task: Task) -> bool:
        if task.key not in journal.records:
            return True
        level = job.plan.levels[task.level]
        return not all(file.is_file() for file in chunk_files(job.data, level, job.version, task))

    done = sum(record.tiles for record in journal.records.values())
    progress.start(job.plan.tiles)
    if done:
        progress.advance(done)
    todo = (task for task in job.plan.tasks() if missing(task))
    with closing(executor.run(convert_task, job, todo)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Lost):
                task: Task = outcome.task
                level = job.plan.levels[task.level]
                row, column = level.chunks(task)[0]
                bad.append(BadTile(task.level, row, column, *level.box(row, column), f"its shard: {outcome.message}"))
                continue
            if outcome.record is None:
                bad.extend(outcome.bad)
                continue
            journal.add(outcome.record)
            if limit is not None:
                limit.add(outcome.record)
            stages += outcome.seconds
            progress.advance(outcome.record.tiles)
    if bad:
        bad.sort(key=lambda tile: (tile.level, tile.row, tile.column))
        raise ConversionError(job.source, tuple(bad))
    return dict(zip(("read", "encode", "write", "check"), stages.tolist(), strict=True))


def _finish(
    job: Job,
    journal: Journal,
    source: PixelSource,
    options: ConvertOptions,
    made_by: str,
    threads: int,
    progress: Progress,
) -> tuple[tuple[str, ...], dict[str, Any] | None]:
    """Write hashes, metadata, associated images, the byte map; return the images' names and the map's facts."""
    for index, level in enumerate(job.plan.levels):
        hashes = np.zeros((*level.at(level.rows, level.columns, level.stack), 32), np.uint8)
        rows, columns = level.shards
        for task in (Task(index, row, column) for row in range(rows) for column in range(columns)):
            digests = np.frombuffer(journal.records[task.key].hashes, np.uint8).reshape(-1, 32)
            for key, digest in zip(level.keys(task), digests, strict=True):
                hashes[level.at(*key)] = digest
        write_hashes(job.data, index, hashes, job.version)
    kept = tuple(name for name in source.facts.associated if name in options.keep)
    for name in kept:
        write_associated(job.data, name, source.associated(name), options.version)
    facts = _facts(source, job.plan, options, made_by, kept, list(journal.records.values()))
    mpp = None if source.facts.mpp_x is None or source.facts.mpp_y is None else (source.facts.mpp_x, source.facts.mpp_y)
    channels = source.facts.channels

    def write(more: Mapping[str, Any]) -> None:
        both = {**facts, **more}
        learnt: dict[str, Any] = {"prior": job.prior, "tuned": job.tuned}
        write_metadata(job.data, job.plan, job.version, mpp=mpp, facts=both, channels=channels, **learnt)

    write({})
    if not options.reversible:
        return kept, None
    archive = open_archive(job.data)
    reversible = add_source_map(job.source, source, archive, job.version, threads, progress)
    write({"reversible": reversible})
    return kept, reversible


def _facts(
    source: PixelSource,
    plan: Plan,
    options: ConvertOptions,
    made_by: str,
    kept: Sequence[str],
    records: list[TaskRecord],
) -> dict[str, Any]:
    """Return what the archive records about itself."""
    return {
        **stored_facts(source.facts, options.tau),
        "made_tau": plan.levels[-1].tau if plan.made_levels else None,
        "pyramid": FILTER if plan.made_levels else "levels of the source",
        "levels_made": plan.made_levels,
        "associated_kept": list(kept),
        "options": options.to_json(),
        "job": made_by,
        **_totals(plan, records),
    }


def _max_error(plan: Plan, records: Sequence[TaskRecord], *, made: bool) -> int:
    """Return the largest error of levels that were read, or of levels that were made."""
    return max((record.max_error for record in records if (record.level >= plan.first_made) is made), default=0)


def _totals(plan: Plan, records: list[TaskRecord]) -> dict[str, Any]:
    """Sum up what was written; the same whatever the order of the tasks was."""
    return {
        "max_error": _max_error(plan, records, made=False),
        "made_max_error": _max_error(plan, records, made=True),
        "source_tile_bytes": sum(record.source_bytes for record in records),
        "tiles_by_mode": _sum(record.tiles_by_mode for record in records),
        "bytes_by_mode": _sum(record.bytes_by_mode for record in records),
        **({"unkept": unkept} if (unkept := _sum(record.unkept for record in records)) else {}),
    }


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up numbers by mode; sorted by name."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return {name: total[name] for name in sorted(total)}


def _place(
    journal: Journal, out: Path, overwrite: bool, threads: int, progress: Progress, limit: Limit | None = None
) -> int:
    """Give the archive its name, unless it is larger than wanted; return its size.

    Of a reversible archive the slide's files are made first.
    """
    archive = open_archive(journal.data)  # what was written must open
    if out.suffix.lower() in _TIFF_SUFFIXES:
        from dlpr_wsi.sinks.tiff import write_tiff  # type: ignore[import-not-found, unused-ignore]

        finished = journal.folder / out.name
        finished.unlink(missing_ok=True)
        write_tiff(archive, finished)
        size = finished.stat().st_size
    else:
        finished = journal.data
        size = directory_bytes(finished)
    if limit is not None:
        limit.final(size)
    if archive.source_map() is not None:
        prove(finished, threads, progress)
    move_into_place(finished, out, overwrite=overwrite)
    journal.remove()
    return size


def stored_facts(facts: SlideFacts, tau: int) -> dict[str, Any]:
    """Return what an archive records about its source: numbers and fixed words, no text from the slide."""
    return {
        "software": f"dlpr-wsi {dlpr.__version__}",
        "tau": tau,
        "vendor": facts.vendor,
        "mpp_x": facts.mpp_x,
        "mpp_y": facts.mpp_y,
        "objective_power": facts.objective_power,
        "background": "{:02X}{:02X}{:02X}".format(*facts.background) if facts.channels is None else "000000",
        "bounds": None if facts.bounds is None else list(facts.bounds),
        "icc_profile": None if facts.icc_profile is None else base64.b64encode(facts.icc_profile).decode(),
        "properties": dict(facts.properties),
        "source_bytes": facts.file_bytes,
        "source_codec": facts.codec.name,
        "source_codec_lossy": facts.codec.lossy,
        "source_quality": facts.codec.quality,
        "source_levels": [
            {"width": level.width, "height": level.height, "codec": level.codec.name} for level in facts.levels
        ],
        "hashes": "SHA-256 of each chunk's stream, in hashes/LEVEL",
        "channels": None
        if facts.channels is None
        else [{"name": channel.name, "colour": channel.hexadecimal} for channel in facts.channels],
        "reader": facts.reader,
        "notes": list(facts.notes),
    }
