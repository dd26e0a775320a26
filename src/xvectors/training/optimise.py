"""Optimisers and schedules. In: a TrainingConfig. Out: an optimiser; the learning rate as a function of progress."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from xvectors.config import TrainingConfig

FIRST_SHARE = 0.04
"""Share of the peak rate at which a warm-up begins."""


def make_optimiser(parameters: Iterable[nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019) or SGD with Nesterov's momentum."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "sgd":
        nesterov = training.momentum > 0
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=training.momentum, nesterov=nesterov)
    if training.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)


def learning_rate(training: TrainingConfig, progress: float) -> float:
    """The rate at `progress` in [0, 1] of the run; it has no state, so that a resumed run goes on exactly.

    After a linear climb over the first `warm_up` share, `one_cycle` falls to zero along a half cosine (after Smith and
    Topin, arXiv 1708.07120), `exponential` by a constant factor a step to `final_share`.
    """
    peak = training.learning_rate
    if training.schedule == "constant":
        return peak
    if progress < training.warm_up:
        return peak * (FIRST_SHARE + (1 - FIRST_SHARE) * progress / training.warm_up)
    fallen = (progress - training.warm_up) / (1 - training.warm_up)
    if training.schedule == "exponential":
        return peak * math.pow(training.final_share, fallen)
    return peak * 0.5 * (1 + math.cos(math.pi * fallen))
