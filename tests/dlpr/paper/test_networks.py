"""Networks of the paper profile: sizes, attention, ablations."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("compressai", reason="extra paper: make check-paper")
from dlpr.paper.__main__ import main  # noqa: E402
from dlpr.paper.layers import CODED, DECODED, layers, macs  # noqa: E402
from dlpr.paper.model import Dlpr  # noqa: E402
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
    "changes", [{"attention": False}, {"context": 5}, {"kernel": 5}, {"components": 1, "family": Family.LAPLACE}]
)
def test_ablations_are_a_field_of_the_profile(changes):
    model = Dlpr(PaperProfile(channels=32, features=8, hidden=8, **changes))
    assert model(torch.zeros(1, 3, 64, 64), 2)["log_likelihoods"]["sqrc"].shape == (1, 64, 64, 3)


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
