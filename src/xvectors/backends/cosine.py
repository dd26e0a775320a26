"""Cosine scoring. In: embeddings [n, D] and trials, or each row's speaker. Out: float32 scores in [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.dot_products import all_pairs_products, pair_products
from xvectors.errors import ShapeError
from xvectors.trials.pairs import Trials

Embeddings = NDArray[np.float32]


def real_rows(embeddings: ArrayLike) -> NDArray[Any]:
    """Embeddings [n, D] as float32 or float64; ShapeError for another shape or kind of values."""
    array: NDArray[Any] = np.asarray(embeddings)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"embeddings have the shape {list(array.shape)}: give one row a recording, [n, D]")
    if array.dtype.kind not in "iuf":
        raise ShapeError(f"embeddings are of type {array.dtype}: give real numbers")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def length_normalize(embeddings: ArrayLike) -> Embeddings:
    """Embeddings [n, D] with every row at Euclidean length 1, float32.

    Raises:
        ShapeError: not [n, D], not real numbers, or a row without a direction: all zeros, NaN or infinite.
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

    Args:
        embeddings: [n, D] real numbers; lengths do not matter.
        trials: m pairs of rows.

    Returns:
        [m] float32 in the trials' order.

    Raises:
        ShapeError: see `length_normalize`; a trial that names a row that does not exist.
    """
    unit = length_normalize(embeddings)
    scores = pair_products(unit, unit, trials.enroll, trials.test)
    return np.clip(scores, -1.0, 1.0, out=scores)


def all_pairs_scores(
    embeddings: ArrayLike, speaker_index: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The cosines of all pairs i < j: what `all_pairs`, `cosine_scores` and `split` give, without an index.

    Args:
        embeddings: [n, D] real numbers; lengths do not matter.
        speaker_index: [n] the speaker of each row, as numbers or names.

    Returns:
        (target scores, non-target scores), float32, each in the order of `all_pairs`; 4 bytes a trial.

    Raises:
        ManifestError: fewer than two rows, no target pair or no non-target pair.
        ShapeError: see `length_normalize`; as many speakers as rows are needed.
    """
    unit = length_normalize(embeddings)
    target_scores, nontarget_scores = all_pairs_products(unit, unit, speaker_index)
    return np.clip(target_scores, -1.0, 1.0), np.clip(nontarget_scores, -1.0, 1.0)
