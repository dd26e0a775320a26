"""Transcripts in CTM, NIST's format of words with times.

A line is `recording channel start duration word`, with a confidence if there is one; NIST's RT-03 evaluation added the
type of the word and the speaker, which is the form written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xvectors.diarization.transcripts.json_form import Timed
from xvectors.diarization.transcripts.words import Word
from xvectors.diarization.turn_files.formats import spaceless
from xvectors.diarization.turn_files.rttm import records, seconds_of, wrong_line
from xvectors.errors import ManifestError
from xvectors.text import first_few

CTM_LINE = "meeting 1 0.50 0.25 hello 0.98"
NUM_FIELDS = range(5, 9)
NO_CONFIDENCE, LEXEME, NO_SPEAKER = "NA", "lex", "<NA>"


@dataclass(frozen=True, kw_only=True)
class CtmTranscript:
    """The words of one recording in a CTM file. `rows` are their fields, to which `label` adds the speaker."""

    rows: list[list[str]]
    times: list[Timed]

    suffix = ".ctm"
    separator = " "
    num_untimed = 0

    def timed(self) -> list[Timed]:
        """Return the times of the words."""
        return self.times

    def label(self, speakers: Sequence[str | None]) -> tuple[Word, ...]:
        """Put the speaker of each word into its row, and return the words."""
        words = list[Word]()
        for row, time, who in zip(self.rows, self.times, speakers, strict=True):
            row[5:] = [*row[5:7], *(NO_CONFIDENCE, LEXEME)[len(row[5:7]) :]]
            row.append(NO_SPEAKER if who is None else spaceless(who))
            words.append(Word(start_s=time.start_s, end_s=time.end_s, text=row[4], speaker=who))
        return tuple(words)

    def text(self, recording: str) -> str:
        """Return the lines, with the recording's name as they had it."""
        return "".join(" ".join(row) + "\n" for row in self.rows)


def read_ctm(path: Path, recording: str) -> CtmTranscript:
    """Read the words of a recording, by its name without its folder and suffix; those of others are passed over.

    Raises ManifestError for an unreadable file, for a wrong line, which it names, and where the recording has no line.
    """
    rows, times, others = list[list[str]](), list[Timed](), dict[str, None]()
    for number, fields in records(path):
        if len(fields) not in NUM_FIELDS:
            raise wrong_line(path, number, f"has {len(fields)} fields where CTM has 5 to 8", CTM_LINE)
        start_s = seconds_of(path, number, "start", fields[2], CTM_LINE)
        duration_s = seconds_of(path, number, "duration", fields[3], CTM_LINE)
        if fields[0] != spaceless(recording):
            others[fields[0]] = None
            continue
        rows.append(fields)
        where = f"line {number} ({fields[4]!r})"
        times.append(Timed(where=where, fields={}, start_s=start_s, end_s=start_s + duration_s))
    if not rows:
        what = f"the words of {first_few(others)}" if others else "no line"
        raise ManifestError(
            f"{path}: holds {what}, none of {spaceless(recording)}; each word needs a line such as: "
            f"{spaceless(recording)}{CTM_LINE.removeprefix('meeting')}"
        )
    return CtmTranscript(rows=rows, times=times)
