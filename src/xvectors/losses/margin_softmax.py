"""The softmax losses over the training speakers.

The plain softmax is a function of a network's logits. Each margin softmax is a head with its own class weights: CosFace
or AM-softmax (Wang et al., 2018), ArcFace or AAM-softmax (Deng et al., 2019), with sub-centers (Deng et al., 2020) and
an inter-top-k penalty (Zhao et al., 2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from xvectors.losses.cosine_head import CosineHead, cosine_of_difference, cosine_of_sum


def softmax_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Compute the mean cross-entropy in nats, in at least float32, under autocast as well.

    Parameters
    ----------
    logits
        [batch, num_classes].
    labels
        int64 [batch].
    label_smoothing
        Share of the target's probability that is spread evenly over all classes (Szegedy et al., CVPR 2016).

    Returns
    -------
    Tensor
        A scalar.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        return functional.cross_entropy(logits.to(dtype), labels, label_smoothing=label_smoothing)


class MarginSoftmax(CosineHead):
    """Cross-entropy of scaled cosines with a margin against the target: the base of AMSoftmax and AAMSoftmax.

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
        Factor on the cosines, which lets the softmax approach 0 and 1.
    sub_centers
        Weight vectors per class, of which the one nearest to the embedding counts (Deng, Guo, Liu, Gong and Zafeiriou,
        "Sub-center ArcFace", ECCV 2020).
    inter_top_k, inter_top_k_margin
        Number of nearest wrong classes that get a margin too, and that margin in radians: their cosine becomes
        cos(theta - inter_top_k_margin), or cos(theta) + 1 - cos(inter_top_k_margin) for angles below the margin (Zhao
        et al., "Multi-query multi-head attention pooling and inter-topK penalty for speaker verification", ICASSP 2022,
        arXiv 2110.05042; WeSpeaker uses 5 and 0.06). `set_margin` does not change it.
    label_smoothing
        Share of the target's probability that is spread evenly over all classes.

    Raises
    ------
    ConfigError
        A setting is out of range.

    Notes
    -----
    The state is `weight` [num_classes * sub_centers, embedding_dim], with the sub-centers of a class in succession.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        margin: float = 0.2,
        scale: float = 30.0,
        sub_centers: int = 1,
        inter_top_k: int = 0,
        inter_top_k_margin: float = 0.06,
        label_smoothing: float = 0.0,
    ) -> None:
        self._require("sub_centers", sub_centers, lambda n: n >= 1, "a whole number of at least 1", whole=True)
        super().__init__(embedding_dim, num_classes, margin=margin, scale=scale, vectors_per_class=int(sub_centers))
        self._require("label_smoothing", label_smoothing, lambda x: 0 <= x < 1, "at least 0 and below 1")
        wanted = f"a whole number from 0 (none) to {self.num_classes - 1}, the number of wrong classes"
        self._require("inter_top_k", inter_top_k, lambda k: 0 <= k < self.num_classes, wanted, whole=True)
        wanted = "radians between 0 and pi/2 (1.5708)"
        self._require("inter_top_k_margin", inter_top_k_margin, lambda m: 0 <= m <= math.pi / 2, wanted)
        self.sub_centers = int(sub_centers)
        self.inter_top_k = int(inter_top_k)
        self.inter_top_k_margin = float(inter_top_k_margin)
        self.label_smoothing = float(label_smoothing)

    def _lowered(self, cosine: Tensor) -> Tensor:
        """Apply the margin to the cosine of the target."""
        raise NotImplementedError

    def _loss_and_logits(self, cosines: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        cosine = cosines.view(-1, self.num_classes, self.sub_centers).max(dim=2).values
        target = labels.unsqueeze(1)
        penalized = cosine.scatter(1, target, self._lowered(cosine.gather(1, target)))
        if self.inter_top_k:
            wrong = cosine.detach().scatter(1, target, -math.inf)
            hardest = wrong.topk(self.inter_top_k, dim=1).indices
            raised = cosine_of_difference(cosine.gather(1, hardest), self.inter_top_k_margin)
            penalized = penalized.scatter(1, hardest, raised)
        return softmax_loss(self.scale * penalized, labels, self.label_smoothing), self.scale * cosine

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, sub_centers={self.sub_centers}, inter_top_k={self.inter_top_k}"
        return f"{text}, inter_top_k_margin={self.inter_top_k_margin:g}, label_smoothing={self.label_smoothing:g}"


class AMSoftmax(MarginSoftmax):
    """Additive margin on the cosine: the target's logit is scale * (cos(theta) - margin), with 0 <= margin < 1.

    References
    ----------
    Wang, Wang, Zhou, Ji, Gong, Zhou, Li and Liu, "CosFace: large margin cosine loss for deep face recognition", CVPR
    2018; also Wang, Cheng, Liu and Liu, "Additive margin softmax for face verification", 2018.
    """

    def set_margin(self, margin: float) -> None:
        self._require("margin", margin, lambda m: 0 <= m < 1, "at least 0 and below 1")
        self.margin = float(margin)

    def _lowered(self, cosine: Tensor) -> Tensor:
        return cosine - self.margin


class AAMSoftmax(MarginSoftmax):
    """Additive margin on the angle: the target's logit is scale * cos(theta + margin), with a margin of 0 to pi/2.

    Notes
    -----
    Beyond theta + margin = pi, where that cosine would rise again, the logit is scale * (cos(theta) - 1 + cos(margin)),
    so that it falls from 0 to pi without a jump. The reference implementation's cos(theta) - margin * sin(margin) has
    the same slope there, but jumps at the joint, which the gradient does not describe.

    References
    ----------
    Deng, Guo, Xue and Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019.
    """

    def set_margin(self, margin: float) -> None:
        wanted = "radians between 0 and pi/2 (1.5708)"
        self._require("margin", margin, lambda m: 0 <= m <= math.pi / 2, wanted)
        self.margin = float(margin)

    def _lowered(self, cosine: Tensor) -> Tensor:
        return cosine_of_sum(cosine, self.margin)
