"""Transcripts in the JSON of whisper and of the programs that write alike: faster-whisper, whisperX, OpenAI's service.

They have `segments` with `start`, `end` and `text`, which mostly have `words` with `word`, `start` and `end`; some have
a list of `words` or `word_segments` beside the segments. Words that whisperX cannot align, such as numbers, have no
times: they are given to the speaker of the word before them, or after them at the beginning of a segment.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xvectors.diarization.transcripts.words import Word
from xvectors.errors import ManifestError
from xvectors.files.json_files import read_json
from xvectors.text import printable

WHISPER_JSON = "the JSON of whisper, with `segments` that have start, end and text"
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages that whisper's tokenizer splits without spaces (openai/whisper, `tokenizer.py`)."""

Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A word or segment of the document, with its times."""

    where: str
    fields: Fields
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """A segment, or a list of words beside the segments, with its words in order; untimed words are None."""

    segment: Timed | None
    words: list[tuple[Fields, Timed | None]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class JsonTranscript:
    """A parsed transcript. `document` is what `text` writes, with the speakers that `label` puts into it."""

    document: Fields
    parts: list[Part]
    num_untimed: int

    suffix = ".json"

    def timed(self) -> list[Timed]:
        """Everything that has times: the segments and the words."""
        return [each for part in self.parts for each in (part.segment, *(timed for _, timed in part.words)) if each]

    def label(self, speakers: Sequence[str | None]) -> tuple[Word, ...]:
        """Put the speaker of each of `timed()` into the document; return the words, or segments without words.

        A segment with words gets the speaker of most of their time.
        """
        by_id = {id(each.fields): who for each, who in zip(self.timed(), speakers, strict=True)}
        found, beside = list[Word](), list[Word]()
        for number, part in enumerate(self.parts):
            words = list(_labeled(part, by_id, number))
            for word, (fields, _) in zip(words, part.words, strict=True):
                fields["speaker"] = word.speaker
            if part.segment is None:
                beside = beside or words
                continue
            who = _most(words) if words else by_id[id(part.segment.fields)]
            part.segment.fields["speaker"] = who
            found += words or [
                Word(
                    start_s=part.segment.start_s,
                    end_s=part.segment.end_s,
                    text=part.segment.fields["text"],
                    speaker=who,
                    segment=number,
                )
            ]
        has_words = any(part.words for part in self.parts if part.segment is not None)
        return tuple(beside if beside and not has_words else found)

    def text(self, recording: str) -> str:
        """Return the document as JSON."""
        return json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"

    @property
    def separator(self) -> str:
        """What stands between words in sentences: nothing where they bring their spaces, or the language has none."""
        texts = [_text(fields) for part in self.parts for fields, _ in part.words]
        if any(text[:1].isspace() for text in texts) or self.document.get("language") in UNSPACED_LANGUAGES:
            return ""
        return " "


def read_json_transcript(path: Path) -> JsonTranscript:
    """Read a transcript. Raises ManifestError that names the segment and word where something is wrong."""
    document = copy.deepcopy(read_json(path, WHISPER_JSON))
    segments = document.get("segments", [])
    if not isinstance(segments, list) or ("segments" not in document and not isinstance(document.get("words"), list)):
        raise ManifestError(f"{path}: has no list `segments`; give {WHISPER_JSON}")
    parts = list[Part]()
    for number, fields in enumerate(segments):
        where = f"segment {number}"
        if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
            raise ManifestError(f"{path}: {where} has no text; give {WHISPER_JSON}")
        timed = _timed(path, where, fields)
        if timed is None:
            raise ManifestError(f"{path}: {where} has no start and end; transcribe again with times")
        parts.append(Part(segment=timed, words=list(_words(path, where, fields.get("words")))))
    for name in ("words", "word_segments"):
        if name in document:
            parts.append(Part(segment=None, words=list(_words(path, name, document[name]))))
    untimed = sum(timed is None for part in parts if part.segment is not None for _, timed in part.words)
    if not any(part.segment or timed for part in parts for _, timed in part.words or [({}, None)]):
        raise ManifestError(f"{path}: holds no segment and no word with times; give {WHISPER_JSON}")
    return JsonTranscript(document=document, parts=parts, num_untimed=untimed)


def _words(path: Path, where: str, words: Any) -> Iterator[tuple[Fields, Timed | None]]:
    if words is None:
        return
    if not isinstance(words, list):
        raise ManifestError(f"{path}: `words` of {where} is no list; give {WHISPER_JSON}")
    for number, fields in enumerate(words):
        place = f"{where}, word {number}"
        if not isinstance(fields, dict) or not isinstance(fields.get("word", fields.get("text")), str):
            raise ManifestError(f"{path}: {place} has no `word`; give {WHISPER_JSON}")
        yield fields, _timed(path, f"{place} ({printable(_text(fields).strip())!r})", fields)


def _timed(path: Path, where: str, fields: Fields) -> Timed | None:
    """Return the times of a word or segment; None where it has neither start nor end."""
    start_s, end_s = fields.get("start"), fields.get("end")
    if start_s is None and end_s is None:
        return None
    if start_s is None or end_s is None:
        raise ManifestError(f"{path}: {where} has only a {'start' if end_s is None else 'end'}; it needs both")
    if not (_is_time(start_s) and _is_time(end_s) and start_s <= end_s):
        times = f"{printable(repr(start_s))[:40]} to {printable(repr(end_s))[:40]}"
        raise ManifestError(f"{path}: {where} lasts from {times}; give seconds from 0, the start first")
    return Timed(where=where, fields=fields, start_s=float(start_s), end_s=float(end_s))


def _labeled(part: Part, by_id: dict[int, str | None], number: int) -> Iterator[Word]:
    """Yield the words of a part; those without times stand at the end of the word before them."""
    words = [timed for _, timed in part.words if timed]
    if words:
        at_s, who = words[0].start_s, by_id[id(words[0].fields)]
    elif part.segment:
        at_s, who = part.segment.start_s, by_id[id(part.segment.fields)]
    else:
        at_s, who = 0.0, None
    for fields, timed in part.words:
        word = Word(start_s=at_s, end_s=at_s, text=_text(fields), speaker=who, segment=number)
        if timed:
            at_s, who = timed.end_s, by_id[id(fields)]
            word = replace(word, start_s=timed.start_s, end_s=timed.end_s, speaker=who)
        yield word


def _most(words: Sequence[Word]) -> str | None:
    spoken_s = dict[str | None, float]()
    for word in words:
        spoken_s[word.speaker] = spoken_s.get(word.speaker, 0.0) + word.end_s - word.start_s + 1e-6
    named = {who: seconds for who, seconds in spoken_s.items() if who is not None}
    return max(named, key=lambda who: named[who]) if named else None


def _text(fields: Fields) -> str:
    return str(fields.get("word", fields.get("text", "")))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
