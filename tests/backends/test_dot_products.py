"""Dot products of pairs against numpy's, in every way they are computed."""

from __future__ import annotations

import numpy as np
import pytest

from support.tolerances import ROUNDING
from xvectors.backends import dot_products
from xvectors.backends.dot_products import all_pairs_products, pair_products, row_products
from xvectors.errors import ShapeError


@pytest.mark.parametrize("dense_share", [0.0, 1e9], ids=["dense", "sparse"])
@pytest.mark.parametrize("values", [1, 50, 10**6])
@pytest.mark.parametrize("order", ["rising", "random"])
def test_listed_pairs_in_any_order_and_blocks(
    dense_share: float, values: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dot_products, "DENSE_SHARE", dense_share)
    monkeypatch.setattr(dot_products, "PRODUCT_VALUES", values)
    monkeypatch.setattr(dot_products, "GATHER_VALUES", values)
    monkeypatch.setattr(dot_products, "TILE_VALUES", values)
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(23, 5)).astype(np.float32), rng.normal(size=(17, 5)).astype(np.float32)
    i, j = rng.integers(3, 20, 200), rng.integers(0, 17, 200)
    if order == "rising":
        i = np.sort(i)
    np.testing.assert_allclose(pair_products(left, right, i, j), (left @ right.T)[i, j], atol=ROUNDING)


def test_many_rows_share_block_numbers_of_sixteen_bits() -> None:
    rows = np.arange(140_000, dtype=np.float32)[:, None]
    i = np.array([139_999, 0, 65_536, 70_001, 139_999])
    np.testing.assert_array_equal(pair_products(rows, rows + 1, i, i[::-1]), rows[i, 0] * (rows[i[::-1], 0] + 1))


def test_a_sparse_list_goes_through_some_right_rows_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot_products, "TILE_VALUES", 3 * 100)
    rows = np.zeros((1000, 3), dtype=np.float32)
    i, j = np.random.default_rng(0).integers(0, 1000, (2, 5000))
    order = dot_products._tile_order(rows, rows, i, j)
    assert sorted(order.tolist()) == list(range(5000))
    assert (np.diff(j[order] // 100) >= 0).all()
    for block in range(10):
        assert (np.diff(i[order][j[order] // 100 == block]) >= 0).all()


def test_no_pairs_give_no_scores() -> None:
    assert pair_products(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), [], []).shape == (0,)


def test_blocks_of_rows_make_up_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot_products, "PRODUCT_VALUES", 30)
    left, right = np.random.default_rng(2).normal(size=(2, 11, 4)).astype(np.float32)
    blocks = list(row_products(left, right))
    assert [start for start, _ in blocks] == [0, 2, 4, 6, 8, 10]
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), left @ right.T, atol=ROUNDING)


def test_all_pairs_take_the_left_row_first() -> None:
    left, right = np.float32([[1], [2], [3]]), np.float32([[10], [20], [30]])
    target, nontarget = all_pairs_products(left, right, ["a", "b", "a"])
    np.testing.assert_array_equal(target, [30])
    np.testing.assert_array_equal(nontarget, [20, 60])


@pytest.mark.parametrize(
    ("i", "j", "message"),
    [
        ([0, 1], [0], "2 rows on one side of the trials, 1 on the other: give one pair a trial"),
        ([0, 3], [0, 0], "trial 1 names row 3, but embeddings have rows 0 to 2"),
        ([0], [-1], "trial 0 names row -1, but embeddings have rows 0 to 2"),
        ([0.0], [0], "trials' rows are float64 [1]: give one whole number a trial"),
    ],
)
def test_lists_that_fit_no_rows_are_refused(i: list[float], j: list[float], message: str) -> None:
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(ShapeError) as caught:
        pair_products(rows, rows, i, j)
    assert str(caught.value) == message
