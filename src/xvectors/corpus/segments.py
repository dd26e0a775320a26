"""Where in its file each row of a table begins and how long it lasts, from whatever columns say so.

In: starts, ends and durations as the cells have them. Out: starts and durations in seconds, and the rows that
contradict themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import AudioError, ManifestError, MissingExtraError
from xvectors.text import agree, count

logger = logging.getLogger(__name__)

ROUNDING_S = 0.101
"""Start, end and duration rounded to a tenth of a second may differ by as much."""
MOST_RATIO = 10.0
"""A segment in seconds is at most as long as the duration beside it; in samples it is at least 4,000 times that, or so
much less as it is a part of the file."""
FEWEST_SAMPLES = 1000
"""Segments in samples end later than here, or they would hold no speech."""
RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
IN_EITHER_UNIT = ("start", "end", "stop", "begin")
"""Names of columns that count seconds in most tables, and samples in SpeechBrain's."""
CONTRADICTORY_S = -1.0
"""The duration of rows that contradict themselves; a table that is written with it says so when it is read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """Columns of a table, float64 [rows]: `duration_s` and `end` NaN where unknown, `start` 0.

    `names` are the columns' own by meaning (start_s, end_s, duration_s), `bad` what is wrong with rows' cells.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64] | None
    duration_s: NDArray[np.float64]
    names: Mapping[str, str]
    bad: Mapping[int, str]
    source: str


def find_segments(
    times: Times, first_path: Callable[[int], Path]
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[int, str]]:
    """Start and duration of every row in seconds, and by row what makes it contradictory.

    With start and end the segment is what lies between; a duration beside them must be the segment's or the file's.
    `first_path` gives the recording of a row, whose header tells the rate where ends are samples.
    """
    start, end, duration_s, faults = times.start, times.end, times.duration_s, dict(times.bad)
    if end is not None:
        rate = _rate_of_samples(times, end, first_path)
        start, end = start / rate, end / rate
        length = np.round(end - start, 6)
        known = ~np.isnan(length)
        is_note = np.isnan(duration_s) | (np.abs(duration_s - length) <= ROUNDING_S) | (duration_s >= end - ROUNDING_S)
        for row in np.flatnonzero(known & (length <= 0)).tolist():
            faults.setdefault(row, f"it ends at {end[row]:g} s and starts at {start[row]:g} s")
        for row in np.flatnonzero(known & ~is_note).tolist():
            stated = f"it starts at {start[row]:g} s, lasts {duration_s[row]:g} s and ends at {end[row]:g} s"
            faults.setdefault(row, f"{stated}, which contradicts itself")
        duration_s = np.where(known, length, duration_s)
    if faults:
        duration_s = duration_s.copy()
        duration_s[list(faults)] = CONTRADICTORY_S
    return start, duration_s, faults


def warn_of_open_ends(start_s: NDArray[np.float64], duration_s: NDArray[np.float64], source: str) -> None:
    """Say how many rows start within their file and say nothing of their end."""
    num_open = int(np.count_nonzero((start_s > 0) & np.isnan(duration_s)))
    if num_open:
        logger.warning(
            "%s: %s %s a start and neither an end nor a duration: each goes on to the end of its file; add a column "
            "end or duration if it should not",
            source,
            count(num_open, "row"),
            agree(num_open, "has", "have"),
        )


def _rate_of_samples(times: Times, end: NDArray[np.float64], path_of: Callable[[int], Path]) -> float:
    """The rate by which starts and ends in samples become seconds; 1 where they are seconds.

    They are samples where both columns hold whole numbers, bear names of either unit, and a typical segment is 10 times
    as long as the duration beside it. Without durations the recording that ends last decides: by its header.
    """
    names = [times.names[meaning].strip().lower() for meaning in ("start_s", "end_s") if meaning in times.names]
    known = np.flatnonzero(~np.isnan(end))
    if not len(known) or not all(name in IN_EITHER_UNIT for name in names):
        return 1.0
    if (times.start % 1).any() or (end[known] % 1).any():
        return 1.0
    timed = known[times.duration_s[known] > 0]
    if len(timed):
        if np.median((end[timed] - times.start[timed]) / times.duration_s[timed]) <= MOST_RATIO:
            return 1.0
        row = int(timed[0])
    else:
        row = int(known[np.argmax(end[known])])
        if end[row] < FEWEST_SAMPLES:
            return 1.0
    header = _header(path_of(row))
    if header is None:
        if len(timed) and (rate := _rate_by_table(end[timed] / times.duration_s[timed])):
            return rate
        raise ManifestError(
            f"{times.source}: columns {' and '.join(map(repr, names))} may be seconds or samples, and {path_of(row)} "
            "cannot be opened to tell; write seconds, in columns start_s and end_s"
        )
    length_s, rate = header
    if not len(timed) and end[row] <= length_s + 1:
        return 1.0
    logger.info("%s: %s are samples at %d Hz", times.source, " and ".join(names), rate)
    return rate


def _header(path: Path) -> tuple[float, int] | None:
    """Length and rate of a recording, None where it cannot be opened."""
    from xvectors import audio

    try:
        info = audio.probe(path)
    except (AudioError, MissingExtraError):
        return None
    return info.duration_s, info.sample_rate_hz


def _rate_by_table(samples_per_s: NDArray[np.float64]) -> int | None:
    """The usual rate that some segment reaches, being its whole file."""
    highest = float(samples_per_s.max())
    return next((rate for rate in RATES_HZ if abs(highest - rate) <= 0.01 * rate), None)
