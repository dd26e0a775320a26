"""The waveform as a picture: the greatest amplitude of each stretch of a recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.recording import OpenRecording

BLOCK_S = 30.0
MOST_PEAKS = 4000
PEAKS_PER_S = 20.0
LOUD_SHARE = 0.99


def find_peaks(sound: OpenRecording) -> tuple[NDArray[np.float64], float]:
    """Return the peaks [n] of a recording, from 0 to 1, and its duration in seconds.

    The loudest hundredth of them is cut at 1, so that a knock does not flatten all speech. There are 20 a second, and
    at most 4000. The recording is read in blocks. Raises AudioError where it cannot be read.
    """
    rate, num_samples = sound.sample_rate_hz, 0
    step = max(1, round(rate / PEAKS_PER_S))
    found, rest = list[NDArray[np.floating]](), np.empty(0, dtype=np.float32)
    for block in sound.blocks(BLOCK_S):
        num_samples += len(block)
        levels = np.concatenate([rest, np.abs(np.nan_to_num(block))])
        whole = len(levels) // step * step
        found.append(levels[:whole].reshape(-1, step).max(axis=1))
        rest = levels[whole:]
    if len(rest):
        found.append(rest.max(keepdims=True))
    peaks = np.concatenate([np.empty(0), *found])
    if len(peaks) > MOST_PEAKS:
        edges = np.arange(MOST_PEAKS) * len(peaks) // MOST_PEAKS
        peaks = np.maximum.reduceat(peaks, edges)
    full = np.quantile(peaks, LOUD_SHARE) if len(peaks) else 0.0
    full = full or peaks.max(initial=0.0)
    return np.clip(peaks / full, 0.0, 1.0) if full else peaks, num_samples / rate
