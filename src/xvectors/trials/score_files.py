"""Files of scored trials, ours and those of other toolkits: `enroll test score [label]` as text, or a table."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import ManifestError
from xvectors.files.bulk import Irregular
from xvectors.files.tables import write_table
from xvectors.text import agree, count, first_few
from xvectors.trials.lists import TrialFindings, TrialList, repeated_pairs, without
from xvectors.trials.names import RecordingRows
from xvectors.trials.pairs import Trials
from xvectors.trials.score_bulk import read_bulk
from xvectors.trials.score_lines import form_of, read_lines

logger = logging.getLogger(__name__)

MAX_EXAMINED = 10_000_000
"""Lines. In longer files, self-trials are counted and kept and repeated pairs are not looked for, because the search
would take as much time and memory as everything else."""
BULK_BYTES = 4_000_000
"""Smaller files are read line by line faster than pyarrow is imported."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreFile:
    """Scored pairs of names.

    Attributes
    ----------
    names : tuple of str
        Every name on either side, once, sorted.
    enroll, test : int32 [m]
        Indices into `names`.
    scores : float64 [m]
        Finite scores.
    target : bool [m] or None
        The labels; None for a file without them.
    column : str
        The name of the scores' column, "score" without a header.
    source : str
        The file.
    """

    names: tuple[str, ...]
    enroll: NDArray[np.int32]
    test: NDArray[np.int32]
    scores: NDArray[np.float64]
    target: NDArray[np.bool_] | None
    column: str
    source: str

    def __len__(self) -> int:
        return len(self.scores)

    def labeled(self, trials: TrialList | None = None) -> tuple[TrialList, NDArray[np.float64]]:
        """Return trials and scores [m]: those of the file, or those of a list in the order of the list.

        Pairs of a list match in either order. Without a list, self-trials and repeated pairs (in either order) are
        left out and counted in the findings; with more than 10 million lines, self-trials are counted and kept, and
        repeated pairs are not looked for.

        Raises
        ------
        ManifestError
            No labels; a pair with two scores or two labels; trials of the list without a score, with names that are
            not in the file, or with other labels there.
        """
        if trials is None:
            if self.target is None:
                raise ManifestError(
                    f"{self.source} has no labels: add target or nontarget to every line, or name a list with --trials"
                )
            own = TrialList(
                names=self.names,
                enroll=self.enroll,
                test=self.test,
                target=self.target,
                source=self.source,
                findings=TrialFindings(num_read=len(self), dropped=len(self) <= MAX_EXAMINED),
            )
            selves, repeats = self._examined()
            found = without(own, selves, repeats)
            return found, self.scores if len(found) == len(self) else self.scores[~(selves | repeats)]
        self._examined()
        recordings = RecordingRows(self.names)
        rows = recordings.rows(trials.names)
        used = np.unique(np.concatenate([trials.enroll, trials.test]))
        missing = [trials.names[at] for at in used if rows[at] < 0]
        if missing:
            raise ManifestError(
                f"{trials.source}: {count(len(missing), 'name')} {agree(len(missing), 'is', 'are')} not in "
                f"{self.source}, such as {first_few(missing)}; "
                "name the list that was scored"
            )
        resolved = trials.resolve(recordings)
        pairs = resolved.trials
        trials = TrialList(
            names=self.names,
            enroll=pairs.enroll,
            test=pairs.test,
            target=pairs.target,
            source=trials.source,
            findings=resolved.findings,
        )
        at = self._places(trials.enroll, trials.test)
        lost = np.flatnonzero(at < 0)
        if len(lost):
            first = f"{trials.names[trials.enroll[lost[0]]]} {trials.names[trials.test[lost[0]]]}"
            raise ManifestError(
                f"{self.source}: {len(lost):,} of {count(len(trials), 'trial')} of {trials.source} "
                f"{agree(len(lost), 'has', 'have')} no score, such as "
                f"{first}; score them, or name the list that was scored"
            )
        if self.target is not None:
            wrong = np.flatnonzero(self.target[at] != trials.target)
            if len(wrong):
                first = f"{trials.names[trials.enroll[wrong[0]]]} {trials.names[trials.test[wrong[0]]]}"
                raise ManifestError(
                    f"{self.source} and {trials.source} label {count(len(wrong), 'trial')} differently, "
                    f"such as {first}; "
                    "correct one of them"
                )
        return trials, self.scores[at]

    def examined_note(self) -> str:
        """Return a note if repeated pairs were not looked for; otherwise an empty string."""
        if len(self) <= MAX_EXAMINED:
            return ""
        return f"pairs that come again were not looked for: the file has more than {MAX_EXAMINED:,} lines"

    def _examined(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return masks [m] of self-trials and of lines that repeat an earlier pair.

        Raises ManifestError if a repeated pair has another label or, in the same order, another score. In the other
        order the score may differ, as it does between models and recordings.
        """
        if len(self) > MAX_EXAMINED:
            return self.enroll == self.test, np.zeros(len(self), dtype=bool)
        selves, repeats, first = repeated_pairs(self.enroll, self.test)
        again = np.flatnonzero(first != np.arange(len(self)))
        if not len(again):
            return selves, repeats
        if self.target is not None:
            wrong = again[self.target[again] != self.target[first[again]]]
            if len(wrong):
                raise ManifestError(
                    f"{self.source}: {count(len(wrong), 'trial')} {agree(len(wrong), 'is', 'are')} called "
                    "both target and non-target, such as "
                    f"{self._named(wrong[0])}; correct the labels"
                )
        lines = np.union1d(again, first[again])
        _, _, same = repeated_pairs(self.enroll[lines], self.test[lines], symmetric=False)
        before = lines[same]
        wrong = np.flatnonzero(self.scores[lines] != self.scores[before])
        if len(wrong):
            first, again = before[wrong[0]], lines[wrong[0]]
            raise ManifestError(
                f"{self.source}: {count(len(wrong), 'pair')} {agree(len(wrong), 'has', 'have')} two scores, "
                f"such as {self._named(again)} with "
                f"{self.scores[first]:g} and {self.scores[again]:g}; keep the scores of one system"
            )
        return selves, repeats

    def _named(self, line: int) -> str:
        return f"{self.names[self.enroll[line]]} {self.names[self.test[line]]}"

    def _places(self, enroll: NDArray[np.int32], test: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the line [k] with the score of each pair, in either order; -1 for a pair without a score."""
        n = len(self.names)
        keys = self.enroll.astype(np.int64) * n + self.test
        order = np.argsort(keys, kind="stable")
        found = np.full(len(enroll), -1, dtype=np.int64)
        for left, right in ((test, enroll), (enroll, test)):
            wanted = left.astype(np.int64) * n + right
            place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
            fits = keys[order][place] == wanted
            found[fits] = order[place[fits]]
        return found


def scores_on(trials: TrialList, file: ScoreFile) -> NDArray[np.float64]:
    """Return the score of each trial in the file. Raises ManifestError unless trials and labels are the same."""
    if len(file) != len(trials):
        raise ManifestError(
            f"{trials.source} has {len(trials):,} trials and {file.source} {len(file):,}: only systems on the same "
            "trials can be compared; evaluate both with the same --data and --trials"
        )
    try:
        return file.labeled(trials)[1]
    except ManifestError as error:
        raise ManifestError(
            f"{trials.source} and {file.source} do not hold the same trials and labels ({error}); evaluate both with "
            "the same --data and --trials"
        ) from error


def read_scores(path: str | os.PathLike[str]) -> ScoreFile:
    """Read a score file of any form.

    Either its lines hold `enroll test score` or `enroll test score label`, separated by spaces or commas, or it is a
    table whose header names enroll, test, score or llr, and optionally target, or aliases as in trial lists. Large
    files are read in bulk if single delimiters separate the fields and no cell is quoted; reading line by line takes
    about ten times as long and gives the same.

    Raises
    ------
    ManifestError
        An unreadable or empty file; a line with another number of fields, a score that is not a finite number, or an
        unknown label. The message names the line.
    """
    path = Path(path)
    form = form_of(path)
    columns = None
    if path.stat().st_size >= BULK_BYTES:
        try:
            columns = read_bulk(path, form)
        except Irregular as reason:
            logger.warning("%s is read line by line, which is slow: %s", path, reason)
    if columns is None:
        columns = read_lines(path, form)
    return ScoreFile(
        names=columns.names,
        enroll=columns.enroll,
        test=columns.test,
        scores=columns.scores,
        target=columns.target,
        column=form.column,
        source=str(path),
    )


def write_scores(
    path: Path,
    names: Sequence[str],
    trials: Trials,
    scores: NDArray[np.float32],
    llrs: NDArray[np.float64] | None = None,
    *,
    enroll_names: Sequence[str] | None = None,
) -> None:
    """Write a score file with the columns enroll, test, target, score and, where there are LLRs, llr; atomically.

    Scores are written so that they read back as the same float32, LLRs to six digits.

    Parameters
    ----------
    names
        [n] names of the recordings that the trials are pairs of.
    scores, llrs
        [m], one for each trial.
    enroll_names
        Names of the enrolled models, where the first side of the trials are models.
    """
    columns: list[Iterable[object]] = [
        ((enroll_names or names)[row] for row in trials.enroll.tolist()),
        (names[row] for row in trials.test.tolist()),
        map(int, trials.target.tolist()),
        (f"{score:.9g}" for score in scores.tolist()),
    ]
    header = ["enroll", "test", "target", "score"]
    if llrs is not None:
        header.append("llr")
        columns.append(f"{llr:.6g}" for llr in llrs.tolist())
    write_table(path, header, zip(*columns, strict=True))
