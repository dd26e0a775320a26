"""Callbacks after steps and epochs, and the curves that TensorBoard reads."""

from __future__ import annotations

import itertools
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from support.commands import run
from support.training import SMALL, assert_same, small, watched_steps, weights_of
from xvectors.errors import MissingExtraError
from xvectors.training import EpochResult, StepResult, TensorBoardLog, train
from xvectors.training.optimizer import learning_rate

STEPS_PER_EPOCH = 3


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every scalar in a folder of event files, without those that a resumed run replaced."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_step_is_reported_and_changes_no_weight(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    steps: list[StepResult] = []
    epochs: list[EpochResult] = []
    recipe = small()
    train(toy_corpus, tmp_path / "s", recipe, device="cpu", on_step=steps.append, on_epoch=epochs.append)
    assert [(step.step, step.epoch) for step in steps] == [(i + 1, i // STEPS_PER_EPOCH + 1) for i in range(9)]
    expected = [learning_rate(recipe.training, i / 9) for i in range(9)]
    assert [step.learning_rate for step in steps] == pytest.approx(expected)
    assert all(0 <= step.accuracy <= 1 for step in steps)
    assert all(before.elapsed_s < after.elapsed_s for before, after in itertools.pairwise(steps))
    for epoch in epochs:
        own = [step for step in steps if step.epoch == epoch.epoch]
        # batches of 16, 16 and 10 chunks or the like: the epoch's mean weighs them, and lies between its batches
        assert min(step.loss for step in own) <= epoch.train_loss <= max(step.loss for step in own)
        assert own[-1].learning_rate == epoch.learning_rate
    assert_same(weights_of(tmp_path / "s"), weights_of(trained))
    assert asdict(steps[0]).keys() == {"step", "epoch", "loss", "accuracy", "learning_rate", "elapsed_s"}


def test_a_step_that_is_not_asked_for_reads_nothing_from_the_device(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without on_step, each step of the loop copies one tensor from the device: loss and correct answers."""
    copies, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (copies.append(tuple(self.shape)), tolist(self))[1])
    counts = []
    for name, on_step in (("without", None), ("with", lambda step: None)):
        copies.clear()
        train(toy_corpus, tmp_path / name, small(), device="cpu", calibrate=False, on_step=on_step)
        counts.append(copies.count((2,)))
    assert counts == [9, 9]


def test_tensorboard_reads_back_what_the_callbacks_were_given(toy_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    steps: list[StepResult] = []
    with TensorBoardLog(out) as log:

        def on_step(step: StepResult) -> None:
            steps.append(step)
            log.on_step(step)

        result = train(toy_corpus, out, small(), device="cpu", calibrate=False, on_step=on_step, on_epoch=log.on_epoch)
    found = scalars(out / "tensorboard")
    # event files hold float32
    for name in ("loss", "accuracy", "learning_rate"):
        assert found[f"step/{name}"] == [(s.step, pytest.approx(getattr(s, name), rel=1e-6)) for s in steps]
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        expected = [(STEPS_PER_EPOCH * e.epoch, pytest.approx(getattr(e, name), rel=1e-6)) for e in result.epochs]
        assert found[f"epoch/{name}"] == expected
    assert "epoch/val_eer" not in found  # nobody was held out


def test_the_command_logs_resumes_and_starts_over(toy_corpus: Path, tmp_path: Path) -> None:
    """After a resume every step stands once; --overwrite removes the curves of the replaced system."""
    out = tmp_path / "s"
    settings = [part for override in SMALL for part in ("--set", override)]
    command = ["train", toy_corpus, "-o", out, "--recipe", "xvector", "--device", "cpu", "--quiet", *settings]
    with watched_steps(interrupt_at=5), TensorBoardLog(out) as log:
        train(toy_corpus, out, small(), device="cpu", calibrate=False, on_step=log.on_step, on_epoch=log.on_epoch)
    # a step that was logged after the last checkpoint, as where a run is killed
    with TensorBoardLog(out) as log:
        log.on_step(StepResult(step=6, epoch=2, loss=99.0, accuracy=0.0, learning_rate=1.0, elapsed_s=1.0))
    run("train", "-o", out, "--resume", "--log", "tensorboard", "--device", "cpu", "--quiet")
    found = scalars(out / "tensorboard")
    assert [step for step, _ in found["step/loss"]] == list(range(1, 10))
    assert max(loss for _, loss in found["step/loss"]) < 99
    assert [step for step, _ in found["epoch/train_loss"]] == [3, 6, 9]
    run(*command, "--overwrite", "--set", "training.epochs=1", "--log", "tensorboard")
    assert [step for step, _ in scalars(out / "tensorboard")["step/loss"]] == [1, 2, 3]


def test_an_unknown_log_and_a_missing_extra_write_nothing(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = run("train", toy_corpus, "-o", tmp_path / "s", "--log", "wandb", status=2)
    assert "--log wandb" in refused.stderr
    assert "tensorboard" in refused.stderr
    for module in ("torch.utils.tensorboard", "tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[tensorboard\]'"):
        TensorBoardLog(tmp_path / "s")
    assert not (tmp_path / "s").exists()
