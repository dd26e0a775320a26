"""Error measures of a verification system, one call each, from scores of target and non-target trials.

For several measures of the same scores, sort once with `ROC.from_scores`. Costs follow the NIST SRE 2016 evaluation
plan.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.metrics.roc import ROC, DETCurve, EERResult, MinDCF, Scores


def error_rates(
    target_scores: ArrayLike, nontarget_scores: ArrayLike
) -> tuple[Scores, NDArray[np.float64], NDArray[np.float64]]:
    """Return all operating points of these scores, from accepting all to rejecting all.

    Parameters
    ----------
    target_scores
        [t]: scores of trials with one speaker.
    nontarget_scores
        [u]: scores of trials with two speakers.

    Returns
    -------
    thresholds [k]
        The distinct scores, ascending, then inf; float32 if both sides are, else float64.
    frr [k]
        Share of targets below the threshold, which are rejected; from 0 to 1.
    far [k]
        Share of non-targets at or above the threshold, which are accepted; from 1 to 0.
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
    """Return the plain equal error rate.

    Finitely many scores rarely allow exactly equal rates. The value is where the line between the two neighboring
    operating points crosses FRR = FAR; the threshold is that of the nearer point, in the middle of the gap between the
    scores that it separates. `rocch_eer` uses the convex hull instead.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).eer()


def rocch_eer(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> EERResult:
    """Return the equal error rate on the convex hull of the ROC (Brümmer and de Villiers, BOSARIS, 2011).

    It is at most the plain EER of `eer`, and smoother for small sets: a system reaches it by choosing at random between
    two thresholds. The threshold is that of the nearer corner of the hull.

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
    """Return the minimum over thresholds of c_miss p_target FRR + c_fa (1 - p_target) FAR, normalized.

    It is divided by the cost of the better trivial system, accept all or reject all,
    min(c_miss p_target, c_fa (1 - p_target)), and so never above 1.

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
    """Return the normalized detection cost at the Bayes threshold log(c_fa (1 - p_target) / (c_miss p_target)).

    The scores must be natural-log likelihood ratios. The excess over `min_dcf` is the loss by calibration; it has no
    upper bound. Arguments and errors are those of `min_dcf`.
    """
    return ROC.from_scores(target_llrs, nontarget_llrs).actual_dcf(p_target, c_miss, c_fa)


def cllr(target_llrs: ArrayLike, nontarget_llrs: ArrayLike) -> float:
    """Return the log-likelihood-ratio cost, in bits (Brümmer and du Preez, Comput. Speech Lang. 2006).

    Half the mean of log2(1 + exp(-LLR)) over targets plus half the mean of log2(1 + exp(LLR)) over non-targets: 0 for a
    perfect system, 1 for a system with LLR = 0 always, and above 1 for a misleading one.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_llrs, nontarget_llrs).cllr()


def min_cllr(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """Return Cllr after the best non-decreasing map of the scores (pool adjacent violators), in bits.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).min_cllr()


def calibration_loss(target_llrs: ArrayLike, nontarget_llrs: ArrayLike) -> float:
    """Return Cllr - minCllr, in bits: what perfect calibration of the same scores would save.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_llrs, nontarget_llrs).calibration_loss()


def auc(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """Return the area under the ROC: the share of pairs with the target above the non-target; ties count half.

    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).auc()


def tpr_at_fpr(target_scores: ArrayLike, nontarget_scores: ArrayLike, fpr: float) -> float:
    """Return the largest share of accepted targets with at most a share `fpr` of non-targets, without interpolation.

    Raises
    ------
    ConfigError
        A rate outside [0, 1].
    ManifestError, ShapeError
        See `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).tpr_at_fpr(fpr)


def det_curve(target_scores: ArrayLike, nontarget_scores: ArrayLike, max_points: int = 2000) -> DETCurve:
    """Return points of the detection error trade-off to draw: rates and their normal deviates.

    There are up to about `max_points`, spread evenly over both axes.
    Shapes and errors are those of `error_rates`.
    """
    return ROC.from_scores(target_scores, nontarget_scores).det(max_points)
