"""Score trials of embeddings and measure everything that a report says of them, whatever made the embeddings."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus import Manifest
from xvectors.evaluation.curves import measure_curves
from xvectors.evaluation.leakage import cohort_line
from xvectors.evaluation.measures import measure_scores, rank_measures
from xvectors.evaluation.mistakes import DecidedTrials, find_mistakes
from xvectors.evaluation.result import NOT_CALIBRATED, Evaluation
from xvectors.evaluation.shift import measure_shift, why_no_shift
from xvectors.evaluation.slice_dimensions import trial_dimensions
from xvectors.evaluation.slices import measure_slices
from xvectors.evaluation.speaker_map import map_speakers
from xvectors.evaluation.trial_lists import ChosenTrials
from xvectors.evaluation.verdict import Commands, reach_verdict
from xvectors.metrics import LeastCost, eer
from xvectors.metrics.operating_points import DEFAULT_COST
from xvectors.trials.score_files import write_scores
from xvectors.verification import Verifier
from xvectors.verification.verifier import MIN_HEARD_S

logger = logging.getLogger(__name__)

EQUAL_ERRORS = "chosen on these trials, where both error rates are equal"


class Clock:
    """Measures the seconds that each step takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def evaluate_command(
    system: str | Path | None, *, cost: LeastCost = DEFAULT_COST, **options: str | Path | int | None
) -> str:
    """Return the command line of an evaluation, without options that are None and costs that are the defaults."""
    for name, chosen, default in zip(("p_target", "c_miss", "c_fa"), cost.settings, DEFAULT_COST.settings, strict=True):
        options[name] = None if chosen == default else f"{chosen:g}"
    words = ["xvectors", "evaluate", *([] if system is None else [str(system)])]
    for name, value in options.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def log_warnings(warnings: Sequence[str], verifier: Verifier, manifest: Manifest) -> list[str]:
    """Log the warnings; return them, and the one that the back-end logs if test speakers are in its cohort."""
    for warning in warnings:
        if warning != NOT_CALIBRATED:  # said by the verdict, and expected by users of the exercise's recipe
            logger.warning("%s", warning)
    in_cohort = verifier.backend.warn_of_overlap(manifest.speakers)
    return [*warnings, *([cohort_line(in_cohort, manifest)] if in_cohort else [])]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Scores [m] of the trials, and their LLRs [m] if the verifier is calibrated.

    `condition` are the measures of the recordings [n, 6] as a calibration that knows conditions takes them.
    """

    scores: NDArray[np.float32]
    llrs: NDArray[np.float64] | None
    condition: NDArray[np.floating] | None = None


def score_trials(
    verifier: Verifier,
    embeddings: NDArray[np.float32],
    chosen: ChosenTrials,
    speech_s: NDArray[np.float64],
    condition: NDArray[np.float32] | None = None,
) -> Scored:
    """Score trials between rows of embeddings [n, D] with `speech_s` [n] seconds of speech and conditions [n, 6]."""
    scores = verifier.score(embeddings, chosen.trials)
    if not verifier.is_calibrated:
        return Scored(scores=scores, llrs=None)
    heard_s = speech_s.clip(min=MIN_HEARD_S)
    llrs = verifier.trial_llrs(scores, chosen.trials, embeddings, heard_s, condition)
    if condition is None or verifier.condition is None:
        return Scored(scores=scores, llrs=llrs)
    return Scored(scores=scores, llrs=llrs, condition=verifier.condition.steady(condition, heard_s))


def measure_trials(
    verifier: Verifier,
    manifest: Manifest,
    embeddings: NDArray[np.float32],
    chosen: ChosenTrials,
    scored: Scored,
    *,
    duration_s: NDArray[np.float64],
    snr_db: NDArray[np.float64],
    cost: LeastCost,
    commands: Commands,
    clock: Clock,
    condition: NDArray[np.float32] | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of `Evaluation` that depend on embeddings, conditions and trials, and notes on the measures."""
    scores, llrs = scored.scores, scored.llrs
    speakers = manifest.speaker_index
    target = chosen.trials.target
    with clock.step("measuring"):
        if llrs is None:
            threshold = eer(scores[target], scores[~target]).threshold
            source = EQUAL_ERRORS
        else:
            threshold = verifier.threshold
            source = f"the Bayes threshold of LLRs at P(target) = {verifier.p_target:g} and equal costs"
        decided = DecidedTrials(
            trials=chosen.trials,
            scores=scores if llrs is None else llrs,
            threshold=threshold,
            speakers=manifest.speakers,
            speaker_index=speakers,
        )
        found = measure_scores(
            decided.scores,
            target,
            speakers[chosen.trials.enroll],
            speakers[chosen.trials.test],
            are_llrs=llrs is not None,
            threshold=threshold,
            cost=cost,
        )
        curves = measure_curves(
            found.roc, decided.scores, target, threshold=threshold, cost=cost, are_llrs=llrs is not None
        )
        mistakes = find_mistakes(decided)
        shift = measure_shift(verifier, scored.condition, chosen.trials, llrs, found.roc)
    with clock.step("identification"):
        ranks = rank_measures(verifier.backend, embeddings, speakers)
    with clock.step("slices"):
        slices = measure_slices(
            trial_dimensions(manifest, duration_s, snr_db, chosen.trials),
            scores=decided.scores,
            target=target,
            enroll_speaker=speakers[chosen.trials.enroll],
            test_speaker=speakers[chosen.trials.test],
            threshold=threshold,
            cost=None if llrs is None else cost,
        )
    with clock.step("speaker map"):
        names = np.array(manifest.speakers)[speakers].tolist()
        speaker_map = map_speakers(embeddings, names, manifest.gender)
    table = verifier.table() if verifier.is_calibrated else {}
    fields = {
        "backend": verifier.name,
        "backend_settings": table.get("backend", {}),
        "calibration_settings": {
            key: table[key]
            for key in ("calibration", "condition", "bounds", "decision", "basis", "figures")
            if key in table
        },
        "manifest": manifest,
        "embeddings": embeddings,
        "duration_s": duration_s,
        "snr_db": snr_db,
        "trials": chosen.trials,
        "trials_source": chosen.source,
        "trial_findings": chosen.findings,
        "scores": scores,
        "llrs": llrs,
        "threshold": threshold,
        "threshold_source": source,
        "equal_error": found.roc.eer(),
        "measures": {**found.measures, **ranks},
        "cost": cost,
        "operating_points": found.operating_points,
        "curves": curves,
        "slices": slices,
        "mistakes": mistakes,
        "speaker_map": speaker_map,
        "shift": shift,
        "no_shift": why_no_shift(verifier, condition),
        "llr_bounds": verifier.bounds,
        "verdict": reach_verdict(
            decided, found.measures, is_calibrated=llrs is not None, commands=commands, shift=shift
        ),
    }
    return fields, tuple(found.notes)


def save_scores(evaluation: Evaluation) -> None:
    """Write the scores of the evaluation into its folder, as scores.csv."""
    write_scores(
        evaluation.report / "scores.csv",
        list(evaluation.manifest.id),
        evaluation.trials,
        evaluation.scores,
        evaluation.llrs,
    )
