"""The base of the margin losses: class weights, and the cosines between them and the embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError

MIN_NORM = 1e-12
"""A shorter vector has no direction: its cosines and its gradient are 0."""


class CosineHead(nn.Module):
    """A loss over the cosines between embeddings and class weights.

    Call it as `loss, logits = head(embeddings, labels)`.

    Parameters
    ----------
    embedding_dim
        Width of the embeddings.
    num_classes
        Number of classes.
    margin
        Margin against the target; `set_margin` changes it.
    scale
        Factor on the cosines.
    vectors_per_class
        Number of weight vectors per class.

    Raises
    ------
    ConfigError
        A setting is out of range.

    Notes
    -----
    An embedding or weight vector of no length has cosines of 0 and no gradient; in float16, so has one shorter than
    2 * scale / 65504, whose gradient would be infinite. An embedding with a NaN or an infinity gives no finite loss.
    """

    margin: float

    def __init__(
        self, embedding_dim: int, num_classes: int, *, margin: float, scale: float, vectors_per_class: int = 1
    ) -> None:
        super().__init__()
        self._require("embedding_dim", embedding_dim, lambda n: n >= 1, "a whole number of at least 1", whole=True)
        self._require("num_classes", num_classes, lambda n: n >= 2, "a whole number of at least 2", whole=True)
        self._require("scale", scale, lambda s: 0 < s < math.inf, "a finite number above 0")
        self.set_margin(margin)
        self.embedding_dim = int(embedding_dim)
        self.num_classes = int(num_classes)
        self.scale = float(scale)
        # directions are uniform and lengths about 1, for any number of classes and dimensions
        self.weight = nn.Parameter(torch.randn(self.num_classes * vectors_per_class, self.embedding_dim))
        with torch.no_grad():
            self.weight.mul_(self.embedding_dim**-0.5)

    def set_margin(self, margin: float) -> None:
        """Change the margin; raise ConfigError, and keep the old margin, if it is out of range."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss and the logits in at least float32, under autocast as well.

        Parameters
        ----------
        embeddings
            [batch, embedding_dim], of any floating-point type.
        labels
            int64 [batch].

        Returns
        -------
        tuple[Tensor, Tensor]
            The mean loss in nats, a scalar, and the scaled cosines [batch, num_classes] without margins, from which the
            accuracy is computed.

        Raises
        ------
        ShapeError
            Shapes or types differ, or (on the CPU) a label is out of range. On a GPU torch itself stops at such a
            label: a check would have to wait for the GPU.
        """
        self._check_input(embeddings, labels)
        dtype = torch.promote_types(torch.promote_types(embeddings.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = functional.linear(self._directions(embeddings, dtype), self._directions(self.weight, dtype))
            return self._loss_and_logits(cosines, labels)

    def _loss_and_logits(self, cosines: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` returns, from the cosines to all weight vectors."""
        raise NotImplementedError

    def _directions(self, vectors: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale rows to length 1; rows of no length become 0.

        A gradient reaches at most 2 * scale / norm, which overflows in float16 for vectors shorter than the floor.
        """
        floor = max(MIN_NORM, 2 * self.scale / torch.finfo(vectors.dtype).max)
        vectors = vectors.to(dtype)
        norm = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        # division by an infinite length would give 0, and a diverged run would continue with a finite loss
        norm = norm.masked_fill(norm.isinf(), math.nan)
        directions: Tensor = vectors / norm.clamp(min=floor)
        return directions.masked_fill(norm <= floor, 0.0)

    def _check_input(self, embeddings: Tensor, labels: Tensor) -> None:
        name, shape = type(self).__name__, list(embeddings.shape)
        if embeddings.dim() != 2 or shape[1] != self.embedding_dim or not shape[0]:
            raise ShapeError(f"{name}: expected embeddings [batch, {self.embedding_dim}], got {shape}")
        if not embeddings.is_floating_point():
            raise ShapeError(f"{name}: embeddings must be floating-point numbers, got {embeddings.dtype}")
        if list(labels.shape) != shape[:1] or labels.dtype != torch.int64:
            raise ShapeError(
                f"{name}: expected {shape[0]} labels of torch.int64, one per embedding, "
                f"got {list(labels.shape)} of {labels.dtype}"
            )
        if labels.device.type != "cpu":
            return
        lowest, highest = torch.stack(labels.aminmax()).tolist()
        if lowest < 0 or highest >= self.num_classes:
            wrong = lowest if lowest < 0 else highest
            raise ShapeError(f"{name}: labels must lie between 0 and {self.num_classes - 1}, got {wrong}")

    def _require(
        self, name: str, value: Any, holds: Callable[[Any], bool], wanted: str, *, whole: bool = False
    ) -> None:
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real) or not holds(value):
            raise ConfigError(f"{type(self).__name__}: {name} is {value!r}; it must be {wanted}")

    def extra_repr(self) -> str:
        return f"{self.embedding_dim}, {self.num_classes}, margin={self.margin:g}, scale={self.scale:g}"


def cosine_of_sum(cosine: Tensor, margin: float) -> Tensor:
    """Return cos(theta + margin) up to theta = pi - margin, then cos(theta) minus the constant that joins the two.

    The sine is a root, because the gradient of acos is infinite at 0 and pi. It has a floor, and no gradient there:
    rounding makes cosines of 1 and slightly above.
    """
    sine = ((1.0 - cosine) * (1.0 + cosine)).clamp(min=torch.finfo(cosine.dtype).eps ** 2).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), turned, cosine - (1.0 - math.cos(margin)))


def cosine_of_difference(cosine: Tensor, margin: float) -> Tensor:
    """Return cos(theta - margin) from theta = margin on, and below it cos(theta) plus the constant that joins the two.

    Towards the opposite direction a wrong class is like a target.
    """
    return -cosine_of_sum(-cosine, margin)
