"""From several channels to one: means, sides, numbers, and channels that cancel."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from support.sounds import RATE, encoded, noise
from xvectors import audio
from xvectors.errors import AudioError

SOUND = noise(3.0)


def stereo(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=1)


def test_opposite_channels_are_read_as_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, stereo(SOUND, -SOUND), RATE, "FLOAT")
    np.testing.assert_array_equal(audio.read(path)[0], SOUND)
    np.testing.assert_array_equal(audio.read(path, start_s=1.0, duration_s=0.5)[0], SOUND[RATE : RATE * 3 // 2])
    np.testing.assert_array_equal(np.concatenate(list(audio.stream(path, sample_rate_hz=RATE, block_s=0.7))), SOUND)
    np.testing.assert_array_equal(np.concatenate(list(audio.blocks(path, block_s=0.7, channel="mix"))), SOUND)
    found = audio.canceled(path)
    assert found is not None
    assert (found.channel, found.num_channels, found.below_db) == (0, 2, math.inf)
    assert found.note == (
        "its 2 channels cancel each other: their mix leaves nothing, so only channel 0 (left) is used"
    )


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_what_a_lossy_encoder_leaves_of_canceled_channels_is_no_voice(kind: str, subtype: str) -> None:
    # most of the power below 500 Hz, as in speech: Vorbis keeps no phases in the treble
    voice = (4 * np.convolve(SOUND, np.hanning(65) / 32, mode="same")).astype(np.float32)
    content = encoded(stereo(voice, -voice), kind, subtype)
    found = audio.canceled(content)
    assert found is not None
    assert found.below_db > 12  # far from the bound, at the encoders' own quality
    np.testing.assert_array_equal(audio.read(content)[0], audio.read(content, channel=found.channel)[0])


@pytest.mark.parametrize(
    ("gain", "cancels"), [(-1.0, True), (-0.7, True), (-0.3, True), (-0.1, False), (0.0, False), (1.0, False)]
)
def test_five_decibels_are_the_bound(gain: float, cancels: bool) -> None:
    """Of x and g x the mean has (1 + g)^2 / 4 of the power, the channels (1 + g^2) / 2: -15 dB at -0.7, -7 at -0.3,
    -4 at -0.1."""
    found = audio.canceled(encoded(stereo(SOUND, gain * SOUND), "WAV", "FLOAT"))
    assert (found is not None) == cancels
    if gain == -0.7:
        assert found is not None
        assert found.below_db == pytest.approx(10 * math.log10(1.49 / 2 / (0.09 / 4)), abs=0.01)


def test_speech_of_the_lowest_quality_is_found_to_cancel() -> None:
    """Vorbis keeps so little of the phases that the mean is a caricature, which is no speaker's voice."""
    voice = (4 * np.convolve(SOUND, np.hanning(9) / 4, mode="same")).astype(np.float32)
    content = encoded(stereo(voice, -voice), "OGG", "VORBIS", compression_level=1.0)
    found = audio.canceled(content)
    assert found is not None
    assert found.below_db < 12


def test_the_louder_channel_is_taken() -> None:
    found = audio.canceled(encoded(stereo(0.7 * SOUND, -SOUND), "WAV", "FLOAT"))
    assert found is not None
    assert found.channel == 1
    assert "channel 1 (right)" in found.note


def test_two_voices_and_many_microphones_do_not_cancel() -> None:
    for frames in (
        stereo(SOUND, noise(3.0, seed=1)),
        stereo(SOUND, np.zeros_like(SOUND)),
        np.stack([noise(3.0, seed=seed) for seed in range(16)], axis=1),
        stereo(np.zeros_like(SOUND), np.zeros_like(SOUND)),
        SOUND,
    ):
        assert audio.canceled(encoded(frames, "WAV", "FLOAT")) is None


def test_a_long_recording_is_judged_by_pieces_and_silence_by_none(tmp_path: Path) -> None:
    sound = np.zeros(60 * RATE, np.float32)
    sound[31 * RATE : 32 * RATE] = noise(1.0)  # between the pieces
    audio.write(tmp_path / "a.flac", stereo(sound, -sound), RATE)
    found = audio.canceled(tmp_path / "a.flac")
    assert found is not None
    np.testing.assert_allclose(audio.read(tmp_path / "a.flac")[0], sound, rtol=0, atol=2**-15)


def test_sides_and_numbers() -> None:
    right = noise(3.0, seed=1)
    content = encoded(stereo(SOUND, right), "WAV", "FLOAT")
    for channel, expected in (("left", SOUND), (0, SOUND), ("right", right), (1, right), ("mix", (SOUND + right) / 2)):
        np.testing.assert_allclose(audio.read(content, channel=channel)[0], expected, rtol=0, atol=1e-7)
    with pytest.raises(AudioError, match=r"has no channel 2, it has 2 channels \(numbered from 0\)"):
        audio.read(content, channel=2)
    with pytest.raises(AudioError, match="has no channel right, it has one channel"):
        audio.read(encoded(SOUND, "WAV", "FLOAT"), channel="right")
    with pytest.raises(AudioError, match="has no channel center, it has 2 channels"):
        audio.read(content, channel="center")  # type: ignore[arg-type]
