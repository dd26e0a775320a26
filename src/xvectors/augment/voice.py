"""Change how a voice speaks: tempo, pitch, formants and spectral tilt, as in raised, tired or lively speech.

Tempo by WSOLA (Verhelst and Roelands, ICASSP 1993). Pitch by resampling and WSOLA; the formants are kept by moving the
envelope of every short-time spectrum, from its cepstrum, back to where it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples, resample

FRAME_S = 0.025
SEARCH_S = 0.00625
SPECTRUM_S = 0.032
ENVELOPE_S = 0.0019
"""Cepstral coefficients up to this quefrency are the envelope: below the period of a voice of 500 Hz."""
MAX_CORRECTION_DB = 35.0
TILT_FROM_HZ, TILT_RANGE = 500.0, (0.5, 8.0)
PITCH_STEPS = 100
"""Pitches are changed by multiples of a hundredth."""


def change_tempo(waveform: Samples, sample_rate_hz: int, factor: float) -> Samples:
    """Speak `waveform` [samples] faster by `factor`, at the same pitch: float32 [samples / factor, about]."""
    size = round(FRAME_S * sample_rate_hz) // 2 * 2
    hop, search = size // 2, round(SEARCH_S * sample_rate_hz)
    if factor == 1.0 or len(waveform) < 2 * size:
        return waveform
    length = round(len(waveform) / factor)
    count = max(1, length // hop)
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(waveform, (search, size + hop + 2 * search)).astype(np.float32)
    result = np.zeros(count * hop + size, dtype=np.float32)
    weight = np.zeros_like(result)
    before = None
    for frame in range(count):
        at = min(round(frame * hop * factor) + search, len(padded) - size - hop - search)
        if before is not None:  # the frame nearby that continues the one before it best
            follow = padded[before + hop : before + hop + size]
            at += int(np.argmax(np.correlate(padded[at - search : at + search + size], follow))) - search
        here = slice(frame * hop, frame * hop + size)
        result[here] += window * padded[at : at + size]
        weight[here] += window
        before = at
    return (result / np.maximum(weight, 1e-3))[:length].astype(np.float32)


def change_voice(
    waveform: Samples,
    sample_rate_hz: int,
    *,
    pitch: float = 1.0,
    formants: float = 1.0,
    tempo: float = 1.0,
    tilt_db: float = 0.0,
) -> Samples:
    """Multiply pitch, formants and tempo of `waveform` [samples], and tilt its spectrum; the peak level is kept.

    Parameters
    ----------
    pitch, formants, tempo
        Factors, such as 1.3 for a raised voice. The pitch is rounded to hundredths.
    tilt_db
        Decibels per octave that are added above 500 Hz: about 3 for effort, -3 for soft speech.
    """
    if not len(waveform):
        return waveform
    step = round(pitch * PITCH_STEPS)
    # A recording played faster by `pitch` has higher formants too, and is shorter.
    played = resample(waveform, step, PITCH_STEPS) if step != PITCH_STEPS else waveform
    spoken = change_tempo(played, sample_rate_hz, tempo * len(played) / len(waveform))
    shaped = _shape(spoken, sample_rate_hz, step / PITCH_STEPS / formants, tilt_db)
    peak = float(np.abs(shaped).max(initial=0.0))
    return shaped * np.float32(np.abs(waveform).max() / peak) if peak > 0 else shaped


def _shape(samples: Samples, sample_rate_hz: int, formants_up: float, tilt_db: float) -> Samples:
    """Divide the frequencies of the formants by `formants_up`, and add the tilt."""
    if abs(formants_up - 1.0) < 1e-9 and not tilt_db:
        return samples
    size = round(SPECTRUM_S * sample_rate_hz) // 4 * 4
    hop = size // 4
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(samples, (size, size + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    spectra = np.fft.rfft(frames)
    hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    gain_db = np.broadcast_to(tilt_db * np.log2(np.clip(hz / TILT_FROM_HZ, *TILT_RANGE)), spectra.shape)
    if abs(formants_up - 1.0) >= 1e-9:
        envelope_db = _envelope_db(spectra, round(ENVELOPE_S * sample_rate_hz))
        wanted = np.minimum(np.arange(len(hz)) * formants_up, len(hz) - 1)
        low = wanted.astype(int)
        share = wanted - low
        moved_db = envelope_db[:, low] * (1 - share) + envelope_db[:, np.minimum(low + 1, len(hz) - 1)] * share
        gain_db = gain_db + np.clip(moved_db - envelope_db, -MAX_CORRECTION_DB, MAX_CORRECTION_DB)
    frames = np.fft.irfft(spectra * 10 ** (gain_db / 20), size) * window
    result = np.zeros(len(padded) + size)
    for number, frame in enumerate(frames):
        result[number * hop : number * hop + size] += frame
    # four overlapping squared Hann windows add up to 1.5
    return (result[size : size + len(samples)] / 1.5).astype(np.float32)


def _envelope_db(spectra: NDArray[np.complexfloating], num_coefficients: int) -> NDArray[np.floating]:
    cepstra = np.fft.irfft(20 * np.log10(np.abs(spectra) + 1e-6))
    cepstra[:, num_coefficients : cepstra.shape[1] - num_coefficients + 1] = 0.0
    return np.fft.rfft(cepstra).real
