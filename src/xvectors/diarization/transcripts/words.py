"""The speaker of each word: whoever speaks most during it, or whose turn is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.diarization.turns import Turn, in_order
from xvectors.errors import ShapeError

LABEL_GAP_S = 1.0
"""A word during which nobody has a turn is given to the nearest turn at most this far away."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word, or a whole segment where a transcript has no words.

    Attributes
    ----------
    start_s, end_s : from the start of the recording; equal for some words of whisper
    text : as written, with the spaces around it
    speaker : `Turn.label`; None where nobody has a turn near
    segment : number of the segment that the word stands in
    """

    start_s: float
    end_s: float
    text: str
    speaker: str | None = None
    segment: int = 0


def speakers_of_spans(spans: ArrayLike, turns: Sequence[Turn], *, gap_s: float = LABEL_GAP_S) -> list[str | None]:
    """Return the label of the speaker of each span, or None.

    Parameters
    ----------
    spans
        [n, 2], starts and ends in seconds, in any order; ends may equal starts.
    turns
        In any order; they may overlap. Of speakers who speak equally long during a span, the one whose turn began first
        gets it.
    gap_s
        A span during which nobody has a turn is given to the nearest one, at most this far away; None beyond.

    Raises ShapeError for spans of another shape, or that end before they start.
    """
    rows: NDArray[np.float64] = np.asarray(spans, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(rows).all() or (rows[:, 0] > rows[:, 1]).any():
        raise ShapeError("spans must be starts and ends in seconds, [n, 2], with no end before its start")
    ordered = in_order(turns)
    if not ordered:
        return [None] * len(rows)
    starts = np.array([turn.start_s for turn in ordered])
    # the latest end so far, so that turns around a span are found by bisection also where turns overlap
    latest = np.maximum.accumulate([turn.end_s for turn in ordered])
    found = list[str | None]()
    for start_s, end_s in rows.tolist():
        first = int(np.searchsorted(latest, start_s - gap_s, side="left"))
        last = int(np.searchsorted(starts, end_s + gap_s, side="right"))
        found.append(_speaker(start_s, end_s, ordered[first:last], gap_s))
    return found


def _speaker(start_s: float, end_s: float, near: Sequence[Turn], gap_s: float) -> str | None:
    spoken_s = dict[str, float]()
    for turn in near:
        shared_s = min(turn.end_s, end_s) - max(turn.start_s, start_s)
        if shared_s > 0:
            spoken_s[turn.label] = spoken_s.get(turn.label, 0.0) + shared_s
    if spoken_s:
        return max(spoken_s, key=lambda label: spoken_s[label])
    distances = [(max(turn.start_s - end_s, start_s - turn.end_s, 0.0), at) for at, turn in enumerate(near)]
    if not distances or min(distances)[0] > gap_s:
        return None
    return near[min(distances)[1]].label
