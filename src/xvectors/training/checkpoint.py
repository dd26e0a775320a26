"""The state of a run between two steps, and its file, which is written atomically and read without unpickling code."""

from __future__ import annotations

import io
import math
import pickle
import struct
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xvectors.errors import CheckpointError
from xvectors.files import atomic_write

FORMAT_VERSION = 3

_FAULTS = (
    *(pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    # torch's restricted unpickler executes instructions; damaged ones surface as Python's own errors
    *(AssertionError, ArithmeticError, MemoryError, struct.error, ImportError),
)


@dataclass
class Checkpoint:
    """Everything besides the recipe and the corpus that later steps depend on."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the gradient scaler; empty unless the precision is float16."""
    head: dict[str, Tensor] = field(default_factory=dict)
    """Class weights of a margin loss; empty without one."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """Averaged weights of network and head; empty unless the recipe averages."""
    num_averaged: int = 0
    """Number of steps in the average."""
    epoch: int = 0
    """Number of finished epochs."""
    batch: int = 0
    """Number of finished batches in the current epoch."""
    loss_sum: float = 0.0
    num_correct: int = 0
    num_seen: int = 0
    """Chunks seen in the current epoch, over which loss and correct answers are summed."""
    elapsed_s: float = 0.0
    """Seconds of training and validation."""
    best_epoch: int = 0
    """The epoch, from 1, whose weights are kept; 0 before the end of the first."""
    history: list[dict[str, float]] = field(default_factory=list)
    """The rows of history.csv."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Rows of the manifest that could not be read, with reasons."""
    format_version: int = FORMAT_VERSION

    @property
    def mean_loss(self) -> float:
        """Mean loss of the current epoch so far; NaN before its first step."""
        return self.loss_sum / self.num_seen if self.num_seen else math.nan

    @property
    def accuracy(self) -> float:
        """Accuracy of the current epoch so far; NaN before its first step."""
        return self.num_correct / self.num_seen if self.num_seen else math.nan

    def end_epoch(self, val_loss: float, val_accuracy: float, val_eer: float, learning_rate: float) -> None:
        """Append the current epoch to the history and go on to the next."""
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "train_loss": self.mean_loss,
                "train_accuracy": self.accuracy,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "val_eer": val_eer,
                "learning_rate": learning_rate,
                "elapsed_s": self.elapsed_s,
            }
        )
        self.batch = self.num_correct = self.num_seen = 0
        self.loss_sum = 0.0


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; StorageError where that fails, and the previous checkpoint stays intact."""
    values = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    # serialized in memory first: torch's own file writer reports a full disk as an internal error
    content = io.BytesIO()
    torch.save(values, content)
    with atomic_write(path, private=True) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read a checkpoint; CheckpointError where it is missing, damaged or from another version."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint to resume from; train without --resume")
    try:
        values = torch.load(path, map_location=device, weights_only=True)
    except _FAULTS as error:
        reason = next(iter(f"{error}".splitlines()), type(error).__name__)
        raise CheckpointError(f"{path} is damaged and cannot be resumed from: {reason}") from error
    own = Checkpoint(model={}, optimizer={})
    known = {f.name for f in fields(Checkpoint)}
    if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION or values.keys() != known:
        raise CheckpointError(f"{path} was written by another version of xvectors; resume with that one")
    # a state dict is an OrderedDict
    if odd := [name for name in sorted(known) if not isinstance(values[name], type(getattr(own, name)))]:
        raise CheckpointError(f"{path} is damaged and cannot be resumed from: {', '.join(odd)} cannot be understood")
    return Checkpoint(**values)
