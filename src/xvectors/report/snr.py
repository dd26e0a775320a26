"""How far speech stands out of the noise of a recording. In: sound. Out: an estimate in dB from the levels of its
frames: loud ones against quiet ones. It needs pauses, and counts reverberation as noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.corpus import Manifest
from xvectors.errors import AudioError, MissingExtraError

FRAME_S = 0.02
QUIET, LOUD = 0.1, 0.9  # quantiles of the frames' power
FEWEST_FRAMES = 20
FLOOR = 1e-10  # of the power: quantisation noise of 16 bits


def estimate_snr_db(samples: NDArray[np.floating], sample_rate_hz: int) -> float:
    """The SNR in dB of a waveform [samples] in [-1, 1]; NaN where it lasts less than 0.4 s."""
    size = max(1, round(FRAME_S * sample_rate_hz))
    count = len(samples) // size
    if count < FEWEST_FRAMES:
        return float("nan")
    frames = np.asarray(samples[: count * size], dtype=np.float64).reshape(count, size)
    power = np.square(frames - frames.mean(axis=1, keepdims=True)).mean(axis=1) + FLOOR
    quiet, loud = np.quantile(power, [QUIET, LOUD])
    return float(10 * np.log10(max(loud - quiet, FLOOR) / quiet))


def snr_of_rows(manifest: Manifest) -> NDArray[np.float64]:
    """[n] the SNR in dB of each row's recording, NaN where it cannot be read any more or is too short."""
    has_segments = bool((manifest.start_s != 0).any())
    found = np.full(len(manifest), np.nan)
    for row in range(len(manifest)):
        duration_s = float(manifest.duration_s[row]) if has_segments else np.nan
        try:
            samples, rate = audio.read(
                manifest.full_path(row),
                start_s=float(manifest.start_s[row]),
                duration_s=None if np.isnan(duration_s) else duration_s,
            )
        except (AudioError, MissingExtraError):
            continue
        found[row] = estimate_snr_db(samples, rate)
    return found
