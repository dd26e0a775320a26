"""Find the segment of each row of a table from its columns of starts, ends and durations, in seconds or samples."""

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
"""Tolerance for start, end and duration, each rounded to a tenth of a second."""
MAX_RATIO = 10.0
"""Ratio of segment to stated duration above which segments are in samples: in seconds it is at most 1, in samples at
least 4,000 for a whole file."""
MIN_SAMPLES = 1000
"""Smallest end of segments in samples; shorter ones hold no speech."""
RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
IN_EITHER_UNIT = ("start", "end", "stop", "begin")
"""Names of columns in seconds in most tables, and in samples in those of SpeechBrain."""
CONTRADICTORY_S = -1.0
"""Duration of contradictory rows; a table written with it is recognized when read again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """Time columns of a table, float64 [rows]. Unknown values are NaN in `duration_s` and `end`, and 0 in `start`.

    `names` are the column names by meaning (start_s, end_s, duration_s), `bad` the errors of cells by row.
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
    """Return start and duration of every row in seconds, and the contradictions by row.

    A segment extends from start to end; a duration beside them must be that of the segment or of the file.
    `first_path` gives the recording of a row, whose header states the sample rate if ends are in samples.
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
    """Warn about rows with a start but neither an end nor a duration."""
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
    """Return the sample rate of starts and ends in samples; 1 if they are in seconds.

    They are in samples if both columns hold whole numbers, have names of either unit, and a typical segment is 10 times
    as long as the stated duration. Without durations, the header of the recording that ends last decides.
    """
    names = [times.names[meaning].strip().lower() for meaning in ("start_s", "end_s") if meaning in times.names]
    known = np.flatnonzero(~np.isnan(end))
    if not len(known) or not all(name in IN_EITHER_UNIT for name in names):
        return 1.0
    if (times.start % 1).any() or (end[known] % 1).any():
        return 1.0
    timed = known[times.duration_s[known] > 0]
    if len(timed):
        if np.median((end[timed] - times.start[timed]) / times.duration_s[timed]) <= MAX_RATIO:
            return 1.0
        row = int(timed[0])
    else:
        row = int(known[np.argmax(end[known])])
        if end[row] < MIN_SAMPLES:
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
    """Return number of frames and sample rate of a recording; None if it cannot be opened."""
    from xvectors import audio

    try:
        info = audio.probe(path)
    except (AudioError, MissingExtraError):
        return None
    return info.duration_s, info.sample_rate_hz


def _rate_by_table(samples_per_s: NDArray[np.float64]) -> int | None:
    """Return the common sample rate at which some segment is its whole file."""
    highest = float(samples_per_s.max())
    return next((rate for rate in RATES_HZ if abs(highest - rate) <= 0.01 * rate), None)
