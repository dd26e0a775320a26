"""Operating points by hand and by counting; what the rule of 30 withholds."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.errors import ConfigError
from xvectors.metrics import (
    ROC,
    EqualErrors,
    FARAtMost,
    LeastCost,
    ScoredTrials,
    count_error_speakers,
    operating_points,
    threshold_intervals,
)
from xvectors.trials import all_pairs


def trials_and_scores(num_speakers: int = 40, num_recordings: int = 5) -> tuple[ScoredTrials, np.ndarray]:
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(num_speakers), num_recordings)
    pairs = all_pairs(speakers)
    trials = ScoredTrials.of(pairs.target, speakers[pairs.enroll], speakers[pairs.test])
    ease = rng.normal(0, 0.5, num_speakers)
    return trials, rng.normal(np.where(pairs.target, 2.5 + ease[speakers[pairs.enroll]], 0), 1)


def test_points_equal_counting() -> None:
    trials, scores = trials_and_scores()
    target, nontarget = scores[trials.target], scores[~trials.target]
    roc = ROC.from_scores(target, nontarget)
    points = {point.name: point for point in operating_points(roc)}
    assert list(points) == ["EER", "FAR 1 %", "FAR 0.1 %", "minDCF(0.01)"]
    for name in ("EER", "FAR 1 %", "minDCF(0.01)"):
        point = points[name]
        assert point.num_misses == np.count_nonzero(target < point.threshold)
        assert point.num_false_accepts == np.count_nonzero(nontarget >= point.threshold)
        assert point.frr == pytest.approx(np.mean(target < point.threshold))
        assert point.far == pytest.approx(np.mean(nontarget >= point.threshold))
    assert (points["EER"].num_target, points["EER"].num_nontarget) == (400, 19_500)
    assert points["EER"].frr == pytest.approx(points["EER"].far, abs=0.003)
    assert points["FAR 1 %"].num_false_accepts == 195
    assert points["FAR 1 %"].note == ""
    assert points["EER"].threshold == roc.eer().threshold
    assert points["minDCF(0.01)"].threshold == roc.min_dcf(0.01).threshold


def test_a_far_that_the_trials_cannot_support_is_not_given() -> None:
    trials, scores = trials_and_scores()
    points = operating_points(
        ROC.from_scores(scores[trials.target], scores[~trials.target]), [FARAtMost(0.001), FARAtMost(30 / 19_500)]
    )
    assert points[0].threshold is None
    assert points[0].frr is None
    assert points[0].note == "FAR 0.1 % needs 30,000 non-target trials (30 expected false accepts), there are 19,500"
    assert points[1].threshold is not None
    assert points[1].num_false_accepts == 30
    within = threshold_intervals(points, scores, trials, num_draws=100)
    assert within[0].threshold_interval is None
    assert within[1].threshold_interval.low <= points[1].threshold <= within[1].threshold_interval.high


def test_rates_that_rest_on_few_errors_say_so() -> None:
    point = operating_points(ROC.from_scores([1, 3], [0, 2]), [EqualErrors()])[0]
    assert point.note == "rests on 1 miss and 1 false accept, fewer than 30"


def test_threshold_intervals_are_wider_with_fewer_speakers() -> None:
    widths = []
    for num_speakers in (12, 40):
        trials, scores = trials_and_scores(num_speakers)
        points = operating_points(ROC.from_scores(scores[trials.target], scores[~trials.target]), [EqualErrors()])
        interval = threshold_intervals(points, scores, trials, num_draws=200)[0].threshold_interval
        assert interval.low < points[0].threshold < interval.high
        assert interval.num_speakers == num_speakers
        widths.append(interval.high - interval.low)
    assert widths[0] > 1.3 * widths[1]


def test_names_and_impossible_criteria() -> None:
    assert LeastCost(0.05).name == "minDCF(0.05)"
    assert LeastCost(0.01, 10, 1).name == "minDCF(0.01, 10, 1)"
    with pytest.raises(ConfigError, match=r"^the false acceptance rate is 1: give a share above 0 and below 1$"):
        FARAtMost(1)
    with pytest.raises(ConfigError, match=r"^c_miss is 0: give a cost above 0$"):
        LeastCost(0.01, c_miss=0)


def test_a_far_that_few_speakers_make_is_withdrawn() -> None:
    # 40 false accepts of one pair of speakers among 4,000 non-target trials of 41
    speakers = np.repeat(np.arange(41), 100)
    enroll, test = np.zeros(4000, dtype=int), speakers[100:]
    scores = np.where(test == 1, np.linspace(1, 2, 4000), -1.0)
    scores[(test == 1).nonzero()[0][40:]] = -1.0
    scores, target = np.append(scores, [3.0, 4.0, 0.0]), np.append(np.zeros(4000, bool), [True] * 3)
    sides = np.append(enroll, [5, 6, 7]), np.append(test, [5, 6, 7])
    points = operating_points(ROC.from_scores(scores[target], scores[~target]), [FARAtMost(0.01), LeastCost(0.01)])
    assert points[0].num_false_accepts == 40
    far, cost = count_error_speakers(points, scores, target, *sides)
    assert (far.threshold, far.far, far.num_false_accepts) == (None, None, None)
    assert far.note == "FAR 1 % rests on 40 false accepts of 2 speakers, fewer than 5"
    assert (cost.num_miss_speakers, cost.num_false_accept_speakers) == (1, 0)
    spread = np.append(np.arange(4000) % 40, [5, 6, 7])
    kept, _ = count_error_speakers(points, scores, target, spread, np.append(spread[:-3] + 50, [5, 6, 7]))
    assert (kept.threshold, kept.num_false_accept_speakers) == (points[0].threshold, 80)
