"""The training loop: `train` begins or resumes a run, and `train_epochs` takes it to its end.

Every random choice follows from the recipe's seed and the position in the run, and the whole state is saved at
intervals, on an interrupt, and before and after every validation. A resumed run therefore ends with the weights of an
uninterrupted one. Started by torchrun, the loop runs in every process; `run.group` says what they exchange.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path

from xvectors.config import Recipe, load_recipe
from xvectors.corpus import ScanReport
from xvectors.errors import TrainingError
from xvectors.progress import progress_bar
from xvectors.system import SystemFolder
from xvectors.training.data.corpus import PreparedCorpus
from xvectors.training.distributed import Group
from xvectors.training.results import EpochResult, StepResult, TrainingResult
from xvectors.training.run import Run, begin_run, calibrate_if_possible, check_arguments, resume_run
from xvectors.training.signals import noted_signals
from xvectors.training.validation import held_out_eer, is_best, validate


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
    on_split: Callable[[PreparedCorpus], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_step: Callable[[StepResult], None] | None = None,
    calibrate: bool = True,
    progress: bool = False,
) -> TrainingResult:
    """Train a system on the corpus `data` and write it to the folder `out`.

    Started by torchrun, the processes share every batch. The one of rank 0 writes, calls back and shows progress.

    Parameters
    ----------
    data
        A manifest, a folder with one sub-folder for each speaker, a VoxCeleb folder or a Kaldi folder (see
        `open_corpus`). With `resume` it may be None: the run continues with the corpus it began with, and refuses any
        other.
    out
        The system directory.
    recipe
        A Recipe, the name of one, or a TOML file. By default `resnet`; with `start`, `finetune`; with `resume`, the
        recipe that the run began with.
    start
        A system to fine-tune, or `starter`: its features and backbone replace those of the recipe, and the class layer
        is new.
    metadata, speaker_level
        The table of speakers and the depth of the speakers' folders (see `open_corpus`).
    device
        `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    resume
        Continue from the last checkpoint; a recipe must equal the one that the run began with.
    overwrite
        Replace a system that stands in `out`.
    on_scan, on_split
        Called with the result of the scan, and with the corpus after it was split.
    on_epoch
        Called after each epoch, when it is validated and saved, with an EpochResult.
    on_step
        Called after each step with a StepResult. It sees values that the loop has read from the device anyway, so it
        adds no synchronization.
    calibrate
        Choose a back-end and calibrate it after the last epoch (see `xvectors.training.calibrate`). Where the corpus
        does not allow it, a warning says why, and the system scores by cosine.
    progress
        Show a progress bar.

    Returns
    -------
    The results of all epochs, and which epoch's weights were kept.

    Raises
    ------
    ManifestError
        For a corpus that cannot be used.
    ConfigError
        For a recipe or arguments that contradict themselves.
    CheckpointError
        Where `out` holds another system, or cannot be resumed.
    TrainingError
        For a loss that is not finite, before the optimizer's step; the last checkpoint stays intact.
    StorageError
        Where the state cannot be written; the last checkpoint stays intact. BusyError where another process writes
        `out`.
    """
    folder, group = SystemFolder(Path(out)), Group.from_environment()
    target = group.find_device(device)
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe)
    check_arguments(folder, data, resume=resume, start=start, metadata=metadata)
    if not group.is_first:
        on_split = on_epoch = on_step = None
        progress = False
    with group.exclusive(folder.lock, of=str(folder.path)):
        with group.joined(target):
            with group.first_ahead():
                if resume:
                    run = resume_run(
                        folder,
                        recipe,
                        target,
                        data,
                        metadata=metadata,
                        speaker_level=speaker_level,
                        progress=progress,
                        group=group,
                    )
                else:
                    run = begin_run(
                        folder,
                        recipe,
                        target,
                        data,
                        start=start,
                        metadata=metadata,
                        speaker_level=speaker_level,
                        overwrite=overwrite,
                        on_scan=on_scan,
                        progress=progress,
                        group=group,
                    )
                if on_split:
                    on_split(run.corpus)
                run.prepare_folder()
            interrupted = train_epochs(run, on_epoch=on_epoch, on_step=on_step, progress=progress)
        if calibrate and interrupted is None and group.is_first:
            calibrate_if_possible(folder, device=device, progress=progress)
        return run.result(interrupted)


def train_epochs(
    run: Run,
    *,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_step: Callable[[StepResult], None] | None = None,
    progress: bool = False,
) -> signal.Signals | None:
    """Train `run` from its present state to its end, or until a signal stops it; return that signal."""
    learner, loaders, state, timeline = run.learner, run.loaders, run.state, run.timeline
    training, has_validation, group = run.recipe.training, len(run.corpus.val_rows) > 0, run.group
    timeline.start_clock()
    with (
        noted_signals() as signals,
        progress_bar("training", timeline.total, enabled=progress, done=timeline.done) as bar,
    ):
        while not timeline.finished and not group.signaled(signals):
            saved_at = time.monotonic()
            for batch in run.training_batches():
                if batch.total > 1:  # BatchNorm needs two recordings
                    loss, num_correct = learner.step(batch, timeline.fraction, (state.epoch, state.batch))
                    if not math.isfinite(loss):
                        raise TrainingError(run.non_finite_loss(batch, loss))
                    state.loss_sum += loss * batch.total
                    state.num_correct += num_correct
                    state.num_seen += batch.total
                done_before = timeline.done
                state.batch += 1
                timeline.read_clock()
                bar.advance(timeline.done - done_before)
                bar.note(f"epoch {state.epoch + 1} loss {state.mean_loss:.3f} acc {state.accuracy:.1%}")
                if on_step and batch.total > 1:
                    accuracy, rate = num_correct / batch.total, learner.learning_rate
                    on_step(StepResult(timeline.steps, state.epoch + 1, loss, accuracy, rate, state.elapsed_s))
                if group.signaled(signals):
                    run.save()
                    return signals.received
                if time.monotonic() - saved_at >= training.checkpoint_interval_s and not timeline.epoch_is_over:
                    run.save()
                    saved_at = time.monotonic()
            run.save()  # a kill during validation then loses no training

            val_loss, val_accuracy = validate(learner, run.readable(loaders.val))
            val_eer = held_out_eer(learner, run.readable(loaders.held_out), run.corpus.manifest.speaker_index)
            timeline.read_clock()
            state.end_epoch(val_loss, val_accuracy, val_eer, learner.learning_rate)
            if is_best(state.history, training.best, has_validation=has_validation):
                run.keep_weights()
            run.write_history()
            run.save()
            if on_epoch:
                on_epoch(run.epoch_results()[-1])
        if timeline.finished and not group.signaled(signals) and training.embedding_map:
            run.fit_embedding_map()
    return signals.received
