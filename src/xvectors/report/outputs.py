"""The files of an evaluation that programs read. In: `Measured`. Out: metrics.json, scores.csv."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.evaluation.measured import Figure, Leakage, Measured
from xvectors.evaluation.slices import Slice, Slices
from xvectors.evaluation.verdict import verdict_of
from xvectors.files import write_text
from xvectors.files.tables import write_table
from xvectors.metrics import Interval, LeastCost, OperatingPoint
from xvectors.metrics.bootstrap import COVERAGE
from xvectors.text import brief, count
from xvectors.trials import Trials

NOT_CALIBRATED = (
    "the system is not calibrated, so that its scores are cosines and no LLRs; `xvectors calibrate` mends that"
)


@brief()
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of an evaluation, as metrics.json holds them. Rates are shares, not percent.

    `figures` has every measure with its unit and, where there are 5 speakers or more, its interval over speakers;
    `intervals` says how far these can be relied on; `operating_points` what each threshold rests on. Thresholds are on
    the scale `scale`: "llr", or "cosine" for a system without calibration. `slices` are the groups of trials of the
    page, the farthest from the whole first.
    """

    data: str
    trials: str
    num_speakers: int
    num_utterances: int
    num_target_trials: int
    num_nontarget_trials: int
    backend: str
    scale: str
    eer: float
    eer_threshold: float
    min_dcf: float
    min_dcf_p_target: float
    min_dcf_c_miss: float
    min_dcf_c_fa: float
    threshold: float
    threshold_source: str
    intervals: str
    figures: dict[str, dict[str, Any]]
    operating_points: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    leakage: dict[str, Any]
    left_out: list[str]
    warnings: list[str]
    verdict: list[str]
    """The finding in sentences that need no knowledge of the field; what to do where there are too few speakers."""
    report: str
    """The folder that the figures and plots were written to."""

    def interval(self, figure: str) -> tuple[float, float] | None:
        """The ends of a figure's 95 % interval over speakers; None where there is none."""
        found = self.figures[figure].get("interval")
        return None if found is None else (found["low"], found["high"])

    def lines(self) -> list[str]:
        """The figures to print."""
        trials = f"{self.num_target_trials:,} target and {count(self.num_nontarget_trials, 'non-target trial')}"
        scale = "LLR" if self.scale == "llr" else self.scale
        values = {key: table["value"] for key, table in self.figures.items()}
        cost = LeastCost(self.min_dcf_p_target, self.min_dcf_c_miss, self.min_dcf_c_fa).label
        lines = [
            *self.verdict,
            f"{count(self.num_speakers, 'speaker')}, {count(self.num_utterances, 'utterance')}, {trials}",
            *([] if self.trials == "all pairs" else [f"trials: {self.trials}"]),
            f"EER          {self.eer:.2%}{self._ends('eer', '.2%')}  "
            f"(the plain one; threshold {self.eer_threshold:.3f}, {scale})",
            f"EER (hull)   {values['rocch_eer']:.2%}{self._ends('rocch_eer', '.2%')}  (on the ROC's convex hull)",
            f"minDCF({cost}) {self.min_dcf:.3f}{self._ends('min_dcf', '.3f')}",
        ]
        if self.scale == "llr":
            loss = f"{values['calibration_loss']:.3f}{self._ends('calibration_loss', '.3f')}"
            lines += [
                f"actDCF({cost}) {values['actual_dcf']:.3f}{self._ends('actual_dcf', '.3f')}",
                f"Cllr         {values['cllr']:.3f}{self._ends('cllr', '.3f')}  "
                f"(bits; at best {values['min_cllr']:.3f}, calibration loss {loss})",
                f"decisions    false acceptances {_of(values['far'], self.num_nontarget_trials)}, false rejections "
                f"{_of(values['frr'], self.num_target_trials)} (LLR {self.threshold:g}, back-end {self.backend})",
            ]
        else:
            lines.append(NOT_CALIBRATED)
        rates = [
            f"TPR          {table['value']:.2%}{self._ends(key, '.2%')}  (at {table['name'].removeprefix('TPR at ')})"
            for key, table in self.figures.items()
            if key.startswith("tpr_at_fpr_")
        ]
        ranks = [table for key, table in self.figures.items() if key.startswith("rank_")]
        if ranks:
            shown = ", ".join(
                f"{table['name'].removeprefix('identification, ')} {table['value']:.2%}" for table in ranks
            )
            rates.append(f"identified   {shown}  ({ranks[0]['note']})")
        return [*lines, *rates, *([f"{count(len(self.left_out), 'recording')} left out"] if self.left_out else [])]

    def _ends(self, figure: str, form: str) -> str:
        ends = self.interval(figure)
        return "" if ends is None else f" [{ends[0]:{form}} to {ends[1]:{form}}]"


def _of(rate: float, num_trials: int) -> str:
    errors = round(rate * num_trials)
    return f"{rate:.2%} ({errors:,} of {num_trials:,})" if errors else f"none of {num_trials:,}"


def summary(measured: Measured, slices: Slices) -> Evaluation:
    """The figures of `measured` and of its slices as plain values."""
    eer = measured.roc.eer()
    return Evaluation(
        data=measured.data,
        trials=measured.trials_source,
        num_speakers=len(measured.manifest.speakers),
        num_utterances=len(measured.manifest),
        num_target_trials=measured.trials.num_target,
        num_nontarget_trials=measured.trials.num_nontarget,
        backend=measured.backend,
        scale="llr" if measured.is_calibrated else "cosine",
        eer=eer.eer,
        eer_threshold=eer.threshold,
        min_dcf=measured.figures["min_dcf"].value,
        min_dcf_p_target=measured.cost.p_target,
        min_dcf_c_miss=measured.cost.c_miss,
        min_dcf_c_fa=measured.cost.c_fa,
        threshold=measured.threshold,
        threshold_source=measured.threshold_source,
        intervals=f"over speakers, which are resampled. {COVERAGE}",
        figures={key: figure_table(figure) for key, figure in measured.figures.items()},
        operating_points=[point_table(point) for point in measured.operating_points],
        slices=[slice_table(one, slices.confidence) for one in slices.slices],
        leakage=_leakage_table(measured.leakage, measured),
        left_out=list(measured.left_out),
        warnings=list(measured.warnings),
        verdict=verdict_of(measured).sentences(),
        report=str(measured.report),
    )


def figure_table(figure: Figure) -> dict[str, Any]:
    """A figure as plain values."""
    table: dict[str, Any] = {"name": figure.name, "value": figure.value, "unit": figure.unit}
    if figure.interval is not None:
        table["interval"] = interval_table(figure.interval)
    if figure.note:
        table["note"] = figure.note
    return table


def interval_table(interval: Interval) -> dict[str, Any]:
    return {
        "low": _finite(interval.low),
        "high": _finite(interval.high),
        "confidence": interval.confidence,
        "num_speakers": interval.num_speakers,
    }


def point_table(point: OperatingPoint) -> dict[str, Any]:
    """An operating point as plain values; what is not known, or infinite, is None."""
    interval = point.threshold_interval
    return {
        "name": point.name,
        "threshold": None if point.threshold is None else _finite(point.threshold),
        "threshold_interval": None if interval is None else interval_table(interval),
        "frr": point.frr,
        "far": point.far,
        "num_misses": point.num_misses,
        "num_false_accepts": point.num_false_accepts,
        "num_miss_speakers": point.num_miss_speakers,
        "num_false_accept_speakers": point.num_false_accept_speakers,
        "num_target_trials": point.num_target,
        "num_nontarget_trials": point.num_nontarget,
        "note": point.note,
    }


def slice_table(one: Slice, confidence: float) -> dict[str, Any]:
    """A slice as plain values; a measure that its trials do not support is missing, and `note` says why."""
    return {
        "dimension": one.dimension,
        "name": one.name,
        "num_speakers": one.num_speakers,
        "num_target_trials": one.num_target,
        "num_nontarget_trials": one.num_nontarget,
        "num_misses": one.num_misses,
        "num_false_accepts": one.num_false_accepts,
        "departs": one.departs,
        "confidence": confidence,
        "figures": {key: asdict(figure) for key, figure in one.figures.items()},
        "note": one.note,
    }


def write_metrics(path: Path, evaluation: Evaluation) -> None:
    """Write metrics.json, atomically."""
    write_text(path, json.dumps(asdict(evaluation), indent=2, allow_nan=False) + "\n")


def write_scores(
    path: Path,
    names: Sequence[str],
    trials: Trials,
    scores: NDArray[np.float32],
    llrs: NDArray[np.float64] | None = None,
    *,
    enroll_names: Sequence[str] | None = None,
) -> None:
    """Write scores.csv with enroll, test, target, score and, where there are LLRs, llr; atomically.

    `names` [n] are those of the rows that the trials are pairs of, `enroll_names` of the first side's, where these are
    models. Scores are written so that they read back as the
    same float32, LLRs to six digits.
    """
    columns: list[Iterable[object]] = [
        ((enroll_names or names)[row] for row in trials.enroll.tolist()),
        (names[row] for row in trials.test.tolist()),
        map(int, trials.target.tolist()),
        (f"{score:.9g}" for score in scores.tolist()),
    ]
    header = ["enroll", "test", "target", "score"]
    if llrs is not None:
        header.append("llr")
        columns.append(f"{llr:.6g}" for llr in llrs.tolist())
    write_table(path, header, zip(*columns, strict=True))


def _leakage_table(leakage: Leakage, measured: Measured) -> dict[str, Any]:
    names = measured.manifest.id
    return {
        "checked": leakage.checked,
        "shared_speakers": list(leakage.shared_speakers),
        "calibration_speakers": list(leakage.calibration_speakers),
        "shared_recordings": [
            {"recording": names[found.row], "trained_as": found.train_path, "by": found.by}
            for found in leakage.shared_recordings
        ],
        "num_compared": leakage.num_compared,
        "num_suspect_pairs": leakage.num_suspect_pairs,
        "suspect_pairs": [
            {"a": names[pair.a], "b": names[pair.b], "cosine": pair.cosine} for pair in leakage.suspect_pairs
        ],
        "two_voices": [
            {
                "speaker": found.speaker,
                "recordings": [[names[row] for row in group] for group in found.rows],
                "within": list(found.within),
                "between": found.between,
            }
            for found in leakage.two_voices
        ],
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None
