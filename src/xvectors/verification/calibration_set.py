"""The calibration set: embeddings of whole recordings and crops, copies of them under made shifts, and their trials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio.condition import CONDITION_NAMES
from xvectors.backends.estimator import real_rows
from xvectors.errors import ShapeError
from xvectors.text import short_repr
from xvectors.trials import Trials, sample_recordings
from xvectors.trials.pairs import across_sessions, speaker_numbers

MAX_ROWS = 3000
"""Largest number of recordings and crops to compare in pairs: 4.5 million trials."""
MAX_NONTARGETS = 1500
"""Largest number of non-target trials of one shift, way of pairing and domain."""
AS_RECORDED, BOTH_SIDES, ONE_SIDE = "as recorded", "both sides", "one side"


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Basis:
    """The calibration set: n embeddings of whole recordings and crops.

    Attributes
    ----------
    embeddings : [n, D]
    speakers : [n] names
    recording : [n] number of the recording; its crops share it
    duration_s : [n] embedded seconds
    whole : bool [n] whether the row is the whole recording
    domain : [n] names; trials are between rows of one domain. None: all rows are of one.
    session : [n] names, "" where unknown. Target trials are between two sessions for speakers who have two. None: all
        are unknown.
    condition : float32 [n, 6], the measures of `audio.condition`, NaN where unknown. None: all are unknown.
    """

    embeddings: NDArray[np.float32]
    speakers: NDArray[np.str_]
    recording: NDArray[np.int64]
    duration_s: NDArray[np.float64]
    whole: NDArray[np.bool_]
    domain: NDArray[np.str_] | None = None
    session: NDArray[np.str_] | None = None
    condition: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        rows = len(real_rows(self.embeddings))
        for name in ("speakers", "recording", "duration_s", "whole", "domain", "session"):
            value = getattr(self, name)
            if value is not None and (shape := value.shape) != (rows,):
                raise ShapeError(f"{name} has the shape {list(shape)}, but there are {rows} embeddings")
        if self.condition is not None and (shape := self.condition.shape) != (wanted := (rows, len(CONDITION_NAMES))):
            raise ShapeError(f"condition has the shape {list(shape)}, not {list(wanted)}")

    @property
    def num_across_sessions(self) -> int:
        """Number of speakers whose target trials are between two sessions."""
        if self.session is None:
            return 0
        known = self.session != ""
        pairs = np.unique(np.stack([self.speakers[known], self.session[known]]), axis=1)
        return int(np.count_nonzero(np.unique(pairs[0], return_counts=True)[1] >= 2))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the known attributes by name, as `numpy.savez` keeps them and `Basis(**arrays)` takes them."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def take(self, rows: ArrayLike) -> Basis:
        at = np.asarray(rows)
        return Basis(
            embeddings=self.embeddings[at],
            speakers=self.speakers[at],
            recording=self.recording[at],
            duration_s=self.duration_s[at],
            whole=self.whole[at],
            domain=None if self.domain is None else self.domain[at],
            session=None if self.session is None else self.session[at],
            condition=None if self.condition is None else self.condition[at],
        )


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Shifted:
    """Copies of recordings of a calibration set under made shifts.

    Attributes
    ----------
    basis : the copies; `recording` is the number of the recording that a copy is of
    shift : [n] name of the shift of each copy
    """

    basis: Basis
    shift: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.shift.shape != self.basis.speakers.shape:
            raise ShapeError(f"{len(self.shift)} shifts of {len(self.basis.speakers)} copies: name one for each")

    def take(self, rows: NDArray[Any]) -> Shifted:
        return Shifted(basis=self.basis.take(rows), shift=self.shift[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftTrials:
    """Trials under one shift, between rows of the recordings followed by the copies."""

    shift: str
    paired: str
    enroll: NDArray[np.int32]
    test: NDArray[np.int32]
    target: NDArray[np.bool_]


def some_recordings(basis: Basis, seed: int, at_most: int | None = None) -> Basis:
    """Draw about `at_most` rows, by default MAX_ROWS: equally many recordings of each speaker, with their crops."""
    most = MAX_ROWS if at_most is None else at_most
    if len(basis.speakers) <= most:
        return basis
    recordings, first = np.unique(basis.recording, return_index=True)
    speakers = speaker_numbers(basis.speakers[first])
    room = most * len(recordings) // len(basis.speakers)
    each = max(2, room // (int(speakers.max()) + 1))
    kept = sample_recordings(speakers, each=each, at_most=len(recordings), seed=seed)
    return basis.take(np.isin(basis.recording, recordings[kept]))


def all_trials(basis: Basis) -> Trials:
    """Return all pairs of rows of two recordings of one domain; of speakers with two sessions, of two sessions."""
    speakers = speaker_numbers(basis.speakers)
    domains = np.zeros(len(speakers), dtype=np.int64) if basis.domain is None else speaker_numbers(basis.domain)
    enroll, test = [], []
    for row in range(len(speakers) - 1):
        others = np.arange(row + 1, len(speakers), dtype=np.int32)
        paired = (basis.recording[others] != basis.recording[row]) & (domains[others] == domains[row])
        test.append(others[paired])
        enroll.append(np.full(len(test[-1]), row, dtype=np.int32))
    left, right = np.concatenate(enroll), np.concatenate(test)
    trials = Trials(enroll=left, test=right, target=speakers[left] == speakers[right])
    return trials if basis.session is None else across_sessions(trials, speakers, basis.session)


def shift_trials(
    whole: Basis, copies: Shifted, rng: np.random.Generator, max_nontargets: int = MAX_NONTARGETS
) -> Iterator[ShiftTrials]:
    """Yield the trials of each shift and way of pairing, by domain, where both kinds of trials are found."""
    speakers = speaker_numbers(np.concatenate([whole.speakers, copies.basis.speakers]))
    recording = np.concatenate([whole.recording, copies.basis.recording])
    domain = np.zeros_like(speakers)
    if whole.domain is not None and copies.basis.domain is not None:
        domain = speaker_numbers(np.concatenate([whole.domain, copies.basis.domain]))
    session = None
    if whole.session is not None and copies.basis.session is not None:
        session = np.concatenate([whole.session, copies.basis.session])
    shift = np.concatenate([np.full(len(whole.speakers), ""), copies.shift])
    for kind in np.unique(domain):
        here = np.flatnonzero((domain == kind) & (shift == ""))
        for name in ("", *sorted(set(copies.shift.tolist()))):
            there = np.flatnonzero((domain == kind) & (shift == name))
            for paired in (BOTH_SIDES, ONE_SIDE) if name else (AS_RECORDED,):
                left = here if paired == ONE_SIDE else there
                i, j = (side.ravel() for side in np.meshgrid(left, there, indexing="ij"))
                kept = (recording[i] != recording[j]) & ((i < j) | (paired == ONE_SIDE))
                i, j = i[kept].astype(np.int32), j[kept].astype(np.int32)
                trials = Trials(enroll=i, test=j, target=speakers[i] == speakers[j])
                if session is not None:
                    trials = across_sessions(trials, speakers, session)
                others = np.flatnonzero(~trials.target)
                if not trials.num_target or not len(others):
                    continue
                if len(others) > max_nontargets:
                    others = rng.choice(others, max_nontargets, replace=False)
                chosen = np.sort(np.concatenate([np.flatnonzero(trials.target), others]))
                yield ShiftTrials(
                    shift=name or AS_RECORDED,
                    paired=paired,
                    enroll=trials.enroll[chosen],
                    test=trials.test[chosen],
                    target=trials.target[chosen],
                )
