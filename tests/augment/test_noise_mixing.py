"""Noise of our own making: its color, and the ratio at which any noise is added."""

from __future__ import annotations

import numpy as np
import pytest

from support.tolerances import ROUNDING
from xvectors.augment.noise import clicks, colored_noise, hum, made_noise, mix_at_snr, mix_babble

RATE = 16_000


def ratio_db(speech: np.ndarray, mixed: np.ndarray) -> float:
    added = mixed.astype(np.float64) - speech
    return float(10 * np.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(added**2)))


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 7.3, 15.0, 40.0])
@pytest.mark.parametrize("level", [1e-3, 0.1, 3.0])
def test_the_ratio_is_exact(snr_db: float, level: float) -> None:
    generator = np.random.default_rng(1)
    speech = np.float32(level) * generator.standard_normal(RATE, dtype=np.float32)
    noise = 20 * made_noise(RATE, RATE, generator)
    assert ratio_db(speech, mix_at_snr(speech, noise, snr_db)) == pytest.approx(snr_db, abs=0.05)


def test_each_voice_of_a_babble_has_its_own_ratio_to_the_speech_alone() -> None:
    generator = np.random.default_rng(2)
    speech, first, second = generator.standard_normal((3, RATE), dtype=np.float32)
    both = mix_babble(speech, [(first, 13.0), (second, 20.0)])
    expected = 0.0
    for voice, snr_db in ((first, 13.0), (second, 20.0)):
        expected = expected + (mix_at_snr(speech, voice, snr_db) - speech)
    np.testing.assert_allclose(both - speech, expected, atol=ROUNDING)


def test_silence_has_no_ratio_and_stays_as_it_is() -> None:
    silence, noise = np.zeros(100, np.float32), np.ones(100, np.float32)
    np.testing.assert_array_equal(mix_at_snr(silence, noise, 5.0), silence)
    np.testing.assert_array_equal(mix_at_snr(noise, silence, 5.0), noise)


@pytest.mark.parametrize("slope", [0.0, -3.0, -6.0, 2.0])
def test_the_slope_of_the_spectrum(slope: float) -> None:
    noise = colored_noise(20 * RATE, RATE, slope, np.random.default_rng(3)).astype(np.float64)
    powers = np.abs(np.fft.rfft(noise)) ** 2
    octaves = np.arange(4)  # 250-500, 500-1000, 1000-2000, 2000-4000 Hz
    levels_db = [10 * np.log10(np.mean(powers[int(20 * 250 * 2**o) : int(20 * 500 * 2**o)])) for o in octaves]
    assert np.polyfit(octaves, levels_db, 1)[0] == pytest.approx(slope, abs=0.2)


def test_hum_is_harmonics_of_the_mains_alone() -> None:
    for seed in range(5):
        noise = hum(10 * RATE, RATE, np.random.default_rng(seed))
        powers = np.abs(np.fft.rfft(noise * np.hanning(len(noise)))) ** 2
        frequencies = np.arange(len(powers)) / 10
        mains = frequencies[np.argmax(powers * (frequencies < 61) * (frequencies > 49))]
        assert min(abs(mains - 50), abs(mains - 60)) <= 0.3
        # The mains may lie between two bins: 24 times half a bin is 1.2 Hz.
        harmonics = np.abs(frequencies / mains - np.rint(frequencies / mains)) * mains < 1.7
        assert powers[~harmonics].sum() < 2e-3 * powers.sum()


def test_clicks_are_rare_and_short() -> None:
    noise = clicks(10 * RATE, RATE, np.random.default_rng(4))
    assert np.abs(noise).max() > 20 * np.abs(noise).mean()
    assert np.count_nonzero(noise) < 10 * 20 * 0.02 * RATE


@pytest.mark.parametrize("num_samples", [1, 2, 17, 4001])
def test_any_length(num_samples: int) -> None:
    for seed in range(20):
        noise = made_noise(num_samples, RATE, np.random.default_rng(seed))
        assert noise.shape == (num_samples,)
        assert noise.dtype == np.float32
        assert np.isfinite(noise).all()
