"""Measure a score file, compare systems on the same trials, and fuse several score files into one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import Fusion
from xvectors.errors import ManifestError
from xvectors.evaluation.curves import DET
from xvectors.evaluation.measures import (
    MAX_DRAWS,
    MIN_DRAWS,
    WORK,
    MeasureDefinition,
    ScoreMeasures,
    measure_definitions,
    measure_scores,
    unit_format,
)
from xvectors.evaluation.speakers import GUESSED, speakers_of
from xvectors.files.tables import write_table
from xvectors.metrics import ROC, Comparison, LeastCost, ScoredTrials, compare_systems
from xvectors.metrics.operating_points import DEFAULT_COST
from xvectors.metrics.subsampling import subsample_trials
from xvectors.text import count
from xvectors.trials import TrialList, read_trials
from xvectors.trials.score_files import ScoreFile, read_scores, scores_on


def measure_score_file(
    path: str | os.PathLike[str],
    trials: str | os.PathLike[str] | None = None,
    *,
    speakers: str | Path | None = None,
    cost: LeastCost = DEFAULT_COST,
) -> tuple[ScoreMeasures, TrialList]:
    """Measure a score file.

    Cllr and actual DCF take the scores for natural-log LLRs.

    Parameters
    ----------
    path
        The score file; its labels are used if there is no list `trials`.
    trials
        A trial list with the labels.
    speakers
        A file that tells who speaks (see `speakers_of`), for intervals over speakers. By default, names that target
        trials join count as one speaker, which a note says.
    cost
        Prior and costs of minDCF and actual DCF.

    Raises
    ------
    ManifestError
        A file or list that cannot be read or does not fit, or trials of one kind only.
    """
    scored = read_scores(path)
    listed, scores = scored.labeled(None if trials is None else read_trials(trials))
    note = scored.examined_note()
    for kind, number in (("target", listed.target.sum()), ("non-target", (~listed.target).sum())):
        if not number:
            raise ManifestError(f"{listed.source}: no {kind} trials; error rates need trials of both kinds")
    of_names = speakers_of(listed, speakers)
    chosen = subsample_trials(scores, listed.target)
    measured = measure_scores(
        scores,
        listed.target,
        of_names[listed.enroll[chosen.at]],
        of_names[listed.test[chosen.at]],
        are_llrs=True,
        threshold=None,
        cost=cost,
        resampled=chosen,
        overwrite_scores=True,
    )
    notes = [GUESSED] if speakers is None and measured.num_draws else []
    notes += [note] if note else []
    return replace(measured, notes=(*measured.notes, *notes)), replace(listed, source=scored.source)


@dataclass(frozen=True, kw_only=True, eq=False)
class SystemComparison:
    """Several systems on the same trials.

    Attributes
    ----------
    names : tuple of str
        The systems as they were named; the first is the one that the others are compared with.
    definitions : dict of str to MeasureDefinition
        The measures by key.
    values : dict of str to dict
        The measures of each system, by key.
    differences : dict of str to dict
        For each system but the first, each measure's paired difference from the first (theirs less the first's).
    curves : dict of str to DET
        The DET curve of each system.
    speakers_source : str
        Where the speakers were known from: a file, or "target trials".
    folder : Path
        The folder of the first system's scores.
    """

    names: tuple[str, ...]
    definitions: dict[str, MeasureDefinition]
    values: dict[str, dict[str, float]]
    differences: dict[str, dict[str, Comparison]]
    curves: dict[str, DET]
    num_target: int
    num_nontarget: int
    num_speakers: int
    speakers_source: str
    notes: tuple[str, ...]
    are_llrs: bool
    folder: Path

    def lines(self) -> list[str]:
        """Return the text to print: the measures of each system and their differences from the first."""
        trials = f"{self.num_target:,} target and {count(self.num_nontarget, 'non-target trial')}"
        lines = [f"{trials}, {count(self.num_speakers, 'speaker')}"]
        for name in self.names:
            lines.append(name)
            for key, value in self.values[name].items():
                form = unit_format(self.definitions[key].unit)
                line = f"  {self.definitions[key].name:<23} {value:{form}}"
                if (row := self.differences.get(name, {}).get(key)) is not None:
                    low, high = (f"{end:+{form}}" for end in (row.difference.low, row.difference.high))
                    line += f"  ({row.difference.value:+{form}}, 95 % interval {low} to {high}, p = {row.p_value:.3f})"
                lines.append(line)
        return [*lines, *self.notes]


def compare_score_files(
    systems: Sequence[str | Path], *, speakers: str | Path | None = None, cost: LeastCost = DEFAULT_COST
) -> SystemComparison:
    """Compare the first system with each of the others on the same trials.

    Parameters
    ----------
    systems
        System directories that were evaluated, folders with a scores.csv, or score files. Labels are those of the
        first.
    speakers
        A file that tells who speaks (see `speakers_of`); by default the embeddings.npz that the evaluation of the first
        system wrote beside its scores. Without either, names that target trials join count as one speaker, which a
        note says.
    cost
        Prior and costs of minDCF and actual DCF.

    Raises
    ------
    ManifestError
        Fewer than two systems, one named twice, one without scores, other trials than the first, fewer than 5 speakers.
    """
    names = tuple(str(system) for system in systems)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ManifestError("name two or more systems to compare, and each only once")
    paths = [_scores_of(Path(system)) for system in systems]
    files = [read_scores(path) for path in paths]
    trials, first_scores = files[0].labeled()
    scores = dict(zip(names, [first_scores, *(scores_on(trials, file) for file in files[1:])], strict=True))
    beside = paths[0].with_name("embeddings.npz")
    if speakers is None and Path(names[0]).is_dir() and beside.is_file():
        speakers = beside
    numbers = speakers_of(trials, speakers)
    resampled = ScoredTrials.of(trials.target, numbers[trials.enroll], numbers[trials.test])
    are_llrs = all(file.column == "llr" for file in files)
    definitions = measure_definitions(are_llrs=are_llrs, cost=cost)
    readers = {key: definition.read for key, definition in definitions.items()}
    rocs = {name: ROC.from_scores(values[trials.target], values[~trials.target]) for name, values in scores.items()}
    draws = int(np.clip(WORK // (2 * len(trials)), MIN_DRAWS, MAX_DRAWS))
    return SystemComparison(
        names=names,
        definitions=definitions,
        values={name: {key: float(read(roc)) for key, read in readers.items()} for name, roc in rocs.items()},
        differences={
            name: compare_systems(scores[names[0]], scores[name], resampled, readers, num_draws=draws)
            for name in names[1:]
        },
        curves={name: DET.from_roc(roc) for name, roc in rocs.items()},
        num_target=int(trials.target.sum()),
        num_nontarget=int((~trials.target).sum()),
        num_speakers=resampled.num_speakers,
        speakers_source="target trials" if speakers is None else str(speakers),
        notes=(*trials.findings.lines(), *([GUESSED] if speakers is None else [])),
        are_llrs=are_llrs,
        folder=paths[0].parent,
    )


def _scores_of(folder: Path) -> Path:
    for path in (folder, folder / "report" / "scores.csv", folder / "scores.csv"):
        if path.is_file():
            return path
    raise ManifestError(f"{folder} holds no scores to compare; `xvectors evaluate {folder}` writes them")


@dataclass(frozen=True, kw_only=True, eq=False)
class FusedScores:
    """A fusion, with the numbers of target and non-target trials it was fitted on, and of trials it scored."""

    fusion: Fusion
    num_target: int
    num_nontarget: int
    num_trials: int


def fuse_score_files(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    fit_on: Sequence[str | Path],
    trials: str | Path | None = None,
    p_target: float = 0.5,
) -> FusedScores:
    """Learn a fusion from one set of trials and write the LLRs of another: enroll, test, target, llr.

    Parameters
    ----------
    files
        A score file of each system, two or more, all of the same trials. Labels are those of the list `trials`, else of
        the first file.
    fit_on
        A labeled score file of each system, in the same order, of trials of other speakers.
    p_target
        The prior at which the LLRs cost least.

    Raises
    ------
    ManifestError
        Fewer than two systems, unequal numbers of `files` and `fit_on`, a file in both; files that cannot be read or
        hold different trials; trials of one kind only to learn from.
    ConfigError, TrainingError
        An impossible prior; scores for which the fit does not converge.
    """
    if len(files) < 2:
        raise ManifestError("name two or more score files to fuse, one for each system")
    if len(fit_on) != len(files):
        raise ManifestError(
            f"{len(files)} score files to fuse and {len(fit_on)} to fit on: name one for each system with --fit-on, "
            "in the same order"
        )
    again = {Path(path).resolve() for path in files} & {Path(path).resolve() for path in fit_on}
    if again:
        raise ManifestError(
            f"{min(again)} is fused and fitted on: LLRs of trials that the fusion was fitted on are too good; "
            "fit on trials of other speakers"
        )
    learned, of_learned = _matrix([read_scores(path) for path in fit_on], None)
    fusion = Fusion(p_target).fit(of_learned[learned.target], of_learned[~learned.target])
    listed, scores = _matrix([read_scores(path) for path in files], None if trials is None else read_trials(trials))
    names = listed.names
    rows = zip(
        (names[at] for at in listed.enroll.tolist()),
        (names[at] for at in listed.test.tolist()),
        map(int, listed.target.tolist()),
        (f"{llr:.6g}" for llr in fusion.transform(scores).tolist()),
        strict=True,
    )
    write_table(out, ["enroll", "test", "target", "llr"], rows)
    num_target = int(learned.target.sum())
    return FusedScores(
        fusion=fusion, num_target=num_target, num_nontarget=len(learned) - num_target, num_trials=len(listed)
    )


def _matrix(files: Sequence[ScoreFile], trials: TrialList | None) -> tuple[TrialList, NDArray[np.float64]]:
    """Return the trials of the list, or else of the first file, and their scores in every file, [trials, systems]."""
    listed, first = files[0].labeled(trials)
    if trials is None:
        columns = [first, *(scores_on(listed, file) for file in files[1:])]
    else:
        columns = [first, *(file.labeled(trials)[1] for file in files[1:])]
    return listed, np.stack(columns, axis=1)
