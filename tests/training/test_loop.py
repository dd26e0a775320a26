from __future__ import annotations

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from xvectors.config import Recipe, load_recipe
from xvectors.corpus import TRAIN, Manifest
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import CheckpointError, ConfigError, ManifestError, StorageError, TrainingError
from xvectors.ordering import SAMPLERS
from xvectors.scoring import all_pairs_scores, eer
from xvectors.system import SystemFolder, load_weights, make_model, read_description
from xvectors.training import EpochResult, train
from xvectors.training.learner import Learner
from xvectors.training.mapping import fit_embedding_map

SMALL = (
    "model.size=0.125",
    "model.embedding_dim=32",
    "training.batch_size=16",
    "training.epochs=3",
    "training.workers=0",
    "training.precision=float32",
    "training.learning_rate=5e-3",
    # the buzzes differ in what mean normalisation takes away
    "features.mean_normalisation=false",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.8",
    "data.validation_chunk_s=0.8",
    "data.train_test_prop=0.8",
    "data.train_val_prop=0.75",
)


def small(*overrides: str) -> Recipe:
    return load_recipe("xvector", [*SMALL, *overrides])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "state" / "checkpoint.pt", weights_only=True)["model"]


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for key in one:
        assert torch.equal(one[key], two[key]), key


@pytest.fixture(scope="module")
def trained(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "system"
    train(toy_corpus, out, small(), device="cpu", show_progress=False)
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
        show_progress=False,
    )
    assert [epoch.epoch for epoch in seen] == list(range(1, 11))
    assert tuple(seen) == result.epochs
    accuracies = [epoch.val_accuracy for epoch in seen]
    assert max(accuracies) >= 0.7  # chance is one in eight
    # the best accuracy, and among equals the lowest loss
    assert result.best_epoch == max(seen, key=lambda e: (e.val_accuracy, -e.val_loss)).epoch
    assert result.lines()[-1] == (f"Best validation accuracy: {max(accuracies):.2%} (Epoch {result.best_epoch})")
    with safetensors.safe_open(tmp_path / "s" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"epoch": str(result.best_epoch)}


def test_the_line_of_an_epoch_is_the_exercise_one() -> None:
    result = EpochResult(1, 10, 6.24537, 0.04949, 5.26789, 0.0031, math.nan, 5e-3, 12.0)
    assert str(result) == "Epoch [01/10] | Train Loss: 6.2454, Acc: 4.95% | Val Loss: 5.2679, Acc: 0.31%"


def test_the_same_seed_gives_the_same_weights(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    train(toy_corpus, tmp_path / "again", small(), device="cpu", show_progress=False)
    assert_same(weights_of(trained), weights_of(tmp_path / "again"))
    train(toy_corpus, tmp_path / "workers", small("training.workers=2"), device="cpu", show_progress=False)
    assert_same(weights_of(trained), weights_of(tmp_path / "workers"))
    train(toy_corpus, tmp_path / "other", small("training.seed=1"), device="cpu", show_progress=False)
    assert not torch.equal(weights_of(trained)["seg_fc1.weight"], weights_of(tmp_path / "other")["seg_fc1.weight"])


def test_training_leaves_the_callers_random_state_alone(toy_corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(toy_corpus, tmp_path / "s", small("training.epochs=1"), device="cpu", show_progress=False)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_interrupted_and_resumed_is_uninterrupted(
    steps: int, trained: Path, toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after so many steps (an epoch has three), then --resume."""
    out, taken = tmp_path / "system", 0
    step = Learner.step

    def counted(self, batch, progress):
        nonlocal taken
        taken += 1
        if taken == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", counted)
        result = train(toy_corpus, out, small(), device="cpu", show_progress=False)
    assert taken == steps
    assert result.interrupted is signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    load_weights(SystemFolder(out), make_model(small(), 8))  # what there is can be used
    again = train(None, out, device="cpu", resume=True, show_progress=False)  # with the recipe it began with
    assert again.interrupted is None
    assert_same(weights_of(out), weights_of(trained))
    assert_same(state_of(out), state_of(trained))
    finished = train(None, out, small(), device="cpu", resume=True, show_progress=False)
    assert str(finished.epochs) == str(again.epochs)  # NaN equals nothing


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_is_uninterrupted(toy_corpus: Path, tmp_path: Path) -> None:
    """`kill -9` on the real command, ten times, at random moments."""
    settings = [
        part
        for override in [*SMALL, "training.epochs=12", "training.checkpoint_interval_s=0"]
        for part in ("--set", override)
    ]
    command = [
        sys.executable,
        "-m",
        "xvectors.cli",
        "train",
        str(toy_corpus),
        "--recipe",
        "xvector",
        "--quiet",
        "--device",
        "cpu",
        *settings,
    ]
    subprocess.run([*command, "-o", str(tmp_path / "whole")], check=True, capture_output=True)
    generator = np.random.default_rng(0)
    kills = 0
    checkpoint = tmp_path / "killed" / "state" / "checkpoint.pt"
    while kills < 10:
        more = ["--resume"] if checkpoint.exists() else ["--overwrite"]
        process = subprocess.Popen([*command, "-o", str(tmp_path / "killed"), *more], stdout=subprocess.DEVNULL)
        # at least to the first new checkpoint, so that ten kills come to an end
        known, deadline = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0, time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != known:
                break
            time.sleep(0.01)
        time.sleep(float(generator.uniform(0, 0.2)))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
    subprocess.run([*command, "-o", str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    assert kills >= 5
    assert_same(weights_of(tmp_path / "killed"), weights_of(tmp_path / "whole"))
    assert_same(state_of(tmp_path / "killed"), state_of(tmp_path / "whole"))


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
        TrainingError, match=r"the loss is nan in epoch 1, batch 3.*holds s\d\d/u\d.* and 8 more"
    ) as caught:
        train(toy_corpus, tmp_path / "s", small(), device="cpu", show_progress=False)
    assert "Lower training.learning_rate" in str(caught.value)
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
            train(toy_corpus, out, small(), device="cpu", show_progress=False)
    assert [path.name for path in (out / "state").iterdir()] == ["checkpoint.pt"]
    result = train(None, out, small(), device="cpu", resume=True, show_progress=False)
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
        small("data.train_test_prop=1.0"),
        device="cpu",
        on_epoch=break_one,
        show_progress=False,
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
            small("data.train_test_prop=1.0"),
            device="cpu",
            on_epoch=break_most,
            show_progress=False,
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


def test_one_speaker_is_refused(toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "alone").mkdir(parents=True)
    for i in range(3):
        soundfile.write(
            tmp_path / "corpus" / "alone" / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 16000), 16000
        )
    with pytest.raises(ManifestError, match=r"only 1 of 1 speakers for training.*at least 2 are needed"):
        train(tmp_path / "corpus", tmp_path / "s", small(), show_progress=False)


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
        show_progress=False,
    )
    assert "no speaker has recordings to validate on" in caplog.text
    assert "not calibrated, the system decides by cosine: " in caplog.text
    assert not result.folder.calibration.exists()
    assert math.isnan(result.epochs[-1].val_loss)
    assert result.best_epoch == 3
    assert result.lines() == [str(epoch) for epoch in result.epochs]


def test_bfloat16_learns_too(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small("training.precision=bfloat16", "training.epochs=2")
    result = train(toy_corpus, tmp_path / "s", recipe, device="cpu", show_progress=False)
    assert result.epochs[1].train_loss < result.epochs[0].train_loss
    assert weights_of(tmp_path / "s")["tdnn1.linear.weight"].dtype == torch.float32


@pytest.mark.parametrize("loss", ["am_softmax", "aam_softmax"])
def test_margin_losses_learn_and_resume(loss: str, toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small(f"loss.name={loss}", "loss.scale=10", "training.epochs=4", "training.checkpoint_interval_s=0")
    result = train(toy_corpus, tmp_path / "s", recipe, device="cpu", show_progress=False)
    assert result.epochs[0].train_accuracy < 0.8
    assert result.epochs[-1].train_accuracy >= 0.9  # chance is one in eight

    def stop(result: EpochResult) -> None:
        if result.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    halted = train(toy_corpus, tmp_path / "t", recipe, device="cpu", on_epoch=stop, show_progress=False)
    assert halted.interrupted is signal.SIGTERM
    train(None, tmp_path / "t", recipe, device="cpu", resume=True, show_progress=False)
    assert_same(state_of(tmp_path / "t"), state_of(tmp_path / "s"))


def test_augmented_training_resumes_exactly_and_embeds(toy_corpus: Path, tmp_path: Path) -> None:
    """Speeds as new speakers, noise, and masks drawn from the network's own random state."""
    overrides = ("augment.speed_prob=0.5", "augment.noise_prob=0.5", "augment.spec_augment_prob=1")
    recipe = small(*overrides, "training.epochs=2")
    out = tmp_path / "s"
    result = train(toy_corpus, out, recipe, device="cpu", show_progress=False)
    assert result.num_speakers == 8
    assert weights_of(out)["classifier.weight"].shape[0] == 24  # eight speakers at three speeds
    assert SpeakerEncoder.load(out, device="cpu").encode(toy_corpus / "s00" / "u7.flac").shape == (1, 32)

    def stop(result: EpochResult) -> None:
        if result.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    train(toy_corpus, tmp_path / "t", recipe, device="cpu", on_epoch=stop, show_progress=False)
    train(None, tmp_path / "t", recipe, device="cpu", resume=True, show_progress=False)
    assert_same(state_of(tmp_path / "t"), state_of(out))


def test_a_run_by_the_clock_ends_with_the_clock(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small("training.minutes=0.05", "training.epochs=1")
    started = time.monotonic()
    result = train(toy_corpus, tmp_path / "s", recipe, device="cpu", show_progress=False)
    assert 3.0 <= result.epochs[-1].elapsed_s < 30.0
    assert time.monotonic() - started >= 3.0
    assert len(result.epochs) > 1  # epochs = 1 does not end it
    assert result.epochs[-1].learning_rate < 0.3 * max(epoch.learning_rate for epoch in result.epochs)
    assert str(result.epochs[0]).startswith("Epoch [01] | Train Loss")
    again = train(None, tmp_path / "s", recipe, device="cpu", resume=True, show_progress=False)
    assert str(again.epochs) == str(result.epochs)


def test_an_exception_of_the_callers_ends_the_run_and_its_workers(toy_corpus: Path, tmp_path: Path) -> None:
    """In a process of its own: loader processes must not keep it from ending."""
    code = f"""
from xvectors.config import load_recipe
from xvectors.training import train

def fail(result):
    raise RuntimeError("the caller's own")

recipe = load_recipe("xvector", {[*SMALL, "training.workers=1"]!r})
train({str(toy_corpus)!r}, {str(tmp_path / "s")!r}, recipe, device="cpu", on_epoch=fail, show_progress=False)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "the caller's own" in result.stderr


def test_a_run_killed_before_its_first_checkpoint_is_simply_begun_again(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self, batch, progress):
        raise KeyError("as if killed")

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", die)
        with pytest.raises(KeyError):
            train(toy_corpus, tmp_path / "s", small(), device="cpu", show_progress=False)
    assert (tmp_path / "s" / "system.toml").is_file()
    assert len(train(toy_corpus, tmp_path / "s", small(), device="cpu", show_progress=False).epochs) == 3


def test_settings_that_change_no_weight_may_change_on_resuming(trained: Path) -> None:
    assert len(train(None, trained, small("training.workers=1"), resume=True, show_progress=False).epochs) == 3


HELD_OUT = ("data.held_out_prop=0.25", "data.train_test_prop=1.0")


def test_the_error_rate_of_held_out_speakers_is_that_of_the_kept_weights(toy_corpus: Path, tmp_path: Path) -> None:
    result = train(toy_corpus, tmp_path / "s", small(*HELD_OUT, "training.best=last"), show_progress=False)
    description = read_description(SystemFolder(tmp_path / "s"))
    corpus = Manifest.read_csv(tmp_path / "s" / "corpus.csv")
    speakers = np.array(corpus.speakers)[corpus.speaker_index]
    held_out = sorted(set(speakers) - set(description.speakers))
    assert len(held_out) == 3
    assert result.num_speakers == 7
    rows = np.flatnonzero(np.isin(speakers, held_out))
    encoder = SpeakerEncoder.load(tmp_path / "s")
    waves = [soundfile.read(corpus.full_path(row), dtype="float32")[0] for row in rows.tolist()]
    centres = [np.resize(w, 12_800) if len(w) < 12_800 else w[(len(w) - 12_800) // 2 :][:12_800] for w in waves]
    target, nontarget = all_pairs_scores(encoder.encode(centres), corpus.speaker_index[rows])
    assert result.epochs[-1].val_eer == pytest.approx(eer(target, nontarget).eer, abs=0.02)
    assert f", EER: {result.epochs[-1].val_eer:.2%}" in str(result.epochs[-1])


def test_the_best_held_out_error_rate_decides(toy_corpus: Path, tmp_path: Path) -> None:
    result = train(toy_corpus, tmp_path / "s", small(*HELD_OUT, "training.best=val_eer"), show_progress=False)
    best = min(result.epochs, key=lambda epoch: (epoch.val_eer, epoch.val_loss))
    assert result.best_epoch == best.epoch
    with pytest.raises(ConfigError, match=r"training\.best = 'val_eer' needs speakers that are held out; set data"):
        train(toy_corpus, tmp_path / "none", small("training.best=val_eer"), show_progress=False)
    assert not (tmp_path / "none").exists()


def test_averaged_weights_resume_exactly(toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small("training.average_width=0.2", "loss.name=aam_softmax", "training.best=last")
    train(toy_corpus, tmp_path / "whole", recipe, show_progress=False)
    plain = small("loss.name=aam_softmax", "training.best=last")
    train(toy_corpus, tmp_path / "plain", plain, show_progress=False)
    assert_same(state_of(tmp_path / "whole"), state_of(tmp_path / "plain"))  # the average changes no step
    assert not torch.equal(
        weights_of(tmp_path / "whole")["seg_fc1.weight"], weights_of(tmp_path / "plain")["seg_fc1.weight"]
    )
    step = Learner.step

    def interrupted(self, batch, progress):
        if progress > 0.4:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", interrupted)
        train(toy_corpus, tmp_path / "cut", recipe, show_progress=False)
    train(None, tmp_path / "cut", resume=True, show_progress=False)
    assert_same(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


def test_the_large_margin_stage(toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = Learner.step

    def noted(self, batch, progress):
        result = step(self, batch, progress)
        seen.append((round(self.head.margin, 3), batch.waveforms.shape[1]))
        return result

    monkeypatch.setattr(Learner, "step", noted)
    recipe = small(
        "loss.name=aam_softmax",
        "loss.margin_end=0.3",
        "loss.large_margin=0.5",
        "training.large_margin_share=0.34",
        "data.large_margin_chunk_s=1.0",
    )
    train(toy_corpus, tmp_path / "s", recipe, show_progress=False)
    stage = [(margin, samples) for margin, samples in seen if margin == 0.5]
    assert len(stage) == len(seen) // 3
    assert seen[-len(stage) :] == stage
    assert {samples for _, samples in stage} == {16_000}
    assert max(margin for margin, _ in seen[: -len(stage)]) == 0.2
    assert all(samples <= 12_800 for _, samples in seen[: -len(stage)])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_trains(sampler: str, toy_corpus: Path, tmp_path: Path) -> None:
    corpus = toy_corpus / "metadata.csv"  # which names the genders
    result = train(corpus, tmp_path / "s", small(f"data.sampler={sampler}"), show_progress=False)
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss


def test_gender_balance_without_genders_writes_nothing(toy_corpus: Path, tmp_path: Path) -> None:
    for speaker in ("s00", "s01"):
        shutil.copytree(toy_corpus / speaker, tmp_path / "corpus" / speaker)
    recipe = small("data.sampler=gender_balanced", "data.train_test_prop=1.0")
    with pytest.raises(ConfigError, match=r"'gender_balanced' \(data.sampler\) needs .* none whose gender is known"):
        train(tmp_path / "corpus", tmp_path / "s", recipe, show_progress=False)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "settings",
    [
        ["training.schedule=exponential", "training.final_share=0.01"],
        ["training.schedule=one_cycle"],
        ["training.schedule=constant"],
        ["training.optimiser=sgd", "training.learning_rate=0.1", "training.weight_decay=1e-4"],
        ["training.optimiser=adamw", "training.weight_decay=0.05"],
        ["loss.name=aam_softmax", "loss.scale=10", "loss.sub_centers=3"],
        ["loss.name=aam_softmax", "loss.scale=10", "loss.inter_top_k=3"],
        ["loss.name=am_softmax", "loss.scale=10", "training.average_width=0.2"],
    ],
    ids=" ".join,
)
def test_every_schedule_optimiser_and_loss_trains(settings: list[str], toy_corpus: Path, tmp_path: Path) -> None:
    """End to end, to well above chance, one in eight, with a rate that ends where the schedule says."""
    recipe = small(*settings, "training.epochs=6")
    result = train(toy_corpus, tmp_path / "s", recipe, calibrate=False, show_progress=False)
    assert all(math.isfinite(epoch.train_loss) for epoch in result.epochs)
    assert result.epochs[-1].train_accuracy >= 0.5
    assert SpeakerEncoder.load(tmp_path / "s", device="cpu").encode(toy_corpus / "s00" / "u7.flac").shape == (1, 32)
    first, last = result.epochs[0].learning_rate, result.epochs[-1].learning_rate
    if recipe.training.schedule == "constant":
        assert first == last == recipe.training.learning_rate
    else:
        assert last < 0.15 * first


def test_the_embedding_map_is_learnt_from_the_kept_weights(toy_corpus: Path, tmp_path: Path) -> None:
    """The map that the system holds is the one of its own embeddings, and only the last of a cut run's parts has it."""
    recipe = small("training.embedding_map=true")
    train(toy_corpus, tmp_path / "s", recipe, show_progress=False)
    weights, plain = weights_of(tmp_path / "s"), tmp_path / "plain"
    train(toy_corpus, plain, small(), show_progress=False)
    assert_same({k: v for k, v in weights.items() if not k.startswith("embedding_map.")}, weights_of(plain))
    corpus = Manifest.read_csv(tmp_path / "s" / "corpus.csv")
    rows = np.flatnonzero(corpus.split == TRAIN)
    waves = [soundfile.read(corpus.full_path(row), dtype="float32")[0] for row in rows.tolist()]
    centres = [np.resize(w, 12_800) if len(w) < 12_800 else w[(len(w) - 12_800) // 2 :][:12_800] for w in waves]
    raw = SpeakerEncoder.load(plain).encode(centres)
    expected = fit_embedding_map(raw, corpus.speaker_index[rows])
    assert weights["embedding_map.mean"].numpy() == pytest.approx(expected.mean.numpy(), abs=1e-3)
    assert weights["embedding_map.matrix"].numpy() == pytest.approx(expected.matrix.numpy(), abs=5e-3)
    mapped = SpeakerEncoder.load(tmp_path / "s").encode(centres[:3])
    assert mapped == pytest.approx(expected(torch.from_numpy(raw[:3])).numpy(), abs=2e-2)
    train(None, tmp_path / "s", resume=True, show_progress=False)  # of a finished run
    assert_same(weights_of(tmp_path / "s"), weights)
