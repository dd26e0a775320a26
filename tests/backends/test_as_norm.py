"""Score normalization against a loop over trials and cohort."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from xvectors.backends import PLDA, Cosine, ScoreNorm, dot_products
from xvectors.errors import ConfigError, ManifestError, ShapeError


def score(scorer: Any, enroll: Any, test: Any, count: int = 1) -> float:
    left, right = scorer.project(enroll[None], test[None], [count])
    return float(left[0] @ right[0])


def naive(scorer: Any, cohort: Any, enroll: Any, test: Any, top: int, count: int = 1, skip: int = 0) -> float:
    """One trial, normalized as the paper writes it, without the `skip` highest of each side."""
    raw = score(scorer, enroll, test, count)
    sides = []
    for scores in (
        [score(scorer, enroll, other, count) for other in cohort],
        [score(scorer, other, test) for other in cohort],
    ):
        best = sorted(scores, reverse=True)[skip : skip + top]
        sides.append((raw - np.mean(best)) / np.std(best))
    return float(sum(sides) / 2)


@pytest.fixture
def plda(simulator: Any) -> PLDA:
    return PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)


@pytest.mark.parametrize(("top_k", "top"), [(None, 12), (5, 5), (0.25, 3), (12, 12)])
@pytest.mark.parametrize("scorer", ["cosine", "plda"])
def test_normalized_scores_equal_a_naive_loop(
    scorer: str, top_k: Any, top: int, simulator: Any, plda: PLDA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dot_products, "PRODUCT_VALUES", 30)
    used = Cosine() if scorer == "cosine" else plda
    cohort, enroll, test = np.split(simulator.draw(np.full(20, 1), seed=1)[0], [12, 15])
    norm = ScoreNorm(top_k).fit(cohort, np.arange(12))
    left, right = norm.project(used, enroll, test)
    expected = [[naive(used, cohort, e, t, top) for t in test] for e in enroll]
    np.testing.assert_allclose(left @ right.T, expected, rtol=1e-3, atol=1e-3)
    both = norm.project(used, test, test)
    expected = [[naive(used, cohort, e, t, top) for t in test] for e in test]
    np.testing.assert_allclose(both[0] @ both[1].T, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("top_k", "top"), [(None, 11), (5, 5), (11, 11), (0.25, 3)])
def test_those_most_like_a_recording_can_be_left_out(top_k: Any, top: int, simulator: Any) -> None:
    """So a cohort may hold the recording's own speaker, as the second rows of both sides do here."""
    cohort, test = np.split(simulator.draw(np.full(16, 1), seed=3)[0], [12])
    cohort[4] = test[1]
    norm = ScoreNorm(top_k, leave_out=1).fit(cohort, np.arange(12))
    left, right = norm.project(Cosine(), test, test)
    expected = [[naive(Cosine(), cohort, e, t, top, skip=1) for t in test] for e in test]
    np.testing.assert_allclose(left @ right.T, expected, rtol=1e-3, atol=1e-3)
    for wrong in (-1, 11):
        with pytest.raises(ConfigError, match=f"leave_out is {wrong} for a cohort of 12 speakers"):
            ScoreNorm(leave_out=wrong).fit(cohort, np.arange(12))


def test_models_of_several_recordings_meet_the_cohort_as_such(simulator: Any, plda: PLDA) -> None:
    cohort, enroll, test = np.split(simulator.draw(np.full(20, 1), seed=2)[0], [12, 15])
    left, right = ScoreNorm(4).fit(cohort, np.arange(12)).project(plda, enroll, test, [1, 3, 8])
    expected = [[naive(plda, cohort, e, t, 4, n) for t in test] for e, n in zip(enroll, [1, 3, 8], strict=True)]
    np.testing.assert_allclose(left @ right.T, expected, rtol=1e-3, atol=1e-3)


def test_a_cohort_that_overlaps_the_test_speakers_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    norm = ScoreNorm().fit(np.eye(4), ["ann", "bob", "cem", "dee"])
    with caplog.at_level(logging.WARNING):
        assert norm.warn_of_overlap(["eve", "dee", "ann", "dee"]) == ["ann", "dee"]
    assert caplog.messages == [
        "2 test speakers are in the cohort of the score normalization (ann, dee): their target scores come out too "
        "low; give a cohort of other speakers"
    ]
    caplog.clear()
    assert norm.warn_of_overlap(["eve"]) == []
    assert caplog.messages == []


@pytest.mark.parametrize("top_k", [1, 5, 0.3, 1.5, 0.0, -1, np.nan])
def test_impossible_numbers_of_the_cohort_are_refused(top_k: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ScoreNorm(top_k).fit(np.eye(4), np.arange(4))
    caught.match(f"top_k is {top_k} for a cohort of 4 speakers: give 2 to 4, a share .*or None for all")


def test_cohorts_that_are_none_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"a cohort of 1.*score normalization needs at least two"):
        ScoreNorm().fit(np.eye(4)[:1], ["ann"])
    with pytest.raises(ShapeError, match=r"a cohort of 4 embeddings, but 3.*give one speaker a row"):
        ScoreNorm().fit(np.eye(4), ["ann", "bob", "cem"])
    with pytest.raises(ShapeError, match=r"embedding row 0.*leave it out"):
        ScoreNorm().fit([[np.nan, 1.0], [1.0, 1.0]], ["ann", "bob"])
    same = ScoreNorm().fit(np.ones((4, 3)), np.arange(4))
    with pytest.raises(ShapeError) as caught:
        same.project(Cosine(), np.eye(3), np.eye(3))
    caught.match("embedding row 0 .*the cohort repeats one embedding; give another")
    with pytest.raises(ConfigError, match=r"this ScoreNorm is not fitted"):
        ScoreNorm().project(Cosine(), np.eye(3), np.eye(3))
