"""Networks of the paper profile: sizes, GDN, attention, conditional layers, entropy models."""

import math

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from dlpr.errors import UnsupportedInputError  # noqa: E402
from dlpr.paper.__main__ import main  # noqa: E402
from dlpr.paper.entropy_models import EntropyBottleneck, GaussianConditional  # noqa: E402
from dlpr.paper.entropy_net import (  # noqa: E402
    ConditionalConv,
    ResidualCompressor,
    ScalableResidualCompressor,
)
from dlpr.paper.gdn import GDN  # noqa: E402
from dlpr.paper.layers import CODED, DECODED, layers, macs  # noqa: E402
from dlpr.paper.model import Dlpr, from_patches, to_patches  # noqa: E402
from dlpr.paper.profile import Family, PaperProfile  # noqa: E402
from dlpr.paper.swin import SwinAttention, WindowAttention, join, partition, shifted_mask  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: threads that wait for each other on a busy machine cost ten times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_parameters_and_cost_of_the_reference():
    with torch.device("meta"):
        table = dict(Dlpr().parameter_table())
    assert table["total"] == sum(size for part, size in table.items() if part != "total")
    assert table["total"] - table["SQRC"] == pytest.approx(22.24e6, abs=0.01e6)
    rows = layers()
    assert macs(rows, DECODED) / 1e3 == pytest.approx(1316, abs=1)
    assert macs(rows, CODED) / 1e3 == pytest.approx(1844, abs=1)


def test_the_layer_table_is_a_command(capsys):
    assert main(["layers", "--all"]) == 0
    text = capsys.readouterr().out
    assert "parameters 22.24 M" in text
    assert "decode 1,316 kMAC/px, encode 1,844 kMAC/px" in text
    assert "SW-MSA window 4, 8 heads" in text


@pytest.mark.parametrize(
    "wrong", [{"channels": 20}, {"kernel": 6}, {"context": 6}, {"context": 0}, {"components": 0}, {"patch": 0}]
)
def test_profiles_that_cannot_be(wrong):
    with pytest.raises(UnsupportedInputError):
        PaperProfile(**wrong)


@pytest.mark.parametrize(
    "changes", [{"attention": False}, {"context": 5}, {"kernel": 5}, {"components": 1, "family": Family.LAPLACE}]
)
def test_ablations_are_a_field_of_the_profile(changes):
    with torch.device("meta"):
        model = Dlpr(PaperProfile(**changes))
        assert model(torch.zeros(1, 3, 64, 64), 2).sqrc.shape == (1, 64, 64, 3)


def test_patches_there_and_back():
    t = torch.arange(2 * 3 * 32 * 48).view(2, 3, 32, 48)
    patches = to_patches(t, 16)
    assert patches.shape == (12, 3, 16, 16)
    assert torch.equal(patches[4], t[0, :, 16:32, 16:32])
    assert torch.equal(from_patches(patches, 32, 48), t)


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_its_formula(inverse):
    torch.manual_seed(0)
    gdn, x = GDN(4, inverse), torch.randn(2, 4, 3, 5)
    with torch.no_grad():
        gdn.gamma.root.copy_(torch.rand(4, 4))
        gdn.beta.root.copy_(torch.rand(4) + 0.5)
    gamma, beta = gdn.gamma.root**2, gdn.beta.root**2
    energy = beta[:, None, None] + torch.einsum("ij,bjhw->bihw", gamma, x**2)
    torch.testing.assert_close(gdn(x), x * energy**0.5 if inverse else x / energy**0.5, rtol=1e-5, atol=1e-5)


def test_gdn_stays_non_negative_and_can_come_back():
    gdn = GDN(4)
    with torch.no_grad():
        gdn.gamma.root.fill_(-3.0)
        gdn.beta.root.fill_(-3.0)
    assert (gdn.gamma() >= 0).all()
    assert (gdn.beta() >= 0.99e-6).all()
    gdn.gamma().sum().neg().backward()  # asks for more: the gradient passes below the bound
    assert (gdn.gamma.root.grad < 0).all()
    gdn.gamma.root.grad = None
    gdn.gamma().sum().backward()  # asks for less: it does not
    assert (gdn.gamma.root.grad == 0).all()


def test_windows_there_and_back():
    x = torch.randn(2, 8, 12, 3)
    windows = partition(x, 4)
    assert windows.shape == (2, 6, 16, 3)
    assert torch.equal(windows[1, 4].view(4, 4, 3), x[1, 4:8, 4:8])
    assert torch.equal(join(windows, 4, 8, 12), x)


def test_windows_do_not_see_each_other():
    torch.manual_seed(0)
    attention, x = WindowAttention(16, 4, 4, 0), torch.randn(1, 16, 8, 8)
    changed = x.clone()
    changed[:, :, :4, :4] += 1
    out, other = attention(x), attention(changed)
    assert not torch.allclose(out[:, :, :4, :4], other[:, :, :4, :4])
    assert torch.equal(out[:, :, 4:], other[:, :, 4:])
    assert torch.equal(out[:, :, :4, 4:], other[:, :, :4, 4:])


def test_shifted_windows_are_windows_elsewhere_and_never_wrap():
    torch.manual_seed(0)
    plain, shifted = WindowAttention(16, 4, 4, 0), WindowAttention(16, 4, 4, 2)
    shifted.load_state_dict(plain.state_dict())
    x = torch.randn(1, 16, 12, 12)
    out = shifted(x)
    for y in (2, 6):
        torch.testing.assert_close(out[:, :, y : y + 4, 2:6], plain(x[:, :, y : y + 4, 2:6].contiguous()))
    changed = x.clone()
    changed[:, :, :, -2:] += 1  # beyond the last shifted window: the cyclic shift puts it beside columns 0 and 1
    other = shifted(changed)
    assert torch.equal(out[:, :, :, :10], other[:, :, :, :10])
    assert not torch.allclose(out[:, :, :, 10:], other[:, :, :, 10:])


def test_the_mask_forbids_what_was_not_near():
    mask = shifted_mask(8, 8, 4, 2, torch.device("cpu"))
    assert mask.shape == (4, 16, 16)
    assert not mask[0].any()
    assert not mask.diagonal(dim1=1, dim2=2).any()
    assert (mask == mask.transpose(1, 2)).all()
    assert (~mask[3]).sum() == 4 * 4 * 4  # the corner: four 2 x 2 regions that see themselves alone


def test_swin_attention_is_gated():
    torch.manual_seed(0)
    block, x = SwinAttention(16, 4, 4), torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(block(x), x + block.a(x) * torch.sigmoid(block.b(x)))
    with torch.no_grad():
        block.b[3].bias.fill_(-1e4)
        assert torch.equal(block(x), x)


def test_relative_position_bias_depends_on_the_offset_alone():
    index = WindowAttention(16, 4, 4, 0).index.view(4, 4, 4, 4)
    assert index[0, 0, 1, 2] == index[2, 1, 3, 3]
    assert index[0, 0, 1, 2] != index[1, 2, 0, 0]
    assert index.unique().numel() == 49


@pytest.mark.parametrize("tau", [1, 2, 5, 9])
def test_conditional_conv_is_a_conv_for_each_tau(tau):
    torch.manual_seed(0)
    conv, x = ConditionalConv(5, 6, 4), torch.randn(2, 6, 3, 3)
    column = min(tau, 5) - 1
    plain = F.conv2d(x, conv.linear.weight[:, :, None, None])
    expected = plain * F.softplus(conv.scale.weight[:, column, None, None]) + conv.shift.weight[:, column, None, None]
    torch.testing.assert_close(conv(x.permute(0, 2, 3, 1), tau).permute(0, 3, 1, 2), expected)
    weight, bias = conv.folded(tau)
    torch.testing.assert_close(F.conv2d(x, weight[:, :, None, None], bias), expected)


def test_sqrc_can_start_as_rc_and_is_not_for_lossless():
    cfg = PaperProfile(channels=16, features=6, hidden=8, components=2)
    torch.manual_seed(0)
    rc, sqrc, u, context = (
        ResidualCompressor(cfg),
        ScalableResidualCompressor(cfg),
        torch.randn(5, 6),
        torch.randn(5, 8),
    )
    sqrc.start_from(rc)
    for tau in (1, 4, 200):
        torch.testing.assert_close(sqrc(u, context, tau), rc(u, context))
    with pytest.raises(ValueError, match="tau >= 1"):
        sqrc(u, context, 0)


def test_factorised_density():
    torch.manual_seed(0)
    model = EntropyBottleneck(3).eval()
    at = torch.arange(-400.0, 401).view(1, 1, -1).repeat(3, 1, 1)
    mass = model.probability(at)
    torch.testing.assert_close(mass.sum(-1), torch.ones(3, 1), rtol=1e-4, atol=1e-4)
    z_hat, likelihood = model(10 * torch.randn(2, 3, 4, 4))
    assert torch.equal(z_hat, z_hat.round())
    torch.testing.assert_close(likelihood[1, 2, 3, 3], mass[2, 0, int(z_hat[1, 2, 3, 3]) + 400])
    assert not torch.equal(model.train()(z_hat)[0], z_hat)


def test_the_auxiliary_loss_finds_the_quantiles():
    torch.manual_seed(0)
    model = EntropyBottleneck(2)
    optimiser = torch.optim.Adam([model.quantiles], 0.3)
    for _ in range(300):
        optimiser.zero_grad()
        model.loss().backward()
        optimiser.step()
    assert torch.sigmoid(model.logits(model.quantiles))[:, 0, 1].detach().sub(0.5).abs().max() < 0.05
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "quantiles")


def test_gaussian_conditional():
    model = GaussianConditional(64).eval()
    assert model.scales[0].item() == pytest.approx(0.11)
    assert model.scales[-1].item() == pytest.approx(256)
    sigma = torch.tensor([-1.0, 0.05, 0.11, 0.12, 1.0, 300.0])
    index = model.indexes(sigma)
    assert index[:3].tolist() == [0, 0, 0]
    assert index[-1] == 63
    assert (model.scales[index[3:-1]] >= sigma[3:-1]).all()
    assert (model.scales[index[3:-1] - 1] < sigma[3:-1]).all()
    values, one = torch.arange(-30.0, 31), torch.ones(61)
    y_hat, likelihood = model(values + 0.1, 0.7 * one, 2 * one)
    torch.testing.assert_close((y_hat - 0.7).round(), y_hat - 0.7, atol=1e-5, rtol=0)
    d = abs(float(y_hat[33]) - 0.7)
    expected = 0.5 * (math.erf((d + 0.5) / 2 / 2**0.5) - math.erf((d - 0.5) / 2 / 2**0.5))
    assert likelihood[33].item() == pytest.approx(expected, rel=1e-4)
    assert likelihood.sum().item() == pytest.approx(1, abs=1e-3)
    assert likelihood.min() >= 1e-9


def test_tables_of_the_coder_match_the_densities():
    torch.manual_seed(0)
    z, y = EntropyBottleneck(3), GaussianConditional(64)
    for table in (*z.tables(), *y.tables()):
        steps = [b - a for a, b in zip(table.frequencies, table.frequencies[1:], strict=False)]
        assert len(steps) == table.count + 1
        assert min(steps) >= 1
        assert table.frequencies[0] == 0
        assert table.frequencies[-1] == 65536
    table = y.tables()[30]
    mass = y.likelihood(torch.arange(table.low, -table.low + 1.0), y.scales[30].expand(table.count))
    got = torch.tensor(table.frequencies).diff()[:-1] / 65536
    torch.testing.assert_close(got, mass, atol=5e-3, rtol=0.01)
