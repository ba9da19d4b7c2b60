"""Reports as text: one function per result, each returning lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlpr_wsi.info import ArchiveInfo
from dlpr_wsi.pipeline.batch import BatchRow
from dlpr_wsi.pipeline.convert import ConvertReport, Preview
from dlpr_wsi.pipeline.growth import advice
from dlpr_wsi.pipeline.kept import LevelKept
from dlpr_wsi.pipeline.plan import Plan
from dlpr_wsi.pipeline.verify import VerifyReport
from dlpr_wsi.sources import Channel, SlideFacts

__all__ = [
    "archive_lines",
    "batch_lines",
    "convert_lines",
    "growth_note",
    "growth_warning",
    "preview_lines",
    "slide_lines",
    "verify_lines",
]

_CONTAINERS = {3: "OME-Zarr 0.5", 2: "OME-Zarr 0.4", 0: "tiled TIFF"}
_MAX_BAD = 100  # bad chunks printed one by one
_MODES = ("jpeg", "j2k", "colour", "coded", "constant", "stored")


def preview_lines(preview: Preview) -> list[str]:
    """Report a plan and the estimate; a warning stands first."""
    source, guess = preview.source, preview.estimate
    warning = growth_warning(preview)
    shards = sum(rows * columns for rows, columns in (level.shards for level in preview.plan.levels))
    return [
        *([warning] if warning else []),
        *_plan_lines(preview.plan, preview.kept_levels),
        *_channel_lines(source.channels),
        *_reader_lines(source),
        *_note_lines(source.notes),
        f"shards        {shards}",
        f"source file   {source.file_bytes:,} bytes ({source.codec})",
        f"raw pixels    {preview.plan.raw_bytes:,} bytes",
        f"estimate      {guess.archive_bytes:,} bytes, +- {guess.margin:,}, from {guess.tiles} tiles "
        f"({_modes(guess.modes)}): {_share(guess.archive_bytes, source.file_bytes)} of the source file; about "
        f"{_duration(guess.seconds)}",
        *([f"              {guess.map_bytes:,} of it give the slide's files back"] if guess.map_bytes else []),
    ]


def convert_lines(report: ConvertReport) -> list[str]:
    """Report a conversion; where the archive is larger than the slide a warning stands first."""
    source = report.source
    warning = growth_note(source, report.archive_bytes, report.tau)
    made = f" ({report.made_max_error} in levels made here)" if report.plan.made_levels else ""
    lines = [
        *([warning] if warning else []),
        *_plan_lines(report.plan, report.kept_levels, report.level_modes),
        *_channel_lines(source.channels),
        *_reader_lines(source),
        *_tau_lines([level.tau for level in report.plan.levels]),
        f"source file   {source.file_bytes:,} bytes ({source.codec})",
    ]
    if report.source_tile_bytes:
        lines.append(
            f"source tiles  {report.source_tile_bytes:,} bytes of {source.codec.name or 'data'} under the chunks that "
            "follow them"
        )
    lines += [
        f"raw pixels    {report.raw_bytes:,} bytes",
        f"archive       {report.archive_bytes:,} bytes, {report.bits_per_pixel:.3f} bits/px",
        f"              {_share(report.archive_bytes, report.raw_bytes)} of the raw pixels, "
        f"{_share(report.archive_bytes, source.file_bytes)} of the source file"
        + (
            f", {_share(report.archive_bytes, report.source_tile_bytes)} of its tiles"
            if report.source_tile_bytes
            else ""
        ),
        f"tiles         {_modes(report.tiles_by_mode)}",
        *([f"coded by      {_coders(report.coders)}"] if report.coders else []),
        *[f"not kept      {count} tiles by their pixels: {reason}" for reason, count in report.unkept.items()],
        *([f"prior         {_prior(report.prior_bytes)}"] if report.prior_bytes else []),
        *([f"tuned         {_tuned(report.tuned_bytes)}"] if report.tuned_bytes else []),
        f"max |error|   {report.max_error}{made}, every chunk decoded and compared with the source",
        f"time          {report.seconds:.1f} s, {report.megapixels_per_second:.2f} MP/s",
    ]
    if report.already:
        lines.append("note          this very archive was there already, complete: nothing to do")
    elif report.resumed:
        lines.append(f"resumed       {report.resumed} of {report.tasks} shards were finished by an earlier run")
    lines += _reversible_lines(report.reversible)
    if report.dropped:
        where = "not in the archive" if report.reversible is None else "in the archive only inside the slide's file"
        lines.append(f"dropped       associated images, {where}: {', '.join(report.dropped)}")
    if report.kept:
        lines.append(f"kept          associated images, as asked: {', '.join(report.kept)}; they may show the patient")
    return lines + _note_lines(source.notes)


def _channel_lines(channels: Sequence[Channel] | None) -> list[str]:
    """Name channels and their colours, one a line; nothing for RGB."""
    return [f"{f'channel {number}':<13} {c.name} (#{c.hexadecimal})" for number, c in enumerate(channels or ())]


def _reader_lines(source: SlideFacts) -> list[str]:
    """Name the library whose pixels these are."""
    return [f"reader        {source.reader}"] if source.reader else []


def _note_lines(notes: Sequence[str]) -> list[str]:
    """Say what the reader left out or decided."""
    return [f"note          {note}" for note in notes]


def _reversible_lines(found: object) -> list[str]:
    """Say what of the slide's files a reversible archive makes and keeps, what it costs, and what is in it."""
    if not isinstance(found, Mapping):
        return []
    files, total, made, kept, size = (
        int(found.get(name, 0)) for name in ("files", "file_bytes", "made_bytes", "kept_bytes", "bytes")
    )
    return [
        f"reversible    gives back the slide's {'file' if files == 1 else f'{files} files'}, {total:,} bytes: {made:,} "
        f"made of chunks, {kept:,} kept; that takes {size:,} bytes",
        "              every file was made from the archive, and its SHA-256 compared",
        "note          the slide is inside as it is, with label, macro image, names and dates: it may show the patient",
    ]


def _plan_lines(plan: Plan, kept: Sequence[LevelKept], modes: Sequence[Mapping[str, int]] = ()) -> list[str]:
    """Describe the levels: what is kept of each or why nothing is, and once it is known, of how many tiles."""
    lines = []
    for index, (level, stored) in enumerate(zip(plan.levels, kept, strict=True)):
        count = ""
        if modes and stored.kept:
            found = modes[index].get("jpeg", 0) + modes[index].get("j2k", 0)
            blank = modes[index].get("constant", 0)
            count = f": {found} of {level.tiles}" + (f", {blank} are of one colour" if blank else "")
        lines.append(
            f"{f'level {index}':<13} {level.width} x {level.height} px in {level.tiles} tiles of "
            f"{_size(level.tile_width, level.tile_height)} px, {stored.text}{count}"
        )
    return lines


def growth_warning(preview: Preview) -> str | None:
    """Say before the first task that an archive will probably outgrow its source; None where it will not."""
    guess, limit = preview.estimate, preview.source.file_bytes
    if guess.archive_bytes <= limit:
        return None
    sure = "will be larger" if guess.least > limit else "may be larger"
    made = sum(level.bytes for level in guess.levels[preview.plan.first_made :]) / max(1, guess.archive_bytes)
    return (
        f"warning       the archive {sure} than the slide, about {guess.archive_bytes / limit:.2f} times; "
        f"{advice(preview.plan, preview.plan.levels[0].tau, made)}"
    )


def growth_note(source: SlideFacts, archive_bytes: int, tau: int) -> str | None:
    """Say plainly that an archive outgrew its source, and why; None when it did not."""
    if archive_bytes <= source.file_bytes:
        return None
    times = f"{archive_bytes / source.file_bytes:.2f} times the size of the source file"
    if not source.codec.lossy:
        return f"warning       the archive is {times}"
    kept = "exactly" if tau == 0 else f"within tau {tau}"
    return (
        f"warning       the archive is {times}: the source is a lossy {source.codec.name} slide, and "
        f"keeping its decoded pixels {kept} takes more bytes than the {source.codec.name} data they come from"
    )


def batch_lines(rows: Sequence[BatchRow]) -> list[str]:
    """Return one table for many slides; before it those whose archive is larger than the slide."""
    larger = [row for row in rows if row.report is not None and row.report.grew]
    table = [["slide", "levels", "source bytes", "archive bytes", "of source", "bits/px", "max |error|", "s", ""]]
    for row in rows:
        report = row.report
        if report is None:
            table.append([row.slide.name, *["-"] * 7, "FAILED: " + row.error.splitlines()[0]])
            continue
        table.append(
            [
                row.slide.name,
                str(len(report.plan.levels)),
                f"{report.source.file_bytes:,}",
                f"{report.archive_bytes:,}",
                _share(report.archive_bytes, report.source.file_bytes),
                f"{report.bits_per_pixel:.3f}",
                str(report.max_error),
                f"{report.seconds:.1f}",
                ("LARGER THAN THE SLIDE" if report.grew else "ok") + ", there already" * report.already,
            ]
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]) - 1)]
    lines = [f"warning: {len(larger)} of {len(rows)} archives are larger than their slides, marked below"] * bool(
        larger
    )
    for line in table:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:-1], widths[1:], strict=True)), line[-1]]
        lines.append("  ".join(cells).rstrip())
    done = [row.report for row in rows if row.report is not None]
    source, archive = sum(r.source.file_bytes for r in done), sum(r.archive_bytes for r in done)
    lines.append(
        f"{len(done)} of {len(rows)} slides: {source:,} bytes became {archive:,}, {_share(archive, source)}; "
        f"{len(rows) - len(done)} failed"
    )
    return lines


def verify_lines(report: VerifyReport) -> list[str]:
    """Report a verification; the last line is the verdict."""
    lines = [f"bad chunk     {chunk}" for chunk in report.bad[:_MAX_BAD]]
    if len(report.bad) > _MAX_BAD:
        lines.append(f"              ... and {len(report.bad) - _MAX_BAD} more bad chunks")
    if report.source:
        worst = "no chunk could be decoded" if report.max_error is None else f"max |error| {report.max_error}"
    else:
        worst = "every stream decoded to the pixels of its checksum" if report.ok else "not compared with a source"
    others = [level for level in report.levels if level.tau != report.tau]
    if report.source and others:
        own = [level.max_error for level in report.levels if level.tau == report.tau and level.max_error is not None]
        worst = f"max |error| {max(own)}" if own else "no chunk could be decoded"
    against = ", ".join(["recorded hashes"] * report.hashes + ["the source"] * report.source) or "nothing recorded"
    failed = [f"{len(report.bad)} of {report.tiles} chunks are bad"] if report.bad else []
    failed += ["the slide's files cannot all be given back"] if report.bad_files else []
    verdict = "ok" if report.ok else f"FAILED, {', '.join(failed)}"
    lines += [f"bad file      {problem}" for problem in report.bad_files]
    if report.files:
        what = "every SHA-256 is the slide's" if not report.bad_files else f"{len(report.bad_files)} cannot be"
        lines.append(f"slide's files {report.files} made again from the archive: {what}")
    return [
        *lines,
        f"against       {against}",
        *_opinion_lines(report),
        *(
            f"{f'level {level.level}':<13} made by the conversion, tau {level.tau}"
            + ("" if level.max_error is None else f", max |error| {level.max_error}")
            for level in others
        ),
        f"verify        {verdict}: {worst}, tau {report.tau}, {report.tiles} tiles, {report.seconds:.1f} s",
    ]


def _opinion_lines(report: VerifyReport) -> list[str]:
    """Say who read the slide, and what of it only one library could read."""
    if not report.readers:
        return []
    first, second = report.readers[0].first, report.readers[0].second
    if second is None:
        return [f"read by       {first}", f"second reader none: {report.no_second}"]
    lines = [f"read by       {first}", f"second reader {second}"]
    for level in report.readers:
        parts = [f"{level.confirmed} of {level.chunks} chunks confirmed by the second reader"]
        if level.tolerance:
            parts.append(f"within {level.tolerance}, as their decoders round differently")
        if level.disagreed:
            parts.append(f"{level.disagreed} read differently")
        parts += [f"{count} by the first alone: {reason}" for reason, count in level.alone.items()]
        lines.append(f"{f'level {level.level}':<13} {'; '.join(parts)}")
    return lines


def slide_lines(facts: SlideFacts) -> list[str]:
    """Describe a slide."""
    tile = "unknown" if facts.tile_width is None else f"{facts.tile_width} x {facts.tile_height} px"
    lossy = {True: "lossy", False: "lossless", None: "lossy or lossless: not recorded"}[facts.codec.lossy]
    lines = [
        f"slide         {facts.name}",
        f"vendor        {facts.vendor}",
        *_reader_lines(facts),
        f"file          {facts.file_bytes:,} bytes",
        f"codec         {facts.codec} ({lossy})",
        f"levels        {len(facts.levels)}",
    ]
    lines += [
        f"{f'level {index}':<13} {level.width} x {level.height} px, 1/{level.downsample:g}, {level.codec}"
        for index, level in enumerate(facts.levels)
    ]
    return [
        *lines,
        *_channel_lines(facts.channels),
        f"tiles         {tile}",
        f"resolution    {_pair(facts.mpp_x, facts.mpp_y)}",
        f"objective     {_unknown(facts.objective_power, 'x')}",
        f"ICC profile   {'none' if facts.icc_profile is None else f'{len(facts.icc_profile):,} bytes'}",
        f"bounds        {'none' if facts.bounds is None else facts.bounds}",
        f"associated    {', '.join(facts.associated) or 'none'}",
        *_note_lines(facts.notes),
    ]


def archive_lines(facts: ArchiveInfo) -> list[str]:
    """Describe an archive."""
    source_bytes = facts.source.get("source_bytes")
    against = f", {_share(facts.bytes, source_bytes)} of the source file" if isinstance(source_bytes, int) else ""
    lines = [
        f"archive       {facts.name}: {_CONTAINERS[facts.zarr_format]}",
        *_tau_lines([level.tau for level in facts.levels]),
        f"size          {facts.bytes:,} bytes, {facts.bits_per_pixel:.3f} bits/px",
        f"              {_share(facts.bytes, facts.raw_bytes)} of the raw pixels{against}",
        f"tiles         {facts.tiles}: {_modes(facts.tiles_by_mode)}",
        f"weights       {', '.join(facts.weights) or 'none needed'}",
        f"prior         {'none' if facts.prior is None else _prior(facts.prior)}",
        *([f"tuned         {_tuned(facts.tuned)}"] if facts.tuned else []),
        f"ICC profile   {'none' if facts.icc_profile is None else f'{facts.icc_profile:,} bytes'}",
    ]
    held = 3 if facts.channels is None else 1
    for index, level in enumerate(facts.levels):
        if level.shard is not None:
            shard = f"shards of {level.shard[0]} x {level.shard[1]}"
        else:
            shard = "a file each" if facts.zarr_format else "in one file"
        lines.append(
            f"{f'level {index}':<13} ({facts.samples}, {level.height}, {level.width}) in chunks of "
            f"({held}, {level.tile_height}, {level.tile_width}), {shard}; {level.tiles} chunks, {level.bytes:,} bytes"
        )
    lines += _channel_lines(facts.channels)
    lines += [line for line in _reversible_lines(facts.source.get("reversible")) if "compared" not in line]
    shown = {
        key: value
        for key, value in facts.source.items()
        if value is not None and key not in ("channels", "notes", "reversible")
    }
    lines += [f"source        {key}: {value}" for key, value in shown.items()]
    notes = facts.source.get("notes")
    return lines + _note_lines([str(note) for note in notes] if isinstance(notes, list) else [])


def _tau_lines(bounds: Sequence[int]) -> list[str]:
    """Say what bound the levels keep; levels that were made can have another one than level 0."""
    tau = bounds[0]
    lines = [f"tau           {tau} " + ("(lossless)" if tau == 0 else f"(every sample within {tau} of the source)")]
    for other in sorted(set(bounds) - {tau}):
        levels = [str(index) for index, bound in enumerate(bounds) if bound == other]
        lines.append(
            f"              {other} in level{'s' * (len(levels) > 1)} {', '.join(levels)}, made from the level above: "
            f"every sample within {other} of the mean that it stands for"
        )
    return lines


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _prior(size: int) -> str:
    return f"{size:,} bytes learnt from the slide's own tiles, in the archive's metadata; its JPEG tiles need it"


def _tuned(size: int) -> str:
    return f"{size:,} bytes of weights tuned to the slide, in the archive's metadata; its networks need them"


def _size(width: int, height: int) -> str:
    return str(width) if width == height else f"{width} x {height}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _coders(coders: Mapping[str, int]) -> str:
    """Count chunks by who coded them."""
    return ", ".join(f"{count} {name} ({_share(count, sum(coders.values()))})" for name, count in coders.items())


def _modes(modes: Mapping[str, int]) -> str:
    """Count and share of each mode, the known ones always first."""
    total = sum(modes.values())
    names = [*_MODES, *sorted(set(modes) - set(_MODES))]
    return ", ".join(f"{modes.get(name, 0)} {name} ({_share(modes.get(name, 0), total)})" for name in names)


def _pair(x: float | None, y: float | None) -> str:
    return "unknown" if x is None or y is None else f"{x:g} x {y:g} um/px"


def _unknown(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:g}{unit}"
