"""Energy VAD with a voicing check, in frames of 10 ms; numpy only.

A frame is speech if it is louder than the recording's noise and at least 50 ms of the half second around it have a
pitch of 70 to 400 Hz. Steady noise, hum and knocks are therefore not speech at any level, and neither is a whisper.
Music, whistling and background voices are (see `xvectors.audio.nonspeech`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAMES_PER_S = 100
PIECE_S = 30
"""Length of the pieces that are measured at once, so that hours of audio fit into memory."""

SILENT_DBFS = -90.0
"""Frames at or below this level, the least bit of 16-bit audio, are silence."""
BELOW_LOUD_DB = 30.0
"""Range of speech below its loud vowels; anything weaker counts as silence."""
ABOVE_NOISE_DB = 6.0
NOISE_SHARE = 0.3
"""Fraction of the distance from the noise to the loud vowels, used where it is smaller than ABOVE_NOISE_DB."""
VOICED = 0.5
"""Least periodicity, 0 to 1, of a voiced frame. Noise with a slope of -6 dB per octave stays below 0.4."""
AROUND_S, MIN_VOICED_S = 0.25, 0.05
"""Context on either side of a frame, and how much of it must be voiced: the vowel of a short word."""
CLOSED_GAP_S = 0.2
"""Gaps within words, such as the closures of stops, are filled."""
KEPT_PAUSE_S = 0.3
"""Margin kept on either side of speech where pauses are cut."""

PITCH_HZ = (70.0, 400.0)
WINDOW_S = 0.04
PRE_EMPHASIS = 0.95
ANALYSIS_HZ = 8000
VOICING_EVERY = 2
SMOOTHED_LEVELS, SMOOTHED_VOICING = 3, 5

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Measurements of n frames of 10 ms: power [n] without the mean (full scale is 1) and periodicity [n], 0 to 1."""

    power: NDArray[np.float32]
    voicing: NDArray[np.float32]

    @classmethod
    def joined(cls, pieces: Iterable[Frames]) -> Frames:
        parts = list(pieces)
        none = [np.empty(0, dtype=np.float32)]
        return cls(
            power=np.concatenate(none + [part.power for part in parts]),
            voicing=np.concatenate(none + [part.voicing for part in parts]),
        )


def speech_mask(samples: NDArray[np.floating], sample_rate_hz: int) -> Mask:
    """Return bool [frames]: which frames of 10 ms of a waveform [samples] in [-1, 1] are speech."""
    return mask_of(Frames.joined(measure(piece, sample_rate_hz) for piece in _pieces(samples, sample_rate_hz)))


def speech_s(samples: NDArray[np.floating], sample_rate_hz: int) -> float:
    """Return the seconds of speech in a waveform [samples] in [-1, 1]."""
    return float(np.count_nonzero(speech_mask(samples, sample_rate_hz)) / FRAMES_PER_S)


def measure(samples: NDArray[np.floating], sample_rate_hz: int) -> Frames:
    """Measure a piece that starts on a whole second. An incomplete last frame is left out."""
    count = len(samples) * FRAMES_PER_S // sample_rate_hz
    if not count:
        return Frames.joined(())
    bounds = np.arange(count + 1) * sample_rate_hz // FRAMES_PER_S
    values = np.asarray(samples[: bounds[-1]], dtype=np.float64)
    sizes = np.diff(bounds)
    means = np.add.reduceat(values, bounds[:-1]) / sizes
    power = np.maximum(np.add.reduceat(np.square(values), bounds[:-1]) / sizes - np.square(means), 0.0)
    voicing = np.zeros(count, dtype=np.float32)
    heard = np.flatnonzero(power[::VOICING_EVERY] > 10 ** (SILENT_DBFS / 10)) * VOICING_EVERY
    if len(heard):
        voicing[heard] = _periodicity(values, sample_rate_hz, heard / FRAMES_PER_S)
        for shift in range(1, VOICING_EVERY):
            voicing[shift::VOICING_EVERY] = voicing[::VOICING_EVERY][: len(voicing[shift::VOICING_EVERY])]
    return Frames(power=power.astype(np.float32), voicing=voicing)


def mask_of(frames: Frames) -> Mask:
    """Return bool [n]: which frames are speech, given the levels and the voicing of the whole recording."""
    level_db = 10 * np.log10(np.maximum(_smooth(frames.power, SMOOTHED_LEVELS), 1e-12))
    heard = level_db > SILENT_DBFS
    voiced = heard & (_smooth(frames.voicing, SMOOTHED_VOICING) > VOICED)
    if not voiced.any():
        return np.zeros(len(level_db), dtype=bool)
    loud_db = float(np.quantile(level_db[voiced], 0.9))
    noise_db = float(np.quantile(level_db[heard], 0.05))
    margin_db = min(ABOVE_NOISE_DB, NOISE_SHARE * max(0.0, loud_db - noise_db))
    active = heard & (level_db > max(loud_db - BELOW_LOUD_DB, noise_db + margin_db))
    speech = active & _often(voiced & active)
    return _closed(speech)


def runs(mask: Mask) -> NDArray[np.int64]:
    """Return [k, 2]: the first frame of each run of True, and the end of the run (exclusive)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return edges.reshape(-1, 2)


def _pieces(samples: NDArray[np.floating], sample_rate_hz: int) -> Iterator[NDArray[np.floating]]:
    size = PIECE_S * sample_rate_hz
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _periodicity(values: NDArray[np.float64], sample_rate_hz: int, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [n]: the highest peak of the normalized autocorrelation among the lags of a pitch, per window.

    The autocorrelation of the window itself is divided out, after Boersma, "Accurate short-term analysis of the
    fundamental frequency" (Proc. Inst. of Phonetic Sciences Amsterdam 17, 1993). Pre-emphasis removes rumble, which is
    periodic too.
    """
    factor = max(1, round(sample_rate_hz / ANALYSIS_HZ))
    rate = sample_rate_hz / factor
    size = round(WINDOW_S * rate)
    slow = values[: len(values) // factor * factor].reshape(-1, factor).mean(axis=1)
    slow = np.diff(slow, prepend=slow[:1]) + (1 - PRE_EMPHASIS) * np.concatenate((slow[:1], slow[:-1]))
    if len(slow) < size:
        slow = np.pad(slow, (0, size - len(slow)))
    centered = np.round((times_s + 0.5 / FRAMES_PER_S) * rate).astype(np.int64) - size // 2
    starts = np.clip(centered, 0, len(slow) - size)
    window = np.hanning(size + 2)[1:-1]
    length = 1 << int(np.ceil(np.log2(1.4 * size)))
    shortest, longest = round(rate / PITCH_HZ[1]), round(rate / PITCH_HZ[0])
    lags = slice(shortest - 1, longest + 2)
    of_window = _autocorrelation(window, length)
    windows = slow[starts[:, None] + np.arange(size)]
    found = _autocorrelation((windows - windows.mean(axis=1, keepdims=True)) * window, length)
    r = found[:, lags] / np.maximum(found[:, :1], 1e-20) / (of_window[lags] / of_window[0])
    inner = r[:, 1:-1]
    peaks = (inner >= r[:, :-2]) & (inner >= r[:, 2:])
    return np.asarray(np.clip(np.where(peaks, inner, 0.0).max(axis=1), 0.0, 1.0), dtype=np.float64)


def _autocorrelation(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.fft.irfft(np.square(np.abs(np.fft.rfft(values, length))), length)


def _smooth(values: NDArray[np.floating], width: int) -> NDArray[np.float64]:
    """Return the running mean over an odd `width`, over fewer values at the ends."""
    ones = np.ones(width)
    if not len(values):
        return np.empty(0)
    half = width // 2
    total = np.convolve(values, ones)[half : half + len(values)]
    return np.asarray(total / np.convolve(np.ones(len(values)), ones)[half : half + len(values)])


def _often(mask: Mask) -> Mask:
    """Return the frames with at least MIN_VOICED_S of True around them."""
    reach = round(AROUND_S * FRAMES_PER_S)
    total = np.concatenate(([0], np.cumsum(mask)))
    at = np.arange(len(mask))
    around = total[np.minimum(at + reach + 1, len(mask))] - total[np.maximum(at - reach, 0)]
    return np.asarray(around >= round(MIN_VOICED_S * FRAMES_PER_S))


def _closed(mask: Mask) -> Mask:
    """Return `mask` with its inner gaps of at most CLOSED_GAP_S filled."""
    filled = mask.copy()
    for start, end in runs(~mask):
        if start > 0 and end < len(mask) and end - start <= round(CLOSED_GAP_S * FRAMES_PER_S):
            filled[start:end] = True
    return filled
