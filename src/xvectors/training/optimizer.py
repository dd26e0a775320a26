"""Optimizers, and the schedules of learning rate and margin."""

from __future__ import annotations

import math

import torch
from torch import nn

from xvectors.config import TrainingConfig
from xvectors.errors import ConfigError

CLASS_LAYERS = ("model.classifier.", "head.")
"""Prefixes of parameters of the class layer."""

FIRST_SHARE = 0.04
"""Share of the peak rate at which a warm-up begins."""


def make_optimizer(network: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """Make Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), or SGD with Nesterov momentum.

    AdamW and SGD decay matrices and kernels, but not biases and scales of normalization. The key `backbone` of each
    parameter group says whether it belongs to the backbone or to the class layer.
    """
    rate, decay = training.learning_rate, training.weight_decay
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        decays = parameter.ndim > 1 or training.optimizer == "adam"
        groups.setdefault((not name.startswith(CLASS_LAYERS), decays), []).append(parameter)
    parameters = [
        {"params": members, "backbone": backbone, "weight_decay": decay if decays else 0.0}
        for (backbone, decays), members in groups.items()
    ]
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate)
    if training.optimizer == "sgd":
        nesterov = training.momentum > 0
        return torch.optim.SGD(parameters, lr=rate, momentum=training.momentum, nesterov=nesterov)
    return torch.optim.AdamW(parameters, lr=rate)


def set_rates(optimizer: torch.optim.Optimizer, training: TrainingConfig, progress: float) -> None:
    """Set the learning rate of every parameter group for `progress` in [0, 1] of the run."""
    rate = learning_rate(training, progress)
    for group in optimizer.param_groups:
        group["lr"] = rate * training.backbone_rate if group["backbone"] else rate


def in_head_only_stage(training: TrainingConfig, progress: float) -> bool:
    """Whether `progress` in [0, 1] is in the first stage, which trains only the class layer."""
    return progress < training.head_only_share


def in_large_margin_stage(training: TrainingConfig, progress: float) -> bool:
    """Whether `progress` in [0, 1] is in the last stage, which trains with a large margin on long chunks.

    Thienpondt, Desplanques and Demuynck, "The IDLab VoxSRC-20 submission: large margin fine-tuning and quality-aware
    score calibration in DNN based speaker verification", ICASSP 2021.
    """
    return training.large_margin_share > 0 and progress >= 1.0 - training.large_margin_share


def learning_rate(training: TrainingConfig, progress: float) -> float:
    """Return the learning rate at `progress` in [0, 1] of the run. It has no state, so resuming is exact.

    After a linear warm-up over the first `warm_up` share, `one_cycle` decays to zero along a half cosine (after Smith
    and Topin, arXiv 1708.07120), and `exponential` decays by a constant factor per step to `final_share`.
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


def margin_at(progress: float, start: float, end: float, final: float) -> float:
    """Return the margin at a point of a run: 0 until `start`, then rising linearly to `final` at `end`.

    Parameters
    ----------
    progress, start, end
        Shares of the run, in [0, 1]. If `start` equals `end`, the margin rises in one step.
    final
        The full margin.

    Raises
    ------
    ConfigError
        Not 0 <= start <= end <= 1, or `final` is negative.

    Notes
    -----
    The margin has no state, so that a resumed run continues exactly. WeSpeaker's exponential ramp, at 90 % after a
    third of its length, is close to a linear ramp a third as long.
    """
    if not 0 <= start <= end <= 1:
        raise ConfigError(f"the margin's ramp goes from {start} to {end}; it must be 0 <= start <= end <= 1")
    if not 0 <= final < math.inf:
        raise ConfigError(f"the margin's final value is {final}; it must be at least 0")
    if progress >= end:
        return final
    return 0.0 if progress <= start else final * (progress - start) / (end - start)
