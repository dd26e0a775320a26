"""From DATA to labelled rows. In: a folder or manifest and a recipe. Out: the corpus scanned, divided and numbered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.config import Recipe
from xvectors.corpus import NO_SPLIT, TRAIN, VAL, Manifest, ScanReport, open_corpus, scan, split_corpus
from xvectors.dataset import assign_labels
from xvectors.errors import ManifestError


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus ready for training.

    `manifest` holds the kept recordings, each with its split; `labels` int64 [rows] is the class of each (test speakers
    are numbered on from the training speakers); `speakers` names the classes that are trained.
    """

    manifest: Manifest
    labels: NDArray[np.int64]
    speakers: tuple[str, ...]

    @property
    def train_rows(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.manifest.split == TRAIN)

    @property
    def val_rows(self) -> NDArray[np.int64]:
        """Validation recordings of the speakers that are trained."""
        return np.flatnonzero((self.manifest.split == VAL) & (self.labels >= 0))

    @property
    def held_out_rows(self) -> NDArray[np.int64]:
        """Recordings of the speakers that are held out."""
        return np.flatnonzero((self.manifest.split == VAL) & (self.labels < 0))


def prepare_corpus(
    data: str | Path,
    recipe: Recipe,
    *,
    min_samples: int,
    metadata: str | Path | None = None,
    show_progress: bool = True,
) -> tuple[PreparedCorpus, ScanReport]:
    """Open, scan and divide `data` as the recipe says.

    Recordings of fewer than `min_samples` samples (at the features' rate), which the network's context takes, are left
    out with the other unusable ones; the report lists them.

    Raises
    ------
    ManifestError
        Where the corpus contradicts itself, too much of it is unusable, or fewer than two speakers would train.
    """
    settings = recipe.data
    scanned = scan(
        open_corpus(data, metadata=metadata),
        min_duration_s=max(settings.min_duration_s, min_samples / recipe.features.sample_rate_hz),
        contents=settings.scan_contents,
        max_rejected=settings.max_rejected,
        show_progress=show_progress,
    )
    split = split_corpus(
        scanned.manifest,
        train_test_prop=settings.train_test_prop,
        train_val_prop=settings.train_val_prop,
        held_out_prop=settings.held_out_prop,
        seed=recipe.training.seed,
        keep_sessions=settings.keep_sessions,
    )
    kept = np.flatnonzero(split.assignment != NO_SPLIT)
    manifest = scanned.manifest.with_columns(split=split.assignment).take(kept)
    return label_corpus(manifest, str(data)), scanned.report


def label_corpus(manifest: Manifest, source: str) -> PreparedCorpus:
    """Number the speakers of a divided manifest."""
    labels, train_speakers, _ = assign_labels(manifest, manifest.split)
    if len(train_speakers) < 2:
        raise ManifestError(
            f"{source}: {len(train_speakers)} speaker(s) to train on; telling speakers apart takes at least two"
        )
    return PreparedCorpus(manifest, labels, tuple(train_speakers))
