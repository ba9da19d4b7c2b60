"""``dlpr-eval``: size and speed beside other codecs, on any folders of images.

dlpr-eval --set NAME=FOLDER [--set ...] --out DIR     results.json, results.csv, README.md and plots

A folder with images is a set of whole images; a folder of sub-folders is a set of sources, each cut into tiles.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from dlpr.errors import DlprError, UnsupportedInputError


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="dlpr-eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER", help="a set; may be repeated")
    p.add_argument("--out", type=Path, required=True, help="folder to write to")
    p.add_argument("--tau", type=int, nargs="+", default=[0, 1, 2, 3, 5])
    p.add_argument("--per-source", type=int, default=3, help="256x256 tiles of each sub-folder")
    p.add_argument(
        "--domain",
        choices=("all", "networks"),
        default="all",
        help="networks: tiles whose JPEG is not found, the others shrunk and by JPEG 2000; no mode jpeg",
    )
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--fast", action="store_true", help="without JPEG XL effort 9 (0.1 MP/s)")
    p.add_argument("--no-peers", action="store_true", help="dlpr alone")
    p.add_argument("--weights", metavar="ID", help="weights to encode with, 16 hexadecimal digits")
    p.add_argument("--option", action="append", default=[], metavar="NAME=JSON", help="encoder option, e.g. patch=64")
    p.add_argument("--unseen", nargs="*", default=[], metavar="SOURCE", help="sources without a relative in training")
    return p


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for o in args.option:
        name, _, value = o.partition("=")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            raise UnsupportedInputError(
                f"--option {o}: NAME=JSON expected, for example patch=64", reason="input"
            ) from None
    if args.weights:
        try:
            options["weights_id"] = bytes.fromhex(args.weights)
        except ValueError:
            raise UnsupportedInputError(
                f"--weights {args.weights}: 16 hexadecimal digits expected", reason="input"
            ) from None
    return options


def _sets(args: argparse.Namespace) -> dict[str, Path]:
    sets = {}
    for item in args.set:
        name, eq, folder = item.partition("=")
        if not (eq and folder) or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise UnsupportedInputError(
                f"--set {item}: NAME=FOLDER expected, NAME of letters, digits, - _ .", reason="input"
            )
        sets[name] = Path(folder)
    return sets


def evaluate(args: argparse.Namespace) -> None:
    """Measure and write."""
    import dlpr
    from dlpr.config import EncoderOptions
    from dlpr.evaluation import plots, report
    from dlpr.evaluation.domain import networks_domain
    from dlpr.evaluation.measure import Result, codecs, load_set, measure
    from dlpr.modes.networks import weights

    options = _options(args)
    EncoderOptions.of(None, options)
    skip = ("e9",) if args.fast else ()
    sets = {name: load_set(folder, args.per_source) for name, folder in _sets(args).items()}
    if args.domain == "networks":
        sets = {name: networks_domain(tiles) for name, tiles in sets.items()}
        options["jpeg"] = "never"
        args.unseen = [s for tiles in sets.values() for s in tiles if s.split(",")[0] in args.unseen]
    results: list[Result] = []
    for name, tiles in sets.items():
        results += measure(
            name,
            tiles,
            sorted(set(args.tau)),
            lambda tau: codecs(tau, options, skip, not args.no_peers),
            args.threads,
            lambda line: print(line, file=sys.stderr, flush=True),
        )
    words = [f"--set {name}=DIR" for name in sets] + [f"--tau {' '.join(map(str, args.tau))}"]
    words += [f"--per-source {args.per_source}"] + [f"--option {o}" for o in args.option]
    words += [f"--domain {args.domain}"] if args.domain != "all" else []
    versions = [f"dlpr {dlpr.__version__}"]
    versions += [f"{d} {importlib.metadata.version(d)}" for d in ("imagecodecs", "numpy")]
    about = {
        "command": f"`dlpr-eval {' '.join(words)} --out docs/results`, or `make results`",
        "weights": f"`{args.weights or weights.default_id().hex()}`",
        "versions": ", ".join(versions),
        "machine": f"{platform.machine()}, {args.threads} threads",
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name in sets:
        rows = [r for r in results if r.set == name]
        plots.rate(rows, args.out / f"rate-{name}.png")
        plots.parts(rows, args.out / f"parts-{name}.png")
        if 0 in args.tau:
            plots.size_and_speed(rows, args.out / f"speed-{name}.png")
    with (args.out / "results.csv").open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow([x.name for x in fields(Result)])
        for r in results:
            writer.writerow(round(v, 5) if isinstance(v, float) else v for v in asdict(r).values())
    data = {"about": about, "unseen": args.unseen, "results": [asdict(r) for r in results]}
    (args.out / "results.json").write_text(json.dumps(data) + "\n")
    links = [n for n in ("ablations.md",) if (args.out / n).exists()]
    text = report.markdown(results, about, args.unseen, links)
    (args.out / "README.md").write_text(text)
    print(text)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``dlpr-eval``."""
    args = _parser().parse_args(argv)
    try:
        evaluate(args)
    except ImportError as e:
        print(f"dlpr-eval: {e.name} is missing: pip install 'dlpr-wsi[eval]'", file=sys.stderr)
        return 1
    except UnsupportedInputError as e:
        print(f"dlpr-eval: {e}", file=sys.stderr)
        return 2
    except DlprError as e:
        print(f"dlpr-eval: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
