"""Tell speech from music, tones, signals, machines and noise, five seconds at a time, with numpy alone.

The VAD in `xvectors.audio.activity` asks for voicing, which music has. Here is what tells them apart: speech glides,
where notes stay; its envelope changes at the rate of syllables; voiced and unvoiced sounds alternate. A logistic model
of such measurements and their squares, learned by tools/learn_nonspeech.py.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors import audio

ANALYSIS_HZ = 8000
"""Telephone recordings are measured like all others."""
WINDOW, HOP, SIZE = 400, 100, 512
FRAME_S = HOP / ANALYSIS_HZ
STRETCH_S = 5.0
BAND_HZ = (150.0, 3500.0)
PITCH_HZ = (70.0, 450.0)
ACTIVE_DB = 30.0
FLOOR_DB = 50.0
MIN_FRAMES = 10
MIN_JUDGED_S = 1.0
"""Shorter recordings are not judged: 1.5 % of crops of 0.5 s of real speech would be refused."""
LIMIT = 4.0
"""Measurements are clipped at this many standard deviations."""


def features(samples: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Measure up to STRETCH_S of audio at ANALYSIS_HZ. Return [F], or None if too little is audible."""
    if len(samples) < WINDOW + (MIN_FRAMES - 1) * HOP:
        return None
    wave = np.asarray(samples, dtype=np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    power = np.square(np.abs(np.fft.rfft(frames * _HANN, SIZE))) + 1e-12
    level = 10 * np.log10(power[:, _IN_BAND].sum(axis=1))
    loud = float(np.quantile(level, 0.95))
    active = level > loud - ACTIVE_DB
    if np.count_nonzero(active) < MIN_FRAMES or loud < -60.0:
        return None
    floor = power[:, _IN_BAND].max(axis=1)[active].mean() * 10 ** (-FLOOR_DB / 10)
    spectrum = 10 * np.log10(np.maximum(power[:, _IN_BAND], floor))
    coarse = spectrum @ _BANDS
    fine = spectrum - coarse @ _BANDS_BACK
    height, pitch = _pitch(power)
    parts = [
        *_level_features(level, active, loud),
        *_change_features(coarse, active),
        *_partial_features(fine, active),
        *_shape_features(coarse, spectrum, active),
        *_pitch_features(height, pitch, active),
    ]
    return np.array(parts)


def _level_features(level: NDArray[np.float64], active: NDArray[np.bool_], loud: float) -> list[float]:
    cut = np.maximum(level, loud - 40)
    amplitude = 10 ** (level / 20)
    return [
        float(cut.std()),
        float(np.mean(amplitude < 0.5 * amplitude.mean())),
        float(active.mean()),
        *[float(np.log(0.3 + np.abs(cut[lag:] - cut[:-lag]).mean())) for lag in (2, 4, 8)],
        float(np.log(0.3 + np.maximum(cut[2:] - cut[:-2], 0).max())),
    ]


def _change_features(coarse: NDArray[np.float64], active: NDArray[np.bool_]) -> list[float]:
    """Measure how far the band levels move within 25 to 100 ms, and how evenly."""
    found = []
    shape = coarse - coarse.mean(axis=1, keepdims=True)
    for lag in (2, 4, 8):
        both = active[lag:] & active[:-lag]
        moved = np.sqrt(np.square(shape[lag:] - shape[:-lag]).mean(axis=1))[both]
        if not len(moved):
            moved = np.zeros(1)
        found += [float(np.log(0.1 + moved.mean())), float(np.log(0.1 + np.quantile(moved, 0.2)))]
    found.append(float(np.log(0.1 + moved.std())))
    return found


def _partial_features(fine: NDArray[np.float64], active: NDArray[np.bool_]) -> list[float]:
    """Measure the similarity of spectral fine structure 50, 100 and 200 ms apart; notes keep theirs."""
    norm = np.sqrt(np.square(fine).mean(axis=1))
    found = [float(np.log(0.1 + norm[active].mean())), float(norm[active].std())]
    unit = fine / np.maximum(norm, 1e-3)[:, None]
    for lag in (4, 8, 16):
        if lag >= len(unit):
            found += found[-2:]
            continue
        alike = (unit[lag:] * unit[:-lag]).mean(axis=1)
        weight = (norm[lag:] * active[lag:] * active[:-lag]) + 1e-9
        found.append(float(np.average(alike, weights=weight)))
        found.append(float(np.quantile(alike[active[lag:]], 0.8)) if active[lag:].any() else 0.0)
    return found


def _shape_features(
    coarse: NDArray[np.float64], spectrum: NDArray[np.float64], active: NDArray[np.bool_]
) -> list[float]:
    """Measure the variation and the flatness of the spectral envelope."""
    cepstra = (coarse @ _COSINES)[active]
    spread = cepstra.std(axis=0)
    linear = 10 ** (spectrum[active] / 10)
    flat = spectrum[active].mean(axis=1) - 10 * np.log10(linear.mean(axis=1))
    centroid = (linear @ _MIDDLES) / linear.sum(axis=1)
    peaky = np.partition(linear, -8, axis=1)[:, -8:].sum(axis=1) / linear.sum(axis=1)
    return [
        *[float(np.log(0.1 + value)) for value in spread[:5]],
        float(flat.mean()),
        float(flat.std()),
        float(np.log(30 + centroid.std())),
        float(np.log(centroid.mean())),
        float(peaky.mean()),
        float(peaky.std()),
    ]


def _pitch_features(height: NDArray[np.float64], pitch: NDArray[np.float64], active: NDArray[np.bool_]) -> list[float]:
    """Measure voicing, its changes, and the glide of the pitch (in semitones) within 25 and 50 ms."""
    voiced = active & (height > 0.5)
    count = max(1, int(np.count_nonzero(active)))
    turns = float(np.mean(voiced[1:] != voiced[:-1])) * len(voiced) / count
    found = [
        float(np.mean(voiced)) * len(voiced) / count,
        float(height[active].mean()),
        float(height[active].std()),
        float(np.log(0.01 + turns)),
    ]
    for lag in (2, 4):
        both = voiced[lag:] & voiced[:-lag]
        moved = np.abs(pitch[lag:] - pitch[:-lag])[both]
        near = moved[moved < 2.0]
        found += [
            float(np.log(0.02 + np.median(near))) if len(near) > 2 else -1.5,
            float(np.mean(near < 0.15)) if len(near) > 2 else 0.3,
            float(np.mean(moved >= 2.0)) if len(moved) > 2 else 0.1,
        ]
    found.append(float(np.median(pitch[voiced])) if voiced.any() else 12.0)
    return found


def _pitch(power: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the peak height [n] of the normalized autocorrelation, and its pitch [n] in semitones over PITCH_HZ[0]."""
    shortest, longest = round(ANALYSIS_HZ / PITCH_HZ[1]), round(ANALYSIS_HZ / PITCH_HZ[0])
    found = np.fft.irfft(power * _HIGH_PASS, SIZE)[:, : longest + 2]
    r = found / np.maximum(found[:, :1], 1e-20) / _OF_WINDOW[: longest + 2]
    inner = r[:, shortest : longest + 1]
    peaks = np.where((inner >= r[:, shortest - 1 : longest]) & (inner >= r[:, shortest + 1 : longest + 2]), inner, 0.0)
    best = np.argmax(peaks - 0.0005 * np.arange(peaks.shape[1]), axis=1)
    rows = np.arange(len(r))
    height = np.clip(peaks[rows, best], 0.0, 1.0)
    lag = best + shortest
    left, middle, right = r[rows, lag - 1], r[rows, lag], r[rows, lag + 1]
    bend = left - 2 * middle + right
    shift = np.clip(np.where(bend < 0, 0.5 * (left - right) / np.minimum(bend, -1e-9), 0.0), -0.5, 0.5)
    return height, 12 * np.log2(ANALYSIS_HZ / (lag + shift) / PITCH_HZ[0])


def _triangles(hz: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return [bins, count]: overlapping bands of equal mel width, each with sum 1."""
    mel = 1127 * np.log1p(hz / 700)
    middles = np.linspace(mel[0], mel[-1], count)
    weights = np.maximum(0.0, 1 - np.abs(mel[:, None] - middles) / (middles[1] - middles[0]))
    return np.asarray(weights / weights.sum(axis=0))


_HANN = np.hanning(WINDOW + 2)[1:-1]
_HZ = np.asarray(np.fft.rfftfreq(SIZE, 1 / ANALYSIS_HZ), dtype=np.float64)
_IN_BAND = np.logical_and(BAND_HZ[0] <= _HZ, BAND_HZ[1] >= _HZ)
_MIDDLES = _HZ[_IN_BAND]
_HIGH_PASS = np.square(_HZ / (_HZ + 300.0)) * (_HZ < 3600)
_AUTO = np.fft.irfft(np.square(np.abs(np.fft.rfft(_HANN, SIZE * 2))), SIZE * 2)
_OF_WINDOW = _AUTO / _AUTO[0]
_NUM_BANDS = 14
_BANDS = _triangles(_MIDDLES, _NUM_BANDS)
_BACK = _BANDS / _BANDS.sum(axis=1, keepdims=True)
_BANDS_BACK = _BACK.T
_COSINES = np.cos(np.pi * np.outer(np.arange(_NUM_BANDS) + 0.5, np.arange(1, 7)) / _NUM_BANDS) / _NUM_BANDS

MODEL = Path(__file__).with_name("nonspeech.npz")
SPEECH_LOG_ODDS = -2.0
"""Log odds from which a window counts as speech."""


def log_odds(samples: NDArray[np.floating], sample_rate_hz: int) -> list[float]:
    """Return the log odds of speech for each audible window of up to STRETCH_S of a waveform [samples] in [-1, 1]."""
    slow = audio.resample(np.asarray(samples, dtype=np.float32), sample_rate_hz, ANALYSIS_HZ)
    size = round(STRETCH_S * ANALYSIS_HZ)
    stretches = [slow[start : start + size] for start in range(0, len(slow), size)]
    found = [features(part) for part in stretches if len(part) >= MIN_JUDGED_S * ANALYSIS_HZ]
    known = [values for values in found if values is not None]
    if not known:
        return []
    mean, std, weights = _model()
    return [float(value) for value in expanded(np.stack(known), mean, std) @ weights]


def expanded(values: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [n, 2 F + 1]: the standardized measurements [n, F], their squares, and a constant one."""
    scaled = np.clip((values - mean) / std, -LIMIT, LIMIT)
    return np.concatenate((scaled, np.square(scaled), np.ones((len(scaled), 1))), axis=1)


@functools.cache
def _model() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    with np.load(MODEL) as file:
        return file["mean"], file["std"], file["weights"]
