"""The speech detector: synthetic voices whose places are known, and everything that is no speech."""

from __future__ import annotations

import numpy as np
import pytest

from support.voices import RATE, mixed, spoken
from xvectors.audio import resample
from xvectors.audio.activity import FRAMES_PER_S, runs, speech_mask, speech_s
from xvectors.augment.noise import clicks, colored_noise, hum


def spoken_frames(speech: np.ndarray) -> np.ndarray:
    """Frames of speech within 30 dB of the loudest, with gaps of up to 0.2 s."""
    count = len(speech) * FRAMES_PER_S // RATE
    power = (speech[: count * 160].reshape(count, 160) ** 2).mean(axis=1)
    mask = power > power.max() * 1e-3
    for start, end in runs(~mask):
        mask[start:end] = start > 0 and end < count and end - start <= 20
    return mask


@pytest.mark.parametrize(("snr_db", "most_missed", "most_invented"), [(30, 0.05, 0.1), (20, 0.2, 0.05)])
def test_synthetic_speech_is_found(snr_db: float, most_missed: float, most_invented: float) -> None:
    for speech, noise in spoken(3, 8):
        truth, found = spoken_frames(speech), speech_mask(mixed(speech, noise, snr_db), RATE)
        assert (truth & ~found).sum() <= most_missed * truth.sum()
        assert (found & ~truth).sum() <= most_invented * truth.sum()


def test_speech_keeps_its_place_between_silences() -> None:
    speech, noise = spoken(3, 1)[0]
    wave = mixed(speech, noise, 30)
    alone = speech_s(wave, RATE)
    silence = np.zeros(40 * RATE, np.float32)
    found = runs(speech_mask(np.concatenate([silence, wave, silence]), RATE)) / FRAMES_PER_S
    assert found[0, 0] >= 40
    assert found[-1, 1] <= 40 + len(wave) / RATE
    assert (found[:, 1] - found[:, 0]).sum() == pytest.approx(alone, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 48_000])
def test_other_rates_give_the_same_speech(rate: int) -> None:
    speech, noise = spoken(3, 2)[1]
    wave = mixed(speech, noise, 25)
    assert speech_s(resample(wave, RATE, rate), rate) == pytest.approx(speech_s(wave, RATE), rel=0.08)


@pytest.mark.parametrize("level", [0.3, 0.01, 0.0005])
def test_noise_hum_and_knocks_are_no_speech(level: float) -> None:
    generator = np.random.default_rng(0)
    noises = {f"{slope:g} dB": colored_noise(10 * RATE, RATE, slope, generator) for slope in (2, 0, -3, -6)}
    noises |= {"hum": hum(10 * RATE, RATE, generator), "clicks": clicks(10 * RATE, RATE, generator)}
    found = {name: speech_s(level * noise / np.std(noise), RATE) for name, noise in noises.items()}
    assert found == dict.fromkeys(noises, 0.0)


def test_silence_and_what_is_shorter_than_a_frame() -> None:
    assert speech_s(np.zeros(RATE, np.float32), RATE) == 0
    assert speech_s(np.full(RATE, 0.25), RATE) == 0  # an offset alone
    assert len(speech_mask(np.ones(100, np.float32), RATE)) == 0
    assert len(speech_mask(np.empty(0, np.float32), RATE)) == 0
    assert len(speech_mask(np.zeros(RATE + 159, np.float32), RATE)) == 100


def test_frames_do_not_drift_at_rates_that_ten_milliseconds_do_not_divide() -> None:
    """A buzz at the end of ten minutes at 11025 Hz is found in its place."""
    rate = 11_025
    wave = np.zeros(600 * rate, np.float32)
    t = np.arange(rate) / rate
    wave[590 * rate : 591 * rate] = 0.1 * sum(np.sin(2 * np.pi * 120 * k * t) for k in range(1, 20)) / 5
    found = runs(speech_mask(wave, rate))
    assert len(speech_mask(wave, rate)) == 60_000
    np.testing.assert_allclose(found, [[59_000, 59_100]], atol=2)
