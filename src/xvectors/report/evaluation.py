"""How good a system is on speakers it never saw. In: a system directory. Out: metrics.json, embeddings.npz, plots."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus import TEST, Manifest, open_corpus, scan
from xvectors.encoder import Embedded, SpeakerEncoder, save_embeddings
from xvectors.errors import CheckpointError, ManifestError
from xvectors.files import write_text
from xvectors.report.plots import score_histogram, speaker_map, training_curves, tsne
from xvectors.scoring import all_pairs_scores, eer, min_dcf
from xvectors.system import SystemFolder, find_system, kept_epoch, read_description

logger = logging.getLogger(__name__)

P_TARGET = 0.01


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Verification over all pairs of utterances, by cosine. Rates are shares, not percent."""

    data: str
    num_speakers: int
    num_utterances: int
    num_target_trials: int
    num_nontarget_trials: int
    eer: float
    eer_threshold: float
    min_dcf: float
    min_dcf_p_target: float
    left_out: list[str]
    report: str
    """The folder that the figures and plots were written to."""


def evaluate(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    metadata: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    show_progress: bool = True,
) -> Evaluation:
    """Embed the test speakers, score all pairs, and write metrics.json, embeddings.npz and scores.png to the report.

    Without `data` these are the speakers that training kept apart; with it, every speaker of that corpus (a speaker
    whose name was trained on is warned about). `out` is the folder to write to, by default the
    system's report/, or a folder below it named after `data`.

    Raises
    ------
    CheckpointError, ManifestError
        Where `folder` is no system, or there are no trials of both kinds.
    """
    paths = find_system(Path(folder))
    encoder = SpeakerEncoder.load(folder, device=device)
    manifest = _test_corpus(paths) if data is None else _scanned(data, metadata, encoder, show_progress)
    known = sorted(set(manifest.speakers) & set(encoder.speakers))
    if known:
        logger.warning(
            "%d of the %d test speakers bear names that were trained on (%s): if they are the same people, "
            "the error rates are too good",
            len(known),
            len(manifest.speakers),
            ", ".join(known[:3]),
        )
    embedded = encoder.encode_manifest(manifest, show_progress=show_progress)
    for _, reason in embedded.failures:
        logger.warning("left out: %s", reason)
    bound = encoder.recipe.data.max_rejected
    if not len(embedded.rows) or len(embedded.failures) > bound * len(manifest):
        raise ManifestError(
            f"{data or paths.corpus}: {len(embedded.failures)} of {len(manifest)} recordings could not be embedded, "
            f"more than data.max_rejected = {bound:g}; see the warnings above"
        )
    if out is not None:
        report = Path(out)
    elif paths.path != Path(folder):
        report = Path(f"{folder}-report")  # not in the package
    else:
        report = paths.report if data is None else paths.report / (Path(data).resolve().stem or "data")
    save_embeddings(report / "embeddings.npz", manifest, embedded)
    return _measure(manifest, embedded, str(data or paths.corpus), report)


def _scanned(data: str | Path, metadata: str | Path | None, encoder: SpeakerEncoder, show_progress: bool) -> Manifest:
    """Another corpus, without what its scan rejects: duplicates would make the error rates too good."""
    shortest = encoder.fbank.samples_for(encoder.model.context_frames)
    scanned = scan(
        open_corpus(data, metadata=metadata),
        min_duration_s=shortest / encoder.sample_rate_hz,
        max_rejected=encoder.recipe.data.max_rejected,
        show_progress=show_progress,
    )
    for line in scanned.report.lines() if scanned.report.rejected else []:
        logger.warning("%s", line)
    return scanned.manifest


def _measure(manifest: Manifest, embedded: Embedded, data: str, report: Path) -> Evaluation:
    speaker_index = manifest.speaker_index[embedded.rows]
    target, nontarget = all_pairs_scores(embedded.embeddings, speaker_index)
    error = eer(target, nontarget)
    cost = min_dcf(target, nontarget, p_target=P_TARGET)
    evaluation = Evaluation(
        data=data,
        num_speakers=len(np.unique(speaker_index)),
        num_utterances=len(embedded.rows),
        num_target_trials=len(target),
        num_nontarget_trials=len(nontarget),
        eer=error.eer,
        eer_threshold=error.threshold,
        min_dcf=cost.min_dcf,
        min_dcf_p_target=P_TARGET,
        left_out=[reason for _, reason in embedded.failures],
        report=str(report),
    )
    write_text(report / "metrics.json", json.dumps(asdict(evaluation), indent=2) + "\n")
    score_histogram(target, nontarget, error.threshold, error.eer, report / "scores.png")
    return evaluation


def plot(folder: str | Path, *, device: str = "auto", show_progress: bool = True) -> list[Path]:
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
        evaluate(folder, device=device, show_progress=show_progress)
    embeddings, names, genders = read_embeddings(embeddings_file)
    title = f"Speakers never trained on ({len(set(names))}), t-SNE of {len(names)} embeddings"
    points = tsne(embeddings)
    written.append(speaker_map(points, names, genders, paths.report / "speakers.png", title=title))
    written.append(paths.report / "scores.png")
    return written


def read_history(path: Path) -> list[dict[str, float]]:
    """history.csv as rows of numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error


def read_embeddings(path: Path) -> tuple[NDArray[np.float32], list[str], list[int]]:
    """Embeddings float32 [n, dim], speakers and genders of an npz that `save_embeddings` wrote."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            contents: dict[str, NDArray[Any]] = {key: arrays[key] for key in ("embeddings", "speaker", "gender")}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or no embeddings file: {error}") from error
    return contents["embeddings"], contents["speaker"].tolist(), contents["gender"].tolist()


def _test_corpus(paths: SystemFolder) -> Manifest:
    if not paths.corpus.is_file():
        raise ManifestError(f"{paths.path} came without its corpus; name one to evaluate on with --data")
    manifest = Manifest.read_csv(paths.corpus)
    rows = np.flatnonzero(manifest.split == TEST)
    if not len(rows):
        raise ManifestError(
            f"{paths.corpus} keeps no speakers for testing; evaluate on another corpus with --data, "
            "or train with data.train_test_prop below 1"
        )
    return manifest.take(rows)
