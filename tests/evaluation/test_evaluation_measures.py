"""Figures of scored trials: the values of the scoring library, with intervals where there are speakers enough."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.backends import make_backend
from xvectors.errors import ManifestError, ShapeError
from xvectors.evaluation import measures
from xvectors.evaluation.measures import (
    MAX_LEVELS,
    ScoreMeasures,
    _levelled,
    measure_scores,
    most_unseen,
    rank_measures,
)
from xvectors.metrics import Interval, LeastCost, actual_dcf, cllr, eer, min_cllr, min_dcf, rocch_eer, subsampling
from xvectors.trials import Trials, all_pairs


def simulated(num_speakers: int, seed: int = 0) -> tuple[np.ndarray, Trials, np.ndarray]:
    """LLRs of all pairs of 6 recordings a speaker, as they are where targets are N(2, 4) and non-targets N(-2, 4)."""
    speakers = np.repeat(np.arange(num_speakers), 6)
    trials = all_pairs(speakers)
    rng = np.random.default_rng(seed)
    return np.where(trials.target, 2.0, -2.0) + 2.0 * rng.standard_normal(len(trials)), trials, speakers


def measured(num_speakers: int, **options: object) -> tuple[ScoreMeasures, np.ndarray, Trials]:
    llrs, trials, speakers = simulated(num_speakers)
    settings = {"are_llrs": True, "threshold": 0.0} | options
    found = measure_scores(llrs, trials.target, speakers[trials.enroll], speakers[trials.test], **settings)
    return found, llrs, trials


def test_values_are_those_of_the_measures() -> None:
    found, llrs, trials = measured(12)
    sides = llrs[trials.target], llrs[~trials.target]
    values = {key: measure.value for key, measure in found.measures.items()}
    assert values["eer"] == eer(*sides).eer
    assert values["min_dcf"] == min_dcf(*sides, p_target=0.01).min_dcf
    assert values["actual_dcf"] == actual_dcf(*sides, p_target=0.01)
    assert values["rocch_eer"] == rocch_eer(*sides).eer
    assert found.measures["eer"].name == "EER (plain)"
    assert found.measures["rocch_eer"].name == "EER (convex hull)"
    assert values["calibration_loss"] == values["cllr"] - values["min_cllr"]
    assert values["cllr"] == pytest.approx(cllr(*sides), abs=1e-12)
    assert values["min_cllr"] == pytest.approx(min_cllr(*sides), abs=1e-12)
    assert values["frr"] == np.mean(sides[0] < 0)
    assert values["far"] == np.mean(sides[1] >= 0)
    assert values["eer"] == pytest.approx(0.159, abs=0.03)  # the normal distribution's share beyond one deviation
    assert [point.name for point in found.operating_points] == ["EER", "FAR 1 %", "FAR 0.1 %", "minDCF(0.01)"]


def test_intervals_hold_the_value_and_say_how_many_speakers() -> None:
    found, _, _ = measured(12)
    assert found.num_draws == 1000
    for measure in found.measures.values():
        assert measure.interval is not None
        assert measure.interval.low <= measure.value <= measure.interval.high
        assert (measure.interval.num_speakers, measure.interval.confidence) == (12, 0.95)
    point = found.operating_points[0]
    assert point.threshold_interval is not None
    assert point.threshold_interval.low <= point.threshold <= point.threshold_interval.high
    # 2,376 non-target trials do not support one false accept in a thousand
    assert found.operating_points[2].threshold is None
    assert found.operating_points[2].threshold_interval is None


def test_another_cost_is_measured_everywhere() -> None:
    found, llrs, trials = measured(12, cost=LeastCost(0.05, 10, 2))
    sides = llrs[trials.target], llrs[~trials.target]
    assert found.measures["min_dcf"].name == "minDCF(0.05, 10, 2)"
    assert found.measures["min_dcf"].value == min_dcf(*sides, 0.05, 10, 2).min_dcf
    assert found.measures["actual_dcf"].name == "actDCF(0.05, 10, 2)"
    assert found.measures["actual_dcf"].value == actual_dcf(*sides, 0.05, 10, 2)
    point = found.operating_points[-1]
    assert (point.name, point.threshold) == ("minDCF(0.05, 10, 2)", min_dcf(*sides, 0.05, 10, 2).threshold)


def test_four_speakers_give_figures_without_intervals() -> None:
    found, _, _ = measured(4)
    assert found.num_draws == 0
    assert {measure.interval for measure in found.measures.values()} == {None}
    assert found.notes == ("no interval: 4 speakers, fewer than 5",)
    assert found.measures["eer"].note == found.notes[0]
    assert found.lines()[0].startswith("Too few speakers to say")
    assert not measured(5)[0].lines()[0].startswith("Too few")


def test_cosines_have_no_cllr() -> None:
    found, _, _ = measured(6, are_llrs=False, threshold=None)
    assert set(found.measures) == {"eer", "rocch_eer", "min_dcf", "min_cllr", "auc"}


def test_many_scores_are_levelled_for_the_draws_alone() -> None:
    scores = np.random.default_rng(0).standard_normal(3 * MAX_LEVELS)
    levels = _levelled(scores)
    assert len(np.unique(levels)) <= MAX_LEVELS
    assert (levels <= scores).all()
    # no more than four of 60,000 scores lie between a score and its level
    ordered = np.sort(scores)
    passed = np.searchsorted(ordered, scores, side="right") - np.searchsorted(ordered, levels, side="right")
    assert passed.max() <= 4
    few = scores[:100]
    assert _levelled(few) is few


def test_intervals_of_many_trials_are_of_some_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    llrs, trials, speakers = simulated(80)
    rng = np.random.default_rng(1)
    ease, likeness = rng.normal(0, 1, 80), rng.normal(0, 0.7, 80)  # without which no interval over speakers is wide
    enroll, test = speakers[trials.enroll], speakers[trials.test]
    llrs += np.where(trials.target, ease[enroll], likeness[enroll] + likeness[test])
    settings = {"are_llrs": True, "threshold": 2.0}
    whole = measure_scores(llrs, trials.target, enroll, test, **settings)
    monkeypatch.setattr(subsampling, "MAX_TRIALS", 30_000)
    some = measure_scores(llrs, trials.target, enroll, test, **settings)
    assert whole.notes == ()
    assert len(some.notes) == 1
    assert some.notes[0].startswith("figures are of every trial, intervals of ")
    assert some.notes[0].endswith(" others, one in 8")
    for key, measure in whole.measures.items():
        assert some.measures[key].value == measure.value
        ends, fewer = measure.interval, some.measures[key].interval
        assert ends is not None
        assert fewer is not None
        width = ends.high - ends.low
        assert fewer.high - fewer.low == pytest.approx(width, rel=0.2), key
        assert (fewer.high + fewer.low) / 2 == pytest.approx((ends.high + ends.low) / 2, abs=width / 10), key


def test_scores_given_away_are_measured_the_same() -> None:
    kept, llrs, _ = measured(12)
    given, _, _ = measured(12, overwrite_scores=True)
    assert given.measures == kept.measures
    assert given.operating_points == kept.operating_points
    np.testing.assert_array_equal(llrs, simulated(12)[0])


def test_bad_input() -> None:
    llrs, trials, speakers = simulated(5)
    sides = speakers[trials.enroll], speakers[trials.test]
    with pytest.raises(ShapeError, match="nan"):
        measure_scores(
            np.where(np.arange(len(llrs)) == 3, np.nan, llrs), trials.target, *sides, are_llrs=True, threshold=0.0
        )
    with pytest.raises(ManifestError, match="no target trials"):
        measure_scores(llrs, np.zeros(len(llrs), dtype=bool), *sides, are_llrs=True, threshold=0.0)


def test_a_rate_without_an_error_reaches_up_to_what_as_many_speakers_can_hide() -> None:
    _, trials, speakers = simulated(8)
    sides = speakers[trials.enroll], speakers[trials.test]
    found = measure_scores(np.where(trials.target, 5.0, -5.0), trials.target, *sides, are_llrs=True, threshold=0.0)
    far, eer_ = found.measures["far"], found.measures["eer"]
    assert far.interval is not None
    assert (far.value, far.interval.low) == (0.0, 0.0)
    assert far.interval.high == pytest.approx(1 - 0.05 ** (1 / 8))  # 31 %
    assert far.note == "no error among 8 speakers: up to 31.23% by the rule of three"
    assert eer_.note == "no interval: every draw of speakers gives this value"
    assert f"false acceptances       0.00% [0.00% to 31.23%] ({far.note})" in found.lines()


def test_errors_of_few_speakers_widen_the_interval_and_those_of_five_do_not() -> None:
    _, trials, speakers = simulated(20)
    enroll, test = speakers[trials.enroll], speakers[trials.test]

    def misses(num_speakers: int) -> Interval | None:
        llrs = np.where(trials.target & (enroll >= num_speakers), 5.0, -5.0)
        return measure_scores(llrs, trials.target, enroll, test, are_llrs=True, threshold=0.0).measures["frr"].interval

    one, five = misses(1), misses(5)
    assert one is not None
    assert five is not None
    assert one.low == 0.0
    assert one.high >= 1 - 0.05 ** (1 / 20)
    assert five.low > 0.05


def test_the_rule_of_three() -> None:
    assert most_unseen(12) == pytest.approx(0.2209, abs=1e-4)
    assert most_unseen(1000) == pytest.approx(3 / 1000, rel=0.01)


# speakers 0, 1, 2 at 0, 60 and 120 degrees; speaker 0's second recording lies nearest to 1, its third to itself
DEGREES = np.array([0.0, 60.0, 120.0, 50.0, 20.0, 70.0])
EMBEDDINGS = np.stack([np.cos(np.radians(DEGREES)), np.sin(np.radians(DEGREES))], axis=1).astype(np.float32)
SPEAKERS = np.array([0, 1, 2, 0, 0, 1])


def test_rank_rates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    cosine = make_backend("cosine")
    monkeypatch.setattr(measures, "RANKS", (1, 2, 5))
    found = rank_measures(cosine, EMBEDDINGS, SPEAKERS)
    assert list(found) == ["rank_1", "rank_2"]  # there are three speakers
    assert found["rank_1"].value == pytest.approx(2 / 3)
    assert found["rank_2"].value == 1.0
    assert found["rank_1"].name == "closed-set identification, rank 1"
    assert found["rank_1"].note == "of 3 speakers, the first recording of each enrolled; 3 others looked for"
    assert rank_measures(cosine, EMBEDDINGS[:3], SPEAKERS[:3]) == {}
    monkeypatch.setattr(measures, "MAX_RANK_SCORES", 6)
    assert rank_measures(cosine, EMBEDDINGS, SPEAKERS)["rank_1"].note.endswith("; 2 of 3 others looked for")
