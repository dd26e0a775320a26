"""Verification trials: pairs of recordings, and whether both are of one speaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ManifestError, ShapeError
from xvectors.text import short_repr


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Trials:
    """Pairs of rows of an embedding matrix with their labels, booleans or 0 and 1, at nine bytes per trial.

    Raises ShapeError for other labels.
    """

    enroll: NDArray[np.int32]  # [m]
    test: NDArray[np.int32]  # [m]
    target: NDArray[np.bool_]  # [m]

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", checked_labels(self.target))

    def __len__(self) -> int:
        return len(self.target)

    @property
    def num_target(self) -> int:
        return int(np.count_nonzero(self.target))

    @property
    def num_nontarget(self) -> int:
        return len(self) - self.num_target

    def split(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Split scores [m] of these trials into target and non-target scores, each in the order of the trials."""
        if scores.shape != self.target.shape:
            raise ShapeError(f"scores have the shape {list(scores.shape)}, but there are {len(self)} trials")
        return scores[self.target], scores[~self.target]


def all_pairs(speaker_index: ArrayLike) -> Trials:
    """Compare every recording with every later one: the pairs i < j in row-major order, n (n - 1) / 2 trials.

    Parameters
    ----------
    speaker_index
        [n]: the speaker of each recording, as numbers or names.

    Raises
    ------
    ManifestError
        For fewer than two recordings, no target pair or no non-target pair.
    ShapeError
        For speakers that are not a list of integers or names.

    Notes
    -----
    The result takes 9 bytes per trial: 450 MB for 10,000 recordings. `all_pairs_scores` works without it.
    """
    speakers = speaker_numbers(speaker_index)
    n = len(speakers)
    num_target, num_nontarget = count_pairs(speakers)
    m = num_target + num_nontarget
    rows = np.arange(n, dtype=np.int32)
    enroll, test = np.empty(m, dtype=np.int32), np.empty(m, dtype=np.int32)
    target = np.empty(m, dtype=bool)
    start = 0
    for row in range(n - 1):
        end = start + n - 1 - row
        enroll[start:end] = row
        test[start:end] = rows[row + 1 :]
        np.equal(speakers[row + 1 :], speakers[row], out=target[start:end])
        start = end
    return Trials(enroll=enroll, test=test, target=target)


def across_sessions(trials: Trials, speakers: ArrayLike, sessions: ArrayLike) -> Trials:
    """Drop target trials within one session, for speakers who have target trials between two sessions.

    Recordings of one session share room, microphone and mood, which make them more alike than those of two days.

    Parameters
    ----------
    trials
        Pairs of rows.
    speakers
        [n]: the speaker of each row, as numbers or names.
    sessions
        [n]: names, "" where unknown. Trials with an unknown session are kept.
    """
    names = np.asarray(sessions, dtype=np.str_)
    enroll, test = names[trials.enroll], names[trials.test]
    known = trials.target & (enroll != "") & (test != "")
    numbers = speaker_numbers(speakers)[trials.enroll]
    has_two = np.unique(numbers[known & (enroll != test)])
    kept = ~(known & (enroll == test) & np.isin(numbers, has_two))
    return Trials(enroll=trials.enroll[kept], test=trials.test[kept], target=trials.target[kept])


def count_pairs(speaker_index: ArrayLike) -> tuple[int, int]:
    """Count the target and non-target trials of `all_pairs` without building them. Raises the same errors."""
    speakers = speaker_numbers(speaker_index)
    n = len(speakers)
    if n < 2:
        raise ManifestError(f"no trials: a trial compares two recordings, and there are {n}; add recordings")
    sizes = np.bincount(speakers).astype(np.int64)
    num_target = int((sizes * (sizes - 1) // 2).sum())
    num_nontarget = n * (n - 1) // 2 - num_target
    if num_target == 0:
        raise ManifestError(
            f"no target trials: every one of the {n} speakers has one recording; "
            "give at least one speaker two recordings"
        )
    if num_nontarget == 0:
        raise ManifestError(
            f"no non-target trials: all {n} recordings are of one speaker; add recordings of a second speaker"
        )
    return num_target, num_nontarget


def checked_labels(target: ArrayLike) -> NDArray[np.bool_]:
    """Return labels [m] as booleans. Raises ShapeError unless they are one-dimensional booleans, or 0 and 1."""
    labels: NDArray[Any] = np.asarray(target)
    if labels.ndim != 1:
        raise ShapeError(f"labels have the shape {list(labels.shape)}: give one label per trial, [trials]")
    if labels.dtype == np.bool_:
        return labels
    if labels.dtype.kind not in "iuf":
        raise ShapeError(f"labels are of type {labels.dtype}: give 1 for target and 0 for non-target trials")
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if len(wrong):
        raise ShapeError(f"label {wrong[0]} is {labels[wrong[0]]}: give 1 for target and 0 for non-target trials")
    return labels.astype(bool)


def speaker_numbers(speaker_index: ArrayLike) -> NDArray[np.int32]:
    """Number speakers [n], given as numbers or names, from 0 in sorted order."""
    array: NDArray[Any] = np.asarray(speaker_index)
    if array.ndim != 1:
        raise ShapeError(f"speakers have the shape {list(array.shape)}: give one speaker per recording")
    if array.size and array.dtype.kind not in "iuU":
        raise ShapeError(f"speakers are of type {array.dtype}: give integers or names")
    return np.unique(array, return_inverse=True)[1].astype(np.int32)
