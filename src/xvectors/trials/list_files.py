"""Read and write trial lists: `1 a b` (VoxCeleb), `a b target` (Kaldi, NIST SRE), or CSV.

A million lines take two to three seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import Codes
from xvectors.errors import ConfigError, ManifestError
from xvectors.files import atomic_write
from xvectors.files.tables import Table, distinct, write_table
from xvectors.text import MAX_EXAMPLES, agree, count, first_few
from xvectors.trials.headers import ALIASES, header_columns
from xvectors.trials.lists import TrialFindings, TrialList, repeated_pairs, without
from xvectors.trials.pairs import Trials
from xvectors.trials.text import text_lines

LINES_AT_A_TIME = 16_384
FORMS = ("csv", "voxceleb", "kaldi")
LABELS = {
    **dict.fromkeys(("1", "target", "tgt", "true"), True),
    **dict.fromkeys(("0", "nontarget", "non-target", "nontgt", "imposter", "impostor", "imp", "false"), False),
}


def read_trials(path: str | os.PathLike[str], *, as_published: bool = False) -> TrialList:
    """Read a trial list, and detect the position of its labels.

    Text has three fields per line, with the label first or last. A table has a header with enroll, test and target, or
    their aliases. Labels are 1 and 0, target and nontarget, and the like.

    Self-trials and duplicates are counted and left out. `as_published` keeps them, to reproduce published figures.

    Raises
    ------
    ManifestError
        For an unreadable or empty file, a line without three fields or without a label, labels on different sides, a
        list that is ambiguous, and contradictory labels. The message names the line.
    """
    path = Path(path)
    header = header_columns(path, ALIASES)
    codes = Codes()
    blocks = list(_text_blocks(path, codes) if header is None else _table_blocks(path, header, codes))
    if not blocks:
        raise ManifestError(f"{path}: is empty; a trial list has one trial per line, such as: a.wav b.wav target")
    enroll, test = (np.concatenate([block[side] for block in blocks]) for side in (0, 1))
    target = np.concatenate([block[2] for block in blocks])
    found = TrialList(
        names=tuple(codes),
        enroll=enroll,
        test=test,
        target=target,
        source=str(path),
        findings=TrialFindings(num_read=len(target), dropped=not as_published),
    )
    return _examined(found, path, header is not None)


def write_trials(path: str | os.PathLike[str], trials: Trials, recordings: Sequence[str], *, form: str = "csv") -> None:
    """Write a list for `read_trials` atomically.

    `form` is "csv" (columns enroll, test and target), "voxceleb" (`1 a b`) or "kaldi" (`a b target`).

    Raises
    ------
    ConfigError
        For an unknown form.
    ManifestError
        For names with spaces, which text lists cannot hold.
    StorageError
        If the file cannot be written.
    """
    if form not in FORMS:
        raise ConfigError(f"unknown form {form!r} of a trial list; give {', '.join(FORMS[:-1])} or {FORMS[-1]}")
    rows = zip(trials.enroll.tolist(), trials.test.tolist(), trials.target.tolist(), strict=True)
    if form == "csv":
        write_table(path, ["enroll", "test", "target"], ((recordings[e], recordings[t], int(y)) for e, t, y in rows))
        return
    spaced = [name for name in recordings if name.split() != [name]]
    if spaced:
        raise ManifestError(
            f"{count(len(spaced), 'recording')} {agree(len(spaced), 'has a name', 'have names')} with "
            f"spaces: {first_few(spaced)}; write a CSV table"
        )
    with atomic_write(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="") as text:
        if form == "voxceleb":
            text.writelines(f"{y:d} {recordings[e]} {recordings[t]}\n" for e, t, y in rows)
        else:
            words = ("nontarget", "target")
            text.writelines(f"{recordings[e]} {recordings[t]} {words[y]}\n" for e, t, y in rows)


S = TypeVar("S", bound=np.generic)
Block = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]


def _table_blocks(path: Path, columns: dict[str, int], codes: Codes) -> Iterator[Block]:
    table, read = Table(path), 0
    for block in table.columns():
        encoded = {}
        for name in ALIASES:
            cells, rows = distinct(block[columns[name]])
            encoded[name] = [cell.strip() for cell in cells], rows

        def fail(name: str, at: int, what: str, encoded: Any = encoded, read: int = read) -> NoReturn:
            rows = encoded[name][1]
            row = at if rows is None else int(np.argmax(rows == at))
            raise ManifestError(f"{path}: line {table.line(read + row)}: {what}")

        for name, (cells, _) in encoded.items():
            if not all(cells):
                fail(name, cells.index(""), "an empty cell; every trial needs enroll, test and target")
        labels, _ = encoded["target"]
        if (bad := _first_bad(labels)) is not None:
            fail("target", bad, _bad_label(labels[bad]))
        read += len(block[0])
        enroll, test = (_spread(codes.encode(cells), rows) for cells, rows in list(encoded.values())[:2])
        yield enroll, test, _spread(_truth(labels), encoded["target"][1])


def _spread(values: NDArray[S], rows: NDArray[np.int32] | None) -> NDArray[S]:
    return values if rows is None else values[rows]


def _text_blocks(path: Path, codes: Codes) -> Iterator[Block]:
    label_at: int | None = None
    read = 0
    lines = text_lines(path)
    while block := list(islice(lines, LINES_AT_A_TIME)):
        rows = [line.split() for line in block]
        if not all(rows):
            rows = [row for row in rows if row]
        if not rows:
            continue
        if set(map(len, rows)) != {3}:
            at = next(at for at, row in enumerate(rows) if len(row) != 3)
            raise ManifestError(
                f"{path}: line {_text_line(path, read + at)} has {len(rows[at])} fields; a trial has three, "
                "such as: a.wav b.wav target, or: 1 a.wav b.wav"
            )
        cells = list(zip(*rows, strict=True))
        if label_at is None:
            label_at = _label_place(path, rows)
        labels = cells[label_at]
        if (bad := _first_bad(labels)) is not None:
            raise _wrong_label(path, read + bad, rows[bad], label_at)
        read += len(rows)
        sides = [cells[at] for at in range(3) if at != label_at]
        yield codes.encode(sides[0]), codes.encode(sides[1]), _truth(labels)


def _label_place(path: Path, rows: list[list[str]]) -> int:
    """Return the field of the labels, 0 or 2, which the first unambiguous line decides."""
    for row in rows:
        fits = [at for at in (0, 2) if row[at].lower() in LABELS]
        if len(fits) == 1:
            return fits[0]
        if not fits:
            raise _wrong_label(path, rows.index(row), row, None)
    raise ManifestError(
        f"{path}: every line can be read with the label first or last, such as line {_text_line(path, 0)}: "
        f"{' '.join(rows[0])}; write a CSV table with the columns enroll, test and target"
    )


def _wrong_label(path: Path, at: int, row: list[str], label_at: int | None) -> ManifestError:
    line = f"{path}: line {_text_line(path, at)}"
    if label_at is None:
        return ManifestError(f"{line}: neither {row[0]!r} nor {row[2]!r} is a label; {_EXPECTED}")
    if row[2 - label_at].lower() in LABELS:
        here, before = ("last", "first") if label_at == 0 else ("first", "last")
        return ManifestError(f"{line} has its label {here}, the lines above {before}; use one order")
    return ManifestError(f"{line}: {_bad_label(row[label_at])}")


_EXPECTED = "write 1 or target, 0 or nontarget"


def _bad_label(label: str) -> str:
    return f"{label!r} is not a label; {_EXPECTED}"


def _first_bad(labels: Sequence[str]) -> int | None:
    bad = {label for label in set(labels) if label.lower() not in LABELS}
    return next(at for at, label in enumerate(labels) if label in bad) if bad else None


def _truth(labels: Sequence[str]) -> NDArray[np.bool_]:
    truth = {label: LABELS[label.lower()] for label in set(labels)}
    return np.fromiter(map(truth.__getitem__, labels), dtype=bool, count=len(labels))


def _text_line(path: Path, at: int) -> int:
    """Return the line of trial number `at`; blank lines are not trials."""
    filled = (number for number, line in enumerate(text_lines(path), start=1) if line.strip())
    return next(islice(filled, at, None))


def _examined(found: TrialList, path: Path, is_table: bool) -> TrialList:
    """Count and drop self-trials and duplicates. Raises ManifestError for contradictory labels."""
    selves, duplicate, first = repeated_pairs(found.enroll, found.test)
    against = np.flatnonzero(found.target != found.target[first])
    if len(against):
        _raise_contradiction(found, path, is_table, against, first[against])
    return without(found, selves, duplicate)


def _raise_contradiction(
    found: TrialList, path: Path, is_table: bool, later: NDArray[np.int64], first: NDArray[np.int64]
) -> None:
    table = Table(path) if is_table else None
    examples = []
    for at, before in list(zip(later.tolist(), first.tolist(), strict=True))[: MAX_EXAMPLES + 1]:
        lines = [table.line(row) if table else _text_line(path, row) for row in (before, at)]
        pair = f"{found.names[found.enroll[at]]} {found.names[found.test[at]]}"
        examples.append(f"{pair} (lines {lines[0]} and {lines[1]})")
    raise ManifestError(
        f"{path}: {count(len(later), 'trial')} {agree(len(later), 'is', 'are')} labeled both target and "
        f"non-target: {first_few(examples)}; correct the labels"
    )
