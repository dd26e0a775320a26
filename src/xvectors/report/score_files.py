"""Files of scores, ours and other toolkits'. In: `enroll test score [label]` as text, or a table with a header; perhaps
a trial list with the labels. Out: scored trials by name, ready to be measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import Codes
from xvectors.corpus.table import DELIMITERS, Table
from xvectors.errors import ManifestError
from xvectors.report.measuring import Measurement, measure
from xvectors.scoring import RecordingRows, TrialFindings, TrialList, read_trials
from xvectors.scoring.text import text_lines
from xvectors.scoring.trial_lists import ALIASES, LABELS

LINES_AT_A_TIME = 16_384
SCORES = ("llr", "score", "scores", "cosine")
"""Columns that hold scores, the one that says most first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreFile:
    """Scored pairs of names.

    Attributes
    ----------
    names : every name on either side, once
    enroll, test : int32 [m], into `names`
    scores : float64 [m], finite
    target : bool [m], None for a file without labels
    column : what the scores are called, "score" where there is no header
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

    def labelled(self, trials: TrialList | None = None) -> tuple[TrialList, NDArray[np.float64]]:
        """Trials and the score of each [m]: the file's own, or those of a list, in its order, either side first.

        Raises
        ------
        ManifestError
            Labels nowhere; trials that have no score, of names that are not in the file, or labelled otherwise there.
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
                findings=TrialFindings(num_read=len(self)),
            )
            return own, self.scores
        rows = RecordingRows(self.names).rows(trials.names)
        used = np.unique(np.concatenate([trials.enroll, trials.test]))
        missing = [trials.names[at] for at in used if rows[at] < 0]
        if missing:
            raise ManifestError(
                f"{trials.source}: {len(missing)} names are not in {self.source}, such as {', '.join(missing[:3])}; "
                "name the list that was scored"
            )
        at = self._places(rows[trials.enroll], rows[trials.test])
        lost = np.flatnonzero(at < 0)
        if len(lost):
            first = f"{trials.names[trials.enroll[lost[0]]]} {trials.names[trials.test[lost[0]]]}"
            raise ManifestError(
                f"{self.source}: {len(lost)} of {len(trials)} trials of {trials.source} have no score, such as "
                f"{first}; score them, or name the list that was scored"
            )
        if self.target is not None:
            wrong = np.flatnonzero(self.target[at] != trials.target)
            if len(wrong):
                first = f"{trials.names[trials.enroll[wrong[0]]]} {trials.names[trials.test[wrong[0]]]}"
                raise ManifestError(
                    f"{self.source} and {trials.source} label {len(wrong)} trials differently, such as {first}; "
                    "correct one of them"
                )
        return trials, self.scores[at]

    def _places(self, enroll: NDArray[np.int32], test: NDArray[np.int32]) -> NDArray[np.int64]:
        """[k] which line has the score of each pair of names: in this order, else in the other; -1 for none."""
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


def measure_score_file(
    path: str | os.PathLike[str], trials: str | os.PathLike[str] | None = None, *, p_target: float = 0.01
) -> tuple[Measurement, TrialList]:
    """Measure a score file, its labels its own or those of the list `trials`.

    Cllr and actual DCF take the scores for natural-log LLRs. Intervals resample speakers: names that target trials
    join count as one speaker (see `TrialList.speakers`).

    Raises ManifestError for a file or list that cannot be read or does not fit, or trials of one kind only.
    """
    scored = read_scores(path)
    listed, scores = scored.labelled(None if trials is None else read_trials(trials))
    for kind, number in (("target", listed.target.sum()), ("non-target", (~listed.target).sum())):
        if not number:
            raise ManifestError(f"{listed.source}: no {kind} trials; error rates need trials of both kinds")
    speakers = listed.speakers()
    measurement = measure(
        scores,
        listed.target,
        speakers[listed.enroll],
        speakers[listed.test],
        are_llrs=True,
        threshold=None,
        p_target=p_target,
    )
    return measurement, replace(listed, source=scored.source)


def read_scores(path: str | os.PathLike[str]) -> ScoreFile:
    """Read `enroll test score` or `enroll test score label` a line, parted by spaces or commas, or a table whose header
    names enroll, test, score or llr, and perhaps target (the aliases of trial lists are understood).

    Raises
    ------
    ManifestError
        An unreadable or empty file; a line with another number of fields, a score that is NaN, infinite or no number,
        or a label that is none. The message names the line.
    """
    path = Path(path)
    first = next((line for line in text_lines(path) if line.strip()), "")
    if not first:
        raise ManifestError(f"{path}: is empty; a score file has one trial a line, such as: a.wav b.wav 0.37 target")
    delimiter = max(DELIMITERS, key=first.count)
    header = [cell.strip().strip('"').lower() for cell in first.split(delimiter)]
    columns = _columns(header)
    codes = Codes()
    parted_by = delimiter if delimiter in first else None
    blocks = _text_blocks(path, parted_by) if columns is None else _table_blocks(path, columns)
    enroll, test, scores, labels = [], [], [], []
    for sides, block_scores, block_labels in blocks:
        enroll.append(codes.encode(sides[0]))
        test.append(codes.encode(sides[1]))
        scores.append(block_scores)
        labels.append(block_labels)
    if not scores:
        raise ManifestError(f"{path}: has a header but no scores")
    return ScoreFile(
        names=tuple(codes),
        enroll=np.concatenate(enroll),
        test=np.concatenate(test),
        scores=np.concatenate(scores),
        target=None if labels[0] is None else np.concatenate([block for block in labels if block is not None]),
        column="score" if columns is None else header[columns["score"]],
        source=str(path),
    )


Fail = Callable[[int, str], NoReturn]
"""Raises with the line of a row."""
Block = tuple[tuple[Sequence[str], Sequence[str]], NDArray[np.float64], NDArray[np.bool_] | None]


def _columns(header: list[str]) -> dict[str, int] | None:
    """Which column of a table is which; None for text without a header."""
    found = {}
    for meaning, names in {**ALIASES, "score": SCORES}.items():
        at = [header.index(name) for name in names if name in header]
        if at:
            found[meaning] = at[0]
    return found if {"enroll", "test", "score"} <= set(found) else None


def _table_blocks(path: Path, columns: dict[str, int]) -> Iterator[Block]:
    table, read = Table(path), 0
    for rows in table.blocks():
        cells = list(zip(*rows, strict=True))

        def fail(at: int, what: str, read: int = read) -> NoReturn:
            raise ManifestError(f"{path}: line {table.line(read + at)}: {what}")

        labels = cells[columns["target"]] if "target" in columns else None
        yield _block(cells[columns["enroll"]], cells[columns["test"]], cells[columns["score"]], labels, fail)
        read += len(rows)


def _text_blocks(path: Path, delimiter: str | None) -> Iterator[Block]:
    width, number = 0, 0
    lines = text_lines(path)
    while block := list(islice(lines, LINES_AT_A_TIME)):
        numbered = [(number + at, line) for at, line in enumerate(block, start=1) if line.strip()]
        number += len(block)
        rows = [[cell.strip() for cell in line.split(delimiter)] for _, line in numbered]
        if not rows:
            continue
        width = width or len(rows[0])
        if width not in (3, 4) or set(map(len, rows)) != {width}:
            at = next((at for at, row in enumerate(rows) if len(row) != width or width not in (3, 4)), 0)
            wanted = f"the lines above have {width}" if width in (3, 4) else "a scored trial has three or four"
            raise ManifestError(
                f"{path}: line {numbered[at][0]} has {len(rows[at])} fields, {wanted}: enroll test score [label]"
            )
        cells = list(zip(*rows, strict=True))

        def fail(at: int, what: str, numbered: list[tuple[int, str]] = numbered) -> NoReturn:
            raise ManifestError(f"{path}: line {numbered[at][0]}: {what}")

        yield _block(cells[0], cells[1], cells[2], cells[3] if width == 4 else None, fail)


def _block(
    enroll: Sequence[str], test: Sequence[str], scores: Sequence[str], labels: Sequence[str] | None, fail: Fail
) -> Block:
    try:
        values = np.array(list(map(float, scores)))
    except ValueError:
        at = next(at for at, score in enumerate(scores) if not _is_number(score))
        fail(at, f"the score {scores[at]!r} is no number")
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        fail(at, f"the score is {scores[at]}; leave the trial out, or score it again")
    if labels is None:
        return (enroll, test), values, None
    known = {label: LABELS.get(label.strip().lower()) for label in set(labels)}
    if None in known.values():
        at = next(at for at, label in enumerate(labels) if known[label] is None)
        fail(at, f"{labels[at]!r} is not a label; write 1 or target, 0 or nontarget")
    return (enroll, test), values, np.array([bool(known[label]) for label in labels])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
