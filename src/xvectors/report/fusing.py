"""Scores of several systems made one. In: score files of the same trials, and files by the same systems to learn from.
Out: a score file of log-likelihood ratios (see backends/fusion.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import Fusion
from xvectors.errors import ManifestError
from xvectors.evaluation.score_files import ScoreFile, read_scores, scores_on
from xvectors.files.tables import write_table
from xvectors.trials import TrialList, read_trials


@dataclass(frozen=True, kw_only=True, eq=False)
class Fused:
    """What was fused: the fusion, and how many trials it learned from and scored."""

    fusion: Fusion
    num_target: int
    num_nontarget: int
    num_trials: int


def fuse(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    fit_on: Sequence[str | Path],
    trials: str | Path | None = None,
    p_target: float = 0.5,
) -> Fused:
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
        Fewer than two systems, not one file of either kind for each, a file given as both; files that cannot be read
        or do not hold the same trials; trials of one kind to learn from.
    ConfigError, TrainingError
        An impossible prior; scores for which no weights settle.
    """
    if len(files) < 2:
        raise ManifestError("name two or more score files to fuse, one of each system")
    if len(fit_on) != len(files):
        raise ManifestError(
            f"{len(files)} score files to fuse and {len(fit_on)} to learn from: name one of each system with --fit-on, "
            "in the same order"
        )
    again = {Path(path).resolve() for path in files} & {Path(path).resolve() for path in fit_on}
    if again:
        raise ManifestError(
            f"{min(again)} is to be fused and to be learned from: LLRs of trials that it learned from are too good; "
            "learn from trials of other speakers"
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
    return Fused(fusion=fusion, num_target=num_target, num_nontarget=len(learned) - num_target, num_trials=len(listed))


def _matrix(files: Sequence[ScoreFile], trials: TrialList | None) -> tuple[TrialList, NDArray[np.float64]]:
    """The trials, of the list or of the first file, and every file's score of each: [trials, systems]."""
    listed, first = files[0].labeled(trials)
    if trials is None:
        columns = [first, *(scores_on(listed, file) for file in files[1:])]
    else:
        columns = [first, *(file.labeled(trials)[1] for file in files[1:])]
    return listed, np.stack(columns, axis=1)
