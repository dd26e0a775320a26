"""Embeddings with times. In: samples, all at once or chunk by chunk. Out: one embedding a window, and when it is.

Windows of equal length start every hop. What the last of them leaves over is in one more, which ends with the
recording; a recording shorter than a window is one window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Resampler, Samples
from xvectors.audio.recording import as_waveform
from xvectors.audio.segments import without_zeros
from xvectors.audio.speech import check_finite
from xvectors.encoder.engines import Engine
from xvectors.errors import ConfigError
from xvectors.text import brief


@brief()
@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Embeddings float32 [n, dim] of windows from `start_s` to `end_s`, float64 [n] seconds, ascending."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    embeddings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.start_s)

    @classmethod
    def join(cls, parts: Sequence[Windows]) -> Windows:
        """All of them as one; `parts` must not be empty."""
        return cls(
            start_s=np.concatenate([part.start_s for part in parts]),
            end_s=np.concatenate([part.end_s for part in parts]),
            embeddings=np.concatenate([part.embeddings for part in parts]),
        )


@brief("_window", "_hop", "num_samples")
class WindowStream:
    """Windows of sound that comes chunk by chunk; `SpeakerEncoder.stream` makes one.

    `feed` gives the windows that the chunk completes, `finish` those that the end does. Together they do not depend on
    where the chunks are cut. Runs of zeros within a window are not embedded, and a window is left out where less
    than the network's context remains; its times are those of the recording.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        window_s: float,
        hop_s: float,
        sample_rate_hz: int | None = None,
        batch_size: int = 32,
        name: str = "the stream",
    ) -> None:
        rate = engine.sample_rate_hz
        shortest_s = engine.samples_needed / rate
        if not shortest_s <= window_s < np.inf:
            raise ConfigError(
                f"window_s is {window_s}; the network needs at least {shortest_s:g} s, such as {max(1.5, shortest_s):g}"
            )
        if not 1 / rate <= hop_s <= window_s:
            raise ConfigError(f"hop_s is {hop_s}; it must be above 0 and at most window_s, {window_s:g}")
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        self._engine, self._batch_size, self._name = engine, batch_size, name
        self._window, self._hop = round(window_s * rate), round(hop_s * rate)
        self._resampler = Resampler(sample_rate_hz if sample_rate_hz is not None else rate, rate)
        self._kept = np.zeros(0, dtype=np.float32)  # the samples from `_first` on
        self._first = 0
        self._next = 0  # where the next window starts
        self._finished = False

    @property
    def num_samples(self) -> int:
        """Samples fed so far, at the system's rate; those that the resampler still holds back are not counted."""
        return self._first + len(self._kept)

    def feed(self, samples: Any) -> Windows:
        """Take the next samples, a mono waveform of floats of any length, and give the windows that they complete.

        Raises AudioError for another shape or type and for samples that are not finite, ConfigError after `finish`.
        """
        self._check_open()
        chunk = as_waveform(samples, self._name).astype(np.float32, copy=False)
        check_finite(chunk, self._name)
        self._keep(self._resampler.feed(chunk))
        return self._complete()

    def finish(self) -> Windows:
        """The windows that the end completes. None where all that was fed is shorter than the network's context."""
        self._check_open()
        self._finished = True
        self._keep(self._resampler.feed(np.zeros(0, dtype=np.float32), last=True))
        full = self._complete()
        end = self.num_samples
        covered = self._next - self._hop + self._window if self._next else 0
        if end <= covered or end < self._engine.samples_needed:
            return full
        return Windows.join([full, self._embedded([max(0, end - self._window)], min(end, self._window))])

    def _check_open(self) -> None:
        if self._finished:
            raise ConfigError("this stream is finished; make another for the next recording")

    def _keep(self, samples: Samples) -> None:
        self._kept = np.concatenate([self._kept, samples])

    def _complete(self) -> Windows:
        starts = range(self._next, self.num_samples - self._window + 1, self._hop)
        windows = self._embedded(starts, self._window)
        self._next += len(starts) * self._hop
        # the last window's worth stays: the one that ends with the recording is cut from it
        drop = max(0, min(self._next, self.num_samples - self._window) - self._first)
        self._kept = self._kept[drop:].copy()
        self._first += drop
        return windows

    def _embedded(self, starts: Sequence[int], length: int) -> Windows:
        rate = self._engine.sample_rate_hz
        cut = {start: without_zeros(self._kept[start - self._first :][:length], rate) for start in starts}
        heard = [start for start, window in cut.items() if len(window) >= self._engine.samples_needed and window.any()]
        embeddings = [np.zeros((0, self._engine.embedding_dim), dtype=np.float32)]
        for first in range(0, len(heard), self._batch_size):
            batch = heard[first : first + self._batch_size]
            embeddings.append(self._engine.embed([cut[start] for start in batch]))
        start_s = np.array(heard, dtype=np.float64) / rate
        return Windows(start_s=start_s, end_s=start_s + length / rate, embeddings=np.concatenate(embeddings))
