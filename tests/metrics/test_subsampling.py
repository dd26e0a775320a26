"""The trials that intervals are made of: what is kept, what each stands for, what is said."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xvectors.metrics import subsampling
from xvectors.metrics.subsampling import subsample_trials

MOST = 10_000


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subsampling, "MAX_TRIALS", MOST)


def trials(target_share: float, number: int = 200_000) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    target = rng.random(number) < target_share
    return rng.standard_normal(number) + 3 * target, target


def test_all_where_they_are_few() -> None:
    scores, target = trials(0.5, MOST)
    chosen = subsample_trials(scores, target)
    np.testing.assert_array_equal(chosen.at, np.arange(MOST))
    assert (chosen.weight, chosen.note) == (None, "")


def test_the_highest_non_targets_are_kept_and_the_others_stand_for_all() -> None:
    scores, target = trials(0.02)
    chosen = subsample_trials(scores, target)
    at, weight = chosen.at, chosen.weight
    assert weight is not None
    assert (np.diff(at) > 0).all()
    assert len(at) == pytest.approx(MOST, abs=500)
    assert target[at].sum() == target.sum(), "targets are few, and all kept"
    kept = np.zeros(len(target), dtype=bool)
    kept[at] = True
    lowest_kept_in_full = scores[at][~target[at] & (weight == 1)].min()
    assert kept[~target & (scores >= lowest_kept_in_full)].all()
    one_in = int(weight.max())
    assert set(weight.tolist()) == {1, one_in}
    assert weight[target[at]].max() == 1
    num_nontarget = int((~target).sum())
    assert weight[~target[at]].sum() == pytest.approx(num_nontarget, rel=0.05)
    highest = int((~target[at] & (weight == 1)).sum())
    assert highest == pytest.approx((MOST - target.sum()) / 2, rel=0.1)
    others = int((weight > 1).sum())
    assert chosen.note == (
        f"figures are of every trial, intervals of {len(at):,} of the 200,000: all {target.sum():,} target trials, "
        f"the {highest:,} non-target trials of the highest scores, {others:,} others, one in {one_in}"
    )


def test_a_share_of_the_targets_where_they_are_many() -> None:
    scores, target = trials(0.5)
    chosen = subsample_trials(scores, target)
    assert target[chosen.at].sum() == pytest.approx(MOST / 2, rel=0.05)
    assert len(chosen.at) == pytest.approx(MOST, rel=0.05)
    assert scores[chosen.at][target[chosen.at]].mean() == pytest.approx(3.0, abs=0.05)


def test_few_non_targets_are_all_kept() -> None:
    scores, target = trials(0.99)
    chosen = subsample_trials(scores, target)
    assert chosen.weight is not None
    assert chosen.weight.max() == 1
    assert (~target[chosen.at]).sum() == (~target).sum()
    assert chosen.note.endswith(f" target trials, all {(~target).sum():,} non-target trials")


def test_equal_scores_do_not_fill_the_room() -> None:
    _, target = trials(0.02)
    chosen = subsample_trials(np.zeros(len(target)), target)
    assert len(chosen.at) < MOST


def test_a_seed_gives_the_same_trials() -> None:
    scores, target = trials(0.02)
    first, again, other = (subsample_trials(scores, target, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.at, again.at)
    assert not np.array_equal(first.at, other.at)
