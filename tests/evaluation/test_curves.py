"""The curves of an evaluation against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xvectors.errors import ShapeError
from xvectors.evaluation.curves import DET, measure_curves, score_densities
from xvectors.metrics import ROC, LeastCost


def test_the_det_curve_is_that_of_the_roc() -> None:
    roc = ROC.from_scores([2.0, 3.0, 0.5], [0.0, 1.0, -1.0, 2.5])
    det = DET.from_roc(roc)
    np.testing.assert_array_equal(det.frr, roc.frr)
    np.testing.assert_array_equal(det.far, roc.far)
    assert (det.eer, det.num_target, det.num_nontarget) == (roc.eer().eer, 3, 4)


def test_only_llrs_have_calibration_curves() -> None:
    scores, target = np.array([2.0, 3.0, 0.0, 1.0]), np.array([True, True, False, False])
    roc = ROC.from_trials(scores, target)
    cost = LeastCost(0.1)
    of_llrs = measure_curves(roc, scores, target, threshold=0.5, cost=cost, are_llrs=True)
    assert of_llrs.reliability is not None
    assert of_llrs.ape is not None
    assert of_llrs.prior_log_odds == pytest.approx(math.log(0.1 / 0.9))
    of_scores = measure_curves(roc, scores, target, threshold=0.5, cost=cost, are_llrs=False)
    assert (of_scores.reliability, of_scores.ape) == (None, None)


def test_densities_integrate_to_one_and_part_at_the_threshold() -> None:
    rng = np.random.default_rng(0)
    target, nontarget = rng.normal(0.6, 0.1, 1000), rng.normal(0.1, 0.1, 20_000)
    found = score_densities(target, nontarget, 0.31)
    widths = np.diff(found.edges)
    for density, scores in ((found.target, target), (found.nontarget, nontarget)):
        assert (density * widths).sum() == pytest.approx(1)
        above = found.edges[:-1] >= 0.31 - 1e-9
        assert (density * widths)[above].sum() == pytest.approx(np.mean(scores >= 0.31), abs=1e-9)
    assert (found.num_target, found.num_nontarget, found.threshold) == (1000, 20_000, 0.31)


@pytest.mark.parametrize(("target", "nontarget"), [([1.0, 1.0], [1.0]), ([0.0], [0.0]), ([-1e9, 1e9], [0.0])])
def test_densities_of_constant_and_far_apart_scores(target: list[float], nontarget: list[float]) -> None:
    found = score_densities(target, nontarget, 0.5)
    assert (found.target * np.diff(found.edges)).sum() == pytest.approx(1)
    assert found.edges[0] < min(0.5, *target)
    assert found.edges[-1] > max(0.5, *target)


def test_unusable_scores_have_no_densities() -> None:
    for bad in ([], [np.nan], [[1.0]]):
        with pytest.raises(ShapeError, match=r"^target scores must be a list of finite numbers, at least one$"):
            score_densities(bad, [1.0], 0.5)
    with pytest.raises(ShapeError, match=r"^the threshold is inf: give a finite number$"):
        score_densities([1.0], [0.0], np.inf)
