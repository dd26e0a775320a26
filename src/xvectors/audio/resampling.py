"""Resampling, of whole recordings or chunk by chunk, with soxr."""

from __future__ import annotations

import numpy as np
import soxr

from xvectors.audio.sound import Samples
from xvectors.errors import AudioError


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Resample float32 [samples] (or [samples, channels]) with soxr's HQ band-limited filter.

    n samples become n * to_hz / from_hz, rounded. See https://sourceforge.net/projects/soxr.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise AudioError(f"cannot resample from {from_hz} Hz to {to_hz} Hz; both rates must be positive")
    samples = np.asarray(samples, dtype=np.float32)
    if from_hz == to_hz or not len(samples):
        return samples
    return np.asarray(soxr.resample(samples, from_hz, to_hz, quality="HQ"), dtype=np.float32)


class Resampler:
    """Resample mono audio chunk by chunk. The joined result equals that of `resample` within 1e-3."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise AudioError(f"cannot resample from {from_hz} Hz to {to_hz} Hz; both rates must be positive")
        same = from_hz == to_hz
        self._stream = None if same else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Resample a chunk, float32 [samples]. The filter holds some samples back until `last`."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)
