"""A few steps of training on made-up images: resumable to the bit, exportable, and the export codes real streams."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import dlpr
from dlpr import bitstream, reference
from dlpr.modes.networks import weights
from dlpr.training import cli, loop
from dlpr.training.batches import OPEN, TrainConfig
from dlpr.training.data import (
    SIMULATIONS,
    build_blocks,
    coefficient_prior,
    list_sources,
    load_blocks,
    sample_tiles,
    simulate_scanner,
)


@pytest.fixture(scope="module")
def blocks(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("run") / "blocks"
    groups = build_blocks(images, cache, per_source=1, per_simulation=1, seed=0)
    assert set(groups) == {"a", "b", *(f"sim:{k}" for k in SIMULATIONS)}
    return cache


def config(phase: str = "rc", steps: int = 4) -> TrainConfig:
    return TrainConfig(phase=phase, steps=steps, lic_steps=2, batch=2, cells=64, threads=1)


def curve(run: Path) -> list[tuple[str, ...]]:
    """The log without what the clock says."""
    log = run / "rc.csv"
    lines = log.read_text().splitlines() if log.exists() else []
    rows = [r for r in csv.DictReader(lines) if None not in r.values()]
    return [tuple(r[k] for k in ("step", "bits", "rate", "mse", "lr")) for r in rows]


TRAIN = """
import sys
from pathlib import Path
from dlpr.training import loop
from dlpr.training.batches import TrainConfig
from dlpr.training.data import build_blocks
images, blocks, out, steps, threads = sys.argv[1:]
cfg = TrainConfig(steps=int(steps), lic_steps=int(steps) // 2, batch=2, cells=64, threads=int(threads))
loop.train(cfg, build_blocks(Path(images), Path(blocks), 1, 1, 0), Path(out), every=1)
"""


def start(images: Path, blocks: Path, out: Path, steps: int, threads: int = 1) -> subprocess.Popen[bytes]:
    args = [sys.executable, "-c", TRAIN, str(images), str(blocks), str(out), str(steps), str(threads)]
    return subprocess.Popen(args, stdout=subprocess.DEVNULL)


def test_killed_run_goes_on_where_it_was(images: Path, blocks: Path, tmp_path: Path) -> None:
    import torch

    steps = 24
    assert start(images, blocks, tmp_path / "whole", steps).wait() == 0
    killed = start(images, blocks, tmp_path / "cut", steps)
    while killed.poll() is None and len(curve(tmp_path / "cut")) < 3:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it ended before it was killed"
    assert len(curve(tmp_path / "cut")) < steps
    with (tmp_path / "cut" / "rc.csv").open("a") as f:
        f.write("23,1.0,9.9,9.9,9")  # a row cut short, of a step that is in no checkpoint
    assert start(images, blocks, tmp_path / "cut", steps).wait() == 0
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    whole, cut = (torch.load(tmp_path / n / "rc.pt", weights_only=True) for n in ("whole", "cut"))
    assert all(torch.equal(v, cut["ema"][k]) for k, v in whole["ema"].items())


def test_same_seed_gives_the_same_weights(images: Path, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):  # everything anew: blocks, networks, export; two threads
        fit = ["fit", str(images), "--out", str(tmp_path / name), "--steps", "2", "--lic-steps", "1", "--sqrc-steps"]
        fit += ["1", "--per-source", "1", "--per-simulation", "1", "--threads", "2", "--config", "cells=64"]
        export = ["export", str(tmp_path / name), "--weights", str(tmp_path / name / "weights")]
        for command in (fit, export):
            subprocess.run([sys.executable, "-m", "dlpr.training.cli", *command], check=True, stdout=subprocess.DEVNULL)
        (file,) = (tmp_path / name / "weights").glob("*.dlpw")
        files.append(file.read_bytes())
    assert files[0] == files[1]


def test_resumed_run_equals_uninterrupted(
    images: Path, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    groups = build_blocks(images, blocks, 1, 1, 0)
    whole = torch.load(loop.train(config(), groups, tmp_path / "whole", every=1), weights_only=True)
    save = loop.Run.save

    def save_and_die(run: loop.Run, path: Path, cfg: TrainConfig) -> None:
        save(run, path, cfg)
        if run.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        loop.train(config(), groups, tmp_path / "cut", every=1)
    monkeypatch.setattr(loop.Run, "save", save)
    resumed = torch.load(loop.train(config(), groups, tmp_path / "cut", every=1), weights_only=True)
    assert resumed["step"] == whole["step"] == 4
    for key, value in whole["ema"].items():
        assert torch.equal(value, resumed["ema"][key]), key
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")


def test_export_codes_streams(images: Path, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = blocks.parent
    groups = build_blocks(images, blocks, 1, 1, 0)
    rc = loop.train(config(), groups, run)
    loop.train(config("sqrc", 2), groups, run, init=rc)
    shipped = weights.default_id()
    assert cli.main(["export", str(run), "--weights", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.dlpw")
    loaded = weights.load(file)
    assert loaded.id != shipped
    monkeypatch.setenv("DLPR_WEIGHTS_PATH", str(tmp_path))
    tile = sample_tiles(images, 1, size=64)["a"][0]
    for tau in (0, 2):
        stream = dlpr.encode(tile, tau, weights_id=loaded.id)
        assert bitstream.parse(stream).payload.weights_id == loaded.id
        out = dlpr.decode(stream)
        assert int(np.abs(out.astype(int) - tile).max()) <= tau
        assert np.array_equal(reference.decode(stream), out)


@pytest.mark.parametrize("kind", SIMULATIONS)
def test_simulated_scanners(kind: str) -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (448, 448, 3), dtype=np.uint8)
    sim = simulate_scanner(rgb, kind, rng)
    assert sim.dtype == np.uint8
    assert sim.ndim == 3
    assert min(sim.shape[:2]) >= 128


@pytest.mark.parametrize(("tau_classes", "family"), [(0, "logistic"), (8, "logistic"), (0, "gaussian"), (0, "laplace")])
def test_fused_pass_equals_torch(tau_classes: int, family: str) -> None:
    import torch

    from dlpr.config import SlideProfile
    from dlpr.modes.networks.model.residual import ResidualCompressor
    from dlpr.training.likelihood import mixture_bits, network_bits

    torch.manual_seed(0)
    # with this bank no activation is 0 but for rounding, where the two may take different slopes
    net = ResidualCompressor(SlideProfile(bank=18), tau_classes)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    b, cells = 3, 29
    causal = torch.randint(-300, 300, (b, cells, 4, 133), dtype=torch.int16)
    lossy = torch.randn(b, cells, 4, 15, requires_grad=True)
    trunk = torch.randn(b, cells, 24, requires_grad=True)
    place = torch.randint(0, 64, (b, cells, 4))
    e = 3 * torch.randn(b, cells, 4, 3)
    lower = torch.where(e < -6, torch.tensor(-OPEN), e - 0.5)  # an open bin at the end of the grid
    condition = (torch.tensor([0, 3, 5]), torch.tensor([0, 1, 7]) if tau_classes else None)
    fused = network_bits(net, (causal, lossy, trunk, place), (e, lower, e + 0.5), condition, 2, family)
    first = net.first(torch.cat([causal.float() / 64, lossy], -1), trunk, place)
    params = net(first.flatten(1, 2), *condition)
    plain = mixture_bits(params.flatten(0, 1), *(t.reshape(-1, 3) for t in (e, lower, e + 0.5)), family)
    assert fused.item() == pytest.approx(plain.item(), rel=1e-5)
    wanted = [lossy, trunk, *net.parameters()]
    for a, g in zip(torch.autograd.grad(fused, wanted), torch.autograd.grad(plain, wanted), strict=True):
        assert torch.allclose(a, g, rtol=1e-3, atol=1e-4 * float(g.abs().max()))


def test_rounded_weights_are_those_exported(images: Path, blocks: Path, tmp_path: Path) -> None:
    import torch

    from dlpr.config import SlideProfile
    from dlpr.modes.networks.export import export_model

    torch.manual_seed(1)
    model = loop.SlideModel(SlideProfile())
    _, tensors, _ = export_model(model, coefficient_prior(map(load_blocks, sorted(blocks.glob("*.npz")))))
    model.rc.rounded = True
    masked, _, hidden, out = (t.detach().numpy() for t in model.rc._weights())
    for name, weight in (("rc.masked", masked), ("rc.hidden.1", hidden[1]), ("rc.out", out)):
        exported = tensors[f"{name}.weight"].astype(np.float64)
        exported = exported.reshape(weight.shape)
        step = np.abs(weight).max(1) / np.abs(exported).max(1)
        assert np.abs(exported * step[:, None] - weight).max() < 1e-6, name


OPENED = """
import sys
from pathlib import Path
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
from dlpr.training import cli
code = cli.main(["fit", sys.argv[1], "--out", sys.argv[2], "--steps", "1", "--lic-steps", "1", "--sqrc-steps", "1",
                 "--per-source", "1", "--per-simulation", "1", "--threads", "1"])
roots = [Path(a).resolve() for a in sys.argv[1:]]
below = [sum(r in Path(p).resolve().parents for p in opened if isinstance(p, str)) for r in roots]
print(code, *below)
"""


def test_training_opens_nothing_but_its_images(images: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev"
    shutil.copytree(images, dev)
    train = tmp_path / "train"
    shutil.copytree(images, train)
    args = [sys.executable, "-c", OPENED, str(train), str(tmp_path / "run"), str(dev)]
    out = subprocess.run(args, capture_output=True, text=True, check=True)
    code, trained, written, looked = out.stdout.split()[-4:]
    assert code == "0"
    assert int(trained) > 0, "the hook saw no image at all"
    assert int(written) > 0
    assert looked == "0"


def test_refuses_to_train_on_an_image_held_out(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tmp_path / "dev" / "other name"
    held.mkdir(parents=True)
    shutil.copy(images / "b" / "image.png", held / "copy.png")
    fit = ["fit", str(images), "--out", str(tmp_path / "run"), "--held-out", str(tmp_path / "dev")]
    assert cli.main(fit) == 1
    assert "b/image.png" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fit_from_a_checkpoint(images: Path, blocks: Path, tmp_path: Path) -> None:
    import torch

    rc = loop.train(config(steps=2), build_blocks(images, blocks, 1, 1, 0), tmp_path / "before")
    fit = ["fit", str(images), "--out", str(tmp_path / "run"), "--init", str(rc), "--lic-steps", "0", "--steps", "1"]
    fit += ["--sqrc-steps", "1", "--per-source", "1", "--per-simulation", "1", "--threads", "1", "--config", "batch=1"]
    assert cli.main(fit) == 0
    before, after = (torch.load(p, weights_only=True)["ema"] for p in (rc, tmp_path / "run" / "rc.pt"))
    assert all(torch.equal(v, after[k]) for k, v in before.items() if k.startswith("lic."))
    assert not torch.equal(before["rc.out.weight"], after["rc.out.weight"])
    assert cli.main([*fit, "--config", "nothing=1"]) == 1
    assert cli.main([*fit, "--config", "lr=fast"]) == 1


def test_sources_are_sub_folders(images: Path) -> None:
    assert [(k, len(v)) for k, v in list_sources(images).items()] == [("a", 1), ("b", 1)]
