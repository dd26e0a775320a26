"""Who the speakers of a recording are: each one's own speech, joined, is identified in a gallery like a recording.

The decision is `Gallery.identify_recording`'s, with its calibrated open-set probabilities and its reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xvectors.audio import Samples
from xvectors.audio.recording import OpenRecording
from xvectors.diarization.turns import Turn
from xvectors.gallery import Gallery, Identification
from xvectors.verification.decision import CANNOT_TELL, Encoder

UNKNOWN = "unknown"
MAX_VOICE_S = 60.0
"""Seconds of a speaker's longest turns that are compared; LLRs hardly grow beyond."""


@dataclass(frozen=True, kw_only=True)
class SpeakerAnswer:
    """The gallery's answer for a speaker of a recording.

    Attributes
    ----------
    answer : name of an enrolled speaker, "unknown" where none of them is accepted, or "cannot tell"
    name : the name, where the answer is one
    llr : natural-log LLR of the best match; None without one
    reasons : why there is no answer, or what weakens it
    identification : the gallery's whole answer
    """

    answer: str
    name: str | None
    llr: float | None
    reasons: tuple[str, ...]
    identification: Identification

    @classmethod
    def of(cls, found: Identification) -> SpeakerAnswer:
        best = found.matches[0] if found.matches else None
        answer = CANNOT_TELL if not found.decided else found.speaker or UNKNOWN
        return cls(
            answer=answer,
            name=found.speaker if found.decided else None,
            llr=None if best is None else best.llr,
            reasons=found.reasons,
            identification=found,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "answer": self.answer,
            "name": self.name,
            "llr": self.llr,
            "reasons": list(self.reasons),
            "identification": self.identification.to_dict(),
        }

    def applied_to(self, turn: Turn) -> Turn:
        """Return the turn with the answer."""
        return replace(turn, name=self.name, answer=self.answer, llr=self.llr)


def name_speakers(
    encoder: Encoder, gallery: Gallery, sound: OpenRecording, turns: Sequence[Turn], sample_rate_hz: int
) -> dict[str, SpeakerAnswer]:
    """Identify each speaker in a gallery by the longest turns; `sample_rate_hz` is the system's.

    Raises
    ------
    AudioError
        The recording cannot be read.
    GalleryError
        The gallery is empty, or of another system.
    """
    answers = dict[str, SpeakerAnswer]()
    for speaker in dict.fromkeys(turn.speaker for turn in turns):
        voice = voice_of(speaker, sound, turns, sample_rate_hz)
        answers[speaker] = SpeakerAnswer.of(gallery.identify_recording(encoder, voice))
    return answers


def voice_of(
    speaker: str, sound: OpenRecording, turns: Sequence[Turn], sample_rate_hz: int, *, most_s: float = MAX_VOICE_S
) -> Samples:
    """Return the samples of a speaker's longest turns, up to `most_s` seconds, joined in order of time."""
    own = sorted((turn for turn in turns if turn.speaker == speaker), key=lambda turn: -turn.duration_s)
    taken, total_s = list[Turn](), 0.0
    for turn in own:
        if total_s < most_s:
            taken.append(turn)
            total_s += turn.duration_s
    parts = [
        sound.read(sample_rate_hz, turn.start_s, min(turn.duration_s, most_s))
        for turn in sorted(taken, key=lambda turn: turn.start_s)
    ]
    return np.concatenate(parts)
