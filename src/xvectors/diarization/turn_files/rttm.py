"""Read and write RTTM, NIST's format of turns, and read UEM, the regions of recordings that are scored.

A line of RTTM is `SPEAKER recording channel start duration <NA> <NA> speaker <NA> <NA>`, a line of UEM is
`recording channel start end`; times are in seconds, and no field may hold a space.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.diarization.turns import Turn, in_order
from xvectors.errors import ManifestError
from xvectors.files import write_text
from xvectors.text import first_few, printable
from xvectors.trials.text import text_lines

SPEAKER = "SPEAKER"
OTHER_TYPES = frozenset(
    {
        *("SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH"),
        *("FILLER", "EDIT", "IP", "SU", "CB", "A/P", "SPKR-INFO"),
    }
)
"""Other types of lines in RTTM, which are passed over."""
NUM_FIELDS = (9, 10)
"""Fields of a line: ten, or nine in files without the last, which came later."""
RTTM_LINE = "SPEAKER meeting 1 0.50 2.25 <NA> <NA> ann <NA> <NA>"
UEM_LINE = "meeting 1 0.00 600.00"


@dataclass(frozen=True, kw_only=True)
class RttmFile:
    """The turns of each recording in a file, in order of time, and remarks on the file for users."""

    turns: dict[str, list[Turn]]
    notes: tuple[str, ...] = ()


def read_rttm(path: str | os.PathLike[str]) -> RttmFile:
    """Read the turns of an RTTM file.

    Overlapping turns of one speaker are joined and turns of 0 s left out; notes name the lines of both.

    Raises
    ------
    ManifestError
        For an unreadable or empty file and, with the line, for a wrong number of fields, as where a name holds a space,
        an unknown type, times that are not numbers or are below 0, and a duration below 0.
    """
    path = Path(path)
    found: dict[str, list[tuple[int, Turn]]] = {}
    empty, num_others = list[str](), 0
    for number, fields in records(path):
        if fields[0] in OTHER_TYPES:
            num_others += 1
            continue
        if fields[0] != SPEAKER:
            raise wrong_line(path, number, f"begins with {printable(fields[0])!r}, no type of RTTM", RTTM_LINE)
        if len(fields) not in NUM_FIELDS:
            why = f"has {len(fields)} fields where RTTM has 10; a name with spaces needs them replaced, as by _"
            raise wrong_line(path, number, why, RTTM_LINE)
        _, recording, _, start, duration, _, _, speaker, *_ = fields
        start_s = seconds_of(path, number, "start", start, RTTM_LINE)
        duration_s = seconds_of(path, number, "duration", duration, RTTM_LINE)
        turns = found.setdefault(recording, [])
        if duration_s == 0:
            empty.append(f"{path}:{number}")
        else:
            turns.append((number, Turn(start_s=start_s, end_s=start_s + duration_s, speaker=speaker)))
    if not found:
        what = f"only lines of other types than {SPEAKER}" if num_others else "no line"
        raise ManifestError(f"{path}: holds {what}; each turn needs a line such as: {RTTM_LINE}")
    notes = [f"{first_few(empty)}: turns of 0 s, left out"] if empty else []
    joined, lines = dict[str, list[Turn]](), list[str]()
    for recording, numbered in found.items():
        joined[recording], overlapping = _joined(numbered)
        lines += [f"{path}:{number}" for number in overlapping]
    if lines:
        notes.append(f"{first_few(lines)}: overlapping turns of one speaker, joined")
    return RttmFile(turns=joined, notes=tuple(notes))


def write_rttm(path: str | os.PathLike[str], turns: Mapping[str, Sequence[Turn]]) -> None:
    """Write the turns of each recording atomically, with `Turn.label` as the speaker.

    Raises
    ------
    ManifestError
        A recording or a label is empty or holds a space.
    StorageError
        The file cannot be written.
    """
    write_text(Path(path), "".join(line + "\n" for name, each in turns.items() for line in rttm_lines(name, each)))


def rttm_lines(recording: str, turns: Sequence[Turn]) -> Iterator[str]:
    """Yield the lines of one recording, with milliseconds. Raises ManifestError as `write_rttm` does."""
    _check_field("recording", recording)
    for turn in in_order(turns):
        _check_field("speaker", turn.label)
        yield (f"{SPEAKER} {recording} 1 {turn.start_s:.3f} {turn.duration_s:.3f} <NA> <NA> {turn.label} <NA> <NA>")


def read_uem(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """Read the regions to score: starts and ends in seconds, float64 [k, 2], of each recording.

    Raises
    ------
    ManifestError
        For an unreadable or empty file and, with the line, for a wrong number of fields, times that are not numbers or
        are below 0, and a region that ends before it starts.
    """
    path = Path(path)
    found: dict[str, list[tuple[float, float]]] = {}
    for number, fields in records(path):
        if len(fields) != 4:
            raise wrong_line(path, number, f"has {len(fields)} fields where UEM has 4", UEM_LINE)
        recording, _, start, end = fields
        start_s, end_s = (
            seconds_of(path, number, name, text, UEM_LINE) for name, text in (("start", start), ("end", end))
        )
        if end_s <= start_s:
            raise wrong_line(path, number, f"ends at {end_s:g} s, not after its start at {start_s:g} s", UEM_LINE)
        found.setdefault(recording, []).append((start_s, end_s))
    if not found:
        raise ManifestError(f"{path}: is empty; each region needs a line such as: {UEM_LINE}")
    return {recording: np.array(sorted(regions)) for recording, regions in found.items()}


def records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is neither blank nor a comment (`;;`)."""
    for number, line in enumerate(text_lines(path), start=1):
        fields = line.split()
        if fields and not fields[0].startswith(";;"):
            yield number, fields


def seconds_of(path: Path, number: int, name: str, text: str, example: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise wrong_line(path, number, f"its {name} is {printable(text)!r}, not seconds of 0 or more", example)
    return value


def wrong_line(path: Path, number: int, why: str, example: str) -> ManifestError:
    return ManifestError(f"{path}:{number}: {why}; correct the line, as in: {example}")


def _check_field(what: str, text: str) -> None:
    if not text or len(text.split()) != 1 or text != text.strip():
        raise ManifestError(f"{what} {printable(text)!r} cannot stand in RTTM: give a name without spaces")


def _joined(numbered: Sequence[tuple[int, Turn]]) -> tuple[list[Turn], list[int]]:
    """Join overlapping turns of a speaker; return the turns, and the lines of those that were joined to others."""
    turns, lines = list[Turn](), list[int]()
    last: dict[str, int] = {}
    for number, turn in sorted(numbered, key=lambda each: each[1].start_s):
        at = last.get(turn.speaker)
        if at is not None and turn.start_s < turns[at].end_s:
            turns[at] = replace(turns[at], end_s=max(turns[at].end_s, turn.end_s))
            lines.append(number)
        else:
            last[turn.speaker] = len(turns)
            turns.append(turn)
    return in_order(turns), sorted(lines)
