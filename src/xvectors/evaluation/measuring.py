"""From scored trials to figures that say how sure they are. In: trials, scores or LLRs, the speakers. Out: error
measures and operating points with intervals over speakers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.evaluation.measured import Figure
from xvectors.metrics import (
    ROC,
    Interval,
    LeastCost,
    OperatingPoint,
    ScoredTrials,
    count_error_speakers,
    operating_points,
    speaker_intervals,
)
from xvectors.metrics.bootstrap import MIN_SPEAKERS
from xvectors.metrics.operating_points import DEFAULT_COST, RATE_CRITERIA, FARAtMost
from xvectors.metrics.resampling import Resampled, choose_resampled
from xvectors.text import count

logger = logging.getLogger(__name__)

LOSS = "calibration_loss"
MOST_DRAWS, FEWEST_DRAWS = 1000, 200
WORK = 100_000_000
"""Trials times draws of the intervals, where that is no fewer than FEWEST_DRAWS."""
MOST_LEVELS = 20_000
"""Distinct scores that the draws tell apart; finer steps move a rate by less than 0.005 %."""


class Metric(NamedTuple):
    """An error measure: its name, the unit of a `Figure`, and how it is read from a ROC."""

    name: str
    unit: str
    read: Callable[[ROC], float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """ROC, figures by key and operating points; `num_draws` is 0 where there are too few speakers for intervals."""

    roc: ROC
    figures: Mapping[str, Figure]
    operating_points: tuple[OperatingPoint, ...]
    num_draws: int
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The figures and operating points to print, and the notes; first of all that there are too few speakers."""
        lines = [] if self.num_draws else ["Too few speakers to say how well it works; score pairs of more speakers."]
        for figure in self.figures.values():
            form = ".2%" if figure.unit == "share" else ".3f"
            ends = figure.interval
            interval = "" if ends is None else f" [{ends.low:{form}} to {ends.high:{form}}]"
            if figure.note and figure.note not in self.notes:
                interval += f" ({figure.note})"
            unit = " bits" if figure.unit == "bits" else ""
            lines.append(f"{figure.name:<23} {figure.value:{form}}{interval}{unit}")
        return [*lines, *map(_point_line, self.operating_points), *self.notes]


def measure(
    scores: ArrayLike,
    target: NDArray[np.bool_],
    enroll_speaker: ArrayLike,
    test_speaker: ArrayLike,
    *,
    are_llrs: bool,
    threshold: float | None,
    cost: LeastCost = DEFAULT_COST,
    seed: int = 0,
    resampled: Resampled | None = None,
    overwrite_scores: bool = False,
) -> Measurement:
    """Measure scores [m] of trials with truth [m] and speakers [m] on either side.

    Every trial counts for the figures; intervals are made of about 5 million at most, which a note says.

    Parameters
    ----------
    are_llrs
        Whether scores are natural-log LLRs; actual DCF and Cllr are then measured.
    threshold
        Where decisions are made, for `far` and `frr`; None leaves these out.
    cost
        Prior and costs of the detection cost, and of the operating point of least cost.
    resampled
        What `choose_resampled` chose, where speakers are given of these trials alone, [k].
    overwrite_scores
        Whether the array of scores may be sorted in place and is not used again, which halves the memory.

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
        resampled = choose_resampled(values, target, seed)
        sides = sides[0][resampled.at], sides[1][resampled.at]
    drawn_scores, drawn_target = values[resampled.at], target[resampled.at]
    roc = ROC.from_trials(values, target, overwrite_scores=overwrite_scores)
    metrics = metrics_of(are_llrs=are_llrs, cost=cost)
    if threshold is not None:
        metrics["frr"] = Metric("false rejections", "share", lambda roc: roc.rates_at(threshold)[0])
        metrics["far"] = Metric("false acceptances", "share", lambda roc: roc.rates_at(threshold)[1])
    points = count_error_speakers(operating_points(roc, (*RATE_CRITERIA, cost)), drawn_scores, drawn_target, *sides)
    for point in points:
        if isinstance(point.criterion, FARAtMost) and point.threshold is not None:
            far = point.criterion.far
            read = partial(ROC.tpr_at_fpr, fpr=far)
            metrics[f"tpr_at_fpr_{far:g}"] = Metric(f"TPR at FPR {100 * far:g} %", "share", read)
    of_points = {
        f"point {at}": point.criterion.threshold for at, point in enumerate(points) if point.threshold is not None
    }
    plain = {key: float(metric.read(roc)) for key, metric in metrics.items()}
    num_speakers = len(np.unique(np.concatenate(sides)))
    if num_speakers < MIN_SPEAKERS:
        note = f"no interval: {count(num_speakers, 'speaker')}, fewer than {MIN_SPEAKERS}"
        figures = {
            key: Figure(name=name, value=plain[key], unit=unit, note=note) for key, (name, unit, _) in metrics.items()
        }
        return Measurement(roc=roc, figures=figures, operating_points=tuple(points), num_draws=0, notes=(note,))
    num_draws = int(np.clip(WORK // len(resampled.at), FEWEST_DRAWS, MOST_DRAWS))
    intervals = speaker_intervals(
        _levelled(drawn_scores),
        ScoredTrials.of(drawn_target, *sides, weight=resampled.weight),
        {key: metric.read for key, metric in metrics.items()} | of_points,
        centered=(LOSS,),
        num_draws=num_draws,
        seed=seed,
    )
    few = {}
    for key, rows in _error_trials(drawn_scores, drawn_target, threshold).items():
        num_rate_speakers, num_error_speakers = (len(np.unique([side[at] for side in sides])) for at in rows)
        if num_error_speakers < MIN_SPEAKERS:
            intervals[key], few[key] = _widened(intervals[key], num_rate_speakers, num_error_speakers)
    if LOSS in intervals:  # moved as it is, it may reach below 0, where no loss is
        intervals[LOSS] = replace(intervals[LOSS], low=max(0.0, intervals[LOSS].low))
    figures = {
        key: _figure(name, plain[key], unit, intervals[key], few.get(key, ""))
        for key, (name, unit, _) in metrics.items()
    }
    with_intervals = [
        point
        if point.threshold is None
        else replace(point, threshold_interval=replace(intervals[f"point {at}"], value=point.threshold))
        for at, point in enumerate(points)
    ]
    notes = (resampled.note,) if resampled.note else ()
    return Measurement(
        roc=roc, figures=figures, operating_points=tuple(with_intervals), num_draws=num_draws, notes=notes
    )


def _figure(name: str, value: float, unit: str, interval: Interval, note: str) -> Figure:
    """Draws that all give the value, such as an AUC of 1, say nothing of how sure it is."""
    if interval.low < interval.high:
        return Figure(name=name, value=value, unit=unit, interval=replace(interval, value=value), note=note)
    return Figure(name=name, value=value, unit=unit, note="no interval: every draw of speakers gives this value")


def most_unseen(num_speakers: int, confidence: float = 0.95) -> float:
    """The rate up to which no error among as many speakers is no surprise: at 95 % about 3 / `num_speakers`, the rule
    of three (Hanley and Lippman-Hand, JAMA 249(13), 1983). Speakers count, not trials: one speaker's trials agree."""
    return float(1 - (1 - confidence) ** (1 / num_speakers))


def _error_trials(
    scores: NDArray[Any], target: NDArray[np.bool_], threshold: float | None
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """By error rate: the trials that it is of, and the errors among them."""
    if threshold is None:
        return {}
    accepted = scores >= np.asarray(threshold).astype(scores.dtype)
    return {"frr": (target, target & ~accepted), "far": (~target, ~target & accepted)}


def _widened(interval: Interval, num_speakers: int, num_error_speakers: int) -> tuple[Interval, str]:
    """The interval of an error rate whose errors are of too few speakers to resample, and why: it reaches from 0 to at
    least the rate that as many speakers can hide."""
    high = max(interval.high, most_unseen(num_speakers, interval.confidence))
    errors = f"the errors are of {num_error_speakers}" if num_error_speakers else "no error"
    return replace(
        interval, low=0.0, high=high
    ), f"{errors} among {count(num_speakers, 'speaker')}: up to {high:.2%} by the rule of three"


def metrics_of(*, are_llrs: bool, cost: LeastCost = DEFAULT_COST) -> dict[str, Metric]:
    """The error measures of scores, by key; those of LLRs too, where they are some."""
    found = {
        "eer": Metric("EER (plain)", "share", lambda roc: roc.eer().eer),
        "rocch_eer": Metric("EER (convex hull)", "share", lambda roc: roc.rocch_eer().eer),
        "min_dcf": Metric(f"minDCF({cost.label})", "cost", lambda roc: roc.min_dcf(*cost.settings).min_dcf),
        "min_cllr": Metric("minCllr", "bits", ROC.min_cllr),
        "auc": Metric("AUC", "share", ROC.auc),
    }
    if are_llrs:
        found["actual_dcf"] = Metric(f"actDCF({cost.label})", "cost", lambda roc: roc.actual_dcf(*cost.settings))
        found["cllr"] = Metric("Cllr", "bits", ROC.cllr)
        found[LOSS] = Metric("calibration loss", "bits", ROC.calibration_loss)
    return found


def _point_line(point: OperatingPoint) -> str:
    """What a threshold accepts and rejects, and what that rests on."""
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
    """The scores, rounded down to one of MOST_LEVELS of them, evenly spread, where there are more."""
    if len(scores) <= MOST_LEVELS:
        return scores
    ordered = np.sort(scores)
    levels = np.unique(ordered[np.linspace(0, len(ordered) - 1, MOST_LEVELS).astype(np.int64)])
    return np.asarray(levels[np.searchsorted(levels, scores, side="right") - 1])
