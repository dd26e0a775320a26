"""Samplers: the order of the training rows in an epoch.

Each order is a pure function of a random generator, with the same length in every epoch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import ConfigError
from xvectors.text import nearest

Rows = NDArray[np.int64]

GENDERS = ("male", "female")
"""Names of the gender numbers of a manifest."""

SAMPLERS = ("shuffle", "gender_balanced", "speaker_balanced", "p_x_k")


class RowOrder(Protocol):
    """`draw` returns the `len` rows of one epoch, from which batches are cut in order."""

    def __len__(self) -> int: ...

    def draw(self, generator: np.random.Generator) -> Rows: ...


class Shuffled:
    """Every row once per epoch, in random order."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, generator: np.random.Generator) -> Rows:
        return generator.permutation(self._rows)


class Balanced:
    """Equally many rows of every group, where counts of rows within a group differ by at most one.

    An epoch has as many rows as the corpus. `groups` [rows] numbers the group of each row; rows with a negative number
    occur once each.
    """

    def __init__(self, rows: Rows, groups: NDArray[np.integer]) -> None:
        self._rows = rows
        self._rest = rows[groups < 0]
        self._groups = [rows[groups == group] for group in np.unique(groups[groups >= 0])]

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, generator: np.random.Generator) -> Rows:
        count = len(self._rows) - len(self._rest)
        # the remainder of an even division goes to other groups in every epoch
        extra = generator.permutation(len(self._groups)) < (count % len(self._groups) if self._groups else 0)
        drawn = [self._rest]
        for group, one_more in zip(self._groups, extra, strict=True):
            drawn.append(_draw(group, count // len(self._groups) + int(one_more), generator))
        return generator.permutation(np.concatenate(drawn))


class SpeakersTimesUtterances:
    """P x K sampling: K consecutive rows of one class, with different classes in the `per_batch` = P groups of a batch.

    Every row occurs at least once per epoch; classes repeat rows up to a multiple of K. With fewer classes than P, or
    very unequal classes, a class may occur twice in a batch at the end of the epoch.
    """

    def __init__(self, rows: Rows, classes: NDArray[np.integer], *, per_batch: int, per_speaker: int) -> None:
        self._members = [rows[classes == label] for label in np.unique(classes)]
        self._per_batch, self._per_speaker = per_batch, per_speaker
        self._rounds = [-(-len(members) // per_speaker) for members in self._members]

    def __len__(self) -> int:
        return sum(self._rounds) * self._per_speaker

    def draw(self, generator: np.random.Generator) -> Rows:
        size = self._per_speaker
        drawn = [
            _draw(members, rounds * size, generator)
            for members, rounds in zip(self._members, self._rounds, strict=True)
        ]
        order: list[tuple[int, int]] = []
        for turn in range(max(self._rounds, default=0)):
            # the first groups of this round complete a batch of the last round, so they avoid its classes
            begun = {label for label, _ in order[len(order) - len(order) % self._per_batch :]}
            turns = [label for label in generator.permutation(len(drawn)).tolist() if self._rounds[label] > turn]
            turns.sort(key=lambda label: label in begun)
            order += [(label, turn) for label in turns]
        groups = [drawn[label][turn * size : (turn + 1) * size] for label, turn in order]
        return np.concatenate([np.zeros(0, dtype=np.int64), *groups])


def make_order(
    sampler: str,
    rows: Rows,
    *,
    labels: NDArray[np.int64],
    genders: NDArray[np.int8],
    batch_size: int = 0,
    utterances_per_speaker: int = 2,
) -> RowOrder:
    """Make the order called `sampler` over `rows`; `labels` and `genders` are those of all rows of the manifest.

    Raises ConfigError for an unknown name, for `gender_balanced` without recordings of both genders, and if the batch
    size is not a multiple of the utterances per speaker.
    """
    if sampler == "shuffle":
        return Shuffled(rows)
    if sampler == "gender_balanced":
        known = np.unique(genders[rows][genders[rows] >= 0]).tolist()
        if len(known) < 2:
            raise ConfigError(
                "the sampler 'gender_balanced' (data.sampler) needs training recordings of both genders, and there are "
                f"{f'only those of {GENDERS[known[0]]} speakers' if known else 'none whose gender is known'}; "
                "give the corpus a column `gender` (m or f), or choose another sampler"
            )
        return Balanced(rows, genders[rows])
    if sampler == "speaker_balanced":
        return Balanced(rows, labels[rows])
    if sampler == "p_x_k":
        if batch_size % utterances_per_speaker:
            raise ConfigError(
                f"training.batch_size = {batch_size} is no multiple of "
                f"data.utterances_per_speaker = {utterances_per_speaker}; change one of them"
            )
        per_batch = batch_size // utterances_per_speaker
        return SpeakersTimesUtterances(rows, labels[rows], per_batch=per_batch, per_speaker=utterances_per_speaker)
    raise ConfigError(f"unknown sampler {sampler!r}{nearest(sampler, SAMPLERS)}")


def _draw(group: Rows, count: int, generator: np.random.Generator) -> Rows:
    """Draw `count` members, whose counts differ by at most one."""
    rounds = -(-count // len(group)) if len(group) else 0
    return np.concatenate([group[:0], *(generator.permutation(group) for _ in range(rounds))])[:count]
