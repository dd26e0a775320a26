"""The state of a run between two steps. In: a Checkpoint. Out: one file, written atomically, read without pickle."""

from __future__ import annotations

import io
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
    # torch's reader follows instructions: where they make no sense, Python's own errors show it
    *(AssertionError, ArithmeticError, MemoryError, struct.error, ImportError),
)


@dataclass
class Checkpoint:
    """All that the steps to come depend on, besides the recipe and the corpus."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] = field(default_factory=dict)
    """Of the loss in float16, empty in other arithmetic."""
    head: dict[str, Tensor] = field(default_factory=dict)
    """The class weights of a margin loss."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """The averaged weights of network and head, empty where none are kept."""
    num_averaged: int = 0
    """Steps that went into them."""
    epoch: int = 0
    """Epochs that have ended."""
    batch: int = 0
    """Batches behind us in the epoch under way."""
    loss_sum: float = 0.0
    num_correct: int = 0
    num_seen: int = 0
    """Sums over the epoch under way."""
    elapsed_s: float = 0.0
    best_epoch: int = 0
    """The epoch, from 1, whose weights are kept; 0 before the first."""
    history: list[dict[str, float]] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    """Rows that could not be read, and why."""
    format_version: int = FORMAT_VERSION


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Raises StorageError, with the previous checkpoint intact, where it cannot be written."""
    values = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    # by way of memory: torch's own file writer reports a full disk as an internal error
    content = io.BytesIO()
    torch.save(values, content)
    with atomic_write(path, private=True) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Raises CheckpointError where there is none, or it is damaged or of another version."""
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
