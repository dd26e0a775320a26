"""Fusion against scikit-learn's logistic regression and Gaussian scores whose ratio is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from xvectors.backends import Fusion, calibration
from xvectors.errors import ConfigError, ManifestError, ShapeError, TrainingError


@pytest.fixture
def scores() -> tuple[Any, Any]:
    """Of two systems with errors of their own: 200 target and 500 non-target trials."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 2)) * [1, 5] + [2, 100], rng.normal(size=(500, 2)) * [1, 5] + [0, 92]


@pytest.mark.parametrize("p_target", [0.01, 0.5, 0.9])
def test_it_is_scikit_learns_logistic_regression(scores: tuple[Any, Any], p_target: float) -> None:
    target, nontarget = scores
    ours = Fusion(p_target=p_target, penalty=1e-9).fit(target, nontarget)
    weights = np.repeat([p_target / len(target), (1 - p_target) / len(nontarget)], [len(target), len(nontarget)])
    design = np.vstack([target, nontarget]) / [1, 5] - [0, 19]
    peer = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(
        design, np.repeat([1, 0], [len(target), len(nontarget)]), sample_weight=weights
    )
    log_odds = peer.decision_function(design) - np.log(p_target / (1 - p_target))
    np.testing.assert_allclose(ours.transform(np.vstack([target, nontarget])), log_odds, rtol=1e-3, atol=1e-3)


def test_it_finds_the_known_ratio_of_gaussian_scores() -> None:
    # Target scores N(mu, 1), non-target N(-mu, 1) in each of two independent systems: the ratio is 2 mu . s.
    rng = np.random.default_rng(1)
    mu = np.array([0.6, 1.2])
    found = Fusion().fit(rng.normal(size=(40_000, 2)) + mu, rng.normal(size=(40_000, 2)) - mu)
    np.testing.assert_allclose(found.weights_, 2 * mu, atol=0.06)
    np.testing.assert_allclose(found.offset_, 0, atol=0.06)


def test_fused_systems_are_better_than_each(scores: tuple[Any, Any]) -> None:
    target, nontarget = scores

    def cost(columns: list[int]) -> float:
        fitted = Fusion().fit(target[:, columns], nontarget[:, columns])
        t, n = fitted.transform(target[:, columns]), fitted.transform(nontarget[:, columns])
        return float(np.logaddexp(0, -t).mean() + np.logaddexp(0, n).mean())

    assert cost([0, 1]) < 0.8 * min(cost([0]), cost([1]))


def test_separable_trials_get_finite_weights() -> None:
    fitted = Fusion().fit([[2.0], [3.0]], [[0.0], [-1.0]])
    assert np.isfinite(fitted.weights_).all()
    assert fitted.transform([[3.0]])[0] > 5
    assert fitted.transform([[1.0]])[0] == pytest.approx(0, abs=1e-3)


def test_scores_and_settings_that_mean_nothing_are_refused(
    scores: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, nontarget = scores
    with pytest.raises(ConfigError, match=r"p_target is 1.0.*give the share of target trials, above 0 and below 1"):
        Fusion(p_target=1.0).fit(target, nontarget)
    with pytest.raises(ConfigError, match=r"penalty is 0.0.*give a number above 0"):
        Fusion(penalty=0.0).fit(target, nontarget)
    with pytest.raises(ManifestError, match=r"no target trials.*fusion learns from target and from non-target trials"):
        Fusion().fit(target[:0], nontarget)
    with pytest.raises(ManifestError, match=r"no non-target trials.*fusion learns"):
        Fusion().fit(target, nontarget[:0])
    with pytest.raises(ShapeError, match=r"target trials have scores of 2 systems, non-target trials of 1.*score both"):
        Fusion().fit(target, nontarget[:, :1])
    with pytest.raises(ShapeError, match=r"scores are float64 \[200\].*give numbers, \[trials, systems\]"):
        Fusion().fit(target[:, 0], nontarget[:, 0])
    with pytest.raises(ShapeError, match=r"trial 1.*leave it out"):
        Fusion().fit([[1.0], [np.nan]], [[0.0]])
    with pytest.raises(ShapeError, match=r"system 1.*leave it out"):
        Fusion().fit(target * [1, 0], nontarget * [1, 0])
    with pytest.raises(ConfigError, match=r"this Fusion is not fitted"):
        Fusion().transform(target)
    with pytest.raises(ShapeError) as caught:
        Fusion().fit(target, nontarget).transform(target[:, :1])
    caught.match("scores of 1 systems.*fitted on 2: give those systems' scores, in their order")
    monkeypatch.setattr(calibration, "MAX_STEPS", 1)
    with pytest.raises(TrainingError, match=r"the logistic regression did not settle in 1.*look for scores far"):
        Fusion().fit(target, nontarget)
