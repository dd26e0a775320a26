"""Optimisers and schedules. In: a TrainingConfig. Out: an optimiser; the learning rate as a function of progress."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from xvectors.config import TrainingConfig

ONE_CYCLE_START = 0.04
"""Share of the peak rate at which one_cycle begins."""


def make_optimiser(parameters: Iterable[nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    """Adam with L2 weight decay in the gradient (Kingma and Ba 2015), as the exercise uses it."""
    return torch.optim.Adam(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)


def learning_rate(training: TrainingConfig, progress: float) -> float:
    """The rate at `progress` in [0, 1] of the run; it has no state, so that a resumed run goes on exactly.

    `one_cycle` climbs linearly over the first `warm_up` share, then falls to zero along a half cosine (after Smith and
    Topin, arXiv 1708.07120).
    """
    peak = training.learning_rate
    if training.schedule == "constant":
        return peak
    if progress < training.warm_up:
        return peak * (ONE_CYCLE_START + (1 - ONE_CYCLE_START) * progress / training.warm_up)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - training.warm_up) / (1 - training.warm_up)))
