"""What scores two recordings: cosine or PLDA, each as dot products of projected rows. In: embeddings as the transforms
left them. Out: rows of the enrollment side and of the test side."""

from __future__ import annotations

from typing import Protocol, Self

from numpy.typing import ArrayLike

from xvectors.backends.cosine import length_normalize
from xvectors.backends.dot_products import Rows
from xvectors.backends.estimator import Estimator
from xvectors.errors import ShapeError


class Scorer(Protocol):
    """Scores are dot products of a row of each side."""

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self: ...

    def project(self, enroll: ArrayLike, test: ArrayLike, counts: ArrayLike | None = None) -> tuple[Rows, Rows]:
        """Rows [k, d] and [t, d], float32, of enroll [k, D], means of `counts` [k] recordings, and test [t, D]."""
        ...


class Cosine(Estimator):
    """The cosine of the angle between two embeddings, or between the mean of several and one. Learns nothing."""

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        return self

    def project(self, enroll: ArrayLike, test: ArrayLike, counts: ArrayLike | None = None) -> tuple[Rows, Rows]:
        """Both sides at length 1; `counts` make no difference. ShapeError for a zero vector or unequal dimensions."""
        right = length_normalize(test)
        if enroll is test:
            return right, right
        left = length_normalize(enroll)
        if left.shape[1] != right.shape[1]:
            raise ShapeError(
                f"{left.shape[1]} dimensions in enrollment, {right.shape[1]} in test: use one network for both"
            )
        return left, right
