"""Fuse the scores of several systems to log-likelihood ratios.

Fusion is an affine function learned by logistic regression (Brümmer et al., IEEE TASLP 15(7), 2007).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.calibration import logistic_regression
from xvectors.backends.estimator import Array, Estimator
from xvectors.errors import ConfigError, ManifestError, ShapeError


class Fusion(Estimator):
    """Natural-log likelihood ratios scores @ weights_ + offset_, calibrated at one prior.

    Parameters
    ----------
    p_target
        Prior of target trials at which the cross-entropy is minimized, above 0 and below 1.
    penalty
        Weight of half the squared weights of standardized scores, which keeps weights of separable trials finite.

    Attributes
    ----------
    weights_ [systems]; offset_: a number.
    """

    fitted_names = ("weights_", "offset_")
    weights_: Array
    offset_: float

    def __init__(self, p_target: float = 0.5, penalty: float = 1e-6) -> None:
        self.p_target = p_target
        self.penalty = penalty

    def fit(self, target_scores: ArrayLike, nontarget_scores: ArrayLike) -> Self:
        """Learn from scores of target trials [t, systems] and of non-target trials [u, systems].

        Raises
        ------
        ConfigError
            A prior outside (0, 1), a penalty that is not above 0.
        ManifestError
            A side without trials.
        ShapeError
            Scores of another shape or kind, not finite, or a system whose scores are all the same.
        TrainingError
            Scores for which no weights settle.
        """
        if not 0.0 < self.p_target < 1.0:
            raise ConfigError(f"p_target is {self.p_target}: give the share of target trials, above 0 and below 1")
        if not self.penalty > 0.0:
            raise ConfigError(f"penalty is {self.penalty}: give a number above 0")
        targets, nontargets = _scores(target_scores), _scores(nontarget_scores)
        for name, side in (("target", targets), ("non-target", nontargets)):
            if not len(side):
                raise ManifestError(f"no {name} trials: fusion learns from target and from non-target trials")
        if targets.shape[1] != nontargets.shape[1]:
            raise ShapeError(
                f"target trials have scores of {targets.shape[1]} systems, non-target trials of "
                f"{nontargets.shape[1]}: score both with the same systems"
            )
        scores = np.concatenate([targets, nontargets])
        mean, deviation = scores.mean(axis=0), scores.std(axis=0)
        if not (deviation > 0.0).all():
            raise ShapeError(f"system {int(np.argmin(deviation))} gives every trial the same score: leave it out")
        labels = np.arange(len(scores)) < len(targets)
        solution = logistic_regression((scores - mean) / deviation, labels, self.p_target, self.penalty)
        self.weights_ = solution[:-1] / deviation
        self.offset_ = float(solution[-1] - mean @ self.weights_)
        return self

    def transform(self, scores: ArrayLike) -> Array:
        """Return the log-likelihood ratios [m] of trials with scores [m, systems].

        Raises ShapeError for other shapes or NaN.
        """
        self._check_fitted()
        rows = _scores(scores)
        if rows.shape[1] != len(self.weights_):
            raise ShapeError(
                f"scores of {rows.shape[1]} systems, but the fusion was fitted on {len(self.weights_)}: "
                "give those systems' scores, in their order"
            )
        fused: Array = rows @ self.weights_ + self.offset_
        return fused


def _scores(scores: ArrayLike) -> Array:
    array: NDArray[Any] = np.asarray(scores)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "iuf":
        raise ShapeError(f"scores are {array.dtype} {list(array.shape)}: give numbers, [trials, systems]")
    usable = np.isfinite(array).all(axis=1)
    if not usable.all():
        raise ShapeError(f"trial {int(np.argmin(usable))} has a score that is not finite: leave it out")
    return array.astype(np.float64)
