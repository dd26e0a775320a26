"""The affine map behind a trained network. In: embeddings. Out: embeddings for the cosine. Training learns it."""

from __future__ import annotations

from torch import Tensor, nn

from xvectors.errors import ShapeError


class EmbeddingMap(nn.Module):
    """`(embedding - mean) @ matrix`, with `mean` [dim] and `matrix` [dim, dim]; ShapeError where they do not fit."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        if mean.dim() != 1 or matrix.shape != (len(mean), len(mean)):
            raise ShapeError(f"EmbeddingMap: mean {list(mean.shape)} and matrix {list(matrix.shape)} do not belong")
        self.register_buffer("mean", mean.float())
        self.register_buffer("matrix", matrix.float())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [..., dim] to [..., dim], in float32."""
        return (embeddings.float() - self.mean) @ self.matrix
