"""Calibration that knows the condition of both sides of a trial: telephones, noise, raised voices and the like.

It comes after a calibration on recordings as they are, and leaves trials between recordings of the usual condition
as they were. Beyond the usual range, LLRs are shifted and scaled as the calibration set shows when it is put through
made shifts (trial-dependent calibration after McLaren et al., Odyssey 2014, and Ferrer et al., Comput. Speech Lang.
2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends.calibration import Values, weighted_logistic_regression
from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.text import short_repr

USUAL_PERCENTILES = (2.0, 98.0)
"""The usual range of a measure is that of 96 % of the recordings as they are."""
STEPS_IN_RANGE = 4
"""Beyond the usual range, a measure counts in full from a quarter of the width of the range on."""
RIDGE = 1e-3
SCALE_UNIT = 4.0
"""LLRs enter the regression divided by this, so that weights on shifts and on scales are about as large."""
TESTED_PERCENTILE = 99.0
UNTESTED_STEPS = 2.0
"""A measure is beyond all that was tested from this many spreads outside of the tested range on."""
STEADY_S = 2.0
"""Measures of less speech than this vary more with what is said."""
BLOCK = 1 << 16
"""Trials at a time, so that memory does not grow with their number."""


@short_repr("names_", "low_", "high_")
class ConditionCalibration:
    """LLR = (1 + scale_weights . q) LLR' + weights . q, where q is 0 for recordings of the usual condition.

    For each measure and both directions, q holds how far the two sides are beyond the usual range, from 0 to 1 each:
    their sum, and their absolute difference.

    Parameters
    ----------
    names : names of the k measures
    least_spread : [k] the least step beyond the usual range that counts in full, in the unit of each measure

    Attributes
    ----------
    low_, high_, spread_ : [k] the usual range of the measures, and the step beyond it that counts in full
    weights_, scale_weights_ : [4 k]
    tested_low_, tested_high_ : [k] the range of the measures that the calibration was learned on
    num_trials_ : number of trials that it was fitted on
    """

    names_: tuple[str, ...]
    low_: Values
    high_: Values
    spread_: Values
    weights_: Values
    scale_weights_: Values
    tested_low_: Values
    tested_high_: Values
    num_trials_: int

    def __init__(self, names: Sequence[str], least_spread: ArrayLike) -> None:
        """Raises ConfigError unless there is one least spread above 0 for each name."""
        self.names_ = tuple(names)
        self.least_spread = np.asarray(least_spread, dtype=np.float64)
        if self.least_spread.shape != (len(self.names_),) or not (self.least_spread > 0).all():
            raise ConfigError(f"{len(self.names_)} measures need as many least spreads above 0")

    def fit(
        self,
        usual: ArrayLike,
        llrs: ArrayLike,
        target: ArrayLike,
        enroll: ArrayLike,
        test: ArrayLike,
        weights: ArrayLike | None = None,
    ) -> ConditionCalibration:
        """Fit on trials under made shifts.

        Parameters
        ----------
        usual
            [n, k] measures of the recordings as they are; NaN where unknown.
        llrs, target
            [m] LLRs of trials without regard to the condition, and whether each is a target trial.
        enroll, test
            [m, k] measures of both sides of the trials.
        weights
            [m] weight of each trial in the cross-entropy; by default, targets weigh as much as non-targets.

        Raises
        ------
        ShapeError
            Arrays that do not fit together, or a measure that is unknown for all recordings.
        TrainingError
            Weights that do not settle.
        """
        self.fit_range(usual)
        left, right = self._measures(enroll), self._measures(test)
        values, labels = np.asarray(llrs, dtype=np.float64), np.asarray(target, dtype=np.bool_)
        if not values.shape == labels.shape == (len(left),) or len(left) != len(right):
            raise ShapeError(
                f"{values.size} LLRs, {labels.size} labels, {len(left)} and {len(right)} measures of sides"
            )
        shares = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum()) if weights is None else np.asarray(weights)
        both = np.concatenate([left, right])
        edge = 100 - TESTED_PERCENTILE
        lowest, highest = np.nanpercentile(both, (edge, TESTED_PERCENTILE), axis=0)
        self.tested_low_ = np.minimum(lowest, self.low_ - self.spread_)
        self.tested_high_ = np.maximum(highest, self.high_ + self.spread_)
        q = self._beyond(left, right)
        inputs = np.hstack([q, q * (values / SCALE_UNIT)[:, None]])
        found = weighted_logistic_regression(inputs, labels, shares / shares.sum(), values, RIDGE)
        self.weights_, self.scale_weights_ = found[: q.shape[1]], found[q.shape[1] :] / SCALE_UNIT
        self.num_trials_ = len(values)
        return self

    def fit_range(self, usual: ArrayLike) -> ConditionCalibration:
        """Fit the usual range of the measures [n, k] alone, which `excess` needs.

        Raises ShapeError for a measure that is unknown for all recordings.
        """
        rows = self._measures(usual)
        if not np.isfinite(rows).any(axis=0).all():
            lacking = self.names_[int(np.argmin(np.isfinite(rows).any(axis=0)))]
            raise ShapeError(f"{lacking} is unknown for all recordings of the calibration set")
        self.low_, self.high_ = np.nanpercentile(rows, USUAL_PERCENTILES, axis=0)
        self.spread_ = np.maximum((self.high_ - self.low_) / STEPS_IN_RANGE, self.least_spread)
        return self

    def transform(self, llrs: ArrayLike, enroll: ArrayLike, test: ArrayLike) -> Values:
        """Return LLRs [m] that take the measures [m, k] of both sides into account; 0 beyond all that was tested.

        Unknown measures, NaN, count as usual. The scale is clipped to the range from 0 to 1: no condition makes the
        evidence stronger.
        """
        values, left, right = np.asarray(llrs, dtype=np.float64), self._measures(enroll), self._measures(test)
        if not len(values) == len(left) == len(right):
            raise ShapeError(f"{len(values)} LLRs, but {len(left)} and {len(right)} measures of the sides")
        result = values.copy()
        for start in range(0, len(values), BLOCK):
            part = slice(start, start + BLOCK)
            unusual = np.flatnonzero(self._is_unusual(left[part]) | self._is_unusual(right[part])) + start
            enroll_rows, test_rows = left[unusual], right[unusual]
            q = self._beyond(enroll_rows, test_rows)
            scale = np.clip(1.0 + q @ self.scale_weights_, 0.0, 1.0)
            found = scale * values[unusual] + q @ self.weights_
            untested = self.is_untested(enroll_rows) | self.is_untested(test_rows)
            result[unusual] = np.where(untested, 0.0, found)
        return result

    def steady(self, measures: ArrayLike, speech_s: ArrayLike) -> NDArray[np.floating]:
        """Return measures [n, k] as longer speech would have them, given the seconds of speech [n]; NaN: long enough.

        Those of short speech vary more, whatever its condition. Below `STEADY_S` they are moved towards the middle of
        the usual range, as a mean of that many seconds would vary less.
        """
        rows, seconds = self._measures(measures), np.asarray(speech_s, dtype=np.float64)
        share = np.sqrt(np.minimum(np.nan_to_num(seconds, nan=STEADY_S) / STEADY_S, 1.0))
        short = np.flatnonzero(share < 1.0)
        if not len(short):
            return rows
        middle = (self.low_ + self.high_) / 2
        moved = rows.copy()
        moved[short] = middle + (rows[short] - middle) * share[short, None]
        return moved

    def excess(self, measures: ArrayLike) -> Values:
        """Return [n, 2 k]: how many spreads each measure [n, k] is below, then above, its usual range; 0 within it."""
        rows = self._measures(measures)
        found = np.concatenate([(self.low_ - rows) / self.spread_, (rows - self.high_) / self.spread_], axis=1)
        beyond: Values = np.maximum(np.nan_to_num(found, nan=0.0), 0.0)
        return beyond

    def is_untested(self, measures: ArrayLike) -> NDArray[np.bool_]:
        """Return [n]: whether any measure [n, k] is beyond all that the calibration was learned on."""
        rows = self._measures(measures)
        margin = UNTESTED_STEPS * self.spread_
        beyond = (rows < self.tested_low_ - margin) | (rows > self.tested_high_ + margin)
        return np.asarray(beyond.any(axis=1), dtype=np.bool_)

    def _is_unusual(self, rows: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return [n]: whether any measure is outside the usual range; for the others, q is 0."""
        return np.asarray(((rows < self.low_) | (rows > self.high_)).any(axis=1), dtype=np.bool_)

    def _beyond(self, enroll: NDArray[np.floating], test: NDArray[np.floating]) -> Values:
        left, right = np.minimum(self.excess(enroll), 1.0), np.minimum(self.excess(test), 1.0)
        return np.concatenate([left + right, np.abs(left - right)], axis=1)

    def _measures(self, measures: ArrayLike) -> NDArray[np.floating]:
        rows = np.asarray(measures)
        if rows.ndim != 2 or rows.shape[1] != len(self.names_) or rows.dtype.kind not in "fiu":
            raise ShapeError(f"measures of the shape {list(rows.shape)}: give numbers [n, {len(self.names_)}]")
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and names for TOML or JSON, the inverse of `from_dict`."""
        return {
            "names": list(self.names_),
            "least_spread": self.least_spread.tolist(),
            "num_trials": self.num_trials_,
            **{name: getattr(self, name + "_").tolist() for name in _ARRAYS},
        }

    @classmethod
    def from_dict(cls, fitted: Mapping[str, Any]) -> ConditionCalibration:
        """Restore the result of `to_dict`. Raises CheckpointError for missing or unknown keys and invalid values."""
        expected = {"names", "least_spread", "num_trials", *_ARRAYS}
        if set(fitted) != expected:
            odd = ", ".join(sorted(expected ^ set(fitted)))
            raise CheckpointError(f"not a saved condition calibration: missing or unknown {odd}; calibrate again")
        try:
            calibration = cls([str(name) for name in fitted["names"]], fitted["least_spread"])
            calibration.num_trials_ = int(fitted["num_trials"])
            for name, per_measure in _ARRAYS.items():
                array = np.array(fitted[name], dtype=np.float64)
                if array.shape != (per_measure * len(calibration.names_),) or not np.isfinite(array).all():
                    raise ValueError(f"{name} must be {per_measure * len(calibration.names_)} finite numbers")
                setattr(calibration, name + "_", array)
        except (TypeError, ValueError, ConfigError) as error:
            raise CheckpointError(f"a damaged condition calibration: {error}; calibrate the system again") from error
        return calibration


_ARRAYS = {
    "low": 1,
    "high": 1,
    "spread": 1,
    "tested_low": 1,
    "tested_high": 1,
    "weights": 4,
    "scale_weights": 4,
}
"""Fitted arrays, with their numbers of values for each measure."""
