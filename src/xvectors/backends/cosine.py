"""Cosine scoring."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.dot_products import Rows, all_pairs_products, pair_products
from xvectors.backends.estimator import Estimator, real_rows
from xvectors.errors import ShapeError
from xvectors.trials.pairs import Trials

Embeddings = NDArray[np.float32]


def length_normalize(embeddings: ArrayLike) -> Embeddings:
    """Scale embeddings [n, D] to Euclidean length 1, float32.

    Raises
    ------
    ShapeError
        Unless they are real [n, D], and for rows without a direction: all zeros, NaN or infinite.
    """
    array = real_rows(embeddings)
    # divide by the largest value first, so that squares of huge and tiny embeddings stay in range
    largest = np.abs(array).max(axis=1, keepdims=True)
    usable = np.isfinite(largest) & (largest > 0)
    if not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        fault = "is all zeros" if largest[row, 0] == 0 else "holds a value that is not finite"
        more = int(np.count_nonzero(~usable)) - 1
        others = f" (and {more} more rows like it)" if more else ""
        raise ShapeError(f"embedding row {row} {fault}{others}: no direction to compare; leave it out")
    scaled = (array / largest).astype(np.float32)
    unit: Embeddings = scaled / np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return unit


def cosine_scores(embeddings: ArrayLike, trials: Trials) -> NDArray[np.float32]:
    """Return the cosine of the two embeddings of every trial.

    Parameters
    ----------
    embeddings
        [n, D]: real numbers of any length.
    trials
        M pairs of rows.

    Returns
    -------
    float32 [m], in the order of the trials.

    Raises
    ------
    ShapeError
        See `length_normalize`; also for trials with row numbers out of range.
    """
    unit = length_normalize(embeddings)
    scores = pair_products(unit, unit, trials.enroll, trials.test)
    return np.clip(scores, -1.0, 1.0, out=scores)


def all_pairs_scores(
    embeddings: ArrayLike, speaker_index: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the cosines of all pairs i < j, like `all_pairs`, `cosine_scores` and `split`, but without an index.

    Parameters
    ----------
    embeddings
        [n, D]: real numbers of any length.
    speaker_index
        [n]: the speaker of each row, as numbers or names.

    Returns
    -------
    (target scores, non-target scores), float32, each in the order of `all_pairs`; 4 bytes per trial.

    Raises
    ------
    ManifestError
        For fewer than two rows, no target pair or no non-target pair.
    ShapeError
        See `length_normalize`; also unless there is one speaker per row.
    """
    unit = length_normalize(embeddings)
    target_scores, nontarget_scores = all_pairs_products(unit, unit, speaker_index)
    return np.clip(target_scores, -1.0, 1.0), np.clip(nontarget_scores, -1.0, 1.0)


class Cosine(Estimator):
    """Cosine of the angle between two embeddings, or between a mean of several and one. Needs no training."""

    def fit(self, embeddings: ArrayLike, speakers: ArrayLike) -> Self:
        return self

    def project(self, enroll: ArrayLike, test: ArrayLike, counts: ArrayLike | None = None) -> tuple[Rows, Rows]:
        """Scale both sides to length 1, regardless of `counts`.

        Raises ShapeError for zero vectors and unequal dimensions.
        """
        right = length_normalize(test)
        if enroll is test:
            return right, right
        left = length_normalize(enroll)
        if left.shape[1] != right.shape[1]:
            raise ShapeError(
                f"{left.shape[1]} dimensions in enrollment, {right.shape[1]} in test: use one network for both"
            )
        return left, right
