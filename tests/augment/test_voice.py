"""Changed voices: pitch, tempo, formants and tilt by the factors asked for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xvectors.audio.condition import CONDITION_NAMES, measure_condition
from xvectors.augment.shifts import SHIFTS
from xvectors.augment.voice import change_tempo, change_voice

RATE = 16_000


def vowel(f0_hz: float = 120.0, duration_s: float = 1.5) -> NDArray[np.float32]:
    """Harmonics below 6 kHz under resonances at 700 and 1800 Hz."""
    t = np.arange(round(duration_s * RATE)) / RATE
    wave = np.zeros(len(t))
    for harmonic in range(1, int(6000 / f0_hz)):
        hz = harmonic * f0_hz
        level = sum(1 / (1 + ((hz - at) / 120) ** 2) for at in (700.0, 1800.0))
        wave += (level + 0.001) * np.sin(2 * np.pi * hz * t + harmonic**2)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def f0_hz(samples: NDArray[np.float32]) -> float:
    measures = dict(zip(CONDITION_NAMES, measure_condition(samples, RATE).tolist(), strict=True))
    return float(2 ** measures["log2_f0"])


def formant_hz(samples: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    """The center of the power between two frequencies."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    within = (hz > low_hz) & (hz < high_hz)
    return float((hz[within] * power[within]).sum() / power[within].sum())


@pytest.mark.parametrize("factor", [0.75, 1.3])
def test_tempo_changes_the_length_and_not_the_pitch(factor: float) -> None:
    spoken = change_tempo(vowel(), RATE, factor)
    assert len(spoken) == pytest.approx(1.5 * RATE / factor, abs=0.015 * RATE)
    assert f0_hz(spoken) == pytest.approx(120, rel=0.02)
    assert spoken.dtype == np.float32


@pytest.mark.parametrize("pitch", [0.85, 1.4])
def test_pitch_changes_and_formants_stay(pitch: float) -> None:
    spoken = change_voice(vowel(), RATE, pitch=pitch)
    assert f0_hz(spoken) == pytest.approx(120 * pitch, rel=0.02)
    assert len(spoken) == pytest.approx(1.5 * RATE, abs=0.015 * RATE)
    assert formant_hz(spoken, 400, 1200) == pytest.approx(formant_hz(vowel(), 400, 1200), rel=0.06)
    assert np.abs(spoken).max() == pytest.approx(np.abs(vowel()).max(), rel=1e-3)


def test_formants_move_by_their_own_factor() -> None:
    before = formant_hz(vowel(), 400, 1200)
    for factor in (0.85, 1.15):
        moved = change_voice(vowel(), RATE, formants=factor)
        assert f0_hz(moved) == pytest.approx(120, rel=0.02)
        after = formant_hz(moved, 400, 1200)
        assert 0.3 < (after / before - 1) / (factor - 1) < 1.2  # neighbors blur the center towards that of the band


def test_tilt_raises_each_octave_above_500_hz() -> None:
    noise = np.random.default_rng(0).normal(size=RATE).astype(np.float32) * 0.1
    tilted = change_voice(noise, RATE, tilt_db=3.0)

    def band_db(samples: NDArray[np.float32], low_hz: float) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        hz = np.fft.rfftfreq(len(samples), 1 / RATE)
        return float(10 * np.log10(power[(hz >= low_hz) & (hz < 1.2 * low_hz)].mean()))

    rise_db = [band_db(tilted, hz) - band_db(noise, hz) for hz in (800, 1600, 3200)]
    np.testing.assert_allclose(np.diff(rise_db), 3.0, atol=0.3)


def test_nothing_asked_for_changes_nothing() -> None:
    np.testing.assert_allclose(change_voice(vowel(), RATE), vowel(), atol=1e-6)
    assert len(change_voice(np.empty(0, np.float32), RATE, pitch=1.3)) == 0


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_shifts_are_drawn_by_their_generator(name: str, rate_hz: int) -> None:
    wave = vowel()
    once, again, other = (SHIFTS[name](wave, rate_hz, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.isfinite(once).all()
    assert np.abs(once).max() > 0.01
    assert len(once) == pytest.approx(len(wave), rel=0.4)
    if name != "landline":  # the one shift that is the same for all recordings
        assert len(once) != len(other) or np.abs(once - other).max() > 1e-3
