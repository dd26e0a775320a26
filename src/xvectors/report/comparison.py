"""Which of two systems is better, and how sure that is. In: score files of evaluations of the same trials.
Out: paired differences with intervals over speakers and p-values, and the DET curves in one picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xvectors.errors import ManifestError
from xvectors.files import write_text
from xvectors.report.det import det_plot
from xvectors.report.measuring import FEWEST_DRAWS, MOST_DRAWS, P_TARGET, WORK
from xvectors.report.outputs import interval_table
from xvectors.report.score_files import read_scores, scores_on
from xvectors.scoring import ROC, Comparison, ScoredTrials, compare_systems


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Several systems on the same trials. `comparisons[name]` is each other system less the first, by measure."""

    names: tuple[str, ...]
    rocs: dict[str, ROC]
    figures: dict[str, dict[str, float]]
    comparisons: dict[str, dict[str, Comparison]]
    num_target: int
    num_nontarget: int
    num_speakers: int
    are_llrs: bool
    folder: Path

    def lines(self) -> list[str]:
        """The figures to print: each system's, and its difference to the first."""
        trials = f"{self.num_target:,} target and {self.num_nontarget:,} non-target trials"
        lines = [f"{trials}, {self.num_speakers} speakers"]
        for name in self.names:
            lines.append(name)
            for key, value in self.figures[name].items():
                form = ".2%" if key == "EER" else ".3f"
                line = f"  {key:<13}{value:{form}}"
                if (row := self.comparisons.get(name, {}).get(key)) is not None:
                    low, high = (f"{end:+{form}}" for end in (row.difference.low, row.difference.high))
                    line += f"  ({row.difference.value:+{form}}, 95 % interval {low} to {high}, p = {row.p_value:.3f})"
                lines.append(line)
        return lines


def compare(folders: Sequence[str | Path], out: str | Path | None = None) -> Compared:
    """Compare the first system with each other one, and write comparison.json and det.png.

    Parameters
    ----------
    folders
        System directories that were evaluated, folders that hold a scores.csv, or score files. Labels are those of the
        first, and names that target trials join are one speaker.
    out
        Where to write; by default the folder of the first's scores.

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
    trials, first_scores = files[0].labelled()
    scores = dict(zip(names, [first_scores, *(scores_on(trials, file) for file in files[1:])], strict=True))
    speakers = trials.speakers()
    resampled = ScoredTrials.of(trials.target, speakers[trials.enroll], speakers[trials.test])
    are_llrs = all(file.column == "llr" for file in files)
    metrics = _metrics(are_llrs)
    rocs = {name: ROC.from_scores(values[trials.target], values[~trials.target]) for name, values in scores.items()}
    draws = int(np.clip(WORK // (2 * len(trials)), FEWEST_DRAWS, MOST_DRAWS))
    folder = paths[0].parent if out is None else Path(out)
    compared = Compared(
        names=names,
        rocs=rocs,
        figures={name: {key: float(read(roc)) for key, read in metrics.items()} for name, roc in rocs.items()},
        comparisons={
            name: compare_systems(scores[names[0]], scores[name], resampled, metrics, num_draws=draws)
            for name in names[1:]
        },
        num_target=int(trials.target.sum()),
        num_nontarget=int((~trials.target).sum()),
        num_speakers=resampled.num_speakers,
        are_llrs=are_llrs,
        folder=folder,
    )
    write_text(folder / "comparison.json", json.dumps(_table(compared), indent=2, allow_nan=False) + "\n")
    det_plot(rocs, folder / "det.png", title="The same trials, systems compared")
    return compared


def _metrics(are_llrs: bool) -> dict[str, Callable[[ROC], float]]:
    found: dict[str, Callable[[ROC], float]] = {
        "EER": lambda roc: roc.eer().eer,
        f"minDCF({P_TARGET:g})": lambda roc: roc.min_dcf(P_TARGET).min_dcf,
        "minCllr": lambda roc: roc.min_cllr(),
    }
    if are_llrs:
        found[f"actDCF({P_TARGET:g})"] = lambda roc: roc.actual_dcf(P_TARGET)
        found["Cllr"] = lambda roc: roc.cllr()
    return found


def _scores_of(folder: Path) -> Path:
    for path in (folder, folder / "report" / "scores.csv", folder / "scores.csv"):
        if path.is_file():
            return path
    raise ManifestError(f"{folder} holds no scores to compare; `xvectors evaluate {folder}` writes them")


def _table(compared: Compared) -> dict[str, Any]:
    return {
        "systems": compared.figures,
        "num_target_trials": compared.num_target,
        "num_nontarget_trials": compared.num_nontarget,
        "num_speakers": compared.num_speakers,
        "differences": {
            name: {
                key: {
                    "difference": row.difference.value,
                    "interval": interval_table(row.difference),
                    "p_value": row.p_value,
                }
                for key, row in rows.items()
            }
            for name, rows in compared.comparisons.items()
        },
    }
