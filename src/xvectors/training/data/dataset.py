"""Chunks of recordings as batches, for training and for validation.

The sampler holds all randomness: a request names the row, the length and the seed of one chunk, and the dataset is a
pure function of it. The order of an epoch therefore depends on (seed, epoch) alone, whatever the number of workers,
and a run can go on from the middle of an epoch.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from xvectors import audio
from xvectors.audio.cache import MAX_KEPT_S, DecodedRecordings
from xvectors.audio.segments import without_zeros
from xvectors.augment import Augmenter
from xvectors.augment import speed as play_faster
from xvectors.config import AugmentConfig
from xvectors.corpus import TEST, TRAIN, VAL, Manifest
from xvectors.errors import AudioError, MissingExtraError
from xvectors.processes import without_main_script
from xvectors.text import short_repr
from xvectors.training.data.copies import ORIGINAL, Targets
from xvectors.training.data.samplers import RowOrder, Shuffled
from xvectors.training.distributed import ALONE, MIN_SHARE, Group

T = TypeVar("T")

WHOLE = 0
"""Length of a request for the whole recording."""
CENTERED = -1
"""Seed of a request for a chunk from the middle."""

SPEED_STREAM = 100
"""Random stream of the speed of a chunk; the augmenter numbers its streams from 1."""

WORKER_NICENESS = 14
"""Niceness of loader processes, which yield to the network, because each of its layers waits for the slowest thread.
On two cores a step of the recipe `resnet` takes an eighth less time than at 10 (benchmarks/step_share.py)."""

NUM_LENGTHS = 9
"""Number of chunk lengths to draw from; few, since every shape is compiled, cached and allocated separately."""

MIN_BATCH = MIN_SHARE
"""A smaller last batch joins the one before."""


class ChunkRequest(NamedTuple):
    """A chunk to read: its row, its length in samples (or WHOLE), and the seed of its position (or CENTERED).

    `speed_seed`, by default `seed`, determines its speed; chunks of a group share it.
    """

    row: int
    num_samples: int
    seed: int
    speed_seed: int | None = None


@short_repr()
class Example(NamedTuple):
    """A chunk that was read: `waveform` is float32 [samples], or None if `failure` says why it is missing.

    `speed` is 0 for the original speed or voice, else 1 + the index of the speed factor, or the number of the voice.
    `target` is the index of the teacher's embedding; -1 for none.
    """

    waveform: NDArray[np.float32] | None
    row: int
    failure: str = ""
    speed: int = 0
    target: int = -1


@short_repr()
class Batch(NamedTuple):
    """Chunks of equal length: waveforms float32 [batch, samples], labels int64 [batch], rows int64 [batch].

    `failures` lists (row, reason) of recordings of this batch that cannot be read. In distillation, `targets` are the
    teacher's embeddings, float32 [batch, dim]. `num_elsewhere` counts the chunks of the same batch that other processes
    train on; `failures` are then those of all processes.
    """

    waveforms: Tensor
    labels: Tensor
    rows: Tensor
    failures: list[tuple[int, str]]
    targets: Tensor | None = None
    num_elsewhere: int = 0

    @property
    def total(self) -> int:
        """Number of chunks of the batch over all processes."""
        return len(self.rows) + self.num_elsewhere


@short_repr("manifest", "rows", "sample_rate_hz")
class ChunkDataset(Dataset[Example]):
    """The recordings of `manifest` by row. `labels`, int64 [rows], are their classes; -1 for none.

    `speakers` maps the classes of this dataset to speaker names. With `augment`, chunks with a seed are augmented by
    it. Each loader process caches up to `decoded_bytes` of decoded recordings. With `targets`, these chunks are of
    recordings and their copies.
    """

    def __init__(
        self,
        manifest: Manifest,
        labels: NDArray[np.int64],
        speakers: Mapping[int, str],
        *,
        rows: NDArray[np.int64],
        sample_rate_hz: int,
        channel: int = -1,
        augment: AugmentConfig | None = None,
        decoded_bytes: int = 0,
        targets: Targets | None = None,
    ) -> None:
        self.manifest = manifest
        self.targets = targets
        self.labels = labels
        self.speakers = dict(speakers)
        self.rows = rows
        self.sample_rate_hz = sample_rate_hz
        self._channel: int | Literal["mix"] = "mix" if channel < 0 else channel
        self._augmenter = Augmenter(augment, sample_rate_hz, self._another_voice) if augment else None
        self._recordings = DecodedRecordings(decoded_bytes)
        order = np.argsort(manifest.speaker_index[rows], kind="stable") if augment else rows[:0]
        self._by_speaker = rows[order], manifest.speaker_index[rows[order]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, request: ChunkRequest) -> Example:
        try:
            if self._augmenter is None or request.seed == CENTERED:
                return Example(self._read(request), request.row)
            if self.targets is not None:
                return self._with_target(request, self._augmenter, self.targets)
            seed = request.seed if request.speed_seed is None else request.speed_seed
            speed, factor = _speed(self._augmenter.settings, seed)
            waveform = self._read(request._replace(num_samples=round(request.num_samples * factor)))
            if speed:
                waveform = _repeat_to(play_faster(waveform, factor), request.num_samples)
            return Example(self._augmenter(waveform, request.seed, request.row), request.row, speed=speed)
        except (AudioError, MissingExtraError) as error:
            return Example(None, request.row, str(error))

    def _with_target(self, request: ChunkRequest, augmenter: Augmenter, targets: Targets) -> Example:
        """Read a chunk of a recording or of one of its copies."""
        row, column = request.row, targets.choose(request.row, request.seed)
        target = int(targets.index[row, column])
        if target < 0:
            return Example(None, row, f"{self.manifest.full_path(row)}: the teacher has no embedding of it")
        if column == ORIGINAL:
            waveform = self._read(request)
        else:
            path, duration_s = targets.copies.path(row, column), float(targets.duration_s[row, column])
            waveform = self._read_part(request, path, 0.0, duration_s)
        return Example(augmenter(waveform, request.seed, row), row, speed=targets.voice(column), target=target)

    def _another_voice(self, generator: np.random.Generator, num_samples: int, row: int) -> NDArray[np.float32]:
        """Read a chunk of a speaker other than that of `row`, for babble; of any recording if there is one speaker."""
        rows, speakers = self._by_speaker
        own = int(self.manifest.speaker_index[row])
        first, end = np.searchsorted(speakers, [own, own + 1]).tolist()
        if end - first == len(rows):
            end = first
        place = int(generator.integers(len(rows) - (end - first)))
        other = int(rows[place if place < first else place + end - first])
        return self._read(ChunkRequest(other, num_samples, int(generator.integers(2**62))))

    def _read(self, request: ChunkRequest) -> NDArray[np.float32]:
        row = request.row
        path, start_s = self.manifest.full_path(row), float(self.manifest.start_s[row])
        duration_s = float(self.manifest.duration_s[row])
        if np.isnan(duration_s):
            duration_s = audio.probe(path).duration_s - start_s
        return self._read_part(request, path, start_s, duration_s)

    def _read_part(self, request: ChunkRequest, path: Path, start_s: float, duration_s: float) -> NDArray[np.float32]:
        """Read the chunk from a recording, which is a part of a file."""
        rate = self.sample_rate_hz
        wanted_s, begin_s, whole_s, place = request.num_samples / rate, start_s, duration_s, 0.5
        if request.num_samples != WHOLE and duration_s > wanted_s:
            if request.seed != CENTERED:
                place = float(np.random.default_rng(request.seed).random())
            start_s += place * (duration_s - wanted_s)
            duration_s = wanted_s
        samples, _ = self._recordings.read(
            path, sample_rate_hz=rate, start_s=start_s, duration_s=duration_s, channel=self._channel
        )
        if not len(samples):
            raise AudioError(f"{path}: no samples at {start_s:.2f} s; scan the corpus again")
        if not np.isfinite(samples.sum(dtype=np.float64)):
            raise AudioError(f"{path}: samples that are NaN or infinite; leave it out or convert it again")
        sound = without_zeros(samples, rate)
        if request.num_samples == WHOLE:
            return sound if len(sound) else samples
        if len(sound) < len(samples) < round(whole_s * rate) and whole_s <= MAX_KEPT_S:
            # replace removed zeros by other parts of the recording
            whole, _ = self._recordings.read(
                path, sample_rate_hz=rate, start_s=begin_s, duration_s=whole_s, channel=self._channel
            )
            sound = without_zeros(whole, rate)
            sound = sound[round(place * max(0, len(sound) - request.num_samples)) :][: request.num_samples]
        return _repeat_to(sound if len(sound) else samples, request.num_samples)


def _speed(augment: AugmentConfig, seed: int) -> tuple[int, float]:
    """Return the number (0: original) and the factor of the speed of a chunk."""
    factors = augment.speed_factors
    generator = np.random.default_rng([seed, SPEED_STREAM])
    if not factors or generator.random() >= augment.speed_prob:
        return 0, 1.0
    number = int(generator.integers(len(factors)))
    return number + 1, factors[number]


@short_repr("_rows", "_batch_size", "_min_samples", "_max_samples")
class ChunkBatches(Sampler[list[ChunkRequest]]):
    """The batches of an epoch; every iteration is the next epoch.

    `order` draws the rows of an epoch. The chunks of a batch have one of nine lengths between min_samples and
    max_samples. Every `speed_group` successive chunks share the seed of their speed. `set_position` jumps to any batch;
    `set_lengths` applies from the next iteration on. The batches are the same for every number of processes in `group`,
    and this process takes its share of each. With `shuffle=False` the rows keep their order and every chunk is the
    middle of its recording.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        *,
        batch_size: int,
        min_samples: int,
        max_samples: int,
        seed: int = 0,
        shuffle: bool = True,
        order: RowOrder | None = None,
        speed_group: int = 1,
        group: Group = ALONE,
    ) -> None:
        self._rows, self._batch_size, self._seed, self._shuffle = rows, batch_size, seed, shuffle
        self._order = order or Shuffled(rows)
        self._group, self._speed_group = group, speed_group
        self._epoch = self._first_batch = 0
        self.set_lengths(min_samples, max_samples)
        count = len(self._order) if shuffle else len(rows)
        ends = list(range(batch_size, count, batch_size))
        if ends and shuffle and count - ends[-1] < MIN_BATCH:
            ends.pop()
        self._bounds = [0, *ends, count] if count else [0]

    def set_lengths(self, min_samples: int, max_samples: int) -> None:
        self._min_samples, self._max_samples = min_samples, max_samples

    def set_position(self, epoch: int, first_batch: int = 0) -> None:
        self._epoch, self._first_batch = epoch, first_batch

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[list[ChunkRequest]]:
        epoch, first = self._epoch, self._first_batch
        self.set_position(epoch + 1)
        generator = np.random.default_rng([self._seed, epoch])
        order = self._order.draw(generator) if self._shuffle else self._rows
        known = np.linspace(self._min_samples, self._max_samples, NUM_LENGTHS).round().astype(np.int64)
        lengths = generator.choice(known, size=len(self))
        seeds = generator.integers(0, 2**62, size=len(order)) if self._shuffle else np.full(len(order), CENTERED)
        speed_seeds = seeds[:: self._speed_group].repeat(self._speed_group)[: len(seeds)]
        for i in range(first, len(self)):
            members = slice(self._bounds[i], self._bounds[i + 1])
            share = self._group.share(members.stop - members.start)
            columns = (column[members][share].tolist() for column in (order, seeds, speed_seeds))
            yield [
                ChunkRequest(row, int(lengths[i]), seed, speed_seed)
                for row, seed, speed_seed in zip(*columns, strict=True)
            ]


def _repeat_to(samples: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    if len(samples) < num_samples:
        samples = np.tile(samples, -(-num_samples // len(samples)))
    return samples[:num_samples]


@short_repr()
@dataclass(frozen=True)
class CollateWaveforms:
    """Collate examples of equal length into a Batch."""

    labels: NDArray[np.int64]
    num_speakers: int = 0
    """A speaker at speed k is the class this many times k further on."""
    targets: NDArray[np.float32] | None = None
    """The teacher's embeddings [targets, dim]."""

    def __call__(self, examples: Sequence[Example]) -> Batch:
        read = [(e.row, e.speed, e.waveform) for e in examples if e.waveform is not None]
        rows = np.array([row for row, _, _ in read], dtype=np.int64)
        labels = self.labels[rows] + self.num_speakers * np.array([speed for _, speed, _ in read], dtype=np.int64)
        # torch's own collation writes into the memory that loader processes share: no second copy on the way
        waveforms = (
            default_collate([torch.from_numpy(waveform) for _, _, waveform in read]) if read else torch.zeros(0, 0)
        )
        failures = [(e.row, e.failure) for e in examples if e.waveform is None]
        targets = None
        if self.targets is not None:
            wanted = np.array([e.target for e in examples if e.waveform is not None], dtype=np.int64)
            targets = torch.from_numpy(self.targets[wanted])
        return Batch(waveforms, torch.from_numpy(labels), torch.from_numpy(rows), failures, targets)


@short_repr("dataset", "batch_sampler", "num_workers")
class Loader(DataLoader[T]):
    """A DataLoader whose worker processes do not run the caller's script again; see `without_main_script`."""

    def __iter__(self) -> Any:
        with without_main_script():
            return super().__iter__()


def set_up_worker(worker: int) -> None:
    """Lower the priority of a worker process, and leave Ctrl-C to the training process.

    SIGTERM still ends a worker: the training process ends with it the workers that it no longer needs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(WORKER_NICENESS)
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def assign_labels(manifest: Manifest, assignment: NDArray[np.int8]) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Number the training speakers 0..N-1 and the test speakers from N on, each in order of their names.

    Returns labels int64 [rows] (-1 for rows in no part, and those of speakers of whom nothing trains), the training
    speakers and the test speakers.
    """
    in_train, in_test = assignment == TRAIN, assignment == TEST
    train = np.unique(manifest.speaker_index[in_train])
    test = np.unique(manifest.speaker_index[in_test])
    label_of = np.full(len(manifest.speakers), -1, dtype=np.int64)
    label_of[train] = np.arange(len(train))
    label_of[test] = np.arange(len(train), len(train) + len(test))
    labels = np.where(in_train | in_test | (assignment == VAL), label_of[manifest.speaker_index], -1)
    return labels, [manifest.speakers[i] for i in train], [manifest.speakers[i] for i in test]
