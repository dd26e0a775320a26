"""What is no speech is no voice: music, tones and machines against synthetic voices and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.nonspeech import KINDS, RATE, sound
from support.voices import mixed, spoken
from xvectors.audio.speech import listen


def unlike(wave: np.ndarray) -> bool:
    return listen(wave.astype(np.float32), "x", sample_rate_hz=RATE).quality.is_unlike_speech


def test_music_tones_and_machines_are_no_speech() -> None:
    """New seeds of the kinds learned from: of those in which voicing is found 33 of 38 are refused."""
    heard = [listen(sound(kind, 100_000 + seed, 5.0), kind, sample_rate_hz=RATE) for kind in KINDS for seed in range(3)]
    found = [side.quality.is_unlike_speech for side in heard if side.speech_s >= 0.4]
    assert len(found) >= 20
    assert np.mean(found) >= 0.8


def test_voices_are_speech_also_in_noise_and_over_music() -> None:
    for number, (speech, noise) in enumerate(spoken(77, 6)):
        assert not unlike(mixed(speech, noise, 20))
        assert not unlike(mixed(speech, noise, 10))
        assert not unlike(mixed(speech, sound("piano", number, len(speech) / RATE)[: len(speech)], 10))


@pytest.mark.slow
@pytest.mark.real
def test_real_speech_is_not_refused(speechocean: Path) -> None:
    """Of eight corpora: children, accents, words joined, telephones' and laptops' microphones, MP3 and Opus."""
    corpora = [folder for folder in sorted(speechocean.parent.iterdir()) if folder.is_dir()]
    refused, heard = [], 0
    for corpus in corpora:
        files = sorted(path for path in corpus.rglob("*") if path.suffix in (".flac", ".mp3", ".ogg", ".opus", ".wav"))
        for path in files[:: max(10, len(files) // 30)]:
            heard += 1
            if listen(path, str(path), sample_rate_hz=RATE).quality.is_unlike_speech:
                refused.append(path.name)
    assert heard > 100
    assert refused == []
