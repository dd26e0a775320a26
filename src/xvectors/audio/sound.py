"""What an opened recording is, whichever library decodes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
FileKey: TypeAlias = tuple[str, int, int]
"""Absolute path, size and time of change in ns."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file holds. `num_frames` counts samples per channel; the names of format and encoding are those of the
    library that decodes it. `notes`: what is worth knowing of the file, such as that its last milliseconds are
    missing."""

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
    """An opened recording, whichever library decodes it. `key`: the state of its file, None for bytes."""

    name: str
    info: AudioInfo
    key: FileKey | None

    def read(self, first: int, count: int) -> Samples:
        """Decode exactly `count` frames from frame `first`: float32 [frames, channels]."""
        ...

    def close(self) -> None: ...
