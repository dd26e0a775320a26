"""Compare recordings that come in over time with what the calibration rests on, and say when to calibrate again.

Each period's share of recordings unlike the calibration set is put to a binomial test. When a lasting change began is
found as in control charts, where a rise of a share at an unknown time is most likely (Page, Biometrika 1954).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.condition import CONDITION_NAMES
from xvectors.errors import CheckpointError, ConfigError, ShapeError
from xvectors.text import count, nearest
from xvectors.verification.shift import EXCESS_WORDS, WORTH_A_NOTE
from xvectors.verification.verifier import Verifier

MONTH, WEEK, ALL = "month", "week", "all"
PERIODS = (MONTH, WEEK, ALL)
USUAL_SHARE = "usual_share_shifted"
"""Key of `verifier.basis`: the share of calibration recordings shifted by 1 or more from those of other speakers."""
ASSUMED_SHARE = 0.2
"""The usual share where the calibration does not record its own: 4 % of the calibration recordings are outside the
usual range of each of six measures, so at most about a fifth are in any."""
LEAST_SHARE = 0.05
"""A rise from less than this is no reason to calibrate again, and a calibration set is too small to tell it from 0."""
LEVEL = 0.01
"""Probability that chance alone makes any of the periods unlike, if recordings are independent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Incoming:
    """Recordings that came in.

    Attributes
    ----------
    condition : float32 [n, 6], the measures of `audio.condition`; NaN where unknown
    speech_s : float64 [n] seconds of speech; NaN where unknown
    dates : n times, with a time zone or without; None where they are unknown
    num_left_out : number of voiceprints of other systems that are not among them
    """

    condition: NDArray[np.float32]
    speech_s: NDArray[np.float64]
    dates: Sequence[datetime] | None = None
    num_left_out: int = 0

    def __post_init__(self) -> None:
        rows = len(self.speech_s)
        if self.condition.shape != (wanted := (rows, len(CONDITION_NAMES))):
            raise ShapeError(f"condition has the shape {list(self.condition.shape)}, not {list(wanted)}")
        if self.dates is not None and len(self.dates) != rows:
            raise ShapeError(f"{len(self.dates)} dates of {count(rows, 'recording')}: give one for each")

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which recordings [n] have a condition of which anything is known."""
        return np.asarray(~np.isnan(self.condition).all(axis=1), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class Period:
    """The recordings of one period.

    Attributes
    ----------
    name : such as 2026-05 for a month, and 2026-W18 for a week
    num_recordings, num_unknown : all recordings, and those without a condition, which no share counts
    num_shifted : number of recordings with a shift of 1 or more
    num_untested : number of recordings beyond all that the calibration was learned on
    median_speech_s : median seconds of speech; None where unknown
    unusual : the most frequent unusual property in words; None where none is
    num_unusual : number of recordings that have it
    p_calibration : probability of as many shifted recordings or more at the usual share; None without conditions
    p_first : probability of as many or more if the first period has the same share (Fisher's exact test); None for the
        first period, and without conditions
    unlike_calibration, unlike_first : whether that is more than chance
    """

    name: str
    num_recordings: int
    num_unknown: int
    num_shifted: int
    num_untested: int
    median_speech_s: float | None
    unusual: str | None
    num_unusual: int
    p_calibration: float | None
    p_first: float | None
    unlike_calibration: bool
    unlike_first: bool

    @property
    def num_known(self) -> int:
        return self.num_recordings - self.num_unknown

    @property
    def share_shifted(self) -> float | None:
        return self.num_shifted / self.num_known if self.num_known else None

    @property
    def share_untested(self) -> float | None:
        return self.num_untested / self.num_known if self.num_known else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "share_shifted": self.share_shifted, "share_untested": self.share_untested}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What came in over time, beside what the calibration rests on.

    Attributes
    ----------
    periods : in order of time; those without recordings are left out
    dated : whether times are known; otherwise there is one period
    usual_share : share of shifted recordings that counts as usual
    recorded_share : share that the calibration records, from which `usual_share` follows; None where it does not, and
        `ASSUMED_SHARE` is used
    since : from this period to the last, all taken together, more recordings are shifted than usual; None where not
    recent : the periods from `since` on, taken together; None where that is
    too_few : whether even if all recordings were shifted, that could be chance
    num_left_out : as in `Incoming`
    """

    periods: tuple[Period, ...]
    dated: bool
    usual_share: float
    recorded_share: float | None
    since: str | None
    recent: Period | None
    too_few: bool
    num_left_out: int

    @property
    def calibrate_again(self) -> bool:
        return self.recent is not None

    @property
    def advice(self) -> str:
        """What to do, in a sentence."""
        if self.too_few:
            return "nothing to do yet: there are too few recordings to tell whether they are like the calibration set"
        if self.recent is None or self.recent.share_shifted is None:
            passed = [period.name for period in self.periods if period.unlike_calibration]
            what = f", and what was unlike it in {', '.join(passed)} has passed" if passed else ""
            return f"nothing to do: no more recordings than usual are unlike the calibration set{what}"
        when = f"since {self.since}, " if self.dated and self.since != ALL else ""
        words = f" ({self.recent.unusual})" if self.recent.unusual else ""
        return (
            f"calibrate again: {when}{percent(self.recent.share_shifted)} of the recordings are unlike the "
            f"calibration set{words}; `xvectors calibrate DIR --data RECORDINGS` with recordings of this kind of 20 "
            "speakers or more"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "calibrate_again": self.calibrate_again,
            "since": self.since,
            "share_shifted_since": None if self.recent is None else self.recent.share_shifted,
            "unusual_since": None if self.recent is None else self.recent.unusual,
            "usual_share": self.usual_share,
            "recorded_share": self.recorded_share,
            "dated": self.dated,
            "too_few": self.too_few,
            "num_left_out": self.num_left_out,
            "periods": [period.to_dict() for period in self.periods],
            "advice": self.advice,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """Recordings [n] with what the calibration says of them."""

    known: NDArray[np.bool_]
    unusual: NDArray[np.bool_]
    untested: NDArray[np.bool_]
    speech_s: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> _Measured:
        return _Measured(
            known=self.known[rows],
            unusual=self.unusual[rows],
            untested=self.untested[rows],
            speech_s=self.speech_s[rows],
        )

    @property
    def counts(self) -> tuple[int, int]:
        """Number of recordings with a shift of 1 or more, and of those with a condition."""
        return int(self.unusual.any(axis=1).sum()), int(self.known.sum())


def measure_drift(verifier: Verifier, incoming: Incoming, *, by: str = MONTH) -> Drift:
    """Compare recordings with the calibration set, by period.

    Parameters
    ----------
    verifier
        A calibration that knows conditions.
    incoming
        The recordings; without dates, they are one period.
    by
        The length of a period: "month", "week" (ISO 8601, from Monday) or "all". Times with a time zone are counted in
        UTC.

    Raises
    ------
    CheckpointError
        The calibration does not know conditions.
    ConfigError
        Another length of a period.
    ShapeError
        No recording, or none with a condition.
    """
    if by not in PERIODS:
        raise ConfigError(f"a period cannot be {by!r}{nearest(by, PERIODS)}")
    check_knows_conditions(verifier)
    if not incoming.known.any():
        raise ShapeError("no recording has a condition, so that nothing can be compared; embed or enroll again")
    recorded = recorded_share(verifier)
    usual = ASSUMED_SHARE if recorded is None else max(recorded, LEAST_SHARE)
    measured = _measure(verifier, incoming)
    dated = incoming.dates is not None
    names = np.array(
        [ALL] * len(incoming.speech_s) if incoming.dates is None else [period_of(date, by) for date in incoming.dates]
    )
    rows = [np.flatnonzero(names == name) for name in np.unique(names)]
    level = LEVEL / len(rows)
    parts = [measured.take(some) for some in rows]
    first = parts[0].counts
    periods = tuple(
        _period(str(names[some[0]]), part, usual, level, first if at else None)
        for at, (some, part) in enumerate(zip(rows, parts, strict=True))
    )
    start = _start_of_change([part.counts for part in parts], usual, level)
    since = None if start is None else periods[start].name
    recent = None
    if start is not None:
        recent = _period(periods[start].name, measured.take(np.concatenate(rows[start:])), usual, level, None)
    return Drift(
        periods=periods,
        dated=dated,
        usual_share=usual,
        recorded_share=recorded,
        since=since,
        recent=recent,
        too_few=usual ** int(np.count_nonzero(measured.known)) >= level,
        num_left_out=incoming.num_left_out,
    )


def check_knows_conditions(verifier: Verifier) -> None:
    """Raise CheckpointError for a calibration that does not know conditions."""
    if verifier.condition is None:
        raise CheckpointError(
            "the system's calibration knows no conditions to compare with: it is of an earlier version, came with an "
            "imported model, or was learned from embeddings alone or from fewer than ten speakers; `xvectors calibrate "
            "DIR --data RECORDINGS` with recordings of ten speakers or more learns them"
        )


def recorded_share(verifier: Verifier) -> float | None:
    """Return the share of shifted recordings that the calibration records; None where it does not.

    Raises CheckpointError for a value that is no share.
    """
    recorded = verifier.basis.get(USUAL_SHARE)
    if recorded is None:
        return None
    if not isinstance(recorded, int | float) or not 0 <= recorded < 1:
        raise CheckpointError(
            f"calibration.toml is damaged: basis.{USUAL_SHARE} is {recorded!r}, not a share; calibrate again"
        )
    return float(recorded)


def percent(share: float | None) -> str:
    """Write a share, such as "41 %"; "unknown" for None."""
    return "unknown" if share is None else f"{100 * share:.0f} %"


def period_of(date: datetime, by: str) -> str:
    """Return the name of a date's period.

    Examples
    --------
    >>> date = datetime(2026, 5, 1, 23, 30)
    >>> period_of(date, "month"), period_of(date, "week"), period_of(date, "all")
    ('2026-05', '2026-W18', 'all')
    """
    if date.tzinfo is not None:
        date = date.astimezone(UTC)
    if by == WEEK:
        year, week, _ = date.isocalendar()
        return f"{year:04d}-W{week:02d}"
    return f"{date.year:04d}-{date.month:02d}" if by == MONTH else ALL


def _measure(verifier: Verifier, incoming: Incoming) -> _Measured:
    assert verifier.condition is not None
    condition = verifier.condition.steady(incoming.condition, incoming.speech_s)
    return _Measured(
        known=incoming.known,
        unusual=verifier.condition.excess(condition) >= WORTH_A_NOTE,
        untested=verifier.condition.is_untested(condition),
        speech_s=incoming.speech_s,
    )


def _period(name: str, measured: _Measured, usual: float, level: float, first: tuple[int, int] | None) -> Period:
    """Describe one period. `first` are the counts of the first period; None for that period itself."""
    shifted, known = measured.counts
    unusual, num_unusual = _most_frequent(measured.unusual)
    seconds = measured.speech_s[~np.isnan(measured.speech_s)]
    p_calibration = _p_more(shifted, known, usual) if known else None
    p_first = _p_more_than(shifted, known, *first) if known and first is not None and first[1] else None
    return Period(
        name=name,
        num_recordings=len(measured.known),
        num_unknown=int((~measured.known).sum()),
        num_shifted=shifted,
        num_untested=int(measured.untested.sum()),
        median_speech_s=float(np.median(seconds)) if len(seconds) else None,
        unusual=unusual,
        num_unusual=num_unusual,
        p_calibration=p_calibration,
        p_first=p_first,
        unlike_calibration=p_calibration is not None and p_calibration < level,
        unlike_first=p_first is not None and p_first < level,
    )


def _most_frequent(unusual: NDArray[np.bool_]) -> tuple[str | None, int]:
    """Return the most frequent of the properties [n, 12] in words, and how many recordings have it."""
    counts = unusual.sum(axis=0)
    at = int(np.argmax(counts))
    return (EXCESS_WORDS[at], int(counts[at])) if counts[at] else (None, 0)


def _p_more(shifted: int, known: int, usual: float) -> float:
    from scipy.stats import binomtest

    return float(binomtest(shifted, known, usual, alternative="greater").pvalue)


def _p_more_than(shifted: int, known: int, first_shifted: int, first_known: int) -> float:
    from scipy.stats import fisher_exact

    table = [[shifted, known - shifted], [first_shifted, first_known - first_shifted]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _start_of_change(counts: Sequence[tuple[int, int]], usual: float, level: float) -> int | None:
    """Return the period from which to the last, taken together, more recordings are shifted than usual.

    Among the periods from which that is more than chance, it is the one from which the likelihood gains most by a share
    of its own. A change that has passed does not count: the share must not be lower at the end.

    Parameters
    ----------
    counts
        The numbers of shifted recordings and of recordings with a condition, for each period.
    """
    ends = [(sum(each[0] for each in counts[at:]), sum(each[1] for each in counts[at:])) for at in range(len(counts))]
    found: list[tuple[float, int]] = []
    for at, (shifted, known) in enumerate(ends):
        if not known or shifted / known <= usual or _p_more(shifted, known, usual) >= level:
            continue
        if not any(_is_lower(few, of, shifted / known, level) for few, of in ends[at + 1 :]):
            found.append((_gain(shifted, known, usual), -at))
    return -max(found)[1] if found else None


def _is_lower(shifted: int, known: int, share: float, level: float) -> bool:
    from scipy.stats import binomtest

    return known > 0 and float(binomtest(shifted, known, share, alternative="less").pvalue) < level


def _gain(shifted: int, known: int, usual: float) -> float:
    """Return the gain of the log-likelihood by the share found over the usual one."""
    parts = ((shifted, usual), (known - shifted, 1 - usual))
    return sum(number * math.log(number / known / expected) for number, expected in parts if number)
