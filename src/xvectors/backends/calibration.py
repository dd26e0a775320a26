"""Calibration: affine maps from scores to log-likelihood ratios, with quality measures of the recordings.

Prior-weighted logistic regression follows Brümmer and du Preez (Comput. Speech Lang. 2006), quality measures Mandasari
et al. (IEEE TASLP 2013), and a scale that depends on the recordings Ferrer et al. (Comput. Speech Lang. 2022).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.estimator import real_rows
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError, TrainingError
from xvectors.metrics.detection_cost import bayes_threshold, softplus
from xvectors.metrics.roc import checked_scores
from xvectors.text import short_repr
from xvectors.trials.pairs import checked_labels

logger = logging.getLogger(__name__)

MAX_STEPS = 100  # of the logistic regression
RIDGE = 1e-6  # penalty on weights of standardized inputs, which matters only for perfectly separated scores

Values = NDArray[np.float64]


@short_repr("p_target", "scale_", "offset_")
class AffineCalibration:
    """LLR = scale score + offset, fitted by logistic regression at a prior; with quality measures also
    LLR = (scale + scale_weights . q) score + offset + quality_weights . q.

    Without `quality_scales`, quality shifts the LLR of a trial, as in QMF. With it, quality also scales the score, so
    that half a second of speech gives an LLR closer to 0. `transform` clips quality to the range seen in training, and
    the scale to 0 or more: a higher score is never less support for one speaker.

    Parameters
    ----------
    p_target : prior at which the cost is minimized; 0.5 minimizes Cllr
    quality_scales : whether quality also changes the scale

    Attributes
    ----------
    scale_, offset_ : float
    quality_weights_, quality_scale_weights_ : [k], of the standardized quality
    quality_mean_, quality_std_, quality_low_, quality_high_ : [k]
    quality_names_ : k names
    num_target_, num_nontarget_ : numbers of trials that it was fitted on

    Examples
    --------
    >>> calibration = AffineCalibration().fit([2.0, 3.0, 0.5, 0.0, -1.0, 1.0], [1, 1, 1, 0, 0, 0])
    >>> (calibration.transform([3.0, -1.0]) > 0).tolist()
    [True, False]
    """

    scale_: float
    offset_: float
    quality_weights_: Values
    quality_scale_weights_: Values
    quality_mean_: Values
    quality_std_: Values
    quality_low_: Values
    quality_high_: Values
    quality_names_: tuple[str, ...]
    num_target_: int
    num_nontarget_: int

    def __init__(self, p_target: float = 0.5, *, quality_scales: bool = True) -> None:
        """Raises ConfigError for a prior outside (0, 1)."""
        bayes_threshold(p_target)
        self.p_target, self.quality_scales = p_target, quality_scales

    def fit(
        self,
        scores: ArrayLike,
        target: ArrayLike,
        quality: ArrayLike | None = None,
        quality_names: Sequence[str] | None = None,
    ) -> AffineCalibration:
        """Fit on scores [m] of trials with labels [m], and quality measures [m, k] (`pair_quality` makes them).

        Use speakers outside of both the training and the test set.

        Raises
        ------
        ManifestError
            No target or no non-target trials.
        ShapeError
            Lengths that differ, labels that are not 0 or 1, values that are not finite, scores all alike, or targets
            that score lower than non-targets.
        TrainingError
            Scores and measures for which no weights settle.
        """
        values, labels = _values(scores), checked_labels(target)
        if labels.shape != values.shape:
            raise ShapeError(f"there are {len(values)} scores, but {len(labels)} labels: give one label a trial")
        for kind, number in (("target", labels.sum()), ("non-target", (~labels).sum())):
            if not number:
                raise ManifestError(f"no {kind} trials: calibration learns from target and from non-target trials")
        measures = _quality(quality, len(values))
        names = tuple(quality_names) if quality_names is not None else tuple(f"q{i}" for i in range(measures.shape[1]))
        if len(names) != measures.shape[1]:
            raise ShapeError(f"{len(names)} names for {measures.shape[1]} quality measures: name each one")
        self.quality_names_ = names
        self.quality_mean_, std = measures.mean(axis=0), measures.std(axis=0)
        self.quality_std_ = np.where(std > 0, std, 1.0)
        self.quality_low_, self.quality_high_ = (
            measures.min(axis=0, initial=np.inf),
            measures.max(axis=0, initial=-np.inf),
        )
        spread = values.std()
        if not spread > 0:
            raise ShapeError(f"all {len(values)} scores are alike: nothing to calibrate; score with another system")
        z, q = (values - values.mean()) / spread, (measures - self.quality_mean_) / self.quality_std_
        inputs = [z[:, None], q]
        if self.quality_scales:
            inputs.append(q * z[:, None])
        *weights, offset = logistic_regression(np.hstack(inputs), labels, self.p_target, RIDGE)
        k = q.shape[1]
        on_scale = np.array(weights[1 + k :]) / spread if self.quality_scales else np.zeros(k)
        self.scale_ = float(weights[0] / spread)
        self.offset_ = float(offset - self.scale_ * values.mean())
        self.quality_scale_weights_ = on_scale
        self.quality_weights_ = np.array(weights[1 : 1 + k]) - on_scale * values.mean()
        self.num_target_, self.num_nontarget_ = int(labels.sum()), int((~labels).sum())
        if self.scale_ <= 0:
            raise ShapeError("targets score lower than non-targets: give scores that are higher for more alike")
        if values[labels].min() > values[~labels].max():
            logger.warning(
                "calibration: all %d target trials score above all %d non-target trials, so nothing says how strong "
                "the LLRs may be; fit on more, or harder trials",
                self.num_target_,
                self.num_nontarget_,
            )
        return self

    def transform(self, scores: ArrayLike, quality: ArrayLike | None = None) -> Values:
        """Return natural-log LLRs [m] of scores [m] and quality measures [m, k] as in `fit`.

        Raises ShapeError for lengths that differ, another number of measures, values that are not finite.
        """
        if not hasattr(self, "scale_"):
            raise ConfigError("the calibration is not fitted: call fit, or load a fitted one with from_dict")
        values = _values(scores)
        measures = _quality(quality, len(values))
        if measures.shape[1] != len(self.quality_names_):
            wanted = ", ".join(self.quality_names_) or "none"
            raise ShapeError(f"{measures.shape[1]} quality measures: give those of fit, in its order ({wanted})")
        q = (np.clip(measures, self.quality_low_, self.quality_high_) - self.quality_mean_) / self.quality_std_
        scale = np.maximum(self.scale_ + q @ self.quality_scale_weights_, 0.0)
        return np.asarray(scale * values + self.offset_ + q @ self.quality_weights_, dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and names for TOML or JSON, the inverse of `from_dict`."""
        if not hasattr(self, "scale_"):
            raise ConfigError("the calibration is not fitted: there is nothing to save before fit")
        return {
            "p_target": self.p_target,
            "quality_scales": self.quality_scales,
            **{name: getattr(self, name + "_") for name in _NUMBERS},
            **{name: getattr(self, name + "_").tolist() for name in _ARRAYS},
            "quality_names": list(self.quality_names_),
        }

    @classmethod
    def from_dict(cls, fitted: Mapping[str, Any]) -> AffineCalibration:
        """Restore the result of `to_dict`. Raises CheckpointError for missing or unknown keys and invalid values."""
        expected = {"p_target", "quality_scales", "quality_names", *_NUMBERS, *_ARRAYS}
        if set(fitted) != expected:
            odd = ", ".join(sorted(expected ^ set(fitted)))
            raise CheckpointError(f"not a saved calibration: missing or unknown {odd}; calibrate the system again")
        try:
            calibration = cls(float(fitted["p_target"]), quality_scales=bool(fitted["quality_scales"]))
            for name, kind in _NUMBERS.items():
                setattr(calibration, name + "_", kind(fitted[name]))
            calibration.quality_names_ = tuple(map(str, fitted["quality_names"]))
            arrays = {name: np.array(fitted[name], dtype=np.float64) for name in _ARRAYS}
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"a damaged calibration: {error}; calibrate the system again") from error
        for name, array in arrays.items():
            if array.shape != (len(calibration.quality_names_),) or not np.isfinite(array).all():
                raise CheckpointError(
                    f"a damaged calibration: {name} must be {len(calibration.quality_names_)} finite numbers; "
                    "calibrate the system again"
                )
            setattr(calibration, name + "_", array)
        return calibration


_NUMBERS: dict[str, type[float] | type[int]] = {
    "scale": float,
    "offset": float,
    "num_target": int,
    "num_nontarget": int,
}
_ARRAYS = (
    "quality_weights",
    "quality_scale_weights",
    "quality_mean",
    "quality_std",
    "quality_low",
    "quality_high",
)


def pair_quality(enroll: ArrayLike, test: ArrayLike) -> Values:
    """Return symmetric measures of trials, [m, 2]: the smaller and the larger measure of the two sides.

    Parameters
    ----------
    enroll, test
        [m]: a measure of each side, such as the log of its seconds (`log_duration`), its SNR in dB
        (`xvectors.audio.quality.estimate_snr_db`), or the log of its embedding's length (`log_magnitude`).

    Raises
    ------
    ShapeError
        Sides of unequal length, values that are not finite.
    """
    sides = [_values(side, name) for side, name in ((enroll, "enroll quality"), (test, "test quality"))]
    if sides[0].shape != sides[1].shape:
        raise ShapeError(f"{len(sides[0])} enroll and {len(sides[1])} test measures: give one for each trial and side")
    return np.stack([np.minimum(*sides), np.maximum(*sides)], axis=1)


def log_duration(duration_s: ArrayLike) -> Values:
    """Return the natural log of durations in seconds. Raises ShapeError unless they are positive."""
    seconds = _values(duration_s, "duration")
    if not (seconds > 0).all():
        raise ShapeError(f"duration {np.argmin(seconds)} is {seconds.min():g} s: give seconds above 0")
    return np.log(seconds)


def log_magnitude(embeddings: ArrayLike) -> Values:
    """Return the natural log [n] of the length of unnormalized embeddings [n, D].

    Many networks give longer embeddings for more and clearer speech. Raises ShapeError for other arrays and zero
    vectors.
    """
    lengths = np.linalg.norm(real_rows(embeddings).astype(np.float64), axis=1)
    if not (lengths > 0).all():
        raise ShapeError(f"embedding row {int(np.argmin(lengths > 0))} has no length above 0; leave it out")
    return np.asarray(np.log(lengths), dtype=np.float64)


def _values(values: ArrayLike, name: str = "trial") -> Values:
    array = np.asarray(values)
    return np.empty(0) if array.shape == (0,) else checked_scores(array, name).astype(np.float64)


def _quality(quality: ArrayLike | None, num_trials: int) -> Values:
    """Return quality measures [m, k]; k = 0 without measures."""
    if quality is None:
        return np.empty((num_trials, 0))
    array: NDArray[Any] = np.asarray(quality)
    if array.ndim != 2 or len(array) != num_trials or array.dtype.kind not in "iuf":
        raise ShapeError(
            f"quality has the shape {list(array.shape)} and type {array.dtype}, but there are {num_trials} trials: "
            "give one row of numbers a trial, [trials, measures]"
        )
    if not np.isfinite(array).all():
        trial, column = np.argwhere(~np.isfinite(array))[0]
        raise ShapeError(f"quality measure {column} of trial {trial} is {array[trial, column]}: give finite numbers")
    return array.astype(np.float64)


def logistic_regression(inputs: Values, labels: NDArray[np.bool_], p_target: float, penalty: float) -> Values:
    """Fit weights [d + 1], of which the last is the offset: inputs @ weights[:-1] + weights[-1] are LLRs.

    Parameters
    ----------
    inputs
        [m, d], with about unit standard deviation.
    labels
        [m]: whether each is a target trial; both kinds are required.
    p_target
        Prior at which the cross-entropy is minimized.
    penalty
        Weight of half the squared weights without the offset, which keeps weights of separable trials finite.

    Raises
    ------
    TrainingError
        If Newton's method, with halved steps after overshooting, does not converge.
    """
    design = np.hstack([inputs, np.ones((len(inputs), 1))])
    share = np.where(labels, p_target / labels.sum(), (1 - p_target) / (~labels).sum())
    ridge = np.append(np.full(inputs.shape[1], penalty), 0.0)
    return _newton(design, labels, share, np.full(len(labels), -bayes_threshold(p_target)), ridge)


def weighted_logistic_regression(
    inputs: Values, labels: NDArray[np.bool_], share: Values, base: Values, penalty: float
) -> Values:
    """Fit weights [d] without an offset: base + inputs @ weights are log-odds.

    Parameters
    ----------
    inputs
        [m, d]
    labels
        [m]: whether each is a target trial.
    share
        [m] weights of the trials in the cross-entropy.
    base
        [m] log-odds of the trials at weights of 0.
    penalty
        Weight of half the squared weights.

    Raises
    ------
    TrainingError
        As `logistic_regression` does.
    """
    return _newton(inputs, labels, share, base, np.full(inputs.shape[1], penalty))


def _newton(design: Values, labels: NDArray[np.bool_], share: Values, base: Values, ridge: Values) -> Values:
    sign = np.where(labels, 1.0, -1.0)

    def loss(weights: Values) -> float:
        return float(share @ softplus(-sign * (design @ weights + base)) + 0.5 * ridge @ weights**2)

    weights = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        wrong = np.exp(-softplus(sign * (design @ weights + base)))
        gradient = -design.T @ (share * sign * wrong) + ridge * weights
        curvature = (design * (share * wrong * (1.0 - wrong))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        decrement = float(gradient @ step)
        if decrement < 1e-14:
            return weights
        length, before = 1.0, loss(weights)
        while loss(weights - length * step) > before - 0.25 * length * decrement and length > 1e-6:
            length /= 2.0
        weights = weights - length * step
    raise TrainingError(
        f"the logistic regression did not settle in {MAX_STEPS} steps: look for scores far from all others, or leave "
        "out inputs that repeat one another"
    )
