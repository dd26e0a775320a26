"""Who the speakers of a stream are: the gallery is asked again as they say more, until it accepts a name."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xvectors.audio import Samples
from xvectors.diarization.naming.answers import SpeakerAnswer
from xvectors.gallery import Gallery
from xvectors.verification.decision import Encoder

FIRST_ASKED_S = 3.0
"""Seconds of speech with which the gallery is asked first; it is asked again each time there is twice as much."""
MOST_VOICE_S = 48.0
"""Seconds of speech of a speaker that are kept, and with which the gallery is asked last."""


@dataclass
class _Voice:
    parts: list[Samples] = field(default_factory=list)
    kept_s: float = 0.0
    next_s: float = FIRST_ASKED_S
    answer: SpeakerAnswer | None = None
    doubts: list[str] = field(default_factory=list)


class SequentialNames:
    """The gallery's answers for speakers whose speech grows.

    Each answer is `Gallery.identify_recording`'s for all the speech so far. A name, once accepted, stays; where a later
    answer is another, `doubts` says so.
    """

    def __init__(self, encoder: Encoder, gallery: Gallery, sample_rate_hz: int) -> None:
        self._encoder, self._gallery, self._rate = encoder, gallery, sample_rate_hz
        self._voices = dict[str, _Voice]()

    def hear(self, speaker: str, samples: Samples) -> None:
        """Add speech of a speaker, float32 [samples], and ask the gallery where there is enough.

        Raises GalleryError where the gallery cannot be used.
        """
        voice = self._voices.setdefault(speaker, _Voice())
        if voice.kept_s >= MOST_VOICE_S:
            return
        voice.parts.append(samples)
        voice.kept_s += len(samples) / self._rate
        if voice.kept_s < voice.next_s:
            return
        voice.next_s = 2 * voice.next_s
        found = SpeakerAnswer.of(self._gallery.identify_recording(self._encoder, np.concatenate(voice.parts)))
        if voice.answer is None or voice.answer.name is None:
            voice.answer = found
        elif found.name != voice.answer.name:
            voice.doubts.append(f"with {voice.kept_s:.0f} s of speech the gallery's answer is {found.answer}")
        if voice.kept_s >= MOST_VOICE_S:
            voice.parts.clear()

    def answer(self, speaker: str) -> SpeakerAnswer | None:
        """Return the answer that holds for a speaker; None before the gallery was asked."""
        voice = self._voices.get(speaker)
        return None if voice is None else voice.answer

    @property
    def doubts(self) -> dict[str, tuple[str, ...]]:
        """Later answers that are not the name that was accepted, by speaker."""
        return {speaker: tuple(voice.doubts) for speaker, voice in self._voices.items() if voice.doubts}
