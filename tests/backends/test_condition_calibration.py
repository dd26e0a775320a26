"""Calibration for conditions: unchanged within the usual range, right beyond it, silent beyond all that was tested."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.backends import ConditionCalibration
from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.metrics import ROC

NAMES, LEAST = ("band", "noise"), (1.0, 1.0)
MEAN_LLR = 4.0


def trials(num_trials: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True LLRs of normal scores: means of plus and minus 4, variance 8."""
    target = np.arange(num_trials) % 2 == 0
    return np.where(target, MEAN_LLR, -MEAN_LLR) + rng.normal(size=num_trials) * np.sqrt(2 * MEAN_LLR), target


def conditions(num_trials: int, rng: np.random.Generator, band: float = 0.0) -> np.ndarray:
    return np.column_stack([band + rng.uniform(-1, 1, num_trials), rng.uniform(-1, 1, num_trials)])


@pytest.fixture(scope="module")
def fitted() -> ConditionCalibration:
    """Telephones on both sides add 3 to LLRs, those on one side take 3 away and halve them."""
    rng = np.random.default_rng(0)
    llrs, target, enroll, test = [], [], [], []
    for left, right in ((0, 0), (-9, -9), (0, -9)):
        values, labels = trials(4000, rng)
        seen = {(0, 0): values, (-9, -9): values + 3, (0, -9): values / 0.5 - 3}[left, right]
        llrs.append(seen)
        target.append(labels)
        enroll.append(conditions(4000, rng, left))
        test.append(conditions(4000, rng, right))
    usual = conditions(5000, rng)
    return ConditionCalibration(NAMES, LEAST).fit(usual, *map(np.concatenate, (llrs, target, enroll, test)))


def cllr(llrs: np.ndarray, target: np.ndarray) -> float:
    return ROC.from_scores(llrs[target], llrs[~target]).cllr()


def test_trials_of_usual_recordings_keep_their_llr(fitted: ConditionCalibration) -> None:
    rng = np.random.default_rng(1)
    llrs, _ = trials(1000, rng)
    usual = 0.95 * conditions(1000, rng), 0.95 * conditions(1000, rng)
    np.testing.assert_array_equal(fitted.transform(llrs, *usual), llrs)
    np.testing.assert_array_equal(fitted.transform(llrs, np.full((1000, 2), np.nan), usual[1]), llrs)


def test_the_usual_range_is_that_of_96_percent(fitted: ConditionCalibration) -> None:
    np.testing.assert_allclose(fitted.low_, -0.96, atol=0.02)
    np.testing.assert_allclose(fitted.high_, 0.96, atol=0.02)
    np.testing.assert_allclose(fitted.spread_, 1.0)  # a quarter of the range is less than the least
    excess = fitted.excess([[fitted.low_[0] - 0.5, 0.0], [0.0, fitted.high_[1] + 2.5], [np.nan, 0.0]])
    np.testing.assert_allclose(excess, [[0.5, 0, 0, 0], [0, 0, 0, 2.5], [0, 0, 0, 0]], atol=1e-12)


def test_measures_of_short_speech_are_moved_towards_the_middle(fitted: ConditionCalibration) -> None:
    middle = (fitted.low_ + fitted.high_) / 2
    far = middle + [[-8.0, 4.0]] * 4
    steady = fitted.steady(far, [2.0, 0.5, 10.0, np.nan])
    np.testing.assert_allclose(steady - middle, [[-8, 4], [-4, 2], [-8, 4], [-8, 4]])  # sqrt(0.5 / 2) is a half
    assert np.isnan(fitted.steady([[np.nan, 0.0]], [0.5])[0, 0])


@pytest.mark.parametrize(("left", "right"), [(-9, -9), (0, -9)])
def test_trials_under_a_learned_shift_are_calibrated(fitted: ConditionCalibration, left: int, right: int) -> None:
    rng = np.random.default_rng(2)
    true, target = trials(4000, rng)
    seen = true + 3 if left else true / 0.5 - 3
    enroll, test = conditions(4000, rng, left), conditions(4000, rng, right)
    found = fitted.transform(seen, enroll, test)
    assert cllr(seen, target) - cllr(true, target) > 0.2
    assert cllr(found, target) - cllr(true, target) < 0.02
    np.testing.assert_array_equal(found, fitted.transform(seen, test, enroll))  # the sides can be exchanged


def test_beyond_all_that_was_tested_the_llr_is_0(fitted: ConditionCalibration) -> None:
    far, usual = np.array([[-30.0, 0.0]]), np.zeros((1, 2))
    assert fitted.is_untested(far).tolist() == [True]
    assert fitted.is_untested(np.array([[-9.0, 0.0]])).tolist() == [False]
    assert fitted.transform([7.0], far, usual).tolist() == [0.0]
    assert fitted.transform([-7.0], usual, far).tolist() == [0.0]


def test_no_condition_makes_evidence_stronger_or_turns_scores_around(fitted: ConditionCalibration) -> None:
    rng = np.random.default_rng(3)
    sides = rng.uniform(-9, 9, (500, 2)), rng.uniform(-9, 9, (500, 2))
    low, high = (fitted.transform(np.full(500, llr), *sides) for llr in (-5.0, 5.0))
    assert ((high - low >= 0) & (high - low <= 10 + 1e-9)).all()


def test_blocks_do_not_change_the_result(fitted: ConditionCalibration, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    llrs, _ = trials(1000, rng)
    sides = conditions(1000, rng, -9), conditions(1000, rng)
    whole = fitted.transform(llrs, *sides)
    monkeypatch.setattr("xvectors.backends.condition.BLOCK", 7)
    np.testing.assert_allclose(fitted.transform(llrs, *sides), whole, rtol=1e-12)


def test_it_is_restored_from_its_table(fitted: ConditionCalibration) -> None:
    again = ConditionCalibration.from_dict(fitted.to_dict())
    rng = np.random.default_rng(5)
    llrs, _ = trials(200, rng)
    sides = conditions(200, rng, -9), conditions(200, rng, 3)
    np.testing.assert_array_equal(again.transform(llrs, *sides), fitted.transform(llrs, *sides))
    for key, value in (("weights", [1.0]), ("low", [np.nan, 0.0]), ("spread", "wide"), ("names", 3)):
        with pytest.raises(CheckpointError, match="calibrat"):
            ConditionCalibration.from_dict({**fitted.to_dict(), key: value})
    with pytest.raises(CheckpointError, match="spread"):
        ConditionCalibration.from_dict({key: value for key, value in fitted.to_dict().items() if key != "spread"})


def test_wrong_shapes_are_named(fitted: ConditionCalibration) -> None:
    with pytest.raises(ShapeError, match=r"numbers \[n, 2\]"):
        fitted.transform([1.0], np.zeros((1, 3)), np.zeros((1, 2)))
    with pytest.raises(ShapeError, match="2 LLRs, but 1 and 1"):
        fitted.transform([1.0, 2.0], np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ConfigError, match="2 measures"):
        ConditionCalibration(NAMES, (1.0,))
    with pytest.raises(ShapeError, match="noise is unknown"):
        ConditionCalibration(NAMES, LEAST).fit(
            np.array([[0.0, np.nan]]), [1.0, -1.0], [True, False], np.zeros((2, 2)), np.zeros((2, 2))
        )
