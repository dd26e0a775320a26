"""Trimming silence before embedding. In: a waveform. Out: where somebody speaks in it, rows of (first sample, end).

"energy" tells loud from quiet, with numpy alone: right for clean recordings with pauses, deceived by noise that is as
loud as the speech. "silero" (extra `vad`) is a small network that tells speech from other sounds.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples, resample
from xvectors.errors import ConfigError, MissingExtraError

Segments: TypeAlias = NDArray[np.int64]
Detector: TypeAlias = Callable[[Samples, int], Segments]
DetectorName: TypeAlias = Literal["energy", "silero"]

FRAME_S = 0.02
LOUD_S = 0.5
"""The level of speech is what this much of the recording exceeds, so that a click does not set it."""
QUIET = 0.05
"""Quantile of the frames' levels that counts as the pauses' level."""
LEAST_CONTRAST_DB = 6.0
"""With less between speech and pauses, level does not tell them apart and everything is kept."""
MOST_BELOW_DB = 30.0
"""What lies further below the level of speech is never speech."""
SHORTEST_PAUSE_S, SHORTEST_SPEECH_S, MARGIN_S = 0.3, 0.1, 0.1
FLOOR = 1e-10
"""Of a frame's power: the quantisation noise of 16 bits."""

SILERO_RATE_HZ = 16_000


def as_detector_name(name: str | None) -> DetectorName | None:
    """`name` where it is that of a detector; ConfigError for another."""
    if name is None:
        return None
    if name in get_args(DetectorName):
        return cast(DetectorName, name)
    raise ConfigError(f"silence cannot be trimmed by {name!r}; give energy or silero, or leave it out")


def find_detector(name: DetectorName | None) -> Detector | None:
    """The detector called `name`: "energy", "silero", or None for none.

    Raises ConfigError for an unknown name, MissingExtraError for "silero" without the extra `vad`.
    """
    known = as_detector_name(name)
    if known is None:
        return None
    return find_loud if known == "energy" else SileroDetector()


def find_loud(samples: Samples, sample_rate_hz: int) -> Segments:
    """Segments int64 [n, 2] of float [samples] that are loud beside the rest.

    Frames of 20 ms count as speech from half way, in dB, between the level of the pauses (that of the quietest 5 %)
    and that of the loudest half second, and no lower than 30 dB below the latter. Pauses under 0.3 s are filled,
    speech under 0.1 s is dropped, and 0.1 s stays on either side. Where the two levels lie within 6 dB, all of it is
    one segment.
    """
    size = max(1, round(FRAME_S * sample_rate_hz))
    count = len(samples) // size
    if not count:
        return np.array([[0, len(samples)]], dtype=np.int64)
    frames = np.asarray(samples[: count * size], dtype=np.float64).reshape(count, size)
    power = np.square(frames - frames.mean(axis=1, keepdims=True)).mean(axis=1)
    level_db = 10 * np.log10(power + FLOOR)
    loud_db = np.sort(level_db)[-min(round(LOUD_S / FRAME_S), max(1, count // 10))]
    quiet_db = np.quantile(level_db, QUIET)
    if loud_db - quiet_db < LEAST_CONTRAST_DB:
        return np.array([[0, len(samples)]], dtype=np.int64)
    speech = level_db >= max((loud_db + quiet_db) / 2, loud_db - MOST_BELOW_DB)
    speech = ~_without_short(~speech, SHORTEST_PAUSE_S, inside=True)
    runs = _runs(_without_short(speech, SHORTEST_SPEECH_S))
    margin = round(MARGIN_S * sample_rate_hz)
    last = runs[:, 1] == count  # what follows the last whole frame belongs to it
    segments = runs * size + np.array([-margin, margin])
    segments[last, 1] = len(samples)
    return np.asarray(np.clip(segments, 0, len(samples)), dtype=np.int64)


class SileroDetector:
    """silero-vad's network, which comes inside its package; https://github.com/snakers4/silero-vad.

    Raises MissingExtraError without the extra `vad`.
    """

    def __init__(self) -> None:
        import torch

        threads = torch.get_num_threads()
        try:
            from silero_vad import get_speech_timestamps, load_silero_vad
        except ImportError as error:
            raise MissingExtraError(
                "trim_silence 'silero' needs silero-vad; pip install 'xvectors[vad]', or use 'energy'"
            ) from error
        finally:
            torch.set_num_threads(threads)  # importing silero_vad sets the whole process to one
        with warnings.catch_warnings():
            # its network is TorchScript, which torch wants replaced; that is silero-vad's to do
            warnings.simplefilter("ignore", DeprecationWarning)
            self._model = load_silero_vad()
        self._find = get_speech_timestamps
        self._one_at_a_time = threading.Lock()  # the network keeps its state between frames

    def __call__(self, samples: Samples, sample_rate_hz: int) -> Segments:
        """Segments int64 [n, 2] of float32 [samples] in which somebody speaks."""
        import torch

        wave = torch.from_numpy(np.ascontiguousarray(resample(samples, sample_rate_hz, SILERO_RATE_HZ)))
        with self._one_at_a_time:
            found = self._find(wave, self._model, sampling_rate=SILERO_RATE_HZ)
        at_16k = np.array([(part["start"], part["end"]) for part in found], dtype=np.int64).reshape(-1, 2)
        return np.clip(at_16k * sample_rate_hz // SILERO_RATE_HZ, 0, len(samples))


def join_segments(samples: Samples, segments: Segments) -> Samples:
    """The samples inside the segments, one after the other."""
    parts = [samples[first:end] for first, end in segments.tolist()]
    return np.concatenate(parts) if parts else samples[:0]


def _runs(mask: NDArray[np.bool_]) -> Segments:
    """Where runs of True begin and end: [n, 2]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.int64)


def _without_short(mask: NDArray[np.bool_], shortest_s: float, *, inside: bool = False) -> NDArray[np.bool_]:
    """`mask` without its runs shorter than `shortest_s`; `inside` leaves those at either end alone."""
    kept = mask.copy()
    for first, end in _runs(mask).tolist():
        at_an_end = first == 0 or end == len(mask)
        if (end - first) * FRAME_S < shortest_s - 1e-9 and not (inside and at_an_end):
            kept[first:end] = False
    return kept
