"""Open whatever a user hands in as a recording: a path, the bytes of a sound file, a binary file object, a waveform."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.channels import Channel
from xvectors.audio.decoding.opening import Source
from xvectors.audio.io import blocks, canceled, probe, read, stream
from xvectors.audio.resampling import Resampler, resample
from xvectors.audio.sound import AudioInfo, Samples
from xvectors.errors import AudioError

if TYPE_CHECKING:
    import torch

Recording: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | NDArray[np.floating] | torch.Tensor"
"""A recording, as functions accept it. A waveform is mono, [samples] of floats in [-1, 1]."""

T = TypeVar("T")

KINDS = "a path, the bytes of a sound file, a binary file object, or a mono waveform as an array or tensor"


class OpenRecording(Protocol):
    """A recording that can be read several times, whole, in segments or in blocks of constant size."""

    @property
    def name(self) -> str:
        """The name of the recording in error messages."""

    @property
    def sample_rate_hz(self) -> int:
        """The recording's own sample rate."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the file for users."""

    def blocks(self, block_s: float) -> Iterator[Samples]:
        """Yield float32 [samples] at the recording's own rate."""

    def read(self, sample_rate_hz: int, start_s: float = 0.0, duration_s: float | None = None) -> Samples:
        """Return float32 [samples] of a segment, resampled."""

    def stream(
        self, sample_rate_hz: int, block_s: float, start_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[Samples]:
        """Yield what `read` returns in blocks."""


@dataclass(frozen=True)
class FileRecording:
    """A sound file, by its path or its bytes, of which one channel or the mix is read."""

    source: str | os.PathLike[str] | bytes
    name: str
    channel: Channel = "mix"

    @property
    def sample_rate_hz(self) -> int:
        return self._info.sample_rate_hz

    @property
    def notes(self) -> tuple[str, ...]:
        found = self._named(canceled) if self.channel == "mix" else None
        return (*self._info.notes, *((found.note,) if found else ()))

    def blocks(self, block_s: float) -> Iterator[Samples]:
        return self._each(blocks(self.source, block_s=block_s, channel=self.channel))

    def read(self, sample_rate_hz: int, start_s: float = 0.0, duration_s: float | None = None) -> Samples:
        def segment(source: Source) -> Samples:
            samples, _ = read(
                source, sample_rate_hz=sample_rate_hz, start_s=start_s, duration_s=duration_s, channel=self.channel
            )
            return samples

        return self._named(segment)

    def stream(
        self, sample_rate_hz: int, block_s: float, start_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[Samples]:
        return self._each(
            stream(
                self.source,
                sample_rate_hz=sample_rate_hz,
                start_s=start_s,
                duration_s=duration_s,
                channel=self.channel,
                block_s=block_s,
            )
        )

    @cached_property
    def _info(self) -> AudioInfo:
        return self._named(probe)

    def _named(self, function: Callable[[Source], T]) -> T:
        try:
            return function(self.source)
        except AudioError as error:
            raise self._with_name(error) from error

    def _each(self, samples: Iterator[Samples]) -> Iterator[Samples]:
        try:
            yield from samples
        except AudioError as error:
            raise self._with_name(error) from error

    def _with_name(self, error: AudioError) -> AudioError:
        """Put the recording's name into the error, where the bytes of a file have none."""
        return type(error)(str(error).replace("<bytes>", self.name, 1)) if isinstance(self.source, bytes) else error


@dataclass(frozen=True, eq=False)
class WaveformRecording:
    """A mono waveform in memory, [samples] of floats in [-1, 1]."""

    waveform: NDArray[np.floating]
    name: str
    sample_rate_hz: int
    notes: tuple[str, ...] = ()

    def blocks(self, block_s: float) -> Iterator[Samples]:
        size = round(block_s * self.sample_rate_hz)
        for first in range(0, len(self.waveform), size):
            yield self.waveform[first : first + size].astype(np.float32, copy=False)

    def read(self, sample_rate_hz: int, start_s: float = 0.0, duration_s: float | None = None) -> Samples:
        segment = self._segment(start_s, duration_s).astype(np.float32, copy=False)
        return resample(segment, self.sample_rate_hz, sample_rate_hz)

    def stream(
        self, sample_rate_hz: int, block_s: float, start_s: float = 0.0, duration_s: float | None = None
    ) -> Iterator[Samples]:
        segment, size = self._segment(start_s, duration_s), round(block_s * self.sample_rate_hz)
        resampler = Resampler(self.sample_rate_hz, sample_rate_hz)
        for first in range(0, len(segment), size):
            block = segment[first : first + size].astype(np.float32, copy=False)
            yield resampler.feed(block, last=first + size >= len(segment))

    def _segment(self, start_s: float, duration_s: float | None) -> NDArray[np.floating]:
        first = round(start_s * self.sample_rate_hz)
        count = len(self.waveform) if duration_s is None else round(duration_s * self.sample_rate_hz)
        return self.waveform[first : first + count]


def open_recording(
    recording: Any, name: str = "recording", *, waveform_rate_hz: int, channel: Channel = "mix"
) -> OpenRecording:
    """Open a recording of any of these `KINDS`.

    Parameters
    ----------
    recording
        A path, the bytes of a sound file, a binary file object (read to its end), or a mono waveform [samples] of
        floats in [-1, 1] as an array or tensor.
    name
        What error messages call a recording without a path.
    waveform_rate_hz
        The sample rate of a waveform. Files state their own.
    channel
        The channel of a file to read, as in `xvectors.audio.read`.

    Raises
    ------
    AudioError
        For an object of another kind, a waveform of another shape or type, or a rate that is not positive. What is
        wrong with a file is raised when it is read.
    """
    if isinstance(recording, str | os.PathLike):
        return FileRecording(recording, os.fspath(recording), channel)
    if isinstance(recording, bytes | bytearray | memoryview):
        return FileRecording(bytes(recording), name, channel)
    if hasattr(recording, "read"):
        return FileRecording(read_bytes(recording, name), name, channel)
    if isinstance(recording, np.ndarray) or is_tensor(recording):
        if waveform_rate_hz <= 0:
            raise AudioError(f"{name}: sample_rate_hz is {waveform_rate_hz}; it must be positive")
        return WaveformRecording(as_waveform(recording, name), name, waveform_rate_hz)
    raise AudioError(f"{name}: cannot read a {type(recording).__name__} as a recording; give {KINDS}")


def as_list(recordings: object) -> list[Any]:
    """Return recordings as a list; a single one becomes a list of one. Raises AudioError for anything else."""
    if isinstance(recordings, np.ndarray) and recordings.dtype.kind in "OU" and recordings.ndim == 1:
        return list(recordings)  # names, not a waveform
    single = isinstance(recordings, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
    if single or is_tensor(recordings) or hasattr(recordings, "read"):
        return [recordings]
    if not isinstance(recordings, Iterable):
        raise AudioError(f"cannot read a {type(recordings).__name__} as a recording; give {KINDS}, or a list of these")
    return list(recordings)


def read_bytes(file: Any, name: str) -> bytes:
    """Read a binary file object to its end; AudioError for one that was opened as text."""
    content = file.read()
    if not isinstance(content, bytes):
        raise AudioError(f"{name}: the file object gives {type(content).__name__}; open it as binary, with 'rb'")
    return content


def as_waveform(recording: Any, name: str) -> NDArray[np.floating]:
    """Return a mono waveform as an array; AudioError, with the remedy, for another number of axes or data type."""
    array = recording.detach().cpu().numpy() if is_tensor(recording) else np.asarray(recording)
    if array.ndim == 1 and np.issubdtype(array.dtype, np.floating):
        return array
    remedy = "divide integers by their full scale"
    if array.ndim > 1:
        remedy = "mix its channels, as in samples.mean(axis=1) for [samples, channels], or give a list of waveforms"
    raise AudioError(
        f"{name}: a waveform must be one-dimensional floats in [-1, 1], not {array.dtype} {list(array.shape)}; {remedy}"
    )


def channels_apart(recordings: list[Any]) -> tuple[list[Any], list[Channel | None]]:
    """Repeat each recording once for each of its channels, and return which channel each is; None for a waveform."""
    items, channels = list[Any](), list[Channel | None]()
    for index, recording in enumerate(recordings):
        if hasattr(recording, "read"):
            recording = read_bytes(recording, f"recording {index}")
        if not isinstance(recording, str | os.PathLike | bytes):
            items.append(recording)
            channels.append(None)
            continue
        source: Source = recording
        count = probe(source).num_channels
        items += [recording] * count
        channels += range(count)
    return items, channels


def is_tensor(recording: object) -> TypeGuard[torch.Tensor]:
    """Whether this is a torch tensor, asked without importing torch."""
    return hasattr(recording, "detach") and hasattr(recording, "cpu")
