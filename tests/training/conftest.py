"""Fixtures of the tests of training: a trained system, and a clock that the test controls."""

from __future__ import annotations

from pathlib import Path

import pytest

import xvectors.training.loop as loop
import xvectors.training.timeline as timeline
from support.training import Clock, small
from xvectors.training import train
from xvectors.training.learner import Learner


@pytest.fixture(scope="session")
def trained(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "system"
    train(toy_corpus, out, small(), device="cpu")
    return out


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only steps and batches of validation advance, in place of the true one."""
    clock, step, measure = Clock(), Learner.step, Learner.measure

    def timed_step(self, *given):
        clock.now += 1.0
        return step(self, *given)

    def timed_measure(self, *given):
        clock.now += 0.5
        return measure(self, *given)

    monkeypatch.setattr(Learner, "step", timed_step)
    monkeypatch.setattr(Learner, "measure", timed_measure)
    for module in (loop, timeline):
        monkeypatch.setattr(module, "time", clock)
    return clock
