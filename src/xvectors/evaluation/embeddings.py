"""Measure embeddings that came from anywhere: no recordings are read, and no network is needed."""

from __future__ import annotations

import platform
from datetime import datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from xvectors.errors import CheckpointError, ManifestError, ShapeError
from xvectors.evaluation.leakage import find_leakage, leakage_lines
from xvectors.evaluation.measuring import Clock, evaluate_command, log_warnings, measure_trials, score_trials
from xvectors.evaluation.result import NOT_CALIBRATED, Evaluation
from xvectors.evaluation.trial_lists import choose_trials
from xvectors.evaluation.verdict import Commands
from xvectors.labeled_embeddings import LabeledEmbeddings, load_back_end, read_labeled
from xvectors.metrics import LeastCost as LeastCost
from xvectors.metrics.operating_points import DEFAULT_COST as DEFAULT_COST
from xvectors.text import count
from xvectors.verification import Verifier, cosine_verifier
from xvectors.verification.own_speakers import MIN_COMFORTABLE, trust_lines

MIN_SPEAKERS = 2


def measure_embeddings(
    embeddings: str | Path,
    labels: str | Path | None,
    *,
    system: str | Path | None = None,
    trials: str | Path | None = None,
    cost: LeastCost = DEFAULT_COST,
    out: str | Path | None = None,
) -> Evaluation:
    """Compute everything that `evaluate` reports, of embeddings and the speakers of a table. Writes nothing.

    Parameters
    ----------
    embeddings, labels
        See `xvectors.labeled_embeddings.read_labeled`.
    system
        A system of the same network, or a directory of `calibrate_embeddings`, whose back-end and calibration score;
        by default the cosine does. Where that directory kept speakers apart for testing, only these are measured.
    trials
        A list to measure on instead of all pairs.
    out
        Folder of the report; by default that of the embeddings' name with `-report`.

    Raises
    ------
    CheckpointError
        Embeddings or a system that cannot be read, or that do not fit each other.
    ManifestError
        Labels that cannot be read, or too few speakers or recordings for trials of both kinds.
    """
    started = datetime.now().astimezone()
    clock = Clock()
    verifier = cosine_verifier() if system is None else load_back_end(system)
    with clock.step("reading"):
        data, warnings = _of_other_speakers(read_labeled(embeddings, labels), verifier)
    num_speakers = len(data.manifest.speakers)
    if num_speakers < MIN_SPEAKERS or len(data.manifest) == num_speakers:
        raise ManifestError(
            f"{embeddings}: {count(num_speakers, 'speaker')} with {count(len(data.manifest), 'embedding')} give no "
            "trials of both kinds; it takes two speakers, one of them with two recordings"
        )
    chosen = choose_trials(data.manifest, trials)
    warnings += chosen.findings
    seconds = data.seconds if verifier.needs_durations else np.ones(len(data.seconds))
    unknown = int(np.isnan(seconds).sum())
    if verifier.is_calibrated and unknown:
        raise ManifestError(
            f"{labels or embeddings} does not say how long {unknown:,} of the recordings are, which the "
            f"calibration of {system} needs; add a column duration_s, in seconds"
        )
    try:
        with clock.step("scoring"):
            scored = score_trials(verifier, data.embeddings, chosen, seconds, data.condition)
    except ShapeError as error:
        raise CheckpointError(f"{embeddings} does not fit the back-end of {system or 'cosine'}: {error}") from error
    if scored.llrs is None:
        warnings.append(NOT_CALIBRATED)
    elif int(verifier.basis["num_speakers"]) < MIN_COMFORTABLE:
        warnings += trust_lines(verifier)
    with clock.step("leakage"):
        leakage = find_leakage(
            data.manifest, data.embeddings, trained_speakers=(), calibration_speakers=verifier.speakers
        )
    warnings += leakage_lines(leakage, data.manifest)
    warnings = log_warnings(warnings, verifier, data.manifest)
    fields, notes = measure_trials(
        verifier,
        data.manifest,
        data.embeddings,
        chosen,
        scored,
        duration_s=data.seconds,
        snr_db=np.full(len(data.seconds), np.nan),
        cost=cost,
        commands=Commands(
            evaluate=evaluate_command(system, embeddings="EMBEDDINGS", labels="LABELS"),
            argument="LABELS names the speaker of each embedding",
            calibrate="xvectors calibrate --embeddings EMBEDDINGS --labels LABELS -o BACKEND",
        ),
        clock=clock,
        condition=data.condition,
    )
    report = Path(f"{Path(embeddings).resolve().stem}-report") if out is None else Path(out)
    return Evaluation(
        system="cosine" if system is None else str(system),
        system_path=Path(embeddings) if system is None else Path(system),
        data=str(embeddings),
        report=report,
        command=evaluate_command(system, cost=cost, embeddings=embeddings, labels=labels, trials=trials, output=out),
        started=started.isoformat(timespec="seconds"),
        timings_s=clock.seconds,
        versions={
            **{name: metadata.version(name) for name in ("xvectors", "numpy")},
            "python": platform.python_version(),
        },
        trained_with={},
        recipe={},
        training={},
        leakage=leakage,
        warnings=(*warnings, *notes),
        **fields,
    )


def _of_other_speakers(data: LabeledEmbeddings, verifier: Verifier) -> tuple[LabeledEmbeddings, list[str]]:
    """Return the embeddings of the speakers that were kept apart for testing, where these are known to be here."""
    known = {str(name) for name in verifier.basis.get("test_speakers", ())}
    speakers = set(data.manifest.speakers)
    if not known or not known <= speakers or not speakers & verifier.speakers:
        return data, []
    kept = np.isin(np.array(data.manifest.speakers, dtype=np.str_)[data.manifest.speaker_index], sorted(known))
    left_out = len(speakers) - len(known)
    line = (
        f"measured on the {count(len(known), 'speaker')} kept apart for testing; back-end and calibration learned from "
        f"the other {left_out:,}, or these had too few recordings"
    )
    return data.take(kept), [line]
