"""Turn scored trials into error measures and operating points with confidence intervals over speakers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends import Backend
from xvectors.metrics import (
    ROC,
    LeastCost,
    ScoredTrials,
    count_error_speakers,
    identification_rates,
    operating_points,
    speaker_intervals,
)
from xvectors.metrics import (
    Interval as Interval,
)
from xvectors.metrics import (
    OperatingPoint as OperatingPoint,
)
from xvectors.metrics.bootstrap import COVERAGE as COVERAGE
from xvectors.metrics.bootstrap import MIN_SPEAKERS as MIN_SPEAKERS
from xvectors.metrics.operating_points import DEFAULT_COST, RATE_CRITERIA, FARAtMost
from xvectors.metrics.subsampling import Subsample, subsample_trials
from xvectors.text import count

logger = logging.getLogger(__name__)

LOSS = "calibration_loss"
MAX_DRAWS, MIN_DRAWS = 1000, 200
WORK = 100_000_000
"""Largest product of trials and draws; many trials get fewer draws, down to MIN_DRAWS."""
MAX_LEVELS = 20_000
"""Number of distinct scores in the draws; finer steps change a rate by less than 0.005 %."""
RANKS = (1, 5)
MAX_RANK_SCORES = 20_000_000
"""Largest product of probes and enrolled speakers in identification; with more, probes are sampled evenly."""

TOO_FEW = "Too few speakers to say how well the system works; score pairs of more speakers."


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One error measure. `unit` is "share" (0 to 1, to be shown as percent), "cost" or "bits".

    `interval` is over speakers; it is None with fewer than 5 speakers, or with too few errors for the draws of
    speakers to differ, and `note` then says so.
    """

    name: str
    value: float
    unit: str
    interval: Interval | None = None
    note: str = ""

    @property
    def text(self) -> str:
        """The value and its interval to print, without the unit bits."""
        form = unit_format(self.unit)
        ends = "" if self.interval is None else f" [{self.interval.low:{form}} to {self.interval.high:{form}}]"
        return f"{self.value:{form}}{ends}"


def unit_format(unit: str) -> str:
    """Return the format of a number in this unit: a share as percent, others to three decimals."""
    return ".2%" if unit == "share" else ".3f"


class MeasureDefinition(NamedTuple):
    """An error measure that is read from a ROC, with its name and unit as in `Measure`."""

    name: str
    unit: str
    read: Callable[[ROC], float]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreMeasures:
    """ROC, measures by key and operating points; `num_draws` is 0 where there are too few speakers for intervals."""

    roc: ROC
    measures: Mapping[str, Measure]
    operating_points: tuple[OperatingPoint, ...]
    num_draws: int
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the text to print: measures, operating points and notes."""
        lines = [] if self.num_draws else [TOO_FEW]
        for measure in self.measures.values():
            note = f" ({measure.note})" if measure.note and measure.note not in self.notes else ""
            unit = " bits" if measure.unit == "bits" else ""
            lines.append(f"{measure.name:<23} {measure.text}{note}{unit}")
        return [*lines, *map(_point_line, self.operating_points), *self.notes]


def measure_scores(
    scores: ArrayLike,
    target: NDArray[np.bool_],
    enroll_speaker: ArrayLike,
    test_speaker: ArrayLike,
    *,
    are_llrs: bool,
    threshold: float | None,
    cost: LeastCost = DEFAULT_COST,
    seed: int = 0,
    resampled: Subsample | None = None,
    overwrite_scores: bool = False,
) -> ScoreMeasures:
    """Measure the scores of trials.

    Measures use every trial. Intervals use at most about 5 million, which a note then says.

    Parameters
    ----------
    scores, target
        [m] scores and truth of the trials.
    enroll_speaker, test_speaker
        [m] the speakers of either side.
    are_llrs
        Whether scores are natural-log LLRs; actual DCF and Cllr are then measured.
    threshold
        Where decisions are made, for `far` and `frr`; None leaves these out.
    cost
        Prior and costs of the detection cost, and of the operating point of least cost.
    resampled
        The result of `subsample_trials`; speakers are then given for its k trials only.
    overwrite_scores
        Whether the array of scores may be sorted in place, which halves the memory.

    Raises
    ------
    ManifestError
        No trials of a kind.
    ShapeError
        Scores that are not finite, lengths that differ.
    """
    values = np.asarray(scores)
    sides = np.asarray(enroll_speaker), np.asarray(test_speaker)
    if resampled is None:
        resampled = subsample_trials(values, target, seed)
        sides = sides[0][resampled.at], sides[1][resampled.at]
    drawn_scores, drawn_target = values[resampled.at], target[resampled.at]
    roc = ROC.from_trials(values, target, overwrite_scores=overwrite_scores)
    definitions = measure_definitions(are_llrs=are_llrs, cost=cost)
    if threshold is not None:
        definitions["frr"] = MeasureDefinition("false rejections", "share", lambda roc: roc.rates_at(threshold)[0])
        definitions["far"] = MeasureDefinition("false acceptances", "share", lambda roc: roc.rates_at(threshold)[1])
    points = count_error_speakers(operating_points(roc, (*RATE_CRITERIA, cost)), drawn_scores, drawn_target, *sides)
    for point in points:
        if isinstance(point.criterion, FARAtMost) and point.threshold is not None:
            far = point.criterion.far
            read = partial(ROC.tpr_at_fpr, fpr=far)
            definitions[f"tpr_at_fpr_{far:g}"] = MeasureDefinition(f"TPR at FPR {100 * far:g} %", "share", read)
    thresholds = {
        f"point {at}": point.criterion.threshold for at, point in enumerate(points) if point.threshold is not None
    }
    plain = {key: float(definition.read(roc)) for key, definition in definitions.items()}
    num_speakers = len(np.unique(np.concatenate(sides)))
    if num_speakers < MIN_SPEAKERS:
        note = f"no interval: {count(num_speakers, 'speaker')}, fewer than {MIN_SPEAKERS}"
        measures = {
            key: Measure(name=name, value=plain[key], unit=unit, note=note)
            for key, (name, unit, _) in definitions.items()
        }
        return ScoreMeasures(roc=roc, measures=measures, operating_points=tuple(points), num_draws=0, notes=(note,))
    num_draws = int(np.clip(WORK // len(resampled.at), MIN_DRAWS, MAX_DRAWS))
    intervals = speaker_intervals(
        _levelled(drawn_scores),
        ScoredTrials.of(drawn_target, *sides, weight=resampled.weight),
        {key: definition.read for key, definition in definitions.items()} | thresholds,
        centered=(LOSS,),
        num_draws=num_draws,
        seed=seed,
    )
    support_notes = {}
    for key, rows in _error_trials(drawn_scores, drawn_target, threshold).items():
        num_rate_speakers, num_error_speakers = (len(np.unique([side[at] for side in sides])) for at in rows)
        if num_error_speakers < MIN_SPEAKERS:
            intervals[key], support_notes[key] = _widened(intervals[key], num_rate_speakers, num_error_speakers)
    if LOSS in intervals:  # moved as it is, it may reach below 0, where no loss is
        intervals[LOSS] = replace(intervals[LOSS], low=max(0.0, intervals[LOSS].low))
    measures = {
        key: _measure(name, plain[key], unit, intervals[key], support_notes.get(key, ""))
        for key, (name, unit, _) in definitions.items()
    }
    with_intervals = [
        point
        if point.threshold is None
        else replace(point, threshold_interval=replace(intervals[f"point {at}"], value=point.threshold))
        for at, point in enumerate(points)
    ]
    notes = (resampled.note,) if resampled.note else ()
    return ScoreMeasures(
        roc=roc, measures=measures, operating_points=tuple(with_intervals), num_draws=num_draws, notes=notes
    )


def _measure(name: str, value: float, unit: str, interval: Interval, note: str) -> Measure:
    """Leave out the interval if all draws give the same value, such as an AUC of 1, since it tells nothing."""
    if interval.low < interval.high:
        return Measure(name=name, value=value, unit=unit, interval=replace(interval, value=value), note=note)
    return Measure(name=name, value=value, unit=unit, note="no interval: every draw of speakers gives this value")


def most_unseen(num_speakers: int, confidence: float = 0.95) -> float:
    """Return the highest rate that is consistent with no error among `num_speakers`: about 3 / `num_speakers` at 95 %.

    This is the rule of three (Hanley and Lippman-Hand, JAMA 249(13), 1983), applied to speakers instead of trials,
    because the trials of one speaker are not independent.
    """
    return float(1 - (1 - confidence) ** (1 / num_speakers))


def _error_trials(
    scores: NDArray[Any], target: NDArray[np.bool_], threshold: float | None
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return, for each error rate, the trials of its kind and the errors among them."""
    if threshold is None:
        return {}
    accepted = scores >= np.asarray(threshold).astype(scores.dtype)
    return {"frr": (target, target & ~accepted), "far": (~target, ~target & accepted)}


def _widened(interval: Interval, num_speakers: int, num_error_speakers: int) -> tuple[Interval, str]:
    """Widen the interval of a rate whose errors come from too few speakers to resample, and say why.

    It then reaches from 0 to at least the rate of `most_unseen`.
    """
    high = max(interval.high, most_unseen(num_speakers, interval.confidence))
    errors = f"the errors are of {num_error_speakers}" if num_error_speakers else "no error"
    return replace(
        interval, low=0.0, high=high
    ), f"{errors} among {count(num_speakers, 'speaker')}: up to {high:.2%} by the rule of three"


def measure_definitions(*, are_llrs: bool, cost: LeastCost = DEFAULT_COST) -> dict[str, MeasureDefinition]:
    """Return the error measures by key; those that need LLRs only with `are_llrs`."""
    found = {
        "eer": MeasureDefinition("EER (plain)", "share", lambda roc: roc.eer().eer),
        "rocch_eer": MeasureDefinition("EER (convex hull)", "share", lambda roc: roc.rocch_eer().eer),
        "min_dcf": MeasureDefinition(f"minDCF({cost.label})", "cost", lambda roc: roc.min_dcf(*cost.settings).min_dcf),
        "min_cllr": MeasureDefinition("minCllr", "bits", ROC.min_cllr),
        "auc": MeasureDefinition("AUC", "share", ROC.auc),
    }
    if are_llrs:
        found["actual_dcf"] = MeasureDefinition(
            f"actDCF({cost.label})", "cost", lambda roc: roc.actual_dcf(*cost.settings)
        )
        found["cllr"] = MeasureDefinition("Cllr", "bits", ROC.cllr)
        found[LOSS] = MeasureDefinition("calibration loss", "bits", ROC.calibration_loss)
    return found


def _point_line(point: OperatingPoint) -> str:
    """Describe a threshold in one line: its interval, the error rates there, and their support."""
    name = f"at {point.name}"
    if point.threshold is None:
        return f"{name:<23} {point.note}"
    ends = point.threshold_interval
    interval = "" if ends is None else f" [{ends.low:.3f} to {ends.high:.3f}]"
    note = f"  ({point.note})" if point.note else ""
    return (
        f"{name:<23} threshold {point.threshold:.3f}{interval}: {point.far:.2%} false acceptances, "
        f"{point.frr:.2%} false rejections{note}"
    )


def _levelled(scores: NDArray[Any]) -> NDArray[Any]:
    """Round the scores down to at most MAX_LEVELS of their own values, evenly spread."""
    if len(scores) <= MAX_LEVELS:
        return scores
    ordered = np.sort(scores)
    levels = np.unique(ordered[np.linspace(0, len(ordered) - 1, MAX_LEVELS).astype(np.int64)])
    return np.asarray(levels[np.searchsorted(levels, scores, side="right") - 1])


def rank_measures(
    backend: Backend, embeddings: NDArray[np.float32], speaker_index: NDArray[np.integer]
) -> dict[str, Measure]:
    """Measure closed-set identification: how often the right speaker ranks first, and among the first five.

    The first recording of every speaker is enrolled and the others are searched for by the back-end's scores; `note`
    gives the numbers. The result is empty with fewer than two speakers or without second recordings, and lacks ranks
    that are not below the number of speakers.

    Parameters
    ----------
    embeddings, speaker_index
        [n, D] embeddings and [n] their speakers.
    """
    speakers, first = np.unique(speaker_index, return_index=True)
    others = np.setdiff1d(np.arange(len(speaker_index)), first)
    if len(speakers) < 2 or not len(others):
        return {}
    some = others[:: -(-len(others) * len(speakers) // MAX_RANK_SCORES)]
    scores = backend.score_matrix(embeddings[first], embeddings[some]).T
    found = identification_rates(scores, speaker_index[some], speakers)
    of_all = "" if len(some) == len(others) else f" of {len(others):,}"
    note = (
        f"of {len(speakers):,} speakers, the first recording of each enrolled; {len(some):,}{of_all} "
        f"{'other' if len(some) == 1 else 'others'} looked for"
    )
    ranks = [k for k in RANKS if k < len(speakers)]
    name = "closed-set identification, rank"
    return {f"rank_{k}": Measure(name=f"{name} {k}", value=found.rank_rate(k), unit="share", note=note) for k in ranks}
