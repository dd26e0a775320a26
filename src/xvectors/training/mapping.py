"""What is learnt behind the finished network. In: its embeddings of training recordings. Out: an EmbeddingMap.

It centres and evens out how recordings of one speaker scatter: the transform `WCCN` of the scoring back-ends, stored
with the weights, so that a plain cosine has it too.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from xvectors.errors import ManifestError
from xvectors.models import EmbeddingMap
from xvectors.scoring.backends import WCCN, Centre

logger = logging.getLogger(__name__)

RECORDINGS_A_SPEAKER, RECORDINGS_AT_MOST = 20, 20_000

SHRINKAGE = 0.5
"""How far the covariance is drawn towards a sphere: training speakers' recordings lie closer together than those of
others ever will, and in fewer directions than there are."""


def rows_to_learn_from(rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Up to RECORDINGS_A_SPEAKER drawn rows of each speaker, of so many drawn speakers as RECORDINGS_AT_MOST allow."""
    generator = np.random.default_rng(seed)
    rank = generator.permutation(int(labels.max()) + 1)
    drawn = generator.permutation(rows)
    drawn = drawn[np.argsort(rank[labels[drawn]], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[drawn], prepend=-1))
    place = np.arange(len(drawn)) - np.repeat(starts, np.diff(np.append(starts, len(drawn))))
    return np.sort(drawn[place < RECORDINGS_A_SPEAKER][:RECORDINGS_AT_MOST])


def fit_embedding_map(embeddings: NDArray[np.float32], speakers: NDArray[np.int64]) -> EmbeddingMap:
    """The map for embeddings [n, dim] of speakers [n]; ShapeError for embeddings that are not finite.

    Where the scatter within speakers cannot be learnt, for want of second recordings, it only centres, with a warning.
    """
    mean = Centre().fit(embeddings, speakers).mean_
    try:
        matrix = WCCN(SHRINKAGE).fit(embeddings, speakers).projection_
    except ManifestError as error:
        logger.warning("the embedding map only centres: %s", error)
        matrix = np.eye(len(mean))
    return EmbeddingMap(torch.from_numpy(mean), torch.from_numpy(matrix))
