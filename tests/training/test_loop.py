"""The training loop from a corpus to a system directory."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from support.training import CHANCE, LARGE_MARGIN, assert_same, small, watched_steps, weights_of
from xvectors.corpus import TRAIN, Manifest
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import ConfigError, ManifestError
from xvectors.system import SystemFolder
from xvectors.system.serialization import load_weights, make_model, read_description
from xvectors.training import EpochResult, train
from xvectors.training.data.samplers import SAMPLERS
from xvectors.training.embedding_map import fit_embedding_map
from xvectors.training.optimizer import margin_at


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


def test_one_speaker_is_refused(toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "alone").mkdir(parents=True)
    for i in range(3):
        soundfile.write(
            tmp_path / "corpus" / "alone" / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 16000), 16000
        )
    with pytest.raises(ManifestError, match=r"only 1 of 1 speakers for training.*at least 2 are needed"):
        train(tmp_path / "corpus", tmp_path / "s", small())


@pytest.mark.usefixtures("bfloat16_units")
def test_bfloat16_learns_too(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small("training.precision=bfloat16", "training.epochs=2")
    result = train(toy_corpus, tmp_path / "s", recipe, device="cpu")
    assert result.epochs[1].train_loss < result.epochs[0].train_loss
    assert weights_of(tmp_path / "s")["tdnn1.linear.weight"].dtype == torch.float32


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


def test_the_margin_of_every_step_is_that_of_its_progress(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = small("loss.name=am_softmax", "loss.margin=0.3", "loss.margin_start=0.2", "loss.margin_end=0.8")
    with watched_steps() as watched:
        train(toy_corpus, tmp_path / "s", recipe, device="cpu", calibrate=False)
    assert watched.fractions == pytest.approx([step / 9 for step in range(9)])
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
