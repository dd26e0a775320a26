"""From a transcript and turns to a transcript with speakers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xvectors.diarization.transcripts import captions
from xvectors.diarization.transcripts.ctm_form import read_ctm
from xvectors.diarization.transcripts.json_form import read_json_transcript
from xvectors.diarization.transcripts.words import LABEL_GAP_S, Word, speakers_of_spans
from xvectors.diarization.turns import Turn
from xvectors.errors import ConfigError, ManifestError
from xvectors.files import write_text
from xvectors.text import agree, count, short_repr

FORMS = (".json", ".ctm")
SPEAKERS = ".speakers"
"""Stands before the suffix of a transcript with speakers."""
CAPTIONS = ("vtt", "srt")
"""Formats of turns that hold the text instead, where there is a transcript."""
PAST_END_S = 1.0
"""Times may lie this much after the end of the recording: models of speech recognition round them."""


@short_repr("words", "notes")
@dataclass(frozen=True, kw_only=True)
class LabeledTranscript:
    """A transcript whose words have speakers.

    Attributes
    ----------
    words : in the transcript's order; whole segments where it has no words
    text : what a file of the same form as the transcript holds
    suffix : of such a file, ".json" or ".ctm"
    separator : what stands between two words in a sentence
    notes : what a reader should know
    """

    words: tuple[Word, ...]
    text: str
    suffix: str
    separator: str
    notes: tuple[str, ...]

    def to_vtt(self) -> str:
        """Return captions with speakers as WebVTT."""
        return captions.as_vtt(self.words, self.separator)

    def to_srt(self) -> str:
        """Return captions with speakers as SubRip."""
        return captions.as_srt(self.words, self.separator)


def label_transcript(
    path: str | os.PathLike[str],
    turns: Sequence[Turn],
    *,
    recording: str,
    duration_s: float | None = None,
    gap_s: float = LABEL_GAP_S,
) -> LabeledTranscript:
    """Give each word of a transcript its speaker: whoever speaks most during it.

    Parameters
    ----------
    path
        The JSON of whisper, whisperX or a program that writes alike, or a CTM file (by its suffix).
    turns
        A `Diarization`, or other turns. `Turn.label` is the speaker.
    recording
        Name of the recording, without folder and suffix, which chooses its lines in CTM.
    duration_s
        Duration of the recording, if the transcript is to be checked against it.
    gap_s
        A word during which nobody has a turn gets the speaker of the nearest one, at most this far away; None beyond.

    Raises
    ------
    ConfigError
        The suffix is neither .json nor .ctm.
    ManifestError
        The file cannot be read or is no transcript, a time is wrong or missing, or lies after the recording's end.

    Examples
    --------
    >>> labeled = label_transcript("words.json", diarizer.diarize("meeting.wav"), recording="meeting")  # doctest: +SKIP
    >>> print(labeled.to_srt())  # doctest: +SKIP
    """
    path = Path(path)
    transcript = read_json_transcript(path) if form_of(path) == ".json" else read_ctm(path, recording)
    timed = transcript.timed()
    for each in timed:
        if duration_s is not None and each.start_s > duration_s + PAST_END_S:
            raise ManifestError(
                f"{path}: {each.where} starts at {each.start_s:.1f} s, but {recording} lasts {duration_s:.1f} s; give "
                "the transcript of this recording"
            )
    words = transcript.label(speakers_of_spans([(each.start_s, each.end_s) for each in timed], turns, gap_s=gap_s))
    notes, lost = list[str](), sum(word.speaker is None for word in words)
    if transcript.num_untimed:
        number = count(transcript.num_untimed, "word")
        notes.append(f"{path}: {number} without times, given to the speaker of the word beside")
    if lost:
        verb = agree(lost, "has", "have")
        notes.append(f"{path}: {count(lost, 'word')} {verb} no speaker: no turn within {gap_s:g} s")
    return LabeledTranscript(
        words=words,
        text=transcript.text(recording),
        suffix=transcript.suffix,
        separator=transcript.separator,
        notes=tuple(notes),
    )


def form_of(path: Path) -> str:
    """Return the suffix of a transcript in lower case. Raises ConfigError for another than .json and .ctm."""
    kind = path.suffix.lower()
    if kind not in FORMS:
        raise ConfigError(f"{path}: no transcript by its suffix; give the .json of whisper or whisperX, or a .ctm file")
    return kind


def write_transcript(
    folder: str | os.PathLike[str], recording: str, labeled: LabeledTranscript, formats: Sequence[str] = ()
) -> list[Path]:
    """Write a labeled transcript in its own form and, of `formats`, as "vtt" and "srt"; return the paths.

    The files are named after the recording: `meeting.speakers.json` and `meeting.vtt`. Raises StorageError where one
    cannot be written.
    """
    texts = {SPEAKERS + labeled.suffix: labeled.text}
    if "vtt" in formats:
        texts[".vtt"] = labeled.to_vtt()
    if "srt" in formats:
        texts[".srt"] = labeled.to_srt()
    written = [Path(folder) / f"{recording}{suffix}" for suffix in texts]
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, text)
    return written
