"""The loaders of the laboratory exercise: `load_all_data` gives the batches that its cells train and test on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xvectors.corpus import TEST, TRAIN, VAL, Manifest, open_corpus, scan, split_corpus
from xvectors.errors import ConfigError, ManifestError
from xvectors.features import Fbank
from xvectors.text import short_repr
from xvectors.training.data.dataset import (
    WHOLE,
    ChunkBatches,
    ChunkDataset,
    CollateWaveforms,
    Example,
    Loader,
    assign_labels,
)
from xvectors.training.data.samplers import make_order

__all__ = ["LabLoader", "load_all_data"]

logger = logging.getLogger(__name__)


@short_repr("_fbank")
class CollateFeatures:
    """Examples of equal length to the lab's tuple (melspec, spk_id, age, gender); None where none could be read."""

    def __init__(self, manifest: Manifest, labels: NDArray[np.int64], fbank: Fbank) -> None:
        self._collate = CollateWaveforms(labels)
        self._manifest, self._fbank = manifest, fbank

    def __call__(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        batch = self._collate(examples)
        for _, reason in batch.failures:
            logger.warning("left out of its batch: %s", reason)
        if not len(batch.rows):
            return None
        rows = batch.rows.numpy()
        with torch.no_grad():
            melspec = self._fbank(batch.waveforms)
        age = torch.from_numpy(self._manifest.age[rows].astype(np.float32))
        gender = torch.from_numpy(self._manifest.gender[rows].astype(np.int64))
        return melspec, batch.labels, age, gender


class LabLoader(Loader[Example]):
    """A Loader that skips a batch of which no recording could be read."""

    dataset: ChunkDataset

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:  # type: ignore[override]
        return (batch for batch in super().__iter__() if batch is not None)


def load_all_data(
    metadata_file: str | Path,
    data_directory: str | Path,
    batch_size: int = 32,
    train_val_prop: float = 0.9,
    train_test_prop: float = 0.95,
    speaker_subset: Sequence[int] | None = None,
    *,
    sampler: Literal["shuffle", "gender_balanced"] = "shuffle",
    sample_rate_hz: int = 16_000,
    num_mels: int = 24,
    mean_normalization: bool = False,
    chunk_s: float = 5.0,
    num_workers: int = 0,
    seed: int = 0,
    keep_sessions: bool = False,
    speaker_level: int | None = None,
) -> tuple[LabLoader, LabLoader, LabLoader]:
    """The laboratory's loaders over a corpus with speaker, age and gender: test, validation, training.

    Prints one line that counts the speakers, as the exercise does. Recordings whose header cannot be read are left out
    and logged as warnings.

    Parameters
    ----------
    metadata_file, data_directory, speaker_level
        The table of utterances (or speakers), the folder of recordings, and how deep the speakers' folders lie in it;
        see `xvectors.corpus.open_corpus`.
    batch_size
        Of training and validation; the test loader gives whole utterances one by one.
    train_val_prop, train_test_prop
        Share of the utterances that train, and of the speakers that are not kept for testing.
    speaker_subset
        [number of train+val speakers, number of test speakers]: the first of the seeded order.
    sampler
        `shuffle`, or `gender_balanced`: as many recordings of women as of men in every epoch.
    chunk_s
        Length of training (random place) and validation (middle) chunks; shorter recordings are repeated to it.

    Returns
    -------
    Three loaders of (melspec, spk_id, age, gender): float32 [batch, frames, num_mels] (498 frames at 5 s),
    int64 [batch], float32 [batch] (NaN unknown), int64 [batch] (0 male, 1 female, -1 unknown). Training speakers are
    0..N-1, test speakers go on from N; `loader.dataset.speakers` maps the numbers of that loader to names.

    Raises
    ------
    ManifestError, ConfigError
        For metadata that cannot be read, an argument of the wrong kind, proportions and subsets that leave a part
        empty, and `gender_balanced` without recordings of both genders.
    """
    _check_kinds(
        ("metadata_file", metadata_file, isinstance(metadata_file, str | os.PathLike), "the path of a table"),
        ("data_directory", data_directory, isinstance(data_directory, str | os.PathLike), "the path of a folder"),
        ("batch_size", batch_size, _is_whole(batch_size, 1), "a whole number, at least 1"),
        ("train_val_prop", train_val_prop, _is_share(train_val_prop), "a share above 0 and at most 1, such as 0.9"),
        ("train_test_prop", train_test_prop, _is_share(train_test_prop), "a share above 0 and at most 1, such as 0.95"),
        (
            "speaker_subset",
            speaker_subset,
            speaker_subset is None or _is_pair(speaker_subset),
            "[train+val speakers, test speakers], such as [100, 20]",
        ),
        (
            "sampler",
            sampler,
            sampler in ("shuffle", "gender_balanced"),
            "'shuffle' or 'gender_balanced'",
        ),
        ("sample_rate_hz", sample_rate_hz, _is_whole(sample_rate_hz, 1), "a whole number, such as 16000"),
        ("num_mels", num_mels, _is_whole(num_mels, 1), "a whole number, such as 24"),
        ("mean_normalization", mean_normalization, isinstance(mean_normalization, bool), "True or False"),
        ("chunk_s", chunk_s, _is_number(chunk_s) and math.isfinite(chunk_s), "seconds, such as 5.0"),
        ("num_workers", num_workers, _is_whole(num_workers, 0), "a whole number, 0 for none"),
        ("seed", seed, _is_whole(seed, 0), "a whole number, at least 0"),
        ("keep_sessions", keep_sessions, isinstance(keep_sessions, bool), "True or False"),
    )
    fbank = Fbank(sample_rate_hz=sample_rate_hz, num_mels=num_mels, mean_normalization=mean_normalization)
    chunk_samples = round(chunk_s * sample_rate_hz)
    if chunk_samples < fbank.samples_needed:
        raise ConfigError(f"chunk_s is {chunk_s}; it must hold a frame of 25 ms, better some seconds, such as 5.0")

    whole = open_corpus(data_directory, metadata=metadata_file, speaker_level=speaker_level)
    scanned = scan(whole, contents=False)
    for line in scanned.report.lines() if scanned.report.rejected else []:
        logger.warning("%s", line)
    manifest = scanned.manifest
    subset = None if speaker_subset is None else (int(speaker_subset[0]), int(speaker_subset[1]))
    split = split_corpus(
        manifest,
        train_test_prop=train_test_prop,
        train_val_prop=train_val_prop,
        seed=seed,
        keep_sessions=keep_sessions,
        speaker_subset=subset,
    )
    if split.held_out_speakers:
        raise ManifestError(
            f"speaker {split.held_out_speakers[0]!r} is set to val in the split column, and no row to train; "
            "set at least one to train, or all to test"
        )
    labels, train_speakers, test_speakers = assign_labels(manifest, split.assignment)
    speakers = [*train_speakers, *test_speakers]
    if not train_speakers:
        raise ManifestError(f"{metadata_file}: no training recording is left; see the warnings above")

    def loader(part: int, *, shuffle: bool, whole_utterances: bool = False) -> LabLoader:
        rows = np.flatnonzero(split.assignment == part)
        here = {int(label): speakers[label] for label in np.unique(labels[rows])}
        dataset = ChunkDataset(manifest, labels, here, rows=rows, sample_rate_hz=sample_rate_hz)
        samples = WHOLE if whole_utterances else chunk_samples
        batches = ChunkBatches(
            rows,
            batch_size=1 if whole_utterances else batch_size,
            min_samples=samples,
            max_samples=samples,
            seed=seed,
            shuffle=shuffle,
            order=make_order(sampler, rows, labels=labels, genders=manifest.gender) if shuffle else None,
        )
        return LabLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=CollateFeatures(manifest, labels, fbank),
        )

    counts = {part: len(np.unique(labels[split.assignment == part])) for part in (TRAIN, VAL, TEST)}
    print(
        f"Speakers | train+val: {len(train_speakers)} | train: {counts[TRAIN]} | val: {counts[VAL]} "
        f"| test: {counts[TEST]} | total: {len(manifest.speakers)}"
    )
    return (
        loader(TEST, shuffle=False, whole_utterances=True),
        loader(VAL, shuffle=False),
        loader(TRAIN, shuffle=True),
    )


def _check_kinds(*arguments: tuple[str, object, bool, str]) -> None:
    """Raise ConfigError for the first (name, value, whether it fits, what is wanted) that does not fit."""
    for name, value, fits, wanted in arguments:
        if not fits:
            raise ConfigError(f"{name} must be {wanted}, not {value!r}")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_share(value: object) -> bool:
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and bool(0 < value <= 1)
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 2 and all(_is_whole(n, 0) for n in value)
