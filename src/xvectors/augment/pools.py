"""Draw segments from folders of noise and impulse responses.

Opening a folder reads all headers once; later only the segments drawn are decoded.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xvectors import audio
from xvectors.audio import Samples
from xvectors.corpus.walk import unknown_files, walk_recordings
from xvectors.errors import AudioError, ConfigError, MissingExtraError

logger = logging.getLogger(__name__)

NOISE, MUSIC, SPEECH = "noise", "music", "speech"


class Recording(NamedTuple):
    """A readable recording. `name` is its path below the folder, with forward slashes."""

    path: str
    name: str
    duration_s: float
    num_channels: int


def open_pool(folder: str, key: str) -> RecordingPool:
    """Open the recordings at any depth below `folder`, which the setting `key` names.

    Unreadable recordings are left out with one warning. Raises ConfigError if the folder does not exist, or holds no
    readable recording.
    """
    if not Path(folder).is_dir():
        raise ConfigError(f"augment.{key} = {folder!r} is not a folder; correct it, or leave it empty")
    passed_over: Counter[str] = Counter()
    names = list(walk_recordings(folder, passed_over))
    if unknown := unknown_files(passed_over):
        logger.warning("augment.%s: files with unknown suffixes are skipped: %s", key, unknown)
    if not names:
        raise ConfigError(f"augment.{key} = {folder!r} holds no recordings; fill it, or leave the setting empty")
    recordings, failures = [], []
    for name in names:
        path = str(Path(folder, name))
        try:
            info = audio.probe(path)
            recordings.append(Recording(path, name, info.duration_s, info.num_channels))
        except (AudioError, MissingExtraError) as error:
            failures.append(str(error))
    if not recordings:
        raise ConfigError(
            f"augment.{key} = {folder!r}: none of its {len(names)} recordings can be read; the first: {failures[0]}"
        )
    if failures:
        logger.warning(
            "augment.%s: left out %d of %d recordings that cannot be read; the first: %s",
            key,
            len(failures),
            len(names),
            failures[0],
        )
    return RecordingPool(recordings, key)


class RecordingPool:
    """Recordings to draw from. The next one replaces a damaged one, with one warning per file."""

    def __init__(self, recordings: list[Recording], key: str) -> None:
        self.recordings, self._key = recordings, key
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return len(self.recordings)

    def by_kind(self) -> dict[str, RecordingPool]:
        """Divide the pool like MUSAN, by the first folder called noise, music or speech; the rest is noise."""
        kinds: dict[str, list[Recording]] = {}
        for recording in self.recordings:
            folders = [part.lower() for part in recording.name.split("/")[:-1]]
            kind = next((part for part in folders if part in (NOISE, MUSIC, SPEECH)), NOISE)
            kinds.setdefault(kind, []).append(recording)
        return {kind: RecordingPool(recordings, self._key) for kind, recordings in kinds.items()}

    def draw(self, count: int, generator: np.random.Generator) -> list[int]:
        """Draw indices of `count` recordings, all different if there are enough."""
        if count == 1:
            return [int(generator.integers(len(self)))]
        return [int(i) for i in generator.choice(len(self), count, replace=len(self) < count)]

    def segment(self, index: int, num_samples: int, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
        """Read float32 [num_samples] from a random position of recording `index`, in mono, repeated if short."""
        place = generator.random()

        def read(recording: Recording) -> Samples:
            start_s = place * max(0.0, recording.duration_s - num_samples / sample_rate_hz)
            samples, _ = audio.read(
                recording.path,
                sample_rate_hz=sample_rate_hz,
                start_s=start_s,
                duration_s=num_samples / sample_rate_hz,
            )
            return samples

        samples = self._first_readable(index, read)
        if len(samples) >= num_samples:
            return samples[:num_samples]
        start = round(place * len(samples))
        return np.tile(samples, num_samples // len(samples) + 2)[start : start + num_samples]

    def impulse_response(
        self, index: int, sample_rate_hz: int, longest_s: float, generator: np.random.Generator
    ) -> Samples:
        """Read the first `longest_s` of one channel of recording `index`; mixing channels would add echoes."""
        place = generator.random()

        def read(recording: Recording) -> Samples:
            channel = int(place * recording.num_channels)
            samples, _ = audio.read(
                recording.path, sample_rate_hz=sample_rate_hz, duration_s=longest_s, channel=channel
            )
            if not samples.any():
                raise AudioError(f"{recording.path}: an impulse response of zeros only; remove it from the folder")
            return samples

        return self._first_readable(index, read)

    def _first_readable(self, index: int, read: Callable[[Recording], Samples]) -> Samples:
        reason = ""
        for offset in range(len(self)):
            recording = self.recordings[(index + offset) % len(self)]
            try:
                samples = read(recording)
                if not len(samples) or not np.isfinite(samples).all():
                    raise AudioError(f"{recording.path}: no samples, or some that are NaN or infinite; replace it")
                return samples
            except (AudioError, MissingExtraError) as error:
                reason = str(error)
                if recording.path not in self._warned:
                    self._warned.add(recording.path)
                    logger.warning("augment.%s: skipped: %s", self._key, reason)
        raise ConfigError(f"augment.{self._key}: none of its {len(self)} recordings can be read; the last: {reason}")
