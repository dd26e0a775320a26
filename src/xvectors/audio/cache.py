"""A cache of decoded recordings, for training epochs that read the same files again and again."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.errors import AudioError

MAX_KEPT_S = 60.0
"""Longer recordings are not cached: decoding a segment of them is much faster than decoding the whole."""


class DecodedRecordings:
    """A cache in front of `audio.read` that returns the same samples, bit for bit.

    Mono 16-bit FLAC is decoded once and kept in memory, at two bytes per sample, up to `max_bytes`. Formats that are
    fast to read, or that do not fit into 16 bits exactly, are read from disk every time.
    """

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self._kept: dict[str, NDArray[np.int16] | None] = {}

    @property
    def num_kept(self) -> int:
        return sum(samples is not None for samples in self._kept.values())

    def read(
        self,
        path: str | os.PathLike[str],
        *,
        sample_rate_hz: int,
        start_s: float = 0.0,
        duration_s: float | None = None,
        channel: audio.Channel = "mix",
    ) -> tuple[audio.Samples, int]:
        """Read a segment as `audio.read` does."""
        name = os.fspath(path)
        if name not in self._kept and self._room > 0:
            self._kept[name] = self._decoded(name, sample_rate_hz)
        samples = self._kept.get(name)
        if samples is None or channel not in ("mix", "left", 0):
            return audio.read(
                path, sample_rate_hz=sample_rate_hz, start_s=start_s, duration_s=duration_s, channel=channel
            )
        first, count = audio.segment(name, len(samples), sample_rate_hz, start_s, duration_s)
        return samples[first : first + count] * np.float32(2**-15), sample_rate_hz

    def _decoded(self, name: str, sample_rate_hz: int) -> NDArray[np.int16] | None:
        """Decode the whole recording; None if it is not to be cached or does not decode to its end."""
        try:
            info = audio.probe(name)
            exact = (info.format, info.subtype, info.num_channels) == ("FLAC", "PCM_16", 1)
            if not exact or info.sample_rate_hz != sample_rate_hz or info.duration_s > MAX_KEPT_S:
                return None
            if 2 * info.num_frames > self._room:
                return None
            samples = (audio.read(name)[0] * 2**15).astype(np.int16)
        except AudioError:
            return None  # reading the segment succeeds, or raises the error
        self._room -= samples.nbytes
        return samples
