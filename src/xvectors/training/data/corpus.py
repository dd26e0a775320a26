"""Prepare a corpus for training: open, scan, split, and number its speakers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.config import Recipe
from xvectors.corpus import NO_SPLIT, TEST, TRAIN, VAL, Manifest, ScanReport, open_corpus, scan, split_corpus
from xvectors.corpus.scanning import read_left_out
from xvectors.errors import CheckpointError, ManifestError
from xvectors.system.folder import SystemFolder
from xvectors.text import count, short_repr
from xvectors.training.data.dataset import assign_labels

logger = logging.getLogger(__name__)


@short_repr()
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
        """Validation recordings of training speakers."""
        return np.flatnonzero((self.manifest.split == VAL) & (self.labels >= 0))

    @property
    def held_out_rows(self) -> NDArray[np.int64]:
        """Recordings of held-out speakers."""
        return np.flatnonzero((self.manifest.split == VAL) & (self.labels < 0))

    def line(self) -> str:
        """Numbers of speakers for training, held out for calibration, and for testing, as text."""
        speakers, split = self.manifest.speaker_index, self.manifest.split
        parts = (("train", split == TRAIN), ("calibrate on", self.held_out_rows), ("test on", split == TEST))
        return "speakers: " + ", ".join(f"{len(np.unique(speakers[rows]))} to {what}" for what, rows in parts)


def prepare_corpus(
    data: str | Path,
    recipe: Recipe,
    *,
    min_samples: int,
    metadata: str | Path | None = None,
    speaker_level: int | None = None,
    progress: bool = False,
) -> tuple[PreparedCorpus, ScanReport]:
    """Open, scan and split `data` as the recipe says.

    Recordings with fewer than `min_samples` samples at the rate of the features, the context of the network, are left
    out with the other unusable ones. The report lists them.

    Raises
    ------
    ManifestError
        For a contradictory corpus, too many unusable recordings, and fewer than two training speakers.
    """
    settings = recipe.data
    scanned = scan(
        open_corpus(data, metadata=metadata, speaker_level=speaker_level),
        min_duration_s=max(settings.min_duration_s, min_samples / recipe.features.sample_rate_hz),
        contents=settings.scan_contents,
        max_rejected=settings.max_rejected,
        progress=progress,
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
    """Number the speakers of a split manifest."""
    labels, train_speakers, _ = assign_labels(manifest, manifest.split)
    if len(train_speakers) < 2:
        raise ManifestError(
            f"{source}: {len(train_speakers)} speaker(s) to train on; telling speakers apart takes at least two"
        )
    return PreparedCorpus(manifest, labels, tuple(train_speakers))


def check_same_corpus(given: Manifest, began_with: Manifest, folder: SystemFolder, data: str) -> None:
    """Check that a run is resumed with its own corpus, under any spelling of its path.

    Recordings may have been removed since. Added recordings cause a warning, and the run continues without them.

    Raises
    ------
    CheckpointError
        If `given` lacks recordings of the run, or has other speakers for them.
    """
    resolve = _resolver()
    speaker_of = {(resolve(path), start_s): speaker for path, start_s, speaker in _places(given)}
    began = {(resolve(path), start_s): (path, speaker) for path, start_s, speaker in _places(began_with)}
    lacking = [path for place, (path, _) in began.items() if place not in speaker_of and os.path.exists(path)]
    if lacking:
        raise CheckpointError(
            f"{folder.path} was begun with other recordings than {data} holds: {len(lacking)} of its {len(began)} are "
            f"not there, such as {lacking[0]}; leave DATA out to go on with those ({folder.corpus}), or train on "
            f"{data} in another folder, or in this one with --overwrite"
        )
    renamed = [(path, name) for at, (path, name) in began.items() if speaker_of.get(at, name) != name]
    if renamed:
        path, name = renamed[0]
        raise CheckpointError(
            f"{data} names other speakers than {folder.path} was begun with, such as for {path} ({name!r} then); leave "
            f"DATA out to go on with those of {folder.corpus}, or train anew with --overwrite"
        )
    left_out = len(read_left_out(folder.left_out)) if folder.left_out.is_file() else 0
    num_new = len(speaker_of.keys() - began.keys()) - left_out
    if num_new > 0:
        logger.warning(
            "%s holds %s that %s was not begun with; it goes on without them (train anew with --overwrite)",
            *(data, count(num_new, "recording"), folder.path),
        )


def _places(manifest: Manifest) -> Iterator[tuple[str, float, str]]:
    """Return the absolute file, the start of the segment, and the speaker of each row."""
    for row, path in enumerate(manifest.path):
        full = os.path.join(manifest.root, path) if path.isascii() else str(manifest.full_path(row))
        yield full, float(manifest.start_s[row]), manifest.speakers[manifest.speaker_index[row]]


def _resolver() -> Callable[[str], str]:
    """Return a version of `os.path.realpath` that resolves each folder once."""
    folders: dict[str, str] = {}

    def resolve(path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return os.path.join(folders[folder], name)

    return resolve
