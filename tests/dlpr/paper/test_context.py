"""Contexts M_k^n: taps, scans, and the two forms of the masked convolution."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dlpr.paper.context import (  # noqa: E402
    MaskedConv,
    check_scan,
    scan_angle,
    scan_order,
    scan_steps,
    step_count,
    tap_mask,
    taps,
)

CONTEXTS = [(k, n) for k in (3, 5, 7, 9) for n in range(1, (k + 3) // 2 + 1)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: threads that wait for each other on a busy machine cost ten times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_published_contexts():
    assert [len(taps(7, n)) for n in (5, 4, 3, 2, 1)] == [24, 23, 22, 21, 21]
    assert [step_count(n, 9) for n in (5, 4, 3, 2, 1)] == [41, 33, 25, 17, 9]
    assert step_count(3, 64) == 190
    assert [round(scan_angle(n), 2) for n in (5, 4, 3, 2, 1)] == [14.04, 18.43, 26.57, 45, 90]


def test_masks_as_the_reference_draws_them():
    raster = np.zeros((7, 7), bool)
    raster[:3], raster[3, :3] = True, True
    assert (tap_mask(7, 5) == raster).all()
    raster[2, 6] = False
    assert (tap_mask(7, 4) == raster).all()
    raster[2, 5] = False
    assert (tap_mask(7, 3) == raster).all()
    assert all((tap_mask(7, 2)[i] == (np.arange(7) < 6 - i)).all() for i in range(7))
    assert (tap_mask(7, 1) == (np.arange(7) < 3)).all()


@pytest.mark.parametrize(("k", "n"), CONTEXTS)
@pytest.mark.parametrize("patch", [1, 2, 9, 16])
def test_every_tap_precedes_its_pixel(k, n, patch):
    check_scan(k, n, patch)
    done = np.zeros((patch, patch), bool)
    steps = scan_steps(n, patch)
    assert len(steps) == step_count(n, patch) == scan_order(n, patch).max() + 1
    for rows, columns in steps:
        assert not done[rows, columns].any()
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            for dy, dx in taps(k, n):
                y, x = i + dy, j + dx
                assert not (0 <= y < patch and 0 <= x < patch) or done[y, x]
        done[rows, columns] = True
    assert done.all()


def test_the_whole_raster_neighbourhood_is_the_largest_context():
    for k in (3, 5, 7, 9):
        assert len(taps(k, (k + 3) // 2)) == (k * k - 1) // 2
        for n in (0, (k + 5) // 2):
            with pytest.raises(ValueError, match="no context"):
                taps(k, n)


def test_a_wrong_scan_is_noticed(monkeypatch):
    monkeypatch.setattr("dlpr.paper.context.taps", lambda k, n: [(-1, 3)])
    with pytest.raises(ValueError, match="after its pixel"):
        check_scan(7, 3, 16)


@pytest.mark.parametrize("n", [5, 4, 3, 2, 1])
def test_rows_equal_the_dense_convolution(n):
    torch.manual_seed(n)
    conv, r = MaskedConv(3, 8, 7, n), torch.randn(2, 3, 9, 9)
    padded = torch.nn.functional.pad(r, (3, 3, 3, 3))
    which, i, j = (
        t.flatten() for t in torch.meshgrid(torch.arange(2), torch.arange(9), torch.arange(9), indexing="ij")
    )
    rows = conv.rows(conv.gather(padded, which, i, j), conv.tap_weight())
    dense = conv(r).permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(rows, dense)


def test_the_context_of_a_pixel_ignores_what_comes_later():
    torch.manual_seed(0)
    conv, r, order = MaskedConv(3, 8, 7, 3), torch.randn(1, 3, 16, 16), torch.from_numpy(scan_order(3, 16))
    before = conv(r)
    late = torch.where(order >= 20, torch.randn(1, 3, 16, 16), r)
    assert torch.equal(conv(late)[:, :, order <= 20], before[:, :, order <= 20])
