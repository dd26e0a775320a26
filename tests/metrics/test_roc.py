"""Measures read from the ROC against scikit-learn, brute force over all thresholds, and cases worked out by hand."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics import (
    ROC,
    ScoreHistogram,
    actual_dcf,
    auc,
    bayes_threshold,
    calibration_loss,
    cllr,
    det_curve,
    eer,
    min_cllr,
    min_dcf,
    rocch_eer,
    tpr_at_fpr,
)
from xvectors.trials import sorting

SIDE = st.lists(st.integers(-6, 6).map(lambda half: half / 2), min_size=1, max_size=30)
MEASURES = [eer, rocch_eer, min_dcf, actual_dcf, cllr, min_cllr, calibration_loss, auc, det_curve]


def gaussians(seed: int = 0, decimals: int = 2) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(1.5, 1, 400).round(decimals), rng.normal(0, 1, 3000).round(decimals)


def gaussian_llrs(d: float, num: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores that are their own log-likelihood ratios: N(d/2, d) for targets, N(-d/2, d) for non-targets."""
    rng = np.random.default_rng(seed)
    return rng.normal(d / 2, math.sqrt(d), num), rng.normal(-d / 2, math.sqrt(d), num)


def test_the_convex_hull_by_hand() -> None:
    # Operating points (FRR, FAR): (0, 1), (0, 1/2), (1/2, 1/2), (1/2, 0), (1, 0); the hull spans (0, 1/2) to (1/2, 0)
    # and crosses FRR = FAR at 1/4, where the plain curve crosses at 1/2.
    assert rocch_eer([1, 3], [0, 2]).eer == 0.25
    assert eer([1, 3], [0, 2]).eer == 0.5
    assert ROC.from_scores([1, 3], [0, 2]).hull.tolist() == [0, 1, 3, 4]


@settings(deadline=None)
@given(SIDE, SIDE)
def test_the_hull_equals_scipys_and_its_eer_is_the_worst_of_the_least_total_errors(
    target: list[float], nontarget: list[float]
) -> None:
    curve = ROC.from_scores(target, nontarget)
    points = np.stack([curve.frr, curve.far], axis=1)
    corners = {tuple(np.round(point, 9)) for point in points[curve.hull]}
    outer = np.vstack([points, [[1.0, 1.0]]])
    lower = {tuple(np.round(outer[at], 9)) for at in ConvexHull(outer).vertices} - {(1.0, 1.0)}
    assert lower <= corners
    priors = np.linspace(0, 1, 2001)[:, None]
    least = (priors * curve.frr + (1 - priors) * curve.far).min(axis=1)
    assert curve.rocch_eer().eer == pytest.approx(least.max(), abs=5e-4)
    assert curve.rocch_eer().eer <= curve.eer().eer + 1e-12


def test_pooling_in_blocks_gives_the_same_hull(monkeypatch: pytest.MonkeyPatch) -> None:
    target, nontarget = gaussians()
    whole = ROC.from_scores(target, nontarget)
    monkeypatch.setattr(sorting, "BLOCK", 37)
    parts = ROC.from_scores(target, nontarget)
    np.testing.assert_array_equal(parts.misses, whole.misses)
    np.testing.assert_array_equal(parts.hull, whole.hull)
    for measure in (ROC.min_dcf, ROC.rocch_eer, ROC.eer):
        assert measure(parts) == measure(whole)
    for number in (ROC.cllr, ROC.min_cllr, ROC.auc):
        assert number(parts) == pytest.approx(number(whole), abs=1e-12)


@settings(deadline=None)
@given(SIDE, SIDE, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_trials_and_sides_give_the_same_curve(target: list[float], nontarget: list[float], mixed, kind) -> None:
    trials = [(score, True) for score in target] + [(score, False) for score in nontarget]
    mixed.shuffle(trials)
    scores, labels = np.array([score for score, _ in trials], dtype=kind), np.array([label for _, label in trials])
    expected = ROC.from_scores(np.array(target, dtype=kind), np.array(nontarget, dtype=kind))
    distinct = np.unique(scores)
    np.testing.assert_array_equal(expected.thresholds, np.append(distinct, np.inf))
    np.testing.assert_array_equal(expected.misses, [*(np.sum(target < t) for t in distinct), len(target)])
    np.testing.assert_array_equal(expected.false_accepts, [*(np.sum(nontarget >= t) for t in distinct), 0])
    given_away = scores.copy()
    with mock.patch.object(sorting, "BLOCK", 7):  # several blocks, and threads
        for found in (
            ROC.from_trials(scores, labels),
            ROC.from_trials(given_away, labels, overwrite_scores=True),
        ):
            assert found.thresholds.dtype == expected.thresholds.dtype == kind
            for column in ("thresholds", "misses", "false_accepts", "num_target", "num_nontarget"):
                np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    np.testing.assert_array_equal(scores, [score for score, _ in trials])


def test_trials_of_one_kind_or_another_length_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"^no non-target trials: "):
        ROC.from_trials([1.0, 2.0], np.array([True, True]))
    with pytest.raises(ManifestError, match=r"^no target trials: "):
        ROC.from_trials([1.0, 2.0], np.array([False, False]))
    with pytest.raises(ShapeError, match=r"^there are 2 scores, but 3 trials: give one score a trial$"):
        ROC.from_trials([1.0, 2.0], np.array([True, True, False]))


@settings(deadline=None)
@given(SIDE, SIDE)
def test_auc_equals_scikit_learns(target: list[float], nontarget: list[float]) -> None:
    labels = [1] * len(target) + [0] * len(nontarget)
    assert auc(target, nontarget) == pytest.approx(roc_auc_score(labels, target + nontarget), abs=1e-12)


@settings(deadline=None)
@given(SIDE, SIDE)
def test_cllr_equals_scikit_learns_log_loss(target: list[float], nontarget: list[float]) -> None:
    scores = np.array(target + nontarget)
    labels = np.repeat([1, 0], [len(target), len(nontarget)])
    weights = np.where(labels == 1, 0.5 / len(target), 0.5 / len(nontarget))
    peer = log_loss(labels, 1 / (1 + np.exp(-scores)), sample_weight=weights) / math.log(2)
    assert cllr(target, nontarget) == pytest.approx(peer, abs=1e-9)


@settings(deadline=None)
@given(SIDE, SIDE)
def test_min_cllr_equals_the_log_loss_of_scikit_learns_isotonic_regression(
    target: list[float], nontarget: list[float]
) -> None:
    scores = np.array(target + nontarget)
    labels = np.repeat([1.0, 0.0], [len(target), len(nontarget)])
    weights = np.where(labels == 1, 0.5 / len(target), 0.5 / len(nontarget))
    fitted = np.clip(IsotonicRegression().fit_transform(scores, labels, sample_weight=weights), 1e-15, 1 - 1e-15)
    peer = -np.dot(weights, labels * np.log2(fitted) + (1 - labels) * np.log2(1 - fitted))
    assert min_cllr(target, nontarget) == pytest.approx(peer, abs=1e-9)


def test_cllr_by_hand() -> None:
    assert cllr([0.0], [0.0]) == pytest.approx(1.0)
    # log2(1 + 1/3) for both sides when the odds are 3 to 1 and right.
    assert cllr([math.log(3)], [-math.log(3)]) == pytest.approx(math.log2(4 / 3))
    assert cllr([-800.0], [-800.0]) == pytest.approx(400 / math.log(2))
    assert min_cllr([1, 2], [-1, 0]) == 0.0
    assert min_cllr([0, 1], [2, 3]) == 1.0


def test_scores_that_are_llrs_lose_nothing_to_calibration_and_their_double_does() -> None:
    target, nontarget = gaussian_llrs(6.0, 20_000)
    assert abs(calibration_loss(target, nontarget)) < 0.005
    assert calibration_loss(2 * target, 2 * nontarget) > 0.05
    assert eer(target, nontarget).eer == pytest.approx(norm.cdf(-math.sqrt(6.0) / 2), abs=0.005)
    assert actual_dcf(target, nontarget, 0.05) == pytest.approx(min_dcf(target, nontarget, 0.05).min_dcf, abs=0.02)


def test_actual_dcf_by_hand() -> None:
    assert bayes_threshold(0.01) == pytest.approx(math.log(99))
    assert bayes_threshold(0.5, c_miss=10, c_fa=1) == pytest.approx(-math.log(10))
    # Threshold log 9 = 2.197: one of two targets lost, one of four non-targets in; 1/2 + 9/4.
    assert actual_dcf([1.0, 3.0], [-1.0, 0.0, 1.0, 2.5], p_target=0.1) == pytest.approx(0.5 + 9 / 4)


def test_tpr_at_fpr_by_hand() -> None:
    target, nontarget = [0.5, 0.9, 0.9], [0.1, 0.5, 0.5, 0.7]
    assert tpr_at_fpr(target, nontarget, 0.0) == pytest.approx(2 / 3)
    assert tpr_at_fpr(target, nontarget, 0.3) == pytest.approx(2 / 3)
    assert tpr_at_fpr(target, nontarget, 0.75) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match=r"^the false acceptance rate is 1\.5: give a share from 0 to 1$"):
        tpr_at_fpr(target, nontarget, 1.5)


def test_rates_at_a_threshold_are_those_of_a_comparison() -> None:
    target, nontarget = (side.astype(np.float32) for side in gaussians(decimals=1))
    curve = ROC.from_scores(target, nontarget)
    for threshold in (-9.0, -0.1, 0.0, 0.1, 0.3, 1.05, 9.0, np.inf):
        assert curve.rates_at(threshold) == (np.mean(target < threshold), np.mean(nontarget >= threshold))
    with pytest.raises(ConfigError, match=r"^a threshold is nan"):
        curve.rates_at(math.nan)


def test_det_points_are_operating_points_on_normal_deviate_axes() -> None:
    target, nontarget = gaussians(decimals=8)
    curve = det_curve(target, nontarget)
    assert len(curve.frr) < 3401
    np.testing.assert_allclose(norm.cdf(curve.probit_frr), curve.frr)
    np.testing.assert_allclose(norm.cdf(curve.probit_far), curve.far)
    for threshold, frr, far in zip(curve.thresholds[::50], curve.frr[::50], curve.far[::50], strict=True):
        assert (frr, far) == (np.mean(target < threshold), np.mean(nontarget >= threshold))
    assert (curve.frr[0], curve.far[0], curve.frr[-1], curve.far[-1]) == (0, 1, 1, 0)
    assert curve.probit_far[-1] == -np.inf
    # No visible gap between neighbors where the curve is drawn, but for the steps of single trials.
    drawn = (curve.frr > 0.02) & (curve.frr < 0.98) & (curve.far > 0.02) & (curve.far < 0.98)
    assert np.abs(np.diff(curve.probit_frr[drawn])).max() < 0.1
    small = det_curve([1, 2], [0])
    assert small.frr.tolist() == [0, 0, 0.5, 1]


def test_a_histogram_measures_what_the_scores_do() -> None:
    target, nontarget = gaussian_llrs(6.0, 20_000)
    histogram, other = ScoreHistogram(-30, 30, 100_000), ScoreHistogram(-30, 30, 100_000)
    histogram.add(target[:5000])
    histogram.add(target[5000:], nontarget[:700])
    other.add(nontarget_scores=nontarget[700:])
    histogram.merge(other)
    exact, binned = ROC.from_scores(target, nontarget), histogram.roc()
    assert (binned.num_target, binned.num_nontarget) == (20_000, 20_000)
    assert binned.eer().eer == pytest.approx(exact.eer().eer, abs=2e-4)
    assert binned.rocch_eer().eer == pytest.approx(exact.rocch_eer().eer, abs=2e-4)
    assert binned.min_dcf(0.05).min_dcf == pytest.approx(exact.min_dcf(0.05).min_dcf, abs=2e-3)
    assert binned.cllr() == pytest.approx(exact.cllr(), abs=1e-3)
    # a bin's width in bits bounds Cllr; PAV pools scores that share a bin, which only ever costs something
    assert 0 <= binned.min_cllr() - exact.min_cllr() < 1e-3
    assert exact.min_cllr() == pytest.approx(exact.cllr(), abs=0.01)
    assert binned.auc() == pytest.approx(exact.auc(), abs=1e-5)


def test_a_histogram_is_exact_at_its_edges_and_counts_what_lies_outside() -> None:
    histogram = ScoreHistogram(0, 4, 4)
    histogram.add([0.5, 2.5, 9.0], [-3.0, 1.5, 1.0])
    curve = histogram.roc()
    assert curve.thresholds.tolist() == [0, 1, 2, 3, math.inf]
    assert curve.misses.tolist() == [0, 1, 1, 2, 3]
    assert curve.false_accepts.tolist() == [3, 2, 0, 0, 0]


def test_impossible_histograms_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^the histogram reaches from 1 to 1: give two finite numbers"):
        ScoreHistogram(1, 1)
    with pytest.raises(ConfigError, match=r"^num_bins is 0: give at least 1$"):
        ScoreHistogram(num_bins=0)
    with pytest.raises(ShapeError, match=r"cannot be merged: make both with the same range and number of bins$"):
        ScoreHistogram(num_bins=2).merge(ScoreHistogram(num_bins=3))
    histogram = ScoreHistogram()
    with pytest.raises(ShapeError, match=r"^target score 0 is nan: every score must be a finite number$"):
        histogram.add([math.nan], [0.0])
    histogram.add([0.5])
    with pytest.raises(ManifestError, match=r"^no non-target trials: "):
        histogram.roc()


@pytest.mark.parametrize("measure", MEASURES)
def test_unusable_scores_are_refused(measure) -> None:
    for target, nontarget, error, message in [
        ([], [1.0], ManifestError, "no target trials: error rates need scores of target and of non-target trials"),
        ([1.0], [], ManifestError, "no non-target trials: error rates need scores of target and of non-target trials"),
        ([1.0, math.nan], [1.0], ShapeError, "target score 1 is nan: every score must be a finite number"),
        ([1.0], [0.0, -math.inf], ShapeError, "non-target score 1 is -inf: every score must be a finite number"),
    ]:
        with pytest.raises(error) as caught:
            measure(target, nontarget)
        assert str(caught.value) == message


def test_labels_of_trials_may_be_zeros_and_ones() -> None:
    scores, labels = [3.0, 1.0, 2.0, 0.0], [1, 0, 1, 0]
    by_hand = ROC.from_scores([3.0, 2.0], [1.0, 0.0])
    for target in (labels, np.array(labels), np.array(labels, dtype=float), np.array(labels, dtype=bool)):
        roc = ROC.from_trials(scores, target)
        assert roc.thresholds.tolist() == by_hand.thresholds.tolist()
        assert roc.misses.tolist() == by_hand.misses.tolist()
        assert roc.false_accepts.tolist() == by_hand.false_accepts.tolist()
    with pytest.raises(ShapeError, match=r"^label 2 is 2: give 1 for target and 0 for non-target trials$"):
        ROC.from_trials(scores, [1, 0, 2, 0])
    with pytest.raises(ShapeError, match=r"^labels are of type <U6: give 1 for target and 0 for non-target trials$"):
        ROC.from_trials(scores[:1], ["target"])
