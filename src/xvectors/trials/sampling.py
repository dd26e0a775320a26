"""So many recordings, or trials, of each speaker. In: each recording's speaker, gender and session.
Out: rows, or `Trials`, the same for the same seed."""

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
    """Up to `each` recordings of every speaker, of so many speakers as `at_most` recordings allow, drawn by `seed`.
    The defaults are plenty for the covariances of a thousand speakers.

    Args:
        speaker_index: [n] the speaker of each recording, as numbers or names.

    Returns:
        Rows, ascending.
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
    """Up to `per_speaker` target and as many non-target trials for each speaker, drawn without replacement; with None
    all pairs that fit.

    Args:
        speaker_index: [n] the speaker of each recording, as numbers or names.
        gender: int [n], -1 unknown. Needed for `nontarget_gender`.
        session: [n] int, -1 unknown, or names, "" unknown. Needed for `target_session`.
        nontarget_gender: "same" pairs speakers of one gender, the harder trials; "different" of two; unknown ones
            then take part in no non-target trial.
        target_session: "different" pairs recordings of two sessions, the harder trials; "same" of one.

    Returns:
        Target trials of all speakers, then the non-target ones. A speaker whose recordings allow fewer trials has
        fewer, and a non-target pair drawn from both its sides stays once.

    Raises:
        ConfigError: per_speaker below 1, an unknown relation.
        ManifestError: a relation without the column that it is about; no trials of a kind.
        ShapeError: columns of unequal length.
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
    """Pairs [k, 2] of one speaker's rows, the chosen ones made from their numbers: all are never listed."""
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
    """Pairs [k, 2] of rows of two speakers, each once."""
    # A speaker's rows lie together in the pool of their gender, so that the others are what is before and after them.
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
    """[n] numbers, -1 unknown."""
    if relation == "any":
        return np.full(count, UNKNOWN, dtype=np.int64)
    if values is None:
        raise ManifestError(f"trials of {relation} {name} need each recording's {name}: give it, or ask for any")
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
