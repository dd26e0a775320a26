"""Trimming silence before embedding. In: a waveform. Out: where somebody speaks in it, rows of (first sample, end).

"energy" finds loud and voiced sound with numpy alone, as `verify` does; see `xvectors.activity`. "silero" (extra
`vad`) is a small network that tells speech from other sounds.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from xvectors.activity import FRAMES_PER_S, KEPT_PAUSE_S, runs, speech_mask
from xvectors.audio import Samples, resample
from xvectors.errors import ConfigError, MissingExtraError

Segments: TypeAlias = NDArray[np.int64]
Detector: TypeAlias = Callable[[Samples, int], Segments]
DetectorName: TypeAlias = Literal["energy", "silero"]

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
    return find_spoken if known == "energy" else SileroDetector()


def find_spoken(samples: Samples, sample_rate_hz: int) -> Segments:
    """Segments int64 [n, 2] of float [samples] that hold speech (see `xvectors.activity`), 0.3 s on either side with
    it; none where nobody speaks."""
    speech = speech_mask(samples, sample_rate_hz)
    found = runs(speech)
    last = found[:, 1] == len(speech)  # what follows the last whole frame belongs to it
    margin = round(KEPT_PAUSE_S * sample_rate_hz)
    segments = found * sample_rate_hz // FRAMES_PER_S + np.array([-margin, margin])
    segments[last, 1] = len(samples)
    return _joined(np.clip(segments, 0, len(samples)))


class SileroDetector:
    """silero-vad's network, which comes inside its package; https://github.com/snakers4/silero-vad.

    Raises MissingExtraError without the extra `vad`.
    """

    def __init__(self) -> None:
        import torch

        from xvectors.devices import survive_forks

        survive_forks()
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


def _joined(segments: Segments) -> Segments:
    """Segments in order of time, with those that touch or overlap made one."""
    if not len(segments):
        return segments
    new = np.append(True, segments[1:, 0] > segments[:-1, 1])
    ends = np.append(np.flatnonzero(new)[1:] - 1, len(segments) - 1)
    return np.stack([segments[new, 0], segments[ends, 1]], axis=1)
