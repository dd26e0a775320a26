"""Runs that are killed, and runs that fail: what is left of them."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from support.training import (
    SMALL,
    assert_same,
    checkpoint_of,
    killed_in_validation,
    small,
    state_of,
    watched_steps,
    weights_of,
)
from xvectors.errors import StorageError, TrainingError
from xvectors.training import EpochResult, train
from xvectors.training.learner import Learner

DEFAULT_KINDS = (
    # the default recipe, in small: as many batches an epoch as make it longer than the interval of checkpoints
    "model.channels=4",
    "model.embedding_dim=16",
    "features.num_mels=20",
    "training.epochs=4",
    "training.batch_size=4",
    "training.workers=2",
    "training.precision=float32",
    "training.checkpoint_interval_s=0.3",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.8",
    "data.validation_chunk_s=0.8",
)


COMMAND = "from xvectors.cli import main; import xvectors.training; print('ready', flush=True); main()"


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_is_uninterrupted(toy_corpus: Path, tmp_path: Path) -> None:
    """Five `kill -9` on the command at random moments of the life that an undisturbed one has, once it is imported.

    A run that comes to its end before its kill must have the weights of the undisturbed one, and is begun anew.
    """
    settings = [part for override in DEFAULT_KINDS for part in ("--set", override)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def begin(out: Path) -> subprocess.Popen[str]:
        more = "--resume" if (out / "state" / "checkpoint.pt").exists() else "--overwrite"
        arguments = ["train", str(toy_corpus), "-o", str(out), "--quiet", "--device", "cpu", more, *settings]
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    with begin(whole) as process:
        started = time.monotonic()
        assert process.wait() == 0
        life_s = time.monotonic() - started
    generator = np.random.default_rng(0)
    kills = 0
    while True:
        with begin(killed) as process:
            try:
                process.wait(float(generator.uniform(0, life_s)) if kills < 5 else None)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0
        assert_same(weights_of(killed), weights_of(whole))
        assert_same(state_of(killed), state_of(whole))
        if kills == 5:
            break
        shutil.rmtree(killed)


def test_killed_in_validation_loses_no_training(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    with killed_in_validation(epoch=2), pytest.raises(KeyError):
        train(toy_corpus, tmp_path / "s", small(), device="cpu")
    saved = checkpoint_of(tmp_path / "s")
    assert (saved["epoch"], saved["batch"]) == (1, 3)
    with watched_steps() as watched:
        train(None, tmp_path / "s", device="cpu", resume=True)
    assert len(watched.fractions) == 3
    assert_same(weights_of(tmp_path / "s"), weights_of(trained))
    assert_same(state_of(tmp_path / "s"), state_of(trained))


def test_a_run_killed_before_its_first_checkpoint_is_simply_begun_again(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self, *given):
        raise KeyError("as if killed")

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", die)
        with pytest.raises(KeyError):
            train(toy_corpus, tmp_path / "s", small(), device="cpu")
    assert (tmp_path / "s" / "system.toml").is_file()
    assert len(train(toy_corpus, tmp_path / "s", small(), device="cpu").epochs) == 3


@pytest.mark.parametrize("parts", [1, 4])
def test_a_loss_that_is_not_finite_names_the_batch_before_the_step(
    parts: int, toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: stepped.append(1))
    forward = Learner._forward

    def poisoned(self, *arguments):
        loss, logits = forward(self, *arguments)
        return (loss * math.nan if len(stepped) == 2 else loss), logits

    monkeypatch.setattr(Learner, "_forward", poisoned)
    with pytest.raises(
        TrainingError, match=r"the loss is nan in epoch 1, batch 3.*holds s\d\d/u\d.*, \.\.\.; lower"
    ) as caught:
        train(toy_corpus, tmp_path / "s", small(f"training.accumulate={parts}"), device="cpu")
    assert "lower training.learning_rate" in str(caught.value)
    assert len(stepped) == 2


def test_a_full_disk_keeps_the_previous_checkpoint(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = 0
    write = Path.write_bytes

    def fill(self, content):
        nonlocal saves
        saves += self.suffix == ".pt"
        if self.suffix == ".pt" and saves == 2:
            write(self, bytes(content)[:1000])
            raise OSError(28, "No space left on device")
        return write(self, content)

    out = tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(StorageError, match=r"checkpoint\.pt: cannot be written: No space left.*is intact"):
            train(toy_corpus, out, small(), device="cpu")
    assert [path.name for path in (out / "state").iterdir()] == ["checkpoint.pt"]
    result = train(None, out, small(), device="cpu", resume=True)
    assert len(result.epochs) == 3


def test_recordings_that_break_during_the_run_are_counted(toy_corpus: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for source in toy_corpus.rglob("*.flac"):
        target = corpus / source.relative_to(toy_corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    victim = corpus / "s00" / "u3.flac"

    def break_one(result: EpochResult) -> None:
        victim.write_bytes(b"gone")

    result = train(
        corpus,
        tmp_path / "s",
        small("data.train_test_prop=1.0", "training.decoded_mb=0"),
        device="cpu",
        on_epoch=break_one,
    )
    assert list(result.unreadable) == [str(victim)]
    assert len(result.epochs) == 3

    def break_most(result: EpochResult) -> None:
        for path in sorted(corpus.rglob("*.flac"))[:60]:
            path.write_bytes(b"gone")

    with pytest.raises(
        TrainingError, match=r"of 79 recordings can no longer be read, more than data\.max_rejected = 0\.5"
    ):
        train(
            corpus,
            tmp_path / "t",
            small("data.train_test_prop=1.0", "training.decoded_mb=0"),
            device="cpu",
            on_epoch=break_most,
        )


def test_an_exception_of_the_callers_ends_the_run_and_its_workers(toy_corpus: Path, tmp_path: Path) -> None:
    """In a process of its own: loader processes must not keep it from ending."""
    code = f"""
from xvectors.config import load_recipe
from xvectors.training import train

def fail(result):
    raise RuntimeError("the caller's own")

recipe = load_recipe("xvector", {[*SMALL, "training.workers=1"]!r})
train({str(toy_corpus)!r}, {str(tmp_path / "s")!r}, recipe, device="cpu", on_epoch=fail)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "the caller's own" in result.stderr
