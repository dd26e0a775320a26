"""The training loop. In: a corpus, a recipe, a folder. Out: a system directory, and one EpochResult an epoch.

One plain loop: batch, features, loss, step. Every random choice comes from the recipe's seed and the position in the
run, and the whole state is saved at intervals, when interrupted and before and after every validation, so that a
resumed run ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from xvectors.backends import all_pairs_scores
from xvectors.config import DEFAULT_RECIPE, FINE_TUNING_RECIPE, Recipe, differences, load_recipe
from xvectors.corpus import Manifest, ScanReport, open_corpus
from xvectors.devices import find_device
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError, StorageError, TrainingError
from xvectors.files import exclusive, write_text
from xvectors.metrics import eer
from xvectors.progress import Progress, progress_bar
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import (
    load_weights,
    make_features,
    make_model,
    read_description,
    read_weights,
    write_description,
    write_weights,
)
from xvectors.text import first_few
from xvectors.training.calibrate import calibrate as calibrate_system
from xvectors.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from xvectors.training.corpus import PreparedCorpus, check_same_corpus, label_corpus, prepare_corpus
from xvectors.training.dataset import Batch
from xvectors.training.embedding_map import fit_embedding_map
from xvectors.training.learner import Learner
from xvectors.training.loaders import Loaders, batches_of
from xvectors.training.optimizer import in_large_margin_stage
from xvectors.training.result import EpochResult, TrainingResult
from xvectors.training.signals import Signals, answered_signals
from xvectors.trials import sample_recordings
from xvectors.verification.verifier import remove_verifier

logger = logging.getLogger(__name__)

FREE_ON_RESUMING = ("training.workers", "training.checkpoint_interval_s", "data.max_rejected")
"""Settings that the weights do not depend on."""

REPORT_FILES = ("index.html", "metrics.json", "scores.csv", "embeddings.npz", "speakers.png", "scores.png")
"""What the report of another system may have left in the folder."""

NAMED_UTTERANCES = 8
"""How many utterances of a batch an error names."""


def train(
    data: str | Path | None,
    out: str | Path,
    recipe: Recipe | str | Path | None = None,
    *,
    start: str | Path | None = None,
    metadata: str | Path | None = None,
    speaker_level: int | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    on_scan: Callable[[ScanReport], None] | None = None,
    on_division: Callable[[PreparedCorpus], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    calibrate: bool = True,
    progress: bool = False,
) -> TrainingResult:
    """Train a system on `data` and write it to the folder `out`.

    Parameters
    ----------
    data
        A manifest, a folder with one sub-folder a speaker, a VoxCeleb or a Kaldi folder (see `open_corpus`).
        With `resume` it may be left out: the run goes on with the corpus as it was divided, and any other is refused.
    speaker_level
        How deep the speakers' folders lie in a corpus of folders (see `open_corpus`).
    recipe
        A Recipe, the name of one, or a TOML file; by default `resnet`, with `start` `finetune`, and on resuming the
        one the run began with.
    start
        A system to go on from, or `starter`: its features and backbone, whatever the recipe says of them, with a new
        class layer for the speakers of `data`.
    resume
        Go on from the last saved state; a recipe that is given must be the one the run began with.
    overwrite
        Replace a system that stands in `out`.
    on_scan, on_division, on_epoch
        Called with what the scan found, with the corpus as it is divided, and with each epoch's figures.
    calibrate
        Choose the back-end and calibrate it after the last epoch (see `xvectors.training.calibrate`). Where the
        corpus does not allow it, a warning says why, and the system decides by cosine.

    Raises
    ------
    XVectorsError
        ManifestError for the corpus, ConfigError for the recipe, CheckpointError for `out`, TrainingError for a loss
        that is not finite, StorageError when the state cannot be written; what was saved before stays usable.
        BusyError where another process writes `out`.
    """
    folder = SystemFolder(Path(out))
    where = find_device(device)
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe)
    if folder.path.exists() and not folder.path.is_dir():
        raise StorageError(f"{folder.path} is a file; name a folder for the system")
    if resume:
        read_description(folder)  # where there is none, the lock would make a folder
    with exclusive(folder.lock, of=str(folder.path)):
        if resume:
            if start is not None:
                raise ConfigError("a run that is resumed goes on as it began; leave --from out")
            if data is None and metadata is not None:
                raise ConfigError(
                    f"metadata {metadata} describes a corpus, and none is given; name it too, or leave both out"
                )
            run = _resumed(folder, recipe, where)
            if data is not None:
                check_same_corpus(
                    open_corpus(data, metadata=metadata, speaker_level=speaker_level),
                    run.corpus.manifest,
                    folder,
                    str(data),
                )
            if on_division:
                on_division(run.corpus)
            return _finished(run.run(on_epoch, progress), calibrate, device, progress)
        recipe = recipe or load_recipe(DEFAULT_RECIPE if start is None else FINE_TUNING_RECIPE)
        if start is not None:
            recipe = recipe_of_start(recipe, start)
        # a run that was killed before its first checkpoint left nothing to go on from
        if (folder.checkpoint.exists() or folder.weights.exists()) and not overwrite:
            raise CheckpointError(
                f"{folder.path} already holds a system; go on with --resume, replace it with --overwrite, "
                "or name another folder"
            )
        if data is None:
            raise CheckpointError("no corpus given; only --resume works without one")
        with torch.device("meta"):
            context_frames = make_model(recipe, 2).context_frames
        shortest = make_features(recipe).samples_for(context_frames)
        corpus, report = prepare_corpus(
            data,
            recipe,
            min_samples=shortest,
            metadata=metadata,
            speaker_level=speaker_level,
            progress=progress,
        )
        if on_scan:
            on_scan(report)
        if on_division:
            on_division(corpus)
        run = _Run(folder, recipe, corpus, where)
        if start is not None:
            run.learner.start_from(*read_weights(find_system(start)))
        run.begin(report)
        return _finished(run.run(on_epoch, progress), calibrate, device, progress)


def _finished(result: TrainingResult, calibrate: bool, device: str, progress: bool) -> TrainingResult:
    """The result of a run, its system calibrated where no signal ended it."""
    if calibrate and result.interrupted is None:
        try:
            with torch.random.fork_rng(devices=[]):
                calibrate_system(result.folder.path, device=device, progress=progress)
        except (ManifestError, ShapeError) as error:
            logger.warning("not calibrated, the system decides by cosine: %s", error)
    return result


def _resumed(folder: SystemFolder, recipe: Recipe | None, device: torch.device) -> _Run:
    description = read_description(folder)
    changed = [] if recipe is None else differences(description.recipe, recipe)
    changed = [change for change in changed if not change.startswith(FREE_ON_RESUMING)]
    if changed:
        raise CheckpointError(
            f"{folder.path} was begun with another recipe ({first_few(changed, 5, '; ')}); "
            "resume with the same settings"
        )
    corpus = label_corpus(Manifest.read_csv(folder.corpus), str(folder.corpus))
    if corpus.speakers != description.speakers:
        raise CheckpointError(f"{folder.corpus} and {folder.speakers} do not name the same speakers")
    run = _Run(folder, recipe or description.recipe, corpus, device)
    run.restore(load_checkpoint(folder.checkpoint, device))
    # the weights that it was learned with are about to change
    remove_verifier(backend=folder.backend, calibration=folder.calibration)
    return run


def recipe_of_start(recipe: Recipe, start: str | Path) -> Recipe:
    """`recipe` with the features and the network of the system `start`."""
    base = read_description(find_system(start)).recipe
    return dataclasses.replace(recipe, features=base.features, model=base.model)


class _Run:
    """A network, its optimizer and its place in the corpus."""

    def __init__(self, folder: SystemFolder, recipe: Recipe, corpus: PreparedCorpus, device: torch.device) -> None:
        self.folder, self.recipe, self.corpus, self.device = folder, recipe, corpus, device
        recordings = np.unique(corpus.manifest.speaker_index[corpus.held_out_rows], return_counts=True)[1]
        if recipe.training.best == "val_eer" and (len(recordings) < 2 or recordings.max() < 2):
            raise ConfigError(
                "training.best = 'val_eer' needs two speakers that are held out, one of them with two recordings; set "
                "data.held_out_prop above 0 (it takes at least 10 training speakers), or name another measure"
            )
        self.learner = Learner(recipe, len(corpus.speakers), device)
        self.position = Checkpoint(model={}, optimizer={})
        self.loaders = Loaders(recipe, corpus, device)

    def begin(self, report: ScanReport) -> None:
        """Write what describes the system, before the first step."""
        folder = self.folder
        of_another = [folder.checkpoint, folder.weights, folder.history, folder.left_out]
        of_another += [folder.report / name for name in REPORT_FILES]
        for stale in of_another:
            stale.unlink(missing_ok=True)
        remove_verifier(backend=folder.backend, calibration=folder.calibration)
        self.corpus.manifest.write_csv(self.folder.corpus)
        report.write_csv(self.folder.left_out)
        write_description(self.folder, self.recipe, self.corpus.speakers)
        if not len(self.corpus.val_rows):
            by_eer = self.recipe.training.best == "val_eer"
            kept = "the weights with the lowest held-out error rate" if by_eer else "the last epoch's weights"
            logger.warning("no speaker has recordings to validate on; %s will be kept", kept)

    def restore(self, checkpoint: Checkpoint) -> None:
        self.learner.load_from(checkpoint, str(self.folder.checkpoint))
        self.position = checkpoint

    def run(self, on_epoch: Callable[[EpochResult], None] | None, progress: bool) -> TrainingResult:
        position = self.position
        self._began = time.monotonic() - position.elapsed_s
        with (
            answered_signals() as signals,
            progress_bar("training", self._length(), enabled=progress, done=self._done()) as shown,
        ):
            while not self._finished() and not signals.received and self._train_epoch(shown, signals):
                result = self._end_epoch()
                if on_epoch:
                    on_epoch(result)
            if self._finished() and not signals.received and self.recipe.training.embedding_map:
                self._fit_embedding_map()
        manifest = self.corpus.manifest
        return TrainingResult(
            folder=self.folder,
            epochs=tuple(self._results()),
            best_epoch=position.best_epoch,
            num_speakers=len(self.corpus.speakers),
            unreadable={str(manifest.full_path(row)): reason for row, reason in position.unreadable.items()},
            interrupted=signals.received,
        )

    def _train_epoch(self, shown: Progress, signals: Signals) -> bool:
        """The batches that are left of the epoch under way; False where a signal ended it before its end."""
        position, interval_s = self.position, self.recipe.training.checkpoint_interval_s
        saved = time.monotonic()
        for batch in self._batches():
            self._note_failures(batch)
            if len(batch.rows) > 1:
                loss, correct = self.learner.step(batch, self._progress(), (position.epoch, position.batch))
                if not math.isfinite(loss):
                    raise TrainingError(self._non_finite(batch, loss))
                position.loss_sum += loss * len(batch.rows)
                position.num_correct += correct
                position.num_seen += len(batch.rows)
            before = self._done()
            position.batch += 1
            self._read_clock()
            shown.advance(self._done() - before)
            if position.num_seen:
                mean, share = position.loss_sum / position.num_seen, position.num_correct / position.num_seen
                shown.note(f"epoch {position.epoch + 1} loss {mean:.3f} acc {share:.1%}")
            if signals.received:
                self._save()
                return False
            # after the last batch the end of the epoch saves
            if time.monotonic() - saved >= interval_s and not self._epoch_is_over():
                self._save()
                saved = time.monotonic()
        return True

    def _batches(self) -> Iterator[Batch]:
        """The batches that are left of the epoch under way; where the large-margin stage begins, so do its chunks."""
        position, training = self.position, self.recipe.training
        while not self._epoch_is_over():
            self.loaders.train_batches.set_position(position.epoch, position.batch)
            large = in_large_margin_stage(training, self._progress())
            if large:
                self.loaders.lengthen_chunks()
            for batch in batches_of(self.loaders.train):
                yield batch
                # loader processes are ahead: the chunks that they have read by now are too short and read again
                if self._epoch_is_over() or in_large_margin_stage(training, self._progress()) != large:
                    break

    def _read_clock(self) -> None:
        self.position.elapsed_s = time.monotonic() - self._began

    def _length(self) -> int:
        """The length of the run: in seconds where it goes by the clock, else in batches."""
        training = self.recipe.training
        return round(60 * training.minutes) if training.minutes else training.epochs * len(self.loaders.train_batches)

    def _done(self) -> int:
        """How much of that is behind us."""
        position = self.position
        if self.recipe.training.minutes:
            return min(int(position.elapsed_s), self._length())
        return position.epoch * len(self.loaders.train_batches) + position.batch

    def _finished(self) -> bool:
        """Whether the last epoch has ended, its validation included."""
        if self.recipe.training.minutes:
            return self._time_is_up() and not self.position.batch
        return self.position.epoch >= self.recipe.training.epochs

    def _time_is_up(self) -> bool:
        minutes = self.recipe.training.minutes
        return minutes > 0 and self.position.elapsed_s >= 60 * minutes

    def _epoch_is_over(self) -> bool:
        """Whether no batch of the epoch under way is left; the last epoch of a run by the clock ends with the time."""
        return self._time_is_up() or self.position.batch >= len(self.loaders.train_batches)

    def _progress(self) -> float:
        """The share of the run that is behind us."""
        if self.recipe.training.minutes:
            return min(1.0, self.position.elapsed_s / (60 * self.recipe.training.minutes))
        return self._done() / self._length()

    def _non_finite(self, batch: Batch, value: float) -> str:
        ids = [self.corpus.manifest.id[row] for row in batch.rows.tolist()]
        return (
            f"the loss is {value} in epoch {self.position.epoch + 1}, batch {self.position.batch + 1}, "
            f"before the optimizer's step; the batch holds {first_few(ids, NAMED_UTTERANCES)}; "
            "lower training.learning_rate, or look at these recordings; the last saved state is intact"
        )

    def _note_failures(self, batch: Batch) -> None:
        for row, reason in batch.failures:
            if row not in self.position.unreadable:
                logger.warning("left out: %s", reason)
            self.position.unreadable[row] = reason
        bound = self.recipe.data.max_rejected
        rows = len(self.corpus.train_rows) + len(self.corpus.val_rows)
        if batch.failures and len(self.position.unreadable) > bound * rows:
            raise TrainingError(
                f"{len(self.position.unreadable)} of {rows} recordings can no longer be read, more than "
                f"data.max_rejected = {bound:g}; the last: {batch.failures[-1][1]}"
            )

    def _end_epoch(self) -> EpochResult:
        """Save, validate, keep the weights if they are the best, and save again."""
        training, position = self.recipe.training, self.position
        self._save()
        val_loss, val_accuracy = self._validate()
        val_eer = self._held_out_eer()
        self._read_clock()
        position.history.append(
            {
                "epoch": position.epoch + 1,
                "train_loss": position.loss_sum / position.num_seen if position.num_seen else math.nan,
                "train_accuracy": position.num_correct / position.num_seen if position.num_seen else math.nan,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "val_eer": val_eer,
                "learning_rate": self.learner.optimizer.param_groups[0]["lr"],
                "elapsed_s": position.elapsed_s,
            }
        )
        position.epoch += 1
        position.batch = position.num_correct = position.num_seen = 0
        position.loss_sum = 0.0
        if self._is_best(training.best):
            position.best_epoch = position.epoch
            write_weights(self.folder, self.learner.kept_weights(), position.epoch)
        self._write_history()
        self._save()
        return self._results()[-1]

    def _fit_embedding_map(self) -> None:
        """Learn the map behind the kept weights from the middles of training recordings, some of each speaker."""
        if load_weights(self.folder, self.learner.model) is not None:
            return  # of a run that had finished before
        corpus = self.corpus
        some = sample_recordings(corpus.labels[corpus.train_rows], seed=self.recipe.training.seed)
        self.learner.average = None  # the kept weights are the model's now
        embeddings, labels = [], []
        for batch in batches_of(self.loaders.middles(corpus.train_rows[some])):
            self._note_failures(batch)
            if len(batch.rows):
                embeddings.append(self.learner.embed(batch).numpy())
                labels.append(batch.labels.numpy())
        fitted = fit_embedding_map(np.concatenate(embeddings), np.concatenate(labels))
        write_weights(self.folder, self.learner.model.state_dict(), self.position.best_epoch, fitted)

    def _validate(self) -> tuple[float, float]:
        loss_sum, correct, seen = 0.0, 0, 0
        for batch in batches_of(self.loaders.val):
            self._note_failures(batch)
            if len(batch.rows):
                loss, right = self.learner.measure(batch)
                loss_sum += loss * len(batch.rows)
                correct += right
                seen += len(batch.rows)
        return (loss_sum / seen, correct / seen) if seen else (math.nan, math.nan)

    def _held_out_eer(self) -> float:
        """EER over all pairs of recordings of the held-out speakers, by cosine; NaN where there are no trials."""
        embeddings, rows = [], []
        for batch in batches_of(self.loaders.held_out):
            self._note_failures(batch)
            if len(batch.rows):
                embeddings.append(self.learner.embed(batch).numpy())
                rows.append(batch.rows.numpy())
        if not rows:
            return math.nan
        speakers = self.corpus.manifest.speaker_index[np.concatenate(rows)]
        if len(np.unique(speakers)) in (1, len(speakers)):
            return math.nan
        stacked = np.concatenate(embeddings)
        return eer(*all_pairs_scores(stacked, speakers)).eer if np.isfinite(stacked).all() else math.nan

    def _is_best(self, metric: str) -> bool:
        """Whether the last epoch is the best so far.

        Equal accuracies and error rates are told apart by the loss, or, where nothing gives one, by their age: the
        newest is kept.
        """
        history, validated = self.position.history, len(self.corpus.val_rows) > 0
        if metric == "last" or not (validated or metric == "val_eer"):
            return True
        if validated and math.isnan(history[-1]["val_loss"]):
            logger.warning("the validation loss of epoch %d is not a number; its weights are not kept", len(history))
            return False

        def merit(row: dict[str, float]) -> tuple[float, ...]:
            if metric == "val_eer":
                error_rate = row["val_eer"] if math.isfinite(row["val_eer"]) else 1.0
                return (-error_rate, -row["val_loss"] if validated else row["epoch"])
            return (row["val_accuracy"], -row["val_loss"]) if metric == "val_accuracy" else (-row["val_loss"],)

        rivals = [row for row in history[:-1] if not (validated and math.isnan(row["val_loss"]))]
        return all(merit(history[-1]) > merit(row) for row in rivals)

    def _save(self) -> None:
        position = self.position
        self.learner.save_to(position)
        save_checkpoint(position, self.folder.checkpoint)
        if not position.best_epoch:
            write_weights(self.folder, self.learner.kept_weights(), 0)

    def _write_history(self) -> None:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, fieldnames=list(self.position.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.position.history)
        write_text(self.folder.history, table.getvalue())

    def _results(self) -> list[EpochResult]:
        epochs = 0 if self.recipe.training.minutes else self.recipe.training.epochs
        return [EpochResult.from_history(row, epochs) for row in self.position.history]
