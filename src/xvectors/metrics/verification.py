"""Error measures of a verification system in one call each. In: scores of target and of non-target trials, higher for
more alike, or LLRs. Out: numbers. Several measures of the same scores: sort once with `ROC.from_scores`, ask that.
Costs follow the NIST SRE 2016 evaluation plan."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.metrics.roc import ROC, DETCurve, EERResult, MinDCF, Scores


def error_rates(
    target_scores: ArrayLike, nontarget_scores: ArrayLike
) -> tuple[Scores, NDArray[np.float64], NDArray[np.float64]]:
    """Every operating point that these scores allow, from accepting all to rejecting all.

    Parameters
    ----------
    target_scores
        [t] scores of trials of one speaker with itself.
    nontarget_scores
        [u] scores of trials between two speakers.

    Returns
    -------
    thresholds [k]
        The distinct scores, rising, then inf; float32 if both sides are, else float64.
    frr [k]
        Share of targets rejected, those below the threshold; rises from 0 to 1.
    far [k]
        Share of non-targets accepted, those at or above it; falls from 1 to 0.
    Equal scores cross the threshold together, whichever side they are on.

    Raises
    ------
    ManifestError
        A side without trials.
    ShapeError
        Scores that are not one-dimensional, not real numbers, or not finite.
    """
    roc = ROC.from_scores(target_scores, nontarget_scores)
    return roc.thresholds, roc.frr, roc.far


def eer(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> EERResult:
    """The rate at which false rejections equal false acceptances, the plain form.

    Finitely many scores seldom allow exactly equal rates. The value is read where the straight line between
    the two neighboring operating points crosses FRR = FAR; the threshold is that of the nearer point.
    It lies midway in the gap between the scores that it parts, so that new trials find room on both sides.
    `rocch_eer` reads it on the convex hull instead.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).eer()


def rocch_eer(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> EERResult:
    """The equal error rate on the convex hull of the ROC (Brümmer and de Villiers, BOSARIS, 2011).

    At most the plain EER of `eer`, and smoother in small sets: it is what a system reaches that may choose at random
    between two thresholds. The threshold is that of the hull's nearer corner.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).rocch_eer()


def min_dcf(
    target_scores: ArrayLike,
    nontarget_scores: ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> MinDCF:
    """The minimum over thresholds of c_miss p_target FRR + c_fa (1 - p_target) FAR, normalized.

    The normalizer is the cost of the better trivial system, accept all or reject all:
    min(c_miss p_target, c_fa (1 - p_target)). The result is therefore never above 1.

    Parameters
    ----------
    p_target
        Prior probability of a target trial, between 0 and 1.
    c_miss
        Cost of a false rejection.
    c_fa
        Cost of a false acceptance.

    Raises
    ------
    ConfigError
        A prior outside (0, 1), a cost that is not a positive number.
    ManifestError, ShapeError
        See `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).min_dcf(p_target, c_miss, c_fa)


def actual_dcf(
    target_llrs: ArrayLike,
    nontarget_llrs: ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """The normalized detection cost at the Bayes threshold log(c_fa (1 - p_target) / (c_miss p_target)).

    The scores must be natural-log likelihood ratios. What it exceeds `min_dcf` by is lost to calibration; it has no
    upper bound. Arguments and errors are those of `min_dcf`.
    """
    return ROC.from_scores(target_llrs, nontarget_llrs).actual_dcf(p_target, c_miss, c_fa)


def cllr(target_llrs: ArrayLike, nontarget_llrs: ArrayLike) -> float:
    """The log-likelihood-ratio cost, in bits (Brümmer and du Preez, Comput. Speech Lang. 2006).

    Half the mean of log2(1 + exp(-LLR)) over targets plus half the mean of log2(1 + exp(LLR)) over non-targets:
    0 for a perfect system, 1 for one that always says LLR = 0, above 1 for one worse than silence.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_llrs, nontarget_llrs).cllr()


def min_cllr(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """Cllr after the best non-decreasing map of the scores (pool adjacent violators), in bits.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).min_cllr()


def calibration_loss(target_llrs: ArrayLike, nontarget_llrs: ArrayLike) -> float:
    """Cllr less minCllr, in bits: what better calibration of the same scores would save.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_llrs, nontarget_llrs).calibration_loss()


def auc(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """The area under the ROC: how often a target scores above a non-target, ties counted half.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).auc()


def tpr_at_fpr(target_scores: ArrayLike, nontarget_scores: ArrayLike, fpr: float) -> float:
    """The largest share of targets accepted while at most a share `fpr` of non-targets is; not interpolated.

    Raises
    ------
    ConfigError
        A rate outside [0, 1].
    ManifestError, ShapeError
        See `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).tpr_at_fpr(fpr)


def det_curve(target_scores: ArrayLike, nontarget_scores: ArrayLike, max_points: int = 2000) -> DETCurve:
    """Points of the detection error trade-off, ready to draw: rates and their normal deviates.

    Up to `max_points` operating points every one is given; of more, about that many, even on both axes.
    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).det(max_points)
