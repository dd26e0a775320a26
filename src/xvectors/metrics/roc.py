"""The ROC of a verification system, counted once, and all error measures that are read from it.

Convex hull and costs follow Brümmer and de Villiers, "The BOSARIS Toolkit" (2011), Cllr follows Brümmer and du Preez
(Comput. Speech Lang. 2006).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics.detection_cost import bayes_threshold, cost_weights, softplus
from xvectors.text import short_repr
from xvectors.trials.pairs import checked_labels
from xvectors.trials.sorting import blocks, part_distinct, sort_in_place

Scores = NDArray[np.floating[Any]]
Counts = NDArray[Any]  # int32, int64, or float64 sums of weights


@dataclass(frozen=True, kw_only=True)
class EERResult:
    """The equal error rate, from 0 to 1, and its threshold: scores >= threshold are accepted."""

    eer: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class MinDCF:
    """The minimum detection cost over all thresholds, and its threshold: scores >= threshold are accepted.

    1.0 is the cost of the better trivial system; at threshold inf every trial is rejected.
    """

    min_dcf: float
    threshold: float


@short_repr()
@dataclass(frozen=True, kw_only=True)
class DETCurve:
    """Points of a detection error trade-off, with ascending thresholds.

    `probit_frr` and `probit_far` are the coordinates on the normal-deviate axes of Martin et al. (Eurospeech 1997):
    -inf for a rate of 0, inf for a rate of 1.
    """

    thresholds: Scores  # [k]
    frr: NDArray[np.float64]  # [k]
    far: NDArray[np.float64]  # [k]
    probit_frr: NDArray[np.float64]  # [k]
    probit_far: NDArray[np.float64]  # [k]


@dataclass(frozen=True, kw_only=True, eq=False)
class ROC:
    """Error counts at each threshold, from accepting every trial to rejecting every trial.

    Attributes
    ----------
    thresholds : [k], ascending, the last inf; scores >= threshold are accepted
    misses : [k] number of targets below the threshold, ascending from 0
    false_accepts : [k] number of non-targets at or above the threshold, descending to 0
    num_target, num_nontarget : number of trials of each kind

    Counts are integers, or sums of weights for weighted trials. Equal scores cross a threshold together.
    """

    thresholds: Scores
    misses: Counts
    false_accepts: Counts
    num_target: float
    num_nontarget: float

    @classmethod
    def from_scores(cls, target_scores: ArrayLike, nontarget_scores: ArrayLike) -> ROC:
        """Sort and count target scores [t] and non-target scores [u]. Thresholds are the distinct scores, then inf.

        100 million single-precision scores take at most about 1.7 GB, including the scores.

        Raises
        ------
        ManifestError
            A side without trials.
        ShapeError
            Scores that are not one-dimensional, not real numbers, or not finite.
        """
        targets = checked_scores(target_scores, "target")
        nontargets = checked_scores(nontarget_scores, "non-target")
        merged = np.concatenate([targets, nontargets, np.array([np.inf], dtype=np.result_type(targets, nontargets))])
        return cls._counted(merged, targets)

    @classmethod
    def from_trials(cls, scores: ArrayLike, target: ArrayLike, *, overwrite_scores: bool = False) -> ROC:
        """Sort and count scores [m] of trials with labels [m], booleans or 0 and 1, like `from_scores`.

        With `overwrite_scores` the array of scores is reused for the thresholds; do not use it afterwards. The counts
        of 100 million trials then take another 0.8 GB.

        Raises
        ------
        ManifestError, ShapeError
            As `from_scores` does; not one score a trial, labels that are neither 0 nor 1.
        """
        values, labels = checked_scores(scores, "trial"), checked_labels(target)
        if values.shape != labels.shape:
            raise ShapeError(f"there are {len(values)} scores, but {len(labels)} trials: give one score a trial")
        targets = checked_scores(values[labels], "target")
        if len(targets) == len(values):
            checked_scores(values[:0], "non-target")
        if overwrite_scores and values.flags.owndata:
            values.resize(len(values) + 1, refcheck=False)
            values[-1] = np.inf
        else:
            values = np.append(values, np.array(np.inf, dtype=values.dtype))
        return cls._counted(values, targets)

    @classmethod
    def _counted(cls, merged: Scores, targets: Scores) -> ROC:
        """Count all scores and inf, in the array of the thresholds, and the scores of targets."""
        sort_in_place(merged)
        targets = targets.astype(merged.dtype)
        sort_in_place(targets)
        num_nontarget = len(merged) - 1 - len(targets)
        below = part_distinct(merged)
        thresholds = merged[: len(below)]
        if len(below) < len(merged) // 2:
            thresholds = thresholds.copy()  # copied, so that the large array is not kept alive
        misses = np.empty_like(below)
        for part in blocks(len(below)):
            # targets are few and thresholds many: look up the targets, and repeat their counts in between
            some = thresholds[part]
            first, last = np.searchsorted(targets, some[[0, -1]])
            places = np.searchsorted(some, targets[first:last])
            steps = np.diff(places, prepend=-1, append=len(some) - 1)
            misses[part] = np.repeat(np.arange(first, last + 1, dtype=below.dtype), steps)
        np.subtract(below, misses, out=below)
        false_accepts = np.subtract(num_nontarget, below, out=below)
        return cls(
            thresholds=thresholds,
            misses=misses,
            false_accepts=false_accepts,
            num_target=len(targets),
            num_nontarget=num_nontarget,
        )

    def __len__(self) -> int:
        return len(self.thresholds)

    @property
    def frr(self) -> NDArray[np.float64]:
        """False rejection rate [k]: the share of targets below each threshold."""
        return np.asarray(self.misses / self.num_target, dtype=np.float64)

    @property
    def far(self) -> NDArray[np.float64]:
        """False acceptance rate [k]: the share of non-targets at or above each threshold."""
        return np.asarray(self.false_accepts / self.num_nontarget, dtype=np.float64)

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """Return FRR and FAR if scores >= threshold are accepted."""
        frr, far = self.rates_at_each([threshold])
        return float(frr[0]), float(far[0])

    def rates_at_each(self, thresholds: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return FRR [n] and FAR [n] at thresholds [n], rounded to the precision of the scores."""
        wanted = np.asarray(thresholds).astype(self.thresholds.dtype)
        if np.isnan(wanted).any():
            raise ConfigError("a threshold is nan: give a number, inf to reject or -inf to accept every trial")
        at = np.searchsorted(self.thresholds, wanted, side="left")
        return self.misses[at] / self.num_target, self.false_accepts[at] / self.num_nontarget

    def eer(self) -> EERResult:
        """Return the plain equal error rate, where the line between two neighboring operating points has FRR = FAR.

        The threshold is that of the nearer point, in the middle of the gap between the scores that it separates.
        """
        before, share, crossing = _crossing(len(self), self._excess)
        return EERResult(eer=crossing, threshold=self.midway(before + 1 if share > 0.5 else before))

    def rocch_eer(self) -> EERResult:
        """Return the equal error rate on the convex hull of the ROC, where the hull has FRR = FAR.

        It is the maximum over priors of the minimum total error rate, and never above the plain EER. The threshold is
        that of the nearer corner of the hull.
        """
        hull = self.hull
        before, share, crossing = _crossing(len(hull), lambda corner: self._excess(int(hull[corner])))
        return EERResult(eer=crossing, threshold=self.midway(int(hull[before + 1 if share > 0.5 else before])))

    def min_dcf(self, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> MinDCF:
        """Return the minimum normalized detection cost over thresholds; see `metrics.min_dcf`."""
        miss, false_alarm = cost_weights(p_target, c_miss, c_fa)
        least, best = math.inf, 0
        for part in blocks(len(self)):
            costs = (miss / self.num_target) * self.misses[part]
            costs += (false_alarm / self.num_nontarget) * self.false_accepts[part]
            lowest = int(np.argmin(costs))
            if costs[lowest] < least:
                least, best = float(costs[lowest]), part.start + lowest
        return MinDCF(min_dcf=least, threshold=self.midway(best))

    def dcf(self, threshold: float, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """Return the normalized detection cost at one threshold."""
        miss, false_alarm = cost_weights(p_target, c_miss, c_fa)
        frr, far = self.rates_at(threshold)
        return miss * frr + false_alarm * far

    def actual_dcf(self, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """Return the normalized detection cost of LLRs at the Bayes threshold of this prior and these costs."""
        return self.dcf(bayes_threshold(p_target, c_miss, c_fa), p_target, c_miss, c_fa)

    def auc(self) -> float:
        """Return the area under the ROC: the share of pairs with the target above the non-target; ties count half."""
        area = 0.0
        for part, misses, accepts in self._steps():
            area += float(np.dot(misses, self.false_accepts[part] - accepts / 2))
        return 1.0 - area / (float(self.num_target) * float(self.num_nontarget))

    def tpr_at_fpr(self, fpr: float) -> float:
        """Return the largest share of accepted targets at a false acceptance rate of at most `fpr`, without
        interpolation.

        Raises
        ------
        ConfigError
            A rate outside [0, 1].
        """
        return 1.0 - float(self.misses[self.index_at_far(fpr)]) / self.num_target

    def index_at_far(self, far: float) -> int:
        """Return the index of the lowest threshold with a false acceptance rate of at most `far`."""
        if not 0.0 <= far <= 1.0:
            raise ConfigError(f"the false acceptance rate is {far}: give a share from 0 to 1")
        return bisect_left(range(len(self)), -far, key=lambda at: -float(self.false_accepts[at]) / self.num_nontarget)

    def cllr(self) -> float:
        """Return Cllr of natural-log likelihood ratios, in bits; see `metrics.cllr`."""
        return self._cllr

    def calibration_loss(self) -> float:
        """Return Cllr - minCllr, in bits: what perfect calibration of the same scores would save."""
        return self.cllr() - self.min_cllr()

    @cached_property
    def _cllr(self) -> float:
        of_targets = of_nontargets = 0.0
        for part, misses, accepts in self._steps():
            llr = self.thresholds[part].astype(np.float64)
            for counts, sign in ((misses, -1.0), (accepts, 1.0)):
                some = counts > 0
                loss = float(np.dot(counts[some], softplus(sign * llr[some])))
                if sign < 0:
                    of_targets += loss
                else:
                    of_nontargets += loss
        return (of_targets / self.num_target + of_nontargets / self.num_nontarget) / (2 * math.log(2))

    def min_cllr(self) -> float:
        """Return Cllr after the best monotone map of the scores (PAV), in bits: what calibration cannot improve."""
        target_shares = np.diff(self.misses[self.hull] / self.num_target)
        nontarget_shares = -np.diff(self.false_accepts[self.hull] / self.num_nontarget)
        both = target_shares + nontarget_shares
        bits = 0.0
        for shares in (target_shares, nontarget_shares):
            some = shares > 0
            bits += float(np.dot(shares[some], np.log2(both[some] / shares[some])))
        return bits / 2

    @cached_property
    def hull(self) -> NDArray[np.int64]:
        """Return the indices of the operating points on the lower convex hull of FRR against FAR, ascending.

        They are the edges of the groups that pooling adjacent violators forms of the target shares (Fawcett and
        Niculescu-Mizil, Machine Learning 2007). Blocks are pooled first, then their remaining points together.
        """
        last = len(self) - 1
        edges = [part.start + self._pooled(np.arange(part.start, part.stop + 1)) for part in blocks(last)]
        if len(edges) == 1:
            return np.asarray(edges[0])
        left = np.append(np.concatenate([edge[:-1] for edge in edges]), last)
        return np.asarray(left[self._pooled(left)], dtype=np.int64)

    def det(self, max_points: int = 2000) -> DETCurve:
        """Return at most about `max_points` operating points, spread evenly over both normal-deviate axes."""
        from scipy.special import ndtri

        if len(self) <= max_points:
            at = np.arange(len(self))
        else:
            smallest = 0.5 / max(self.num_target, self.num_nontarget)
            deviates = np.linspace(ndtri(smallest), -ndtri(smallest), max(2, max_points // 2))
            rates = _normal_share(deviates)
            by_frr = np.searchsorted(self.misses, rates * self.num_target)
            by_far = len(self) - np.searchsorted(self.false_accepts[::-1], rates * self.num_nontarget, side="right")
            at = np.unique(np.clip(np.concatenate([by_frr, by_far, [0, len(self) - 1]]), 0, len(self) - 1))
        frr, far = self.misses[at] / self.num_target, self.false_accepts[at] / self.num_nontarget
        return DETCurve(thresholds=self.thresholds[at], frr=frr, far=far, probit_frr=ndtri(frr), probit_far=ndtri(far))

    def midway(self, index: int) -> float:
        """Return the middle of the gap below thresholds[index], which decides these scores like thresholds[index].

        It is rounded like the scores, because comparing float32 scores with a Python float rounds it to float32.
        """
        above = self.thresholds[index]
        if index == 0 or np.isinf(above):
            return float(above)
        below = self.thresholds[index - 1]
        middle = below / 2 + above / 2
        return float(middle if middle > below else above)

    def _excess(self, index: int) -> tuple[float, float]:
        """Return FRR - FAR and FRR of one operating point."""
        frr = float(self.misses[index]) / self.num_target
        return frr - float(self.false_accepts[index]) / self.num_nontarget, frr

    def _steps(self) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """Yield per block of thresholds, without the last: the targets and non-targets at each threshold exactly."""
        for part in blocks(len(self) - 1):
            edges = slice(part.start, part.stop + 1)
            yield (
                part,
                np.diff(self.misses[edges]).astype(np.float64),
                -np.diff(self.false_accepts[edges]).astype(np.float64),
            )

    def _pooled(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of the ascending points `at` bound the groups of the isotonic target share."""
        # imported here: it takes as long as all other imports of the package
        from scipy.optimize import isotonic_regression

        misses, accepts = self.misses[at], self.false_accepts[at]
        targets, nontargets = np.diff(misses), -np.diff(accepts)
        some = np.flatnonzero((targets > 0) | (nontargets > 0))  # none if resampling gives every trial weight 0
        if not len(some):
            return np.array([0, len(at) - 1])
        # a group can only begin where non-targets end and targets begin: a fraction of the points
        turns = np.flatnonzero((nontargets[some[:-1]] > 0) & (targets[some[1:]] > 0)) + 1
        edges = np.concatenate([some[:1], some[turns], [len(at) - 1]])
        of_groups = np.diff(misses[edges]).astype(np.float64)
        trials = of_groups - np.diff(accepts[edges])
        pooled = isotonic_regression(of_groups / trials, weights=trials)
        return np.concatenate([[0], edges[pooled.blocks[1:-1]], [len(at) - 1]]).astype(np.int64)


def checked_scores(scores: ArrayLike, side: str) -> Scores:
    """Return the scores of one side as a float array [n]. Raises the errors of `ROC.from_scores`."""
    array = np.asarray(scores)
    if array.ndim != 1:
        raise ShapeError(f"{side} scores have the shape {list(array.shape)}: give one number a trial, [trials]")
    if array.size == 0:
        raise ManifestError(f"no {side} trials: error rates need scores of target and of non-target trials")
    if array.dtype.kind not in "iuf":
        raise ShapeError(f"{side} scores are of type {array.dtype}: give real numbers")
    values: Scores = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if not (math.isfinite(values.min()) and math.isfinite(values.max())):
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ShapeError(f"{side} score {row} is {values[row]}: every score must be a finite number")
    return values


def _crossing(count: int, excess: Callable[[int], tuple[float, float]]) -> tuple[int, float, float]:
    """Find where FRR - FAR, ascending over `count` points, becomes 0.

    Returns the point before, the fraction of the way to the next point, and the rate there."""
    after = bisect_left(range(count), 0.0, key=lambda at: excess(at)[0])
    (below, frr_before), (above, frr_after) = excess(after - 1), excess(after)
    share = -below / (above - below)
    return after - 1, share, frr_before + share * (frr_after - frr_before)


def _normal_share(deviates: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import ndtr

    return np.asarray(ndtr(deviates), dtype=np.float64)
