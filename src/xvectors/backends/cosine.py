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
    """Embeddings [n, D] with every row at Euclidean length 1, float32.

    Raises
    ------
    ShapeError
        Not [n, D], not real numbers, or a row without a direction: all zeros, NaN or infinite.
    """
    array = real_rows(embeddings)
    # Dividing by the largest value first keeps the squares of huge and of tiny embeddings within range.
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
    """The cosine of every trial's two embeddings.

    Parameters
    ----------
    embeddings
        [n, D] real numbers; lengths do not matter.
    trials
        M pairs of rows.

    Returns
    -------
    [m] float32 in the trials' order.

    Raises
    ------
    ShapeError
        See `length_normalize`; a trial that names a row that does not exist.
    """
    unit = length_normalize(embeddings)
    scores = pair_products(unit, unit, trials.enroll, trials.test)
    return np.clip(scores, -1.0, 1.0, out=scores)


def all_pairs_scores(
    embeddings: ArrayLike, speaker_index: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The cosines of all pairs i < j: what `all_pairs`, `cosine_scores` and `split` give, without an index.

    Parameters
    ----------
    embeddings
        [n, D] real numbers; lengths do not matter.
    speaker_index
        [n] the speaker of each row, as numbers or names.

    Returns
    -------
    (target scores, non-target scores), float32, each in the order of `all_pairs`; 4 bytes a trial.

    Raises
    ------
    ManifestError
        Fewer than two rows, no target pair or no non-target pair.
    ShapeError
        See `length_normalize`; as many speakers as rows are needed.
    """
    unit = length_normalize(embeddings)
    target_scores, nontarget_scores = all_pairs_products(unit, unit, speaker_index)
    return np.clip(target_scores, -1.0, 1.0), np.clip(nontarget_scores, -1.0, 1.0)


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
