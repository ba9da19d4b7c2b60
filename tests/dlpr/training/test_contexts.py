"""Linear stage and features of the contexts M_7^5 .. M_7^1: causal in their scan, and as good as the format's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from dlpr import _native
from dlpr.layout import CODING_ORDER
from dlpr.modes.networks.exact.geometry import NEAR, TAPS
from dlpr.paper.context import scan_order
from dlpr.training import contexts
from dlpr.training.data import Block, base_colour, sample_tiles


@pytest.fixture(scope="module")
def block(dev: Path) -> Block:
    x = np.ascontiguousarray(sample_tiles(dev, 1, size=96)["b"][0][..., list(CODING_ORDER)])
    base = base_colour(x)
    return Block(x, _native.linear_block(x, base, 8)[0], base)


def test_taps_of_the_format() -> None:
    assert {tuple(t) for t in contexts.taps(3).tolist()} == set(TAPS)
    assert [len(contexts.taps(n)) for n in (5, 4, 3, 2, 1)] == [24, 23, 22, 21, 21]
    assert {tuple(t) for t in contexts.taps(3)[:NEAR].tolist()} == set(TAPS[:NEAR])


@pytest.mark.parametrize("n", contexts.CONTEXTS)
def test_features_ignore_what_is_decoded_later(block: Block, n: int) -> None:
    side = block.x.shape[0]
    order = scan_order(n, side)
    rng = np.random.default_rng(n)
    window = (slice(0, side), slice(0, side))
    for y, x in [(0, 0), (0, 5), (side - 1, side - 1), (side - 1, 0), *rng.integers(0, side, (20, 2)).tolist()]:
        late = order >= order[y, x]
        changed = np.where(late[..., None], rng.integers(0, 256, block.x.shape), block.x).astype(np.uint8)
        pred = np.where(late[..., None], 77, block.pred).astype(np.int16)
        pred[y, x] = block.pred[y, x]  # which depends on earlier pixels alone, as the next test shows
        where = np.array([[y, x]], np.int32)
        for a, b in zip(
            contexts.features(block, window, where, n),
            contexts.features(Block(changed, pred, block.base), window, where, n),
            strict=True,
        ):
            assert np.array_equal(a, b), (y, x)


@pytest.mark.parametrize("n", contexts.CONTEXTS)
def test_regressors_are_earlier_in_the_scan(n: int) -> None:
    for c in range(3):
        columns = contexts._columns(n, c)
        assert columns[0] == contexts.OWN + 3
        assert columns[1 : 1 + c] == [contexts.OWN + k for k in range(c)]
        used = contexts.UNION[np.array(columns[1 + c :]) // 3]
        assert ((n - 1) * used[:, 0] + used[:, 1] < 0).all()
        assert len(set(columns)) == len(columns)


def test_features_of_the_format(block: Block) -> None:
    """Inside the block, M_7^3 gives the format's features in another order of the taps."""
    where = np.array([[40, 50], [7, 80]], np.int32)
    window = (slice(0, 96), slice(0, 96))
    mine, local = contexts.features(block, window, where, 3)
    theirs, base = _native.block_features(block.x, block.pred, block.base, contexts.LOG_TABLE, where)
    order = [TAPS.index((dy, dx)) for dy, dx in contexts.taps(3).tolist()]
    assert np.array_equal(local, base)
    assert np.array_equal(mine[:, :66].reshape(2, 22, 3), theirs[:, :66].reshape(2, 22, 3)[:, order])
    near = order[:NEAR]
    assert np.array_equal(mine[:, 66:132].reshape(2, 11, 6), theirs[:, 66:132].reshape(2, 11, 6)[:, near])
    assert np.array_equal(mine[:, 132], theirs[:, 132])


def test_linear_stage_is_as_good_as_the_format_s(block: Block) -> None:
    def error(pred: np.ndarray) -> float:
        return float(np.abs(16.0 * block.x - pred).mean())

    five, four, three, two, one = (f.pred for f in contexts.linear_stages(block.x, block.base, contexts.CONTEXTS))
    assert error(three) == pytest.approx(error(block.pred), rel=0.03)
    assert error(five) < 1.01 * error(three)
    assert error(four) < 1.01 * error(three)
    assert error(one) > error(two)
