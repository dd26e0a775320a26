"""What an evaluation found as text to print and as metrics.json."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xvectors.corpus import PackedStrings
from xvectors.evaluation.leakage import Leakage
from xvectors.evaluation.measures import COVERAGE, Interval, Measure, OperatingPoint
from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.shift import Answers, ConditionShift, Degree
from xvectors.evaluation.slices import Slice
from xvectors.evaluation.verdict import ErrorRate
from xvectors.files import write_text
from xvectors.text import count


def summary_lines(evaluation: Evaluation) -> list[str]:
    """The result of an evaluation to print."""
    measures, trials = evaluation.measures, evaluation.trials
    num_trials = f"{trials.num_target:,} target and {count(trials.num_nontarget, 'non-target trial')}"
    scale = "LLR" if evaluation.is_calibrated else evaluation.backend
    cost, threshold = evaluation.cost.label, evaluation.equal_error.threshold
    utterances = count(len(evaluation.manifest), "utterance")
    lines = [
        *evaluation.verdict.sentences(),
        f"{count(len(evaluation.manifest.speakers), 'speaker')}, {utterances}, {num_trials}",
        *([] if evaluation.trials_source == "all pairs" else [f"trials: {evaluation.trials_source}"]),
        f"EER          {measures['eer'].text}  (the plain one; threshold {threshold:.3f}, {scale})",
        f"EER (hull)   {measures['rocch_eer'].text}  (on the ROC's convex hull)",
        f"minDCF({cost}) {measures['min_dcf'].text}",
    ]
    if evaluation.is_calibrated:
        lines += [
            f"actDCF({cost}) {measures['actual_dcf'].text}",
            f"Cllr         {measures['cllr'].text}  (bits; at best {measures['min_cllr'].value:.3f}, "
            f"calibration loss {measures['calibration_loss'].text})",
            f"decisions    false acceptances {_errors(evaluation.verdict.false_accepts)}, false rejections "
            f"{_errors(evaluation.verdict.misses)} (LLR {evaluation.threshold:g}, back-end {evaluation.backend})",
        ]
    lines += [
        f"TPR          {measure.text}  (at {measure.name.removeprefix('TPR at ')})"
        for key, measure in measures.items()
        if key.startswith("tpr_at_fpr_")
    ]
    ranks = [measure for key, measure in measures.items() if key.startswith("rank_")]
    if ranks:
        shown = ", ".join(f"{rank.name.removeprefix('closed-set identification, ')} {rank.value:.2%}" for rank in ranks)
        lines.append(f"identified   {shown}  ({ranks[0].note})")
    left_out = evaluation.left_out
    return [*lines, *([f"{count(len(left_out), 'recording')} left out"] if left_out else [])]


def _errors(rate: ErrorRate) -> str:
    if not rate.num_errors:
        return f"none of {rate.num_trials:,}"
    return f"{rate.value:.2%} ({rate.num_errors:,} of {rate.num_trials:,})"


def evaluation_to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The content of metrics.json. Rates are shares, not percent; thresholds are LLRs or the back-end's scores."""
    eer, slices = evaluation.equal_error, evaluation.slices
    return {
        "system_sha256": evaluation.system_sha256,
        "calibration_sha256": evaluation.calibration_sha256,
        "data": evaluation.data,
        "trials": evaluation.trials_source,
        "num_speakers": len(evaluation.manifest.speakers),
        "num_utterances": len(evaluation.manifest),
        "num_target_trials": evaluation.trials.num_target,
        "num_nontarget_trials": evaluation.trials.num_nontarget,
        "backend": evaluation.backend,
        "scale": "llr" if evaluation.is_calibrated else evaluation.backend,
        "eer": eer.eer,
        "eer_threshold": eer.threshold,
        "min_dcf": evaluation.measures["min_dcf"].value,
        "min_dcf_p_target": evaluation.cost.p_target,
        "min_dcf_c_miss": evaluation.cost.c_miss,
        "min_dcf_c_fa": evaluation.cost.c_fa,
        "threshold": evaluation.threshold,
        "threshold_source": evaluation.threshold_source,
        "intervals": f"over speakers, which are resampled. {COVERAGE}",
        "figures": {key: measure_to_dict(measure) for key, measure in evaluation.measures.items()},
        "operating_points": [point_to_dict(point) for point in evaluation.operating_points],
        "slices": [slice_to_dict(one, slices.confidence) for one in slices.slices],
        "llr_bounds": None
        if evaluation.llr_bounds is None
        else dict(zip(("least_llr", "greatest_llr"), evaluation.llr_bounds, strict=True)),
        "shift": None if evaluation.shift is None else shift_to_dict(evaluation.shift),
        "no_shift": evaluation.no_shift,
        "leakage": _leakage_to_dict(evaluation.leakage, evaluation.manifest.id),
        "left_out": list(evaluation.left_out),
        "warnings": list(evaluation.warnings),
        "verdict": evaluation.verdict.sentences(),
        "report": str(evaluation.report),
    }


def measure_to_dict(measure: Measure) -> dict[str, Any]:
    """Write a measure as plain values."""
    table: dict[str, Any] = {"name": measure.name, "value": measure.value, "unit": measure.unit}
    if measure.interval is not None:
        table["interval"] = interval_to_dict(measure.interval)
    if measure.note:
        table["note"] = measure.note
    return table


def interval_to_dict(interval: Interval) -> dict[str, Any]:
    return {
        "low": _finite(interval.low),
        "high": _finite(interval.high),
        "confidence": interval.confidence,
        "num_speakers": interval.num_speakers,
    }


def point_to_dict(point: OperatingPoint) -> dict[str, Any]:
    """An operating point as plain values; what is not known, or infinite, is None."""
    interval = point.threshold_interval
    return {
        "name": point.name,
        "threshold": None if point.threshold is None else _finite(point.threshold),
        "threshold_interval": None if interval is None else interval_to_dict(interval),
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


def slice_to_dict(one: Slice, confidence: float) -> dict[str, Any]:
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
        "figures": {key: asdict(measure) for key, measure in one.measures.items()},
        "note": one.note,
    }


def shift_to_dict(found: ConditionShift) -> dict[str, Any]:
    """The shift from the calibration set as plain values; a share without answers is None."""
    curve = found.coverage
    return {
        "num_usual": found.num_usual,
        "num_shifted": found.num_shifted,
        "num_untested": found.num_untested,
        "num_unknown": found.num_unknown,
        "unusual": [{"words": words, "num_recordings": number} for words, number in found.unusual],
        "degrees": [_degree_to_dict(one) for one in found.degrees],
        "coverage": [
            {
                "probability": float(probability),
                "answered_target": float(curve.answered_target[at]),
                "answered_nontarget": float(curve.answered_nontarget[at]),
                "wrong_target": _finite(float(curve.wrong_target[at])),
                "wrong_nontarget": _finite(float(curve.wrong_nontarget[at])),
                "both_possible": bool(curve.both_possible[at]),
            }
            for at, probability in enumerate(curve.probability)
        ],
    }


def _degree_to_dict(one: Degree) -> dict[str, Any]:
    return {
        "low": one.low,
        "high": _finite(one.high),
        "eer": one.eer,
        "cllr": one.cllr,
        "min_cllr": one.min_cllr,
        "answered": one.answered,
        "target": _answers_to_dict(one.target),
        "nontarget": _answers_to_dict(one.nontarget),
    }


def _answers_to_dict(answers: Answers) -> dict[str, Any]:
    return {**asdict(answers), "wrong": answers.wrong}


def write_metrics(path: Path, evaluation: Evaluation) -> None:
    """Write metrics.json, atomically."""
    write_text(path, json.dumps(evaluation_to_dict(evaluation), indent=2, allow_nan=False) + "\n")


def _leakage_to_dict(leakage: Leakage, names: PackedStrings) -> dict[str, Any]:
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
