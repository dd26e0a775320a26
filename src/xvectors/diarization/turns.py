"""A turn: who spoke from when to when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from xvectors.metrics.diarization import SpeakerTurns


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A stretch of one speaker's speech.

    Attributes
    ----------
    start_s, end_s : from the start of the recording
    speaker : label within the recording, such as "speaker_1", or what the file says
    name : name of the enrolled speaker whom the gallery accepts for this label; None without one
    answer : the gallery's answer for this label: the name, "unknown", or "cannot tell"; None where no gallery was asked
    llr : natural-log LLR of the best match in the gallery; None without a match
    """

    start_s: float
    end_s: float
    speaker: str
    name: str | None = None
    answer: str | None = None
    llr: float | None = None

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def label(self) -> str:
        """The name, or without one the label within the recording."""
        return self.name or self.speaker

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def as_arrays(turns: Sequence[Turn]) -> SpeakerTurns:
    """Return turns as the arrays that `xvectors.metrics.diarization_errors` takes; `label` tells speakers apart."""
    return SpeakerTurns.of(
        np.array([turn.start_s for turn in turns], dtype=np.float64),
        np.array([turn.end_s for turn in turns], dtype=np.float64),
        np.array([turn.label for turn in turns], dtype=np.str_),
    )


def in_order(turns: Iterable[Turn]) -> list[Turn]:
    """Sort turns by start, end and label."""
    return sorted(turns, key=lambda turn: (turn.start_s, turn.end_s, turn.label))


def alone(turns: Sequence[Turn]) -> list[Turn]:
    """Return the parts of turns in which no other speaker has a turn, in order of time."""
    bounds = sorted({time for turn in turns for time in (turn.start_s, turn.end_s)})
    ordered, open_turns, at = in_order(turns), list[Turn](), 0
    parts = list[Turn]()
    for start_s, end_s in itertools.pairwise(bounds):
        while at < len(ordered) and ordered[at].start_s <= start_s:
            open_turns.append(ordered[at])
            at += 1
        open_turns = [turn for turn in open_turns if turn.end_s > start_s]
        if len({turn.speaker for turn in open_turns}) != 1:
            continue
        turn = open_turns[0]
        if parts and parts[-1].speaker == turn.speaker and parts[-1].end_s == start_s:
            parts[-1] = replace(parts[-1], end_s=end_s)
        else:
            parts.append(replace(turn, start_s=start_s, end_s=end_s))
    return parts
