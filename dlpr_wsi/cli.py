"""The command ``dlpr-wsi``.

Parses, calls the library function of the same name, reports. Exit status: 0 done, 1 the data are at fault,
2 the command line is, 130 interrupted (143 terminated). Results go to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from dlpr.errors import DlprError
from dlpr_wsi.cli_export import add_export
from dlpr_wsi.cli_reversible import add_mount, add_restore
from dlpr_wsi.errors import MissingDependencyError, SourceError, UsageError, WsiError

if TYPE_CHECKING:
    from dlpr_wsi.pipeline.convert import ConvertOptions
    from dlpr_wsi.sources import Selection

__all__ = ["main"]


_RESUME = "; what is finished is kept: run the same command again to go on"


class _Terminated(BaseException):
    """SIGTERM arrived; unwinds as Ctrl-C does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dlpr-wsi`` and return its exit status."""
    _escape_what_cannot_be_shown()
    parser = _parser()
    options = parser.parse_args(argv)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except UsageError as error:
        options.parser.print_usage(sys.stderr)
        print(f"{options.parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout went away: nothing to say, and nobody to say it to
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return 1
    except (WsiError, DlprError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted{_RESUME if options.command == 'convert' else ''}", file=sys.stderr)
        return 130
    except _Terminated:
        print(f"{parser.prog}: terminated{_RESUME if options.command == 'convert' else ''}", file=sys.stderr)
        return 143
    finally:
        signal.signal(signal.SIGTERM, previous)


def _escape_what_cannot_be_shown() -> None:
    """Let a stdout or stderr that is not UTF-8 escape characters instead of failing on them: file names, um's sign."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _convert(options: argparse.Namespace) -> int:
    from dlpr_wsi.pipeline.batch import expand, name_outputs
    from dlpr_wsi.pipeline.convert import ConvertOptions
    from dlpr_wsi.pipeline.plan import Pyramid, SourceTiles
    from dlpr_wsi.sinks.omezarr import OmeVersion

    wanted = ConvertOptions(
        tau=options.tau,
        tile=options.tile,
        version=OmeVersion(options.ome_zarr),
        source_tiles=SourceTiles(options.source_tiles),
        pyramid=Pyramid(options.pyramid),
        made_tau=options.made_tau,
        keep=tuple(name for name in ("label", "macro") if getattr(options, f"keep_{name}")),
        selection=_selection(options),
        reversible=options.reversible,
        adapt=options.adapt,
    )
    if options.deidentify and wanted.keep:
        raise UsageError("--deidentify", f"leaves out what --keep-{wanted.keep[0]} keeps: give one of them")
    if options.reversible:
        from dlpr_wsi.reversible.attach import check_reversible

        check_reversible(options.tau, deidentify=options.deidentify)
    if options.out is None:
        if options.dry_run and len(options.paths) == 1:
            return _preview(options, wanted, options.paths)
        if len(options.paths) != 2:
            raise UsageError("OUT", "give SLIDE OUT.zarr, or SLIDES... --out DIR")
        slide, out = options.paths
        return _preview(options, wanted, [slide]) if options.dry_run else _convert_all(options, wanted, [(slide, out)])
    slides = expand(options.paths)
    if options.dry_run:
        return _preview(options, wanted, slides)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("--out", f"the folder {options.out} cannot be made ({error.strerror})") from error
    outs = name_outputs(slides, options.out, f".{options.format}")
    return _convert_all(options, wanted, list(zip(slides, outs, strict=True)))


def _preview(options: argparse.Namespace, wanted: ConvertOptions, slides: Sequence[Path]) -> int:
    """Print plan and estimate of each slide."""
    from dlpr_wsi.pipeline.convert import preview
    from dlpr_wsi.report import preview_lines

    failed = False
    for slide in slides:
        try:
            found = preview(slide, wanted, threads=options.threads)
        except (WsiError, DlprError, OSError) as error:
            if len(slides) == 1 or isinstance(error, UsageError):
                raise
            print(f"dlpr-wsi: error: {error}", file=sys.stderr)
            failed = True
            continue
        if options.json:
            levels = [asdict(level) for level in found.plan.levels]
            for level, kept in zip(levels, found.kept_levels, strict=True):
                level |= {"kept": kept.kept, "kept_text": kept.text}
            guess = asdict(found.estimate) | {"least": found.estimate.least}
            print(json.dumps({"source": found.source.to_json(), "levels": levels, "estimate": guess}))
        else:
            print(f"slide         {slide}")
            print("\n".join(preview_lines(found)))
    return int(failed)


def _convert_all(options: argparse.Namespace, wanted: ConvertOptions, jobs: list[tuple[Path, Path]]) -> int:
    """Convert one slide or many with one set of workers."""
    from dlpr_wsi.pipeline.batch import BatchRow, convert_batch
    from dlpr_wsi.pipeline.convert import ConvertReport, Preview, convert, make_executor
    from dlpr_wsi.progress import make_progress
    from dlpr_wsi.report import batch_lines, convert_lines, growth_warning, preview_lines
    from dlpr_wsi.sinks.place import check_destination

    many = options.out is not None
    if not many and not jobs[0][1].exists():
        check_destination(jobs[0][1], overwrite=options.overwrite)  # before workers start
    if not many and not jobs[0][0].exists():
        raise SourceError(f"{jobs[0][0]}: no such file")
    executor = make_executor(
        _pixels(jobs, wanted.selection),
        scheduler=options.scheduler,
        workers=options.workers,
        threads=options.threads,
        gpu=options.gpu,
    )

    def show(found: Preview) -> None:
        warning = growth_warning(found)
        print("\n".join([*([warning] if warning else []), *preview_lines(found)[-1:]]), file=sys.stderr)

    def one(slide: Path, out: Path) -> ConvertReport:
        label = f"convert {slide.name}" if many else "convert"
        return convert(
            slide,
            out,
            options=wanted,
            overwrite=options.overwrite,
            restart=options.restart,
            executor=executor,
            gpu=options.gpu,
            progress=make_progress(label, sys.stderr),
            on_preview=show,
            no_growth=options.no_growth,
        )

    def failed(row: BatchRow) -> None:
        if row.error:
            print(f"dlpr-wsi: error: {row.error}", file=sys.stderr)

    try:
        if not many:
            report = one(*jobs[0])
            print(json.dumps(report.to_json()) if options.json else "\n".join(convert_lines(report)))
            return 0
        rows = convert_batch(jobs, one, failed)
    finally:
        executor.close()
    if options.json:
        print(
            json.dumps(
                [
                    {"slide": str(row.slide), "out": str(row.out), "error": row.error}
                    | ({} if row.report is None else row.report.to_json())
                    for row in rows
                ]
            )
        )
    else:
        print("\n".join(batch_lines(rows)))
    return int(any(row.report is None for row in rows))


def _pixels(jobs: Sequence[tuple[Path, Path]], selection: Selection) -> int:
    """Px of level 0 of all slides that open; the others fail later, by name."""
    from dlpr_wsi.sources.opening import open_source

    total = 0
    for slide, _ in jobs:
        try:
            source = open_source(slide, selection)
        except MissingDependencyError:
            raise
        except WsiError:
            continue
        total += source.facts.levels[0].width * source.facts.levels[0].height
        source.close()
    return total


def _verify(options: argparse.Namespace) -> int:
    from dlpr_wsi.pipeline.convert import make_executor
    from dlpr_wsi.pipeline.verify import verify
    from dlpr_wsi.progress import make_progress
    from dlpr_wsi.report import verify_lines
    from dlpr_wsi.sources.opening import open_archive

    archive = open_archive(options.archive)
    executor = make_executor(
        sum(level.width * level.height for level in archive.levels),
        scheduler=options.scheduler,
        workers=options.workers,
        threads=options.threads,
        gpu=options.gpu,
    )
    try:
        report = verify(
            options.archive,
            options.source,
            executor=executor,
            gpu=options.gpu,
            progress=make_progress("verify", sys.stderr),
        )
    finally:
        executor.close()
    print(json.dumps(asdict(report) | {"ok": report.ok}) if options.json else "\n".join(verify_lines(report)))
    return 0 if report.ok else 1


def _info(options: argparse.Namespace) -> int:
    from dlpr_wsi.info import ArchiveInfo, info
    from dlpr_wsi.report import archive_lines, slide_lines

    facts = info(options.path, _selection(options))
    lines = archive_lines(facts) if isinstance(facts, ArchiveInfo) else slide_lines(facts)
    print(json.dumps(facts.to_json(), indent=2) if options.json else "\n".join(lines))
    return 0


def _serve(options: argparse.Namespace) -> int:
    from dlpr_wsi.viewer.server import serve

    try:
        serve(
            options.images,
            host=options.host,
            port=options.port,
            open_browser=options.open,
            cache_mb=options.cache_mb,
            threads=options.threads,
            allow_origin=options.allow_origin,
            selection=_selection(options),
        )
    except (KeyboardInterrupt, _Terminated) as stopped:  # the usual end of a server
        return 130 if isinstance(stopped, KeyboardInterrupt) else 143
    return 0


def _add_device(command: argparse.ArgumentParser) -> None:
    """Options for who codes."""
    device = command.add_mutually_exclusive_group()
    device.add_argument("--gpu", action="store_true", help="run the networks on a GPU where a worker has one")
    device.add_argument("--device", metavar="NAME", dest="gpu", help="the same on a device that torch calls so")


def _add_convert(commands: Any) -> argparse.ArgumentParser:
    """Add the command convert; return its parser."""
    from dlpr_wsi.pipeline.plan import MADE_TAU

    convert: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="convert slides to archives",
        usage="%(prog)s SLIDE OUT.zarr|OUT.tif [options]\n       %(prog)s SLIDES... --out DIR [options]",
    )
    convert.add_argument(
        "paths", type=Path, nargs="+", metavar="SLIDE", help="a slide, TIFF, Zarr folder or image; OUT"
    )
    convert.add_argument("--out", type=Path, metavar="DIR", help="convert every SLIDE (a folder: all in it) into DIR")
    convert.add_argument("--format", choices=("zarr", "tif"), default="zarr", help="of archives in DIR (default zarr)")
    convert.add_argument(
        "--tau",
        type=_integer(0, 255),
        default=0,
        metavar="N",
        help="largest error per sample (default 0: lossless)",
    )
    convert.add_argument(
        "--tile",
        type=_integer(16, 4096),
        metavar="N",
        help="side of a chunk in px (default: that of the slide's tiles, or 256)",
    )
    convert.add_argument("--ome-zarr", choices=("0.5", "0.4"), default="0.5", help="version of OME-Zarr (default 0.5)")
    convert.add_argument(
        "--source-tiles",
        choices=("auto", "never", "only"),
        default="auto",
        help="keep the slide's own tiles where that is exact and smallest; never; or fail where it cannot be done",
    )
    convert.add_argument(
        "--pyramid",
        choices=("auto", "always", "never"),
        default="auto",
        help="make lower levels for a slide that has one (auto: if a side is longer than 4096 px)",
    )
    convert.add_argument(
        "--made-tau",
        type=_integer(0, 255),
        metavar="N",
        help=f"largest error per sample of levels that are made (default {MADE_TAU}, of channels 0; at least --tau)",
    )
    _add_selection(convert)
    convert.add_argument("--keep-label", action="store_true", help="keep the label image, which can show the patient")
    convert.add_argument("--keep-macro", action="store_true", help="keep the macro image, which can show the label")
    convert.add_argument(
        "--reversible",
        action="store_true",
        help="let the archive also give back the slide's file or files, byte for byte (restore, mount, serve); all of "
        "them, label and macro too",
    )
    convert.add_argument(
        "--adapt",
        action="store_true",
        help="tune the networks to the slide where that pays: a minute or two more, and 3 to 11 percent less of what "
        "was neither JPEG nor JPEG 2000; needs the extra train",
    )
    convert.add_argument(
        "--deidentify",
        action="store_true",
        help="refuse options that keep what can show the patient (they are off by default)",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace archives of the same name")
    convert.add_argument("--restart", action="store_true", help="begin anew where an interrupted run left its work")
    convert.add_argument(
        "--no-growth",
        action="store_true",
        help="make no archive that is larger than its slide: refuse beforehand where the estimate says so, stop where "
        "it turns out so",
    )
    convert.add_argument("--dry-run", action="store_true", help="print the plan and the estimate, write nothing")
    convert.set_defaults(run=_convert, parser=convert)
    return convert


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dlpr-wsi",
        description="Whole-slide images as DLPR archives: lossless, or each sample within tau of the source.",
    )
    parser.add_argument("--version", action="version", version=_versions())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = _add_convert(commands)

    verify = commands.add_parser("verify", help="decode an archive; compare with its hashes and with its slide")
    verify.add_argument("archive", type=Path, metavar="ARCHIVE")
    verify.add_argument("--source", type=Path, metavar="SLIDE", help="the slide it was made from")
    verify.set_defaults(run=_verify, parser=verify)

    serve = commands.add_parser("serve", help="show archives and slides in a browser")
    serve.add_argument(
        "images", type=Path, nargs="+", metavar="ARCHIVE", help="archives and slides; nothing else is readable"
    )
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)"
    )
    serve.add_argument("--port", type=_integer(0, 65535), default=8000, metavar="N", help="default 8000; 0: a free one")
    serve.add_argument("--open", action="store_true", help="open the page in a browser")
    serve.add_argument(
        "--cache-mb", type=_integer(1, 1 << 20), default=512, metavar="N", help="decoded tiles kept, MB (default 512)"
    )
    serve.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN", help="other sites whose pages may read tiles"
    )
    _add_selection(serve)
    serve.set_defaults(run=_serve, parser=serve)
    for command in (convert, verify, serve):
        command.add_argument(
            "--threads", type=_integer(1, 1024), metavar="N", help="threads (default: one per CPU core)"
        )
        command.add_argument(
            "--workers",
            type=_integer(0, 1024),
            metavar="N",
            help="worker processes; 0: this process alone (default: by the size of the work)",
        )
        command.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler, as tcp://host:8786")
        _add_device(command)
        command.add_argument("--json", action="store_true", help="the report as JSON")

    info = commands.add_parser("info", help="facts about a slide or an archive")
    info.add_argument("path", type=Path, metavar="PATH")
    _add_selection(info)
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info, parser=info)
    add_export(commands)
    add_restore(commands)
    add_mount(commands)
    return parser


def _add_selection(command: argparse.ArgumentParser) -> None:
    """Add the options that choose one picture of several."""
    for name, what in (
        ("image", "image (series) of a file that holds several"),
        ("page", "page of a TIFF whose pages are pictures of their own"),
        ("plane", "focal plane"),
        ("time", "time point"),
    ):
        command.add_argument(f"--{name}", type=_integer(0, 1 << 30), metavar="N", help=f"{what}, counted from 0")


def _selection(options: argparse.Namespace) -> Selection:
    """Return what these options chose."""
    from dlpr_wsi.sources import Selection

    return Selection(options.image, options.page, options.plane, options.time)


def _integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of integers in a range; argparse adds the option's name to its message."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be an integer from {low} to {high}, not {text!r}")
        return value

    return parse


def _versions() -> str:
    """Return this package's version and those of the packages that matter to it."""
    lines = []
    for name in ("dlpr-wsi", "numpy", "numcodecs", "zarr", "openslide-python", "openslide-bin", "tifffile", "dask"):
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} not installed")
    return ", ".join(lines)


if __name__ == "__main__":
    sys.exit(main())
