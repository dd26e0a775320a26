"""Sample a number of recordings, or of trials, per speaker, reproducibly by seed."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.trials.pairs import Trials, all_pairs, speaker_numbers

Relation = Literal["any", "same", "different"]
UNKNOWN = -1


def sample_recordings(
    speaker_index: ArrayLike, *, each: int = 20, at_most: int = 20_000, seed: int = 0
) -> NDArray[np.int64]:
    """Draw up to `each` recordings of every speaker, of as many speakers as `at_most` recordings allow.

    The defaults suffice for the covariances of a thousand speakers.

    Parameters
    ----------
    speaker_index
        [n]: the speaker of each recording, as numbers or names.

    Returns
    -------
    int64 [rows], ascending.
    """
    speakers = speaker_numbers(speaker_index)
    rng = np.random.default_rng(seed)
    rank = rng.permutation(int(speakers.max(initial=-1)) + 1)
    drawn = rng.permutation(len(speakers))
    drawn = drawn[np.argsort(rank[speakers[drawn]], kind="stable")]
    starts = np.flatnonzero(np.diff(speakers[drawn], prepend=-1))
    place = np.arange(len(drawn)) - np.repeat(starts, np.diff(np.append(starts, len(drawn))))
    return np.sort(drawn[place < each][:at_most])


def sample_trials(
    speaker_index: ArrayLike,
    *,
    per_speaker: int | None,
    gender: ArrayLike | None = None,
    session: ArrayLike | None = None,
    nontarget_gender: Relation = "any",
    target_session: Relation = "any",
    seed: int = 0,
) -> Trials:
    """Draw up to `per_speaker` target and as many non-target trials per speaker, without replacement.

    Parameters
    ----------
    speaker_index
        [n]: the speaker of each recording, as numbers or names.
    per_speaker
        Number of trials of each kind per speaker; None for all pairs.
    gender
        int [n], -1 unknown. Required for `nontarget_gender`.
    session
        [n], int with -1 unknown, or names with "" unknown. Required for `target_session`.
    nontarget_gender
        "same" pairs speakers of one gender, which is harder; "different" pairs men with women. Recordings of unknown
        gender are then in no non-target trial.
    target_session
        "different" pairs recordings of two sessions, which is harder; "same" pairs recordings of one session.

    Returns
    -------
    The target trials of all speakers, then the non-target trials. A speaker with few recordings has fewer trials, and a
    non-target pair drawn from both sides counts once.

    Raises
    ------
    ConfigError
        For `per_speaker` below 1, and an unknown relation.
    ManifestError
        For a relation without its column, and if there are no trials of a kind.
    ShapeError
        For columns of unequal length.
    """
    speakers = speaker_numbers(speaker_index)
    if per_speaker is not None and per_speaker < 1:
        raise ConfigError(f"per_speaker is {per_speaker}: give at least 1")
    for name, relation in (("nontarget_gender", nontarget_gender), ("target_session", target_session)):
        if relation not in {"any", "same", "different"}:
            raise ConfigError(f"{name} is {relation!r}: give any, same or different")
    genders = _column("gender", gender, len(speakers), nontarget_gender)
    sessions = _column("session", session, len(speakers), target_session)
    if per_speaker is None:
        return _all_that_fit(speakers, genders, nontarget_gender, sessions, target_session)
    rng = np.random.default_rng(seed)
    by_speaker = np.argsort(speakers, kind="stable").astype(np.int32)
    edges = np.searchsorted(speakers[by_speaker], np.arange(speakers.max(initial=-1) + 2))
    groups = [by_speaker[start:end] for start, end in pairwise(edges.tolist())]
    targets = [_targets(rows, sessions, target_session, per_speaker, rng) for rows in groups]
    nontargets = _nontargets(groups, genders, nontarget_gender, per_speaker, rng)
    target_pairs = np.concatenate(targets) if targets else np.empty((0, 2), dtype=np.int32)
    _check_found(speakers, len(target_pairs), target_session, len(nontargets), nontarget_gender)
    pairs = np.concatenate([target_pairs, nontargets])
    return Trials(
        enroll=np.ascontiguousarray(pairs[:, 0]),
        test=np.ascontiguousarray(pairs[:, 1]),
        target=np.repeat([True, False], [len(target_pairs), len(nontargets)]),
    )


def _all_that_fit(
    speakers: NDArray[np.int32],
    genders: NDArray[np.int64],
    nontarget_gender: Relation,
    sessions: NDArray[np.int64],
    target_session: Relation,
) -> Trials:
    trials = all_pairs(speakers)
    kept = np.ones(len(trials), dtype=bool)
    for column, relation, of_kind in (
        (sessions, target_session, trials.target),
        (genders, nontarget_gender, ~trials.target),
    ):
        if relation != "any":
            a, b = column[trials.enroll], column[trials.test]
            kept &= ~of_kind | ((a >= 0) & (b >= 0) & ((a == b) == (relation == "same")))
    chosen = Trials(enroll=trials.enroll[kept], test=trials.test[kept], target=trials.target[kept])
    _check_found(speakers, chosen.num_target, target_session, chosen.num_nontarget, nontarget_gender)
    return chosen


def _check_found(
    speakers: NDArray[np.int32], targets: int, target_session: Relation, nontargets: int, nontarget_gender: Relation
) -> None:
    for kind, number, wish in (
        ("target", targets, f"target_session={target_session!r}"),
        ("non-target", nontargets, f"nontarget_gender={nontarget_gender!r}"),
    ):
        if not number:
            raise ManifestError(
                f"no {kind} trials: the {len(speakers)} recordings of {int(speakers.max(initial=-1)) + 1} speakers "
                f"have no pair for {wish}; add recordings, or ask for any"
            )


def _targets(
    rows: NDArray[np.int32], sessions: NDArray[np.int64], relation: Relation, number: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Draw pairs [k, 2] of rows of one speaker, by pair number, without listing all pairs."""
    if relation != "any":
        rows = rows[sessions[rows] >= 0]
        rows = rows[np.argsort(sessions[rows], kind="stable")]
    after = np.arange(1, len(rows) + 1)
    first, last = after, np.full(len(rows), len(rows))
    if relation != "any":
        session_end = np.searchsorted(sessions[rows], sessions[rows], side="right")
        first, last = (after, session_end) if relation == "same" else (session_end, last)
    edges = np.concatenate([[0], np.cumsum(last - first)])
    total = int(edges[-1])
    chosen = np.arange(total) if total <= number else np.sort(rng.choice(total, number, replace=False))
    one = np.searchsorted(edges, chosen, side="right") - 1
    other = first[one] + chosen - edges[one]
    return np.sort(np.stack([rows[one], rows[other]], axis=1), axis=1)


def _nontargets(
    groups: list[NDArray[np.int32]],
    genders: NDArray[np.int64],
    relation: Relation,
    number: int,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Draw pairs [k, 2] of rows of two speakers, each once."""
    # the rows of a speaker are adjacent in the pool of their gender, so the others are before and after them
    of_group = [int(genders[rows[0]]) if relation != "any" else 0 for rows in groups]
    for rows, gender in zip(groups, of_group, strict=True):
        if relation != "any" and (genders[rows] != gender).any():
            raise ManifestError(f"the speaker of recording {rows[0]} has recordings of two genders: correct the column")
    pools: dict[int, NDArray[np.int32]] = {}
    starts = np.zeros(len(groups), dtype=np.int64)
    for gender in sorted(set(of_group)):
        members = [at for at, of in enumerate(of_group) if of == gender]
        sizes = [len(groups[at]) for at in members]
        starts[members] = np.cumsum([0, *sizes[:-1]])
        pools[gender] = np.concatenate([groups[at] for at in members])
    opposite = {
        gender: np.concatenate([pool[:0], *(other for key, other in pools.items() if key not in {gender, UNKNOWN})])
        for gender, pool in pools.items()
    }
    found = []
    for at, rows in enumerate(groups):
        gender = of_group[at]
        if relation != "any" and gender == UNKNOWN:
            continue
        if relation == "different":
            pool, start, own = opposite[gender], 0, 0
        else:
            pool, start, own = pools[gender], int(starts[at]), len(rows)
        choices = len(rows) * (len(pool) - own)
        drawn = rng.choice(choices, min(number, choices), replace=False)
        mine, other = np.divmod(drawn, max(1, len(pool) - own))
        other = np.where(other >= start, other + own, other)
        found.append(np.stack([rows[mine], pool[other]], axis=1))
    pairs = np.concatenate(found) if found else np.empty((0, 2), dtype=np.int32)
    key = pairs.min(axis=1).astype(np.int64) * (2**31) + pairs.max(axis=1)
    return pairs[np.sort(np.unique(key, return_index=True)[1])]


def _column(name: str, values: ArrayLike | None, count: int, relation: Relation) -> NDArray[np.int64]:
    """Return [n] numbers; -1 unknown."""
    if relation == "any":
        return np.full(count, UNKNOWN, dtype=np.int64)
    if values is None:
        raise ManifestError(f"trials of {relation} {name} need the {name} of each recording: give it, or ask for any")
    array = np.asarray(values)
    if array.shape != (count,) or array.dtype.kind not in "iuU":
        raise ShapeError(
            f"{name} has the shape {list(array.shape)} and type {array.dtype}: give one number or name for each of the "
            f"{count} recordings"
        )
    if array.dtype.kind != "U":
        return array.astype(np.int64)
    numbers = np.unique(array, return_inverse=True)[1]
    return np.where(array == "", UNKNOWN, numbers).astype(np.int64)
