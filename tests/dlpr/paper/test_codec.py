"""The paper profile in real bytes: round trips, training, refusals. A small model; the full one under check-full."""

import math
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("compressai", reason="extra paper: make check-paper")

from dlpr import errors  # noqa: E402
from dlpr.paper.__main__ import main, synthetic_tile  # noqa: E402
from dlpr.paper.codec import HEADER, PaperCodec  # noqa: E402
from dlpr.paper.fingerprint import Fingerprint, PlatformError  # noqa: E402
from dlpr.paper.loss import optimisers, parameter_groups, rate_distortion, train_step  # noqa: E402
from dlpr.paper.model import Dlpr  # noqa: E402
from dlpr.paper.profile import Family, PaperProfile  # noqa: E402

SMALL = {"channels": 16, "features": 16, "hidden": 16, "patch": 16}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: threads that wait for each other on a busy machine cost ten times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_model(**changes):
    torch.manual_seed(0)
    return Dlpr(PaperProfile(**{**SMALL, **changes}))


def as_tensor(image):
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None] / 255


@pytest.fixture(scope="module")
def codec():
    model = small_model()
    opt, x = optimisers(model, 3e-3), as_tensor(synthetic_tile(64))
    for _ in range(12):
        train_step(model, opt, x)
    return PaperCodec(model)


@pytest.fixture(scope="module")
def stream(codec):
    return codec.encode(synthetic_tile(40))


@pytest.mark.parametrize("tau", [0, 1, 3])
@pytest.mark.parametrize("shape", [(64, 64), (37, 70), (1, 1)])
def test_round_trip(codec, tau, shape):
    image = np.random.default_rng(1).integers(-9, 10, (*shape, 3)) + synthetic_tile(80)[: shape[0], : shape[1]]
    image = np.clip(image, 0, 255).astype(np.uint8)
    decoded = codec.decode(codec.encode(image, tau))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).max() <= tau


@pytest.mark.parametrize("tau", [0, 1, 255])
def test_noise_and_flat_images(codec, tau):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    for image in (noise, np.full((20, 20, 3), 255, np.uint8), np.zeros((20, 20, 3), np.uint8)):
        assert np.abs(codec.decode(codec.encode(image, tau)).astype(int) - image).max() <= tau


def test_a_narrow_interval_costs_escapes_only(codec):
    image = synthetic_tile(40)
    image[:4] = 0
    narrow = PaperCodec(codec.model, spread=0.5)
    data = narrow.encode(image)
    assert len(data) > len(codec.encode(image))
    assert np.array_equal(narrow.decode(data), image)


@pytest.mark.parametrize(
    "changes",
    [
        {"context": 5},
        {"context": 4},
        {"context": 2},
        {"context": 1},
        {"kernel": 5, "context": 3},
        {"family": Family.GAUSSIAN},
        {"family": Family.LAPLACE, "components": 1},
        {"attention": False, "patch": 24},
    ],
)
def test_round_trip_of_ablations(changes):
    codec, image = PaperCodec(small_model(**changes)), synthetic_tile(30)
    for tau in (0, 2):
        assert np.abs(codec.decode(codec.encode(image, tau)).astype(int) - image).max() <= tau


@pytest.mark.parametrize("tau", [0, 2])
def test_bytes_are_what_the_forward_pass_says(codec, tau):
    x = as_tensor(synthetic_tile(64))
    strings = codec.model.compress(x, tau)["strings"]
    with torch.no_grad():
        likelihoods = codec.model.eval()(x, tau)["likelihoods"]
    for string, name, slack in zip(strings, "yzr", (64, 64, 8 * 60), strict=True):
        ideal = float(likelihoods[name].log().sum()) / -math.log(2)
        assert 8 * len(string[0]) == pytest.approx(ideal, rel=0.01, abs=slack)


def test_larger_tau_is_smaller(codec):
    image = synthetic_tile(64)
    sizes = [len(codec.encode(image, tau)) for tau in (0, 2, 60)]
    assert sizes == sorted(sizes, reverse=True)


def test_encoding_twice_gives_the_same_bytes(codec, stream):
    assert codec.encode(synthetic_tile(40)) == stream
    assert PaperCodec(codec.model).encode(synthetic_tile(40)) == stream


def test_settings_of_the_process_come_back(codec):
    torch.set_num_threads(2)
    codec.encode(synthetic_tile(8))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("lam", [0.0, 0.03])
def test_training_lowers_the_loss(lam):
    model, x = small_model(), as_tensor(synthetic_tile(64))
    opt = optimisers(model, 1e-3)
    losses = [train_step(model, opt, x, lam, tau=2) for _ in range(12)]
    assert losses[-1].total < losses[0].total
    if not lam:  # with lambda, u moves too fast for SQRC to follow in so few steps
        assert losses[-1].sqrc < losses[0].sqrc


def test_gradients_that_are_not_finite_change_nothing():
    model, x = small_model(), as_tensor(synthetic_tile(64))
    before = [p.detach().clone() for p in model.sqrc.parameters()]
    next(model.sqrc.parameters()).register_hook(lambda grad: grad * math.nan)
    train_step(model, optimisers(model), x, tau=1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.sqrc.parameters(), strict=True))


def test_training_is_repeatable():
    totals = []
    for _ in range(2):
        model = small_model()
        opt = optimisers(model, 3e-3)
        totals.append([float(train_step(model, opt, as_tensor(synthetic_tile(64))).total.detach()) for _ in range(3)])
    assert totals[0] == totals[1]


def test_each_objective_trains_its_own_part():
    model, x = small_model().train(), as_tensor(synthetic_tile(64))
    main_group, sqrc_group, quantiles = parameter_groups(model)
    assert len(main_group) + len(sqrc_group) + len(quantiles) == len(list(model.parameters()))
    loss = rate_distortion(model(x, 3), x, 0.03)
    loss.sqrc.backward(retain_graph=True)
    assert all(p.grad is None for p in (*main_group, *quantiles))
    assert all(p.grad is not None for p in sqrc_group)
    for p in sqrc_group:
        p.grad = None
    loss.total.backward()
    assert all(p.grad is None for p in sqrc_group)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in main_group)


@pytest.mark.parametrize("field", ["library", "processor", "device", "settings", "threads"])
def test_a_foreign_stream_is_refused(codec, stream, field, monkeypatch):
    foreign = Fingerprint(**{**vars(Fingerprint.here(torch.device("cpu"), 1)), field: "another one"})
    monkeypatch.setattr(Fingerprint, "here", lambda device, threads: foreign)
    with pytest.raises(PlatformError, match=f"{field}") as caught:
        codec.decode(stream)
    assert isinstance(caught.value, errors.UnsupportedError)
    assert caught.value.reason == "platform"


def test_threads_are_part_of_the_fingerprint(codec, stream):
    with pytest.raises(PlatformError, match="threads"):
        PaperCodec(codec.model, threads=2).decode(stream)


def test_streams_of_other_weights_are_refused(stream):
    with pytest.raises(errors.WeightsError):
        PaperCodec(small_model()).decode(stream)


def test_damage_is_a_typed_error(codec, stream):
    for cut in (0, 3, 20, HEADER.size + 9, len(stream) - 1):
        with pytest.raises(errors.BitstreamError):
            codec.decode(stream[:cut])
    for at in range(0, len(stream), max(1, len(stream) // 60)):
        with pytest.raises(errors.BitstreamError):
            codec.decode(stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :])
    with pytest.raises(errors.BitstreamError):
        codec.decode(stream + b"\0")
    with pytest.raises(errors.UnsupportedError) as caught:
        codec.decode(b"RIFF" + stream[4:])
    assert caught.value.reason == "magic"


def test_what_it_does_not_take(codec):
    tile = synthetic_tile(16)
    for wrong in (tile.astype(np.uint16), tile[..., 0], tile[..., :2], tile[:0], tile.tolist()):
        with pytest.raises(errors.UnsupportedInputError):
            codec.encode(wrong)
    for tau in (-1, 256):
        with pytest.raises(errors.UnsupportedInputError):
            codec.encode(tile, tau)


def test_weights_that_are_not_finite_are_refused():
    model = small_model()
    with torch.no_grad():
        model.rc.out.bias[0] = math.nan
    with pytest.raises(errors.WeightsError):
        PaperCodec(model).encode(synthetic_tile(16))


def test_the_codec_alone_does_not_import_torch():
    code = "import dlpr, dlpr.modes.networks.model, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.full
def test_another_process_reads_the_stream(tmp_path):
    """The same machine, another process with another ambient thread count."""
    image, model = synthetic_tile(70), small_model()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "stream").write_bytes(PaperCodec(model).encode(image, 1))
    np.save(tmp_path / "image.npy", image)
    code = """
import sys, numpy as np, torch
from pathlib import Path
from dlpr.paper.codec import PaperCodec
from dlpr.paper.model import Dlpr
from dlpr.paper.profile import PaperProfile
at = Path(sys.argv[1])
torch.set_num_threads(3)
model = Dlpr(PaperProfile(channels=16, features=16, hidden=16, patch=16))
model.load_state_dict(torch.load(at / "weights.pt"))
image = PaperCodec(model).decode((at / "stream").read_bytes())
assert np.abs(image.astype(int) - np.load(at / "image.npy")).max() <= 1
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.full
@pytest.mark.parametrize(("size", "tau"), [("64", "0"), ("64", "3"), ("256", "0")])
def test_the_reference_sized_model_round_trips(size, tau, capsys):
    assert main(["roundtrip", "--size", size, "--tau", tau]) == 0
    assert "round trip: ok" in capsys.readouterr().out
