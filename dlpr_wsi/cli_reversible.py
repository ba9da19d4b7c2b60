"""``dlpr-wsi restore`` and ``dlpr-wsi mount``: their options, and the calls of `dlpr_wsi.reversible`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_mount", "add_restore"]


def add_restore(commands: Any) -> None:
    """Add ``restore`` to the parsers of ``dlpr-wsi``."""
    parser = commands.add_parser(
        "restore",
        help="write the slide's own files out of a reversible archive",
        description="Write the files of the slide that a reversible archive was made from (convert --reversible), byte "
        "for byte. A file appears when its SHA-256 is that of the slide's.",
        usage="%(prog)s ARCHIVE DEST [options]\n       %(prog)s ARCHIVE --check [options]",
    )
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a reversible archive, Zarr or TIFF")
    parser.add_argument("dest", type=Path, nargs="?", metavar="DEST", help="a folder, or the file's new name")
    parser.add_argument("--check", action="store_true", help="make everything, compare, write nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace other files of the same names")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: one per CPU core)")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.set_defaults(run=_restore, parser=parser)


def add_mount(commands: Any) -> None:
    """Add ``mount`` to the parsers of ``dlpr-wsi``."""
    parser = commands.add_parser(
        "mount",
        help="show the slides of reversible archives as files in a folder",
        description="Show the files of the slides that reversible archives were made from in a read-only folder, under "
        "their own names, until interrupted. Needs FUSE (Debian: apt install fuse3; macOS: macFUSE).",
    )
    parser.add_argument(
        "archives", type=Path, nargs="+", metavar="ARCHIVE", help="reversible archives, or folders of them"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="an empty folder")
    parser.add_argument("--cache-mb", type=int, default=256, metavar="N", help="bytes kept, MB (default 256)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: one per CPU core)")
    parser.add_argument("--allow-other", action="store_true", help="let other users of this machine read the files")
    parser.set_defaults(run=_mount, parser=parser)


def _threads(options: argparse.Namespace) -> int | None:
    from dlpr_wsi.errors import UsageError

    if options.threads is not None and not 1 <= options.threads <= 1024:
        raise UsageError("--threads", f"must be from 1 to 1024, not {options.threads}")
    return int(options.threads) if options.threads is not None else None


def _restore(options: argparse.Namespace) -> int:
    from dlpr_wsi.errors import UsageError
    from dlpr_wsi.progress import make_progress
    from dlpr_wsi.reversible.restore import check, restore

    threads = _threads(options)
    if options.check:
        if options.dest is not None:
            raise UsageError("--check", "writes nothing; leave DEST out")
        report = check(options.archive, threads=threads, progress=make_progress("check", sys.stderr, "MiB"))
    elif options.dest is None:
        raise UsageError("DEST", "give a folder or a file name, or --check")
    else:
        report = restore(
            options.archive,
            options.dest,
            overwrite=options.overwrite,
            threads=threads,
            progress=make_progress("restore", sys.stderr, "MiB"),
        )
    if options.json:
        files = [{"name": file.name, "bytes": file.size, "sha256": file.sha256.hex()} for file in report.files]
        print(
            json.dumps(
                {
                    "ok": True,
                    "files": files,
                    "paths": [str(path) for path in report.paths],
                    "there": report.there,
                    "seconds": report.seconds,
                }
            )
        )
        return 0
    for file in report.files[:100]:
        print(f"file          {file.name}: {file.size:,} bytes, SHA-256 {file.sha256.hex()}")
    if len(report.files) > 100:
        print(f"              ... and {len(report.files) - 100} more files")
    what = "checked, nothing written" if options.check else f"written to {options.dest}"
    there = f", {report.there} of them there already" if report.there else ""
    rate = report.bytes / 1e6 / max(report.seconds, 1e-9)
    print(
        f"{'check' if options.check else 'restore':<13} ok: {len(report.files)} "
        f"{'file' if len(report.files) == 1 else 'files'} {what}{there}; every SHA-256 is the slide's; "
        f"{report.seconds:.1f} s, {rate:.1f} MB/s"
    )
    return 0


def _mount(options: argparse.Namespace) -> int:
    from dlpr_wsi.errors import UsageError
    from dlpr_wsi.reversible.mount import mount

    if not 1 <= options.cache_mb <= 1 << 20:
        raise UsageError("--cache-mb", f"must be from 1 to {1 << 20}, not {options.cache_mb}")
    return mount(
        options.archives,
        options.folder,
        cache_bytes=options.cache_mb * 1_000_000,
        threads=_threads(options),
        allow_other=options.allow_other,
    )
