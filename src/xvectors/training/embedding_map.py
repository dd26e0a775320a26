"""What is learned behind the finished network. In: its embeddings of training recordings. Out: an EmbeddingMap.

It centers and evens out how recordings of one speaker scatter: the transform `WCCN` of the scoring back-ends, stored
with the weights, so that a plain cosine has it too.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from xvectors.backends import WCCN, Center
from xvectors.errors import ManifestError
from xvectors.models import EmbeddingMap

logger = logging.getLogger(__name__)

SHRINKAGE = 0.5
"""How far the covariance is drawn towards a sphere: training speakers' recordings lie closer together than those of
others ever will, and in fewer directions than there are."""


def fit_embedding_map(embeddings: NDArray[np.float32], speakers: NDArray[np.int64]) -> EmbeddingMap:
    """The map for embeddings [n, dim] of speakers [n]; ShapeError for embeddings that are not finite.

    Where the scatter within speakers cannot be learned, for want of second recordings, it only centers, with a warning.
    """
    mean = Center().fit(embeddings, speakers).mean_
    try:
        matrix = WCCN(SHRINKAGE).fit(embeddings, speakers).projection_
    except ManifestError as error:
        logger.warning("the embedding map only centers: %s", error)
        matrix = np.eye(len(mean))
    return EmbeddingMap(torch.from_numpy(mean), torch.from_numpy(matrix))
