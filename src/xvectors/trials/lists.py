"""Lists of trials by name: the irregular ones, and the rows of the embedding matrix that the names stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import ManifestError
from xvectors.text import MAX_EXAMPLES, agree, count, first_few, short_repr
from xvectors.trials.enrollment import Enrollment
from xvectors.trials.names import RecordingRows
from xvectors.trials.pairs import Trials
from xvectors.trials.sorting import blocks


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


@short_repr()
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
            findings = replace(findings, num_unknown=left_out, unknown_examples=tuple(missing[: MAX_EXAMPLES + 1]))
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
                examples = [*findings.self_examples, *self._examples(np.flatnonzero(selves))][: MAX_EXAMPLES + 1]
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
        self_examples = [*findings.self_examples, *self._examples(at[selves])][: MAX_EXAMPLES + 1]
        duplicate_examples = [*findings.duplicate_examples, *self._examples(at[repeats])][: MAX_EXAMPLES + 1]
        more = replace(
            findings,
            num_self=findings.num_self + int(np.count_nonzero(selves)),
            num_duplicates=findings.num_duplicates + int(np.count_nonzero(repeats)),
            self_examples=tuple(self_examples),
            duplicate_examples=tuple(duplicate_examples),
        )
        return more, faulty

    def _examples(self, at: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(f"{self.names[self.enroll[i]]} {self.names[self.test[i]]}" for i in at[: MAX_EXAMPLES + 1])


def repeated_pairs(
    enroll: NDArray[np.integer], test: NDArray[np.integer], *, symmetric: bool = True
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Find self-trials and repeated trials among trials [m].

    Returns bool [m] self-trials, bool [m] other trials that repeat an earlier one, and int64 [m] the first equal trial
    of each. If both sides number the same things (`symmetric`), either order is the same trial; otherwise there are no
    self-trials.
    """
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
