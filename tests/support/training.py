"""A small recipe for tests of training, readers of what a run wrote, and ways to watch and stop a run."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import xvectors.training.loop as loop
from xvectors.config import Recipe, load_recipe
from xvectors.training.learner import Learner

SMALL = (
    "model.size=0.125",
    "model.embedding_dim=32",
    "training.batch_size=16",
    "training.epochs=3",
    "training.workers=0",
    "training.precision=float32",
    "training.learning_rate=5e-3",
    # the buzzes differ in what mean normalization takes away
    "features.mean_normalization=false",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.8",
    "data.validation_chunk_s=0.8",
    "data.train_test_prop=0.8",
    "data.held_out_prop=0",
    "data.train_val_prop=0.75",
)


CHANCE = 1 / 8
"""Accuracy of guessing among the eight training speakers. Rounding, which differs between processors, decides how far
beyond it a few steps get; a run that learns nothing does not reach three times chance."""


def small(*overrides: str) -> Recipe:
    return load_recipe("xvector", [*SMALL, *overrides])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def checkpoint_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "state" / "checkpoint.pt", weights_only=True)


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint_of(folder)["model"]


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for key in one:
        assert torch.equal(one[key], two[key]), key


@dataclass
class Watched:
    """The share of the run that was done, the margin and the length of the chunks in each step."""

    fractions: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)


@contextmanager
def watched_steps(interrupt_at: int = 0) -> Iterator[Watched]:
    """Record what each step is given; Ctrl-C comes during step number `interrupt_at`, counted from 1."""
    watched, step = Watched(), Learner.step

    def watched_step(self, batch, fraction, position):
        watched.fractions.append(fraction)
        watched.samples.append(batch.waveforms.shape[1])
        if len(watched.fractions) == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        result = step(self, batch, fraction, position)
        if self.head is not None:
            watched.margins.append(self.head.margin)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", watched_step)
        yield watched


LARGE_MARGIN = (
    "loss.name=aam_softmax",
    "loss.margin_end=0.3",
    "loss.large_margin=0.5",
    "training.large_margin_share=0.5",
    "data.large_margin_chunk_s=1.0",
)


@contextmanager
def killed_in_validation(epoch: int) -> Iterator[None]:
    """Let a new run die, without saving anything more, as the validation of that epoch begins."""
    validate, epochs = loop.validate, itertools.count(1)

    def die(*given):
        if next(epochs) == epoch:
            raise KeyError("as if killed")
        return validate(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "validate", die)
        yield


class Clock:
    """A clock on which a step takes one second and a batch of validation half a second."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now
