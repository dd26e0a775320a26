"""VADs by name, for trimming silence.

"energy" finds loud, voiced sound with numpy alone (see `xvectors.audio.activity`). "silero" (extra `vad`) is a small
neural network that tells speech from other sounds.
"""

from __future__ import annotations

import threading
import warnings
from typing import Literal, TypeAlias, cast, get_args

import numpy as np

from xvectors.audio import Samples, resample
from xvectors.audio.segments import Detector, Segments, find_spoken
from xvectors.audio.segments import join_segments as join_segments
from xvectors.errors import ConfigError, MissingExtraError

DetectorName: TypeAlias = Literal["energy", "silero"]

SILERO_RATE_HZ = 16_000
NO_TRIMMING = "none"


def as_detector_name(name: str | None) -> DetectorName | None:
    """Check the name of a VAD. Return None for "none" and None; raise ConfigError for an unknown name."""
    if name is None or name == NO_TRIMMING:
        return None
    if name in get_args(DetectorName):
        return cast(DetectorName, name)
    raise ConfigError(f"trim_silence {name!r} is not a VAD; give energy or silero, or none to keep silence")


def find_detector(name: DetectorName | None) -> Detector | None:
    """Return the VAD called `name`: "energy", "silero", or None for no trimming.

    Raises ConfigError for an unknown name, MissingExtraError for "silero" without the extra `vad`.
    """
    known = as_detector_name(name)
    if known is None:
        return None
    return find_spoken if known == "energy" else SileroDetector()


class SileroDetector:
    """The network of silero-vad, https://github.com/snakers4/silero-vad, whose package contains the weights.

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
            # TorchScript is deprecated; silero-vad still ships it
            warnings.simplefilter("ignore", DeprecationWarning)
            self._model = load_silero_vad()
        self._find = get_speech_timestamps
        self._one_at_a_time = threading.Lock()  # the network keeps its state between frames

    def __call__(self, samples: Samples, sample_rate_hz: int) -> Segments:
        """Return the segments, int64 [n, 2], of float32 [samples] that hold speech."""
        import torch

        wave = torch.from_numpy(np.ascontiguousarray(resample(samples, sample_rate_hz, SILERO_RATE_HZ)))
        with self._one_at_a_time:
            found = self._find(wave, self._model, sampling_rate=SILERO_RATE_HZ)
        at_16k = np.array([(part["start"], part["end"]) for part in found], dtype=np.int64).reshape(-1, 2)
        return np.clip(at_16k * sample_rate_hz // SILERO_RATE_HZ, 0, len(samples))
