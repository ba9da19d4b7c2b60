"""Parts of the paper profile that need torch alone: profile, patches, conditional layers."""

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from dlpr.errors import UnsupportedInputError  # noqa: E402
from dlpr.paper.entropy_net import (  # noqa: E402
    ConditionalConv,
    ResidualCompressor,
    ScalableResidualCompressor,
)
from dlpr.paper.patches import from_patches, to_patches  # noqa: E402
from dlpr.paper.profile import Family, PaperProfile  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: threads that wait for each other on a busy machine cost ten times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_patches_there_and_back():
    t = torch.arange(2 * 3 * 32 * 48).view(2, 3, 32, 48)
    patches = to_patches(t, 16)
    assert patches.shape == (12, 3, 16, 16)
    assert torch.equal(patches[4], t[0, :, 16:32, 16:32])
    assert torch.equal(from_patches(patches, 32, 48), t)


@pytest.mark.parametrize(
    "wrong", [{"channels": 20}, {"kernel": 6}, {"context": 6}, {"context": 0}, {"components": 0}, {"patch": 0}]
)
def test_profiles_that_cannot_be(wrong):
    with pytest.raises(UnsupportedInputError):
        PaperProfile(**wrong)


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


@pytest.mark.parametrize("changes", [{}, {"context": 5, "family": Family.LAPLACE}, {"attention": False}])
def test_a_profile_is_whole_numbers_in_a_checkpoint(changes):
    profile = PaperProfile(**changes)
    assert PaperProfile.of_numbers(profile.numbers()) == profile
    with pytest.raises(UnsupportedInputError):
        PaperProfile.of_numbers(profile.numbers()[:-1])
