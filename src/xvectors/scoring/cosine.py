"""Cosine scoring. In: embeddings [n, D] and trials, or each row's speaker. Out: float32 scores in [-1, 1].
Works in blocks, so that memory beyond the scores themselves stays at some tens of megabytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ShapeError
from xvectors.scoring.trials import Trials, count_pairs, speaker_numbers

PRODUCT_VALUES = 4_000_000  # cosines of one matrix product: 16 MB
GATHER_VALUES = 65_536  # embedding values gathered at once: small enough for the processor's cache

Embeddings = NDArray[np.float32]


def length_normalise(embeddings: ArrayLike) -> Embeddings:
    """Embeddings [n, D] with every row at Euclidean length 1, float32.

    Raises:
        ShapeError: not [n, D], not real numbers, or a row without a direction: all zeros, NaN or infinite.
    """
    array: NDArray[Any] = np.asarray(embeddings)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"embeddings have the shape {list(array.shape)}: give one row a recording, [n, D]")
    if array.dtype.kind not in "iuf":
        raise ShapeError(f"embeddings are of type {array.dtype}: give real numbers")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
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
        ShapeError: see `length_normalise`; a trial that names a row that does not exist.
    """
    unit = length_normalise(embeddings)
    for side in (trials.enroll, trials.test):
        if len(side) and not (side.min() >= 0 and side.max() < len(unit)):
            trial = int(np.flatnonzero((side < 0) | (side >= len(unit)))[0])
            raise ShapeError(f"trial {trial} names row {side[trial]}, but embeddings have rows 0 to {len(unit) - 1}")
    scores = np.empty(len(trials), dtype=np.float32)
    block = max(1, GATHER_VALUES // unit.shape[1])
    for start in range(0, len(scores), block):
        part = slice(start, start + block)
        np.einsum("md,md->m", unit[trials.enroll[part]], unit[trials.test[part]], out=scores[part])
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
        ShapeError: see `length_normalise`; as many speakers as rows are needed.
    """
    unit = length_normalise(embeddings)
    speakers = speaker_numbers(speaker_index)
    n = len(unit)
    if len(speakers) != n:
        raise ShapeError(f"{n} embeddings, but {len(speakers)} speakers: give one speaker a row")
    num_target, num_nontarget = count_pairs(speakers)
    target_scores = np.empty(num_target, dtype=np.float32)
    nontarget_scores = np.empty(num_nontarget, dtype=np.float32)
    targets = nontargets = 0
    rows = max(1, PRODUCT_VALUES // n)
    columns = np.arange(n)
    for start in range(0, n, rows):
        end = min(start + rows, n)
        cosines = np.clip(unit[start:end] @ unit[start:].T, -1.0, 1.0)
        later = columns[start:] > columns[start:end, None]
        same = speakers[start:] == speakers[start:end, None]
        found = cosines[later & same]
        target_scores[targets : targets + len(found)] = found
        targets += len(found)
        found = cosines[later & ~same]
        nontarget_scores[nontargets : nontargets + len(found)] = found
        nontargets += len(found)
    return target_scores, nontarget_scores
