"""PLDA against Gaussian densities written out, and against data drawn from its own model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.isotonic import IsotonicRegression

from xvectors.backends import PLDA, Backend
from xvectors.backends.plda import _maximize
from xvectors.backends.statistics import speaker_statistics
from xvectors.errors import ConfigError, ManifestError, ShapeError


def score_matrix(plda: PLDA, enroll: Any, test: Any, counts: Any = None) -> Any:
    left, right = plda.project(enroll, test, counts)
    assert left.dtype == right.dtype == np.float32
    return left @ right.T


def joint_log_density(plda: PLDA, recordings: Any) -> float:
    """Of recordings of one speaker, as one Gaussian vector of all their values."""
    n = len(recordings)
    covariance = np.kron(np.eye(n), plda.within_) + np.kron(np.ones((n, n)), plda.between_)
    return float(multivariate_normal.logpdf(recordings.ravel(), np.tile(plda.mean_, n), covariance))


def log_likelihood_ratio(plda: PLDA, enroll: Any, test: Any) -> float:
    together = joint_log_density(plda, np.vstack([enroll, test]))
    return together - joint_log_density(plda, enroll) - joint_log_density(plda, test[None])


@pytest.mark.parametrize("model", ["simulator", "low_rank_simulator"])
@pytest.mark.parametrize("num_enroll", [1, 2, 3])
def test_scores_are_ratios_of_gaussian_densities(model: str, num_enroll: int, request: pytest.FixtureRequest) -> None:
    simulator = request.getfixturevalue(model)
    plda = PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)
    x, _ = simulator.draw(np.full(10, 1), seed=1)
    enroll, test = x[:num_enroll], x[num_enroll:]
    scores = score_matrix(plda, enroll.mean(axis=0, keepdims=True), test, [num_enroll])
    np.testing.assert_allclose(scores[0], [log_likelihood_ratio(plda, enroll, one) for one in test], atol=1e-4)


def test_models_of_unequal_numbers_of_recordings_score_as_each_alone(simulator: Any) -> None:
    plda = PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)
    means, _ = simulator.draw(np.full(4, 1), seed=2)
    test, _ = simulator.draw(np.full(5, 1), seed=3)
    counts = np.array([1, 2, 3, 50])
    together = score_matrix(plda, means, test, counts)
    alone = [score_matrix(plda, means[k : k + 1], test, counts[k : k + 1])[0] for k in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_single_recordings_score_symmetrically(simulator: Any) -> None:
    plda = PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)
    x, _ = simulator.draw(np.full(5, 1), seed=2)
    scores = score_matrix(plda, x, x)
    np.testing.assert_allclose(scores, scores.T, atol=1e-4)
    np.testing.assert_allclose(scores[0, 1], log_likelihood_ratio(plda, x[:1], x[1]), atol=1e-4)


def test_one_dimension_by_hand() -> None:
    # Standard deviations 1 within and sqrt(3) between: N([1, 1]; 0, [[4, 3], [3, 4]]) against N(1; 0, 4) twice.
    plda = PLDA.from_covariances([0.0], [[1.0]], [[3.0]])
    expected = 0.5 * np.log(16 / 7) - 0.5 * (2 / 7) + 0.5 * (2 / 4)
    np.testing.assert_allclose(score_matrix(plda, [[1.0]], [[1.0]]), [[expected]], atol=1e-6)


def test_speakers_who_do_not_differ_score_nothing() -> None:
    plda = PLDA.from_covariances([0.0, 0.0], np.eye(2), np.zeros((2, 2)))
    np.testing.assert_array_equal(score_matrix(plda, [[1.0, 2.0]], [[3.0, 4.0]]), [[0.0]])


@pytest.mark.parametrize("model", ["simulator", "low_rank_simulator"])
def test_it_recovers_the_model_that_made_the_data(model: str, request: pytest.FixtureRequest) -> None:
    simulator = request.getfixturevalue(model)
    counts = np.random.default_rng(0).integers(1, 12, 3000)
    x, speakers = simulator.draw(counts, seed=4)
    plda = PLDA(rank=2 if model == "low_rank_simulator" else None).fit(x, speakers)
    scale = np.trace(simulator.between) / 6
    np.testing.assert_allclose(plda.mean_, simulator.mean, atol=0.1)
    np.testing.assert_allclose(plda.within_, simulator.within, atol=0.03 * scale)
    np.testing.assert_allclose(plda.between_, simulator.between, atol=0.12 * scale)
    assert np.linalg.matrix_rank(plda.between_) == (2 if model == "low_rank_simulator" else 6)
    gains = np.diff(plda.log_likelihoods_)
    assert (gains > -1e-9).all()
    assert gains[-1] < 1e-5


def test_log_likelihoods_are_those_of_the_joint_gaussian(simulator: Any) -> None:
    x, speakers = simulator.draw(np.array([1, 2, 3, 4, 2, 3, 5]), seed=5)
    statistics = speaker_statistics(x, speakers)
    for iterations in (0, 3):
        mean, within, loadings, _ = _maximize(statistics, 3, iterations)
        model = PLDA.from_covariances(mean, within, loadings @ loadings.T)
        direct = sum(joint_log_density(model, x[speakers == s].astype(float)) for s in range(7)) / len(x)
        log_likelihoods = _maximize(statistics, 3, iterations + 1)[3]
        np.testing.assert_allclose(log_likelihoods[-1], direct, rtol=1e-9)


def test_em_ends_where_the_likelihood_has_no_slope() -> None:
    rng = np.random.default_rng(3)
    speakers = np.repeat(np.arange(30), rng.integers(1, 5, 30))
    x = (2 * rng.normal(size=(30, 1)))[speakers] * [1.0, 0.5] + rng.normal(size=(len(speakers), 2)) * [1.0, 0.7]
    plda = PLDA(rank=1, iterations=300).fit(x, speakers)

    def log_likelihood(values: Any) -> float:
        root = np.array([[values[2], 0.0], [values[3], values[4]]])
        model = PLDA.from_covariances(values[:2], root @ root.T, np.outer(values[5:], values[5:]))
        return sum(joint_log_density(model, x[speakers == s]) for s in range(30)) / len(x)

    root = np.linalg.cholesky(plda.within_)
    loading = np.sqrt(np.diag(plda.between_)) * np.sign(plda.between_[0])
    best = np.concatenate([plda.mean_, root[0, :1], root[1], loading])
    step = 1e-3
    for direction in np.eye(7):
        ahead, behind = log_likelihood(best + step * direction), log_likelihood(best - step * direction)
        assert abs(ahead - behind) / (2 * step) < 1e-5
        assert max(ahead, behind) < log_likelihood(best)


def test_ratios_are_calibrated_on_data_of_their_model(simulator: Any) -> None:
    x, speakers = simulator.draw(np.full(800, 4), seed=7)
    y, others = simulator.draw(np.full(300, 3), seed=8)
    target, nontarget = Backend([], PLDA()).fit(x, speakers).all_pairs_scores(y, others)
    cllr = cost(target, nontarget)
    assert cllr - least_cost(target, nontarget) < 0.02
    assert cllr < 0.6


def cost(target: Any, nontarget: Any) -> float:
    """Cllr in bits."""
    return float((np.logaddexp(0, -target).mean() + np.logaddexp(0, nontarget).mean()) / (2 * np.log(2)))


def least_cost(target: Any, nontarget: Any) -> float:
    """Cllr after the best monotonic map, by pooling adjacent violators."""
    scores = np.concatenate([target, nontarget]).astype(float)
    weights = np.repeat([0.5 / len(target), 0.5 / len(nontarget)], [len(target), len(nontarget)])
    truth = np.repeat([1.0, 0.0], [len(target), len(nontarget)])
    posterior = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, truth, sample_weight=weights)
    with np.errstate(divide="ignore"):
        bits = -np.log2(np.where(truth == 1, posterior, 1 - posterior))
    return float(bits @ weights)


@pytest.mark.parametrize(
    ("counts", "rank", "error", "message"),
    [
        (
            [3, 3, 3, 3, 3],
            5,
            ConfigError,
            "PLDA of rank 5 needs more than 5 speakers, and there are 5: set rank to at most 4, or give more speakers",
        ),
        (
            [3, 3, 3, 3, 3],
            7,
            ConfigError,
            "PLDA of rank 7 for embeddings of 6 dimensions: give a rank from 1 to 6",
        ),
        (
            [9],
            1,
            ManifestError,
            "all 9 embeddings are of one speaker: a back-end learns how speakers differ; "
            "add recordings of other speakers",
        ),
        (
            [1, 1, 1, 1],
            1,
            ManifestError,
            "every one of the 4 speakers has one recording: how recordings of one speaker differ cannot be learned; "
            "add second recordings, or use a back-end that does without (cosine, cosine_centered, asnorm)",
        ),
        (
            [3, 3, 2],
            2,
            ManifestError,
            "PLDA in 6 dimensions needs at least 6 recordings more than speakers, and 3 speakers have 8: "
            "reduce the dimensions with LDA first, or give more",
        ),
    ],
)
def test_data_that_allow_no_plda_are_refused(
    simulator: Any, counts: list[int], rank: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        PLDA(rank=rank).fit(*simulator.draw(np.array(counts), seed=1))
    assert str(caught.value) == message


def test_repeated_dimensions_are_refused(simulator: Any) -> None:
    x, speakers = simulator.draw(np.full(20, 5), seed=1)
    with pytest.raises(ManifestError, match=r"the covariance of the 7.*too few recordings"):
        PLDA(rank=2).fit(np.hstack([x, x[:, :1]]), speakers)


def test_scoring_refuses_what_does_not_fit(simulator: Any) -> None:
    plda = PLDA.from_covariances(simulator.mean, simulator.within, simulator.between)
    x = np.ones((2, 6))
    with pytest.raises(
        ShapeError,
        match=r"embeddings have 5 dimensions, but this PLDA was fitted on 6.*use embeddings of the same network",
    ):
        plda.project(x, x[:, :5])
    with pytest.raises(ShapeError, match=r"embedding row 1.*leave it out"):
        plda.project(x, [[1.0] * 6, [np.nan] * 6])
    with pytest.raises(ShapeError, match=r"counts have the shape \[1\].*give the recordings of each model, \[2\]"):
        plda.project(x, x, [1])
    for counts in ([0, 1], [1.0, 2.0]):
        with pytest.raises(ShapeError, match=r"counts must be whole numbers of recordings, 1 or more"):
            plda.project(x, x, counts)
    with pytest.raises(ConfigError, match=r"this PLDA is not fitted.*call fit\(embeddings, speakers\) first"):
        PLDA().project(x, x)
    with pytest.raises(ShapeError, match=r"within \[2, 2\], between \[3, 3\]: give \[D\], \[D, D\] and \[D, D\]$"):
        PLDA.from_covariances([0.0, 0.0], np.eye(2), np.eye(3))
    with pytest.raises(ConfigError, match=r"iterations is -1.*give 0 or more"):
        PLDA(iterations=-1).fit(*simulator.draw(np.full(20, 5), seed=1))
