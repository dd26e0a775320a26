"""Read and write trial lists: `1 a b` (VoxCeleb), `a b target` (Kaldi, NIST SRE), or CSV.

A million lines take two to three seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import Codes
from xvectors.errors import ConfigError, ManifestError
from xvectors.files import atomic_write
from xvectors.files.tables import Table, write_table
from xvectors.text import FEW, agree, brief, count, first_few
from xvectors.trials.enrollment import Enrollment
from xvectors.trials.headers import ALIASES, header_columns
from xvectors.trials.names import RecordingRows
from xvectors.trials.pairs import Trials
from xvectors.trials.sorting import blocks
from xvectors.trials.text import text_lines

LINES_AT_A_TIME = 16_384
FORMS = ("csv", "voxceleb", "kaldi")
LABELS = {
    **dict.fromkeys(("1", "target", "tgt", "true"), True),
    **dict.fromkeys(("0", "nontarget", "non-target", "nontgt", "imposter", "impostor", "imp", "false"), False),
}


@dataclass(frozen=True, kw_only=True)
class TrialFindings:
    """Counts of irregular trials in a list, with examples."""

    num_read: int
    num_self: int = 0
    """Trials of a recording with itself, or with a model enrolled from it, whose scores are meaningless."""
    num_duplicates: int = 0
    """Trials that repeat the names and the label of an earlier one, in either order."""
    num_unknown: int = 0
    """Trials of unknown recordings or models."""
    self_examples: tuple[str, ...] = ()
    duplicate_examples: tuple[str, ...] = ()
    unknown_examples: tuple[str, ...] = ()
    dropped: bool = True
    """Whether self-trials and duplicates were left out."""

    def lines(self) -> list[str]:
        """Return the findings as lines of text; empty for a regular list."""
        fate = "left out" if self.dropped else "kept"
        found = (
            (self.num_self, f"of a recording with itself, {fate}", self.self_examples),
            (self.num_duplicates, f"that repeat an earlier one, {fate}", self.duplicate_examples),
            (self.num_unknown, "of unknown recordings, left out", self.unknown_examples),
        )
        return [f"{n} of {self.num_read} trials {what}: {first_few(examples)}" for n, what, examples in found if n]


@dataclass(frozen=True, kw_only=True)
class ResolvedTrials:
    """Trials by row, and what was left out."""

    trials: Trials
    findings: TrialFindings


@brief()
@dataclass(frozen=True, kw_only=True, eq=False)
class TrialList:
    """Trials by name.

    Attributes
    ----------
    names : all names of both sides, without repetition
    enroll, test : int32 [m], into `names`
    target : bool [m]
    """

    names: tuple[str, ...]
    enroll: NDArray[np.int32]
    test: NDArray[np.int32]
    target: NDArray[np.bool_]
    source: str
    findings: TrialFindings

    def __len__(self) -> int:
        return len(self.target)

    def resolve(
        self, recordings: RecordingRows, enrollment: Enrollment | None = None, *, drop_unknown: bool = False
    ) -> ResolvedTrials:
        """Return the trials as rows of the embedding matrix.

        With an `enrollment`, the enroll side numbers its models in their order, and trials of a model with a recording
        that it was enrolled from are self-trials. Self-trials and duplicates under two spellings of a recording (`a`
        and `a.wav`) are counted and left out like all others.

        Raises
        ------
        ManifestError
            For unknown names; with `drop_unknown` their trials are counted and left out, and it is an error only if no
            trials remain. For a pair of recordings that is both target and non-target under two spellings.
        """
        rows = recordings.rows(self.names)
        enroll_rows = rows
        if enrollment is not None:
            numbers = {name: number for number, name in enumerate(enrollment.models)}
            enroll_rows = np.array([numbers.get(name, -1) for name in self.names], dtype=np.int32)
        enroll, test = enroll_rows[self.enroll], rows[self.test]
        known = (enroll >= 0) & (test >= 0)
        findings = self.findings
        if not known.all():
            of_enroll, of_test = np.unique(self.enroll[enroll < 0]), np.unique(self.test[test < 0])
            missing = [self.names[at] for at in np.union1d(of_enroll, of_test)]
            left_out = len(known) - int(np.count_nonzero(known))
            if not drop_unknown or not known.any():
                raise ManifestError(
                    f"{self.source}: {left_out} of {count(len(self), 'trial')} "
                    f"{agree(left_out, 'names', 'name')} unknown recordings or models, "
                    f"{len(missing)} in all: {first_few(missing)}; embed them, or correct the names"
                )
            findings = replace(findings, num_unknown=left_out, unknown_examples=tuple(missing[: FEW + 1]))
        found = rows[rows >= 0]
        if len(np.unique(found)) < len(found):
            findings, faulty = self._faults_by_row(findings, enroll, test, known, symmetric=enrollment is None)
            if findings.dropped:
                known &= ~faulty
        if enrollment is not None:
            own_rows, models = enrollment.resolve(recordings)
            own = np.unique(models.astype(np.int64) * len(recordings) + own_rows)
            selves = known & np.isin(enroll.astype(np.int64) * len(recordings) + test, own)
            if selves.any():
                examples = [*findings.self_examples, *self._examples(np.flatnonzero(selves))][: FEW + 1]
                findings = replace(
                    findings,
                    num_self=findings.num_self + int(np.count_nonzero(selves)),
                    self_examples=tuple(examples),
                )
                if findings.dropped:
                    known &= ~selves
        trials = Trials(enroll=enroll[known], test=test[known], target=self.target[known])
        return ResolvedTrials(trials=trials, findings=findings)

    def speakers(self) -> NDArray[np.int32]:
        """Number speakers [names] for lists that do not state them: names connected by target trials are one speaker.

        A name without a target trial counts as a speaker, so that confidence intervals over speakers are too narrow if
        there are many such names. Prefer the speakers of a manifest.

        Raises
        ------
        ManifestError
            For a non-target trial of two names that target trials connect.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        joined = self.enroll[self.target], self.test[self.target]
        graph = coo_array((np.ones(len(joined[0]), dtype=bool), joined), shape=(len(self.names), len(self.names)))
        speakers: NDArray[np.int32] = connected_components(graph, directed=False)[1]
        wrong = np.concatenate([
            part.start
            + np.flatnonzero((speakers[self.enroll[part]] == speakers[self.test[part]]) & ~self.target[part])
            for part in blocks(len(self))
        ])  # fmt: skip
        if len(wrong):
            raise ManifestError(
                f"{self.source}: {count(len(wrong), 'non-target trial')} {agree(len(wrong), 'is', 'are')} of names "
                "that target trials assign to one speaker: "
                f"{first_few(self._examples(wrong))}; correct the labels"
            )
        return speakers

    def _faults_by_row(
        self,
        findings: TrialFindings,
        enroll: NDArray[np.int32],
        test: NDArray[np.int32],
        known: NDArray[np.bool_],
        *,
        symmetric: bool,
    ) -> tuple[TrialFindings, NDArray[np.bool_]]:
        """Add the irregular trials that only rows reveal, and return which trials [m] they are."""
        at = np.flatnonzero(known)
        (selves, repeats, first), (by_name, repeats_by_name, _) = (
            repeated_pairs(side_a[at], side_b[at], symmetric=symmetric)
            for side_a, side_b in ((enroll, test), (self.enroll, self.test))
        )
        against = at[self.target[at] != self.target[at[first]]]
        if len(against):
            raise ManifestError(
                f"{self.source}: {count(len(against), 'trial')} {agree(len(against), 'is', 'are')} labeled "
                "both target and non-target under two spellings of a "
                f"recording's name: {first_few(self._examples(against))}; correct the labels"
            )
        selves, repeats = selves & ~by_name, repeats & ~repeats_by_name
        faulty = np.zeros(len(self), dtype=bool)
        faulty[at] = selves | repeats
        self_examples = [*findings.self_examples, *self._examples(at[selves])][: FEW + 1]
        duplicate_examples = [*findings.duplicate_examples, *self._examples(at[repeats])][: FEW + 1]
        more = replace(
            findings,
            num_self=findings.num_self + int(np.count_nonzero(selves)),
            num_duplicates=findings.num_duplicates + int(np.count_nonzero(repeats)),
            self_examples=tuple(self_examples),
            duplicate_examples=tuple(duplicate_examples),
        )
        return more, faulty

    def _examples(self, at: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(f"{self.names[self.enroll[i]]} {self.names[self.test[i]]}" for i in at[: FEW + 1])


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


Block = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]


def _table_blocks(path: Path, columns: dict[str, int], codes: Codes) -> Iterator[Block]:
    table, read = Table(path), 0
    for rows in table.blocks():
        cells = list(zip(*rows, strict=True))
        enroll, test, labels = ([cell.strip() for cell in cells[columns[name]]] for name in ALIASES)
        for side in (enroll, test, labels):
            if not all(side):
                line = table.line(read + side.index(""))
                raise ManifestError(f"{path}: line {line}: an empty cell; every trial needs enroll, test and target")
        if (bad := _first_bad(labels)) is not None:
            raise ManifestError(f"{path}: line {table.line(read + bad)}: {_bad_label(labels[bad])}")
        read += len(rows)
        yield codes.encode(enroll), codes.encode(test), _truth(labels)


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


def repeated_pairs(
    enroll: NDArray[np.integer], test: NDArray[np.integer], *, symmetric: bool = True
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Of trials [m] between things numbered from 0: which are of one thing with itself, which others repeat an earlier
    one, and the first like each. Where both sides number the same (`symmetric`) either order counts, else no trial is
    of one thing with itself."""
    left, right = (np.minimum(enroll, test), np.maximum(enroll, test)) if symmetric else (enroll, test)
    key = left.astype(np.int64) * (int(right.max(initial=0)) + 1) + right
    selves = enroll == test if symmetric else np.zeros(len(key), dtype=bool)
    first, repeats = np.arange(len(key)), np.zeros(len(key), dtype=bool)
    ordered = np.sort(key)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return selves, repeats, first
    # only repeated trials are put in order, which takes far longer than sorting
    some = np.flatnonzero(twice[np.minimum(np.searchsorted(twice, key), len(twice) - 1)] == key)
    some = some[np.argsort(key[some], kind="stable")]
    again = np.append(False, key[some][1:] == key[some][:-1])
    first[some] = some[np.maximum.accumulate(np.where(again, 0, np.arange(len(some))))]
    repeats[some[again]] = True
    return selves, repeats & ~selves, first


def _examined(found: TrialList, path: Path, is_table: bool) -> TrialList:
    """Count and drop self-trials and duplicates. Raises ManifestError for contradictory labels."""
    selves, duplicate, first = repeated_pairs(found.enroll, found.test)
    against = np.flatnonzero(found.target != found.target[first])
    if len(against):
        _raise_contradiction(found, path, is_table, against, first[against])
    return without(found, selves, duplicate)


def without(found: TrialList, selves: NDArray[np.bool_], duplicate: NDArray[np.bool_]) -> TrialList:
    """Count these trials and, unless the list is kept as published, drop them."""
    findings = replace(
        found.findings,
        num_self=int(np.count_nonzero(selves)),
        num_duplicates=int(np.count_nonzero(duplicate)),
        self_examples=found._examples(np.flatnonzero(selves)),
        duplicate_examples=found._examples(np.flatnonzero(duplicate)),
    )
    if not findings.dropped or not (findings.num_self or findings.num_duplicates):
        return replace(found, findings=findings)
    kept = ~(selves | duplicate)
    return replace(
        found, enroll=found.enroll[kept], test=found.test[kept], target=found.target[kept], findings=findings
    )


def _raise_contradiction(
    found: TrialList, path: Path, is_table: bool, later: NDArray[np.int64], first: NDArray[np.int64]
) -> None:
    table = Table(path) if is_table else None
    examples = []
    for at, before in list(zip(later.tolist(), first.tolist(), strict=True))[: FEW + 1]:
        lines = [table.line(row) if table else _text_line(path, row) for row in (before, at)]
        pair = f"{found.names[found.enroll[at]]} {found.names[found.test[at]]}"
        examples.append(f"{pair} (lines {lines[0]} and {lines[1]})")
    raise ManifestError(
        f"{path}: {count(len(later), 'trial')} {agree(len(later), 'is', 'are')} labeled both target and "
        f"non-target: {first_few(examples)}; correct the labels"
    )
