"""Decode with FFmpeg, through PyAV (extra `media`), what libsndfile cannot read: AAC in MP4, WebM, WMA, AMR and others.

Streams are decoded from their start and samples are counted, because containers round times and lengths to packets.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xvectors.audio.sound import AudioInfo, FileKey, Samples
from xvectors.errors import AudioError, AudioFileError, MissingExtraError, TruncatedFileError

INSTALL = "pip install 'xvectors[media]'"
TOLERANCE_S = 0.1
"""Tolerance for a missing end: containers round their length to packets."""
_LENGTHS_KEPT = 100_000
_lengths: dict[FileKey, int] = {}


class MediaSound:
    """An opened recording that FFmpeg decodes. `states_length`: whether its container knows its length without
    decoding; `least_samples`: what must be found in it."""

    def __init__(
        self, source: bytes | str, name: str, *, states_length: bool, key: FileKey | None, least_samples: int = 0
    ) -> None:
        self.name, self.key = name, key
        self._source = source
        self._at = self._rate_hz = 0
        self._rest = np.zeros((0, 1), dtype=np.float32)
        self._frames: Iterator[Samples] = iter(())
        self._container: Any = None
        self._open()
        stream = self._stream
        # HE-AAC decodes to twice the rate that its header may state: what comes out counts.
        first = next(self._frames, None)
        if first is None:
            raise AudioFileError(f"{name}: FFmpeg finds no sound in it; check the file")
        self._rest = first
        stated_s = self._stated_s() if states_length else None
        self.info = AudioInfo(
            self._rate_hz,
            first.shape[1],
            self._count(),
            Path(name).suffix[1:].upper(),
            stream.codec_context.name,
        )
        stated_s = max(stated_s or 0.0, least_samples / self.info.sample_rate_hz)
        if self.info.duration_s + TOLERANCE_S < stated_s:
            self.close()
            raise TruncatedFileError(
                f"{name}: truncated: its header states {stated_s:.2f} s, {self.info.duration_s:.2f} s could be "
                "decoded; replace the file"
            )

    def read(self, first: int, count: int) -> Samples:
        """Decode exactly `count` frames from frame `first`: float32 [frames, channels]."""
        if first < self._at:
            self._open()
        parts, wanted = list[Samples](), first + count
        while self._at < wanted:
            if not len(self._rest):
                following = next(self._frames, None)
                if following is None:
                    raise TruncatedFileError(f"{self.name}: ends sooner than when it was opened; did it change?")
                self._rest = following
            skip, take = max(0, first - self._at), min(len(self._rest), wanted - self._at)
            if skip < take:
                parts.append(self._rest[skip:take])
            self._at, self._rest = self._at + take, self._rest[take:]
        return np.concatenate(parts) if parts else np.zeros((0, self.info.num_channels), dtype=np.float32)

    def close(self) -> None:
        if self._container is not None:
            self._frames = iter(())
            self._container.close()
            self._container = None

    def _open(self) -> None:
        """Open the file at its start."""
        av = _library(self.name)
        self.close()
        try:
            source = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
            self._container = av.open(source, mode="r", metadata_errors="replace")
        except MemoryError:
            raise  # of PyAV's it is an FFmpegError, too
        except (av.FFmpegError, ValueError) as error:
            raise AudioFileError(f"{self.name}: FFmpeg finds no sound in it; check the file") from error
        streams = self._container.streams.audio
        if not streams or streams[0].codec_context is None:  # without one FFmpeg does not know the encoding
            self.close()
            raise AudioFileError(f"{self.name}: FFmpeg finds no sound in it; check the file")
        self._stream = streams[0]
        self._stream.codec_context.thread_count = 1
        self._at, self._rest = 0, np.zeros((0, 1), dtype=np.float32)
        self._frames = self._decoded(av)

    def _decoded(self, av: Any) -> Iterator[Samples]:
        num_channels = 0
        try:
            for frame in self._container.decode(self._stream):
                samples = _samples(frame)
                if not num_channels:
                    num_channels, self._rate_hz = samples.shape[1], frame.sample_rate
                if (samples.shape[1], frame.sample_rate) != (num_channels, self._rate_hz):
                    raise AudioError(
                        f"{self.name}: changes from {self._rate_hz} Hz in {num_channels} channels to "
                        f"{frame.sample_rate} Hz in {samples.shape[1]}; convert it to FLAC"
                    )
                if len(samples):
                    yield samples
        except MemoryError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise TruncatedFileError(
                f"{self.name}: cannot be decoded to its end; the file is truncated or damaged, replace it"
            ) from error

    def _stated_s(self) -> float | None:
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None

    def _count(self) -> int:
        """Return the number of samples. Counting decodes everything, so the result is cached for files."""
        if self.key is not None and self.key in _lengths:
            return _lengths[self.key]
        total = len(self._rest) + sum(len(samples) for samples in self._frames)
        self._open()
        if self.key is not None:
            if len(_lengths) >= _LENGTHS_KEPT:
                _lengths.clear()
            _lengths[self.key] = total
        return total


def _library(name: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(f"{name}: needs FFmpeg to be read; {INSTALL}, or convert the file to FLAC") from error
    return av


_SCALES = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "s64": 2.0**-63, "flt": 1.0, "dbl": 1.0}


def _samples(frame: Any) -> Samples:
    """Return the samples of a frame, float32 [frames, channels], from any of FFmpeg's sample formats."""
    name = frame.format.name
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(frame.samples, -1)
    kind = name.removesuffix("p")
    if kind in ("flt", "dbl"):
        return np.ascontiguousarray(values, dtype=np.float32)
    offset = 128.0 if kind == "u8" else 0.0
    return np.asarray((values.astype(np.float64) - offset) * _SCALES[kind], dtype=np.float32)
