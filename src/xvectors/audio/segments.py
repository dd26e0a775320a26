"""Select the part of a recording that is embedded: its speech, with short pauses and without runs of zeros.

Encoding, verification, enrollment, calibration and evaluation all use `hear`. numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.audio.activity import FRAMES_PER_S, KEPT_PAUSE_S, Mask, runs, speech_mask

Segments: TypeAlias = NDArray[np.int64]
Detector: TypeAlias = Callable[[Samples, int], Segments]

NOTHING = 2.0**-24
"""Less than half of the least bit of 24-bit audio, to which resampling and decoders may turn zeros."""
ZEROS_S = 0.01
"""Shortest run of zeros that is cut; shorter ones occur in quiet 16-bit audio."""


def hear(samples: Samples, sample_rate_hz: int, detector: Detector | None) -> tuple[Samples, float]:
    """Return the samples of a waveform [samples] to embed, and the seconds of speech in them.

    Runs of zeros are cut first. Without a VAD, everything else is embedded and counts as speech. If "energy" finds no
    speech, as in a whisper or a tone, everything else is embedded and 0 s count as speech; with any other VAD only what
    it finds is embedded.
    """
    sound = without_zeros(samples, sample_rate_hz)
    if detector is None:
        return sound, len(sound) / sample_rate_hz
    if detector is find_spoken:
        speech = speech_mask(sound, sample_rate_hz)
        found = join_segments(sound, segments_of(speech, len(sound), sample_rate_hz))
        return (found if len(found) else sound), float(np.count_nonzero(speech) / FRAMES_PER_S)
    found = join_segments(sound, detector(sound, sample_rate_hz))
    return found, len(found) / sample_rate_hz


def without_zeros(samples: Samples, sample_rate_hz: int) -> Samples:
    """Cut runs of zeros of ZEROS_S or longer from a waveform [samples]."""
    least = max(1, round(ZEROS_S * sample_rate_hz))
    # every such run contains one of these samples
    if not (np.abs(samples[least - 1 :: least]) < NOTHING).any():
        return samples
    zeros = runs(np.abs(samples) < NOTHING)
    zeros = zeros[zeros[:, 1] - zeros[:, 0] >= least]
    if not len(zeros):
        return samples
    bounds = np.concatenate(([0], zeros.ravel(), [len(samples)])).reshape(-1, 2)
    return join_segments(samples, bounds)


def find_spoken(samples: Samples, sample_rate_hz: int) -> Segments:
    """Find the segments, int64 [n, 2], of float [samples] that hold speech, with 0.3 s on either side.

    `xvectors.audio.activity` decides which frames are speech; without any, the result is empty.
    """
    return segments_of(speech_mask(samples, sample_rate_hz), len(samples), sample_rate_hz)


def segments_of(speech: Mask, num_samples: int, sample_rate_hz: int) -> Segments:
    """Return segments, int64 [n, 2], around the speech frames of 10 ms, with a margin of 0.3 s on either side."""
    found = runs(speech)
    last = found[:, 1] == len(speech)  # samples after the last whole frame belong to it
    margin = round(KEPT_PAUSE_S * sample_rate_hz)
    segments = found * sample_rate_hz // FRAMES_PER_S + np.array([-margin, margin])
    segments[last, 1] = num_samples
    return _joined(np.clip(segments, 0, num_samples))


def join_segments(samples: Samples, segments: Segments) -> Samples:
    """Concatenate the samples of the segments."""
    parts = [samples[first:end] for first, end in segments.tolist()]
    return np.concatenate(parts) if parts else samples[:0]


def _joined(segments: Segments) -> Segments:
    """Merge segments, sorted by time, that touch or overlap."""
    if not len(segments):
        return segments
    new = np.append(True, segments[1:, 0] > segments[:-1, 1])
    ends = np.append(np.flatnonzero(new)[1:] - 1, len(segments) - 1)
    return np.stack([segments[new, 0], segments[ends, 1]], axis=1)
