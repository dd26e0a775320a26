"""From DATA to labeled rows. In: a folder or manifest and a recipe. Out: the corpus scanned, divided and numbered."""

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
from xvectors.text import brief, count
from xvectors.training.dataset import assign_labels

logger = logging.getLogger(__name__)


@brief()
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

    def line(self) -> str:
        """How many speakers are trained on, held out for the calibration, and tested on."""
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
    """Number the speakers of a divided manifest."""
    labels, train_speakers, _ = assign_labels(manifest, manifest.split)
    if len(train_speakers) < 2:
        raise ManifestError(
            f"{source}: {len(train_speakers)} speaker(s) to train on; telling speakers apart takes at least two"
        )
    return PreparedCorpus(manifest, labels, tuple(train_speakers))


def check_same_corpus(given: Manifest, began_with: Manifest, folder: SystemFolder, data: str) -> None:
    """See that a run is resumed with the corpus it began with, however its path is spelled.

    Recordings that have been removed since may be missing, and ones that have been added are warned about: the run
    goes on without them.

    Raises
    ------
    CheckpointError
        Where `given` lacks recordings of the run, or has them under other speakers.
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
    """Each row's file, absolute, where its segment begins, and its speaker."""
    for row, path in enumerate(manifest.path):
        full = os.path.join(manifest.root, path) if path.isascii() else str(manifest.full_path(row))
        yield full, float(manifest.start_s[row]), manifest.speakers[manifest.speaker_index[row]]


def _resolver() -> Callable[[str], str]:
    """`os.path.realpath` that looks at each folder once."""
    folders: dict[str, str] = {}

    def resolve(path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return os.path.join(folders[folder], name)

    return resolve
