"""Measure the condition in which speech was recorded and spoken: band, pauses, compression and pitch.

The calibration uses these measures of both sides of a trial, so that what two recordings share or do not share besides
the voice counts less (condition-aware calibration: Ferrer et al., Comput. Speech Lang. 2022). They are computed from
the speech that is embedded, whatever network embeds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio.sound import Samples

CONDITION_NAMES = ("high_band_db", "low_band_db", "level_range_db", "log_kurtosis", "log2_f0", "f0_range_octaves")
"""The measures: level of 4 to 7.5 kHz and of 80 to 250 Hz relative to 250 to 2000 Hz; range of the level from its 5th
to its 95th percentile; log of the fourth moment over the squared power; median and range from the 10th to the 90th
percentile of log2 of the fundamental frequency in Hz."""
LEAST_SPREAD = (3.0, 3.0, 3.0, 0.15, 0.1, 0.1)
"""Differences of the measures that are never called a shift, however alike the recordings of a calibration set are."""

MIN_SAMPLES_S = 0.25
"""Less is not measured."""
MAX_MEASURED_S = 20.0
"""Longer speech is measured in ten equally spaced stretches of two seconds."""
STRETCHES = 10
FRAME_S, HOP_S = 0.032, 0.02
FLOOR_DB = -60.0
MIDDLE_HZ, LOW_HZ, HIGH_HZ = (250.0, 2000.0), (80.0, 250.0), ((4000.0, 5000.0), (5000.0, 6000.0), (6000.0, 7500.0))
F0_FRAME_S, F0_HZ = 0.04, (65.0, 500.0)
MIN_PERIODICITY = 0.5
"""Normalized autocorrelation of a voiced frame."""
NEAR_BEST = 0.88
"""The shortest lag with this share of the greatest autocorrelation is the period, rather than a multiple of it."""
MIN_VOICED_FRAMES = 5


def measure_condition(speech: Samples, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the measures [6] of `CONDITION_NAMES` of speech [samples]; NaN for those that cannot be measured.

    A band that the sample rate does not reach has the level `FLOOR_DB`.
    """
    unknown: NDArray[np.float32] = unknown_conditions(1)[0]
    if len(speech) < MIN_SAMPLES_S * sample_rate_hz:
        return unknown
    samples = _stretches(np.asarray(speech, dtype=np.float32), sample_rate_hz)
    samples = samples - samples.mean()
    power = float(np.square(samples).mean())
    if power < 1e-14:
        return unknown
    samples /= np.float32(np.sqrt(power))
    spectra = _power_spectra(samples, sample_rate_hz)
    hz = np.fft.rfftfreq(2 * (spectra.shape[1] - 1), 1 / sample_rate_hz)
    average = spectra.mean(axis=0)
    middle_db = _level_db(average, hz, MIDDLE_HZ)
    bands = [max(_level_db(average, hz, band) - middle_db, FLOOR_DB) for band in (LOW_HZ, *HIGH_HZ)]
    level_db = 10 * np.log10(spectra.sum(axis=1) + 1e-9)
    quiet, loud = np.percentile(level_db, (5, 95))
    return np.array(
        [
            np.mean(bands[1:]),
            bands[0],
            loud - quiet,
            np.log(np.square(np.square(samples)).mean()),
            *_pitch(samples, sample_rate_hz),
        ],
        dtype=np.float32,
    )


def unknown_conditions(count: int) -> NDArray[np.float32]:
    """Return conditions [count, 6] of which nothing is known: NaN."""
    return np.full((count, len(CONDITION_NAMES)), np.nan, dtype=np.float32)


def joined_conditions(conditions: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """Return conditions [n, 6] of n recordings; NaN for those that are None."""
    found = unknown_conditions(len(conditions))
    for at, condition in enumerate(conditions):
        if condition is not None:
            found[at] = condition
    return found


def mean_conditions(
    conditions: NDArray[np.float32], weights: ArrayLike, groups: NDArray[np.integer], num_groups: int
) -> NDArray[np.float32]:
    """Return the weighted mean [num_groups, 6] of each group's conditions; NaN where no member has the measure.

    Parameters
    ----------
    conditions
        [n, 6], as `measure_condition` gives them. Those that are NaN are left out.
    weights, groups
        [n] above 0, such as seconds, and the group of each row, from 0.
    """
    known = ~np.isnan(conditions)
    weighted = np.where(known, np.asarray(weights, dtype=np.float64)[:, None], 0.0)
    sums, totals = np.zeros((2, num_groups, len(CONDITION_NAMES)))
    np.add.at(sums, groups, weighted * np.where(known, conditions, 0.0))
    np.add.at(totals, groups, weighted)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float32] = (sums / totals).astype(np.float32)
    return means


def _stretches(speech: Samples, sample_rate_hz: int) -> Samples:
    if len(speech) <= MAX_MEASURED_S * sample_rate_hz:
        return speech
    size = round(MAX_MEASURED_S / STRETCHES * sample_rate_hz)
    starts = np.linspace(0, len(speech) - size, STRETCHES).round().astype(int)
    return np.concatenate([speech[start : start + size] for start in starts])


def _frames(samples: Samples, size: int, hop: int) -> NDArray[np.float32]:
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _power_spectra(samples: Samples, sample_rate_hz: int) -> NDArray[np.float32]:
    from scipy import fft  # half the time of numpy's, which transforms one frame after the other

    size = round(FRAME_S * sample_rate_hz) // 2 * 2
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    spectra = fft.rfft(_frames(samples, size, round(HOP_S * sample_rate_hz)) * window)
    power: NDArray[np.float32] = np.square(spectra.real) + np.square(spectra.imag)
    return power


def _level_db(power: NDArray[np.float32], hz: NDArray[np.floating], band_hz: tuple[float, float]) -> float:
    within = power[(hz >= band_hz[0]) & (hz < band_hz[1])]
    return 10 * float(np.log10(within.mean() + 1e-9)) if len(within) else -np.inf


def _pitch(samples: Samples, sample_rate_hz: int) -> tuple[float, float]:
    """Return median and range of log2 of the fundamental frequency, by the autocorrelation of windowed frames.

    The autocorrelation is divided by that of the window (Boersma, IFA Proceedings 1993).
    """
    from scipy import fft

    size = round(F0_FRAME_S * sample_rate_hz)
    frames = _frames(samples, size, round(HOP_S * sample_rate_hz))
    energy = np.einsum("ij,ij->i", frames, frames)
    frames = frames[energy > 0.05 * np.percentile(energy, 95)]
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    lags = np.arange(int(sample_rate_hz / F0_HZ[1]), min(int(sample_rate_hz / F0_HZ[0]), size - 1) + 1)
    width = fft.next_fast_len(size + int(lags[-1]) + 1, real=True)  # the lags used do not wrap around
    of_window = fft.irfft(np.square(np.abs(fft.rfft(window, width))), width)
    spectra = fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * window, width)
    found = fft.irfft(np.square(spectra.real) + np.square(spectra.imag), width)
    similarity = found[:, lags[0] : lags[-1] + 1] * (of_window[0] / of_window[lags])
    similarity /= found[:, :1] + np.float32(1e-9)
    best = similarity.max(axis=1)
    voiced = best > MIN_PERIODICITY
    if np.count_nonzero(voiced) < MIN_VOICED_FRAMES:
        return float("nan"), float("nan")
    similarity, best = similarity[voiced], best[voiced]
    rows, at = np.arange(len(best)), (similarity >= NEAR_BEST * best[:, None]).argmax(axis=1)
    while True:  # climb to the top of that peak
        after = np.minimum(at + 1, len(lags) - 1)
        higher = similarity[rows, after] > similarity[rows, at]
        if not higher.any():
            break
        at = np.where(higher, after, at)
    log2_f0 = np.log2(sample_rate_hz / lags[at])
    low, middle, high = np.percentile(log2_f0, (10, 50, 90))
    return float(middle), float(high - low)
