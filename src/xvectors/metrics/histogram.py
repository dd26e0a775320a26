"""Count scores in bins of 16 bytes, for more trials than fit into memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics.roc import ROC, checked_scores
from xvectors.text import short_repr
from xvectors.trials.sorting import blocks


@short_repr("low", "high", "num_bins")
class ScoreHistogram:
    """Counts of target and non-target scores in `num_bins` equal bins from `low` to `high`.

    Scores outside the range count in the outermost bins. All measures of `roc()` replace a score by the lower edge
    of its bin: error rates are wrong by at most the share of trials in one bin, Cllr by less than the width of a bin in
    bits. The default range is that of cosines; use about -50 to 50 for LLRs.

    Examples
    --------
    >>> histogram = ScoreHistogram(num_bins=4)
    >>> histogram.add([0.6, 0.9], [-0.7, -0.2])
    >>> histogram.roc().eer().eer
    0.0
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, num_bins: int = 1_000_000) -> None:
        """Raises ConfigError for a range that is empty or not finite, or without bins."""
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"the histogram reaches from {low} to {high}: give two finite numbers, the lower first")
        if num_bins < 1:
            raise ConfigError(f"num_bins is {num_bins}: give at least 1")
        self.low, self.high, self.num_bins = float(low), float(high), int(num_bins)
        self.targets = np.zeros(self.num_bins, dtype=np.int64)
        self.nontargets = np.zeros(self.num_bins, dtype=np.int64)

    def add(self, target_scores: ArrayLike = (), nontarget_scores: ArrayLike = ()) -> None:
        """Count scores [t] and [u]; either may be empty.

        Raises
        ------
        ShapeError
            Scores that are not one-dimensional, not real numbers, or not finite; nothing is counted then.
        """
        sides = (
            (self.targets, _checked(target_scores, "target")),
            (self.nontargets, _checked(nontarget_scores, "non-target")),
        )
        for counts, scores in sides:
            for part in blocks(len(scores)):
                places = (scores[part].astype(np.float64) - self.low) * (self.num_bins / (self.high - self.low))
                bins = np.clip(np.floor(places), 0, self.num_bins - 1).astype(np.int64)
                counts += np.bincount(bins, minlength=self.num_bins)

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of another histogram, such as that of another process. Raises ShapeError for other bins."""
        if (self.low, self.high, self.num_bins) != (other.low, other.high, other.num_bins):
            raise ShapeError(
                f"histograms of {self.num_bins} bins from {self.low} to {self.high} and of {other.num_bins} bins from "
                f"{other.low} to {other.high} cannot be merged: make both with the same range and number of bins"
            )
        self.targets += other.targets
        self.nontargets += other.nontargets

    def roc(self) -> ROC:
        """Return the operating points at the lower edges of used bins.

        Raises ManifestError for a side without trials.
        """
        num_target, num_nontarget = int(self.targets.sum()), int(self.nontargets.sum())
        for side, number in (("target", num_target), ("non-target", num_nontarget)):
            if not number:
                raise ManifestError(f"no {side} trials: error rates need scores of target and of non-target trials")
        used = np.flatnonzero(self.targets + self.nontargets)
        edges = self.low + used * ((self.high - self.low) / self.num_bins)
        return ROC(
            thresholds=np.append(edges, np.inf),
            misses=np.concatenate([[0], np.cumsum(self.targets[used])]),
            false_accepts=num_nontarget - np.concatenate([[0], np.cumsum(self.nontargets[used])]),
            num_target=num_target,
            num_nontarget=num_nontarget,
        )


def _checked(scores: ArrayLike, side: str) -> NDArray[np.floating[Any]]:
    empty = np.asarray(scores).shape == (0,)
    return np.empty(0) if empty else checked_scores(scores, side)
