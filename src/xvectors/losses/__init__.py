"""Losses over the training speakers: a table of them by name, and the functions that build one.

The plain softmax is a function of a network's logits. The margin losses are heads with class weights of their own, from
embeddings and labels to a loss and logits.
"""

from xvectors.losses.building import MARGIN_LOSSES, build_loss, make_head, register_loss
from xvectors.losses.cosine_head import CosineHead
from xvectors.losses.distillation import distillation_loss
from xvectors.losses.margin_softmax import AAMSoftmax, AMSoftmax, MarginSoftmax, softmax_loss
from xvectors.losses.sphereface2 import SphereFace2

__all__ = [
    "MARGIN_LOSSES",
    "AAMSoftmax",
    "AMSoftmax",
    "CosineHead",
    "MarginSoftmax",
    "SphereFace2",
    "build_loss",
    "distillation_loss",
    "make_head",
    "register_loss",
    "softmax_loss",
]
