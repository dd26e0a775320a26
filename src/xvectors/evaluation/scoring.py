"""Score a list of trials with saved embeddings, by cosine or by a system's back-end and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xvectors.audio.condition import mean_conditions
from xvectors.embeddings import load_embeddings
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError
from xvectors.labeled_embeddings import load_back_end
from xvectors.trials import RecordingRows, read_enrollment, read_trials
from xvectors.trials.score_files import write_scores
from xvectors.verification import cosine_verifier
from xvectors.verification.verifier import MIN_HEARD_S, magnitudes_of

AVERAGE, BOOK = "average", "book"


@dataclass(frozen=True, kw_only=True)
class ScoredList:
    """A summary of the scores written; `findings` lists the problems of the trial list, one line each."""

    num_trials: int
    backend: str
    has_llrs: bool
    findings: tuple[str, ...]


def score_trial_list(
    embeddings: str | Path,
    trials: str | Path,
    out: str | Path,
    *,
    system: str | Path | None = None,
    enrollment: str | Path | None = None,
    enroll_by: str = AVERAGE,
) -> ScoredList:
    """Score trials and write them with the columns enroll, test, target, score and, if calibrated, llr.

    Speakers of the trials who are in the cohort of the system's score normalization are warned about.

    Parameters
    ----------
    embeddings
        A file of `load_embeddings`. A calibrated system needs the durations, and may use the conditions.
    trials
        The trial list.
    out
        The score file to write.
    system
        The system, or the directory of `calibrate_embeddings`, whose back-end and calibration score the trials; by
        default the cosine does.
    enrollment
        A file of lines `model recording recording ...`; the first names of the trials are then models.
    enroll_by
        How a model of several recordings is scored: by "average", their mean counts as one recording with their total
        length; by "book", PLDA scores the posterior given all of them. Other back-ends give the same score for both,
        except for the length of the mean.

    Raises
    ------
    ConfigError
        `enroll_by` is neither.
    CheckpointError
        Missing embeddings, or embeddings of another dimension than the system's back-end takes.
    ManifestError
        A list that cannot be read, or trials of unknown recordings or models.
    """
    if enroll_by not in (AVERAGE, BOOK):
        raise ConfigError(f"models cannot be enrolled by {enroll_by!r}: give {AVERAGE} or {BOOK}")
    if enroll_by == BOOK and enrollment is None:
        raise ConfigError(f"enrolling by the {BOOK} needs an enrollment file of models: name it, or leave it out")
    arrays = load_embeddings(Path(embeddings), "id", optional=["speaker", "duration_s", "speech_s", "condition"])
    speakers = arrays.get("speaker")
    names = arrays["id"].tolist()
    verifier = cosine_verifier() if system is None else load_back_end(system)
    recordings = RecordingRows(names)
    enrolled = None if enrollment is None else read_enrollment(enrollment)
    resolved = read_trials(trials).resolve(recordings, enrolled)
    pairs = resolved.trials
    if not len(pairs):
        raise ManifestError(f"{trials}: no trials are left to score")
    rows = arrays["embeddings"]
    seconds = enroll_seconds = arrays.get("duration_s", np.full(len(names), np.nan))
    if not verifier.needs_durations:
        seconds = enroll_seconds = np.ones(len(names))
    elif "speech_s" in arrays:
        seconds = enroll_seconds = arrays["speech_s"].clip(min=MIN_HEARD_S)
    conditions = enroll_conditions = arrays.get("condition") if verifier.condition is not None else None
    magnitudes = enroll_magnitudes = magnitudes_of(rows)
    enroll_names = names
    enroll_rows = pairs.enroll
    findings = resolved.findings.lines()
    try:
        if enrolled is None:
            scores = verifier.score(rows, pairs)
        else:
            enroll_rows, numbers = enrolled.resolve(recordings)
            findings += enrolled.lines(len(enroll_rows))
            models = verifier.backend.enroll(rows[enroll_rows], numbers, average=enroll_by == AVERAGE)
            scores = verifier.backend.score_pairs(models, rows, pairs.enroll, pairs.test)
            enroll_seconds = np.bincount(numbers, seconds[enroll_rows])
            enroll_magnitudes = np.bincount(numbers, magnitudes[enroll_rows]) / np.bincount(numbers)
            enroll_names = list(enrolled.models)
            if conditions is not None:
                enroll_conditions = mean_conditions(
                    conditions[enroll_rows], seconds[enroll_rows], numbers, len(enroll_names)
                )
    except ShapeError as error:
        raise CheckpointError(f"{embeddings} does not fit the back-end of {system or 'cosine'}: {error}") from error
    if speakers is not None:
        verifier.backend.warn_of_overlap(set(speakers[np.concatenate([enroll_rows, pairs.test])].tolist()))
    llrs = None
    if verifier.is_calibrated and enroll_by == BOOK:
        findings.append(
            f"models are scored by the {BOOK}, and the calibration learned from single recordings: LLRs may be off"
        )
    if verifier.is_calibrated:
        unknown = int(np.count_nonzero(np.isnan(seconds)))
        if unknown:
            raise ManifestError(
                f"{embeddings} does not say how long {unknown} of its {len(names)} recordings are, which the "
                "calibration needs; embed a manifest with the column duration_s, or score without --system"
            )
        llrs = verifier.llrs(
            scores,
            enroll_seconds[pairs.enroll],
            seconds[pairs.test],
            None if enroll_conditions is None else enroll_conditions[pairs.enroll],
            None if conditions is None else conditions[pairs.test],
            enroll_magnitude=enroll_magnitudes[pairs.enroll],
            test_magnitude=magnitudes[pairs.test],
        )
    write_scores(Path(out), names, pairs, scores, llrs, enroll_names=enroll_names)
    return ScoredList(
        num_trials=len(pairs),
        backend=verifier.name,
        has_llrs=llrs is not None,
        findings=tuple(findings),
    )
