"""Error rates against hand-computed cases, scikit-learn's ROC, brute force, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics import eer, error_rates, min_dcf

# Few distinct values, so that ties within and between the sides are the rule; halves are exact in binary.
SIDE = st.lists(st.integers(-6, 6).map(lambda half: half / 2), min_size=1, max_size=30)


def gaussians(seed: int = 0, decimals: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(1.5, 1, 300).round(decimals), rng.normal(0, 1, 2000).round(decimals)


def test_error_rates_by_hand() -> None:
    thresholds, frr, far = error_rates([0.5, 0.9, 0.9], [0.1, 0.5, 0.5, 0.7])
    np.testing.assert_array_equal(thresholds, [0.1, 0.5, 0.7, 0.9, np.inf])
    np.testing.assert_allclose(frr, [0, 0, 1 / 3, 1 / 3, 1])
    np.testing.assert_allclose(far, [1, 3 / 4, 1 / 4, 0, 0])


def test_error_rates_keep_single_precision_only_where_both_sides_have_it() -> None:
    single, double = np.float32([0.1]), np.float64([0.2])
    assert error_rates(single, single + 1)[0].dtype == np.float32
    assert error_rates(single, double)[0].dtype == np.float64
    assert error_rates([1], [2])[0].dtype == np.float64


@pytest.mark.parametrize(
    ("target", "nontarget", "expected", "threshold"),
    [
        ([2, 3], [0, 1], 0.0, 1.5),  # perfect: the middle of the gap
        ([0, 1], [2, 3], 1.0, 1.5),  # inverted
        ([1, 1, 1], [1, 1], 0.5, 1.0),  # constant: accept all or nothing
        ([1, 3], [0, 2], 0.5, 1.5),  # t = 2: one of two targets lost, one of two non-targets in
        ([1, 2, 3, 4], [0, 0, 0, 2.5], 0.25, 1.5),  # t = 2: FRR 1/4, FAR 1/4
        # From (FRR 0, FAR 1/3) to (1/2, 1/3): crosses at 1/3, nearer to the later point.
        ([1, 3], [0, 0, 2], 1 / 3, 1.5),
        # Target and non-target tie at 1: the line runs from (0, 1/2) to (1/2, 0) and crosses at 1/4, halfway.
        ([1, 2], [0, 1], 0.25, 0.5),
    ],
)
def test_eer_by_hand(target: list[float], nontarget: list[float], expected: float, threshold: float) -> None:
    result = eer(target, nontarget)
    assert result.eer == pytest.approx(expected, abs=1e-12)
    assert result.threshold == threshold


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_eer_equals_that_of_scikit_learns_roc_curve(seed: int, decimals: int) -> None:
    target, nontarget = gaussians(seed, decimals)
    labels = np.repeat([1, 0], [len(target), len(nontarget)])
    fpr, tpr, _ = roc_curve(labels, np.concatenate([target, nontarget]), drop_intermediate=False)
    peer = brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1, xtol=1e-14)
    assert eer(target, nontarget).eer == pytest.approx(peer, abs=1e-9)


def test_error_rates_equal_scikit_learns_roc_curve() -> None:
    target, nontarget = gaussians()
    labels = np.repeat([1, 0], [len(target), len(nontarget)])
    fpr, tpr, _ = roc_curve(labels, np.concatenate([target, nontarget]), drop_intermediate=False)
    _, frr, far = error_rates(target, nontarget)
    np.testing.assert_allclose(far[::-1], fpr, atol=1e-12)
    np.testing.assert_allclose(1 - frr[::-1], tpr, atol=1e-12)


@settings(deadline=None)
@given(SIDE, SIDE)
def test_eer_is_symmetric_when_scores_and_sides_are_mirrored(target: list[float], nontarget: list[float]) -> None:
    mirrored = eer(-np.array(nontarget), -np.array(target))
    assert mirrored.eer == pytest.approx(eer(target, nontarget).eer, abs=1e-12)


@settings(deadline=None)
@given(SIDE, SIDE)
def test_rates_do_not_change_under_a_monotone_map(target: list[float], nontarget: list[float]) -> None:
    mapped = np.exp(target), np.exp(nontarget)
    assert eer(*mapped).eer == eer(target, nontarget).eer
    assert min_dcf(*mapped).min_dcf == min_dcf(target, nontarget).min_dcf


@settings(deadline=None)
@given(SIDE, SIDE, st.sampled_from([0.01, 0.05, 0.5, 0.9]), st.sampled_from([1.0, 10.0]))
def test_min_dcf_equals_brute_force_and_its_threshold_attains_it(
    target: list[float], nontarget: list[float], p_target: float, c_miss: float
) -> None:
    def cost(threshold: float) -> float:
        miss = np.mean(np.array(target) < threshold) * c_miss * p_target
        false_alarm = np.mean(np.array(nontarget) >= threshold) * (1 - p_target)
        return float((miss + false_alarm) / min(c_miss * p_target, 1 - p_target))

    result = min_dcf(target, nontarget, p_target=p_target, c_miss=c_miss)
    assert result.min_dcf == pytest.approx(min(map(cost, [*target, *nontarget, np.inf])), abs=1e-12)
    assert result.min_dcf <= 1 + 1e-12
    assert cost(result.threshold) == pytest.approx(result.min_dcf, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=20))
def test_the_threshold_decides_single_precision_scores_as_the_operating_point_does(
    scores: list[float],
) -> None:
    target, nontarget = np.float32(scores[::2]), np.float32(scores[1::2])
    result = min_dcf(target, nontarget, p_target=0.5)
    rates = np.mean(target < result.threshold) + np.mean(nontarget >= result.threshold)
    assert float(rates) == pytest.approx(result.min_dcf, abs=1e-6)


def test_neighboring_single_precision_scores_are_still_parted() -> None:
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2))
    result = eer(np.array([high]), np.array([low]))
    assert result.eer == 0
    assert np.array([high]) >= result.threshold
    assert np.array([low]) < result.threshold


def test_min_dcf_by_hand() -> None:
    # Rejecting all costs 1; accepting from 0.7 on costs 1/3 + 99/4; from 0.9 on the missed third alone.
    result = min_dcf([0.5, 0.9, 0.9], [0.1, 0.5, 0.5, 0.7])
    assert result.min_dcf == pytest.approx(1 / 3)
    assert result.threshold == pytest.approx(0.8)
    assert min_dcf([0], [1]).min_dcf == 1
    assert min_dcf([0], [1]).threshold == np.inf


@pytest.mark.parametrize("metric", [eer, min_dcf, error_rates])
@pytest.mark.parametrize(
    ("target", "nontarget", "error", "message"),
    [
        (
            [],
            [1.0],
            ManifestError,
            "no target trials: error rates need scores of target and of non-target trials",
        ),
        ([1.0], [], ManifestError, "no non-target trials: error rates need"),
        ([1.0, np.nan], [1.0], ShapeError, "target score 1 is nan: every score must be a finite number"),
        ([1.0], [0.0, 1.0, np.inf], ShapeError, "non-target score 2 is inf: every score"),
        ([[1.0]], [1.0], ShapeError, "target scores have the shape [1, 1]: give one number a trial"),
        (1.0, [1.0], ShapeError, "target scores have the shape []"),
        (["high"], [1.0], ShapeError, "target scores are of type <U4: give real numbers"),
        ([True], [1.0], ShapeError, "target scores are of type bool"),
        ([1j], [1.0], ShapeError, "target scores are of type complex128"),
    ],
)
def test_unusable_scores_are_refused(metric, target, nontarget, error, message) -> None:
    with pytest.raises(error) as caught:
        metric(target, nontarget)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"p_target": 0.0}, "p_target is 0.0: give the share of target trials, above 0 and below 1"),
        ({"p_target": 1.0}, "p_target is 1.0: give the share of target trials, above 0 and below 1"),
        ({"p_target": float("nan")}, "p_target is nan: give the share of target trials, above 0 and below 1"),
        ({"c_miss": 0.0}, "c_miss is 0.0: give a cost above 0"),
        ({"c_fa": float("inf")}, "c_fa is inf: give a cost above 0"),
    ],
)
def test_impossible_costs_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        min_dcf([1.0], [0.0], **setting)
    assert str(caught.value) == message
