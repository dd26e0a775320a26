"""Averages of weights over the newest part of a run. In: a module after each step. Out: a second one, the average.

The average's profile is a power of the time, so that its width is a share of the run, however long that turns out to
be: Karras, Aittala, Lehtinen, Hellsten, Aila and Laine, "Analyzing and improving the training dynamics of diffusion
models", CVPR 2024, section 3.1.
"""

from __future__ import annotations

import copy
import math

import torch
from scipy.optimize import brentq
from torch import Tensor, nn


def exponent_of(width: float) -> float:
    """The exponent g of the profile t^g whose standard deviation is `width` times the length of the run.

    The profile's relative deviation is sqrt((g + 1) / ((g + 2)^2 (g + 3))), which falls from 0.289 at g = 0.
    """
    return float(brentq(lambda g: math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) - width, 0.0, 1e6))


class WeightAverage:
    """`module` is the average of what `update` was given, its newest `width` (above 0, at most 0.28) of all steps.

    BatchNorm's running statistics are averaged as the weights are; counters are copied.
    """

    def __init__(self, module: nn.Module, width: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.num_steps = 0
        self._exponent = exponent_of(width)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the weights of `module` after one more step."""
        self.num_steps += 1
        share = 1.0 - (1.0 - 1.0 / self.num_steps) ** (self._exponent + 1.0)
        ours, theirs = _tensors(self.module), _tensors(module)
        torch._foreach_lerp_(
            [t for t in ours if t.is_floating_point()], [t for t in theirs if t.is_floating_point()], share
        )
        for mine, other in zip(ours, theirs, strict=True):
            if not mine.is_floating_point():
                mine.copy_(other)


def _tensors(module: nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())
