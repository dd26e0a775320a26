"""How good a system is on speakers it never saw. In: a system directory, perhaps another corpus, perhaps a trial list.
Out: `Measured`, and the files of the report: index.html, metrics.json, scores.csv, embeddings.npz, scores.png."""

from __future__ import annotations

import csv
import logging
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from xvectors.config import recipe_to_mapping
from xvectors.corpus import TEST, TRAIN, Manifest, open_corpus, scan
from xvectors.corpus.scanning import read_left_out
from xvectors.embeddings import load_embeddings
from xvectors.encoder import Embedded, SpeakerEncoder, save_embeddings
from xvectors.encoder.results import known_durations
from xvectors.errors import CheckpointError, ManifestError
from xvectors.evaluation.closed_set import rank_figures
from xvectors.evaluation.leakage import cohort_line, find_leakage, leakage_lines
from xvectors.evaluation.measured import Measured
from xvectors.evaluation.measuring import measure
from xvectors.evaluation.slices import slices_of
from xvectors.evaluation.snr import snr_of_rows
from xvectors.evaluation.trial_choice import choose_trials
from xvectors.files import exclusive, why_no_file
from xvectors.metrics import LeastCost, eer
from xvectors.metrics.operating_points import DEFAULT_COST
from xvectors.report.drawings import scale_name
from xvectors.report.outputs import NOT_CALIBRATED, Evaluation, summary, write_metrics, write_scores
from xvectors.report.page import write_page
from xvectors.report.plots import score_histogram, speaker_map, training_curves, tsne
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import current_versions, kept_epoch, read_description
from xvectors.verification import verifier_of
from xvectors.verification.learning import FEW_SPEAKERS, few_speakers_warning
from xvectors.verification.verifier import LEAST_HEARD_S

logger = logging.getLogger(__name__)


def evaluate(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    metadata: str | Path | None = None,
    speaker_level: int | None = None,
    trials: str | Path | None = None,
    cost: LeastCost = DEFAULT_COST,
    out: str | Path | None = None,
    audio: bool = True,
    device: str = "auto",
    progress: bool = False,
) -> Evaluation:
    """Embed the test speakers, score all pairs, and write the report: index.html and the files that programs read.

    Without `data` these are the speakers that training kept apart; with it, every speaker of that corpus (a speaker
    whose name was trained on is warned about), opened by `metadata` and `speaker_level` (see
    `open_corpus`). `trials` is a list to measure on instead of all pairs. `out` is the
    folder to write to, by default the system's report/, or a folder below it named after `data` and `trials`.
    `cost` is the prior and the costs of minDCF and actual DCF, by default 0.01, 1 and 1.
    `audio` puts excerpts of the recordings that index.html names into it.

    Scores are those of the system's back-end, decisions are made on its LLRs; without a calibration scores are cosines,
    which the figures say.

    Raises
    ------
    CheckpointError, ManifestError
        Where `folder` is no system, there are no trials of both kinds, or a trial names an unknown recording.
    """
    paths = find_system(Path(folder))
    read_description(paths)  # where there is none, the lock would make a folder
    report = _report_folder(folder, paths, data, trials, out)
    with exclusive(report / ".lock", of=str(report)):
        measured = measure_system(
            folder,
            data=data,
            metadata=metadata,
            speaker_level=speaker_level,
            trials=trials,
            cost=cost,
            out=out,
            device=device,
            snr=True,
            progress=progress,
        )
        if not audio:
            measured = replace(measured, command=f"{measured.command} --no-audio")
        slices = slices_of(measured)
        evaluation = summary(measured, slices)
        write_page(measured, measured.report / "index.html", audio=audio, slices=slices)
        write_metrics(measured.report / "metrics.json", evaluation)
        write_scores(
            measured.report / "scores.csv", list(measured.manifest.id), measured.trials, measured.scores, measured.llrs
        )
        target = measured.trials.target
        score_histogram(
            measured.decisive[target],
            measured.decisive[~target],
            measured.roc.eer().threshold,
            evaluation.eer,
            measured.report / "scores.png",
            scale=scale_name(measured),
        )
        return evaluation


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
    snr: bool = False,
    progress: bool = False,
) -> Measured:
    """Everything that `evaluate` finds out; of the report's files only embeddings.npz is written.

    `snr` estimates each recording's signal-to-noise ratio, for which it is read once more. The other arguments and the
    errors are those of `evaluate`.
    """
    started = datetime.now().astimezone()
    clock = _Clock()
    paths = find_system(Path(folder))
    description = read_description(paths)
    encoder = SpeakerEncoder.from_pretrained(folder, device=device)
    verifier = verifier_of(paths)
    with clock.step("scan"):
        if data is None:
            corpus, rejected = _test_corpus(paths)
        else:
            corpus, rejected = _scanned(data, metadata, speaker_level, encoder, progress)
    with clock.step("embedding"):
        embedded = encoder.encode_manifest(corpus, progress=progress)
    _check_left_out(embedded, len(corpus), str(data or paths.corpus), encoder.recipe.data.max_rejected)
    chosen = choose_trials(corpus, trials, embedded.rows)
    manifest = corpus.take(embedded.rows)
    duration_s = known_durations(manifest)
    report = _report_folder(folder, paths, data, trials, out)
    save_embeddings(report / "embeddings.npz", corpus, embedded)
    with clock.step("scoring"):
        scores = verifier.score(embedded.embeddings, chosen.trials)
        llrs = None
        if verifier.is_calibrated:
            heard_s = embedded.speech_s.clip(min=LEAST_HEARD_S)
            llrs = verifier.llrs(scores, heard_s[chosen.trials.enroll], heard_s[chosen.trials.test])
    warnings = list(chosen.findings)
    if llrs is None:
        warnings.append(NOT_CALIBRATED)
    elif not verifier.basis.get("held_out", True):
        warnings.append("the calibration learned from speakers that the network was trained on: LLRs are too confident")
    elif (num_speakers := int(verifier.basis["num_speakers"])) < FEW_SPEAKERS:
        warnings.append(few_speakers_warning(num_speakers))
    with clock.step("leakage"):
        training = Manifest.read_csv(paths.corpus) if paths.corpus.is_file() else None
        leakage = find_leakage(
            manifest,
            embedded.embeddings,
            trained_speakers=encoder.speakers,
            calibration_speakers=verifier.speakers,
            training_corpus=training,
        )
    warnings += leakage_lines(leakage, manifest)
    if rejected is None:
        warnings.append(f"which recordings training left out is not known: {paths.left_out} is not there")
    for warning in warnings:
        # that one is printed with the figures, and what a user of the lab's recipe expects
        if warning != NOT_CALIBRATED:
            logger.warning("%s", warning)
    if in_cohort := verifier.backend.warn_of_overlap(manifest.speakers):  # which logs it
        warnings.append(cohort_line(in_cohort, manifest))
    with clock.step("measuring"):
        speakers = manifest.speaker_index
        target = chosen.trials.target
        if llrs is None:
            threshold = eer(scores[target], scores[~target]).threshold
            source = "where the error rates of these very trials are equal"
        else:
            threshold = verifier.threshold
            source = f"the Bayes threshold of LLRs at P(target) = {verifier.p_target:g} and equal costs"
        measurement = measure(
            scores if llrs is None else llrs,
            target,
            speakers[chosen.trials.enroll],
            speakers[chosen.trials.test],
            are_llrs=llrs is not None,
            threshold=threshold,
            cost=cost,
        )
    with clock.step("identification"):
        ranks = rank_figures(verifier.backend, embedded.embeddings, speakers)
    with clock.step("snr"):
        snr_db = snr_of_rows(manifest) if snr else np.full(len(manifest), np.nan)
    table = verifier.table() if verifier.is_calibrated else {}
    return Measured(
        system=str(folder),
        system_path=paths.path,
        data=str(data or paths.corpus),
        report=report,
        command=_command(
            folder,
            cost,
            data=data,
            metadata=metadata,
            speaker_level=speaker_level,
            trials=trials,
            out=out,
            device=None if device == "auto" else device,
        ),
        started=started.isoformat(timespec="seconds"),
        timings_s=clock.seconds,
        versions=current_versions(),
        trained_with=description.versions,
        recipe=recipe_to_mapping(description.recipe),
        training=_training_facts(paths, training, len(description.speakers)),
        backend=verifier.name,
        backend_table=table.get("backend", {}),
        calibration_table={key: table[key] for key in ("calibration", "decision", "basis", "figures") if key in table},
        manifest=manifest,
        embeddings=embedded.embeddings,
        duration_s=duration_s,
        snr_db=snr_db,
        left_out=(*(rejected or ()), *(reason for _, reason in embedded.failures)),
        left_out_known=rejected is not None,
        trials=chosen.trials,
        trials_source=chosen.source,
        trial_findings=chosen.findings,
        scores=scores,
        llrs=llrs,
        roc=measurement.roc,
        threshold=threshold,
        threshold_source=source,
        operating_points=measurement.operating_points,
        figures={**measurement.figures, **ranks},
        cost=cost,
        leakage=leakage,
        warnings=(*warnings, *measurement.notes),
    )


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def _check_left_out(embedded: Embedded, total: int, data: str, bound: float) -> None:
    for _, reason in embedded.failures:
        logger.warning("left out: %s", reason)
    if not len(embedded.rows) or len(embedded.failures) > bound * total:
        raise ManifestError(
            f"{data}: {len(embedded.failures)} of {total} recordings could not be embedded, "
            f"more than data.max_rejected = {bound:g}; see the warnings above"
        )


def _report_folder(
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


def _command(folder: str | Path, cost: LeastCost, **options: str | Path | int | None) -> str:
    """The command line of this evaluation."""
    for name, chosen, default in zip(("p-target", "c-miss", "c-fa"), cost.settings, DEFAULT_COST.settings, strict=True):
        options[name] = None if chosen == default else f"{chosen:g}"
    words = ["xvectors", "evaluate", str(folder)]
    for name, value in options.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _training_facts(paths: SystemFolder, corpus: Manifest | None, num_speakers: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"num_speakers": num_speakers, "epoch": kept_epoch(paths)}
    if corpus is not None:
        trained = corpus.split == TRAIN
        facts["num_recordings"] = int(np.count_nonzero(trained))
        if not np.isnan(corpus.duration_s[trained]).any():
            facts["hours"] = float(corpus.duration_s[trained].sum() / 3600)
    return facts


def _scanned(
    data: str | Path,
    metadata: str | Path | None,
    speaker_level: int | None,
    encoder: SpeakerEncoder,
    progress: bool,
) -> tuple[Manifest, list[str]]:
    """Another corpus without what its scan rejects (duplicates would make the error rates too good), and that, a line
    each."""
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


def plot(folder: str | Path, *, device: str = "auto", progress: bool = False) -> list[Path]:
    """Draw training.png (curves) and speakers.png (t-SNE of the test embeddings); returns their paths.

    The map uses the embeddings that `evaluate` saved; it evaluates first where they are missing or older than the
    weights.
    """
    paths = SystemFolder(Path(folder))
    description = read_description(paths)
    written = []
    if paths.history.is_file():
        curves = paths.report / "training.png"
        training_curves(
            read_history(paths.history),
            curves,
            num_speakers=len(description.speakers),
            kept_epoch=kept_epoch(paths),
        )
        written.append(curves)
    embeddings_file = paths.report / "embeddings.npz"
    if not embeddings_file.is_file() or embeddings_file.stat().st_mtime < paths.weights.stat().st_mtime:
        evaluate(folder, device=device, progress=progress)
    saved = load_embeddings(embeddings_file, "speaker", "gender")
    names, genders = saved["speaker"].tolist(), saved["gender"].tolist()
    title = f"Speakers never trained on ({len(set(names))}), t-SNE of {len(names)} embeddings"
    points = tsne(saved["embeddings"])
    written.append(speaker_map(points, names, genders, paths.report / "speakers.png", title=title))
    written.append(paths.report / "scores.png")
    return written


def read_history(path: Path) -> list[dict[str, float]]:
    """history.csv as rows of numbers. CheckpointError for a missing or damaged file."""
    if why := why_no_file(path):
        raise CheckpointError(f"{path}: {why}")
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (TypeError, ValueError, csv.Error) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error


def _test_corpus(paths: SystemFolder) -> tuple[Manifest, list[str] | None]:
    """The test rows of the system's corpus, and what training left out of these speakers, a line each; None where
    that is not known. Of a speaker without any usable recording the split is not known: those are told apart."""
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
