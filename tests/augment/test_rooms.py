"""Rooms: reverberation times by Schroeder's integration, and where the speech stands in them."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.augment.rooms import reverberate, simulate_room

RATE = 16_000


def measured_rt60_s(response: np.ndarray, low_hz: float, high_hz: float, skip_s: float) -> float:
    """Schroeder (JASA 1965): the slope of the energy still to come, between 3 and 23 dB below its start."""
    # Cut before filtering: the filter's ringing after the direct sound would outlast a short tail.
    tail = response[round(skip_s * RATE) :].astype(np.float64)
    spectrum = np.fft.rfft(tail, 1 << 16)
    frequencies = np.fft.rfftfreq(1 << 16, 1 / RATE)
    band = np.fft.irfft(spectrum * ((frequencies >= low_hz) & (frequencies < high_hz)))[: len(tail)]
    to_come = np.cumsum(band[::-1] ** 2)[::-1]
    level_db = 10 * np.log10(to_come / to_come[0] + 1e-12)
    inside = np.flatnonzero((level_db < -3) & (level_db > -23))
    return float(-60 / (np.polyfit(inside / RATE, level_db[inside], 1)[0]))


@pytest.mark.parametrize("rt60_s", [0.15, 0.3, 0.6, 0.9])
def test_reverberation_time(rt60_s: float) -> None:
    measured = [
        measured_rt60_s(simulate_room(RATE, rt60_s, np.random.default_rng(seed)), 500, 2000, 0.025)
        for seed in range(12)
    ]
    assert np.median(measured) == pytest.approx(rt60_s, rel=0.07)
    assert np.max(np.abs(np.array(measured) / rt60_s - 1)) < 0.3


def test_high_frequencies_die_sooner() -> None:
    for seed in range(8):
        response = simulate_room(RATE, 0.6, np.random.default_rng(seed))
        high = measured_rt60_s(response, 4500, 8000, 0.025)
        assert 0.35 * 0.6 < high < 0.9 * 0.6
        assert measured_rt60_s(response, 60, 250, 0.025) > high


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_direct_sound_comes_first_and_is_the_strongest(rate: int) -> None:
    for seed in range(100):
        generator = np.random.default_rng(seed)
        response = simulate_room(rate, generator.uniform(0.05, 1.5), generator)
        assert response.dtype == np.float32
        assert response[0] == 1.0
        assert np.abs(response[1:]).max() < 1.0
        # Never more than about twice the critical distance away: -6 dB and what the first echoes add.
        assert np.sum(response[1:].astype(np.float64) ** 2) < 12


def test_speech_does_not_shift_and_keeps_its_power() -> None:
    generator = np.random.default_rng(0)
    waveform = np.zeros(RATE, np.float32)
    waveform[5000] = 0.5
    for seed in range(10):
        response = simulate_room(RATE, 0.5, np.random.default_rng(seed))
        delayed = np.concatenate([0.01 * generator.standard_normal(321, dtype=np.float32), 3 * response])
        for impulse_response in (response, delayed):
            wet = reverberate(waveform, impulse_response)
            assert wet.shape == waveform.shape
            assert np.argmax(np.abs(wet)) == 5000
            assert np.sum(wet.astype(np.float64) ** 2) == pytest.approx(0.25, rel=1e-4)


def test_equals_the_direct_convolution() -> None:
    generator = np.random.default_rng(5)
    waveform = generator.standard_normal(700, dtype=np.float32)
    response = np.array([0.1, -0.2, 1.0, 0.5, 0.0, -0.3], np.float32)
    expected = np.convolve(waveform.astype(np.float64), response)[2:702]
    expected *= np.sqrt(np.mean(waveform**2) / np.mean(expected**2))
    np.testing.assert_allclose(reverberate(waveform, response), expected, atol=1e-5)


def test_a_response_longer_than_the_speech() -> None:
    response = simulate_room(RATE, 0.9, np.random.default_rng(1))
    for num_samples in (1, 2, 50):
        wet = reverberate(np.full(num_samples, 0.3, np.float32), response)
        assert wet.shape == (num_samples,)
        assert np.mean(wet.astype(np.float64) ** 2) == pytest.approx(0.09, rel=1e-4)
