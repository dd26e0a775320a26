"""Embed sliding windows of a recording or a stream.

Windows of equal length start every hop. If samples remain after the last one, one more window ends with the recording.
A recording shorter than a window is a single window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Resampler, Samples
from xvectors.audio.recording import as_waveform
from xvectors.audio.segments import without_zeros
from xvectors.audio.speech import check_finite
from xvectors.encoder.engines import Engine
from xvectors.encoder.sources import silent
from xvectors.errors import ConfigError
from xvectors.text import short_repr


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Embeddings float32 [n, dim] of n windows, from `start_s` to `end_s` (float64 [n], in seconds, ascending)."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    embeddings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.start_s)

    @classmethod
    def join(cls, parts: Sequence[Windows]) -> Windows:
        """Concatenate windows; `parts` must not be empty."""
        return cls(
            start_s=np.concatenate([part.start_s for part in parts]),
            end_s=np.concatenate([part.end_s for part in parts]),
            embeddings=np.concatenate([part.embeddings for part in parts]),
        )


@short_repr("_window", "_hop", "num_samples")
class WindowStream:
    """Embed the windows of audio that arrives chunk by chunk. Made by `SpeakerEncoder.stream`.

    `feed` returns the windows that a chunk completes, `finish` the rest; the result does not depend on how the audio
    is cut into chunks. Times count from the start of the recording. Runs of zeros in a window are not embedded, and a
    window that is then shorter than the network's context is left out.
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
        self._kept = np.zeros(0, dtype=np.float32)  # samples from number `_first` on
        self._first = 0
        self._next = 0  # the first sample of the next window
        self._finished = False

    @property
    def num_samples(self) -> int:
        """Number of samples fed so far, at the system's rate, without those that the resampler holds back."""
        return self._first + len(self._kept)

    def feed(self, samples: Any) -> Windows:
        """Take the next samples and return the windows that they complete.

        Parameters
        ----------
        samples
            Mono floats [samples], any number of them.

        Raises
        ------
        AudioError
            The samples have another shape or type, or are not finite.
        ConfigError
            The stream is finished.
        """
        self._check_open()
        chunk = as_waveform(samples, self._name).astype(np.float32, copy=False)
        check_finite(chunk, self._name)
        self._keep(self._resampler.feed(chunk))
        return self._complete()

    def finish(self) -> Windows:
        """End the stream and return its last windows; none if the recording is shorter than the network's context."""
        self._check_open()
        self._finished = True
        self._keep(self._resampler.feed(np.zeros(0, dtype=np.float32), last=True))
        full = self._complete()
        end = self.num_samples
        covered = self._next - self._hop + self._window if self._next else 0
        if end <= covered or end < self._engine.samples_needed:
            return full
        return Windows.join([full, self._embedded([max(0, end - self._window)], min(end, self._window))])

    def embed(self, blocks: Iterable[Samples]) -> Windows:
        """Return the windows of a whole recording, which comes in blocks. Raises AudioError if it is silent."""
        windows = Windows.join([*map(self.feed, blocks), self.finish()])
        if not len(windows):
            raise silent(self._name)
        return windows

    def _check_open(self) -> None:
        if self._finished:
            raise ConfigError("this stream is finished; make a new one for the next recording")

    def _keep(self, samples: Samples) -> None:
        self._kept = np.concatenate([self._kept, samples])

    def _complete(self) -> Windows:
        starts = range(self._next, self.num_samples - self._window + 1, self._hop)
        windows = self._embedded(starts, self._window)
        self._next += len(starts) * self._hop
        # keep one window of samples, from which the window that ends with the recording is cut
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
