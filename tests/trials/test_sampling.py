"""Sampled trials: how many, of whom, and that the switches hold for every one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.trials import Trials, sample_recordings, sample_trials

RNG = np.random.default_rng(0)
SPEAKERS = RNG.permutation(np.repeat(np.arange(20), 12))
GENDERS = np.where(SPEAKERS < 2, -1, SPEAKERS % 2)
SESSIONS = np.array([f"s{speaker}-{at % 3}" for at, speaker in enumerate(SPEAKERS)])


def checked(trials: Trials) -> Trials:
    """No pair twice, none of a recording with itself, and every label true."""
    pairs = {frozenset(pair) for pair in zip(trials.enroll.tolist(), trials.test.tolist(), strict=True)}
    assert len(pairs) == len(trials)
    assert all(len(pair) == 2 for pair in pairs)
    np.testing.assert_array_equal(SPEAKERS[trials.enroll] == SPEAKERS[trials.test], trials.target)
    assert (trials.enroll.dtype, trials.test.dtype, trials.target.dtype) == (np.int32, np.int32, bool)
    return trials


def test_each_speaker_gets_its_number() -> None:
    trials = checked(sample_trials(SPEAKERS, per_speaker=30))
    np.testing.assert_array_equal(np.bincount(SPEAKERS[trials.enroll[trials.target]]), np.full(20, 30))
    # 20 x 30 non-targets, less those drawn from both sides: 600 of 27,360 pairs.
    assert 560 <= trials.num_nontarget <= 600
    assert np.bincount(SPEAKERS[trials.enroll[~trials.target]]).min() >= 20


def test_a_speaker_has_no_more_target_trials_than_pairs() -> None:
    trials = sample_trials([0, 0, 0, 1, 1, 2], per_speaker=100)
    assert (trials.num_target, trials.num_nontarget) == (3 + 1, 15 - 4)


def test_same_seed_same_trials() -> None:
    first, again, other = (sample_trials(SPEAKERS, per_speaker=5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.enroll, again.enroll)
    np.testing.assert_array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize("relation", ["same", "different"])
def test_gender_switch(relation: str) -> None:
    trials = checked(sample_trials(SPEAKERS, per_speaker=20, gender=GENDERS, nontarget_gender=relation))
    enroll, test = GENDERS[trials.enroll[~trials.target]], GENDERS[trials.test[~trials.target]]
    assert ((enroll == test) == (relation == "same")).all()
    assert (enroll >= 0).all()
    assert (test >= 0).all()
    assert set(SPEAKERS[trials.enroll[~trials.target]]) == set(range(2, 20))


@pytest.mark.parametrize("relation", ["same", "different"])
def test_session_switch(relation: str) -> None:
    trials = checked(sample_trials(SPEAKERS, per_speaker=10, session=SESSIONS, target_session=relation))
    enroll, test = SESSIONS[trials.enroll[trials.target]], SESSIONS[trials.test[trials.target]]
    assert ((enroll == test) == (relation == "same")).all()
    assert trials.num_target > 150


def test_every_recording_is_as_likely_to_be_drawn() -> None:
    counts = np.zeros(len(SPEAKERS))
    for seed in range(60):
        trials = sample_trials(SPEAKERS, per_speaker=20, seed=seed)
        for side in (trials.enroll, trials.test):
            counts += np.bincount(side[~trials.target], minlength=len(SPEAKERS))
    assert counts.std() < 0.15 * counts.mean()


@pytest.mark.parametrize("relation", ["any", "same", "different"])
def test_drawn_pairs_are_of_all_that_fit(relation: str) -> None:
    """Over many draws of 3 of one speaker's pairs every fitting one comes, about as often as any other."""
    sessions = np.array([2, 0, 1, 0, -1, 1, 0, 9])
    speakers = np.array([0] * 7 + [1])
    fitting = {
        (i, j)
        for i in range(7)
        for j in range(i + 1, 7)
        if relation == "any"
        or (min(sessions[i], sessions[j]) >= 0 and (sessions[i] == sessions[j]) == (relation == "same"))
    }
    counts = dict.fromkeys(fitting, 0)
    for seed in range(600):
        trials = sample_trials(speakers, per_speaker=3, session=sessions, target_session=relation, seed=seed)
        drawn = list(zip(trials.enroll[trials.target].tolist(), trials.test[trials.target].tolist(), strict=True))
        assert len(set(drawn)) == 3
        for pair in drawn:
            counts[pair] += 1
    expected = 600 * 3 / len(fitting)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    everything = sample_trials(speakers, per_speaker=None, session=sessions, target_session=relation)
    found = zip(everything.enroll[everything.target].tolist(), everything.test[everything.target].tolist(), strict=True)
    assert set(found) == fitting


def test_a_speaker_of_many_recordings_takes_little_memory() -> None:
    """450 million pairs of 30,000 recordings, listed, would take 7 GB."""
    speakers = np.repeat([0, 1], [30_000, 5])
    tracemalloc.start()
    trials = sample_trials(speakers, per_speaker=1000, session=speakers * 0, target_session="same")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert trials.num_target == 1000 + 10
    assert peak < 20e6


def test_unknown_sessions_take_part_in_no_switched_target_trial() -> None:
    trials = sample_trials(
        [0, 0, 0, 1], per_speaker=9, session=np.array(["x", "y", "", ""]), target_session="different"
    )
    assert (trials.enroll[trials.target].tolist(), trials.test[trials.target].tolist()) == ([0], [1])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"per_speaker": 0}, ConfigError, "per_speaker is 0: give at least 1"),
        ({"target_session": "cross"}, ConfigError, "target_session is 'cross': give any, same or different"),
        (
            {"nontarget_gender": "same"},
            ManifestError,
            "trials of same gender need the gender of each recording: give it",
        ),
        (
            {"target_session": "same"},
            ManifestError,
            "trials of same session need the session of each recording: give it",
        ),
        (
            {"nontarget_gender": "same", "gender": [0]},
            ShapeError,
            "gender has the shape [1] and type int64: give one number or name for each of the 240 recordings",
        ),
        (
            {"nontarget_gender": "different", "gender": np.zeros(240, int)},
            ManifestError,
            "no non-target trials: the 240 recordings of 20 speakers have no pair for nontarget_gender='different'",
        ),
        (
            {"target_session": "different", "session": np.zeros(240, int)},
            ManifestError,
            "no target trials: the 240 recordings of 20 speakers have no pair for target_session='different'; add",
        ),
        (
            {"nontarget_gender": "same", "gender": np.arange(240) % 2},
            ManifestError,
            "the speaker of recording ",
        ),
    ],
)
def test_impossible_wishes_are_refused(settings, error, message) -> None:
    with pytest.raises(error) as caught:
        sample_trials(SPEAKERS, **{"per_speaker": 5} | settings)
    assert str(caught.value).startswith(message)


def test_some_recordings_of_every_speaker() -> None:
    speakers = np.repeat(np.arange(30), [50] * 10 + [3] * 20)
    chosen = sample_recordings(speakers, each=20, at_most=1000)
    assert np.bincount(speakers[chosen]).tolist() == [20] * 10 + [3] * 20
    assert (np.diff(chosen) > 0).all()
    names = np.array([f"{number:02d}" for number in speakers])
    assert np.array_equal(sample_recordings(names, each=20, at_most=1000), chosen)
    assert not np.array_equal(sample_recordings(speakers, each=20, at_most=1000, seed=1), chosen)
    # with more speakers than there is room for, several recordings each of some
    counts = np.bincount(speakers[sample_recordings(speakers, each=20, at_most=60)], minlength=30)
    assert counts.sum() == 60
    assert np.count_nonzero(counts == 1) <= 1
    assert len(sample_recordings([], each=20, at_most=60)) == 0
