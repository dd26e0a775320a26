"""Captions of labeled words: WebVTT and SubRip (SRT) with the text and its speaker.

A caption ends where the speaker or the segment changes, at a pause, and before it grows too long to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xvectors.diarization.transcripts.words import Word
from xvectors.diarization.turn_files.formats import clock, voice_tag, vtt_text
from xvectors.text import printable

MAX_CHARACTERS = 84
"""Two lines of 42 characters, as is usual for captions."""
MAX_CAPTION_S = 7.0
PAUSE_S = 1.0
SHORTEST_S = 0.1
"""Shortest time for which a caption is shown, even where its words take 0 s."""


def captions(words: Sequence[Word], separator: str = " ") -> Iterator[Word]:
    """Yield the captions, each as one `Word`; `separator` stands between two words."""
    waiting = list[Word]()
    for word in sorted(words, key=lambda word: word.start_s):
        if waiting and not _goes_on(waiting, word):
            yield _joined(waiting, separator)
            waiting = []
        waiting.append(word)
    if waiting:
        yield _joined(waiting, separator)


def as_vtt(words: Sequence[Word], separator: str = " ") -> str:
    """Return WebVTT; the voice tag (`<v name>`) of a cue is its speaker."""
    cues = [
        f"{clock(each.start_s)} --> {clock(each.end_s)}\n"
        f"{voice_tag(each.speaker) if each.speaker else ''}{vtt_text(each.text)}\n"
        for each in captions(words, separator)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def as_srt(words: Sequence[Word], separator: str = " ") -> str:
    """Return SubRip; the speaker stands before the text, with a colon."""
    found = [
        f"{number}\n{clock(each.start_s, ',')} --> {clock(each.end_s, ',')}\n"
        f"{f'{printable(each.speaker)}: ' if each.speaker else ''}{printable(each.text)}\n"
        for number, each in enumerate(captions(words, separator), start=1)
    ]
    return "\n".join(found)


def _goes_on(waiting: Sequence[Word], word: Word) -> bool:
    first, last = waiting[0], waiting[-1]
    return (
        (word.speaker, word.segment) == (last.speaker, last.segment)
        and word.start_s - last.end_s < PAUSE_S
        and word.end_s - first.start_s <= MAX_CAPTION_S
        and sum(len(each.text) + 1 for each in waiting) + len(word.text) <= MAX_CHARACTERS
    )


def _joined(words: Sequence[Word], separator: str) -> Word:
    text = " ".join(separator.join(word.text for word in words).split())
    end_s = max(word.end_s for word in words)
    start_s = words[0].start_s
    return Word(start_s=start_s, end_s=max(end_s, start_s + SHORTEST_S), text=text, speaker=words[0].speaker)
