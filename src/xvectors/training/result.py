"""What a run came to: the figures of each epoch, printed as the laboratory exercise prints them."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from xvectors.system import SystemFolder


@dataclass(frozen=True)
class EpochResult:
    """One epoch's figures: mean loss in nats, accuracies and the held-out speakers' EER as shares; NaN where there is
    nothing to measure.

    `epochs` is 0 for a run that goes by the clock.
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
        """The figures of a row of history.csv in a run of so many epochs."""
        figures = {name: value for name, value in row.items() if name != "epoch"}
        return cls(epoch=int(row["epoch"]), epochs=epochs, **figures)

    def __str__(self) -> str:
        width = max(2, len(str(self.epochs)))
        of = f"/{self.epochs:0{width}d}" if self.epochs else ""
        return (
            f"Epoch [{self.epoch:0{width}d}{of}]"
            f" | Train Loss: {self.train_loss:.4f}, Acc: {self.train_accuracy:.2%}"
            f" | Val Loss: {self.val_loss:.4f}, Acc: {self.val_accuracy:.2%}"
            + ("" if math.isnan(self.val_eer) else f", EER: {self.val_eer:.2%}")
        )


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to; `best_epoch` is the one whose weights are kept, the best by the recipe's `training.best`;
    `interrupted` names the signal that ended the run early, if one did."""

    folder: SystemFolder
    epochs: tuple[EpochResult, ...]
    best_epoch: int
    num_speakers: int
    unreadable: dict[str, str]
    interrupted: signal.Signals | None = None

    def lines(self) -> list[str]:
        """Loss and accuracy by epoch, and the best, as the exercise prints them; whose weights are kept, if not its."""
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
