"""Group trials by gender, age, duration, noise, session and every further column of the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.corpus import Manifest, PackedStrings
from xvectors.corpus.manifest import FEMALE, MALE
from xvectors.trials import Trials

Kind = Literal["both", "targets", "non-targets"]

AGES = (13, 18, 30, 45, 60)  # years
AGE_DIFFERENCES = (3, 10, 20)  # years
DURATIONS = (1, 2, 3, 5, 8, 15, 30)  # seconds
SNRS = (5, 10, 15, 20, 30)  # dB
MAX_VALUES = 8  # of a column; recordings with other values are in no group
MIN_SPEAKERS_OF_VALUE = 2  # with fewer there is no non-target trial
QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dimension:
    """One way to group the trials.

    Attributes
    ----------
    name : str
        What they are grouped by, with the unit.
    labels : tuple of str
        Names of the groups.
    kinds : tuple of Kind
        The trials that each group selects: "both", or one kind only, which is measured against all trials of the other.
    codes : int16 [m]
        The group of each trial, -1 for trials in no group.
    """

    name: str
    labels: tuple[str, ...]
    kinds: tuple[Kind, ...]
    codes: NDArray[np.int16]


def trial_dimensions(manifest: Manifest, duration_s: ArrayLike, snr_db: ArrayLike, trials: Trials) -> list[Dimension]:
    """Return every dimension in which the trials have at least two groups.

    A trial belongs to a group if both recordings do; the shorter recording decides its duration, the noisier one its
    SNR. Age differences group the non-target trials only. Sessions group the target trials, and the non-target trials
    within one session are a group of their own.

    Parameters
    ----------
    manifest
        n recordings.
    duration_s, snr_db
        [n] seconds and dB, NaN unknown.
    trials
        Pairs of rows of the manifest.
    """
    gender = np.select([manifest.gender == FEMALE, manifest.gender == MALE], [0, 1], -1)
    found = [
        _both("gender", gender, ("female speakers", "male speakers"), trials, mixed="a female and a male speaker"),
        _both("age", _banded(manifest.age, AGES), _band_names(AGES, "years", whole=True), trials),
        _by_age_difference(manifest.age.astype(np.float64), trials),
        _by_lesser("shorter recording", np.asarray(duration_s, dtype=np.float64), DURATIONS, "s", trials),
        _by_lesser("noisier recording, SNR", np.asarray(snr_db, dtype=np.float64), SNRS, "dB", trials),
    ]
    if len(manifest.sessions):
        found.append(_by_session(manifest.session_index, trials))
    for name, column in manifest.extra.items():
        coded = _column_codes(column, manifest.speaker_index)
        if coded is not None:
            found.append(_by_column(name, *coded, trials))
    return [dimension for dimension in found if len(np.unique(dimension.codes[dimension.codes >= 0])) > 1]


def _by_age_difference(age: NDArray[np.float64], trials: Trials) -> Dimension:
    apart = np.abs(age[trials.enroll] - age[trials.test])
    codes = _banded(apart, AGE_DIFFERENCES)
    codes[trials.target] = -1
    labels = _band_names(AGE_DIFFERENCES, "years", whole=True)
    kinds = _each("non-targets", labels)
    return Dimension(name="age difference", labels=labels, kinds=kinds, codes=codes)


def _by_lesser(name: str, values: NDArray[np.float64], edges: Sequence[int], unit: str, trials: Trials) -> Dimension:
    labels = _band_names(edges, unit)
    codes = _banded(np.minimum(values[trials.enroll], values[trials.test]), edges)  # NaN where either is
    return Dimension(name=name, labels=labels, kinds=_each("both", labels), codes=codes)


def _by_session(session: NDArray[np.int32], trials: Trials) -> Dimension:
    enroll, test = session[trials.enroll], session[trials.test]
    same = enroll == test
    codes = np.select([trials.target & same, trials.target, same], [0, 1, 2], -1).astype(np.int16)
    codes[(enroll < 0) | (test < 0)] = -1
    labels = ("one speaker, same session", "one speaker, two sessions", "two speakers, same session")
    return Dimension(name="session", labels=labels, kinds=("targets", "targets", "non-targets"), codes=codes)


def _by_column(name: str, group: NDArray[np.int64], labels: tuple[str, ...], trials: Trials) -> Dimension:
    """Group by a column; trials across two values are a further group if a speaker has recordings of both."""
    found = _both(name, group, labels, trials)
    enroll, test = group[trials.enroll], group[trials.test]
    across = (enroll >= 0) & (test >= 0) & (enroll != test)
    if not (across & trials.target).any():
        return found
    codes = np.where(across, np.int16(len(labels)), found.codes)
    return Dimension(name=name, labels=(*labels, "two different values"), kinds=(*found.kinds, "both"), codes=codes)


def _both(
    name: str, group: NDArray[np.integer[Any]], labels: tuple[str, ...], trials: Trials, *, mixed: str = ""
) -> Dimension:
    """Group trials within one group [n]; `mixed` names a further group, the non-target trials across two."""
    enroll, test = group[trials.enroll], group[trials.test]
    known = (enroll >= 0) & (test >= 0)
    codes = np.where(known & (enroll == test), enroll, -1).astype(np.int16)
    kinds = _each("both", labels)
    if mixed:
        codes[known & (enroll != test) & ~trials.target] = len(labels)
        labels, kinds = (*labels, mixed), (*kinds, "non-targets")
    return Dimension(name=name, labels=labels, kinds=kinds, codes=codes)


def _column_codes(
    column: PackedStrings, speaker_index: NDArray[np.int32]
) -> tuple[NDArray[np.int64], tuple[str, ...]] | None:
    """Return the group of each row and the groups' names; None if every value belongs to a single speaker."""
    cells = list(column)
    values = sorted(set(cells) - {""})
    if len(values) > MAX_VALUES and (numbers := _numbers(cells)) is not None:
        edges = np.unique(np.nanquantile(numbers, QUARTERS))
        return _banded(numbers, edges).astype(np.int64), _band_names(edges.tolist(), "")
    speakers_of: dict[str, set[int]] = {value: set() for value in values}
    rows_of = dict.fromkeys(values, 0)
    for cell, speaker in zip(cells, speaker_index.tolist(), strict=True):
        if cell:
            speakers_of[cell].add(speaker)
            rows_of[cell] += 1
    shared = [value for value in values if len(speakers_of[value]) >= MIN_SPEAKERS_OF_VALUE]
    largest = sorted(sorted(shared, key=lambda value: -rows_of[value])[:MAX_VALUES])
    if not largest:
        return None
    place = {value: at for at, value in enumerate(largest)}
    return np.array([place.get(cell, -1) for cell in cells], dtype=np.int64), tuple(largest)


def _numbers(cells: list[str]) -> NDArray[np.float64] | None:
    """Return the cells as numbers, NaN where empty; None if a cell is not a finite number."""
    try:
        numbers = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return None
    return None if np.isinf(numbers).any() else numbers


def _each(kind: Kind, labels: tuple[str, ...]) -> tuple[Kind, ...]:
    return tuple(kind for _ in labels)


def _banded(values: ArrayLike, edges: ArrayLike) -> NDArray[np.int16]:
    """Return the band of each value, the number of edges at or below it; -1 for NaN."""
    numbers = np.asarray(values, dtype=np.float64)
    bands = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers, side="right")
    return np.where(np.isnan(numbers), -1, bands).astype(np.int16)


def _band_names(edges: Sequence[float], unit: str, *, whole: bool = False) -> tuple[str, ...]:
    """Name the bands; with `whole` numbers a band ends one below the next edge."""
    after = f" {unit}" if unit else ""
    between = [f"{low:g} to {high - 1 if whole else high:g}{after}" for low, high in pairwise(edges)]
    return (f"under {edges[0]:g}{after}", *between, f"{edges[-1]:g}{after} or more")
