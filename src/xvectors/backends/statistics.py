"""Means and covariances of embeddings, total and within speakers.

Covariances can be shrunk towards a multiple of the identity (Ledoit and Wolf, JMVA 88, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.estimator import Array, finite_rows, labeled_rows
from xvectors.errors import ConfigError, ManifestError

BLOCK_ROWS = 8192  # rows with deviations in double precision at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Covariance:
    """A covariance matrix [D, D] with its degrees of freedom and the mean fourth power of the deviations' lengths."""

    matrix: Array
    degrees: int
    fourth_moment: float

    def shrunk(self, shrinkage: float | None) -> Array:
        """Return (1 - shrinkage) C + shrinkage (trace C / D) I, with the estimate of Ledoit and Wolf for None."""
        dim = len(self.matrix)
        scale = float(np.trace(self.matrix)) / dim
        if shrinkage is None:
            distance = float(np.square(self.matrix - scale * np.eye(dim)).sum())
            noise = (self.fourth_moment - float(np.square(self.matrix).sum())) / self.degrees
            shrinkage = min(max(noise, 0.0), distance) / distance if distance > 0 else 1.0
        elif not 0.0 <= shrinkage <= 1.0:
            raise ConfigError(f"shrinkage is {shrinkage}: give a share from 0 to 1, or None to have it estimated")
        return (1.0 - shrinkage) * self.matrix + shrinkage * scale * np.eye(dim)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeakerStatistics:
    """Statistics of n recordings by S speakers: counts [S], speaker means [S, D] and covariance around these means."""

    counts: NDArray[np.int64]
    means: Array
    within: Covariance

    @property
    def num_recordings(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> Array:
        """Return the mean [D] of all recordings."""
        mean: Array = self.counts @ self.means / self.num_recordings
        return mean


def total_statistics(embeddings: ArrayLike) -> tuple[Array, Covariance]:
    """Return mean [D] and covariance of embeddings [n, D]. Raises ManifestError for fewer than two."""
    rows = finite_rows(embeddings)
    if len(rows) < 2:
        raise ManifestError(f"a covariance needs at least two embeddings, and there are {len(rows)}: give more")
    mean: Array = rows.mean(axis=0, dtype=np.float64)
    return mean, _covariance(rows, mean[None], np.zeros(len(rows), dtype=np.int32), len(rows))


def speaker_means(embeddings: ArrayLike, speakers: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """Return mean embedding [S, D] and number of recordings [S] of each speaker, in sorted order."""
    rows, numbers = labeled_rows(embeddings, speakers)
    if not len(rows):
        raise ManifestError("no embeddings: give at least one")
    order = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers).astype(np.int64)
    starts = np.cumsum(counts) - counts
    sums: Array = np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)
    return sums / counts[:, None], counts


def speaker_statistics(embeddings: ArrayLike, speakers: ArrayLike) -> SpeakerStatistics:
    """Return counts, means and the within-speaker covariance pooled over speakers, squares / (n - S).

    Raises
    ------
    ManifestError
        Fewer than two speakers, or none with two recordings.
    ShapeError
        Unusable embeddings, or not one speaker a row.
    """
    rows, numbers = labeled_rows(embeddings, speakers)
    means, counts = speaker_means(rows, numbers)
    if len(counts) < 2:
        raise ManifestError(
            f"all {len(rows)} embeddings are of one speaker: "
            "a back-end learns how speakers differ; add recordings of other speakers"
        )
    if len(rows) == len(counts):
        raise ManifestError(
            f"every one of the {len(counts)} speakers has one recording: how recordings of one speaker differ cannot "
            "be learned; add second recordings, or use a back-end that does without (cosine, cosine_centered, asnorm)"
        )
    return SpeakerStatistics(
        counts=counts, means=means, within=_covariance(rows, means, numbers, len(rows) - len(counts))
    )


def whitener(covariance: Array) -> Array:
    """Return the triangular matrix [D, D] that whitens rows x of this covariance by x @ matrix.

    Raises
    ------
    ManifestError
        A singular covariance.
    """
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        root = np.zeros_like(covariance)
    pivots = np.diag(root)
    if pivots.min() <= 1e-6 * pivots.max():
        raise ManifestError(
            f"the covariance of the {len(covariance)} dimensions is singular: there are too few recordings, or "
            "dimensions that repeat one another; reduce them with LDA first, or set shrinkage above 0"
        )
    inverse: Array = np.linalg.inv(root).T
    return inverse


def _covariance(rows: NDArray[Any], means: Array, numbers: NDArray[np.int32], degrees: int) -> Covariance:
    """Return the covariance of rows [n, D] around the means [S, D] that `numbers` [n] names."""
    squares = np.zeros((rows.shape[1], rows.shape[1]))
    fourth = 0.0
    for start in range(0, len(rows), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        deviations = rows[part] - means[numbers[part]]
        squares += deviations.T @ deviations
        fourth += float(np.square(np.einsum("nd,nd->n", deviations, deviations)).sum())
    return Covariance(matrix=squares / degrees, degrees=degrees, fourth_moment=fourth / degrees)
