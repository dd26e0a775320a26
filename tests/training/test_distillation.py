"""Distillation: the losses, the copies, the teacher's targets and their cache, and runs that learn from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from support.commands import run
from support.training import assert_same, watched_steps, weights_of
from xvectors import SpeakerEncoder
from xvectors.config import DistillationConfig, Recipe, load_recipe
from xvectors.corpus import open_corpus
from xvectors.errors import ConfigError
from xvectors.losses import distillation_loss
from xvectors.system import SystemFolder
from xvectors.system.serialization import num_classes
from xvectors.training import choose_recipe, distillation, prepare_corpus, train
from xvectors.training.data.copies import MAX_COPIED_S, ORIGINAL, Copies, Targets
from xvectors.training.data.loaders import Loaders
from xvectors.training.distillation import place_targets, prepare_targets

TINY = (
    "model.channels=4",
    "model.embedding_dim=16",
    "features.num_mels=20",
    "training.batch_size=16",
    "training.epochs=2",
    "training.workers=0",
    "training.precision=float32",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.8",
    "data.validation_chunk_s=0.8",
    "data.train_test_prop=0.8",
    "data.held_out_prop=0",
    "data.train_val_prop=0.75",
    "distillation.voices=2",
    "distillation.moods=1",
    "distillation.recordings_per_copy=2",
)
QUIET = tuple(f"augment.{effect}_prob=0" for effect in ("reverb", "noise", "equalizer", "telephone", "spec_augment"))
NUM_ROWS, NUM_SPEAKERS, NUM_COLUMNS = 48, 8, 4
"""Training recordings of the toy corpus, their speakers, and themselves with two voices and a mood."""


def tiny(teacher: Path, *overrides: str) -> Recipe:
    return choose_recipe(Path("unused"), overrides=[*TINY, *overrides], teacher=str(teacher))


def targets_of(teacher: Path, data: Path, out: Path, *overrides: str) -> Targets:
    recipe = tiny(teacher, *overrides)
    corpus, _ = prepare_corpus(data, recipe, min_samples=1000)
    return prepare_targets(SystemFolder(out), corpus, recipe, torch.device("cpu"))


@pytest.fixture(scope="module")
def made(trained: Path, toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Targets, Path]:
    """The targets, and the system directory that they lie in."""
    out = tmp_path_factory.mktemp("made") / "system"
    return targets_of(trained, toy_corpus, out), out


def test_the_losses_of_two_recordings() -> None:
    """Cosines to the targets: 1 and 0.8. Cosine of the pair: 0 instead of 0.6, all of it lost."""
    embeddings, targets = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    weights = DistillationConfig(cosine_weight=1.0, relational_weight=0.0)
    assert float(distillation_loss(embeddings, targets, weights)) == pytest.approx(0.1)
    weights = DistillationConfig(cosine_weight=0.5, relational_weight=2.0)
    assert float(distillation_loss(embeddings, targets, weights)) == pytest.approx(0.05 + 2.0)
    assert float(distillation_loss(targets * 7, targets, weights)) == pytest.approx(0.0, abs=1e-6)


def test_placed_targets_have_length_one_and_keep_their_angles_in_fewer_dimensions() -> None:
    generator = np.random.default_rng(0)
    plane = generator.standard_normal((2, 6))
    embeddings = (generator.standard_normal((40, 2)) @ plane + 5.0).astype(np.float32)
    classes = np.arange(40) // 4
    full, reduced = (place_targets(embeddings, classes, dim) for dim in (6, 2))
    assert np.linalg.norm(full, axis=1) == pytest.approx(np.ones(40), abs=1e-5)
    assert reduced.shape == (40, 2)
    assert reduced @ reduced.T == pytest.approx(full @ full.T, abs=1e-4)


def test_a_class_with_many_recordings_weighs_as_much_as_one_with_few() -> None:
    """The mean lies between the two classes, not where 9 of 10 recordings are."""
    embeddings = np.array([[1.0, 1.0]] + 9 * [[-1.0, 1.0]], dtype=np.float32)
    placed = place_targets(embeddings, np.array([0] + 9 * [1]), 2)
    assert placed == pytest.approx(np.array([[1.0, 0.0]] + 9 * [[-1.0, 0.0]]))


def test_each_voice_and_mood_is_made_of_some_recordings_of_every_speaker(made: tuple[Targets, Path]) -> None:
    targets, _ = made
    planned, speakers = targets.copies.planned, targets.copies.manifest.speaker_index
    assert planned.shape[1] == NUM_COLUMNS
    assert planned[:, ORIGINAL].sum() == NUM_ROWS
    for column in range(1, NUM_COLUMNS):
        assert np.unique(speakers[planned[:, column]], return_counts=True)[1].tolist() == [2] * NUM_SPEAKERS
    assert not planned[~planned[:, ORIGINAL]].any()


def test_a_voice_is_one_speaker_and_another_one_for_other_speakers(toy_corpus: Path) -> None:
    manifest = open_corpus(toy_corpus)
    rows = np.arange(len(manifest))
    copies = Copies.plan(manifest, rows, Path("unused"), DistillationConfig(voices=2, moods=1), seed=0)
    noise = np.random.default_rng(0).standard_normal(3 * 16_000).astype(np.float32) * 0.1
    first, second = np.flatnonzero(manifest.speaker_index == 0)[:2].tolist()
    other = int(np.flatnonzero(manifest.speaker_index == 1)[0])
    for column in (1, 2):
        own, again, others = (copies.make(noise, 16_000, row, column) for row in (first, second, other))
        assert np.array_equal(own, again)
        assert len(own) != len(others)
    mood, next_mood = (copies.make(noise, 16_000, row, 3) for row in (first, second))
    assert not np.array_equal(mood, next_mood)


def test_copies_are_cut_to_their_greatest_length(toy_corpus: Path) -> None:
    manifest = open_corpus(toy_corpus)
    copies = Copies.plan(manifest, np.arange(10), Path("unused"), DistillationConfig(), seed=0)
    noise = np.random.default_rng(0).standard_normal(20 * 16_000).astype(np.float32) * 0.1
    assert len(copies.make(noise, 16_000, 0, 1)) <= 1.2 * MAX_COPIED_S * 16_000


def test_targets_are_the_teachers_embeddings(made: tuple[Targets, Path], trained: Path) -> None:
    """Those of a recording and of its copy on disk, centered by the mean over classes."""
    targets, out = made
    teacher = SpeakerEncoder.from_pretrained(trained, device="cpu")
    manifest = targets.copies.manifest
    rows, columns = np.nonzero(targets.copies.planned[:, :3])
    paths = [
        manifest.full_path(row) if column == ORIGINAL else targets.copies.path(row, column)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    assert all(path.is_relative_to(out / "distillation") for path in np.array(paths)[columns > 0])
    embeddings = teacher.encode(paths)
    classes = manifest.speaker_index[rows] * 3 + columns
    mean = np.mean([embeddings[classes == each].mean(axis=0) for each in np.unique(classes)], axis=0)
    centered = embeddings - mean
    directions = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    found = targets.vectors[targets.index[rows, columns]]
    # 16 of 32 dimensions are kept, and copies are 16-bit files
    assert np.corrcoef((found @ found.T).ravel(), (directions @ directions.T).ravel())[0, 1] > 0.95


def test_moods_have_the_target_and_the_class_of_the_original(made: tuple[Targets, Path]) -> None:
    targets, _ = made
    rows = np.flatnonzero(targets.copies.planned[:, 3])
    assert np.array_equal(targets.index[rows, 3], targets.index[rows, ORIGINAL])
    assert [targets.voice(column) for column in range(4)] == [0, 1, 2, 0]
    assert num_classes(load_recipe("distill", ["distillation.teacher=x", "distillation.voices=2"]), 8) == 24


def test_batches_hold_the_targets_and_the_classes_of_their_voices(
    made: tuple[Targets, Path], trained: Path, toy_corpus: Path
) -> None:
    targets, _ = made
    recipe = tiny(trained, "data.train_val_prop=0.75")
    corpus, _ = prepare_corpus(toy_corpus, recipe, min_samples=1000)
    loaders = Loaders(recipe, corpus, torch.device("cpu"), targets)
    voices = []
    for batch in loaders.train:
        assert batch.targets is not None
        assert not batch.failures
        for row, label, target in zip(batch.rows.tolist(), batch.labels.tolist(), batch.targets.numpy(), strict=True):
            assert label % NUM_SPEAKERS == corpus.labels[row]
            column = label // NUM_SPEAKERS
            assert np.array_equal(target, targets.vectors[targets.index[row, column]])
            voices.append(column)
    assert set(voices) == {0, 1, 2}
    assert next(iter(loaders.val)).targets is None


def test_a_student_comes_near_its_teacher(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    """On the speakers of the test, whom it has not heard, the cosines of pairs resemble the teacher's."""
    result = train(
        toy_corpus, tmp_path / "s", tiny(trained, *QUIET, "training.epochs=15"), device="cpu", calibrate=False
    )
    losses = [epoch.train_loss for epoch in result.epochs]
    assert losses[-1] < 0.75 * losses[0]
    paths = sorted((toy_corpus).glob("s*/*.flac"))
    cosines = []
    for system in (trained, tmp_path / "s"):
        embeddings = SpeakerEncoder.from_pretrained(system, device="cpu").encode(paths)
        embeddings -= embeddings.mean(axis=0)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosines.append((embeddings @ embeddings.T)[np.triu_indices(len(paths), 1)])
    assert np.corrcoef(*cosines)[0, 1] > 0.5


def test_a_resumed_run_needs_its_teacher_no_more(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(trained, teacher)
    recipe = tiny(teacher)
    train(toy_corpus, tmp_path / "whole", recipe, device="cpu", calibrate=False)
    with watched_steps(interrupt_at=4):
        stopped = train(toy_corpus, tmp_path / "two", recipe, device="cpu", calibrate=False)
    assert stopped.interrupted is not None
    shutil.rmtree(teacher)
    train(None, tmp_path / "two", resume=True, device="cpu", calibrate=False)
    assert_same(weights_of(tmp_path / "two"), weights_of(tmp_path / "whole"))


def test_targets_go_on_where_they_stopped(
    trained: Path, toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "BLOCK", 20)
    embed, blocks = distillation._embed_block, []

    def counted(teacher, copies, corpus, recipe, block):
        if len(blocks) == 2:
            raise KeyboardInterrupt
        blocks.append(len(block))
        return embed(teacher, copies, corpus, recipe, block)

    monkeypatch.setattr(distillation, "_embed_block", counted)
    with pytest.raises(KeyboardInterrupt):
        targets_of(trained, toy_corpus, tmp_path)
    assert blocks == [20, 20]
    monkeypatch.setattr(distillation, "_embed_block", lambda *given: blocks.append(len(given[4])) or embed(*given))
    targets = targets_of(trained, toy_corpus, tmp_path)
    assert sum(blocks) == targets.copies.planned.sum() == NUM_ROWS + 3 * 2 * NUM_SPEAKERS
    # complete: nothing is embedded again, unless other copies are asked for
    again = targets_of(trained, toy_corpus, tmp_path)
    assert np.array_equal(again.vectors, targets.vectors)
    assert np.array_equal(again.index, targets.index)
    assert sum(blocks) == targets.copies.planned.sum()
    targets_of(trained, toy_corpus, tmp_path, "distillation.voices=1")
    assert sum(blocks) == 2 * targets.copies.planned.sum() - 2 * NUM_SPEAKERS


def test_another_teacher_of_the_same_name_embeds_anew(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(trained, teacher)
    before = targets_of(teacher, toy_corpus, tmp_path / "s")
    weights = weights_of(teacher)
    generator = torch.Generator().manual_seed(0)
    for key, value in weights.items():
        if value.ndim > 1:
            weights[key] = torch.randn(value.shape, generator=generator)
    safetensors.torch.save_file(weights, teacher / "model.safetensors")
    after = targets_of(teacher, toy_corpus, tmp_path / "s")
    assert not np.allclose(after.vectors, before.vectors, atol=0.1)


def test_damaged_targets_are_made_again(
    made: tuple[Targets, Path], trained: Path, toy_corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    targets, out = made
    file = out / "distillation" / "targets.npz"
    file.write_bytes(file.read_bytes()[:1000])
    again = targets_of(trained, toy_corpus, out)
    assert str(file) in caplog.text
    assert np.array_equal(again.vectors, targets.vectors)


def test_a_recording_that_the_teacher_cannot_embed_is_left_out(
    trained: Path, toy_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy_corpus, data)
    recipe = tiny(trained)
    corpus, _ = prepare_corpus(data, recipe, min_samples=1000)
    row = int(corpus.train_rows[0])
    corpus.manifest.full_path(row).unlink()
    targets = prepare_targets(SystemFolder(tmp_path / "s"), corpus, recipe, torch.device("cpu"))
    assert (targets.index[row] == -1).all()
    assert str(corpus.manifest.full_path(row)) in caplog.text
    assert (targets.index[corpus.train_rows[1:], ORIGINAL] >= 0).all()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["augment.speed_prob=0.5"], "augment.speed_prob"),
        (["loss.name=softmax"], "loss.name"),
        (["model.embedding_dim=64"], "model.embedding_dim"),
    ],
)
def test_settings_that_contradict_a_teacher_are_named(
    trained: Path, toy_corpus: Path, tmp_path: Path, overrides: list[str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        train(toy_corpus, tmp_path / "s", tiny(trained, *overrides), device="cpu")
    assert "distillation.teacher" in str(caught.value)
    assert not (tmp_path / "s" / "system.toml").exists()


def test_a_teacher_that_is_no_system_is_named(toy_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"distillation\.teacher") as caught:
        train(toy_corpus, tmp_path / "s", tiny(tmp_path / "nothing"), device="cpu")
    assert str(tmp_path / "nothing") in str(caught.value)


def test_the_command_learns_from_a_teacher(trained: Path, toy_corpus: Path, tmp_path: Path) -> None:
    settings = [part for setting in (*TINY, "training.epochs=1") for part in ("--set", setting)]
    done = run("train", toy_corpus, "-o", tmp_path / "s", "--teacher", trained, *settings)
    assert f"system: {tmp_path / 's'}" in done.stdout
    assert len(list((tmp_path / "s" / "distillation" / "copies" / "1").glob("*.flac"))) == 2 * NUM_SPEAKERS
