"""The curves of an evaluation as arrays: DET, score densities, reliability, applied probability of error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ShapeError
from xvectors.metrics import (
    APE as APE,
)
from xvectors.metrics import (
    ROC,
    LeastCost,
    applied_probability_of_error,
    bayes_threshold,
    reliability,
)
from xvectors.metrics import (
    Reliability as Reliability,
)
from xvectors.text import short_repr

MIN_BINS, MAX_BINS = 20, 100  # of the score densities


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class DET:
    """A detection error trade-off curve (Martin et al., Eurospeech 1997), thinned for drawing.

    Attributes
    ----------
    far, frr : float64 [k]
        False acceptance and false rejection rate, thresholds rising.
    eer : float
        The plain equal error rate.
    num_target, num_nontarget : int
        Trials of each kind; no rate below one error among them can be measured.
    """

    far: NDArray[np.float64]
    frr: NDArray[np.float64]
    eer: float
    num_target: int
    num_nontarget: int

    @classmethod
    def from_roc(cls, roc: ROC) -> DET:
        curve = roc.det()
        return cls(
            far=curve.far,
            frr=curve.frr,
            eer=roc.eer().eer,
            num_target=round(roc.num_target),
            num_nontarget=round(roc.num_nontarget),
        )


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreDensities:
    """Histograms of target and non-target scores, each of area 1.

    Attributes
    ----------
    edges : float64 [b + 1]
        Edges of the bins. `threshold` is one of them, so that no bin lies on both sides of it.
    target, nontarget : float64 [b]
        Density in each bin.
    num_target, num_nontarget : int
        Trials of each kind.
    threshold : float
        The threshold in use.
    """

    edges: NDArray[np.float64]
    target: NDArray[np.float64]
    nontarget: NDArray[np.float64]
    num_target: int
    num_nontarget: int
    threshold: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """All curves of the scores that are drawn.

    `reliability` and `ape` are None for scores that are not LLRs. `prior_log_odds` is where the prior and the costs of
    the evaluation lie on the axis of `ape`.
    """

    det: DET
    densities: ScoreDensities
    reliability: Reliability | None
    ape: APE | None
    prior_log_odds: float


def measure_curves(
    roc: ROC,
    scores: NDArray[np.floating[Any]],
    target: NDArray[np.bool_],
    *,
    threshold: float,
    cost: LeastCost,
    are_llrs: bool,
) -> Curves:
    """Compute the curves of scores [m] with truth [m], whose ROC is `roc`."""
    return Curves(
        det=DET.from_roc(roc),
        densities=score_densities(scores[target], scores[~target], threshold),
        reliability=reliability(roc) if are_llrs else None,
        ape=applied_probability_of_error(roc) if are_llrs else None,
        prior_log_odds=-bayes_threshold(*cost.settings),
    )


def score_densities(target_scores: ArrayLike, nontarget_scores: ArrayLike, threshold: float) -> ScoreDensities:
    """Bin target scores [t] and non-target scores [u].

    Raises
    ------
    ShapeError
        A side without scores, scores that are not one-dimensional or not finite, a threshold that is not finite.
    """
    sides = [np.asarray(target_scores), np.asarray(nontarget_scores)]
    for name, scores in zip(("target", "non-target"), sides, strict=True):
        if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
            raise ShapeError(f"{name} scores must be a list of finite numbers, at least one")
    if not math.isfinite(threshold):
        raise ShapeError(f"the threshold is {threshold}: give a finite number")
    low = min(threshold, *(float(scores.min()) for scores in sides))
    high = max(threshold, *(float(scores.max()) for scores in sides))
    bins = int(np.clip(2 * min(scores.size for scores in sides) ** (1 / 3), MIN_BINS, MAX_BINS))
    width = (high - low) / bins or 0.01 * max(1.0, abs(high))
    first = math.ceil((threshold - low) / width) + 1
    last = math.ceil((high - threshold) / width) + 1
    edges = threshold + width * np.arange(-first, last + 1, dtype=np.float64)
    target, nontarget = (np.histogram(scores, edges)[0] / (scores.size * width) for scores in sides)
    return ScoreDensities(
        edges=edges,
        target=target,
        nontarget=nontarget,
        num_target=sides[0].size,
        num_nontarget=sides[1].size,
        threshold=threshold,
    )
