"""Types shared by all decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
MAX_SAMPLE = 1e6
"""Largest absolute sample, in units of full scale; larger ones are not audio and overflow the filterbanks."""
FileKey: TypeAlias = tuple[str, int, int]
"""Absolute path, size in bytes and modification time in ns."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Properties of an audio file.

    `num_frames` counts samples per channel. `format` and `subtype` are the names of the library that decodes the file.
    `notes` tell the user about oddities of the file, such as missing milliseconds at its end.
    """

    sample_rate_hz: int
    num_channels: int
    num_frames: int
    format: str
    subtype: str
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.sample_rate_hz


class Sound(Protocol):
    """An open recording, whichever library decodes it. `key` identifies the state of its file; None for bytes."""

    name: str
    info: AudioInfo
    key: FileKey | None

    def read(self, first: int, count: int) -> Samples:
        """Decode exactly `count` frames from frame `first`: float32 [frames, channels]."""
        ...

    def close(self) -> None: ...
