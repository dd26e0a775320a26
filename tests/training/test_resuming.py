"""Runs that are interrupted and resumed, and those that must not be resumed."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

import xvectors.training.learner as learner
from support.training import (
    CHANCE,
    LARGE_MARGIN,
    SMALL,
    assert_same,
    checkpoint_of,
    small,
    state_of,
    watched_steps,
    weights_of,
)
from xvectors.config import load_recipe
from xvectors.corpus import TRAIN, Manifest
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import CheckpointError, ConfigError
from xvectors.system import SystemFolder
from xvectors.system.serialization import load_weights, make_model, read_description
from xvectors.training import EpochResult, train


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_interrupted_and_resumed_is_uninterrupted(steps: int, trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    """Ctrl-C after so many steps (an epoch has three), then --resume."""
    out = tmp_path / "system"
    with watched_steps(interrupt_at=steps) as watched:
        result = train(toy_corpus, out, small(), device="cpu")
    assert len(watched.fractions) == steps
    assert result.interrupted is signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    load_weights(SystemFolder(out), make_model(small(), 8))  # what there is can be used
    again = train(None, out, device="cpu", resume=True)  # with the recipe it began with
    assert again.interrupted is None
    assert_same(weights_of(out), weights_of(trained))
    assert_same(state_of(out), state_of(trained))
    finished = train(None, out, small(), device="cpu", resume=True)
    assert str(finished.epochs) == str(again.epochs)  # NaN equals nothing


IN_EVERY_KIND_OF_RUN = {
    "adamw, clipped": ("training.optimizer=adamw", "training.weight_decay=0.05", "training.max_gradient_norm=0.5"),
    "sgd, clipped": ("training.optimizer=sgd", "training.max_gradient_norm=0.5", "training.learning_rate=0.05"),
    "thin_resnet": ("model.name=thin_resnet", "model.channels=4"),
    "bfloat16": ("training.precision=bfloat16",),
    "float16": ("training.precision=float16", "training.max_gradient_norm=5"),
    "large margin": LARGE_MARGIN,
    "large margin, loader processes": (*LARGE_MARGIN, "training.workers=2"),
    "accumulated": ("training.accumulate=3",),
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
    assert len(watched.fractions) == 5
    train(None, tmp_path / "cut", device="cpu", resume=True, calibrate=False)
    one, two = checkpoint_of(tmp_path / "cut"), checkpoint_of(tmp_path / "whole")
    assert_same(one["model"], two["model"])
    assert_same(one["head"], two["head"])
    assert one["scaler"] == two["scaler"]
    assert bool(one["scaler"]) == (kind == "float16")
    assert_same(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize("loss", ["am_softmax", "aam_softmax", "sphereface2"])
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


def test_settings_that_change_no_weight_may_change_on_resuming(trained: Path) -> None:
    assert len(train(None, trained, small("training.workers=1"), resume=True).epochs) == 3


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
