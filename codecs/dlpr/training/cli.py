"""``dlpr-train``: from a folder of images (one sub-folder for each source) to shippable weights.

dlpr-train fit IMAGES --out RUN            LIC and RC, then SQRC; run it again to go on after a kill
dlpr-train export RUN [--dev DIR]          weights file and manifest entry; --dev adds results to the training card
dlpr-train ablate IMAGES --dev DEV --out RUN [--rows ...] [--table FILE]    networks that differ in one thing, compared
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from dlpr.config import PROFILES
from dlpr.errors import DlprError, UnsupportedInputError


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="dlpr-train", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    sub = p.add_subparsers(dest="command", required=True)
    fit = sub.add_parser("fit", help="train")
    fit.add_argument(
        "images",
        type=Path,
        help="folder with a sub-folder of images for each source, or a file of `dlpr-train pack` (domain networks)",
    )
    fit.add_argument("--out", type=Path, required=True, help="folder of checkpoints and logs")
    fit.add_argument("--steps", type=int, default=12500, help="steps of LIC and RC")
    fit.add_argument("--lic-steps", type=int, default=6000, help="of these, steps that also train the LIC")
    fit.add_argument("--sqrc-steps", type=int, default=4000, help="steps of SQRC")
    fit.add_argument("--lam", type=float, default=0.0008, help="weight of x~'s squared error (bits/px per level^2)")
    fit.add_argument("--per-source", type=int, default=110, help="256x256 blocks of each source")
    fit.add_argument("--per-simulation", type=int, default=150, help="blocks of each kind of simulated scanner")
    fit.add_argument(
        "--domain",
        choices=("jpeg", "networks"),
        default="jpeg",
        help="jpeg: decoded JPEGs as RGB; networks: what reaches the networks, planes of the colour layer among it",
    )
    fit.add_argument("--block-seeds", type=int, nargs="+", help="domain networks: a set of blocks for each")
    fit.add_argument(
        "--assign", action="store_true", help="each block trains the bank entry that codes it best at the start"
    )
    fit.add_argument("--threads", type=int, default=2)
    fit.add_argument(
        "--held-out", type=Path, help="folder of images that training must not hold: refused by their bytes"
    )
    fit.add_argument("--init", type=Path, help="checkpoint whose averaged networks to start from, or a weights file")
    fit.add_argument("--own-sqrc", action="store_true", help="SQRC goes on from the start's own instead of from the RC")
    fit.add_argument(
        "--config", action="append", default=[], metavar="NAME=NUMBER", help="field of TrainConfig, phase rc"
    )
    fit.add_argument(
        "--profile", choices=sorted(PROFILES), default="slide", help="sizes of the networks; large: for GPUs"
    )
    fit.add_argument("--device", default="cpu", help="torch device, for example cuda")
    fit.add_argument("--seed", type=int, default=0)
    packed = sub.add_parser(
        "pack", help="training tiles of the networks' domain in one file, for a machine that is lent"
    )
    packed.add_argument("images", type=Path, help="folder with one sub-folder of images for each source")
    packed.add_argument("--out", type=Path, required=True, help="the file, an .npz of at most 60 MiB")
    packed.add_argument("--per-source", type=int, default=40, help="256x256 tiles of each source")
    packed.add_argument("--per-simulation", type=int, default=60, help="tiles of each simulated origin")
    packed.add_argument("--seed", type=int, default=0)
    ab = sub.add_parser("ablate", help="train and compare networks that differ in one thing; leave one source out")
    ab.add_argument("images", type=Path, help="folder with one sub-folder of images for each source")
    ab.add_argument("--dev", type=Path, required=True, help="development images, one sub-folder for each source")
    ab.add_argument("--out", type=Path, required=True, help="folder of checkpoints and results")
    ab.add_argument("--rows", nargs="+", metavar="NAME", help="rows to run (default: all)")
    ab.add_argument("--table", type=Path, help="write the rows done so far as Markdown")
    ab.add_argument("--steps", type=int, default=1500)
    ab.add_argument("--lic-steps", type=int, default=700)
    ab.add_argument("--sqrc-steps", type=int, default=700)
    ab.add_argument("--cells", type=int, default=1400, help="2x2 cells of each crop in a step")
    ab.add_argument("--per-source", type=int, default=3, help="dev tiles of each source")
    ab.add_argument("--blocks-per-source", type=int, default=110)
    ab.add_argument("--blocks-per-simulation", type=int, default=150)
    ab.add_argument("--threads", type=int, default=2)
    ab.add_argument("--seed", type=int, default=0)
    ex = sub.add_parser("export", help="write the weights file")
    ex.add_argument("run", type=Path, help="folder given to fit as --out")
    ex.add_argument("--weights", type=Path, help="folder of the shipped weights (default: the package's)")
    ex.add_argument("--dev", type=Path, help="development images, one sub-folder for each source")
    ex.add_argument("--note", default="", help="what a reader of the training card should know beside the command")
    ex.add_argument("--prior-of", type=Path, help="weights file whose prior of the linear coefficients to keep")
    ex.add_argument("--per-source", type=int, default=3, help="dev tiles of each source")
    return p


def _refuse_shared(images: Path, held_out: Path) -> None:
    from dlpr.training.data import shared_images

    if shared := shared_images(images, held_out):
        raise UnsupportedInputError(
            f"{shared[0].relative_to(images)} is also in {held_out}: take it out of the training images "
            f"({len(shared)} in all)",
            reason="input",
        )


def pack(args: argparse.Namespace) -> None:
    """Training tiles in one file."""
    from dlpr.training import pack as packing

    size = packing.pack(args.images, args.out, args.per_source, args.per_simulation, args.seed)
    print(f"{args.out}: {size:,} bytes")


def fit(args: argparse.Namespace) -> None:
    """Train both phases."""
    from dlpr.training import bank, data, domain
    from dlpr.training.batches import TrainConfig
    from dlpr.training.loop import train
    from dlpr.training.pack import unpack

    if args.held_out and args.images.is_file():
        raise UnsupportedInputError("--held-out compares images: use it where the file is packed", reason="input")
    if args.held_out:
        _refuse_shared(args.images, args.held_out)
    cfg = TrainConfig(steps=args.steps, lic_steps=args.lic_steps, lam=args.lam, threads=args.threads, seed=args.seed)
    cfg = replace(cfg, device=args.device, profile=PROFILES[args.profile], own_sqrc=args.own_sqrc)
    known = {f.name for f in fields(TrainConfig) if isinstance(getattr(cfg, f.name), (int, float))} - {"context"}
    for item in args.config:
        name, _, text = item.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = None
        if name not in known or not isinstance(value, (type(getattr(cfg, name)), int)):
            says = f"--config {item}: NAME=NUMBER expected, NAME one of {', '.join(sorted(known))}"
            raise UnsupportedInputError(says, reason="input")
        changed: dict[str, Any] = {name: value}
        cfg = replace(cfg, **changed)
    where = (args.images, args.out / "blocks", args.per_source, args.per_simulation)
    if args.images.is_file():
        groups = unpack(args.images)
    elif args.domain == "networks":
        groups = domain.joined(domain.build_blocks(*where, seed) for seed in args.block_seeds or [args.seed])
    else:
        groups = data.build_blocks(*where, args.seed)
    if args.assign:
        groups = bank.remembered(args.out / "entries.npz", args.init, cfg, groups)
    rc = train(cfg, groups, args.out, init=args.init)
    train(replace(cfg, phase="sqrc", steps=args.sqrc_steps, lr=1.5e-3), groups, args.out, init=rc)


def export(args: argparse.Namespace) -> None:
    """Weights file, manifest, training card."""
    import numpy as np
    import torch

    import dlpr
    from dlpr.modes.networks import weights as store
    from dlpr.modes.networks.export import export_model
    from dlpr.modes.networks.model.slide import SlideModel
    from dlpr.modes.networks.weights import profile_of
    from dlpr.training import evaluate
    from dlpr.training.data import coefficient_prior, load_blocks, sample_tiles

    blocks = sorted((args.run / "blocks").glob("*.npz"))
    name = "sqrc" if (args.run / "sqrc.pt").exists() else "rc"
    state = torch.load(args.run / f"{name}.pt", weights_only=True)
    sizes = profile_of(state["config"]["profile"])
    model = SlideModel(sizes)
    model.load_state_dict(state["ema"])
    if name == "rc":
        model.sqrc.load_state_dict(model.rc.state_dict(), strict=False)
    if args.prior_of:
        kept = store.load(args.prior_of)
        prior = {k: np.array(kept[k]) for k in ("linear.mean", "linear.scale")}
    else:
        prior = coefficient_prior(map(load_blocks, blocks))
    profile, tensors, bounds = export_model(model, prior)
    data = store.dump(profile, tensors)
    sha = hashlib.sha256(data).hexdigest()
    folder = args.weights or Path(dlpr.__file__).parent / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    kind = next((name for name, known in PROFILES.items() if known == sizes), "slide")
    file = f"{kind}-{sha[:16]}.dlpw"
    (folder / file).write_bytes(data)
    phases = {}
    for phase in ("rc", "sqrc"):
        path = args.run / f"{phase}.pt"
        if path.exists():
            s = torch.load(path, weights_only=True)
            phases[phase] = {"steps": s["step"], "config": {k: v for k, v in s["config"].items() if k != "profile"}}
    card: dict[str, Any] = {
        "command": "dlpr-train fit IMAGES --out RUN; dlpr-train export RUN --dev DEV",
        "note": args.note,
        "data": [p.stem for p in blocks],
        "phases": phases,
        "largest_sum": {b.name: b.acc for b in bounds},
        "macs_per_pixel": {k: round(v) for k, v in sizes.macs_per_pixel().items()},
    }
    if args.dev:
        evaluate.install(data, sha, args.run / "weights")
        tiles = sample_tiles(args.dev, args.per_source)
        rows = evaluate.compare_float(model, bytes.fromhex(sha[:16]), tiles)
        card["dev_quantisation"] = {"by_source": [asdict(r) for r in rows], **evaluate.summary(rows)}
        print(json.dumps(evaluate.summary(rows), indent=1))
    entry = {"id": sha[:16], "file": file, "sha256": sha, "profile": kind, "card": card}
    others = []
    if (folder / "manifest.json").exists():  # streams by older weights stay readable
        others = [e for e in json.loads((folder / "manifest.json").read_text())["weights"] if e["id"] != sha[:16]]
    manifest = {"default": sha[:16], "weights": [entry, *others]}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{folder / file}: {len(data)} bytes, id {sha[:16]}")


def ablate(args: argparse.Namespace) -> None:
    """Rows of the ablation table."""
    from dlpr.training import ablation, ablation_rows, ablation_table

    _refuse_shared(args.images, args.dev)
    names = {f.name for f in fields(ablation.Setting)}
    setting = ablation.Setting(**{k: v for k, v in vars(args).items() if k in names})
    ablation.run_rows(ablation_rows.chosen_rows(args.rows), setting)
    if args.table:
        args.table.write_text(ablation_table.table(setting))


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``dlpr-train``."""
    args = _parser().parse_args(argv)
    try:
        {"fit": fit, "pack": pack, "export": export, "ablate": ablate}[args.command](args)
    except ImportError as e:
        print(f"dlpr-train: {e.name} is missing: pip install 'dlpr-wsi[train]'", file=sys.stderr)
        return 1
    except DlprError as e:
        print(f"dlpr-train: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
