"""The condition of speech: each measure against a signal whose value is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xvectors.audio import resample
from xvectors.audio.condition import CONDITION_NAMES, FLOOR_DB, mean_conditions, measure_condition, unknown_conditions

RATE = 16_000


def voice(f0_hz: float = 140.0, duration_s: float = 2.0, rate_hz: int = RATE) -> NDArray[np.float32]:
    """Harmonics that fall by 6 dB an octave up to 7.5 kHz, which rise and fall in level three times a second."""
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    count = int(min(7500, rate_hz / 2 - 100) / f0_hz)
    wave = sum(np.sin(2 * np.pi * f0_hz * k * t + k * k) / k for k in range(1, count + 1))
    return np.asarray(0.1 * wave * (1.05 + np.sin(2 * np.pi * 3 * t)), dtype=np.float32)


def named(samples: NDArray[np.float32], rate_hz: int = RATE) -> dict[str, float]:
    return dict(zip(CONDITION_NAMES, measure_condition(samples, rate_hz).tolist(), strict=True))


@pytest.mark.parametrize("f0_hz", [80.0, 140.0, 230.0, 400.0])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_the_pitch_is_found_at_every_rate(f0_hz: float, rate_hz: int) -> None:
    found = named(voice(f0_hz, rate_hz=rate_hz), rate_hz)
    assert found["log2_f0"] == pytest.approx(np.log2(f0_hz), abs=0.03)
    assert found["f0_range_octaves"] < 0.05


def test_the_range_of_the_pitch_is_that_of_its_tenth_to_ninetieth_percentile() -> None:
    steps = np.concatenate([voice(f0_hz, 1.0) for f0_hz in (100.0, 200.0)])
    assert named(steps)["f0_range_octaves"] == pytest.approx(1.0, abs=0.05)


def test_a_telephone_lacks_the_high_band() -> None:
    wide = voice()
    narrow = resample(resample(wide, RATE, 8000), 8000, RATE)
    assert named(wide)["high_band_db"] - named(narrow)["high_band_db"] > 15
    assert named(narrow)["low_band_db"] == pytest.approx(named(wide)["low_band_db"], abs=0.5)
    assert named(narrow)["log2_f0"] == pytest.approx(named(wide)["log2_f0"], abs=0.02)
    assert named(voice(rate_hz=8000), 8000)["high_band_db"] == FLOOR_DB


def test_noise_narrows_the_range_of_the_level() -> None:
    clean = voice()
    noise = np.random.default_rng(0).normal(size=len(clean)).astype(np.float32)
    noisy = clean + noise * np.float32(np.sqrt(np.square(clean).mean() / np.square(noise).mean() / 10))
    assert named(clean)["level_range_db"] - named(noisy)["level_range_db"] > 5


def test_clipping_lowers_the_kurtosis() -> None:
    clean = voice()
    clipped = np.clip(clean, -0.1 * clean.max(), 0.1 * clean.max())
    assert named(clean)["log_kurtosis"] - named(clipped)["log_kurtosis"] > 0.5
    square = np.sign(np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE + 0.1)).astype(np.float32)
    assert named(square)["log_kurtosis"] == pytest.approx(0.0, abs=0.01)  # x^4 = (x^2)^2 = 1


def test_the_level_does_not_matter() -> None:
    np.testing.assert_allclose(measure_condition(voice(), RATE), measure_condition(0.01 * voice(), RATE), atol=1e-3)


def test_a_long_recording_is_measured_by_stretches_of_it() -> None:
    short, long = voice(duration_s=20), voice(duration_s=100)
    np.testing.assert_allclose(measure_condition(short, RATE), measure_condition(long, RATE), atol=0.5)


def test_what_cannot_be_measured_is_nan() -> None:
    assert np.isnan(measure_condition(np.zeros(RATE, np.float32), RATE)).all()
    assert np.isnan(measure_condition(voice(duration_s=0.2), RATE)).all()
    noise = named(np.random.default_rng(0).normal(size=RATE).astype(np.float32))
    assert np.isnan([noise["log2_f0"], noise["f0_range_octaves"]]).all()
    assert np.isfinite(noise["high_band_db"])


def test_a_mean_counts_the_members_that_have_the_measure() -> None:
    conditions = unknown_conditions(4)
    conditions[:3, 0] = 1.0, 4.0, 7.0
    conditions[1, 5] = 2.0
    conditions[3, 5] = 8.0
    found = mean_conditions(conditions, [1.0, 2.0, 3.0, 4.0], [0, 0, 1, 0], 3)
    assert found.dtype == np.float32
    # (1 * 1 + 2 * 4) / 3, and (2 * 2 + 4 * 8) / 6
    np.testing.assert_allclose(found[:, 0], [3.0, 7.0, np.nan])
    np.testing.assert_allclose(found[:, 5], [6.0, np.nan, np.nan])
    assert np.isnan(found[:, 1:5]).all()
