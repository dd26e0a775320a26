"""Transforms of embeddings before scoring: length normalization, centering, whitening, WCCN and LDA.

Whitening and length normalization after Garcia-Romero and Espy-Wilson, Interspeech 2011; WCCN after Hatch, Kajarekar
and Stolcke, Interspeech 2006; LDA after Fisher, with the within-speaker covariance shrunk.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from xvectors.backends.cosine import Embeddings, length_normalize
from xvectors.backends.estimator import Array, Estimator, finite_rows
from xvectors.backends.statistics import speaker_statistics, total_statistics, whitener
from xvectors.errors import ConfigError, ManifestError


class Transform(Estimator):
    """Base class: maps embeddings [n, D] to float32 [n, D'] before scoring."""

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        """Learn from embeddings [n, D] and their speakers [n], numbers or names."""
        raise NotImplementedError

    def transform(self, embeddings: ArrayLike) -> Embeddings:
        """Map embeddings [n, D] to float32 [n, D']. Raises ShapeError for other dimensions than in `fit`, or NaN."""
        raise NotImplementedError


class LengthNorm(Transform):
    """Scales every embedding to Euclidean length 1. Raises ShapeError for zero vectors."""

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        return self

    def transform(self, embeddings: ArrayLike) -> Embeddings:
        return length_normalize(embeddings)


class Center(Transform):
    """Subtracts the mean of the training recordings, `mean_` [D]."""

    fitted_names: ClassVar[tuple[str, ...]] = ("mean_",)
    mean_: Array

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        rows = finite_rows(embeddings)
        if not len(rows):
            raise ManifestError("no embeddings to learn from: give at least one")
        self.mean_ = rows.mean(axis=0, dtype=np.float64)
        return self

    def transform(self, embeddings: ArrayLike) -> Embeddings:
        self._check_fitted()
        rows = finite_rows(embeddings, len(self.mean_), type(self).__name__)
        centered: Embeddings = (rows - self.mean_).astype(np.float32)
        return centered


class Projection(Center):
    """Base class of affine maps (x - mean_) @ projection_, with projection_ [D, D']."""

    fitted_names = ("mean_", "projection_")
    projection_: Array

    def transform(self, embeddings: ArrayLike) -> Embeddings:
        return super().transform(embeddings) @ self.projection_.astype(np.float32)


class Whiten(Projection):
    """Centers, and whitens by the covariance of all recordings.

    Parameters
    ----------
    shrinkage
        Shrinkage of the covariance towards a multiple of the identity, 0 to 1; None: estimate of Ledoit and Wolf.
    """

    def __init__(self, shrinkage: float | None = None) -> None:
        self.shrinkage = shrinkage

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        """Learn the map. Raises ManifestError for a singular covariance, ConfigError for an impossible shrinkage."""
        self.mean_, covariance = total_statistics(embeddings)
        self.projection_ = whitener(covariance.shrunk(self.shrinkage))
        return self


class WCCN(Projection):
    """Within-class covariance normalization: centers, and whitens by the covariance within speakers.

    Parameters
    ----------
    shrinkage
        Shrinkage of the covariance towards a multiple of the identity, 0 to 1; None: estimate of Ledoit and Wolf.
    """

    def __init__(self, shrinkage: float | None = None) -> None:
        self.shrinkage = shrinkage

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        """Learn the map. Raises ManifestError for too few speakers or recordings, or a singular covariance."""
        statistics = speaker_statistics(embeddings, speakers)
        self.mean_ = statistics.mean
        self.projection_ = whitener(statistics.within.shrunk(self.shrinkage))
        return self


class LDA(Projection):
    """Linear discriminant analysis: the directions with the largest ratio of between- to within-speaker variance.

    Speakers are weighted by their recordings. In the result, the covariance within speakers is the identity, and the
    speaker means are uncorrelated, with descending variance.

    Parameters
    ----------
    dim
        Number of directions, at most that of dimensions and of speakers - 1; None: the maximum.
    shrinkage
        Shrinkage of the covariance within speakers, 0 to 1; None: estimate of Ledoit and Wolf.
    """

    def __init__(self, dim: int | None = None, shrinkage: float | None = None) -> None:
        self.dim = dim
        self.shrinkage = shrinkage

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        """Learn the directions. Raises ConfigError if there are fewer than `dim`, and the errors of `WCCN`."""
        statistics = speaker_statistics(embeddings, speakers)
        num_speakers, most = statistics.means.shape
        dim = min(most, num_speakers - 1) if self.dim is None else self.dim
        if not 1 <= dim <= min(most, num_speakers - 1):
            raise ConfigError(
                f"LDA to {dim} dimensions: {num_speakers} speakers and {most} dimensions allow "
                f"1 to {min(most, num_speakers - 1)}; set dim within that, or give more speakers"
            )
        self.mean_ = statistics.mean
        white = whitener(statistics.within.shrunk(self.shrinkage))
        spread = np.sqrt(statistics.counts)[:, None] * ((statistics.means - self.mean_) @ white)
        _, directions = np.linalg.eigh(spread.T @ spread)
        self.projection_ = white @ directions[:, ::-1][:, :dim]
        return self
