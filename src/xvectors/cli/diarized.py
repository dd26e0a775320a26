"""What `diarize` does beyond finding turns: read them back, enroll, name, and label the words of a transcript."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xvectors.cli.shared import print_lines
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.audio import Channel
    from xvectors.diarization import Diarization
    from xvectors.diarization.naming.enrollment import EnrolledVoice
    from xvectors.encoder import SpeakerEncoder

PAGE = ".html"
"""Suffix of the page."""


@dataclass(frozen=True)
class Wishes:
    """What a person wants done with the speakers of the one recording."""

    enroll: dict[str, str]
    rename: dict[str, str]
    transcript: Path | None
    consent: str | None

    @classmethod
    def of(
        cls,
        recordings: Sequence[Path],
        *,
        turns: Path | None,
        enroll: Sequence[str] | None,
        rename: Sequence[str] | None,
        transcript: Path | None,
        consent: str | None,
    ) -> Wishes:
        from xvectors.diarization.naming.renaming import parse_names
        from xvectors.gallery import consent_note

        given = {"--turns": turns, "--enroll": enroll, "--rename": rename, "--transcript": transcript}
        for option, value in given.items():
            if value and len(recordings) > 1:
                raise ConfigError(f"{option} is about one recording; give {option} with one at a time")
        if consent is not None and not enroll:
            raise ConfigError("--consent goes with --enroll; leave it out")
        return cls(parse_names(enroll or ()), parse_names(rename or ()), transcript, consent and consent_note(consent))

    def turn_formats(self, formats: Sequence[str]) -> list[str]:
        """Return the formats that turns are written in: captions hold the transcript's text, where there is one."""
        from xvectors.diarization.transcripts.labeling import CAPTIONS

        return [name for name in formats if self.transcript is None or name not in CAPTIONS]

    def suffixes(self, formats: Sequence[str]) -> list[str]:
        """Return the suffixes of all files to write."""
        from xvectors.diarization.transcripts.labeling import SPEAKERS, form_of
        from xvectors.diarization.turn_files.formats import WRITERS

        labeled = [] if self.transcript is None else [SPEAKERS + form_of(self.transcript)]
        return [*(WRITERS[name][0] for name in formats), *labeled]


def turns_of_file(path: Path, recording: Path) -> Diarization:
    """Return the turns of a file as a diarization, without embeddings and answers."""
    from xvectors.diarization import Diarization
    from xvectors.diarization.diarizer import recording_name
    from xvectors.diarization.turn_files.reading import read_turns

    name = recording_name(str(recording))
    turns = read_turns(path, name)
    return Diarization.of_turns(name, turns, reasons=() if turns else (f"{path} has no turns",))


def enroll_speakers_of(
    found: Diarization,
    recording: Path,
    wishes: Wishes,
    encoder: SpeakerEncoder,
    gallery: str | None,
    channel: Channel | None,
) -> list[EnrolledVoice]:
    if not wishes.enroll:
        return []
    from xvectors.audio.recording import open_recording
    from xvectors.cli.recognition import enrollment_warnings
    from xvectors.diarization.naming.enrollment import enroll_speakers
    from xvectors.gallery import open_gallery

    sound = open_recording(
        recording,
        waveform_rate_hz=encoder.sample_rate_hz,
        channel=encoder.engine.channel if channel is None else channel,
    )
    with open_gallery(gallery, system=encoder, create=True) as opened:
        enrolled = enroll_speakers(encoder, opened, sound, found.turns, wishes.enroll, consent=wishes.consent)
    for each in enrolled:
        names = [heard.name for heard in each.heard]
        print_lines(enrollment_warnings(each.result, names), stream=sys.stderr)
        print_lines(each.doubts(), stream=sys.stderr)
    return enrolled


def label_words(
    found: Diarization, recording: Path, wishes: Wishes, formats: Sequence[str], folder: Path
) -> list[Path]:
    """Write the transcript with speakers."""
    if wishes.transcript is None:
        return []
    from xvectors.audio import probe
    from xvectors.diarization.transcripts import label_transcript, write_transcript

    duration_s = probe(recording).duration_s
    labeled = label_transcript(wishes.transcript, found, recording=found.recording, duration_s=duration_s)
    print_lines((f"note: {note}" for note in labeled.notes), stream=sys.stderr)
    return write_transcript(folder, found.recording, labeled, formats)


def write_page_of(found: Diarization, recording: Path, folder: Path) -> Path:
    """Write the page of a diarization."""
    from xvectors.audio.recording import open_recording
    from xvectors.diarization.page import write_page

    sound = open_recording(recording, waveform_rate_hz=0)
    return write_page(folder / f"{found.recording}{PAGE}", found, sound, source=recording)


def lines_of(recording: Path, found: Diarization, written: Sequence[Path], *, brief: bool) -> Iterator[str]:
    if not found.turns:
        yield f"{recording}: {'; '.join(found.reasons)}"
        return
    labels = {turn.speaker: turn.label for turn in found}
    width = max(map(len, labels.values()))
    for turn in () if brief else found:
        yield f"{_clock(turn.start_s)} - {_clock(turn.end_s)}  {turn.label}"
    yield f"{recording}: {count(len(labels), 'speaker')}, {count(len(found), 'turn')}"
    for speaker, label in labels.items():
        yield f"  {label:{width}}  {found.speech_s[speaker]:.1f} s{_answer(found, speaker)}"
        if speaker in found.two_voices:
            yield (
                f"  note: {label} sounds like two voices (LLR {found.two_voices[speaker]:.1f} between halves of the "
                "speech); listen, or ask for more speakers with --speakers"
            )
    if written:
        yield f"written: {', '.join(map(str, written))}"


def _answer(found: Diarization, speaker: str) -> str:
    answer = found.speakers.get(speaker)
    if answer is None:
        return ""
    parts = [answer.answer if answer.name is None else f"{speaker} in this recording"]
    if answer.llr is not None and answer.identification.matches:
        best = answer.identification.matches[0].speaker
        parts.append(f"LLR {answer.llr:.1f}" if answer.name else f"{best} has an LLR of {answer.llr:.1f}")
    return "  " + ", ".join(parts) + "".join(f"; note: {reason}" for reason in answer.reasons)


def _clock(seconds: float) -> str:
    tenths = round(seconds * 10)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02d}:{tenths % 600 / 10:04.1f}"
