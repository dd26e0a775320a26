"""Probabilistic linear discriminant analysis (PLDA), with log-likelihood ratios in closed form.

An embedding is the mean + a speaker part ~ N(0, between) + a recording part ~ N(0, within). With `between` of full rank
this is the two-covariance model (Brümmer and de Villiers, Odyssey 2010), of lower rank simplified PLDA (Kenny, Odyssey
2010). In the basis where within = I and between = diag(psi) (Ioffe, ECCV 2006) a score is a sum over dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.dot_products import Rows
from xvectors.backends.estimator import Array, Estimator, finite_rows
from xvectors.backends.statistics import SpeakerStatistics, speaker_statistics, whitener
from xvectors.errors import ConfigError, ManifestError, ShapeError

NO_SPREAD = 1e-9  # directions with less spread between speakers than this share of the largest are dropped


class PLDA(Estimator):
    """Natural-log likelihood ratios of one speaker against two speakers.

    Parameters
    ----------
    rank
        Rank of the speaker space; None: full (the two-covariance model). There must be more speakers.
    iterations
        Iterations of expectation-maximization, which starts from a moment estimate.

    Attributes
    ----------
    mean_ [D], within_ [D, D], between_ [D, D]: the model.
    log_likelihoods_ [iterations]
        Log-likelihood of the training embeddings per recording, before each iteration.
    """

    fitted_names = ("mean_", "within_", "between_", "log_likelihoods_")
    mean_: Array
    within_: Array
    between_: Array
    log_likelihoods_: Array

    def __init__(self, rank: int | None = None, iterations: int = 20) -> None:
        self.rank = rank
        self.iterations = iterations

    @classmethod
    def from_covariances(cls, mean: ArrayLike, within: ArrayLike, between: ArrayLike) -> Self:
        """Make a model from its mean [D] and covariances [D, D].

        Raises
        ------
        ShapeError
            Shapes that do not fit each other.
        ManifestError
            A singular covariance within speakers.
        """
        plda = cls()
        plda.mean_ = np.asarray(mean, dtype=np.float64)
        plda.within_, plda.between_ = np.asarray(within, dtype=np.float64), np.asarray(between, dtype=np.float64)
        plda.log_likelihoods_ = np.empty(0)
        square = (len(plda.mean_),) * 2 if plda.mean_.ndim == 1 else None
        if plda.within_.shape != square or plda.between_.shape != square:
            raise ShapeError(
                f"PLDA of shapes mean {list(plda.mean_.shape)}, within {list(plda.within_.shape)}, between "
                f"{list(plda.between_.shape)}: give [D], [D, D] and [D, D]"
            )
        plda._diagonalize()
        return plda

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        """Learn from embeddings [n, D] and their speakers [n], numbers or names, with any number of recordings each.

        Raises
        ------
        ConfigError
            A rank that the dimensions or the number of speakers do not allow.
        ManifestError
            One speaker, one recording a speaker, too few recordings for the dimensions.
        ShapeError
            Unusable embeddings, or not one speaker a row.
        """
        statistics = speaker_statistics(embeddings, speakers)
        num_speakers, dim = statistics.means.shape
        rank = dim if self.rank is None else self.rank
        if self.iterations < 0:
            raise ConfigError(f"iterations is {self.iterations}: give 0 or more")
        if not 1 <= rank <= dim:
            raise ConfigError(f"PLDA of rank {rank} for embeddings of {dim} dimensions: give a rank from 1 to {dim}")
        if rank >= num_speakers:
            raise ConfigError(
                f"PLDA of rank {rank} needs more than {rank} speakers, and there are {num_speakers}: "
                f"set rank to at most {num_speakers - 1}, or give more speakers"
            )
        if statistics.num_recordings - num_speakers < dim:
            raise ManifestError(
                f"PLDA in {dim} dimensions needs at least {dim} recordings more than speakers, and {num_speakers} "
                f"speakers have {statistics.num_recordings}: reduce the dimensions with LDA first, or give more"
            )
        self.mean_, self.within_, loadings, self.log_likelihoods_ = _maximize(statistics, rank, self.iterations)
        self.between_ = loadings @ loadings.T
        self._diagonalize()
        return self

    def project(self, enroll: ArrayLike, test: ArrayLike, counts: ArrayLike | None = None) -> tuple[Rows, Rows]:
        """Return rows [k, d] and [t, d], float32, whose dot products are the log-likelihood ratios.

        Parameters
        ----------
        enroll
            [k, D] embeddings, or the means of several of one speaker.
        test
            [t, D] embeddings.
        counts
            [k] recordings that each mean is of, which scores "by the book": the speaker's part has a posterior given
            all of them. None: every row counts as one recording.

        Raises
        ------
        ShapeError
            Other dimensions than the model's, values that are not finite, counts that do not fit.
        """
        self._check_fitted()
        x = self._diagonal(test)
        means = x if enroll is test else self._diagonal(enroll)
        n = np.ones(len(means)) if counts is None else _recordings(counts, len(means))
        psi = self._psi
        # given the mean of n recordings, a new one of the speaker is N(weight * mean, variance), else N(0, total)
        weight = n[:, None] * psi / (n[:, None] * psi + 1.0)
        variance = 1.0 + psi / (n[:, None] * psi + 1.0)
        total = 1.0 + psi
        expected = weight * means
        constant = 0.5 * (np.log(total / variance) - expected**2 / variance).sum(axis=1)
        left, right = [expected / variance], [x]
        square = 0.5 / total - 0.5 / variance
        if len(square) and (square == square[0]).all():
            offset = x**2 @ square[0]
        else:
            left, right = [*left, square], [*right, x**2]
            offset = np.zeros(len(x))
        left += [constant[:, None], np.ones((len(means), 1))]
        right += [np.ones((len(x), 1)), offset[:, None]]
        return np.hstack(left).astype(np.float32), np.hstack(right).astype(np.float32)

    def diagonal(self, embeddings: ArrayLike) -> tuple[Array, Array]:
        """Return embeddings [n, d] in the basis where the covariance within speakers is I, and the variances between
        speakers [d] there, the greatest first. Raises ShapeError as `project` does.
        """
        self._check_fitted()
        return self._diagonal(embeddings), self._psi

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().restore(arrays)
        self._diagonalize()

    def _diagonalize(self) -> None:
        """Return the basis [D, r] with within = I and between = diag(psi [r]), for positive psi in descending order."""
        white = whitener(self.within_)
        psi, directions = np.linalg.eigh(white.T @ self.between_ @ white)
        psi, directions = psi[::-1], directions[:, ::-1]
        kept = psi > NO_SPREAD * max(psi[0], 0.0)
        self._psi: Array = psi[kept]
        self._basis: Array = white @ directions[:, kept]

    def _diagonal(self, embeddings: ArrayLike) -> Array:
        rows = finite_rows(embeddings, len(self.mean_), type(self).__name__)
        diagonal: Array = (rows - self.mean_) @ self._basis
        return diagonal


def _recordings(counts: ArrayLike, num_models: int) -> Array:
    n: NDArray[Any] = np.asarray(counts)
    if n.shape != (num_models,):
        raise ShapeError(f"counts have the shape {list(n.shape)}: give the recordings of each model, [{num_models}]")
    if n.dtype.kind not in "iu" or (n < 1).any():
        raise ShapeError("counts must be whole numbers of recordings, 1 or more")
    return n.astype(np.float64)


def _maximize(statistics: SpeakerStatistics, rank: int, iterations: int) -> tuple[Array, Array, Array, Array]:
    """Return mean [D], within [D, D], loadings V [D, rank] with between = V V', and the log-likelihoods, by EM.

    The maximization is joint over mean and loadings, and ends with a step of minimum divergence (Kenny, Odyssey
    2010): the speakers' factors get mean 0 and covariance I, their change being carried into mean and loadings.
    """
    n, origin = statistics.counts.astype(np.float64), statistics.mean
    num_speakers, dim = statistics.means.shape
    centers = statistics.means - origin  # centering on the mean of all recordings preserves precision
    scatter = statistics.within.matrix * statistics.within.degrees
    squares = scatter + (n[:, None] * centers).T @ centers
    mean, within = np.zeros(dim), statistics.within.matrix
    loadings = _moments(statistics, centers, rank)
    log_likelihoods = np.empty(iterations)
    for iteration in range(iterations):
        # Expectation, in the basis of the factors where the posterior of every speaker is diagonal.
        white = whitener(within)
        values, rotation = np.linalg.eigh(loadings.T @ white @ white.T @ loadings)
        loadings = loadings @ rotation
        variances = 1.0 / (1.0 + np.outer(n, np.maximum(values, 0.0)))
        evidence = n[:, None] * ((centers - mean) @ white @ (white.T @ loadings))
        factors = evidence * variances
        log_likelihoods[iteration] = _log_likelihood(scatter, n, centers - mean, white, variances, evidence)
        # Maximization, of the loadings and the mean as one more loading whose factor is always 1.
        extended = np.hstack([factors, np.ones((num_speakers, 1))])
        first = (n[:, None] * centers).T @ extended
        second = (n[:, None] * extended).T @ extended
        second[:-1, :-1] += np.diag(n @ variances)
        joint = np.linalg.solve(second, first.T).T
        within = (squares - joint @ first.T) / n.sum()
        within = 0.5 * (within + within.T)
        loadings, mean = joint[:, :-1], joint[:, -1]
        # Minimum divergence.
        shift = factors.mean(axis=0)
        spread = np.cov(factors.T, bias=True).reshape(rank, rank) + np.diag(variances.mean(axis=0))
        mean = mean + loadings @ shift
        loadings = loadings @ np.linalg.cholesky(spread)
    return mean + origin, within, loadings, log_likelihoods / n.sum()


def _moments(statistics: SpeakerStatistics, centers: Array, rank: int) -> Array:
    """Return initial loadings: the `rank` largest whitened directions in which means spread beyond their noise."""
    white = whitener(statistics.within.matrix)
    spread = np.sqrt(statistics.counts)[:, None] * (centers @ white)
    values, directions = np.linalg.eigh(spread.T @ spread)
    values, directions = values[::-1][:rank], directions[:, ::-1][:, :rank]
    n = statistics.counts
    recordings = (n.sum() - np.square(n).sum() / n.sum()) / (len(n) - 1)  # a speaker, for the moments' sake
    psi = np.maximum((values / (len(n) - 1) - 1.0) / recordings, 0.01)  # from 0, EM would never move
    loadings: Array = np.linalg.inv(white).T @ directions * np.sqrt(psi)
    return loadings


def _log_likelihood(scatter: Array, n: Array, centers: Array, white: Array, variances: Array, evidence: Array) -> float:
    """Return the log-likelihood of all embeddings, with the speaker factors integrated out."""
    total = n.sum()
    mahalanobis = np.square(centers @ white).sum(axis=1) @ n + float(((scatter @ white) * white).sum())
    log_determinant = -2.0 * float(np.log(np.diag(white)).sum())
    dim = len(white)
    explained = float((evidence**2 * variances + np.log(variances)).sum())
    return -0.5 * float(total * (dim * np.log(2.0 * np.pi) + log_determinant) + mahalanobis - explained)
