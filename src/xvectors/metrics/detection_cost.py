"""The detection cost: its weights, and the threshold that minimizes it for scores that are LLRs.

Costs are normalized as in the NIST SRE 2016 evaluation plan.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import ConfigError


def cost_weights(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """Return the weights of FRR and FAR in the normalized detection cost. Raises ConfigError for invalid values."""
    _check_costs(p_target, c_miss, c_fa)
    miss, false_alarm = c_miss * p_target, c_fa * (1.0 - p_target)
    return miss / min(miss, false_alarm), false_alarm / min(miss, false_alarm)


def bayes_threshold(p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Return the LLR above which accepting costs less than rejecting: log(c_fa (1 - p_target) / (c_miss p_target)).

    Raises
    ------
    ConfigError
        A prior outside (0, 1), a cost that is not a positive number.
    """
    _check_costs(p_target, c_miss, c_fa)
    return math.log(c_fa * (1.0 - p_target)) - math.log(c_miss * p_target)


def softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 + exp(x)) without overflow."""
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0.0)


def _check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    if not 0.0 < p_target < 1.0:
        raise ConfigError(f"p_target is {p_target}: give the share of target trials, above 0 and below 1")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not (cost > 0.0 and math.isfinite(cost)):
            raise ConfigError(f"{name} is {cost}: give a cost above 0")
