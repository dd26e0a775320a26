from __future__ import annotations

import csv
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

import xvectors.training.learner as learner
import xvectors.training.loop as loop
from support.commands import run
from xvectors.backends import all_pairs_scores
from xvectors.config import Recipe, load_recipe
from xvectors.corpus import TRAIN, Manifest
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import CheckpointError, ConfigError, ManifestError, StorageError, TrainingError
from xvectors.losses import margin_at
from xvectors.metrics import eer
from xvectors.system import SystemFolder
from xvectors.system.serialization import load_weights, make_model, read_description
from xvectors.training import EpochResult, TrainingResult, train
from xvectors.training.embedding_map import fit_embedding_map
from xvectors.training.learner import Learner
from xvectors.training.optimizer import learning_rate
from xvectors.training.samplers import SAMPLERS

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
"""Accuracy of guessing among the eight speakers that train. How far beyond it a few steps come depends on rounding, and
so on the processor: three times chance is what a run that learns nothing does not reach."""


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


@pytest.fixture(scope="module")
def trained(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "system"
    train(toy_corpus, out, small(), device="cpu")
    return out


def test_the_system_directory(trained: Path, toy_corpus: Path) -> None:
    description = read_description(SystemFolder(trained))
    assert len(description.speakers) == 8
    assert description.recipe == small()
    assert description.versions["torch"] == torch.__version__
    model = make_model(description.recipe, 8)
    load_weights(SystemFolder(trained), model)
    with (trained / "corpus.csv").open() as file:
        rows = list(csv.DictReader(file))
    by_split = {split: {row["speaker"] for row in rows if row["split"] == split} for split in ("train", "val", "test")}
    assert by_split["train"] == set(description.speakers)
    assert by_split["val"] <= by_split["train"]
    assert len(by_split["test"]) == 2
    assert not by_split["test"] & by_split["train"]
    with (trained / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in history] == [1, 2, 3]
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy"} <= history[0].keys()


def test_it_learns_and_keeps_the_best_epoch(toy_corpus: Path, tmp_path: Path) -> None:
    seen: list[EpochResult] = []
    result = train(
        toy_corpus,
        tmp_path / "s",
        small("training.epochs=10"),
        device="cpu",
        on_epoch=seen.append,
    )
    assert [epoch.epoch for epoch in seen] == list(range(1, 11))
    assert tuple(seen) == result.epochs
    accuracies = [epoch.val_accuracy for epoch in seen]
    assert max(accuracies) >= 3 * CHANCE
    # the best accuracy, and among equals the lowest loss
    assert result.best_epoch == max(seen, key=lambda e: (e.val_accuracy, -e.val_loss)).epoch
    assert result.lines()[-1] == (f"Best validation accuracy: {max(accuracies):.2%} (Epoch {result.best_epoch})")
    with safetensors.safe_open(tmp_path / "s" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"epoch": str(result.best_epoch)}


@pytest.mark.parametrize(
    ("accuracies", "kept", "last"),
    [
        ([0.2, 0.9, 0.0], 3, ["Best validation accuracy: 90.00% (Epoch 2)", "epoch 3 (validation accuracy 0.00%)"]),
        ([0.2, 0.9, 0.9], 2, ["Best validation accuracy: 90.00% (Epoch 2)"]),
        ([math.nan, math.nan, math.nan], 3, ["Val Loss: nan, Acc: nan%"]),
    ],
)
def test_the_best_accuracy_is_the_best_whatever_is_kept(accuracies: list[float], kept: int, last: list[str]) -> None:
    epochs = tuple(
        EpochResult(i, 3, 1.0, 0.5, math.nan if math.isnan(accuracy) else float(i), accuracy, math.nan, 1e-3, 1.0)
        for i, accuracy in enumerate(accuracies, start=1)
    )
    lines = TrainingResult(SystemFolder(Path("s")), epochs, kept, 2, {}).lines()
    assert len(lines) == 3 + (len(last) if "Best" in last[0] else 0)
    for line, end in zip(lines[-len(last) :], last, strict=True):
        assert line.endswith(end)


def test_the_line_of_an_epoch_is_the_exercise_one() -> None:
    result = EpochResult(1, 10, 6.24537, 0.04949, 5.26789, 0.0031, math.nan, 5e-3, 12.0)
    assert str(result) == "Epoch [01/10] | Train Loss: 6.2454, Acc: 4.95% | Val Loss: 5.2679, Acc: 0.31%"


def test_the_same_seed_gives_the_same_weights(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    train(toy_corpus, tmp_path / "again", small(), device="cpu")
    assert_same(weights_of(trained), weights_of(tmp_path / "again"))
    train(toy_corpus, tmp_path / "workers", small("training.workers=2"), device="cpu")
    assert_same(weights_of(trained), weights_of(tmp_path / "workers"))
    train(toy_corpus, tmp_path / "other", small("training.seed=1"), device="cpu")
    assert not torch.equal(weights_of(trained)["seg_fc1.weight"], weights_of(tmp_path / "other")["seg_fc1.weight"])


def test_training_leaves_the_callers_random_state_alone(toy_corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(toy_corpus, tmp_path / "s", small("training.epochs=1"), device="cpu")
    assert torch.equal(torch.rand(2), expected)


@dataclass
class Watched:
    """What the steps of a run were given."""

    progress: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)


@contextmanager
def watched_steps(interrupt_at: int = 0) -> Iterator[Watched]:
    """A Ctrl-C comes during the step with that number, from 1."""
    watched, step = Watched(), Learner.step

    def watched_step(self, batch, progress, place):
        watched.progress.append(progress)
        watched.samples.append(batch.waveforms.shape[1])
        if len(watched.progress) == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        result = step(self, batch, progress, place)
        if self.head is not None:
            watched.margins.append(self.head.margin)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", watched_step)
        yield watched


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_interrupted_and_resumed_is_uninterrupted(steps: int, trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    """Ctrl-C after so many steps (an epoch has three), then --resume."""
    out = tmp_path / "system"
    with watched_steps(interrupt_at=steps) as watched:
        result = train(toy_corpus, out, small(), device="cpu")
    assert len(watched.progress) == steps
    assert result.interrupted is signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    load_weights(SystemFolder(out), make_model(small(), 8))  # what there is can be used
    again = train(None, out, device="cpu", resume=True)  # with the recipe it began with
    assert again.interrupted is None
    assert_same(weights_of(out), weights_of(trained))
    assert_same(state_of(out), state_of(trained))
    finished = train(None, out, small(), device="cpu", resume=True)
    assert str(finished.epochs) == str(again.epochs)  # NaN equals nothing


LARGE_MARGIN = (
    "loss.name=aam_softmax",
    "loss.margin_end=0.3",
    "loss.large_margin=0.5",
    "training.large_margin_share=0.5",
    "data.large_margin_chunk_s=1.0",
)

IN_EVERY_KIND_OF_RUN = {
    "adamw, clipped": ("training.optimizer=adamw", "training.weight_decay=0.05", "training.max_gradient_norm=0.5"),
    "sgd, clipped": ("training.optimizer=sgd", "training.max_gradient_norm=0.5", "training.learning_rate=0.05"),
    "thin_resnet": ("model.name=thin_resnet", "model.channels=4"),
    "bfloat16": ("training.precision=bfloat16",),
    "float16": ("training.precision=float16", "training.max_gradient_norm=5"),
    "large margin": LARGE_MARGIN,
    "large margin, loader processes": (*LARGE_MARGIN, "training.workers=2"),
    "head only": ("training.head_only_share=0.7",),
    "p_x_k": ("data.sampler=p_x_k",),
}


@pytest.mark.parametrize("kind", IN_EVERY_KIND_OF_RUN)
def test_every_kind_of_run_resumes_exactly(
    kind: str, toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C in the middle of the second of three epochs."""
    network = [o for o in SMALL if kind != "thin_resnet" or not o.startswith("model.size")]
    recipe = load_recipe("xvector", [*network, *IN_EVERY_KIND_OF_RUN[kind]])
    if kind == "bfloat16":
        request.getfixturevalue("bfloat16_units")
    if kind == "float16":  # which a CPU is refused, though torch computes it there
        monkeypatch.setattr(learner, "choose_precision", lambda wanted, device: torch.float16)
    train(toy_corpus, tmp_path / "whole", recipe, device="cpu", calibrate=False)
    with watched_steps(interrupt_at=5) as watched:
        train(toy_corpus, tmp_path / "cut", recipe, device="cpu", calibrate=False)
    assert len(watched.progress) == 5
    train(None, tmp_path / "cut", device="cpu", resume=True, calibrate=False)
    one, two = checkpoint_of(tmp_path / "cut"), checkpoint_of(tmp_path / "whole")
    assert_same(one["model"], two["model"])
    assert_same(one["head"], two["head"])
    assert one["scaler"] == two["scaler"]
    assert bool(one["scaler"]) == (kind == "float16")
    assert_same(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


@contextmanager
def killed_in_validation(epoch: int) -> Iterator[None]:
    """The process dies, without any saving, where the validation of that epoch begins."""
    validate = loop._Run._validate

    def die(self):
        if self.position.epoch + 1 == epoch:
            raise KeyError("as if killed")
        return validate(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "_validate", die)
        yield


def test_killed_in_validation_loses_no_training(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    with killed_in_validation(epoch=2), pytest.raises(KeyError):
        train(toy_corpus, tmp_path / "s", small(), device="cpu")
    saved = checkpoint_of(tmp_path / "s")
    assert (saved["epoch"], saved["batch"]) == (1, 3)
    with watched_steps() as watched:
        train(None, tmp_path / "s", device="cpu", resume=True)
    assert len(watched.progress) == 3
    assert_same(weights_of(tmp_path / "s"), weights_of(trained))
    assert_same(state_of(tmp_path / "s"), state_of(trained))


DEFAULT_KINDS = (
    # the default recipe, in small: as many batches an epoch as make it longer than the interval of checkpoints
    "model.channels=4",
    "model.embedding_dim=16",
    "features.num_mels=20",
    "training.epochs=8",
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
    """Ten `kill -9` on the command at random moments of the life that an undisturbed one has, once it is imported.

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
                process.wait(float(generator.uniform(0, life_s)) if kills < 10 else None)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0
        assert_same(weights_of(killed), weights_of(whole))
        assert_same(state_of(killed), state_of(whole))
        if kills == 10:
            break
        shutil.rmtree(killed)


def test_a_loss_that_is_not_finite_names_the_batch_before_the_step(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: stepped.append(1))
    forward = Learner._forward

    def poisoned(self, *arguments):
        loss, logits, labels = forward(self, *arguments)
        return (loss * math.nan if len(stepped) == 2 else loss), logits, labels

    monkeypatch.setattr(Learner, "_forward", poisoned)
    with pytest.raises(
        TrainingError, match=r"the loss is nan in epoch 1, batch 3.*holds s\d\d/u\d.*, \.\.\.; lower"
    ) as caught:
        train(toy_corpus, tmp_path / "s", small(), device="cpu")
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


def test_resuming_needs_the_same_recipe_and_a_state(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"begun with another recipe \(training\.epochs: 3 -> 4\)"):
        train(None, trained, small("training.epochs=4"), resume=True)
    with pytest.raises(CheckpointError, match="no such folder"):
        train(None, tmp_path / "none", small(), resume=True)
    with pytest.raises(
        CheckpointError, match="already holds a system; go on with --resume, replace it with --overwrite"
    ):
        train(toy_corpus, trained, small())
    copy = tmp_path / "copy"
    for source in trained.rglob("*.*"):
        target = copy / source.relative_to(trained)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    checkpoint = copy / "state" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged and cannot be resumed from"):
        train(None, copy, small(), resume=True)
    checkpoint.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        train(None, copy, small(), resume=True)


def test_resuming_with_another_corpus_is_refused(
    trained: Path, toy_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for speaker in range(3):
        shutil.copytree(toy_corpus / f"s{speaker:02d}", tmp_path / "other" / f"s{speaker:02d}")
    with pytest.raises(CheckpointError) as refused:
        train(tmp_path / "other", trained, resume=True)
    for part in (str(trained), str(tmp_path / "other"), str(toy_corpus / "s00"), "leave DATA out", "--overwrite"):
        assert part in str(refused.value)
    manifest = Manifest.read_csv(toy_corpus / "metadata.csv")
    names = [{"path": str(manifest.full_path(row)), "speaker": "ann"} for row in range(len(manifest))]
    Manifest.from_rows(names).write_csv(tmp_path / "renamed.csv")
    with pytest.raises(CheckpointError, match=r"names other speakers than .*such as for .*\.flac \('s0"):
        train(tmp_path / "renamed.csv", trained, resume=True)
    with pytest.raises(ConfigError, match=r"metadata vox\.csv describes a corpus, and none is given"):
        train(None, trained, metadata="vox.csv", resume=True)
    # the same corpus by another name, with a recording more
    (tmp_path / "link").symlink_to(toy_corpus)
    more = [{"path": f"link/{path}", "speaker": manifest.row(i).speaker} for i, path in enumerate(manifest.path)]
    more.append({"path": "other/s00/u0.flac", "speaker": "s00"})
    Manifest.from_rows(more, tmp_path).write_csv(tmp_path / "more.csv")
    assert len(train(tmp_path / "more.csv", trained, resume=True).epochs) == 3
    assert f"more.csv holds 1 recording that {trained} was not begun with" in caplog.text


def test_one_speaker_is_refused(toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "alone").mkdir(parents=True)
    for i in range(3):
        soundfile.write(
            tmp_path / "corpus" / "alone" / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 16000), 16000
        )
    with pytest.raises(ManifestError, match=r"only 1 of 1 speakers for training.*at least 2 are needed"):
        train(tmp_path / "corpus", tmp_path / "s", small())


def test_speakers_with_one_recording_train_without_validation(
    toy_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for s in range(10):
        target = tmp_path / "corpus" / f"s{s:02d}" / "u.flac"
        target.parent.mkdir(parents=True)
        target.write_bytes((toy_corpus / f"s{s:02d}" / "u5.flac").read_bytes())
    result = train(
        tmp_path / "corpus",
        tmp_path / "s",
        small("data.train_test_prop=1.0"),
        device="cpu",
    )
    assert "no speaker has recordings to validate on" in caplog.text
    assert "not calibrated, the system decides by cosine: " in caplog.text
    assert not result.folder.calibration.exists()
    assert math.isnan(result.epochs[-1].val_loss)
    assert result.best_epoch == 3
    assert result.lines() == [str(epoch) for epoch in result.epochs]


@pytest.mark.usefixtures("bfloat16_units")
def test_bfloat16_learns_too(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small("training.precision=bfloat16", "training.epochs=2")
    result = train(toy_corpus, tmp_path / "s", recipe, device="cpu")
    assert result.epochs[1].train_loss < result.epochs[0].train_loss
    assert weights_of(tmp_path / "s")["tdnn1.linear.weight"].dtype == torch.float32


@pytest.mark.parametrize("loss", ["am_softmax", "aam_softmax"])
def test_margin_losses_learn_and_resume(loss: str, toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small(f"loss.name={loss}", "loss.scale=10", "training.epochs=4", "training.checkpoint_interval_s=0")
    result = train(toy_corpus, tmp_path / "s", recipe, device="cpu")
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss
    assert result.epochs[-1].train_accuracy >= 3 * CHANCE

    def stop(result: EpochResult) -> None:
        if result.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    halted = train(toy_corpus, tmp_path / "t", recipe, device="cpu", on_epoch=stop)
    assert halted.interrupted is signal.SIGTERM
    train(None, tmp_path / "t", recipe, device="cpu", resume=True)
    assert_same(state_of(tmp_path / "t"), state_of(tmp_path / "s"))


def test_augmented_training_resumes_exactly_and_embeds(toy_corpus: Path, tmp_path: Path) -> None:
    """Speeds as new speakers, noise, and masks, whatever others do with torch's random state meanwhile."""
    overrides = ("augment.speed_prob=0.5", "augment.noise_prob=0.5", "augment.spec_augment_prob=1")
    recipe = small(*overrides, "training.epochs=2")
    out = tmp_path / "s"
    result = train(toy_corpus, out, recipe, device="cpu")
    assert result.num_speakers == 8
    assert weights_of(out)["classifier.weight"].shape[0] == 24  # eight speakers at three speeds
    assert SpeakerEncoder.from_pretrained(out, device="cpu").encode(toy_corpus / "s00" / "u7.flac").shape == (1, 32)

    def stop(result: EpochResult) -> None:
        torch.manual_seed(1000 + result.epoch)
        if result.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    train(toy_corpus, tmp_path / "t", recipe, device="cpu", on_epoch=stop)
    train(None, tmp_path / "t", recipe, device="cpu", resume=True)
    assert_same(state_of(tmp_path / "t"), state_of(out))


class Clock:
    """A clock on which a step takes one second and a batch of validation half a second."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, step, measure = Clock(), Learner.step, Learner.measure

    def timed_step(self, *given):
        clock.now += 1.0
        return step(self, *given)

    def timed_measure(self, *given):
        clock.now += 0.5
        return measure(self, *given)

    monkeypatch.setattr(Learner, "step", timed_step)
    monkeypatch.setattr(Learner, "measure", timed_measure)
    monkeypatch.setattr(loop, "time", clock)
    return clock


TWELVE_SECONDS = ("training.minutes=0.2", "training.epochs=1", "loss.name=aam_softmax", "training.schedule=one_cycle")
# three steps an epoch, then one batch to validate on
BEGUN_AT = [0, 1, 2, 3.5, 4.5, 5.5, 7, 8, 9, 10.5, 11.5]


def test_a_run_by_the_clock_ends_with_the_clock(toy_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    """Twelve seconds of training and validation; epochs = 1 does not end it."""
    recipe = small(*TWELVE_SECONDS)
    with watched_steps() as watched:
        result = train(toy_corpus, tmp_path / "s", recipe, device="cpu", calibrate=False)
    assert watched.progress == pytest.approx([t / 12 for t in BEGUN_AT])
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
    assert before.progress + after.progress == pytest.approx([t / 12 for t in BEGUN_AT])
    assert str(cut.epochs) == str(whole.epochs)
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))


def test_killed_in_the_last_validation_of_a_run_by_the_clock(toy_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    """When the time is up nothing more is trained, but the epoch is validated and its weights are kept."""
    recipe, out = small(*TWELVE_SECONDS, "training.best=last"), tmp_path / "s"
    with killed_in_validation(epoch=4), pytest.raises(KeyError):
        train(toy_corpus, out, recipe, device="cpu")
    with watched_steps() as watched:
        result = train(None, out, device="cpu", resume=True, calibrate=False)
    assert watched.progress == []
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


def test_settings_that_change_no_weight_may_change_on_resuming(trained: Path) -> None:
    assert len(train(None, trained, small("training.workers=1"), resume=True).epochs) == 3


HELD_OUT = ("data.held_out_prop=0.25", "data.train_test_prop=1.0")


def test_the_error_rate_of_held_out_speakers_is_that_of_the_kept_weights(toy_corpus: Path, tmp_path: Path) -> None:
    result = train(toy_corpus, tmp_path / "s", small(*HELD_OUT, "training.best=last"))
    description = read_description(SystemFolder(tmp_path / "s"))
    corpus = Manifest.read_csv(tmp_path / "s" / "corpus.csv")
    speakers = np.array(corpus.speakers)[corpus.speaker_index]
    held_out = sorted(set(speakers) - set(description.speakers))
    assert len(held_out) == 3
    assert result.num_speakers == 7
    rows = np.flatnonzero(np.isin(speakers, held_out))
    encoder = SpeakerEncoder.from_pretrained(tmp_path / "s")
    waves = [soundfile.read(corpus.full_path(row), dtype="float32")[0] for row in rows.tolist()]
    centers = [np.resize(w, 12_800) if len(w) < 12_800 else w[(len(w) - 12_800) // 2 :][:12_800] for w in waves]
    target, nontarget = all_pairs_scores(encoder.encode(centers), corpus.speaker_index[rows])
    assert result.epochs[-1].val_eer == pytest.approx(eer(target, nontarget).eer, abs=0.02)
    assert f", EER: {result.epochs[-1].val_eer:.2%}" in str(result.epochs[-1])


def test_the_best_held_out_error_rate_decides(toy_corpus: Path, tmp_path: Path) -> None:
    result = train(toy_corpus, tmp_path / "s", small(*HELD_OUT, "training.best=val_eer"))
    best = min(result.epochs, key=lambda epoch: (epoch.val_eer, epoch.val_loss))
    assert result.best_epoch == best.epoch
    with pytest.raises(
        ConfigError, match=r"training\.best = 'val_eer' needs two speakers that are held out, one of them with"
    ):
        train(toy_corpus, tmp_path / "none", small("training.best=val_eer"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("error_rates", "best"), [([0.2, 0.1, 0.3], 2), ([0.1, math.nan, 0.1], 3)])
def test_the_best_held_out_error_rate_decides_without_validation(
    error_rates: list[float],
    best: int,
    toy_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of equal ones the newest."""
    left = iter(error_rates)
    monkeypatch.setattr(loop._Run, "_held_out_eer", lambda run: next(left))
    recipe = small(*HELD_OUT, "data.train_val_prop=1.0", "training.best=val_eer")
    result = train(toy_corpus, tmp_path / "s", recipe, calibrate=False)
    assert [epoch.val_loss for epoch in result.epochs] == pytest.approx([math.nan] * 3, nan_ok=True)
    assert result.best_epoch == best
    with safetensors.safe_open(tmp_path / "s" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"epoch": str(best)}
    assert "the weights with the lowest held-out error rate will be kept" in caplog.text


def test_averaged_weights_resume_exactly(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small("training.average_width=0.2", "loss.name=aam_softmax", "training.best=last")
    train(toy_corpus, tmp_path / "whole", recipe)
    plain = small("loss.name=aam_softmax", "training.best=last")
    train(toy_corpus, tmp_path / "plain", plain)
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "plain"))  # the average changes no step
    assert not torch.equal(
        weights_of(tmp_path / "whole")["seg_fc1.weight"], weights_of(tmp_path / "plain")["seg_fc1.weight"]
    )
    with watched_steps(interrupt_at=5):
        train(toy_corpus, tmp_path / "cut", recipe)
    train(None, tmp_path / "cut", resume=True)
    assert_same(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_large_margin_stage(workers: int, toy_corpus: Path, tmp_path: Path) -> None:
    """Nine steps, the second half of them in the stage: margin and chunks change together in the middle of an epoch."""
    recipe = small(*LARGE_MARGIN, f"training.workers={workers}")
    with watched_steps() as watched:
        train(toy_corpus, tmp_path / "s", recipe, device="cpu", calibrate=False)
    expected = [margin_at(step / 9, 0.1, 0.3, 0.2) for step in range(5)] + [0.5] * 4
    assert watched.margins == pytest.approx(expected)
    assert watched.samples[5:] == [16_000] * 4
    assert max(watched.samples[:5]) <= 12_800


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


def test_the_margin_of_every_step_is_that_of_its_progress(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small("loss.name=am_softmax", "loss.margin=0.3", "loss.margin_start=0.2", "loss.margin_end=0.8")
    with watched_steps() as watched:
        train(toy_corpus, tmp_path / "s", recipe, device="cpu", calibrate=False)
    assert watched.progress == pytest.approx([step / 9 for step in range(9)])
    # none until 1.8 steps, all of it from 7.2 on
    assert watched.margins == pytest.approx([0, 0, *[0.3 * (step - 1.8) / 5.4 for step in range(2, 8)], 0.3])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_trains(sampler: str, toy_corpus: Path, tmp_path: Path) -> None:
    corpus = toy_corpus / "metadata.csv"  # which names the genders
    result = train(corpus, tmp_path / "s", small(f"data.sampler={sampler}"))
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss


def test_gender_balance_without_genders_writes_nothing(toy_corpus: Path, tmp_path: Path) -> None:
    for speaker in ("s00", "s01"):
        shutil.copytree(toy_corpus / speaker, tmp_path / "corpus" / speaker)
    recipe = small("data.sampler=gender_balanced", "data.train_test_prop=1.0")
    with pytest.raises(ConfigError, match=r"'gender_balanced' \(data.sampler\) needs .* none whose gender is known"):
        train(tmp_path / "corpus", tmp_path / "s", recipe)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "settings",
    [
        ["training.schedule=exponential", "training.final_share=0.01"],
        ["training.schedule=one_cycle"],
        ["training.schedule=constant"],
        ["training.optimizer=sgd", "training.learning_rate=0.1", "training.weight_decay=1e-4"],
        ["training.optimizer=adamw", "training.weight_decay=0.05"],
        ["loss.name=aam_softmax", "loss.scale=10", "loss.sub_centers=3"],
        ["loss.name=aam_softmax", "loss.scale=10", "loss.inter_top_k=3"],
        ["loss.name=am_softmax", "loss.scale=10", "training.average_width=0.2"],
    ],
    ids=" ".join,
)
def test_every_schedule_optimizer_and_loss_trains(settings: list[str], toy_corpus: Path, tmp_path: Path) -> None:
    """End to end, to well above chance, with a rate that ends where the schedule says."""
    recipe = small(*settings, "training.epochs=6")
    result = train(toy_corpus, tmp_path / "s", recipe, calibrate=False)
    assert all(math.isfinite(epoch.train_loss) for epoch in result.epochs)
    assert result.epochs[-1].train_accuracy >= 3 * CHANCE
    assert SpeakerEncoder.from_pretrained(tmp_path / "s", device="cpu").encode(
        toy_corpus / "s00" / "u7.flac"
    ).shape == (1, 32)
    first, last = result.epochs[0].learning_rate, result.epochs[-1].learning_rate
    if recipe.training.schedule == "constant":
        assert first == last == recipe.training.learning_rate
    else:
        assert last < 0.15 * first


def test_the_embedding_map_is_learned_from_the_kept_weights(toy_corpus: Path, tmp_path: Path) -> None:
    """The map that the system holds is the one of its own embeddings, and only the last of a cut run's parts has it."""
    recipe = small("training.embedding_map=true")
    train(toy_corpus, tmp_path / "s", recipe)
    weights, plain = weights_of(tmp_path / "s"), tmp_path / "plain"
    train(toy_corpus, plain, small())
    assert_same({k: v for k, v in weights.items() if not k.startswith("embedding_map.")}, weights_of(plain))
    corpus = Manifest.read_csv(tmp_path / "s" / "corpus.csv")
    rows = np.flatnonzero(corpus.split == TRAIN)
    waves = [soundfile.read(corpus.full_path(row), dtype="float32")[0] for row in rows.tolist()]
    centers = [np.resize(w, 12_800) if len(w) < 12_800 else w[(len(w) - 12_800) // 2 :][:12_800] for w in waves]
    raw = SpeakerEncoder.from_pretrained(plain).encode(centers)
    expected = fit_embedding_map(raw, corpus.speaker_index[rows])
    assert weights["embedding_map.mean"].numpy() == pytest.approx(expected.mean.numpy(), abs=1e-3)
    assert weights["embedding_map.matrix"].numpy() == pytest.approx(expected.matrix.numpy(), abs=5e-3)
    mapped = SpeakerEncoder.from_pretrained(tmp_path / "s").encode(centers[:3])
    assert mapped == pytest.approx(expected(torch.from_numpy(raw[:3])).numpy(), abs=2e-2)
    train(None, tmp_path / "s", resume=True)  # of a finished run
    assert_same(weights_of(tmp_path / "s"), weights)


def test_speakers_named_like_formulas_train_and_resume(toy_corpus: Path, tmp_path: Path) -> None:
    """corpus.csv and speakers.csv hold them behind an apostrophe, for spreadsheets, and read back as they were."""
    names = ["=HYPERLINK(1)", "-5", "+a", "@x", "'quoted'", "'=a", "-rf", "-a-", "ann", "=1+1"]
    for folder, name in zip(sorted(path for path in toy_corpus.iterdir() if path.is_dir()), names, strict=True):
        shutil.copytree(folder, tmp_path / "data" / name)
    out = tmp_path / "system"
    with watched_steps(interrupt_at=1):
        train(tmp_path / "data", out, small("training.epochs=1"), device="cpu")
    corpus = Manifest.read_csv(out / "corpus.csv")
    assert corpus.speakers == tuple(sorted(names))
    assert set(read_description(SystemFolder(out)).speakers) == set(corpus.take(corpus.split == TRAIN).speakers)
    written = (out / "corpus.csv").read_bytes()
    result = train(tmp_path / "data", out, resume=True, device="cpu")
    assert len(result.epochs) == 1
    assert (out / "corpus.csv").read_bytes() == written
    for table in ("corpus.csv", "speakers.csv"):
        with (out / table).open(newline="") as file:
            assert not [cell for row in csv.reader(file) for cell in row if re.match(r"[=+@]|-(?!5$)", cell)]
