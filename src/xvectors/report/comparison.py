"""Which of two systems is better, and how sure that is. In: score files of evaluations of the same trials.
Out: paired differences with intervals over speakers and p-values, and the DET curves in one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xvectors.errors import ManifestError
from xvectors.evaluation.curves import DET
from xvectors.evaluation.measures import FEWEST_DRAWS, MOST_DRAWS, WORK, MeasureDefinition, measure_definitions
from xvectors.evaluation.score_files import read_scores, scores_on
from xvectors.evaluation.speakers import GUESSED, speakers_of
from xvectors.files import write_text
from xvectors.metrics import ROC, Comparison, LeastCost, ScoredTrials, compare_systems
from xvectors.metrics.operating_points import DEFAULT_COST
from xvectors.report.error_plots import det_plot
from xvectors.report.outputs import interval_to_dict
from xvectors.text import count


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Several systems on the same trials. `comparisons[name]` is each other system less the first, by measure's key."""

    names: tuple[str, ...]
    rocs: dict[str, ROC]
    metrics: dict[str, MeasureDefinition]
    figures: dict[str, dict[str, float]]
    comparisons: dict[str, dict[str, Comparison]]
    num_target: int
    num_nontarget: int
    num_speakers: int
    speakers_source: str
    """Who told the speakers: a file, or "target trials"."""
    notes: tuple[str, ...]
    are_llrs: bool
    folder: Path

    def lines(self) -> list[str]:
        """The figures to print: each system's, and its difference to the first."""
        trials = f"{self.num_target:,} target and {count(self.num_nontarget, 'non-target trial')}"
        lines = [f"{trials}, {count(self.num_speakers, 'speaker')}"]
        for name in self.names:
            lines.append(name)
            for key, value in self.figures[name].items():
                form = ".2%" if self.metrics[key].unit == "share" else ".3f"
                line = f"  {self.metrics[key].name:<23} {value:{form}}"
                if (row := self.comparisons.get(name, {}).get(key)) is not None:
                    low, high = (f"{end:+{form}}" for end in (row.difference.low, row.difference.high))
                    line += f"  ({row.difference.value:+{form}}, 95 % interval {low} to {high}, p = {row.p_value:.3f})"
                lines.append(line)
        return [*lines, *self.notes]


def compare(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    speakers: str | Path | None = None,
    cost: LeastCost = DEFAULT_COST,
) -> Compared:
    """Compare the first system with each other one, and write comparison.json and det.png.

    Parameters
    ----------
    folders
        System directories that were evaluated, folders that hold a scores.csv, or score files. Labels are those of the
        first.
    out
        Where to write; by default the folder of the first's scores.
    speakers
        A file that tells who speaks (see `speakers_of`); by default the embeddings.npz that the evaluation of the first
        wrote beside its scores. Without either, names that target trials join are one speaker, which a note says.
    cost
        Prior and costs of minDCF and actual DCF.

    Raises
    ------
    ManifestError
        Fewer than two, one twice, one without scores, other trials than the first, fewer than 5 speakers.
    """
    names = tuple(str(folder) for folder in folders)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ManifestError("name two or more systems to compare, each once")
    paths = [_scores_of(Path(folder)) for folder in folders]
    files = [read_scores(path) for path in paths]
    trials, first_scores = files[0].labeled()
    scores = dict(zip(names, [first_scores, *(scores_on(trials, file) for file in files[1:])], strict=True))
    beside = paths[0].with_name("embeddings.npz")
    if speakers is None and Path(names[0]).is_dir() and beside.is_file():
        speakers = beside
    numbers = speakers_of(trials, speakers)
    resampled = ScoredTrials.of(trials.target, numbers[trials.enroll], numbers[trials.test])
    are_llrs = all(file.column == "llr" for file in files)
    metrics = measure_definitions(are_llrs=are_llrs, cost=cost)
    readers = {key: metric.read for key, metric in metrics.items()}
    rocs = {name: ROC.from_scores(values[trials.target], values[~trials.target]) for name, values in scores.items()}
    draws = int(np.clip(WORK // (2 * len(trials)), FEWEST_DRAWS, MOST_DRAWS))
    folder = paths[0].parent if out is None else Path(out)
    compared = Compared(
        names=names,
        rocs=rocs,
        metrics=metrics,
        figures={name: {key: float(read(roc)) for key, read in readers.items()} for name, roc in rocs.items()},
        comparisons={
            name: compare_systems(scores[names[0]], scores[name], resampled, readers, num_draws=draws)
            for name in names[1:]
        },
        num_target=int(trials.target.sum()),
        num_nontarget=int((~trials.target).sum()),
        num_speakers=resampled.num_speakers,
        speakers_source="target trials" if speakers is None else str(speakers),
        notes=(*trials.findings.lines(), *([GUESSED] if speakers is None else [])),
        are_llrs=are_llrs,
        folder=folder,
    )
    write_text(folder / "comparison.json", json.dumps(_table(compared), indent=2, allow_nan=False) + "\n")
    curves = {name: DET.from_roc(roc) for name, roc in rocs.items()}
    det_plot(curves, folder / "det.png", title="The same trials, systems compared")
    return compared


def _scores_of(folder: Path) -> Path:
    for path in (folder, folder / "report" / "scores.csv", folder / "scores.csv"):
        if path.is_file():
            return path
    raise ManifestError(f"{folder} holds no scores to compare; `xvectors evaluate {folder}` writes them")


def _table(compared: Compared) -> dict[str, Any]:
    return {
        "measures": {key: {"name": metric.name, "unit": metric.unit} for key, metric in compared.metrics.items()},
        "systems": compared.figures,
        "num_target_trials": compared.num_target,
        "num_nontarget_trials": compared.num_nontarget,
        "num_speakers": compared.num_speakers,
        "speakers": compared.speakers_source,
        "notes": list(compared.notes),
        "differences": {
            name: {
                key: {
                    "difference": row.difference.value,
                    "interval": interval_to_dict(row.difference),
                    "p_value": row.p_value,
                }
                for key, row in rows.items()
            }
            for name, rows in compared.comparisons.items()
        },
    }
