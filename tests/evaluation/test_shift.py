"""The shift of test recordings, the answers by degree of shift, and the risk-coverage curve, all worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from support.conditions import usual_within_one
from support.simulated import evaluation, with_shift
from xvectors.backends import AffineCalibration
from xvectors.evaluation.measures import Measure
from xvectors.evaluation.shift import (
    EARLIER_VERSION,
    NOT_LEARNED,
    NOT_MEASURED,
    Answers,
    by_degree,
    measure_shift,
    risk_coverage,
    why_no_shift,
)
from xvectors.metrics import ROC
from xvectors.report.outputs import evaluation_to_dict, shift_to_dict
from xvectors.trials import Trials
from xvectors.verification import Verifier, cosine_verifier

CONDITION = np.zeros((6, 6), np.float32)
CONDITION[1, 4] = 1.5  # a shift of 0.5: not worth a note
CONDITION[2, 0] = 2.0  # exactly 1, above the range
CONDITION[3, 0] = -8.0  # 7, below the range; beyond -6, untested
CONDITION[4] = np.nan
CONDITION[5, [0, 4]] = 2.5, 4.0  # 1.5 and 3
SHIFT = np.array([0.0, 0.5, 1.0, 7.0, np.inf, 3.0])
ROWS = [
    (0, 1, True, 2.0),
    (1, 0, True, 0.5),  # no answer
    (0, 1, False, -2.0),
    (0, 0, False, 1.5),  # wrong
    (0, 2, True, -3.0),  # wrong
    (5, 1, True, 4.0),
    (3, 2, False, 0.0),  # no answer
    (4, 0, False, 9.0),  # the condition is not known
]
TRIALS = Trials(
    enroll=np.array([row[0] for row in ROWS], np.int32),
    test=np.array([row[1] for row in ROWS], np.int32),
    target=np.array([row[2] for row in ROWS]),
)
LLRS = np.array([row[3] for row in ROWS])


@pytest.fixture(scope="module")
def aware() -> Verifier:
    calibration = AffineCalibration().fit([2.0, 1.0, 0.0, -1.0], [True, False, True, False])
    return replace(cosine_verifier(), calibration=calibration, condition=usual_within_one(), bounds=(-3.0, 5.0))


def test_recordings_and_what_is_unusual_in_them(aware: Verifier) -> None:
    found = measure_shift(aware, CONDITION, TRIALS, LLRS, ROC.from_trials(LLRS, TRIALS.target))
    assert found is not None
    assert (found.num_usual, found.num_shifted, found.num_untested, found.num_unknown) == (2, 3, 1, 1)
    assert found.num_known == 5
    assert found.is_notable
    assert found.unusual == (
        ("much sound above 4 kHz", 2),
        ("little sound above 4 kHz, as on a telephone", 1),
        ("a high pitch, as of a raised voice", 1),
    )
    assert found.degrees == by_degree(SHIFT, TRIALS, LLRS)


def test_trials_by_the_larger_shift_of_both_sides() -> None:
    usual, some, much = by_degree(SHIFT, TRIALS, LLRS)
    assert [(one.low, one.high) for one in (usual, some, much)] == [(0, 1), (1, 4), (4, math.inf)]
    assert usual.target == Answers(num_trials=2, num_answers=1, num_wrong=0)
    assert usual.nontarget == Answers(num_trials=2, num_answers=2, num_wrong=1)
    assert (usual.answered, usual.target.wrong, usual.nontarget.wrong) == (0.75, 0.0, 0.5)
    assert usual.eer == 0.5  # at a threshold between 0.5 and 1.5, one of two is wrong on both sides
    bits = [math.log2(1 + math.exp(each)) for each in (-2.0, -0.5, -2.0, 1.5)]
    assert usual.cllr == pytest.approx(sum(bits) / 4)
    # 2 is a target and -2 is none; between them one of each, in the wrong order, so that they cost a bit each
    assert usual.min_cllr == pytest.approx(0.5)
    assert some.target == Answers(num_trials=2, num_answers=2, num_wrong=1)
    assert some.nontarget == Answers(num_trials=0, num_answers=0, num_wrong=0)
    assert (some.eer, some.cllr, some.min_cllr, some.answered, some.nontarget.wrong) == (None, None, None, 1.0, None)
    assert much.nontarget == Answers(num_trials=1, num_answers=0, num_wrong=0)
    assert (much.answered, much.nontarget.wrong, much.target.num_trials) == (0.0, None, 0)
    assert [one.answered for one in by_degree(np.full(6, np.inf), TRIALS, LLRS)] == [None, None, None]


@pytest.mark.parametrize(("llr", "num_answers"), [(math.log(4), 1), (-math.log(4), 1), (1.386, 0), (0.0, 0)])
def test_an_answer_needs_a_probability_of_80_percent(llr: float, num_answers: int) -> None:
    one = Trials(enroll=np.zeros(1, np.int32), test=np.ones(1, np.int32), target=np.array([True]))
    found = by_degree(np.zeros(2), one, np.array([llr]))[0].target
    assert found == Answers(num_trials=1, num_answers=num_answers, num_wrong=int(num_answers and llr < 0))


def test_the_risk_coverage_curve() -> None:
    targets = [math.log(9), math.log(1.5), -math.log(19), 0.0]  # probabilities 0.9, 0.6, 0.05 and no evidence
    nontargets = [-math.log(9), math.log(3), -math.log(999), -math.log(1.5)]  # 0.1, 0.75, 0.001, 0.4
    found = risk_coverage(ROC.from_scores(targets, nontargets))
    at = {round(float(value), 4): number for number, value in enumerate(found.probability)}
    assert (found.probability[0], found.probability[-1]) == (0.5, 0.999)
    assert (np.diff(found.probability) > 0).all()
    for probability, answered, wrong in (
        (0.5, 3 / 4, 1 / 3),
        (0.6, 3 / 4, 1 / 3),
        (0.65, 1 / 2, 1 / 2),
        (0.9, 1 / 2, 1 / 2),
        (0.925, 1 / 4, 1.0),
        (0.95, 1 / 4, 1.0),
        (0.96, 0.0, math.nan),
    ):
        assert found.answered_target[at[probability]] == pytest.approx(answered), probability
        np.testing.assert_allclose(found.wrong_target[at[probability]], wrong)
    for probability, answered, wrong in (
        (0.5, 1.0, 1 / 4),
        (0.65, 3 / 4, 1 / 3),
        (0.75, 3 / 4, 1 / 3),
        (0.8, 1 / 2, 0.0),
        (0.925, 1 / 4, 0.0),
        (0.999, 1 / 4, 0.0),
    ):
        assert found.answered_nontarget[at[probability]] == pytest.approx(answered), probability
        np.testing.assert_allclose(found.wrong_nontarget[at[probability]], wrong, atol=1e-15)


def test_beyond_the_bounds_only_one_answer_is_possible() -> None:
    clipped = np.clip([5.0, 3.0], -3.0, 4.0), np.clip([-9.0, 3.5], -3.0, 4.0)
    found = risk_coverage(ROC.from_scores(*clipped), (-3.0, 4.0))
    assert found.probability[found.both_possible].max() == 0.95  # 1 / (1 + exp(-3)) is 0.9526
    at = int(np.flatnonzero(found.probability == 0.96)[0])
    assert (found.answered_nontarget[at], found.wrong_nontarget[at]) == (0.5, 1.0)  # 3.5 of two speakers
    assert risk_coverage(ROC.from_scores(*clipped)).both_possible.all()
    least = risk_coverage(ROC.from_scores(*clipped), (-math.log(4), math.log(4)))
    assert least.probability[least.both_possible].max() == 0.8


def test_the_curve_and_the_degrees_count_the_same_answers() -> None:
    rng = np.random.default_rng(5)
    target = np.arange(2000) % 3 == 0
    llrs = np.where(target, 1.5, -1.5) + 2 * rng.standard_normal(2000)
    all_trials = Trials(enroll=np.zeros(2000, np.int32), test=np.ones(2000, np.int32), target=target)
    degree = by_degree(np.zeros(2), all_trials, llrs)[0]
    curve = risk_coverage(ROC.from_trials(llrs, target))
    at = int(np.flatnonzero(curve.probability == 0.8)[0])
    assert curve.answered_target[at] == pytest.approx(degree.target.num_answers / degree.target.num_trials)
    assert curve.wrong_target[at] == pytest.approx(degree.target.wrong)
    assert curve.wrong_nontarget[at] == pytest.approx(degree.nontarget.wrong)


def test_without_it_a_calibrated_system_says_why(aware: Verifier) -> None:
    roc = ROC.from_trials(LLRS, TRIALS.target)
    unaware = replace(aware, condition=None)
    for verifier, condition, why in (
        (aware, CONDITION, ""),
        (aware, None, NOT_MEASURED),
        (aware, np.full((6, 6), np.nan, np.float32), NOT_MEASURED),
        (unaware, CONDITION, NOT_LEARNED),
        (replace(unaware, bounds=None), CONDITION, EARLIER_VERSION),
    ):
        assert why_no_shift(verifier, condition) == why
        assert (measure_shift(verifier, condition, TRIALS, LLRS, roc) is None) == bool(why)
    assert why_no_shift(cosine_verifier(), CONDITION) == ""
    assert measure_shift(cosine_verifier(), CONDITION, TRIALS, None, roc) is None


def test_metrics_json_has_it_as_plain_values(aware: Verifier) -> None:
    found = measure_shift(aware, CONDITION, TRIALS, LLRS, ROC.from_trials(LLRS, TRIALS.target))
    assert found is not None
    table = shift_to_dict(found)
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert table["num_shifted"] == 3
    assert table["unusual"][0] == {"words": "much sound above 4 kHz", "num_recordings": 2}
    assert table["degrees"][2] == {
        "low": 4.0,
        "high": None,
        "eer": None,
        "cllr": None,
        "min_cllr": None,
        "answered": 0.0,
        "target": {"num_trials": 0, "num_answers": 0, "num_wrong": 0, "wrong": None},
        "nontarget": {"num_trials": 1, "num_answers": 0, "num_wrong": 0, "wrong": None},
    }
    assert table["coverage"][6]["probability"] == 0.8
    assert table["coverage"][6]["answered_target"] == pytest.approx(3 / 4)  # 2, -3 and 4 of 2, 0.5, -3 and 4
    measured = evaluation()
    measured = replace(
        measured, measures={**measured.measures, "min_dcf": Measure(name="minDCF", value=0.5, unit="cost")}
    )
    assert [one["both_possible"] for one in table["coverage"]] == 11 * [True] + 6 * [False]  # up to 0.95
    whole = evaluation_to_dict(with_shift(measured))
    assert whole["llr_bounds"] == {"least_llr": -3.0, "greatest_llr": 7.0}
    assert whole["shift"]["num_usual"] == 36
    without = evaluation_to_dict(measured)
    assert (without["shift"], without["no_shift"], without["llr_bounds"]) == (None, EARLIER_VERSION, None)
