"""Decode with libsndfile: one stream of a file, or several joined ones as one recording."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import soundfile

from xvectors.audio.sound import AudioInfo, FileKey, Samples, Sound
from xvectors.errors import AudioFileError, TruncatedFileError

# A lossy decoder's state depends on the packets before; a second of run-in makes it equal a whole decode's.
RUN_IN_S = {"OPUS": 1.0, "MPEG_LAYER_I": 1.0, "MPEG_LAYER_II": 1.0, "MPEG_LAYER_III": 1.0}
BLOCK_SAMPLES = 1 << 24
"""Number of samples decoded at once. More memory is reserved only when this much was really there."""


class LibsndfileSound:
    """An opened stream. `file`: a raw file from its start, or any file object; `last_samples`: of an Ogg stream's last
    page. Raises soundfile.LibsndfileError."""

    key: FileKey | None

    def __init__(self, file: BinaryIO, name: str, *, is_raw: bool, last_samples: int = 0) -> None:
        self.name, self.key = name, None
        self._source, self._is_raw = file, is_raw
        self._file = self._opened()
        self._at = 0
        opened = self._file
        self.info = AudioInfo(opened.samplerate, opened.channels, opened.frames, opened.format, opened.subtype)
        self._can_seek = opened.seekable()
        # libsndfile seeks to a wrong place within the last page of Vorbis, mostly where its end is trimmed.
        self._is_vorbis = opened.subtype == "VORBIS"
        self._last_target = max(0, opened.frames - last_samples - 1) if self._is_vorbis else opened.frames

    def read(self, first: int, count: int) -> Samples:
        """Decode exactly `count` frames from frame `first`: float32 [frames, channels]."""
        block = max(1, BLOCK_SAMPLES // self.info.num_channels)
        parts = [self._decode(at, min(block, first + count - at)) for at in range(first, first + count, block)]
        return parts[0] if len(parts) == 1 else np.concatenate([self._nothing(), *parts])

    def close(self) -> None:
        self._file.close()

    def _decode(self, first: int, count: int) -> Samples:
        run_in = 0
        try:
            if self._is_vorbis and first != self._at:
                self._restart()  # libsndfile that seeks a second time may lose the end
            if self._can_seek:
                # soundfile seeks after every read: adjoining segments need the run-in too, and in the same read.
                run_in = min(first, round(RUN_IN_S.get(self.info.subtype, 0.0) * self.info.sample_rate_hz))
                run_in = max(run_in, first - self._last_target)
                try:
                    at = self._file.seek(first - run_in)
                except soundfile.LibsndfileError:
                    self._can_seek, run_in = False, 0
                    self._restart()
                else:
                    self._check_place(first - run_in, at)
            if not self._can_seek:
                self._skip_to(first)
            frames = self._file.read(run_in + count, dtype="float32", always_2d=True)[run_in:]
        except soundfile.LibsndfileError as error:
            raise TruncatedFileError(
                f"{self.name}: cannot be decoded to its end ({error.error_string.rstrip('.')}); "
                "the file is truncated or damaged, replace it"
            ) from error
        self._at = first + len(frames)
        if len(frames) < count:
            raise TruncatedFileError(
                f"{self.name}: truncated: its header states {self.info.num_frames} samples per channel, "
                f"{first + len(frames)} could be decoded; replace the file"
            )
        return np.asarray(frames, dtype=np.float32)

    def _check_place(self, wanted: int, at: int) -> None:
        """Check the position: soundfile would ask for a negative number of frames beyond the end."""
        if not wanted == at == self._file.tell():
            raise AudioFileError(
                f"{self.name}: damaged: sample {wanted} is sought, sample {at} found; replace the file"
            )

    def _skip_to(self, first: int) -> None:
        """Decode up to frame `first` in encodings without seeking, such as GSM 6.10."""
        if first < self._at:
            self._restart()
        block = max(1, BLOCK_SAMPLES // self.info.num_channels)
        while self._at < first:
            skipped = len(self._file.read(min(block, first - self._at), dtype="float32", always_2d=True))
            if not skipped:
                return
            self._at += skipped

    def _restart(self) -> None:
        self._file.close()
        self._file = self._opened()
        self._at = 0

    def _opened(self) -> soundfile.SoundFile:
        self._source.seek(0)
        return soundfile.SoundFile(self._source.fileno() if self._is_raw else self._source, closefd=False)

    def _nothing(self) -> Samples:
        return np.zeros((0, self.info.num_channels), dtype=np.float32)


class JoinedSound:
    """Streams that lie in one file, one after another, as one recording."""

    key: FileKey | None

    def __init__(self, sounds: Sequence[Sound], name: str) -> None:
        self.name, self.key = name, None
        self._sounds = sounds
        first = sounds[0].info
        kinds = {(sound.info.sample_rate_hz, sound.info.num_channels) for sound in sounds}
        if len(kinds) > 1:
            listed = ", ".join(f"{rate_hz} Hz in {count} channel{'s' * (count != 1)}" for rate_hz, count in kinds)
            raise AudioFileError(
                f"{name}: {len(sounds)} recordings are joined in it, which differ ({listed}); split and convert it"
            )
        total = sum(sound.info.num_frames for sound in sounds)
        self.info = AudioInfo(first.sample_rate_hz, first.num_channels, total, first.format, first.subtype)

    def read(self, first: int, count: int) -> Samples:
        parts, begin = list[Samples](), 0
        for sound in self._sounds:
            end = begin + sound.info.num_frames
            start, stop = max(first, begin), min(first + count, end)
            if start < stop:
                parts.append(sound.read(start - begin, stop - start))
            begin = end
        return np.concatenate(parts) if parts else np.zeros((0, self.info.num_channels), dtype=np.float32)

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for sound in self._sounds:
                stack.callback(sound.close)
