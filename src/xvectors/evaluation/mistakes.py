"""The errors at the threshold: how many there are, which speakers are confused, and which trials are the worst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.text import short_repr
from xvectors.trials import Trials

MAX_PAIRS = 15
MAX_TRIALS = 10
MAX_MISSES_OF_SPEAKER = 2


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class DecidedTrials:
    """Trials, the scores [m] and the threshold that decide them, and the speakers of the recordings [n]."""

    trials: Trials
    scores: NDArray[np.floating[Any]]
    threshold: float
    speakers: tuple[str, ...]
    speaker_index: NDArray[np.int32]

    @property
    def accepted(self) -> NDArray[np.bool_]:
        return np.asarray(self.scores >= np.asarray(self.threshold).astype(self.scores.dtype))

    @property
    def misses(self) -> NDArray[np.int64]:
        """Indices of the target trials that are rejected."""
        return np.flatnonzero(self.trials.target & ~self.accepted)

    @property
    def false_accepts(self) -> NDArray[np.int64]:
        """Indices of the non-target trials that are accepted."""
        return np.flatnonzero(~self.trials.target & self.accepted)

    def speaker_pairs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the two speakers of each trial, the lower index first."""
        speaker = self.speaker_index.astype(np.int64)
        enroll, test = speaker[self.trials.enroll[rows]], speaker[self.trials.test[rows]]
        return np.minimum(enroll, test), np.maximum(enroll, test)


@dataclass(frozen=True, kw_only=True)
class ConfusablePair:
    """Two speakers of the manifest and their non-target trials; `trial` is the one with the highest score."""

    speaker_a: int
    speaker_b: int
    mean_score: float
    num_trials: int
    num_accepted: int
    trial: int


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Mistakes:
    """The errors at the threshold.

    Attributes
    ----------
    num_misses, num_false_accepts : int
        Target trials rejected, and non-target trials accepted.
    num_miss_speakers, num_false_accept_speakers : int
        The number of speakers that take part in these errors.
    confusable_pairs : tuple of ConfusablePair
        The pairs of speakers whose non-target trials have the highest mean score, highest first.
    worst_misses : int64 [k]
        The rejected target trials with the lowest scores, at most two of a speaker.
    worst_false_accepts : int64 [k]
        The accepted non-target trials with the highest scores, one of each pair of speakers.
    """

    num_misses: int
    num_false_accepts: int
    num_miss_speakers: int
    num_false_accept_speakers: int
    confusable_pairs: tuple[ConfusablePair, ...]
    worst_misses: NDArray[np.int64]
    worst_false_accepts: NDArray[np.int64]


def find_mistakes(decided: DecidedTrials) -> Mistakes:
    """Collect the errors of the trials."""
    misses, accepts = decided.misses, decided.false_accepts
    by_score = misses[np.argsort(decided.scores[misses], kind="stable")]
    by_falling_score = accepts[np.argsort(-decided.scores[accepts], kind="stable")]
    return Mistakes(
        num_misses=len(misses),
        num_false_accepts=len(accepts),
        num_miss_speakers=len(np.union1d(*decided.speaker_pairs(misses))),
        num_false_accept_speakers=len(np.union1d(*decided.speaker_pairs(accepts))),
        confusable_pairs=_confusable_pairs(decided),
        worst_misses=_first_of_each_pair(decided, by_score, each=MAX_MISSES_OF_SPEAKER),
        worst_false_accepts=_first_of_each_pair(decided, by_falling_score, each=1),
    )


def _confusable_pairs(decided: DecidedTrials) -> tuple[ConfusablePair, ...]:
    scores = decided.scores
    rows = np.flatnonzero(~decided.trials.target)
    a, b = decided.speaker_pairs(rows)
    num_speakers = len(decided.speakers)
    keys, pair = np.unique(a * num_speakers + b, return_inverse=True)
    numbers = np.bincount(pair)
    means = np.bincount(pair, scores[rows]) / numbers
    accepted = np.bincount(pair, decided.accepted[rows])
    found = []
    for at in np.argsort(-means, kind="stable")[:MAX_PAIRS].tolist():
        of_pair = rows[pair == at]
        found.append(
            ConfusablePair(
                speaker_a=int(keys[at] // num_speakers),
                speaker_b=int(keys[at] % num_speakers),
                mean_score=float(means[at]),
                num_trials=int(numbers[at]),
                num_accepted=int(accepted[at]),
                trial=int(of_pair[np.argmax(scores[of_pair])]),
            )
        )
    return tuple(found)


def _first_of_each_pair(decided: DecidedTrials, rows: NDArray[np.int64], *, each: int) -> NDArray[np.int64]:
    """Return the first MAX_TRIALS rows, at most `each` of a pair of speakers."""
    taken: dict[tuple[int, int], int] = {}
    chosen: list[int] = []
    a, b = decided.speaker_pairs(rows)
    for row, pair in zip(rows.tolist(), zip(a.tolist(), b.tolist(), strict=True), strict=True):
        if len(chosen) == MAX_TRIALS:
            break
        if taken.get(pair, 0) < each:
            taken[pair] = taken.get(pair, 0) + 1
            chosen.append(row)
    return np.array(chosen, dtype=np.int64)
