"""Validation after each epoch: loss and accuracy on trained speakers, the EER on held-out ones, and the best epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import all_pairs_scores
from xvectors.metrics import eer
from xvectors.training.data.dataset import Batch
from xvectors.training.learner import Learner

logger = logging.getLogger(__name__)


def validate(learner: Learner, batches: Iterable[Batch]) -> tuple[float, float]:
    """Return mean loss and accuracy over `batches` and those of the other processes, NaN where there are none."""
    loss_sum, num_correct, num_seen = 0.0, 0.0, 0.0
    for batch in batches:
        loss, correct = learner.measure(batch)
        loss_sum += loss * len(batch.rows)
        num_correct += correct
        num_seen += len(batch.rows)
    loss_sum, num_correct, num_seen = learner.group.sum(loss_sum, num_correct, num_seen)
    return (loss_sum / num_seen, num_correct / num_seen) if num_seen else (math.nan, math.nan)


def held_out_eer(learner: Learner, batches: Iterable[Batch], speaker_index: NDArray[np.int32]) -> float:
    """Return the EER of cosine scores over all pairs of recordings in `batches` and those of the other processes.

    `speaker_index` [rows] gives the speaker of each row of the manifest. The EER is NaN without target or non-target
    trials, and where an embedding is not finite.
    """
    stacked, rows, _ = embed_all(learner, batches)
    if not len(rows):
        return math.nan
    speakers = speaker_index[rows]
    if len(np.unique(speakers)) in (1, len(speakers)) or not np.isfinite(stacked).all():
        return math.nan
    return eer(*all_pairs_scores(stacked, speakers)).eer


def embed_all(
    learner: Learner, batches: Iterable[Batch]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return embeddings [n, dim], rows [n] and labels [n] of `batches` and of those of the other processes."""
    embeddings = [np.zeros((0, learner.model.embedding_dim), dtype=np.float32)]
    rows, labels = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for batch in batches:
        embeddings.append(learner.embed(batch).numpy())
        rows.append(batch.rows.numpy())
        labels.append(batch.labels.numpy())
    together = learner.group.concatenated
    return (
        together(np.concatenate(embeddings)),
        together(np.concatenate(rows)),
        together(np.concatenate(labels)),
    )


def is_best(history: Sequence[Mapping[str, float]], criterion: str, *, has_validation: bool) -> bool:
    """Return whether the last epoch of `history` is the best by `training.best`.

    Ties are broken by the validation loss, or, without validation recordings, in favor of the newer epoch.
    """
    if criterion == "last" or not (has_validation or criterion == "val_eer"):
        return True
    if has_validation and math.isnan(history[-1]["val_loss"]):
        logger.warning("the validation loss of epoch %d is not a number; its weights are not kept", len(history))
        return False

    def merit(row: Mapping[str, float]) -> tuple[float, ...]:
        if criterion == "val_eer":
            error_rate = row["val_eer"] if math.isfinite(row["val_eer"]) else 1.0
            return (-error_rate, -row["val_loss"] if has_validation else row["epoch"])
        return (row["val_accuracy"], -row["val_loss"]) if criterion == "val_accuracy" else (-row["val_loss"],)

    rivals = [row for row in history[:-1] if not (has_validation and math.isnan(row["val_loss"]))]
    return all(merit(history[-1]) > merit(row) for row in rivals)
