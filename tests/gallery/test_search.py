"""The search in memory: nobody who belongs to the best is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xvectors.gallery import ExactSearch


def made(rows: np.ndarray, block: int = 1000, ids: np.ndarray | None = None) -> ExactSearch:
    numbers = np.arange(len(rows)) * 3 + 1 if ids is None else ids
    parts = [slice(start, start + block) for start in range(0, len(rows), block)]
    return ExactSearch(((numbers[part], rows[part]) for part in parts), len(rows))


def best(rows: np.ndarray, query: np.ndarray, count: int) -> set[int]:
    return set((np.argsort(-(rows.astype(np.float64) @ query), kind="stable")[:count] * 3 + 1).tolist())


@pytest.mark.parametrize("with_torch", [True, False])
def test_the_best_are_among_few_candidates(with_torch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_torch:
        monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20_000, 64), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    search = made(rows)
    assert len(search) == 20_000
    for query in rng.standard_normal((20, 64), dtype=np.float32):
        candidates = search.candidates(query, 10)
        assert best(rows, query, 10) <= set(candidates.tolist())
        assert 10 <= len(candidates) <= 30


def test_rows_that_float16_cannot_tell_apart() -> None:
    """Their products differ by a tenth of a thousandth, as much as rounding changes them."""
    rng = np.random.default_rng(2)
    query = np.zeros(64, dtype=np.float32)
    query[:16] = 0.25
    rows = rng.standard_normal((20_000, 64))
    rows -= (rows @ query)[:, None] * query
    rows *= 0.8 / np.linalg.norm(rows, axis=1, keepdims=True)
    rows += (0.6 + 1e-4 * rng.standard_normal(len(rows)))[:, None] * query
    rows32 = rows.astype(np.float32)
    search = made(rows32)
    assert best(rows32, query, 10) <= set(search.candidates(query, 10).tolist())
    rounded = rows32.astype(np.float16).astype(np.float32) @ query
    assert not best(rows32, query, 10) <= best(rounded[:, None], np.ones(1), 12)  # without the bound some are missed


def test_what_all_rows_share_costs_nothing() -> None:
    """As with PLDA, whose rows have a column of ones that meets a large offset."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((5000, 32)).astype(np.float32)
    query = rng.standard_normal(32).astype(np.float32)
    shifted, large = np.hstack([rows + 500, np.ones((5000, 1), np.float32)]), np.append(query, np.float32(1e5))
    found = made(shifted).candidates(large, 10)
    assert best(rows, query, 10) <= set(found.tolist())
    assert len(found) <= 30


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(-6, 6),
    offset=st.floats(-3, 3),
    growth=st.floats(0, 5),
    count=st.integers(1, 40),
)
def test_whatever_the_rows_are_like(seed: int, scale: float, offset: float, growth: float, count: int) -> None:
    """Rows of any size, far from the origin, far larger in later blocks, in columns that do not vary, and repeated."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((600, 8)) * 10.0**scale + 10.0**offset
    rows[300:] *= 10.0**growth
    rows[:, 5] = 7.0
    rows[100:150] = rows[200]
    rows32 = rows.astype(np.float32)
    query = rng.standard_normal(8).astype(np.float32)
    found = set(made(rows32, block=150).candidates(query, count).tolist())
    products = rows32.astype(np.float64) @ query
    kth = np.sort(products)[-count]
    clearly = np.flatnonzero(products > kth + 1e-6 * np.abs(products).max()) * 3 + 1
    assert set(clearly.tolist()) <= found
    assert len(found) >= count


def test_more_rows_than_expected() -> None:
    rows = np.random.default_rng(1).standard_normal((3000, 16)).astype(np.float32)
    parts = [slice(start, start + 700) for start in range(0, 3000, 700)]
    search = ExactSearch(((np.arange(3000)[part] * 3 + 1, rows[part]) for part in parts), 10)
    assert len(search) == 3000
    for query in rows[:20]:
        assert best(rows, query, 5) <= set(search.candidates(query, 5).tolist())


def test_rows_that_are_changed_and_added() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((2000, 16)).astype(np.float32)
    search = made(rows[:1500])
    rows[[3, 700]] = 3 * rng.standard_normal((2, 16))
    rows[1999] *= 1e4
    changed = np.array([3, 700, *range(1500, 2000)])
    search.update(changed[:200] * 3 + 1, rows[changed[:200]])
    search.update(changed[200:] * 3 + 1, rows[changed[200:]])
    assert len(search) == 2000
    for query in rng.standard_normal((20, 16)).astype(np.float32):
        assert best(rows, query, 5) <= set(search.candidates(query, 5).tolist())


def test_few_rows_and_rows_all_alike() -> None:
    rows = np.ones((5, 3), dtype=np.float32)
    assert sorted(made(rows).candidates(rows[0], 5).tolist()) == [1, 4, 7, 10, 13]
    assert len(made(rows).candidates(rows[0], 2)) == 5  # none is better than another
    assert len(ExactSearch([], 0)) == 0
    assert made(rows[:0]).candidates(rows[0], 3).tolist() == []
