"""The command ``dlpr-wsi``.

Parses, calls the library function of the same name, reports. Exit status: 0 done, 1 the data are at fault,
2 the command line is, 130 interrupted (143 terminated). Results go to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType

from dlpr.errors import DlprError
from dlpr_wsi.errors import UsageError, WsiError

__all__ = ["main"]


class _Terminated(BaseException):
    """SIGTERM arrived; unwinds as Ctrl-C does, so that unfinished files are removed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dlpr-wsi`` and return its exit status."""
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
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    except _Terminated:
        print(f"{parser.prog}: terminated", file=sys.stderr)
        return 143
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _convert(options: argparse.Namespace) -> int:
    from dlpr_wsi.pipeline.convert import convert
    from dlpr_wsi.progress import make_progress
    from dlpr_wsi.report import convert_lines
    from dlpr_wsi.sinks.zarr3 import leftovers

    report = convert(
        options.slide,
        options.out,
        tau=options.tau,
        tile=options.tile,
        threads=options.threads,
        overwrite=options.overwrite,
        progress=make_progress("convert", sys.stderr),
    )
    print("\n".join(convert_lines(report)))
    for path in leftovers(options.out):
        print(f"note          {path} is left from a conversion that was killed, or belongs to one that runs now")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from dlpr_wsi.pipeline.verify import verify
    from dlpr_wsi.progress import make_progress
    from dlpr_wsi.report import verify_lines

    report = verify(
        options.archive,
        options.source,
        threads=options.threads,
        progress=make_progress("verify", sys.stderr),
    )
    print("\n".join(verify_lines(report)))
    return 0 if report.ok else 1


def _info(options: argparse.Namespace) -> int:
    from dlpr_wsi.info import ArchiveInfo, info
    from dlpr_wsi.report import archive_lines, slide_lines

    facts = info(options.path)
    lines = archive_lines(facts) if isinstance(facts, ArchiveInfo) else slide_lines(facts)
    print(json.dumps(facts.to_json(), indent=2) if options.json else "\n".join(lines))
    return 0


def _serve(options: argparse.Namespace) -> int:
    from dlpr_wsi.viewer.server import serve

    serve(
        options.images,
        host=options.host,
        port=options.port,
        open_browser=options.open,
        cache_mb=options.cache_mb,
        threads=options.threads,
        allow_origin=options.allow_origin,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dlpr-wsi",
        description="Whole-slide images as DLPR archives: lossless, or each sample within tau of the source.",
    )
    parser.add_argument("--version", action="version", version=_versions())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = commands.add_parser("convert", help="convert level 0 of a slide to an archive")
    convert.add_argument("slide", type=Path, metavar="SLIDE", help="anything that OpenSlide reads")
    convert.add_argument("out", type=Path, metavar="OUT.zarr", help="the archive; appears when it is complete")
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
        default=256,
        metavar="N",
        help="side of a chunk in px (default 256)",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace OUT.zarr if it is a Zarr archive")
    convert.set_defaults(run=_convert, parser=convert)

    verify = commands.add_parser("verify", help="decode an archive and compare every sample with its slide")
    verify.add_argument("archive", type=Path, metavar="OUT.zarr")
    verify.add_argument("--source", type=Path, required=True, metavar="SLIDE", help="the slide it was made from")
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
    serve.set_defaults(run=_serve, parser=serve)
    for command in (convert, verify, serve):
        command.add_argument(
            "--threads", type=_integer(1, 1024), metavar="N", help="threads (default: one per CPU core)"
        )

    info = commands.add_parser("info", help="facts about a slide or an archive")
    info.add_argument("path", type=Path, metavar="PATH")
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info, parser=info)
    return parser


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
    for name in ("dlpr-wsi", "numpy", "numcodecs", "zarr", "openslide-python", "openslide-bin"):
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} not installed")
    return ", ".join(lines)


if __name__ == "__main__":
    sys.exit(main())
