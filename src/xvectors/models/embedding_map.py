"""The affine map behind a trained network. In: embeddings [n, dim] and who speaks. Out: embeddings for the cosine.

Centring, and within-class covariance normalisation: Hatch, Kajarekar and Stolcke, "Within-class covariance
normalization for SVM-based speaker recognition", Interspeech 2006; for cosine scores Dehak et al., IEEE TASLP 2011.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from xvectors.errors import ShapeError

SHRINKAGE = 0.5
"""How much of the covariance is replaced by its mean variance in all directions: training speakers' recordings lie
closer together than those of others ever will, and in fewer directions than there are."""


class EmbeddingMap(nn.Module):
    """`(embedding - mean) @ matrix`, with `mean` [dim] and `matrix` [dim, dim]."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        if mean.dim() != 1 or matrix.shape != (len(mean), len(mean)):
            raise ShapeError(f"EmbeddingMap: mean {list(mean.shape)} and matrix {list(matrix.shape)} do not belong")
        self.register_buffer("mean", mean.float())
        self.register_buffer("matrix", matrix.float())

    @classmethod
    def fit(cls, embeddings: ArrayLike, speakers: ArrayLike, shrinkage: float = SHRINKAGE) -> Self:
        """Take the mean away, and even out how recordings of one speaker scatter.

        `embeddings` are [n, dim] and `speakers` [n] whole numbers. The matrix is the inverse root of the shrunk
        covariance within speakers, at a scale that leaves an average direction as it was. Where no speaker has two
        recordings that differ, only the mean goes. Raises ShapeError for embeddings that are not finite.
        """
        x, labels = np.asarray(embeddings, dtype=np.float64), np.unique(np.asarray(speakers), return_inverse=True)[1]
        if x.ndim != 2 or not len(x) or labels.shape != x.shape[:1] or not np.isfinite(x).all():
            raise ShapeError(
                f"EmbeddingMap: expected finite embeddings [n, dim] and as many speakers, got {list(x.shape)} "
                f"and {list(labels.shape)}"
            )
        mean, dim = x.mean(axis=0), x.shape[1]
        counts = np.bincount(labels)
        sums = np.zeros((len(counts), dim))
        np.add.at(sums, labels, x)
        scatter = x - (sums / counts[:, None])[labels]
        freedom = len(x) - len(counts)
        covariance = scatter.T @ scatter / max(freedom, 1)
        variance = np.trace(covariance) / dim
        if not variance > 0:
            return cls(torch.from_numpy(mean), torch.eye(dim))
        values, vectors = np.linalg.eigh((1 - shrinkage) * covariance / variance + shrinkage * np.eye(dim))
        return cls(torch.from_numpy(mean), torch.from_numpy((vectors / np.sqrt(values)) @ vectors.T))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [..., dim] to [..., dim], in float32."""
        return (embeddings.float() - self.mean) @ self.matrix
