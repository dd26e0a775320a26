"""SphereFace2: one binary classification for each speaker, instead of one softmax over all of them.

Wen, Liu, Weller, Raj and Singh, "SphereFace2: binary classification is all you need for deep face recognition", ICLR
2022, arXiv 2108.01513; for speakers, Han, Chen and Qian, "Exploring binary classification loss for speaker
verification", ICASSP 2023.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.losses.cosine_head import CosineHead, cosine_of_difference, cosine_of_sum

MARGIN_TYPES = ("cosine", "angle")


class SphereFace2(CosineHead):
    """The weighted sum over all classes of "is it this one?", each a logistic loss of its own.

    Call it as `loss, logits = head(embeddings, labels)`.

    Parameters
    ----------
    embedding_dim
        Width of the embeddings.
    num_classes
        Number of classes.
    margin
        Margin of the target and of all other classes; `set_margin` changes it. WeSpeaker trains with 0.2 (cosine) or
        0.15 (angle), and fine-tunes with 0.3 or 0.25.
    scale
        Factor on the similarities, r in the paper.
    positive_weight
        Weight of the target's loss, lambda in the paper; the sum over the other classes has 1 - positive_weight.
    similarity_power
        Exponent t of the similarity g(z) = 2 ((z + 1) / 2)^t - 1 of a cosine z; above 1, similarities of unlike
        recordings spread out.
    margin_type
        `cosine`: the similarity of the target is g(cos(theta)) - margin, and of another class g(cos(theta)) + margin
        (type C). `angle`: g(cos(theta + margin)) and g(cos(theta - margin)) (type A).

    Raises
    ------
    ConfigError
        A setting is out of range.

    Notes
    -----
    For a target similarity s and similarities n of the other classes, the loss of an embedding is
    positive_weight * softplus(-(scale * s + bias)) + (1 - positive_weight) * sum(softplus(scale * n + bias)). The state
    is `weight` [num_classes, embedding_dim] and `bias`, a scalar that begins at 0, as in WeSpeaker; the paper begins
    where the loss is lowest. Angles within the margin of 0 or pi are continued as in AAMSoftmax, and below -1 the power
    is that of the absolute value with a minus sign, so that similarities grow with the cosine everywhere.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        margin: float = 0.2,
        scale: float = 32.0,
        positive_weight: float = 0.7,
        similarity_power: int = 3,
        margin_type: str = "cosine",
    ) -> None:
        if margin_type not in MARGIN_TYPES:
            raise ConfigError(f"SphereFace2: margin_type is {margin_type!r}; it must be {' or '.join(MARGIN_TYPES)}")
        self.margin_type = margin_type  # which margins are possible depends on it
        super().__init__(embedding_dim, num_classes, margin=margin, scale=scale)
        self._require("positive_weight", positive_weight, lambda w: 0 < w < 1, "above 0 and below 1")
        self._require(
            "similarity_power", similarity_power, lambda t: t >= 1, "a whole number of at least 1", whole=True
        )
        self.positive_weight = float(positive_weight)
        self.similarity_power = int(similarity_power)
        self.bias = nn.Parameter(torch.zeros(()))

    def set_margin(self, margin: float) -> None:
        if self.margin_type == "cosine":
            self._require("margin", margin, lambda m: 0 <= m < 1, "at least 0 and below 1")
        else:
            self._require("margin", margin, lambda m: 0 <= m <= math.pi / 2, "radians between 0 and pi/2 (1.5708)")
        self.margin = float(margin)

    def _loss_and_logits(self, cosines: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        target = labels.unsqueeze(1)
        of_target = cosines.gather(1, target)
        if self.margin_type == "cosine":
            positive, negative = self._similarity(of_target) - self.margin, self._similarity(cosines) + self.margin
        else:
            positive = self._similarity(cosine_of_sum(of_target, self.margin))
            negative = self._similarity(cosine_of_difference(cosines, self.margin))
        accepted = functional.softplus(-(self.scale * positive + self.bias)).squeeze(1)
        rejected = functional.softplus(self.scale * negative + self.bias).scatter(1, target, 0.0).sum(dim=1)
        loss = self.positive_weight * accepted + (1 - self.positive_weight) * rejected
        return loss.mean(), self.scale * cosines

    def _similarity(self, cosine: Tensor) -> Tensor:
        half = (cosine + 1) / 2
        return 2 * half * half.abs().pow(self.similarity_power - 1) - 1

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, positive_weight={self.positive_weight:g}"
        return f"{text}, similarity_power={self.similarity_power}, margin_type={self.margin_type}"
