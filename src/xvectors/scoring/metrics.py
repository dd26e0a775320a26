"""Error rates of a verification system. In: scores of target and of non-target trials, higher for more alike.
Out: the operating points, the equal error rate, minimum detection cost (NIST SRE 2016 evaluation plan)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ManifestError, ShapeError

Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class EERResult:
    """The equal error rate, a fraction from 0 to 1, and its threshold: accept scores >= threshold."""

    eer: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class MinDCF:
    """The least detection cost over all thresholds, and where it is: accept scores >= threshold.

    1.0 is the cost of the best system that does not listen; at threshold inf it is to reject every trial.
    """

    min_dcf: float
    threshold: float


def error_rates(
    target_scores: ArrayLike, nontarget_scores: ArrayLike
) -> tuple[Scores, NDArray[np.float64], NDArray[np.float64]]:
    """Every operating point that these scores allow, from accepting all to rejecting all.

    Args:
        target_scores: [t] scores of trials of one speaker with itself.
        nontarget_scores: [u] scores of trials between two speakers.

    Returns:
        thresholds [k]: the distinct scores, rising, then inf; float32 if both sides are, else float64.
        frr [k]: share of targets rejected, those below the threshold; rises from 0 to 1.
        far [k]: share of non-targets accepted, those at or above it; falls from 1 to 0.
        Equal scores cross the threshold together, whichever side they are on.

    Raises:
        ManifestError: a side without trials.
        ShapeError: scores that are not one-dimensional, not real numbers, or not finite.
    """
    targets = _side(target_scores, "target")
    nontargets = _side(nontarget_scores, "non-target")
    merged = np.concatenate([targets, nontargets])
    targets, nontargets = np.sort(targets.astype(merged.dtype)), np.sort(nontargets.astype(merged.dtype))
    merged.sort()
    distinct = np.ones(len(merged) + 1, dtype=bool)
    np.not_equal(merged[1:], merged[:-1], out=distinct[1:-1])
    thresholds = np.append(merged, np.inf).astype(merged.dtype, copy=False)[distinct]
    frr = np.searchsorted(targets, thresholds, side="left") / len(targets)
    far = (len(nontargets) - np.searchsorted(nontargets, thresholds, side="left")) / len(nontargets)
    return thresholds, frr, far


def eer(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> EERResult:
    """The rate at which false rejections equal false acceptances.

    Finitely many scores seldom allow exactly equal rates. The value is read where the straight line between
    the two neighbouring operating points crosses FRR = FAR; the threshold is that of the nearer point.
    It lies midway in the gap between the scores that it parts, so that new trials find room on both sides.

    Shapes and errors are those of `error_rates`.
    """
    thresholds, frr, far = error_rates(target_scores, nontarget_scores)
    excess = frr - far
    after = int(np.searchsorted(excess, 0.0))
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    crossing = frr[before] + share * (frr[after] - frr[before])
    nearest = after if share > 0.5 else before
    return EERResult(eer=float(crossing), threshold=_midway(thresholds, nearest))


def min_dcf(
    target_scores: ArrayLike,
    nontarget_scores: ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> MinDCF:
    """The minimum over thresholds of c_miss p_target FRR + c_fa (1 - p_target) FAR, normalised.

    The normaliser is the cost of the better trivial system, accept all or reject all:
    min(c_miss p_target, c_fa (1 - p_target)). The result is therefore never above 1.

    Args:
        p_target: prior probability of a target trial, between 0 and 1.
        c_miss: cost of a false rejection.
        c_fa: cost of a false acceptance.

    Raises:
        ConfigError: a prior outside (0, 1), a cost that is not a positive number.
        ManifestError, ShapeError: see `error_rates`.
    """
    if not 0.0 < p_target < 1.0:
        raise ConfigError(f"p_target is {p_target}: give the share of target trials, above 0 and below 1")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not (cost > 0.0 and math.isfinite(cost)):
            raise ConfigError(f"{name} is {cost}: give a cost above 0")
    thresholds, frr, far = error_rates(target_scores, nontarget_scores)
    miss, false_alarm = c_miss * p_target, c_fa * (1.0 - p_target)
    costs = (miss * frr + false_alarm * far) / min(miss, false_alarm)
    best = int(np.argmin(costs))
    return MinDCF(min_dcf=float(costs[best]), threshold=_midway(thresholds, best))


def _side(scores: ArrayLike, side: str) -> Scores:
    """One side's scores as a float array [n], checked."""
    array = np.asarray(scores)
    if array.ndim != 1:
        raise ShapeError(f"{side} scores have the shape {list(array.shape)}: give one number a trial, [trials]")
    if array.size == 0:
        raise ManifestError(f"no {side} trials: error rates need scores of target and of non-target trials")
    if array.dtype.kind not in "iuf":
        raise ShapeError(f"{side} scores are of type {array.dtype}: give real numbers")
    values: Scores = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if not math.isfinite(np.abs(values).max()):
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ShapeError(f"{side} score {row} is {values[row]}: every score must be a finite number")
    return values


def _midway(thresholds: Scores, index: int) -> float:
    """The middle of the gap below thresholds[index]: it decides the scores at hand as thresholds[index] does.

    Rounded as the scores are, because comparing float32 scores with a Python float rounds it to float32.
    """
    above = thresholds[index]
    if index == 0 or np.isinf(above):
        return float(above)
    below = thresholds[index - 1]
    middle = below / 2 + above / 2
    return float(middle if middle > below else above)
