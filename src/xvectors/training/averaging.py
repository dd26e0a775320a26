"""Average of the weights over the newest part of a run, on torch.optim.swa_utils.AveragedModel.

The weight of each step is a power of its time, so that the width of the average is a share of the run, however long
the run is: Karras, Aittala, Lehtinen, Hellsten, Aila and Laine, "Analyzing and improving the training dynamics of
diffusion models", CVPR 2024, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaging_exponent(width: float) -> float:
    """Return the exponent g of the weights t^g whose standard deviation is `width` times the length of the run.

    The relative deviation is sqrt((g + 1) / ((g + 2)^2 (g + 3))), which falls from 0.289 at g = 0.
    """
    return float(brentq(lambda g: math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) - width, 0.0, 1e6))


class WeightAverage(AveragedModel):
    """The average of a module's weights and buffers over the newest `width` (above 0, at most 0.28) of all steps.

    `module` is the averaged copy, `n_averaged` the number of steps in it. Floating-point buffers, such as BatchNorm's
    running statistics, are averaged; counters are copied.
    """

    def __init__(self, module: nn.Module, width: float) -> None:
        super().__init__(module, multi_avg_fn=self._blend, use_buffers=True)
        self.module.requires_grad_(False).eval()
        self._exponent = averaging_exponent(width)

    def _blend(self, averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        """Update tensors of one device and dtype; the counter itself stays on the CPU, so nothing is synchronized."""
        if averaged[0].is_floating_point():
            share = 1.0 - (1.0 - 1.0 / (int(self.n_averaged) + 1)) ** (self._exponent + 1.0)
            torch._foreach_lerp_(list(averaged), list(current), share)
        else:
            torch._foreach_copy_(list(averaged), list(current))
