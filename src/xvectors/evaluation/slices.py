"""Error rates of groups of trials, and how far they depart from those of all trials.

Speakers are resampled as in `metrics.bootstrap`, with the same draws for every slice and for the whole, so that a
difference is measured within each draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from xvectors.evaluation.slice_dimensions import Dimension, Kind
from xvectors.metrics import ROC, LeastCost, ScoredTrials, bayes_threshold
from xvectors.metrics.bootstrap import MIN_SPEAKERS, interval_ends
from xvectors.metrics.detection_cost import cost_weights
from xvectors.metrics.operating_points import MIN_ERRORS
from xvectors.text import count
from xvectors.trials.pairs import checked_labels

MIN_TRIALS = 30  # of a kind; fewer give no rate
MAX_NAN = 0.05  # of the draws may leave a slice without trials of a kind
EDGES = 400  # thresholds at which a slice's draws are counted
WORK = 400_000_000  # trials times draws that a default number of draws may take: a few seconds
CELLS_AT_ONCE = 1 << 22  # weights of speaker pairs held in memory: 32 MB

MEASURES = ("eer", "frr", "far", "actual_dcf")


@dataclass(frozen=True, kw_only=True)
class SliceMeasure:
    """A measure of one slice: a rate, or a normalized cost for the DCF.

    `low` and `high` are None with too few speakers in all. `difference` is slice minus whole; its ends and `departs`
    come from the same draws.
    """

    value: float
    low: float | None = None
    high: float | None = None
    difference: float = 0.0
    difference_low: float | None = None
    difference_high: float | None = None
    departs: bool = False
    """Whether the interval of the difference excludes 0 and 30 errors support it."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A group of trials. `measures` holds, by key of MEASURES, those that its trials support; `note` says what is
    missing."""

    dimension: str
    name: str
    kind: Kind
    num_speakers: int
    num_target: int
    num_nontarget: int
    num_misses: int
    num_false_accepts: int
    measures: Mapping[str, SliceMeasure] = field(default_factory=dict)
    note: str = ""

    @property
    def departs(self) -> bool:
        return any(measure.departs for measure in self.measures.values())

    @property
    def departure(self) -> float:
        """Distance of the EER from that of all trials; -1 for slices without an EER."""
        return abs(self.measures["eer"].difference) if "eer" in self.measures else -1.0


@dataclass(frozen=True, kw_only=True)
class Slices:
    """All trials as `whole`, and the slices, farthest from the whole first."""

    whole: Slice
    slices: tuple[Slice, ...]
    confidence: float
    num_draws: int


def measure_slices(
    dimensions: Iterable[Dimension],
    *,
    scores: ArrayLike,
    target: ArrayLike,
    enroll_speaker: ArrayLike,
    test_speaker: ArrayLike,
    threshold: float,
    cost: LeastCost | None = None,
    num_draws: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Slices:
    """Measure EER, FRR and FAR of each group and, for LLRs, the actual DCF.

    Values are exact. The EER of a draw is interpolated between 400 thresholds of the slice, which moves the end of an
    interval by less than a hundredth of its width; FRR, FAR and DCF of a draw are exact. Groups with fewer than 5
    speakers or 30 trials of a kind get no rate. 300,000 trials in 30 groups take a few seconds.

    Parameters
    ----------
    scores, target, enroll_speaker, test_speaker
        [m] scores, truth and speakers of the trials.
    threshold
        Scores at or above it are accepted.
    cost
        Prior and costs of the actual DCF; None for scores that are not LLRs.
    num_draws
        By default 1000, and fewer from 400,000 trials on, down to 200.

    Raises
    ------
    ManifestError, ShapeError
        As in `ScoredTrials.of` and `ROC.from_scores`, except that with fewer than 5 speakers there are no intervals.
    """
    labels = checked_labels(target)
    if num_draws is None:
        num_draws = int(np.clip(WORK // max(1, len(labels)), 200, 1000))
    resample = _Resample(np.asarray(scores), labels, enroll_speaker, test_speaker, threshold, cost, num_draws, seed)
    whole, whole_draws = resample.whole(confidence)
    found = [
        one
        for dimension in dimensions
        for code in range(len(dimension.labels))
        if (one := resample.slice(dimension, code, whole, whole_draws, confidence)) is not None
    ]
    found.sort(key=lambda one: -one.departure)
    return Slices(whole=whole, slices=tuple(found), confidence=confidence, num_draws=num_draws)


Draws = dict[str, NDArray[np.float64]]
Rows = NDArray[np.int64]


class _Resample:
    """All trials, with the bootstrap draws of their speakers."""

    def __init__(
        self,
        scores: NDArray[np.floating[Any]],
        target: NDArray[np.bool_],
        enroll_speaker: ArrayLike,
        test_speaker: ArrayLike,
        threshold: float,
        cost: LeastCost | None,
        num_draws: int,
        seed: int,
    ) -> None:
        sides = np.concatenate([np.asarray(enroll_speaker), np.asarray(test_speaker)])
        names, numbers = np.unique(sides, return_inverse=True)
        self.scores, self.target = scores, target
        self.enroll, self.test = numbers[: len(target)].astype(np.int64), numbers[len(target) :].astype(np.int64)
        self.num_speakers = len(names)
        # Rounded as the scores are, so that a trial is decided as a comparison with the scores decides it.
        self.threshold = float(np.asarray(threshold).astype(scores.dtype))
        self.cost = cost
        self.counts: NDArray[np.float64] | None = None  # [speakers, draws]
        if self.num_speakers >= MIN_SPEAKERS:
            draws = ScoredTrials.of(target, self.enroll, self.test).draws(num_draws, seed)
            self.counts = np.stack(list(draws), axis=1).astype(np.float64)

    def whole(self, confidence: float) -> tuple[Slice, Draws]:
        targets, nontargets = np.flatnonzero(self.target), np.flatnonzero(~self.target)
        roc = ROC.from_scores(self.scores[targets], self.scores[nontargets])
        drawn = self._drawn(roc, targets, nontargets)
        measures = {
            name: _measure(value, drawn.get(name), confidence, self.num_speakers)
            for name, value in self._values(roc).items()
        }
        return self._slice("", "all trials", "both", targets, nontargets, measures, ""), drawn

    def slice(
        self, dimension: Dimension, code: int, whole: Slice, whole_draws: Draws, confidence: float
    ) -> Slice | None:
        kind, name = dimension.kinds[code], dimension.labels[code]
        chosen = dimension.codes == code
        if not chosen.any():
            return None
        targets = np.flatnonzero(self.target if kind == "non-targets" else chosen & self.target)
        nontargets = np.flatnonzero(~self.target if kind == "targets" else chosen & ~self.target)
        lacks = [self._lacks("target", targets), self._lacks("non-target", nontargets)]
        note = "; ".join(lack for lack in lacks if lack)
        measures: dict[str, SliceMeasure] = {}
        if len(targets) and len(nontargets) and not all(lacks):
            roc = ROC.from_scores(self.scores[targets], self.scores[nontargets])
            drawn = self._drawn(roc, targets, nontargets)
            supported = _supported(kind, *lacks)
            unsure = [name for name in supported if name in drawn and np.isnan(drawn[name]).mean() > MAX_NAN]
            if unsure and not note:
                note = "too few speakers to resample"
            for key, value in self._values(roc).items():
                if key in supported and key not in unsure:
                    compared = whole.measures[key].value, whole_draws.get(key), self._errors(key, roc, value, whole)
                    measures[key] = _measure(value, drawn.get(key), confidence, self._num_speakers(chosen), compared)
        return self._slice(dimension.name, name, kind, targets, nontargets, measures, note, chosen)

    def _slice(
        self,
        dimension: str,
        name: str,
        kind: Kind,
        targets: Rows,
        nontargets: Rows,
        measures: Mapping[str, SliceMeasure],
        note: str,
        chosen: NDArray[np.bool_] | None = None,
    ) -> Slice:
        return Slice(
            dimension=dimension,
            name=name,
            kind=kind,
            num_speakers=self.num_speakers if chosen is None else self._num_speakers(chosen),
            num_target=len(targets),
            num_nontarget=len(nontargets),
            num_misses=int(np.count_nonzero(self.scores[targets] < self.threshold)),
            num_false_accepts=int(np.count_nonzero(self.scores[nontargets] >= self.threshold)),
            measures=measures,
            note=note,
        )

    def _num_speakers(self, chosen: NDArray[np.bool_]) -> int:
        return len(np.union1d(self.enroll[chosen], self.test[chosen]))

    def _lacks(self, kind: str, rows: Rows) -> str:
        """Say why there are too few trials of a kind for a rate; empty if there are enough."""
        if len(rows) < MIN_TRIALS:
            return f"{count(len(rows), f'{kind} trial')}, fewer than {MIN_TRIALS}"
        speakers = len(np.union1d(self.enroll[rows], self.test[rows]))
        if speakers < MIN_SPEAKERS:
            return f"{kind} trials of {count(speakers, 'speaker')}, fewer than {MIN_SPEAKERS}"
        return ""

    def _values(self, roc: ROC) -> dict[str, float]:
        frr, far = roc.rates_at(self.threshold)
        values = {"eer": roc.eer().eer, "frr": frr, "far": far}
        if self.cost is not None:
            values["actual_dcf"] = roc.actual_dcf(*self.cost.settings)
        return values

    def _errors(self, key: str, roc: ROC, value: float, whole: Slice) -> float:
        """Count the errors that support a comparison: those made, or those expected at the rate of all trials."""
        if key == "frr":
            return max(value, whole.measures[key].value) * roc.num_target
        if key == "far":
            return max(value, whole.measures[key].value) * roc.num_nontarget
        return float("inf")

    def _drawn(self, roc: ROC, targets: Rows, nontargets: Rows) -> Draws:
        """Compute the measures of each draw, [draws]; empty without draws, NaN for a draw without trials."""
        if self.counts is None:
            return {}
        edges = [roc.det(EDGES).thresholds.astype(np.float64), np.array([self.threshold])]
        if self.cost is not None:
            edges.append(np.array([bayes_threshold(*self.cost.settings)]).astype(self.scores.dtype).astype(np.float64))
        thresholds: NDArray[np.float64] = np.unique(np.concatenate(edges))
        target_weights = self._below(thresholds, targets, self.counts, square=False)
        nontarget_weights = self._below(thresholds, nontargets, self.counts, square=True)
        with np.errstate(invalid="ignore"):
            frr = target_weights[:-1] / target_weights[-1]
            far = 1.0 - nontarget_weights[:-1] / nontarget_weights[-1]
        at = int(np.searchsorted(thresholds, self.threshold))
        drawn = {"eer": _crossings(frr, far), "frr": frr[at], "far": far[at]}
        if self.cost is not None:
            miss, false_alarm = cost_weights(*self.cost.settings)
            bayes = int(np.searchsorted(thresholds, edges[-1][0]))
            drawn["actual_dcf"] = miss * frr[bayes] + false_alarm * far[bayes]
        return drawn

    def _below(
        self, thresholds: NDArray[np.float64], rows: Rows, drawn: NDArray[np.float64], *, square: bool
    ) -> NDArray[np.float64]:
        """Sum the weights of the trials below each threshold and, in the last row, of all: [thresholds + 1, draws].

        Speaker s is drawn m_s times, as `drawn` [speakers, draws] says. All trials of one pair of speakers have the
        same weight, m_s or, if `square`, m_s m_r, so they are counted before they are weighed.
        """
        bins = np.searchsorted(thresholds, self.scores[rows], side="right")
        pairs, pair = np.unique(self.enroll[rows] * self.num_speakers + self.test[rows], return_inverse=True)
        ones = np.ones(len(rows))
        table = coo_array((ones, (bins, pair)), shape=(len(thresholds) + 1, len(pairs))).tocsr()
        enroll, test = np.divmod(pairs, self.num_speakers)
        blocks = []
        width = max(1, CELLS_AT_ONCE // max(1, len(pairs)))
        for start in range(0, drawn.shape[1], width):
            counts = drawn[:, start : start + width]
            blocks.append(table @ (counts[enroll] * counts[test] if square else counts[enroll]))
        return np.cumsum(np.concatenate(blocks, axis=1), axis=0)


def _crossings(frr: NDArray[np.float64], far: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the rate at which FRR [thresholds, draws] crosses FAR; NaN for a draw without trials of a kind."""
    excess = frr - far
    after = np.clip(np.count_nonzero(excess < 0, axis=0), 1, len(excess) - 1)
    draws = np.arange(excess.shape[1])
    below, above = excess[after - 1, draws], excess[after, draws]
    with np.errstate(invalid="ignore"):
        share = -below / (above - below)
    return np.asarray(frr[after - 1, draws] + share * (frr[after, draws] - frr[after - 1, draws]))


def _supported(kind: Kind, target_lacks: str, nontarget_lacks: str) -> set[str]:
    """Keep the measures that the trials support, without rates of a kind that the slice does not select."""
    keys = set(MEASURES)
    if target_lacks:
        keys -= {"eer", "frr", "actual_dcf"}
    if nontarget_lacks:
        keys -= {"eer", "far", "actual_dcf"}
    return keys - {"targets": {"far"}, "non-targets": {"frr"}, "both": set()}[kind]


def _measure(
    value: float,
    drawn: NDArray[np.float64] | None,
    confidence: float,
    num_speakers: int,
    compared: tuple[float, NDArray[np.float64] | None, float] | None = None,
) -> SliceMeasure:
    """`compared` holds the value of the whole, its draws, and the number of errors that support the comparison."""
    difference = 0.0 if compared is None else value - compared[0]
    if drawn is None:
        return SliceMeasure(value=value, difference=difference)
    low, high = _ends(drawn, confidence, num_speakers)
    if compared is None or compared[1] is None:
        return SliceMeasure(value=value, low=low, high=high)
    difference_low, difference_high = _ends(drawn - compared[1], confidence, num_speakers)
    return SliceMeasure(
        value=value,
        low=low,
        high=high,
        difference=difference,
        difference_low=difference_low,
        difference_high=difference_high,
        departs=(difference_low > 0 or difference_high < 0) and compared[2] >= MIN_ERRORS,
    )


def _ends(drawn: NDArray[np.float64], confidence: float, num_speakers: int) -> tuple[float, float]:
    low, high = interval_ends(drawn[~np.isnan(drawn)], confidence, num_speakers)
    return float(low), float(high)
