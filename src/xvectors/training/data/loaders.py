"""Data loaders of a training run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from xvectors.config import AugmentConfig, Recipe
from xvectors.devices import choose_workers
from xvectors.errors import TrainingError
from xvectors.training.data.copies import ORIGINAL, Targets
from xvectors.training.data.corpus import PreparedCorpus
from xvectors.training.data.dataset import Batch, ChunkBatches, ChunkDataset, CollateWaveforms, Loader, set_up_worker
from xvectors.training.data.samplers import make_order
from xvectors.training.distributed import ALONE, Group
from xvectors.trials import sample_recordings

HELD_OUT_EACH = 20
"""Recordings per held-out speaker for the EER of every epoch, and per speaker for the embedding map."""
HELD_OUT_AT_MOST = 4_000
"""Largest number of these recordings: 200 speakers, eight million pairs."""


class Loaders:
    """Loaders for training, in the order of `train_batches`, and for the middles of `val` and `held_out` recordings.

    With `targets`, training reads copies of the recordings too, and batches hold the teacher's embeddings.

    Each process of `group` gets its share of each batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: PreparedCorpus,
        device: torch.device,
        targets: Targets | None = None,
        *,
        group: Group = ALONE,
    ) -> None:
        self._recipe, self._corpus, self._device, self._group = recipe, corpus, device, group
        data, training = recipe.data, recipe.training
        self.train_batches = ChunkBatches(
            corpus.train_rows,
            batch_size=training.batch_size,
            min_samples=self._samples(data.chunk_min_s),
            max_samples=self._samples(data.chunk_max_s),
            seed=training.seed,
            order=make_order(
                data.sampler,
                corpus.train_rows,
                labels=corpus.labels,
                genders=corpus.manifest.gender,
                batch_size=training.batch_size,
                utterances_per_speaker=data.utterances_per_speaker,
            ),
            group=group,
            # a speaker at another speed is another class, so all K chunks of a group have one speed
            speed_group=data.utterances_per_speaker if data.sampler == "p_x_k" else 1,
        )
        self.train = self._loader(self.train_batches, recipe.augment, targets, keep_decoded=True)
        self.val = self._loader(self._centers(corpus.val_rows))
        held_out = corpus.held_out_rows
        some = sample_recordings(
            corpus.manifest.speaker_index[held_out],
            each=HELD_OUT_EACH,
            at_most=HELD_OUT_AT_MOST,
            seed=training.seed,
        )
        self.held_out = self._loader(self._centers(held_out[some]))

    def lengthen_chunks(self) -> None:
        """Switch to the longer chunks of the large-margin stage, from the next iteration of `train`."""
        samples = self._samples(self._recipe.data.large_margin_chunk_s)
        self.train_batches.set_lengths(samples, samples)

    def middles(self, rows: NDArray[np.int64]) -> DataLoader[Batch]:
        """Return a loader of the middles of these recordings, as in validation."""
        return self._loader(self._centers(rows))

    def _decoded_bytes(self, num_workers: int, targets: Targets | None) -> int:
        seconds = float(self._corpus.manifest.duration_s[self._corpus.train_rows].sum())
        if targets is not None:
            seconds += float(targets.duration_s[:, ORIGINAL + 1 :].sum())
        num_samples = seconds * self._recipe.features.sample_rate_hz
        num_readers = max(1, num_workers) * self._group.num_local
        return decoded_bytes_each(num_samples, self._recipe.training.decoded_mb, num_readers)

    def _samples(self, duration_s: float) -> int:
        return round(duration_s * self._recipe.features.sample_rate_hz)

    def _centers(self, rows: NDArray[np.int64]) -> ChunkBatches:
        samples = self._samples(self._recipe.data.validation_chunk_s)
        size = self._recipe.training.batch_size
        return ChunkBatches(
            rows, batch_size=size, min_samples=samples, max_samples=samples, shuffle=False, group=self._group
        )

    def _loader(
        self,
        batches: ChunkBatches,
        augment: AugmentConfig | None = None,
        targets: Targets | None = None,
        *,
        keep_decoded: bool = False,
    ) -> DataLoader[Batch]:
        workers = choose_workers(self._recipe.training.workers, self._device, num_sharing=self._group.num_local)
        dataset = ChunkDataset(
            self._corpus.manifest,
            self._corpus.labels,
            dict(enumerate(self._corpus.speakers)),
            rows=self._corpus.train_rows,
            sample_rate_hz=self._recipe.features.sample_rate_hz,
            channel=self._recipe.data.channel,
            augment=augment,
            decoded_bytes=self._decoded_bytes(workers, targets) if keep_decoded else 0,
            targets=targets,
        )
        vectors = None if targets is None else targets.vectors
        return Loader[Batch](
            dataset,  # type: ignore[arg-type]  # of Examples, which the collator makes Batches
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=CollateWaveforms(self._corpus.labels, len(self._corpus.speakers), vectors),
            worker_init_fn=set_up_worker,
            # its own generator: otherwise the loader draws from that of the network
            generator=torch.Generator(),
            pin_memory=self._device.type == "cuda",
        )


def decoded_bytes_each(num_samples: float, most_mb: int, num_workers: int) -> int:
    """Return the cache size in bytes of each loader process, since each process reads all recordings over time.

    0 if all `num_samples` (NaN: unknown) of two bytes do not fit.
    """
    each = most_mb * 2**20 // max(1, num_workers)
    return each if 2 * num_samples <= each else 0


def batches_of(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Yield one epoch of `loader`. Raises TrainingError, with the remedy, if a loader process ends."""
    try:
        yield from loader
    except RuntimeError as error:
        if "shared memory" in str(error).lower() or "bus error" in str(error).lower():
            raise TrainingError(
                "the loader processes ran out of shared memory (/dev/shm); give the container more, "
                "or read in the training process with --set training.workers=0"
            ) from error
        if "DataLoader worker" in str(error):
            raise TrainingError(
                f"a loader process ended: {str(error).splitlines()[0]} Go on with --resume, perhaps with "
                "--set training.workers=0"
            ) from error
        raise
