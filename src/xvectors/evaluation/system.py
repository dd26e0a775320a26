"""Measure a system: embed a corpus, score its trials, and find out how good the system is and for whom."""

from __future__ import annotations

import csv
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.audio.quality import estimate_snr_db
from xvectors.config import recipe_to_mapping
from xvectors.corpus import TEST, TRAIN, Manifest, open_corpus, scan
from xvectors.corpus.scanning import read_left_out
from xvectors.encoder import Embedded, SpeakerEncoder, save_embeddings
from xvectors.encoder.results import known_durations
from xvectors.errors import AudioError, CheckpointError, ManifestError, MissingExtraError
from xvectors.evaluation.leakage import find_leakage, leakage_lines
from xvectors.evaluation.measuring import Clock, evaluate_command, log_warnings, measure_trials, score_trials
from xvectors.evaluation.result import NOT_CALIBRATED, Evaluation
from xvectors.evaluation.trial_lists import choose_trials
from xvectors.evaluation.verdict import Commands
from xvectors.files import why_no_file
from xvectors.metrics import LeastCost as LeastCost
from xvectors.metrics.operating_points import DEFAULT_COST as DEFAULT_COST
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import current_versions, kept_epoch, read_description
from xvectors.verification import Verifier, verifier_of
from xvectors.verification.learning import FEW_SPEAKERS, few_speakers_warning
from xvectors.verification.verifier import calibration_digest

logger = logging.getLogger(__name__)


def measure_system(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    metadata: str | Path | None = None,
    speaker_level: int | None = None,
    trials: str | Path | None = None,
    cost: LeastCost = DEFAULT_COST,
    out: str | Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Evaluation:
    """Compute everything that `evaluate` reports, and write embeddings.npz.

    Parameters and errors are those of `xvectors.evaluate`.
    """
    started = datetime.now().astimezone()
    clock = Clock()
    paths = find_system(Path(folder))
    encoder = SpeakerEncoder.from_pretrained(folder, device=device)
    verifier = verifier_of(paths)
    with clock.step("scan"):
        if data is None:
            corpus, rejected = _test_corpus(paths)
        else:
            corpus, rejected = _scanned(data, metadata, speaker_level, encoder, progress)
    with clock.step("embedding"):
        embedded = encoder.encode_manifest(corpus, progress=progress)
    source = str(data or paths.corpus)
    _check_left_out(embedded, len(corpus), source, encoder.recipe.data.max_rejected)
    chosen = choose_trials(corpus, trials, embedded.rows)
    manifest = corpus.take(embedded.rows)
    report = report_folder(folder, paths, data, trials, out)
    save_embeddings(report / "embeddings.npz", corpus, embedded)
    with clock.step("scoring"):
        scored = score_trials(verifier, embedded.embeddings, chosen, embedded.speech_s, embedded.condition)
    training = Manifest.read_csv(paths.corpus) if paths.corpus.is_file() else None
    with clock.step("leakage"):
        leakage = find_leakage(
            manifest,
            embedded.embeddings,
            trained_speakers=encoder.speakers,
            calibration_speakers=verifier.speakers,
            training_corpus=training,
        )
    history, damage = _history(paths.history)
    warnings = [*chosen.findings, *_calibration_warnings(verifier), *leakage_lines(leakage, manifest)]
    if rejected is None:
        warnings.append(f"{paths.left_out} is missing: the recordings that training left out are not known")
    warnings = [*log_warnings(warnings, verifier, manifest), *damage]
    with clock.step("snr"):
        snr_db = estimate_manifest_snr_db(manifest)
    fields, notes = measure_trials(
        verifier,
        manifest,
        embedded.embeddings,
        chosen,
        scored,
        duration_s=known_durations(manifest),
        snr_db=snr_db,
        cost=cost,
        commands=Commands.for_system(str(folder)),
        clock=clock,
        condition=embedded.condition,
    )
    command = evaluate_command(
        folder,
        cost=cost,
        data=data,
        metadata=metadata,
        speaker_level=speaker_level,
        trials=trials,
        output=out,
        device=None if device == "auto" else device,
    )
    return Evaluation(
        **_origin(paths, encoder, verifier, training),
        system=str(folder),
        data=source,
        report=report,
        command=command,
        started=started.isoformat(timespec="seconds"),
        timings_s=clock.seconds,
        history=history,
        left_out=(*(rejected or ()), *(reason for _, reason in embedded.failures)),
        left_out_known=rejected is not None,
        leakage=leakage,
        warnings=(*warnings, *notes),
        **fields,
    )


def _test_corpus(paths: SystemFolder) -> tuple[Manifest, list[str] | None]:
    """Return the test rows of the system's corpus, and a line for each test recording that training left out.

    The lines are None without left_out.csv. Speakers without any usable recording belong to no split; their lines say
    so.
    """
    if not paths.corpus.is_file():
        raise ManifestError(f"{paths.path} came without its corpus; name one to evaluate on with --data")
    manifest = Manifest.read_csv(paths.corpus)
    rows = np.flatnonzero(manifest.split == TEST)
    if not len(rows):
        raise ManifestError(
            f"{paths.corpus} keeps no speakers for testing; evaluate on another corpus with --data, "
            "or train with data.train_test_prop below 1"
        )
    tested = manifest.take(rows)
    if not paths.left_out.is_file():
        return tested, None
    placed, of_test = set(manifest.speakers), set(tested.speakers)
    lines = []
    for remark in read_left_out(paths.left_out):
        if remark.speaker in of_test:
            lines.append(remark.line())
        elif remark.speaker not in placed:
            lines.append(f"{remark.line()}; no recording of {remark.speaker} could be used, for training or test")
    return tested, lines


def _scanned(
    data: str | Path,
    metadata: str | Path | None,
    speaker_level: int | None,
    encoder: SpeakerEncoder,
    progress: bool,
) -> tuple[Manifest, list[str]]:
    """Open and scan a corpus; return the usable recordings and one line for each rejected one.

    Duplicates are rejected because they would make the error rates too good.
    """
    shortest = encoder.fbank.samples_for(encoder.model.context_frames)
    scanned = scan(
        open_corpus(data, metadata=metadata, speaker_level=speaker_level),
        min_duration_s=shortest / encoder.sample_rate_hz,
        max_rejected=encoder.recipe.data.max_rejected,
        progress=progress,
    )
    for line in scanned.report.lines() if scanned.report.rejected else []:
        logger.warning("%s", line)
    return scanned.manifest, [remark.line() for remark in scanned.report.rejected]


def _check_left_out(embedded: Embedded, total: int, data: str, bound: float) -> None:
    for _, reason in embedded.failures:
        logger.warning("left out: %s", reason)
    if not len(embedded.rows) or len(embedded.failures) > bound * total:
        raise ManifestError(
            f"{data}: {len(embedded.failures)} of {total} recordings could not be embedded, "
            f"more than data.max_rejected = {bound:g}; see the warnings above"
        )


def report_folder(
    folder: str | Path,
    paths: SystemFolder,
    data: str | Path | None,
    trials: str | Path | None,
    out: str | Path | None,
) -> Path:
    if out is not None:
        return Path(out)
    beside_the_caller = Path(f"{Path(folder).name}-report")  # not in the package or the hub's cache
    report = paths.report if paths.path == Path(folder) else beside_the_caller
    measured_on = [Path(name).resolve().stem or "data" for name in (data, trials) if name is not None]
    return report / "-".join(measured_on)


def _history(path: Path) -> tuple[tuple[dict[str, float], ...], list[str]]:
    """Return the epochs of history.csv, empty without the file, and a warning if it is damaged."""
    try:
        return (tuple(read_history(path)) if path.is_file() else ()), []
    except CheckpointError as error:
        return (), [f"{error}; the report has no training curves"]


def read_history(path: Path) -> list[dict[str, float]]:
    """Read history.csv as rows of numbers. Raises CheckpointError for a missing or damaged file."""
    if why := why_no_file(path):
        raise CheckpointError(f"{path}: {why}")
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (TypeError, ValueError, csv.Error) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error


def _calibration_warnings(verifier: Verifier) -> list[str]:
    if not verifier.is_calibrated:
        return [NOT_CALIBRATED]
    if not verifier.basis.get("held_out", True):
        return ["the calibration learned from speakers that the network was trained on, so its LLRs are too confident"]
    num_speakers = int(verifier.basis["num_speakers"])
    return [few_speakers_warning(num_speakers)] if num_speakers < FEW_SPEAKERS else []


def estimate_manifest_snr_db(manifest: Manifest) -> NDArray[np.float64]:
    """Estimate the SNR of each recording in dB, [n]; NaN where it cannot be read or has no pauses."""
    has_segments = manifest.has_segments
    found = np.full(len(manifest), np.nan)
    for row in range(len(manifest)):
        duration_s = float(manifest.duration_s[row]) if has_segments else np.nan
        try:
            samples, rate = audio.read(
                manifest.full_path(row),
                start_s=float(manifest.start_s[row]),
                duration_s=None if np.isnan(duration_s) else duration_s,
            )
        except (AudioError, MissingExtraError):
            continue
        found[row] = estimate_snr_db(samples, rate)
    return found


def _origin(
    paths: SystemFolder, encoder: SpeakerEncoder, verifier: Verifier, training: Manifest | None
) -> dict[str, Any]:
    """Return the fields of `Evaluation` that say what was measured, and how it was made."""
    description = read_description(paths)
    return {
        "system_path": paths.path,
        "system_sha256": encoder.fingerprint,
        "calibration_sha256": calibration_digest(verifier),
        "versions": current_versions(),
        "trained_with": description.versions,
        "recipe": recipe_to_mapping(description.recipe),
        "training": _training_facts(paths, training, len(description.speakers)),
    }


def _training_facts(paths: SystemFolder, corpus: Manifest | None, num_speakers: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"num_speakers": num_speakers, "epoch": kept_epoch(paths)}
    if corpus is not None:
        trained = corpus.split == TRAIN
        facts["num_recordings"] = int(np.count_nonzero(trained))
        if not np.isnan(corpus.duration_s[trained]).any():
            facts["hours"] = float(corpus.duration_s[trained].sum() / 3600)
    return facts
