"""Evaluate a system and write its report: index.html, metrics.json, scores.csv, embeddings.npz, scores.png."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.speaker_map import map_saved_embeddings
from xvectors.evaluation.system import DEFAULT_COST, LeastCost, measure_system, read_history, report_folder
from xvectors.files import exclusive
from xvectors.report.speaker_maps import speaker_map
from xvectors.report.training_plots import training_curves
from xvectors.report.writing import write_report
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import kept_epoch, read_description

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
    read_description(paths)  # before the lock, which would create the folder of a system that does not exist
    report = report_folder(folder, paths, data, trials, out)
    with exclusive(report / ".lock", of=str(report)):
        evaluation = measure_system(
            folder,
            data=data,
            metadata=metadata,
            speaker_level=speaker_level,
            trials=trials,
            cost=cost,
            out=out,
            device=device,
            progress=progress,
        )
        if not audio:
            evaluation = replace(evaluation, command=f"{evaluation.command} --no-audio")
        write_report(evaluation, audio=audio)
        return evaluation


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
    found = map_saved_embeddings(embeddings_file)
    if found is None:
        logger.warning("no speakers.png: fewer than 3 embeddings of %s are finite and not zero", embeddings_file)
    else:
        names = [found.speakers[at] for at in found.speaker_index]
        title = f"Speakers never trained on ({len(found.speakers)}), t-SNE of {len(names)} embeddings"
        written.append(
            speaker_map(found.tsne, names, found.gender.tolist(), paths.report / "speakers.png", title=title)
        )
    written.append(paths.report / "scores.png")
    return written
