"""Copies of training recordings that distillation learns from: the same speaker in other voices and other moods.

A voice changes what tells speakers apart (pitch and formants together) and is another speaker. A mood changes what one
speaker changes (pitch, tempo and effort, with the formants near where they were) and is the same speaker.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.augment import speed
from xvectors.augment.shifts import SHIFTS
from xvectors.augment.voice import change_voice
from xvectors.config import DistillationConfig
from xvectors.corpus import Manifest

MAX_COPIED_S = 6.0
"""Copies hold at most this much of a recording, from its middle."""
LARGEST_CHANGE = math.log(1.18)
"""Largest change of pitch and formants of another voice, as a logarithm: about three semitones."""
PLAN_STREAM, VOICE_STREAM, MOOD_STREAM, CHOICE_STREAM = 300, 301, 302, 303
ORIGINAL = 0
"""Column of the recordings themselves."""


@dataclass(frozen=True)
class Copies:
    """Which copies of each recording there are.

    Attributes
    ----------
    manifest
        The recordings, by row.
    folder
        The folder of the copies.
    settings
        Numbers of voices and moods.
    planned
        bool [rows, 1 + voices + moods]: the recording itself, its voices and its moods.
    seed
        Seed of everything random.
    """

    manifest: Manifest
    folder: Path
    settings: DistillationConfig
    planned: NDArray[np.bool_]
    seed: int

    @classmethod
    def plan(
        cls, manifest: Manifest, rows: NDArray[np.int64], folder: Path, settings: DistillationConfig, seed: int
    ) -> Copies:
        """Plan the copies of the training recordings `rows`, up to `recordings_per_copy` of a speaker for each."""
        planned = np.zeros((len(manifest), 1 + settings.voices + settings.moods), dtype=np.bool_)
        planned[rows, ORIGINAL] = True
        order = np.argsort(manifest.speaker_index[rows], kind="stable")
        starts = np.flatnonzero(np.diff(manifest.speaker_index[rows][order])) + 1
        for members in np.split(rows[order], starts):
            if len(members):
                own = _of_speaker(manifest, int(members[0]))
                for column in range(1, planned.shape[1]):
                    generator = np.random.default_rng([seed, PLAN_STREAM, own, column])
                    planned[generator.permutation(members)[: settings.recordings_per_copy], column] = True
        return cls(manifest, folder, settings, planned, seed)

    def path(self, row: int, column: int) -> Path:
        return self.folder / str(column) / f"{row}.flac"

    def is_mood(self, column: int) -> bool:
        return column > self.settings.voices

    def make(self, waveform: Samples, sample_rate_hz: int, row: int, column: int) -> Samples:
        """Change a recording into its copy in `column`, for at most `MAX_COPIED_S` seconds from its middle."""
        length = round(MAX_COPIED_S * sample_rate_hz)
        first = max(0, (len(waveform) - length) // 2)
        waveform = waveform[first : first + length]
        own = _of_speaker(self.manifest, row)
        if self.is_mood(column):
            generator = np.random.default_rng([self.seed, MOOD_STREAM, own, row, column])
            return SHIFTS["moods"](waveform, sample_rate_hz, generator)
        # all recordings of a speaker change in the same way, so that the voice is one speaker
        generator = np.random.default_rng([self.seed, VOICE_STREAM, own, column])
        change, lower = generator.uniform(0.3, 1.0) * LARGEST_CHANGE, generator.random() < 0.5
        size = math.exp(-change if lower else change)
        if column % 2:
            return speed(waveform, size)
        return change_voice(
            waveform,
            sample_rate_hz,
            pitch=size * math.exp(generator.uniform(-LARGEST_CHANGE, LARGEST_CHANGE)),
            formants=size,
            tempo=math.exp(generator.uniform(-LARGEST_CHANGE, LARGEST_CHANGE)),
            tilt_db=generator.uniform(-2.0, 2.0),
        )


@dataclass(frozen=True)
class Targets:
    """The teacher's embeddings of recordings and copies.

    Attributes
    ----------
    vectors
        float32 [targets, dim], each of length 1.
    index
        int32 [rows, columns]: the target of each recording and copy; -1 for no target.
    duration_s
        float32 [rows, columns]: how long each copy is.
    copies
        The copies.
    """

    vectors: NDArray[np.float32]
    index: NDArray[np.int32]
    duration_s: NDArray[np.float32]
    copies: Copies

    def choose(self, row: int, seed: int) -> int:
        """Draw the column of a chunk of the recording `row`, all that there are being equally likely."""
        columns = np.flatnonzero(self.index[row] >= 0)
        if not len(columns):
            return ORIGINAL
        generator = np.random.default_rng([seed, CHOICE_STREAM])
        return int(columns[generator.integers(len(columns))])

    def voice(self, column: int) -> int:
        """The number of the voice, as a class; 0 for the speaker's own, which moods do not change."""
        return 0 if self.copies.is_mood(column) else column


def _of_speaker(manifest: Manifest, row: int) -> int:
    """A number that follows from the speaker's name."""
    return zlib.crc32(manifest.speakers[manifest.speaker_index[row]].encode())
