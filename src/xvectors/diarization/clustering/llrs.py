"""LLRs between embeddings, given the seconds of speech behind each, and the mean embeddings of clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xvectors.verification import Verifier
from xvectors.verification.verifier import magnitudes_of

Labels = NDArray[np.int64]
Embeddings = NDArray[np.float32]
Seconds = NDArray[np.float64]

PAIRS_AT_ONCE = 500_000
MIN_WINDOW_S = 0.8
"""Shorter windows found no cluster; they are assigned to the speakers that the others found."""


@dataclass(frozen=True)
class LLRs:
    """LLRs of embeddings with their durations."""

    verifier: Verifier

    def matrix(self, left: Embeddings, left_s: Seconds, right: Embeddings, right_s: Seconds) -> NDArray[np.float32]:
        """Return LLRs [k, m] of each row of `left` [k, D] with each of `right` [m, D], given the seconds of both."""
        scores = self.verifier.backend.score_matrix(left, right)
        llrs = np.empty(scores.shape, dtype=np.float32)
        step = max(1, PAIRS_AT_ONCE // max(1, len(right)))
        for first in range(0, len(left), step):
            part = slice(first, min(first + step, len(left)))
            one, other = np.broadcast_arrays(left_s[part, None], right_s[None])
            lengths = np.broadcast_arrays(magnitudes_of(left[part])[:, None], magnitudes_of(right)[None])
            llrs[part] = self.verifier.llrs(
                scores[part].ravel(),
                one.ravel(),
                other.ravel(),
                enroll_magnitude=lengths[0].ravel(),
                test_magnitude=lengths[1].ravel(),
            ).reshape(one.shape)
        return llrs


def mean_embeddings(rows: Embeddings, seconds: Seconds, labels: Labels, count: int) -> tuple[Embeddings, Seconds]:
    """Return the mean embedding [count, D] of each label, weighted by seconds, and its seconds in all [count]."""
    known = labels >= 0
    weights = np.zeros((count, len(rows)))
    weights[labels[known], np.flatnonzero(known)] = np.maximum(seconds[known], 1e-3)
    totals = weights.sum(axis=1)
    means = weights @ rows / np.maximum(totals, 1e-9)[:, None]
    return means.astype(np.float32), totals
