"""The affine map after a trained network, which training learns to prepare embeddings for cosine scoring."""

from __future__ import annotations

from torch import Tensor, nn

from xvectors.errors import ShapeError


class EmbeddingMap(nn.Module):
    """Map embeddings to `(embedding - mean) @ matrix`.

    Parameters
    ----------
    mean
        [dim].
    matrix
        [dim, dim].

    Raises
    ------
    ShapeError
        The shapes do not fit each other.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        if mean.dim() != 1 or matrix.shape != (len(mean), len(mean)):
            raise ShapeError(
                f"EmbeddingMap: mean {list(mean.shape)} and matrix {list(matrix.shape)} do not fit each other"
            )
        self.register_buffer("mean", mean.float())
        self.register_buffer("matrix", matrix.float())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [..., dim] to [..., dim], in float32."""
        return (embeddings.float() - self.mean) @ self.matrix
