"""All pairs of recordings, counted and enumerated by hand and by itertools."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xvectors.errors import ManifestError, ShapeError
from xvectors.trials import Trials, all_pairs, count_pairs
from xvectors.trials.pairs import across_sessions


def test_all_pairs_by_hand() -> None:
    trials = all_pairs([7, 7, 3])
    np.testing.assert_array_equal(trials.enroll, [0, 0, 1])
    np.testing.assert_array_equal(trials.test, [1, 2, 2])
    np.testing.assert_array_equal(trials.target, [True, False, False])
    assert (trials.enroll.dtype, trials.test.dtype, trials.target.dtype) == (np.int32, np.int32, bool)
    assert (len(trials), trials.num_target, trials.num_nontarget) == (3, 1, 2)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=25).filter(lambda s: 1 < len(set(s)) < len(s)))
def test_all_pairs_equals_itertools_and_the_counts(speakers: list[int]) -> None:
    trials = all_pairs(speakers)
    pairs = list(combinations(range(len(speakers)), 2))
    assert list(zip(trials.enroll.tolist(), trials.test.tolist(), strict=True)) == pairs
    assert trials.target.tolist() == [speakers[i] == speakers[j] for i, j in pairs]
    assert count_pairs(speakers) == (trials.num_target, trials.num_nontarget)


def test_speakers_may_be_names() -> None:
    assert all_pairs(["ann", "bob", "ann"]).target.tolist() == [False, True, False]


def test_a_hundred_thousand_recordings_are_counted_without_building_the_trials() -> None:
    # 1,000 speakers of 100: 1,000 x 4,950 target pairs of 100,000 x 99,999 / 2.
    assert count_pairs(np.arange(100_000) % 1000) == (4_950_000, 4_995_000_000)


def test_split_keeps_the_order() -> None:
    target, nontarget = all_pairs([0, 0, 1]).split(np.float32([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(target, np.float32([0.1]))
    np.testing.assert_array_equal(nontarget, np.float32([0.2, 0.3]))
    with pytest.raises(ShapeError, match=r"scores have the shape \[2\], but there are 3 trials"):
        all_pairs([0, 0, 1]).split(np.float32([0.1, 0.2]))


def test_labels_are_booleans_or_zeros_and_ones() -> None:
    sides = {"enroll": np.int32([0, 0, 1]), "test": np.int32([1, 2, 2])}
    trials = Trials(target=np.array([1, 0, 0]), **sides)
    target, nontarget = trials.split(np.float32([0.1, 0.2, 0.3]))
    assert (target.tolist(), nontarget.tolist()) == ([np.float32(0.1)], [np.float32(0.2), np.float32(0.3)])
    assert (trials.num_target, trials.num_nontarget) == (1, 2)
    with pytest.raises(ShapeError, match=r"label 1 is 2.*give 1 for target and 0 for non-target trials"):
        Trials(target=np.array([1, 2, 0]), **sides)


@pytest.mark.parametrize(
    ("speakers", "message"),
    [
        ([], "no trials: a trial compares two recordings, and there are 0; add recordings"),
        ([1], "no trials: a trial compares two recordings, and there are 1; add recordings"),
        (
            [0, 1, 2],
            "no target trials: every one of the 3 speakers has one recording; give at least one speaker two recordings",
        ),
        (
            [4, 4, 4],
            "no non-target trials: all 3 recordings are of one speaker; add recordings of a second speaker",
        ),
    ],
)
def test_corpora_without_trials_are_refused(speakers: list[int], message: str) -> None:
    for make in (all_pairs, count_pairs):
        with pytest.raises(ManifestError) as caught:
            make(speakers)
        assert str(caught.value) == message


def test_speakers_must_be_a_list_of_numbers_or_names() -> None:
    with pytest.raises(ShapeError, match=r"speakers have the shape \[1, 2\].*give one speaker per recording"):
        all_pairs([[0, 1]])
    with pytest.raises(ShapeError, match=r"speakers are of type float64.*give integers or names"):
        all_pairs([0.0, np.nan])


def test_scoring_imports_no_torch() -> None:
    packages = "xvectors.backends, xvectors.metrics, xvectors.trials"
    subprocess.run([sys.executable, "-c", f"import sys, {packages}; sys.exit('torch' in sys.modules)"], check=True)


def test_target_trials_across_sessions_replace_those_within_one() -> None:
    """Of `ann`, with two sessions, trials within one are dropped; `bob` has one session, `cid` unknown ones."""
    speakers = ["ann", "ann", "ann", "bob", "bob", "cid", "cid", "ann"]
    sessions = ["mon", "mon", "tue", "mon", "mon", "", "", ""]
    trials = all_pairs(speakers)
    kept = across_sessions(trials, speakers, sessions)
    pairs = set(zip(kept.enroll.tolist(), kept.test.tolist(), strict=True))
    every = set(zip(trials.enroll.tolist(), trials.test.tolist(), strict=True))
    assert every - pairs == {(0, 1)}
    assert kept.num_nontarget == trials.num_nontarget
