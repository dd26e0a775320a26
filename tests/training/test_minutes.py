"""Runs whose length is set in minutes, on a clock that the tests control."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from support.commands import run
from support.training import (
    LARGE_MARGIN,
    SMALL,
    Clock,
    assert_same,
    killed_in_validation,
    small,
    state_of,
    watched_steps,
    weights_of,
)
from xvectors.system import SystemFolder
from xvectors.system.serialization import read_description
from xvectors.training import train
from xvectors.training.optimizer import learning_rate, margin_at

TWELVE_SECONDS = ("training.minutes=0.2", "training.epochs=1", "loss.name=aam_softmax", "training.schedule=one_cycle")


# three steps an epoch, then one batch to validate on
BEGUN_AT = [0, 1, 2, 3.5, 4.5, 5.5, 7, 8, 9, 10.5, 11.5]


def test_a_run_by_the_clock_ends_with_the_clock(toy_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    """Twelve seconds of training and validation; epochs = 1 does not end it."""
    recipe = small(*TWELVE_SECONDS)
    with watched_steps() as watched:
        result = train(toy_corpus, tmp_path / "s", recipe, device="cpu", calibrate=False)
    assert watched.fractions == pytest.approx([t / 12 for t in BEGUN_AT])
    assert [epoch.elapsed_s for epoch in result.epochs] == pytest.approx([3.5, 7.0, 10.5, 13.0])
    assert watched.margins == pytest.approx([margin_at(t / 12, 0.1, 0.5, 0.2) for t in BEGUN_AT])
    assert (min(watched.margins), max(watched.margins)) == (0.0, 0.2)
    assert result.epochs[-1].learning_rate == pytest.approx(learning_rate(recipe.training, 11.5 / 12))
    assert str(result.epochs[0]).startswith("Epoch [01] | Train Loss")
    again = train(None, tmp_path / "s", recipe, device="cpu", resume=True, calibrate=False)
    assert str(again.epochs) == str(result.epochs)


def test_a_run_by_the_clock_goes_on_where_its_clock_was(toy_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    recipe = small(*TWELVE_SECONDS)
    whole = train(toy_corpus, tmp_path / "whole", recipe, device="cpu", calibrate=False)
    with watched_steps(interrupt_at=5) as before:
        train(toy_corpus, tmp_path / "cut", recipe, device="cpu", calibrate=False)
    clock.now -= 700.0  # another process's, after a restart of the machine
    with watched_steps() as after:
        cut = train(None, tmp_path / "cut", device="cpu", resume=True, calibrate=False)
    assert before.fractions + after.fractions == pytest.approx([t / 12 for t in BEGUN_AT])
    assert str(cut.epochs) == str(whole.epochs)
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))


def test_killed_in_the_last_validation_of_a_run_by_the_clock(toy_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    """When the time is up nothing more is trained, but the epoch is validated and its weights are kept."""
    recipe, out = small(*TWELVE_SECONDS, "training.best=last"), tmp_path / "s"
    with killed_in_validation(epoch=4), pytest.raises(KeyError):
        train(toy_corpus, out, recipe, device="cpu")
    with watched_steps() as watched:
        result = train(None, out, device="cpu", resume=True, calibrate=False)
    assert watched.fractions == []
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3, 4]
    assert result.best_epoch == 4
    assert_same(weights_of(out), state_of(out))


def test_the_minutes_of_the_command_line(toy_corpus: Path, tmp_path: Path) -> None:
    """A true clock: the run ends with the first step or validation that passes the time."""
    settings = [part for override in SMALL for part in ("--set", override)]
    command = ["train", toy_corpus, "-o", tmp_path / "s", "--recipe", "xvector", "--minutes", 0.02]
    run(*command, "--device", "cpu", "--quiet", *settings)
    assert read_description(SystemFolder(tmp_path / "s")).recipe.training.minutes == 0.02
    with (tmp_path / "s" / "history.csv").open() as file:
        elapsed_s = [float(row["elapsed_s"]) for row in csv.DictReader(file)]
    assert all(seconds < 1.2 for seconds in elapsed_s[:-1])
    assert elapsed_s[-1] >= 1.2


def test_the_large_margin_stage_by_the_clock(toy_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    """The last half of twelve seconds, in the third of four epochs and after."""
    recipe = small(*LARGE_MARGIN, "training.minutes=0.2")
    with watched_steps() as watched:
        train(toy_corpus, tmp_path / "s", recipe, device="cpu", calibrate=False)
    in_stage = [t >= 6 for t in BEGUN_AT]
    assert [margin == 0.5 for margin in watched.margins] == in_stage
    assert [samples == 16_000 for samples in watched.samples] == in_stage


def test_the_large_margin_stage_begins_within_the_only_epoch(toy_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    recipe = small(*LARGE_MARGIN, "training.minutes=0.05")
    with watched_steps() as watched:
        train(toy_corpus, tmp_path / "s", recipe, device="cpu", calibrate=False)
    assert [margin == 0.5 for margin in watched.margins] == [False, False, True]
    assert [samples == 16_000 for samples in watched.samples] == [False, False, True]
