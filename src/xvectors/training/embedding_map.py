"""Learn the embedding map, which follows the trained network.

It centers embeddings and whitens them by the covariance within speakers, like the back-end `WCCN`, but is stored with
the weights, so that cosine scores use it too.
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
"""Shrinkage of the covariance towards a multiple of the identity: recordings of training speakers vary less than
others, and in too few directions."""


def fit_embedding_map(embeddings: NDArray[np.float32], speakers: NDArray[np.int64]) -> EmbeddingMap:
    """Fit the map to embeddings [n, dim] of speakers [n]. Raises ShapeError for embeddings that are not finite.

    Without second recordings of speakers the map only centers, with a warning.
    """
    mean = Center().fit(embeddings, speakers).mean_
    try:
        matrix = WCCN(SHRINKAGE).fit(embeddings, speakers).projection_
    except ManifestError as error:
        logger.warning("the embedding map only centers: %s", error)
        matrix = np.eye(len(mean))
    return EmbeddingMap(torch.from_numpy(mean), torch.from_numpy(matrix))
