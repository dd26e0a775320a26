"""Confidence intervals of error measures, and paired comparisons of systems, by a bootstrap over speakers.

Speakers are resampled, not trials, because the trials of a speaker are correlated. A draw takes as many speakers as
there are, with replacement; speaker s occurs m_s times. A target trial of s then has weight m_s, and a non-target trial
between s and r has weight m_s m_r. Trials between copies of one speaker would be new in the draw, were never scored,
and are left out. This is the vertex bootstrap of Snijders and Borgatti (Connections 22(2), 1999) without its imputed
ties, and the pigeonhole bootstrap of Owen (Annals of Applied Statistics 1(3), 2007) with both sides drawn from one
population; he shows that product weights err towards wide intervals. Intervals are expanded percentiles of the draws
(Hesterberg, The American Statistician 69(4), 2015, section 4.3), which correct plain percentiles as Student's t
corrects a normal interval. With few speakers they are still too narrow, see `COVERAGE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics.roc import ROC, Scores, checked_scores
from xvectors.text import short_repr
from xvectors.trials.pairs import checked_labels

MIN_SPEAKERS = 5  # fewer speakers give too few distinct draws for percentiles
REDRAWS = 100  # attempts at a draw with trials of both kinds
MAX_AT_ONCE = 200  # draws whose counts of a few thousand speakers fit into the cache
BATCH_VALUES = 8_000_000  # counts at every edge for all draws at once: 64 MB
GATHER_VALUES = 200_000  # weights gathered at once for all draws, which fit into the cache
TRIALS_AT_ONCE = 4096
EXACT = 1 << 24  # largest count that single precision represents exactly
COVERAGE = (
    "Of simulated sets of 10 and 30 speakers, intervals that state 95 % hold the population's rate in about 87 and "
    "90 % of cases."
)
"""How far what intervals state is true; the tests repeat part of it."""

Metric = Callable[[ROC], float]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measure with its confidence interval over speakers of the same population."""

    value: float
    low: float
    high: float
    confidence: float
    num_speakers: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two systems on the same trials: the difference `b` - `a`, its interval and its p-value.

    `p_value` is two-sided and inverts the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    section 15.4): it is below 1 - confidence if the interval excludes 0.
    """

    a: float
    b: float
    difference: Interval
    p_value: float


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredTrials:
    """The trials to resample.

    Attributes
    ----------
    target : bool [m], or 0 and 1
    enroll_speaker, test_speaker : [m] speaker of each side, as numbers or names
    weight : [m] number of trials that each one represents; None for 1
    """

    target: NDArray[np.bool_]
    enroll_speaker: NDArray[np.int64]
    test_speaker: NDArray[np.int64]
    num_speakers: int
    weight: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        target: ArrayLike,
        enroll_speaker: ArrayLike,
        test_speaker: ArrayLike,
        weight: NDArray[np.int64] | None = None,
    ) -> ScoredTrials:
        """Check the trials and number the speakers.

        Raises
        ------
        ManifestError
            Fewer than 5 speakers, no trials of a kind, or speakers that contradict the truth.
        ShapeError
            Sides of unequal length, labels that are not 0 or 1.
        """
        labels = checked_labels(target)
        sides = [np.asarray(side) for side in (enroll_speaker, test_speaker)]
        for name, side in zip(("enroll", "test"), sides, strict=True):
            if side.shape != labels.shape:
                raise ShapeError(
                    f"{name} speakers have the shape {list(side.shape)}, but there are {len(labels)} trials: "
                    "give one speaker a trial and side"
                )
        names, numbers = _numbered(np.concatenate(sides))
        enroll, test = numbers[: len(labels)], numbers[len(labels) :]
        wrong = np.flatnonzero((enroll == test) != labels)
        if len(wrong):
            at = int(wrong[0])
            kind = "target" if labels[at] else "non-target"
            raise ManifestError(
                f"trial {at} is a {kind} trial of the speakers {names[enroll[at]]} and {names[test[at]]} "
                f"({len(wrong)} such trials): correct the labels or the speakers"
            )
        if len(names) < MIN_SPEAKERS:
            raise ManifestError(
                f"an interval over speakers needs at least {MIN_SPEAKERS} of them, there are {len(names)}: "
                "measure on more speakers, or without intervals"
            )
        return cls(target=labels, enroll_speaker=enroll, test_speaker=test, num_speakers=len(names), weight=weight)

    def draws(self, number: int, seed: int) -> Iterator[NDArray[np.int64]]:
        """Draw the count of each speaker, [speakers], `number` times, such that trials of both kinds remain."""
        rng = np.random.default_rng(seed)
        speakers = np.arange(self.num_speakers)
        with_targets = np.unique(self.enroll_speaker[self.target])
        pairs = self.enroll_speaker[~self.target], self.test_speaker[~self.target]
        for _ in range(number):
            for _ in range(REDRAWS):
                counts = np.bincount(rng.choice(speakers, self.num_speakers), minlength=self.num_speakers)
                if counts[with_targets].any() and _any_pair(counts, *pairs):
                    break
            else:
                raise ManifestError(
                    f"hardly any draw of the {self.num_speakers} speakers has trials of both kinds, because few of "
                    "them take part in target or in non-target trials: measure without intervals, or add trials"
                )
            yield counts


class _SortedTrials:
    """The scores of one system, sorted once; `rocs(counts)` weights the trials of several draws."""

    def __init__(self, scores: ArrayLike, trials: ScoredTrials) -> None:
        values = checked_scores(scores, "trial")
        if values.shape != trials.target.shape:
            raise ShapeError(f"there are {len(values)} scores, but {len(trials.target)} trials: give one score a trial")
        order = np.argsort(values)
        values, target = values[order], trials.target[order]
        first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
        self.thresholds: Scores = np.append(values[first], np.inf).astype(values.dtype)
        edges = np.append(first, len(values))
        below = np.concatenate([[0], np.cumsum(target)])
        self.targets_below = below[edges]
        self.nontargets_below = edges - below[edges]
        self.target_speakers = (trials.enroll_speaker[order][target],)
        self.nontarget_speakers = trials.enroll_speaker[order][~target], trials.test_speaker[order][~target]
        ordered = np.ones(len(values), dtype=np.int64) if trials.weight is None else trials.weight[order]
        self.target_weight, self.nontarget_weight = ordered[target], ordered[~target]

    def rocs(self, counts: Sequence[NDArray[np.int64]]) -> Iterator[ROC]:
        """Return the ROC of each draw, in one pass over the trials."""
        drawn = np.stack(counts, axis=1)
        misses = _sums(drawn, self.target_speakers, self.target_weight, self.targets_below)
        rejections = _sums(drawn, self.nontarget_speakers, self.nontarget_weight, self.nontargets_below)
        for missed, rejected in zip(misses.T, rejections.T, strict=True):
            yield ROC(
                thresholds=self.thresholds,
                misses=np.ascontiguousarray(missed),
                false_accepts=rejected[-1] - rejected,
                num_target=int(missed[-1]),
                num_nontarget=int(rejected[-1]),
            )


def speaker_intervals(
    scores: ArrayLike,
    trials: ScoredTrials,
    metrics: Mapping[str, Metric],
    *,
    centered: Collection[str] = (),
    num_draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return each measure of scores [m] with its confidence interval over speakers.

    Parameters
    ----------
    metrics
        Functions of a ROC by name, such as `{"eer": lambda roc: roc.eer().eer}`.
    centered
        Names of metrics whose draws are shifted so that their median is the value. Calibration loss needs this: PAV
        overfits the fewer distinct speakers of a draw, so that nearly every draw has a higher loss than all trials.
    num_draws
        Number of bootstrap draws. With 1000, the ends of a 95 % interval vary by about 5 % of its width.

    Raises
    ------
    ConfigError
        For a confidence outside (0, 1), and fewer than 100 draws.
    ManifestError
        See `ScoredTrials.draws`.
    ShapeError
        Unless there is one finite score per trial.

    Notes
    -----
    A draw takes about a nanosecond per trial, plus the time of the measures on its ROC.
    """
    _check(num_draws, confidence)
    system = _SortedTrials(scores, trials)
    batches = _batches(trials.draws(num_draws, seed), len(system.thresholds))
    drawn = np.array([_measured(metrics, roc) for batch in batches for roc in system.rocs(batch)])
    (values,) = (_measured(metrics, roc) for roc in system.rocs([np.ones(trials.num_speakers, dtype=np.int64)]))
    for at, name in enumerate(metrics):
        if name in centered:
            drawn[:, at] += values[at] - np.median(drawn[:, at])
    ends = interval_ends(drawn, confidence, trials.num_speakers)
    return {
        name: Interval(value=value, low=low, high=high, confidence=confidence, num_speakers=trials.num_speakers)
        for name, value, low, high in zip(metrics, values, *(end.tolist() for end in ends), strict=True)
    }


def compare_systems(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    trials: ScoredTrials,
    metrics: Mapping[str, Metric],
    *,
    num_draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare the scores [m] of two systems on the same trials and the same draws of speakers.

    The difficulty of a speaker thus cancels. Arguments and errors are those of `speaker_intervals`."""
    _check(num_draws, confidence)
    systems = [_SortedTrials(scores, trials) for scores in (scores_a, scores_b)]
    batches = _batches(trials.draws(num_draws, seed), max(len(system.thresholds) for system in systems))
    drawn = np.array(
        [
            [_measured(metrics, roc) for roc in pair]
            for batch in batches
            for pair in zip(*(system.rocs(batch) for system in systems), strict=True)
        ]
    )
    ones = [np.ones(trials.num_speakers, dtype=np.int64)]
    a, b = (_measured(metrics, roc) for system in systems for roc in system.rocs(ones))
    differences = drawn[:, 1] - drawn[:, 0]
    ends = interval_ends(differences, confidence, trials.num_speakers)
    below = 1 + np.count_nonzero(differences <= 0, axis=0)
    above = 1 + np.count_nonzero(differences >= 0, axis=0)
    tails = np.minimum(0.5, np.minimum(below, above) / (num_draws + 1))
    p_values = 2 * _tail_of_students(tails, trials.num_speakers)
    return {
        name: Comparison(
            a=a[at],
            b=b[at],
            difference=Interval(
                value=b[at] - a[at],
                low=float(ends[0][at]),
                high=float(ends[1][at]),
                confidence=confidence,
                num_speakers=trials.num_speakers,
            ),
            p_value=float(p_values[at]),
        )
        for at, name in enumerate(metrics)
    }


def _numbered(speakers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted distinct speakers, and the position [n] of each among them."""
    if speakers.dtype.kind in "iu" and len(speakers) and speakers.min() >= 0 and speakers.max() < len(speakers):
        used = np.zeros(int(speakers.max()) + 1, dtype=bool)  # a table instead of a sort
        used[speakers] = True
        return np.flatnonzero(used), (np.cumsum(used) - 1)[speakers]
    return np.unique(speakers, return_inverse=True)


def _batches(draws: Iterator[NDArray[np.int64]], num_edges: int) -> Iterator[list[NDArray[np.int64]]]:
    """Yield the draws in batches whose counts at the edges fit into memory."""
    size = max(1, min(MAX_AT_ONCE, BATCH_VALUES // num_edges))
    while batch := list(islice(draws, size)):
        yield batch


def _sums(
    counts: NDArray[np.int64],
    speakers: tuple[NDArray[np.int64], ...],
    weight: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return [edges, draws]: the total weight of the trials before each edge.

    The weight of a trial is its own, [m], times the counts [speakers, draws] of its speakers on one or two sides. All
    draws are processed together, which takes a quarter of the time of one draw after another.
    """
    from scipy.sparse import csr_array

    num_draws = counts.shape[1]
    sums = np.zeros((len(edges), num_draws), dtype=np.int64)
    heaviest = int(weight.max(initial=1)) * int(counts.max(initial=1)) ** len(speakers)
    rows = max(1, min(GATHER_VALUES // num_draws, EXACT // heaviest))
    single, trial_weight = counts.astype(np.float32), weight.astype(np.float32)
    gathered = np.empty((len(speakers), rows, num_draws), dtype=np.float32)
    places = np.arange(rows)
    for start in range(0, int(edges[-1]), rows):
        stop = min(start + rows, int(edges[-1]))
        some = gathered[:, : stop - start]
        for side, of_side in zip(speakers, some, strict=True):
            np.take(single, side[start:stop], axis=0, out=of_side, mode="clip")  # mode: the others copy `out` first
        for of_side in some[1:]:
            some[0] *= of_side
        # the scores of these trials
        first = int(np.searchsorted(edges, start, side="right")) - 1
        last = int(np.searchsorted(edges, stop, side="left"))
        inside = edges[first : last + 1].clip(start, stop) - start
        summed = trial_weight[start:stop], places[: stop - start], inside
        adder = csr_array(summed, shape=(last - first, stop - start))
        sums[first + 1 : last + 1] += (adder @ some[0]).astype(np.int64)
    return np.cumsum(sums, axis=0, out=sums)


def _any_pair(counts: NDArray[np.int64], enroll: NDArray[np.int64], test: NDArray[np.int64]) -> bool:
    """Whether both speakers of any trial are in the draw."""
    parts = (slice(start, start + TRIALS_AT_ONCE) for start in range(0, len(enroll), TRIALS_AT_ONCE))
    return any(bool((counts[enroll[part]] * counts[test[part]]).any()) for part in parts)


def _measured(metrics: Mapping[str, Metric], roc: ROC) -> list[float]:
    return [float(metric(roc)) for metric in metrics.values()]


def interval_ends(
    drawn: NDArray[np.float64], confidence: float, num_speakers: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the expanded percentile interval of draws [draws, ...] over a number of speakers."""
    from scipy.special import ndtr, stdtrit

    freedom = num_speakers - 1
    tail = float(ndtr(stdtrit(freedom, (1 - confidence) / 2) * math.sqrt(num_speakers / freedom)))
    # the value of a neighboring draw, without interpolation, since thresholds may be infinite
    low = np.quantile(drawn, tail, axis=0, method="lower")
    high = np.quantile(drawn, 1 - tail, axis=0, method="higher")
    return low, high


def _tail_of_students(tail: NDArray[np.float64], num_speakers: int) -> NDArray[np.float64]:
    """Invert `interval_ends`: return the nominal tail of an interval that ends at this percentile of the draws."""
    from scipy.special import ndtri, stdtr

    freedom = num_speakers - 1
    return np.asarray(stdtr(freedom, ndtri(tail) / math.sqrt(num_speakers / freedom)), dtype=np.float64)


def _check(num_draws: int, confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence is {confidence}: give a share above 0 and below 1, such as 0.95")
    if num_draws < 100:
        raise ConfigError(f"num_draws is {num_draws}: percentiles need at least 100 draws")
