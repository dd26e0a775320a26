"""Filters given by their gain at each frequency. In: waveforms and gains in decibels. Out: float32 waveforms.

All work is in float32 by the fast Fourier transform (scipy's, twice as quick here as numpy's); the filters have no
delay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from xvectors.audio import Samples

# A response is drawn at these many frequencies and interpolated between them.
RESPONSE_POINTS = 257
# Zeros behind a chunk, so that its end does not leak into its start.
FILTER_MARGIN_S = 0.03
FAST_MULTIPLES: tuple[int, ...] = (*range(1, 13), 14, 15, 16)


def fast_length(at_least: int) -> int:
    """The smallest 2^k * (1 to 12, 14, 15 or 16) that is >= `at_least`, where the Fourier transform is quick."""
    unit = max(0, (at_least - 1).bit_length() - 4)
    return next(m << unit for m in FAST_MULTIPLES if m << unit >= at_least)


def response_frequencies_hz(sample_rate_hz: int) -> NDArray[np.float64]:
    """Where a response is given: RESPONSE_POINTS frequencies from 0 to the Nyquist frequency."""
    return np.linspace(0.0, sample_rate_hz / 2, RESPONSE_POINTS)


def shape_spectrum(spectrum: NDArray[np.complex64], gain_db: NDArray[np.float64]) -> NDArray[np.complex64]:
    """Multiply a half spectrum [bins] in place by a response in decibels [RESPONSE_POINTS]."""
    bins = np.linspace(0.0, RESPONSE_POINTS - 1, len(spectrum))
    spectrum *= np.interp(bins, np.arange(RESPONSE_POINTS), 10 ** (gain_db / 20)).astype(np.float32)
    return spectrum


def filtered(waveform: Samples, sample_rate_hz: int, gain_db: NDArray[np.float64]) -> Samples:
    """`waveform` [samples] through a filter of zero phase with the response `gain_db` [RESPONSE_POINTS]."""
    size = fast_length(len(waveform) + round(FILTER_MARGIN_S * sample_rate_hz))
    spectrum = fft.rfft(waveform, size)
    return inverse(shape_spectrum(spectrum, gain_db), size)[: len(waveform)]


def inverse(spectrum: NDArray[np.complexfloating], size: int) -> Samples:
    return np.asarray(fft.irfft(spectrum, size), dtype=np.float32)


def convolved(waveform: Samples, impulse_response: Samples, first: int) -> Samples:
    """len(waveform) samples of the full convolution of both, from sample `first` < len(impulse_response) on."""
    size = fast_length(len(waveform) + len(impulse_response) - 1)
    product = fft.rfft(waveform, size) * fft.rfft(impulse_response, size)
    return inverse(product, size)[first : first + len(waveform)]


def bumps_db(frequencies_hz: NDArray[np.float64], max_db: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """A random smooth response [points]: three broad rises or falls of up to `max_db`, between 100 Hz and 8 kHz."""
    octaves = np.log2(np.maximum(frequencies_hz, 20.0))
    gain_db = np.zeros(len(frequencies_hz))
    for _ in range(3):
        center, width = generator.uniform(np.log2(100.0), np.log2(8000.0)), generator.uniform(0.3, 1.5)
        gain_db += generator.uniform(-max_db, max_db) * np.exp(-0.5 * ((octaves - center) / width) ** 2)
    return gain_db


def band_edges_db(
    frequencies_hz: NDArray[np.float64], low_hz: float, high_hz: float, order: int
) -> NDArray[np.float64]:
    """The response of a Butterworth high pass at `low_hz` and low pass at `high_hz`: -3 dB at each."""
    safe_hz = np.maximum(frequencies_hz, 1.0)
    below = np.log1p((low_hz / safe_hz) ** (2 * order))
    above = np.log1p((safe_hz / high_hz) ** (2 * order))
    return np.asarray(-10 / np.log(10.0) * (below + above))
