"""A training run: its parts, how it begins and resumes, and what it reads and saves besides the loop itself."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from xvectors.config import (
    DEFAULT_RECIPE,
    DISTILLATION_RECIPE,
    FINE_TUNING_RECIPE,
    Recipe,
    differences,
    load_recipe,
    override_recipe,
)
from xvectors.corpus import Manifest, ScanReport, open_corpus
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError, StorageError, TrainingError
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import (
    Description,
    load_weights,
    make_features,
    make_model,
    read_description,
    read_weights,
    write_description,
    write_weights,
)
from xvectors.text import first_few
from xvectors.training.calibrate import calibrate
from xvectors.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from xvectors.training.data.copies import Targets
from xvectors.training.data.corpus import PreparedCorpus, check_same_corpus, label_corpus, prepare_corpus
from xvectors.training.data.dataset import Batch
from xvectors.training.data.loaders import Loaders, batches_of
from xvectors.training.distillation import prepare_targets
from xvectors.training.distributed import ALONE, MIN_SHARE, Group
from xvectors.training.embedding_map import fit_embedding_map
from xvectors.training.learner import Learner
from xvectors.training.optimizer import in_large_margin_stage
from xvectors.training.results import EpochResult, TrainingResult, write_history
from xvectors.training.timeline import Timeline
from xvectors.training.validation import embed_all
from xvectors.trials import sample_recordings
from xvectors.verification.verifier import remove_verifier

logger = logging.getLogger(__name__)

FREE_ON_RESUMING = ("training.workers", "training.checkpoint_interval_s", "data.max_rejected")
"""Settings on which the weights do not depend, so that a resumed run may change them."""


def choose_recipe(
    system: Path,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    start: str | Path | None = None,
    teacher: str | None = None,
) -> Recipe:
    """Return the recipe of a run: the named one, that of the run to resume, or a default, with `overrides` applied.

    `system` is the folder of the run, `start` the system that it fine-tunes, and `teacher` the system whose embeddings
    it learns. Raises ConfigError for an override of features or network in fine-tuning.
    """
    if teacher is not None:
        overrides = [*overrides, f"distillation.teacher={json.dumps(str(teacher))}"]
    fixed = [override for override in overrides if override.strip().startswith(("model.", "features."))]
    if start and fixed:
        raise ConfigError(
            f"--set {fixed[0]}: features and network are those of {str(start)!r}, which is fine-tuned; leave out this "
            "setting, or --from"
        )
    if resume and recipe is None:
        return override_recipe(read_description(SystemFolder(system)).recipe, overrides)
    default = DISTILLATION_RECIPE if teacher else FINE_TUNING_RECIPE if start else DEFAULT_RECIPE
    return load_recipe(recipe or default, overrides)


REPORT_FILES = ("index.html", "metrics.json", "scores.csv", "embeddings.npz", "speakers.png", "scores.png")
"""Files that the report of a replaced system may have left."""

MAX_NAMED_UTTERANCES = 8
"""Number of utterances of a batch that an error names."""


class Run:
    """The network with its optimizer, the loaders, the state, and the folder that all of it is saved to.

    `scan_report` is that of a new run and None for a resumed one. In a `group`, every process has such a run, and the
    first one writes.
    """

    def __init__(
        self,
        folder: SystemFolder,
        recipe: Recipe,
        corpus: PreparedCorpus,
        device: torch.device,
        state: Checkpoint | None = None,
        scan_report: ScanReport | None = None,
        targets: Targets | None = None,
        group: Group = ALONE,
    ) -> None:
        self.folder, self.recipe, self.corpus, self._scan_report = folder, recipe, corpus, scan_report
        self.group = group
        recordings = np.unique(corpus.manifest.speaker_index[corpus.held_out_rows], return_counts=True)[1]
        if recipe.training.best == "val_eer" and (len(recordings) < 2 or recordings.max() < 2):
            raise ConfigError(
                "training.best = 'val_eer' needs two held-out speakers, one of them with two recordings; set "
                "data.held_out_prop above 0 (which takes effect from 10 training speakers on), or choose another "
                "criterion"
            )
        self.learner = Learner(recipe, len(corpus.speakers), device, group)
        self.loaders = Loaders(recipe, corpus, device, targets, group=group)
        if state is not None:
            self.learner.load_from(state, str(folder.checkpoint))
        self.state = state or Checkpoint(model={}, optimizer={})
        self.timeline = Timeline(recipe.training, len(self.loaders.train_batches), self.state, group)

    def prepare_folder(self) -> None:
        """Write the description of a new run, and remove whatever belongs to other weights."""
        folder = self.folder
        if not self.group.is_first:
            return
        if self._scan_report is None:
            remove_verifier(backend=folder.backend, calibration=folder.calibration)
            return
        stale = [folder.checkpoint, folder.weights, folder.history, folder.left_out]
        stale += [folder.report / name for name in REPORT_FILES]
        stale += folder.tensorboard.glob("events.out.tfevents.*")
        for path in stale:
            path.unlink(missing_ok=True)
        remove_verifier(backend=folder.backend, calibration=folder.calibration)
        self.corpus.manifest.write_csv(folder.corpus)
        self._scan_report.write_csv(folder.left_out)
        write_description(folder, self.recipe, self.corpus.speakers)
        if not len(self.corpus.val_rows):
            by_eer = self.recipe.training.best == "val_eer"
            kept = "the weights with the lowest held-out error rate" if by_eer else "the last epoch's weights"
            logger.warning("no speaker has recordings to validate on; %s will be kept", kept)

    def training_batches(self) -> Iterator[Batch]:
        """Yield the batches that the current epoch has left, with long chunks once the large-margin stage begins."""
        state, training = self.state, self.recipe.training
        while not self.timeline.epoch_is_over:
            self.loaders.train_batches.set_position(state.epoch, state.batch)
            large = in_large_margin_stage(training, self.timeline.fraction)
            if large:
                self.loaders.lengthen_chunks()
            for own in batches_of(self.loaders.train):
                batch = self._with_others(own, fewest=MIN_SHARE)
                self._note_failures(batch)
                yield batch
                # loader processes read ahead: where the stage begins, their short chunks are discarded
                if self.timeline.epoch_is_over or in_large_margin_stage(training, self.timeline.fraction) != large:
                    break

    def readable(self, loader: DataLoader[Batch]) -> Iterator[Batch]:
        """Yield the batches of `loader` of which at least one recording could be read."""
        for own in batches_of(loader):
            batch = self._with_others(own)
            self._note_failures(batch)
            if len(batch.rows):
                yield batch

    def _with_others(self, batch: Batch, *, fewest: int = 1) -> Batch:
        """Add to a share of a batch what this process must know of the others' shares.

        Where recordings cannot be read, a share of less than `fewest` chunks is left out.
        """
        if self.group.is_alone:
            return batch
        if len(batch.rows) < fewest:
            targets = None if batch.targets is None else batch.targets[:0]
            batch = Batch(batch.waveforms[:0], batch.labels[:0], batch.rows[:0], batch.failures, targets)
        num_read, num_failed = self.group.sum(len(batch.rows), len(batch.failures))
        failures = self.group.gathered(batch.failures) if num_failed else []
        return batch._replace(
            failures=[(int(row), str(reason)) for row, reason in failures],
            num_elsewhere=int(num_read) - len(batch.rows),
        )

    def _note_failures(self, batch: Batch) -> None:
        unreadable, max_rejected = self.state.unreadable, self.recipe.data.max_rejected
        for row, reason in batch.failures:
            if row not in unreadable:
                logger.warning("left out: %s", reason)
            unreadable[row] = reason
        num_rows = len(self.corpus.train_rows) + len(self.corpus.val_rows)
        if batch.failures and len(unreadable) > max_rejected * num_rows:
            raise TrainingError(
                f"{len(unreadable)} of {num_rows} recordings can no longer be read, more than "
                f"data.max_rejected = {max_rejected:g}; the last: {batch.failures[-1][1]}"
            )

    def non_finite_loss(self, batch: Batch, loss: float) -> str:
        """Describe a loss that is not finite: where it occurred, on which utterances, and the remedy."""
        rows = self.group.concatenated(batch.rows.numpy())
        ids = [self.corpus.manifest.id[row] for row in rows.tolist()]
        return (
            f"the loss is {loss} in epoch {self.state.epoch + 1}, batch {self.state.batch + 1}, "
            f"before the optimizer's step; the batch holds {first_few(ids, MAX_NAMED_UTTERANCES)}; "
            "lower training.learning_rate, or check these recordings; the last checkpoint is intact"
        )

    def fit_embedding_map(self) -> None:
        """Fit the map behind the kept weights on the middles of training recordings, some of each speaker."""
        if load_weights(self.folder, self.learner.model) is not None:
            return  # the run had finished before
        some = sample_recordings(self.corpus.labels[self.corpus.train_rows], seed=self.recipe.training.seed)
        self.learner.average = None  # the model itself holds the kept weights now
        middles = self.loaders.middles(self.corpus.train_rows[some])
        embeddings, _, labels = embed_all(self.learner, self.readable(middles))
        if self.group.is_first:
            fitted = fit_embedding_map(embeddings, labels)
            write_weights(self.folder, self.learner.model.state_dict(), self.state.best_epoch, fitted)

    def keep_weights(self) -> None:
        """Make the present weights those of the system."""
        self.state.best_epoch = self.state.epoch
        if self.group.is_first:
            write_weights(self.folder, self.learner.kept_weights(), self.state.epoch)

    def write_history(self) -> None:
        """Write history.csv."""
        if self.group.is_first:
            write_history(self.folder.history, self.state.history)

    def save(self) -> None:
        """Write the checkpoint, and before the end of the first epoch also the weights, so that they can be used."""
        if not self.group.is_first:
            return
        self.learner.save_to(self.state)
        save_checkpoint(self.state, self.folder.checkpoint)
        if not self.state.best_epoch:
            write_weights(self.folder, self.learner.kept_weights(), 0)

    def epoch_results(self) -> list[EpochResult]:
        return [EpochResult.from_history(row, self.timeline.epochs) for row in self.state.history]

    def result(self, interrupted: signal.Signals | None) -> TrainingResult:
        manifest = self.corpus.manifest
        return TrainingResult(
            folder=self.folder,
            epochs=tuple(self.epoch_results()),
            best_epoch=self.state.best_epoch,
            num_speakers=len(self.corpus.speakers),
            unreadable={str(manifest.full_path(row)): reason for row, reason in self.state.unreadable.items()},
            interrupted=interrupted,
        )


def check_arguments(
    folder: SystemFolder,
    data: str | Path | None,
    *,
    resume: bool,
    start: str | Path | None,
    metadata: str | Path | None,
) -> None:
    """Refuse arguments of `train` that contradict each other, before anything is written."""
    if folder.path.exists() and not folder.path.is_dir():
        raise StorageError(f"{folder.path} is a file; name a folder for the system")
    if not resume:
        return
    read_description(folder)  # locking a folder that holds no system would create it
    if start is not None:
        raise ConfigError("a resumed run continues as it began; leave --from out")
    if data is None and metadata is not None:
        raise ConfigError(f"metadata {metadata} describes a corpus, and none is given; name it too, or leave both out")


def begin_run(
    folder: SystemFolder,
    recipe: Recipe | None,
    device: torch.device,
    data: str | Path | None,
    *,
    start: str | Path | None,
    metadata: str | Path | None,
    speaker_level: int | None,
    overwrite: bool,
    on_scan: Callable[[ScanReport], None] | None,
    progress: bool,
    group: Group = ALONE,
) -> Run:
    """Scan and split the corpus and build a new run; nothing but a teacher's embeddings is written yet.

    In a group the first process does so, and the others then read what it wrote.
    """
    if not group.is_first:
        return _join_run(folder, device, start=start, group=group)
    recipe = recipe or choose_recipe(folder.path, start=start)
    if start is not None:
        base = read_description(find_system(start)).recipe
        recipe = dataclasses.replace(recipe, features=base.features, model=base.model)
    # a run that was killed before its first checkpoint left nothing to resume
    if (folder.checkpoint.exists() or folder.weights.exists()) and not overwrite:
        raise CheckpointError(
            f"{folder.path} already holds a system; go on with --resume, replace it with --overwrite, "
            "or name another folder"
        )
    if data is None:
        raise CheckpointError("no corpus given; only --resume works without one")
    with torch.device("meta"):
        context_frames = make_model(recipe, 2).context_frames
    corpus, report = prepare_corpus(
        data,
        recipe,
        min_samples=make_features(recipe).samples_for(context_frames),
        metadata=metadata,
        speaker_level=speaker_level,
        progress=progress,
    )
    if on_scan:
        on_scan(report)
    targets = _targets(folder, corpus, recipe, device, progress=progress)
    run = Run(folder, recipe, corpus, device, scan_report=report, targets=targets, group=group)
    if start is not None:
        run.learner.start_from(*read_weights(find_system(start)))
    return run


def resume_run(
    folder: SystemFolder,
    recipe: Recipe | None,
    device: torch.device,
    data: str | Path | None,
    *,
    metadata: str | Path | None,
    speaker_level: int | None,
    progress: bool = False,
    group: Group = ALONE,
) -> Run:
    """Restore a run from its last checkpoint, and check that recipe and corpus are those that it began with."""
    description = read_description(folder)
    changes = [] if recipe is None else differences(description.recipe, recipe)
    changes = [change for change in changes if not change.startswith(FREE_ON_RESUMING)]
    if changes:
        raise CheckpointError(
            f"{folder.path} was begun with another recipe ({first_few(changes, 5, '; ')}); "
            "resume with the same settings"
        )
    corpus = _corpus_of(folder, description)
    state = load_checkpoint(folder.checkpoint, device)
    recipe = recipe or description.recipe
    targets = _targets(folder, corpus, recipe, device, resuming=True, progress=progress)
    run = Run(folder, recipe, corpus, device, state=state, targets=targets, group=group)
    if data is not None:
        given = open_corpus(data, metadata=metadata, speaker_level=speaker_level)
        check_same_corpus(given, corpus.manifest, folder, str(data))
    return run


def _join_run(folder: SystemFolder, device: torch.device, *, start: str | Path | None, group: Group) -> Run:
    """Build a run that another process of the group has begun, from the description and the corpus that it wrote."""
    if not folder.corpus.is_file():
        raise TrainingError(
            f"{folder.path}: process {group.rank} does not find what process 0 wrote there; all machines must see this "
            "folder and the corpus under the same paths, as on a shared file system"
        )
    description = read_description(folder)
    corpus = _corpus_of(folder, description)
    targets = _targets(folder, corpus, description.recipe, device, resuming=True, progress=False)
    run = Run(folder, description.recipe, corpus, device, targets=targets, group=group)
    if start is not None:
        run.learner.start_from(*read_weights(find_system(start)))
    return run


def _corpus_of(folder: SystemFolder, description: Description) -> PreparedCorpus:
    """Read the corpus that a run began with."""
    corpus = label_corpus(Manifest.read_csv(folder.corpus), str(folder.corpus))
    if corpus.speakers != description.speakers:
        raise CheckpointError(f"{folder.corpus} and {folder.speakers} do not name the same speakers")
    return corpus


def _targets(
    folder: SystemFolder,
    corpus: PreparedCorpus,
    recipe: Recipe,
    device: torch.device,
    *,
    resuming: bool = False,
    progress: bool,
) -> Targets | None:
    """The teacher's embeddings, if the recipe has a teacher."""
    if not recipe.distillation.teacher:
        return None
    return prepare_targets(folder, corpus, recipe, device, resuming=resuming, progress=progress)


def calibrate_if_possible(folder: SystemFolder, *, device: str, progress: bool) -> None:
    """Calibrate a trained system; where its corpus does not allow it, a warning says why."""
    try:
        with torch.random.fork_rng(devices=[]):
            calibrate(folder.path, device=device, progress=progress)
    except (ManifestError, ShapeError) as error:
        logger.warning("not calibrated, the system scores by cosine: %s", error)
