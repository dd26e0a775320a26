"""Put speakers of a recording into a gallery: what each of them says alone is enrolled like a recording."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xvectors.audio.recording import OpenRecording
from xvectors.audio.speech import MAX_SPEECH_S, Heard
from xvectors.diarization.clustering.purity import two_voices
from xvectors.diarization.naming.answers import voice_of
from xvectors.diarization.naming.renaming import names_of_speakers
from xvectors.diarization.turns import Turn, alone
from xvectors.diarization.windows import embed_windows, joined_regions
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import ConfigError, TooShortError
from xvectors.gallery import EnrollmentResult, Gallery
from xvectors.gallery.recordings import embed_recordings
from xvectors.text import count

UNNAMED = re.compile(r"speaker_\d+")
"""Labels of speakers within a recording, which are no names."""


@dataclass(frozen=True, kw_only=True)
class EnrolledVoice:
    """One name's enrollment from a recording.

    Attributes
    ----------
    labels : the speakers of the recording that were enrolled under this name, each with one voiceprint
    heard : their speech, in the same order
    two_voices : LLRs of both halves of those labels whose speech sounds like two voices, by label
    result : the gallery's
    """

    labels: tuple[str, ...]
    heard: tuple[Heard, ...]
    two_voices: Mapping[str, float]
    result: EnrollmentResult

    def __str__(self) -> str:
        speech = f"{sum(each.speech_s for each in self.heard):.1f} s of speech of {', '.join(self.labels)}"
        if self.result.num_before:
            known = count(self.result.num_before, "voiceprint")
            return f"{self.result.speaker} was enrolled already, with {known}; added {speech}"
        return f"{self.result.speaker} is enrolled, with {speech}"

    def doubts(self) -> Iterator[str]:
        """Yield a warning for each label that sounds like two voices, and the notes on the sound."""
        for label, llr in self.two_voices.items():
            yield (
                f"warning: {label} sounds like two voices (LLR {llr:.1f} between halves of the speech); if they are "
                f"two, `xvectors forget {self.result.speaker} --last` undoes this enrollment"
            )
        yield from (f"note: {each.name}: {note}" for each in self.heard for note in each.quality.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **asdict(self.result),
            "labels": list(self.labels),
            "speech_s": [each.speech_s for each in self.heard],
            "two_voices": dict(self.two_voices),
        }


def enroll_speakers(
    encoder: SpeakerEncoder,
    gallery: Gallery,
    sound: OpenRecording,
    turns: Sequence[Turn],
    names: Mapping[str, str],
    *,
    consent: str | None = None,
) -> list[EnrolledVoice]:
    """Enroll speakers of a recording by what they say while nobody else speaks, up to five minutes of it.

    Nobody is enrolled where one of them cannot be.

    Parameters
    ----------
    sound
        The recording that the turns are of, as `open_recording` opens it.
    names
        The name under which each speaker, by label, is enrolled. Speakers of one name get a voiceprint each, and the
        gallery compares them.
    consent
        A note, as in `Gallery.enroll`.

    Raises
    ------
    AudioError
        The recording cannot be read.
    TooShortError
        A speaker says too little alone.
    ConfigError
        An unknown label, a speaker with two names, or an impossible name, such as the label of another speaker.
    GalleryError, StorageError
        As in `Gallery.enroll`.
    """
    groups = dict[str, list[str]]()
    for speaker, name in names_of_speakers(turns, names).items():
        if UNNAMED.fullmatch(name):
            raise ConfigError(
                f"{speaker} cannot be enrolled as {name}, the label of a speaker without a name; give a name, or join "
                "the two with --rename"
            )
        groups.setdefault(name, []).append(speaker)
    speech = alone(turns)
    prepared = []
    for name, labels in groups.items():
        for label in labels:
            if not any(turn.speaker == label for turn in speech):
                raise TooShortError(f"{sound.name}: {label} never speaks alone; give a recording with more speech")
        voices = [voice_of(label, sound, speech, encoder.sample_rate_hz, most_s=MAX_SPEECH_S) for label in labels]
        titles = [f"{label} in {sound.name}" for label in labels]
        prepared.append((name, labels, embed_recordings(encoder, voices, names=titles)))
    return [
        EnrolledVoice(
            labels=tuple(labels),
            heard=tuple(heard),
            two_voices=_doubted(encoder, sound, speech, labels),
            result=gallery.enroll(
                name,
                embeddings,
                [each.speech_s for each in heard],
                condition=[each.condition for each in heard],
                consent=consent,
            ),
        )
        for name, labels, (embeddings, heard) in prepared
    ]


def _doubted(
    encoder: SpeakerEncoder, sound: OpenRecording, speech: Sequence[Turn], labels: Sequence[str]
) -> dict[str, float]:
    found = dict[str, float]()
    if not encoder.verifier.is_calibrated:
        return found
    for label in labels:
        regions = joined_regions([(turn.start_s, turn.end_s) for turn in speech if turn.speaker == label])
        windows = embed_windows(sound, regions, encoder.engine)
        if len(windows):
            same = np.zeros(len(windows), dtype=np.int64)
            lengths_s = windows.end_s - windows.start_s
            llrs = two_voices(windows.embeddings, lengths_s, windows.seconds, same, encoder.verifier)
            if llrs:
                found[label] = llrs[0]
    return found
