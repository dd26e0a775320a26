"""Curves of calibration: reliability, and applied probability of error over priors.

The thresholds of the ROC are natural-log LLRs (Brümmer and du Preez, Comput. Speech Lang. 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ShapeError
from xvectors.metrics.detection_cost import bayes_threshold
from xvectors.metrics.roc import ROC
from xvectors.text import short_repr

LOG_ODDS = np.linspace(-7.0, 7.0, 141)


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Observed share of target trials by stated probability. A calibrated system is on the diagonal.

    Attributes
    ----------
    predicted : [b] mean posterior probability of a target trial in each bin, ascending
    observed : [b] prior-weighted share of target trials in each bin
    num_target, num_nontarget : int64 [b] number of trials in each bin; `observed` is uncertain if they are few
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    num_target: NDArray[np.int64]
    num_nontarget: NDArray[np.int64]


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class APE:
    """The probability of a wrong Bayes decision over priors.

    The areas under `actual` and `minimum`, over all log-odds and divided by 2 log 2, are Cllr and minCllr.

    Attributes
    ----------
    log_odds : [n] prior log-odds of a target trial
    actual : [n] with these LLRs
    minimum : [n] with the best threshold at each prior
    default : [n] without a system: the smaller of the two priors
    """

    log_odds: NDArray[np.float64]
    actual: NDArray[np.float64]
    minimum: NDArray[np.float64]
    default: NDArray[np.float64]


def reliability(roc: ROC, p_target: float = 0.5, num_bins: int = 10) -> Reliability:
    """Return the reliability curve at a prior, in up to `num_bins` bins of equal prior-weighted mass.

    Equal LLRs share a bin.

    Raises ConfigError for a prior outside (0, 1) or less than one bin.
    """
    prior = -bayes_threshold(p_target)
    if num_bins < 1:
        raise ConfigError(f"num_bins is {num_bins}: give at least 1")
    targets = np.diff(roc.misses)
    nontargets = -np.diff(roc.false_accepts)
    of_targets = p_target * targets / roc.num_target
    mass = of_targets + (1 - p_target) * nontargets / roc.num_nontarget
    middles = np.cumsum(mass) - mass / 2
    bins = np.minimum((middles * num_bins).astype(np.int64), num_bins - 1)
    posterior = 1 / (1 + np.exp(-np.clip(roc.thresholds[:-1].astype(np.float64) + prior, -700, 700)))
    in_bin = np.bincount(bins, mass, num_bins)
    some = in_bin > 0
    return Reliability(
        predicted=np.bincount(bins, mass * posterior, num_bins)[some] / in_bin[some],
        observed=np.bincount(bins, of_targets, num_bins)[some] / in_bin[some],
        num_target=np.bincount(bins, targets, num_bins)[some].astype(np.int64),
        num_nontarget=np.bincount(bins, nontargets, num_bins)[some].astype(np.int64),
    )


def applied_probability_of_error(roc: ROC, log_odds: ArrayLike = LOG_ODDS) -> APE:
    """Return the error probabilities at prior log-odds [n], by default -7 to 7.

    Raises ShapeError if the log-odds are not finite.
    """
    odds = np.asarray(log_odds, dtype=np.float64)
    if odds.ndim != 1 or not np.isfinite(odds).all():
        raise ShapeError("prior log-odds must be a list of finite numbers, such as numpy.linspace(-7, 7, 141)")
    p_target, p_nontarget = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(odds))
    frr, far = roc.rates_at_each(-odds)
    corner_frr = roc.misses[roc.hull] / roc.num_target
    corner_far = roc.false_accepts[roc.hull] / roc.num_nontarget
    return APE(
        log_odds=odds,
        actual=p_target * frr + p_nontarget * far,
        minimum=np.min(p_target[:, None] * corner_frr + p_nontarget[:, None] * corner_far, axis=1),
        default=np.minimum(p_target, p_nontarget),
    )
