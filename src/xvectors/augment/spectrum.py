"""Zero-phase filters given by their gain in decibels at each frequency, applied by FFT in float32.

scipy's FFT is twice as fast as numpy's here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from xvectors.audio import Samples

# Number of frequencies at which a response is drawn; it is interpolated in between.
RESPONSE_POINTS = 257
# Zeros after a chunk, so that its end does not wrap around to its start.
FILTER_MARGIN_S = 0.03
FAST_MULTIPLES: tuple[int, ...] = (*range(1, 13), 14, 15, 16)


def fast_length(at_least: int) -> int:
    """Return the smallest 2^k * (1 to 12, 14, 15 or 16) >= `at_least`: lengths with a fast FFT."""
    unit = max(0, (at_least - 1).bit_length() - 4)
    return next(m << unit for m in FAST_MULTIPLES if m << unit >= at_least)


def response_frequencies_hz(sample_rate_hz: int) -> NDArray[np.float64]:
    """Return the frequencies of a response: RESPONSE_POINTS from 0 to the Nyquist frequency."""
    return np.linspace(0.0, sample_rate_hz / 2, RESPONSE_POINTS)


def shape_spectrum(spectrum: NDArray[np.complex64], gain_db: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Multiply a half spectrum [bins] in place by a response in decibels [RESPONSE_POINTS]."""
    bins = np.linspace(0.0, RESPONSE_POINTS - 1, len(spectrum))
    spectrum *= np.interp(bins, np.arange(RESPONSE_POINTS), 10 ** (gain_db / 20)).astype(np.float32)
    return spectrum


def filtered(waveform: Samples, sample_rate_hz: int, gain_db: NDArray[np.float64]) -> Samples:
    """Filter `waveform` [samples] with zero phase by the response `gain_db` [RESPONSE_POINTS]."""
    size = fast_length(len(waveform) + round(FILTER_MARGIN_S * sample_rate_hz))
    spectrum = fft.rfft(waveform, size)
    return inverse(shape_spectrum(spectrum, gain_db), size)[: len(waveform)]


def inverse(spectrum: NDArray[np.complexfloating], size: int) -> Samples:
    return np.asarray(fft.irfft(spectrum, size), dtype=np.float32)


def convolved(waveform: Samples, impulse_response: Samples, first: int) -> Samples:
    """Return len(waveform) samples of the full convolution, from sample `first` < len(impulse_response)."""
    size = fast_length(len(waveform) + len(impulse_response) - 1)
    product = fft.rfft(waveform, size) * fft.rfft(impulse_response, size)
    return inverse(product, size)[first : first + len(waveform)]


def bumps_db(frequencies_hz: NDArray[np.float64], max_db: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a smooth response [points] with three broad peaks or dips of up to `max_db` between 100 Hz and 8 kHz."""
    octaves = np.log2(np.maximum(frequencies_hz, 20.0))
    gain_db = np.zeros(len(frequencies_hz))
    for _ in range(3):
        center, width = generator.uniform(np.log2(100.0), np.log2(8000.0)), generator.uniform(0.3, 1.5)
        gain_db += generator.uniform(-max_db, max_db) * np.exp(-0.5 * ((octaves - center) / width) ** 2)
    return gain_db


def band_edges_db(
    frequencies_hz: NDArray[np.float64], low_hz: float, high_hz: float, order: int
) -> NDArray[np.float64]:
    """Return the response of a Butterworth band pass with -3 dB at `low_hz` and `high_hz`."""
    safe_hz = np.maximum(frequencies_hz, 1.0)
    below = np.log1p((low_hz / safe_hz) ** (2 * order))
    above = np.log1p((safe_hz / high_hz) ** (2 * order))
    return np.asarray(-10 / np.log(10.0) * (below + above))
