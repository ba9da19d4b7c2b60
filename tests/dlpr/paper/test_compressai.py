"""The paper profile as a CompressAI model: its conventions for training, checkpoints and evaluation."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
compressai = pytest.importorskip("compressai", reason="extra paper: make check-paper")

from compressai.losses import RateDistortionLoss  # noqa: E402
from compressai.models import CompressionModel  # noqa: E402
from compressai.registry import MODELS  # noqa: E402
from compressai.zoo.pretrained import load_pretrained  # noqa: E402
from PIL import Image  # noqa: E402

from dlpr.paper.__main__ import main, synthetic_tile  # noqa: E402
from dlpr.paper.loss import optimisers, rate_distortion, train_step  # noqa: E402
from dlpr.paper.model import Dlpr  # noqa: E402
from dlpr.paper.profile import PaperProfile  # noqa: E402

SMALL = {"channels": 16, "features": 16, "hidden": 16, "patch": 16}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Dlpr(PaperProfile(**SMALL))


def image(side=64):
    return torch.from_numpy(synthetic_tile(side).transpose(2, 0, 1).astype(np.float32))[None] / 255


def test_it_is_a_registered_compression_model(model):
    assert isinstance(model, CompressionModel)
    assert MODELS["dlpr"] is Dlpr


def test_its_objective_is_compressai_s(model):
    torch.manual_seed(1)
    x = image()
    out = model.train()(x)
    theirs = RateDistortionLoss(lmbda=0.03)(out, x)
    ours = rate_distortion(out, x, 0.03)
    rates = ours.rate_y + ours.rate_z + ours.rate_residual
    torch.testing.assert_close(theirs["bpp_loss"], rates, rtol=1e-3, atol=1e-3)
    assert set(out["likelihoods"]) == {"y", "z", "r"}


def test_strings_without_update_are_refused(model):
    with pytest.raises(ValueError, match="update"):
        model.eval().compress(image())


@pytest.mark.parametrize("tau", [0, 2])
def test_compress_and_decompress_256(model, tau):
    model.eval().update()
    x = torch.cat([image(256), 1 - image(256)])
    coded = model.compress(x, tau)
    assert len(coded["strings"]) == 3
    assert all(len(strings) == 2 for strings in coded["strings"])
    assert tuple(coded["shape"]) == (4, 4)
    back = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert (back * 255 - torch.round(x * 255)).abs().max() <= tau + 1e-3
    with torch.no_grad():
        assert (model(x, tau)["x_hat"] * 255 - torch.round(x * 255)).abs().max() <= tau + 1e-3


def test_training_steps_of_both_optimisers(model):
    pair = optimisers(model, 3e-3)
    assert set(pair) == {"net", "aux"}
    before = model.lic.entropy_bottleneck.quantiles.detach().clone()
    losses = [float(train_step(model, pair, image(), tau=1).total.detach()) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert not torch.equal(before, model.lic.entropy_bottleneck.quantiles)


def test_a_checkpoint_goes_through_compressai_s_loaders(model, tmp_path):
    model.eval().update()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "c.pth.tar")
    state = torch.load(tmp_path / "c.pth.tar", weights_only=True)["state_dict"]
    again = Dlpr.from_state_dict(load_pretrained(state)).eval()
    assert again.cfg == model.cfg
    coded = model.compress(image())
    assert torch.equal(
        again.decompress(coded["strings"], coded["shape"])["x_hat"],
        model.decompress(coded["strings"], coded["shape"])["x_hat"],
    )
    fresh = Dlpr(PaperProfile(**SMALL))
    fresh.load_state_dict(state)  # the tables' sizes are not those of a new model
    assert fresh.weights_id() == model.weights_id()


def test_a_curve_is_drawn(tmp_path):
    log = tmp_path / "curve.csv"
    log.write_text("step,total,sqrc\n10,28.2,28.4\n20,1e6,20\n30,15.5,16\n")
    assert main(["curve", str(log), str(tmp_path / "a.svg")]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.count("<polyline") == 2
    assert len(drawn) < 5000
    log.write_text("step,total,sqrc\n")
    with pytest.raises(ValueError, match="no steps"):
        main(["curve", str(log), str(tmp_path / "a.svg")])


def test_train_and_eval_are_commands(tmp_path, capsys):
    folder = tmp_path / "images" / "source"
    folder.mkdir(parents=True)
    Image.fromarray(synthetic_tile(192)).save(folder / "a.png")
    sizes = ["--channels", "16", "--features", "8", "--hidden", "8", "--batch", "1"]
    assert main(["train", str(tmp_path / "images"), str(tmp_path / "run"), "--minutes", "0.05", *sizes]) == 0
    checkpoint = capsys.readouterr().out.strip()
    assert main(["eval", str(folder), checkpoint]) == 0
    real = json.loads(capsys.readouterr().out)["results"]
    assert main(["eval", str(folder), checkpoint, "--entropy-estimation"]) == 0
    estimated = json.loads(capsys.readouterr().out)["results"]
    assert real["psnr-rgb"] == float("inf")  # lossless
    assert real["bpp"] == pytest.approx(estimated["bpp"], rel=0.03)
