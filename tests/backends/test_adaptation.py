"""Adapted models against hand-computed ones, the methods' own properties, and data of a moved domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.linalg import eigh, sqrtm

from xvectors.backends import ADAPTATIONS, LDA, PLDA, Backend, LengthNorm, adapt_coral, adapt_coral_plus, adapt_kaldi
from xvectors.errors import ConfigError, ManifestError, ShapeError

METHODS: list[Callable[..., PLDA]] = [adapt_kaldi, adapt_coral, adapt_coral_plus]


def with_covariance(mean: Any, covariance: Any) -> Any:
    """Ten embeddings or more whose mean and (biased) covariance are exactly these."""
    dim = len(mean)
    points = np.vstack([np.eye(dim), -np.eye(dim)]) * np.sqrt(dim)
    return points @ np.linalg.cholesky(np.asarray(covariance)).T + mean


@pytest.fixture
def plda() -> PLDA:
    return PLDA.from_covariances([0.0, 0.0], np.diag([1.0, 1.0]), np.diag([3.0, 1.0]))


def test_kaldis_excess_by_hand(plda: PLDA) -> None:
    # The model's total is diag(4, 2); the new one diag(8, 1) and the mean's square [[0, 0], [0, 4]]: excess (4, 3).
    adapted = adapt_kaldi(plda, with_covariance([0.0, 2.0], np.diag([8.0, 1.0])))
    np.testing.assert_allclose(adapted.mean_, [0, 2], atol=1e-9)
    np.testing.assert_allclose(adapted.within_, np.diag([1 + 3, 1 + 2.25]), atol=1e-9)
    np.testing.assert_allclose(adapted.between_, np.diag([3 + 1, 1 + 0.75]), atol=1e-9)
    without_mean = adapt_kaldi(plda, with_covariance([0.0, 2.0], np.diag([8.0, 1.0])), mean_scale=0.0)
    np.testing.assert_allclose(without_mean.within_, np.diag([4, 1]), atol=1e-9)


def test_coral_by_hand(plda: PLDA) -> None:
    adapted = adapt_coral(plda, with_covariance([1.0, 2.0], np.diag([8.0, 1.0])))
    np.testing.assert_allclose(adapted.mean_, [1, 2], atol=1e-9)
    np.testing.assert_allclose(adapted.within_, np.diag([2, 0.5]), atol=1e-9)
    np.testing.assert_allclose(adapted.between_, np.diag([6, 0.5]), atol=1e-9)


def test_coral_plus_by_hand(plda: PLDA) -> None:
    new = with_covariance([1.0, 2.0], np.diag([8.0, 1.0]))
    adapted = adapt_coral_plus(plda, new, within_scale=0.5, between_scale=0.25)
    np.testing.assert_allclose(adapted.mean_, [1, 2], atol=1e-9)
    np.testing.assert_allclose(adapted.within_, np.diag([1.5, 1]), atol=1e-6)
    np.testing.assert_allclose(adapted.between_, np.diag([3.75, 1]), atol=1e-6)


def test_full_covariances_against_scipys_decompositions(simulator: Any) -> None:
    plda = PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6))
    new_total = factor @ factor.T + 0.1 * np.eye(6)
    new = with_covariance(simulator.mean, new_total)
    old_total = simulator.within + simulator.between

    def raised(reference: Any, other: Any, scale: float, addend_to: Any) -> Any:
        values, vectors = eigh(other, reference)  # vectors' @ reference @ vectors = I
        back = np.linalg.inv(vectors)
        return addend_to + scale * back.T @ np.diag(np.maximum(values - 1, 0)) @ back

    kaldi = adapt_kaldi(plda, new, within_scale=0.6, between_scale=0.3)
    np.testing.assert_allclose(kaldi.within_, raised(old_total, new_total, 0.6, simulator.within), atol=1e-8)
    np.testing.assert_allclose(kaldi.between_, raised(old_total, new_total, 0.3, simulator.between), atol=1e-8)

    recolor = sqrtm(new_total) @ np.linalg.inv(sqrtm(old_total))
    coral = adapt_coral(plda, new)
    np.testing.assert_allclose(coral.within_, recolor @ simulator.within @ recolor.T, atol=1e-8)
    np.testing.assert_allclose(coral.within_ + coral.between_, new_total, atol=1e-8)

    plus = adapt_coral_plus(plda, new, within_scale=0.7, between_scale=0.4)
    np.testing.assert_allclose(plus.within_, raised(simulator.within, coral.within_, 0.7, simulator.within), atol=1e-6)
    np.testing.assert_allclose(
        plus.between_, raised(simulator.between, coral.between_, 0.4, simulator.between), atol=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["simulator", "low_rank_simulator"])
def test_the_same_domain_changes_nothing(
    method: Callable[..., PLDA], model: str, request: pytest.FixtureRequest
) -> None:
    simulator = request.getfixturevalue(model)
    plda = PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)
    adapted = method(plda, with_covariance(simulator.mean, simulator.within + simulator.between))
    np.testing.assert_allclose(adapted.mean_, plda.mean_, atol=1e-9)
    np.testing.assert_allclose(adapted.within_, plda.within_, atol=1e-6)
    np.testing.assert_allclose(adapted.between_, plda.between_, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_adapted_models_are_better_calibrated_in_a_domain_that_varies_more(
    method: Callable[..., PLDA], simulator: Any
) -> None:
    plda = PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)
    x, speakers = simulator.draw(np.full(200, 4), seed=3)
    moved = 1.8 * x + 1.0
    costs = []
    for model in (plda, method(plda, moved)):
        target, nontarget = Backend([], model).all_pairs_scores(moved, speakers)
        costs.append(float(np.logaddexp(0, -target).mean() + np.logaddexp(0, nontarget).mean()) / 2 / np.log(2))
    assert costs[1] < 0.8 * costs[0]


def test_impossible_adaptations_are_refused(plda: PLDA) -> None:
    new = with_covariance([0.0, 0.0], np.eye(2))
    with pytest.raises(ConfigError, match=r"within_scale is -1.*give 0 or more"):
        adapt_kaldi(plda, new, within_scale=-1)
    with pytest.raises(ConfigError, match=r"between_scale is 2.*give 0 to 1"):
        adapt_coral_plus(plda, new, between_scale=2)
    for method in METHODS:
        with pytest.raises(ManifestError) as caught:
            method(plda, new[:2])
        caught.match("2 dimensions needs more than 2 embeddings.*give more")
        with pytest.raises(ShapeError, match=r"embeddings have 3 dimensions, but this PLDA was fitted on 2"):
            method(plda, np.ones((5, 3)))
        with pytest.raises(ShapeError, match=r"embedding row 0 holds a value that is not finite"):
            method(plda, new * np.nan)
        with pytest.raises(ConfigError, match=r"this PLDA is not fitted"):
            method(PLDA(), new)


def test_a_back_end_adapts_by_raw_embeddings(simulator: Any) -> None:
    x, speakers = simulator.draw(np.full(40, 5), seed=4)
    moved = (1.5 * x + 1.0).astype(np.float32)
    for method, adapt in ADAPTATIONS.items():
        backend = Backend([LDA(dim=4), LengthNorm()], PLDA()).fit(x, speakers)
        assert isinstance(backend.scorer, PLDA)
        expected = adapt(backend.scorer, backend.transform(moved))
        adapted = (backend.adapt(moved) if method == "coral_plus" else backend.adapt(moved, by=method)).scorer
        assert isinstance(adapted, PLDA)
        np.testing.assert_array_equal(adapted.within_, expected.within_)
    with pytest.raises(ConfigError, match=r"this back-end scores without PLDA, and only that adapts.*take lda_plda"):
        Backend().fit(x, speakers).adapt(moved)
    with pytest.raises(ConfigError, match=r"adaptation 'kald'.*did you mean"):
        backend.adapt(moved, by="kald")
