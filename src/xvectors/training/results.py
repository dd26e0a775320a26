"""Results of a training run, of its epochs and of its steps; epochs print as in the laboratory exercise."""

from __future__ import annotations

import csv
import io
import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xvectors.files import write_text
from xvectors.system import SystemFolder


@dataclass(frozen=True)
class StepResult:
    """The result of one optimizer step, which `train` passes to `on_step`.

    Attributes
    ----------
    step
        Number of the step in the whole run, from 1.
    epoch
        Number of the epoch, from 1.
    loss
        Mean loss of the batch before the step, in nats.
    accuracy
        Share of the batch that was classified correctly, in [0, 1].
    learning_rate
        Learning rate of the backbone in this step.
    elapsed_s
        Seconds of training and validation since the start of the run, those before a resume included.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    elapsed_s: float


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch, which `train` passes to `on_epoch`; values are NaN where there is nothing to measure.

    Attributes
    ----------
    epoch
        Number of the epoch, from 1.
    epochs
        Number of epochs of the run; 0 where `training.minutes` sets its length.
    train_loss, train_accuracy
        Mean loss in nats, and accuracy in [0, 1], over the training chunks.
    val_loss, val_accuracy
        The same over the validation recordings, with the weights that would be kept, without margin.
    val_eer
        EER of cosine scores over the held-out speakers, in [0, 1].
    learning_rate
        Learning rate of the backbone in the last step.
    elapsed_s
        Seconds of training and validation since the start of the run, those before a resume included.
    """

    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_eer: float
    learning_rate: float
    elapsed_s: float

    @classmethod
    def from_history(cls, row: Mapping[str, float], epochs: int) -> EpochResult:
        """Make the result from a row of history.csv; `epochs` is the number of epochs of the run."""
        figures = {name: value for name, value in row.items() if name != "epoch"}
        return cls(epoch=int(row["epoch"]), epochs=epochs, **figures)

    def __str__(self) -> str:
        width = max(2, len(str(self.epochs)))
        total = f"/{self.epochs:0{width}d}" if self.epochs else ""
        return (
            f"Epoch [{self.epoch:0{width}d}{total}]"
            f" | Train Loss: {self.train_loss:.4f}, Acc: {self.train_accuracy:.2%}"
            f" | Val Loss: {self.val_loss:.4f}, Acc: {self.val_accuracy:.2%}"
            + ("" if math.isnan(self.val_eer) else f", EER: {self.val_eer:.2%}")
        )


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run.

    Attributes
    ----------
    folder
        The system directory.
    epochs
        The result of each epoch.
    best_epoch
        The epoch, from 1, whose weights were kept: the best by `training.best`.
    num_speakers
        Number of training speakers.
    unreadable
        Recordings that could not be read during the run, with reasons.
    interrupted
        The signal that ended the run early, or None.
    """

    folder: SystemFolder
    epochs: tuple[EpochResult, ...]
    best_epoch: int
    num_speakers: int
    unreadable: dict[str, str]
    interrupted: signal.Signals | None = None

    def lines(self) -> list[str]:
        """Format loss and accuracy of each epoch and the best accuracy, as the exercise prints them.

        A last line names the epoch whose weights were kept, if it is another one than that with the best accuracy.
        """
        lines = [str(epoch) for epoch in self.epochs]
        validated = [epoch for epoch in self.epochs if not math.isnan(epoch.val_accuracy)]
        if not validated:
            return lines
        best = max(validated, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss))
        lines.append(f"Best validation accuracy: {best.val_accuracy:.2%} (Epoch {best.epoch})")
        if self.best_epoch and best.epoch != self.best_epoch:
            kept = self.epochs[self.best_epoch - 1].val_accuracy
            lines.append(f"The weights kept are those of epoch {self.best_epoch} (validation accuracy {kept:.2%})")
        return lines


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write history.csv atomically."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, table.getvalue())
