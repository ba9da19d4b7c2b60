"""``dlpr-wsi export``: its options, and the call of `dlpr_wsi.export.export`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_export"]


def add_export(commands: Any) -> None:
    """Add the command to the parsers of ``dlpr-wsi``."""
    parser = commands.add_parser(
        "export",
        help="write an archive as a standard OME-TIFF or OME-Zarr",
        description="Write an archive as a standard file that opens without this package: a tiled, pyramidal OME-TIFF, "
        "or an OME-Zarr.",
    )
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="an archive, Zarr or TIFF")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file or folder; appears when it is complete")
    parser.add_argument(
        "--codec",
        choices=["deflate", "lzw", "zstd", "jpegxl", "jpeg2000", "jpeg", "source-jpeg", "source-j2k", "blosc"],
        help="compression (default: deflate for TIFF, zstd for Zarr), lossless but for jpeg; source-jpeg: the slide's "
        "own JPEG tiles where the archive keeps them; source-j2k: its JPEG 2000 tiles",
    )
    parser.add_argument("--quality", type=int, metavar="N", help="1 to 100, for jpeg (default 90); makes jpegxl lossy")
    parser.add_argument(
        "--zarr", action="store_true", default=None, help="OME-Zarr (default where OUT ends in .zarr), not OME-TIFF"
    )
    parser.add_argument(
        "--ome-zarr", choices=["0.5", "0.4"], default="0.5", help="version of an OME-Zarr (default 0.5)"
    )
    parser.add_argument(
        "--pages",
        action="store_true",
        help="levels as pages of their own, where OpenSlide looks for them, instead of SubIFDs as in OME-TIFF",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: one per CPU core)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is a TIFF file or Zarr")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    from dlpr_wsi.errors import UsageError
    from dlpr_wsi.export import ExportCodec, export, export_lines
    from dlpr_wsi.progress import make_progress
    from dlpr_wsi.sinks.omezarr import OmeVersion

    if options.threads is not None and not 1 <= options.threads <= 1024:
        raise UsageError("--threads", f"must be from 1 to 1024, not {options.threads}")
    report = export(
        options.archive,
        options.out,
        codec=None if options.codec is None else ExportCodec(options.codec),
        quality=options.quality,
        zarr=options.zarr,
        version=OmeVersion(options.ome_zarr),
        subifds=not options.pages,
        threads=options.threads,
        overwrite=options.overwrite,
        progress=make_progress("export", sys.stderr),
    )
    print(json.dumps(report.to_json(), indent=2) if options.json else "\n".join(export_lines(report)))
    return 0
