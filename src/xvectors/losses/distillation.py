"""The loss of a network that learns a teacher's embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from xvectors.config import DistillationConfig


def distillation_loss(embeddings: Tensor, targets: Tensor, settings: DistillationConfig) -> Tensor:
    """Compute the weighted sum of the cosine and the relational loss, in float32.

    Parameters
    ----------
    embeddings
        The student's, [batch, dim], two or more.
    targets
        The teacher's, [batch, dim], each of length 1.
    settings
        The weights.

    Returns
    -------
    A scalar: the mean of 1 - cos, and the mean squared error of the cosines of all pairs over the mean square of the
    teacher's, so that both are about 1 before training.

    References
    ----------
    Park, Kim, Lu and Cho, "Relational knowledge distillation", CVPR 2019, with cosines instead of distances.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        directions = functional.normalize(embeddings.float(), dim=1)
        cosine = (1.0 - (directions * targets).sum(dim=1)).mean()
        pairs = torch.triu_indices(len(targets), len(targets), offset=1, device=targets.device)
        wanted = (targets @ targets.T)[pairs[0], pairs[1]]
        found = (directions @ directions.T)[pairs[0], pairs[1]]
        relational = (found - wanted).square().mean() / wanted.square().mean().clamp(min=1e-6)
    return settings.cosine_weight * cosine + settings.relational_weight * relational
