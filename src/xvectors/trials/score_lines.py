"""Read score files line by line, with errors that name the line. Other ways of reading must give the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import Codes
from xvectors.errors import ManifestError
from xvectors.files.tables import DELIMITERS, Table
from xvectors.trials.headers import ALIASES
from xvectors.trials.list_files import LABELS
from xvectors.trials.text import text_lines

LINES_AT_A_TIME = 16_384
SCORES = ("llr", "score", "scores", "cosine")
"""Names of columns with scores, the most specific first."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form of a score file, as its first line shows.

    `delimiter` is None if white space separates the fields. `places` maps enroll, test, score and target to the
    numbers of their fields; `header_line` is the line of the header, 0 for text without one.
    """

    delimiter: str | None
    width: int
    places: Mapping[str, int]
    header_line: int
    column: str

    @property
    def is_table(self) -> bool:
        return self.header_line > 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreColumns:
    """Sorted names, enroll and test as indices into them, int32 [m], scores float64 [m], target bool [m] or None."""

    names: tuple[str, ...]
    enroll: NDArray[np.int32]
    test: NDArray[np.int32]
    scores: NDArray[np.float64]
    target: NDArray[np.bool_] | None


def form_of(path: Path) -> Form:
    """Find the form from the first line that is not blank. Raises ManifestError for an unreadable or empty file."""
    first, number = "", 0
    for number, line in enumerate(text_lines(path), start=1):  # noqa: B007
        if line.strip():
            first = line
            break
    if not first:
        raise ManifestError(f"{path}: is empty; a score file has one trial per line, such as: a.wav b.wav 0.37 target")
    delimiter = max(DELIMITERS, key=first.count)
    header = [cell.strip().strip('"').lower() for cell in first.split(delimiter)]
    columns = _columns(header)
    if columns is not None:
        column = header[columns["score"]]
        return Form(delimiter=delimiter, width=len(header), places=columns, header_line=number, column=column)
    parted_by = delimiter if delimiter in first else None
    width = len(first.split(parted_by))
    places = _places(path, parted_by, width)
    return Form(delimiter=parted_by, width=width, places=places, header_line=0, column="score")


def read_lines(path: Path, form: Form) -> ScoreColumns:
    """Read a file line by line. Raises ManifestError as `read_scores` does."""
    codes = Codes()
    enroll, test, scores, labels = [], [], [], []
    for sides, block_scores, block_labels in _table_blocks(path, form) if form.is_table else _text_blocks(path, form):
        enroll.append(codes.encode(sides[0]))
        test.append(codes.encode(sides[1]))
        scores.append(block_scores)
        labels.append(block_labels)
    if not scores:
        raise ManifestError(f"{path}: has a header but no scores")
    names, sides_ranked = codes.ranked(np.concatenate([*enroll, *test]))
    half = len(sides_ranked) // 2
    return ScoreColumns(
        names=names,
        enroll=sides_ranked[:half],
        test=sides_ranked[half:],
        scores=np.concatenate(scores),
        target=None if labels[0] is None else np.concatenate([block for block in labels if block is not None]),
    )


Fail = Callable[[int, str], NoReturn]
"""Raises an error that names the line of a row."""
Block = tuple[tuple[Sequence[str], Sequence[str]], NDArray[np.float64], NDArray[np.bool_] | None]


def _columns(header: list[str]) -> dict[str, int] | None:
    """Map meanings to the columns of a table; None for text without a header."""
    found = {}
    for meaning, names in {**ALIASES, "score": SCORES}.items():
        at = [header.index(name) for name in names if name in header]
        if at:
            found[meaning] = at[0]
    return found if {"enroll", "test", "score"} <= set(found) else None


ORDERS = (
    ("enroll", "test", "score", "target"),
    ("enroll", "test", "target", "score"),  # SpeechBrain's recipe of speaker verification
    ("target", "enroll", "test", "score"),
    ("target", "score", "enroll", "test"),
)
EXAMPLE = "a.wav b.wav 0.37 target (or a.wav b.wav 0.37; a.wav b.wav 1 0.37; 1 a.wav b.wav 0.37)"
SAMPLED = 1000


def _places(path: Path, parted_by: str | None, width: int) -> dict[str, int]:
    """Choose the first of ORDERS that fits the first lines of the file, or else the first of all."""
    rows = [[cell.strip() for cell in line.split(parted_by)] for line in islice(text_lines(path), SAMPLED)]
    columns = list(zip(*(row for row in rows if len(row) == width), strict=True))
    for order in ORDERS if width == 4 else ():
        places = {what: at for at, what in enumerate(order)}
        labels, scores = columns[places["target"]], columns[places["score"]]
        if all(label.lower() in LABELS for label in labels) and all(map(_is_number, scores)):
            return places
    return {what: at for at, what in enumerate(ORDERS[0][:width])}


def _table_blocks(path: Path, form: Form) -> Iterator[Block]:
    table, read, places = Table(path), 0, form.places
    for rows in table.blocks():
        cells = list(zip(*rows, strict=True))

        def fail(at: int, what: str, read: int = read) -> NoReturn:
            raise ManifestError(f"{path}: line {table.line(read + at)}: {what}")

        labels = cells[places["target"]] if "target" in places else None
        yield _block(cells[places["enroll"]], cells[places["test"]], cells[places["score"]], labels, fail)
        read += len(rows)


def _text_blocks(path: Path, form: Form) -> Iterator[Block]:
    width, number = 0, 0
    lines = text_lines(path)
    while block := list(islice(lines, LINES_AT_A_TIME)):
        numbered = [(number + at, line) for at, line in enumerate(block, start=1) if line.strip()]
        number += len(block)
        rows = [[cell.strip() for cell in line.split(form.delimiter)] for _, line in numbered]
        if not rows:
            continue
        width = width or len(rows[0])
        if width not in (3, 4) or set(map(len, rows)) != {width}:
            at = next((at for at, row in enumerate(rows) if len(row) != width or width not in (3, 4)), 0)
            wanted = f"the lines above have {width}" if width in (3, 4) else "a scored trial has three or four"
            raise ManifestError(
                f"{path}: line {numbered[at][0]} has {len(rows[at])} fields, {wanted}: enroll test score [label], "
                f"such as {EXAMPLE}"
            )
        cells = list(zip(*rows, strict=True))

        def fail(at: int, what: str, numbered: list[tuple[int, str]] = numbered) -> NoReturn:
            raise ManifestError(f"{path}: line {numbered[at][0]}: {what}")

        enroll, test, scores = (cells[form.places[what]] for what in ("enroll", "test", "score"))
        yield _block(enroll, test, scores, cells[form.places["target"]] if width == 4 else None, fail)


def _block(
    enroll: Sequence[str], test: Sequence[str], scores: Sequence[str], labels: Sequence[str] | None, fail: Fail
) -> Block:
    try:
        values = np.array(list(map(float, scores)))
    except ValueError:
        at = next(at for at, score in enumerate(scores) if not _is_number(score))
        fail(at, f"the score {scores[at]!r} is not a number; write lines such as {EXAMPLE}")
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
