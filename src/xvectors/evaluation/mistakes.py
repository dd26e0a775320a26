"""Which speakers are taken for each other, and which trials are decided most wrongly. In: an evaluation.
Out: pairs of speakers, rows of trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xvectors.evaluation.measured import Measured


@dataclass(frozen=True, kw_only=True)
class ConfusablePair:
    """Two speakers of the manifest. `trial` is the one of their trials that scores highest."""

    speaker_a: int
    speaker_b: int
    mean_score: float
    num_trials: int
    num_accepted: int
    trial: int


def confusable_pairs(measured: Measured, most: int = 15) -> list[ConfusablePair]:
    """The speaker pairs whose non-target trials score highest on average, the most alike first."""
    trials, scores = measured.trials, measured.decisive
    rows = np.flatnonzero(~trials.target)
    a, b = trial_speakers(measured, rows)
    num_speakers = len(measured.manifest.speakers)
    keys, pair = np.unique(np.minimum(a, b) * num_speakers + np.maximum(a, b), return_inverse=True)
    numbers = np.bincount(pair)
    means = np.bincount(pair, scores[rows]) / numbers
    accepted = np.bincount(pair, scores[rows] >= measured.threshold)
    found = []
    for at in np.argsort(-means, kind="stable")[:most].tolist():
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
    return found


def worst_false_accepts(measured: Measured, most: int = 10) -> NDArray[np.int64]:
    """Rows of the non-target trials that are accepted with the highest scores, one of each pair of speakers."""
    rows = np.flatnonzero(~measured.trials.target & (measured.decisive >= measured.threshold))
    return _first_of_each(measured, rows[np.argsort(-measured.decisive[rows], kind="stable")], most, 1)


def worst_false_rejects(measured: Measured, most: int = 10) -> NDArray[np.int64]:
    """Rows of the target trials that are rejected with the lowest scores, at most two of a speaker."""
    rows = np.flatnonzero(measured.trials.target & (measured.decisive < measured.threshold))
    return _first_of_each(measured, rows[np.argsort(measured.decisive[rows], kind="stable")], most, 2)


def error_speakers(measured: Measured) -> tuple[int, int]:
    """How many speakers the false rejects, and the false accepts, at the threshold in use are of."""
    wrong = measured.trials.target != (measured.decisive >= measured.threshold)
    sides = (wrong & measured.trials.target, wrong & ~measured.trials.target)
    misses, accepts = (len(np.union1d(*trial_speakers(measured, np.flatnonzero(rows)))) for rows in sides)
    return misses, accepts


def _first_of_each(measured: Measured, rows: NDArray[np.int64], most: int, each: int) -> NDArray[np.int64]:
    a, b = trial_speakers(measured, rows)
    taken: dict[tuple[int, int], int] = {}
    chosen: list[int] = []
    for row, one, other in zip(rows.tolist(), np.minimum(a, b).tolist(), np.maximum(a, b).tolist(), strict=True):
        if len(chosen) == most:
            break
        seen = taken.get((one, other), 0)
        if seen < each:
            taken[one, other] = seen + 1
            chosen.append(row)
    return np.array(chosen, dtype=np.int64)


def trial_speakers(measured: Measured, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The speakers on either side of these trials."""
    speaker = measured.manifest.speaker_index.astype(np.int64)
    return speaker[measured.trials.enroll[rows]], speaker[measured.trials.test[rows]]
