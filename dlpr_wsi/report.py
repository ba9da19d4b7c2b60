"""Reports as text: one function per result, each returning lines."""

from __future__ import annotations

from collections.abc import Mapping

from dlpr_wsi.info import ArchiveInfo
from dlpr_wsi.pipeline.convert import ConvertReport
from dlpr_wsi.pipeline.verify import VerifyReport
from dlpr_wsi.sources import SlideFacts

__all__ = ["archive_lines", "convert_lines", "slide_lines", "verify_lines"]

_MAX_BAD = 100  # bad chunks printed one by one


def convert_lines(report: ConvertReport) -> list[str]:
    """Report a conversion."""
    source = report.source
    lines = [
        f"image         {report.width} x {report.height} px in {report.tiles} tiles of {report.tile} px",
        f"tau           {_tau(report.tau)}",
        f"source file   {source.file_bytes:,} bytes ({source.codec})",
        f"raw pixels    {report.raw_bytes:,} bytes",
        f"archive       {report.archive_bytes:,} bytes, {report.bits_per_pixel:.3f} bits/px",
        f"              {_share(report.archive_bytes, report.raw_bytes)} of the raw pixels, "
        f"{_share(report.archive_bytes, source.file_bytes)} of the source file",
        f"tiles         {_modes(report.tiles_by_mode)}",
        f"time          {report.seconds:.1f} s, {report.megapixels_per_second:.2f} MP/s",
    ]
    if source.associated:
        lines.append(f"dropped       associated images, not in the archive: {', '.join(source.associated)}")
    note = growth_note(source, report.archive_bytes, report.tau)
    return [*lines, note] if note else lines


def growth_note(source: SlideFacts, archive_bytes: int, tau: int) -> str | None:
    """Say plainly that an archive outgrew its source, and why; None when it did not."""
    if archive_bytes <= source.file_bytes:
        return None
    times = f"{archive_bytes / source.file_bytes:.2f} times the size of the source file"
    if not source.codec.lossy:
        return f"note          the archive is {times}"
    kept = "exactly" if tau == 0 else f"within tau {tau}"
    return (
        f"note          the archive is {times}: the source is a lossy {source.codec.name} slide, and "
        f"keeping its decoded pixels {kept} takes more bytes than the {source.codec.name} data they come from"
    )


def verify_lines(report: VerifyReport) -> list[str]:
    """Report a verification; the last line is the verdict."""
    lines = [f"bad chunk     {chunk}" for chunk in report.bad[:_MAX_BAD]]
    if len(report.bad) > _MAX_BAD:
        lines.append(f"              ... and {len(report.bad) - _MAX_BAD} more bad chunks")
    worst = "no chunk could be decoded" if report.max_error is None else f"max |error| {report.max_error}"
    verdict = "ok" if report.ok else f"FAILED, {len(report.bad)} of {report.tiles} chunks are bad"
    return [
        *lines,
        f"verify        {verdict}: {worst}, tau {report.tau}, {report.tiles} tiles, {report.seconds:.1f} s",
    ]


def slide_lines(facts: SlideFacts) -> list[str]:
    """Describe a slide."""
    levels = ", ".join(f"{level.width} x {level.height}" for level in facts.levels)
    tile = "unknown" if facts.tile_width is None else f"{facts.tile_width} x {facts.tile_height} px"
    lossy = {True: "lossy", False: "lossless", None: "lossy or lossless: not recorded"}[facts.codec.lossy]
    return [
        f"slide         {facts.name}",
        f"vendor        {facts.vendor}",
        f"file          {facts.file_bytes:,} bytes",
        f"codec         {facts.codec} ({lossy})",
        f"levels        {len(facts.levels)}: {levels} px",
        f"tiles         {tile}",
        f"resolution    {_pair(facts.mpp_x, facts.mpp_y)}",
        f"objective     {_unknown(facts.objective_power, 'x')}",
        f"associated    {', '.join(facts.associated) or 'none'}",
    ]


def archive_lines(facts: ArchiveInfo) -> list[str]:
    """Describe an archive."""
    source_bytes = facts.source.get("source_bytes")
    against = f", {_share(facts.bytes, source_bytes)} of the source file" if isinstance(source_bytes, int) else ""
    lines = [
        f"archive       {facts.name}",
        f"shape         {facts.shape}, chunks {facts.chunks}, uint8",
        f"tau           {_tau(facts.tau)}",
        f"size          {facts.bytes:,} bytes, {facts.bits_per_pixel:.3f} bits/px",
        f"              {_share(facts.bytes, facts.raw_bytes)} of the raw pixels{against}",
        f"tiles         {facts.tiles}: {_modes(facts.tiles_by_mode)}",
        f"weights       {', '.join(facts.weights) or 'none needed'}",
    ]
    return lines + [f"source        {key}: {value}" for key, value in facts.source.items() if value is not None]


def _tau(tau: int) -> str:
    return "0 (lossless)" if tau == 0 else f"{tau} (every sample within {tau} of the source)"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _modes(modes: Mapping[str, int]) -> str:
    """Count and share of each mode, the known ones always first."""
    total = sum(modes.values())
    names = ["coded", "constant", "stored", *sorted(set(modes) - {"coded", "constant", "stored"})]
    return ", ".join(f"{modes.get(name, 0)} {name} ({_share(modes.get(name, 0), total)})" for name in names)


def _pair(x: float | None, y: float | None) -> str:
    return "unknown" if x is None or y is None else f"{x:g} x {y:g} um/px"


def _unknown(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:g}{unit}"
