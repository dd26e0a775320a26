"""The errors at the threshold in use against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from support.simulated import evaluation


def test_confusable_pairs_are_those_of_highest_mean() -> None:
    evaluated = evaluation()
    speaker, trials = evaluated.manifest.speaker_index, evaluated.trials
    means: dict[tuple[int, int], list[float]] = {}
    for i, j, target, llr in zip(trials.enroll, trials.test, trials.target, evaluated.decision_scores, strict=True):
        if not target:
            a, b = sorted((int(speaker[i]), int(speaker[j])))
            means.setdefault((a, b), []).append(float(llr))
    expected = sorted(means, key=lambda pair: -np.mean(means[pair]))[:15]
    found = evaluated.mistakes.confusable_pairs
    assert [(one.speaker_a, one.speaker_b) for one in found] == expected
    assert found[0].mean_score == pytest.approx(np.mean(means[expected[0]]))
    assert found[0].num_accepted == sum(llr >= evaluated.threshold for llr in means[expected[0]])
    assert evaluated.decision_scores[found[0].trial] == max(means[expected[0]])


def test_the_worst_errors_are_errors_in_order() -> None:
    evaluated = evaluation()
    speaker, trials, llrs = evaluated.manifest.speaker_index, evaluated.trials, evaluated.decision_scores
    accepts, misses = evaluated.mistakes.worst_false_accepts, evaluated.mistakes.worst_misses
    assert accepts[0] == np.argmax(np.where(trials.target, -np.inf, llrs))
    assert misses[0] == np.argmin(np.where(trials.target, llrs, np.inf))
    assert (np.diff(llrs[accepts]) <= 0).all()
    assert (llrs[accepts] >= evaluated.threshold).all()
    assert (np.diff(llrs[misses]) >= 0).all()
    assert (llrs[misses] < evaluated.threshold).all()
    pairs = {frozenset((int(speaker[trials.enroll[at]]), int(speaker[trials.test[at]]))) for at in accepts}
    assert len(pairs) == len(accepts)
    assert np.bincount(speaker[trials.enroll[misses]]).max() <= 2


def test_errors_and_their_speakers_are_counted() -> None:
    evaluated = evaluation()
    speaker, trials = evaluated.manifest.speaker_index, evaluated.trials
    accepted = evaluated.decision_scores >= evaluated.threshold
    missed, let_in = trials.target & ~accepted, ~trials.target & accepted
    found = evaluated.mistakes
    assert (found.num_misses, found.num_false_accepts) == (missed.sum(), let_in.sum())
    assert found.num_miss_speakers == len(set(speaker[trials.enroll[missed]].tolist()))
    both = speaker[np.concatenate([trials.enroll[let_in], trials.test[let_in]])]
    assert found.num_false_accept_speakers == len(set(both.tolist()))
