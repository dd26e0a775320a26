"""Going on from a trained system: what is kept, what is new, and what moves when."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from xvectors.cli import app
from xvectors.config import Recipe, load_recipe
from xvectors.errors import CheckpointError, ConfigError
from xvectors.system import SystemFolder
from xvectors.system.serialization import read_description
from xvectors.training import train

BASE = (
    "model.name=thin_resnet",
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
    "data.held_out_prop=0",
    "augment.speed_prob=0",
)
GENTLE = (*[o for o in BASE if not o.startswith(("model.", "features."))], "data.train_test_prop=0.7")


@pytest.fixture(scope="module")
def base(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base") / "system"
    train(toy_corpus, out, load_recipe("resnet", BASE), device="cpu")
    return out


def gentle(*overrides: str) -> Recipe:
    return load_recipe("finetune", [*GENTLE, *overrides])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def test_features_and_network_are_those_of_the_start(base: Path, toy_corpus: Path, tmp_path: Path) -> None:
    train(toy_corpus, tmp_path / "s", gentle(), start=base, device="cpu")
    old, new = (read_description(SystemFolder(folder)) for folder in (base, tmp_path / "s"))
    assert new.recipe.features == old.recipe.features
    assert new.recipe.model == old.recipe.model
    assert (len(old.speakers), len(new.speakers)) == (8, 7)
    assert new.recipe.training == gentle().training
    before, after = weights_of(base), weights_of(tmp_path / "s")
    assert after["classifier.weight"].shape == (7, 16)
    change = (after["embedding.weight"] - before["embedding.weight"]).norm() / before["embedding.weight"].norm()
    assert 1e-5 < change < 0.2


def test_first_the_class_layer_alone(base: Path, toy_corpus: Path, tmp_path: Path) -> None:
    """In that stage neither a weight nor a statistic of the backbone moves, and the class layer learns."""
    recipe = gentle("training.head_only_share=0.99", "training.epochs=6", "training.learning_rate=0.05")
    result = train(toy_corpus, tmp_path / "s", recipe, start=base, device="cpu")
    before, after = weights_of(base), weights_of(tmp_path / "s")
    for key in before:
        if not key.startswith(("classifier.", "embedding_map.")):
            assert torch.equal(before[key], after[key]), key
    assert result.epochs[-1].val_loss < result.epochs[0].val_loss  # without the margin, which grows


def test_weights_that_steps_constrain_stay_too(toy_corpus: Path, tmp_path: Path) -> None:
    """The factorized TDNN moves its factors after every step, but not while the class layer trains alone."""
    network = ["first_dim=16", "width=24", "bottleneck_dim=8", "pooled_dim=20", "embedding_dim=16"]
    settings = ["model.name=ftdnn", *(f"model.{setting}" for setting in network)]
    common = [o for o in BASE if not o.startswith("model.")]
    train(toy_corpus, tmp_path / "base", load_recipe("resnet", [*common, *settings]))
    before = weights_of(tmp_path / "base")
    train(
        toy_corpus,
        tmp_path / "s",
        gentle("training.head_only_share=0.99"),
        start=tmp_path / "base",
    )
    after = weights_of(tmp_path / "s")
    kept = [key for key in before if not key.startswith(("classifier.", "embedding_map."))]
    assert [key for key in kept if not torch.equal(before[key], after[key])] == []


def test_a_rate_of_zero_freezes_the_backbones_weights(base: Path, toy_corpus: Path, tmp_path: Path) -> None:
    recipe = gentle("training.backbone_rate=0", "training.head_only_share=0")
    train(toy_corpus, tmp_path / "s", recipe, start=base, device="cpu")
    before, after = weights_of(base), weights_of(tmp_path / "s")
    assert torch.equal(before["embedding.weight"], after["embedding.weight"])
    assert torch.equal(before["first.weight"], after["first.weight"])
    assert not torch.equal(before["first_norm.running_mean"], after["first_norm.running_mean"])


def test_settings_of_the_network_are_refused(base: Path, toy_corpus: Path, tmp_path: Path) -> None:
    command = ["train", str(toy_corpus), "-o", str(tmp_path / "s"), "--from", str(base), "--set", "model.channels=8"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("--set model.channels=8: features and network are those of")
    assert not (tmp_path / "s").exists()


def test_a_run_is_resumed_from_itself_alone(base: Path) -> None:
    with pytest.raises(ConfigError, match="leave --from out"):
        train(None, base, start=base, resume=True)


def test_no_system_to_go_on_from(toy_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        train(toy_corpus, tmp_path / "s", start=tmp_path / "nowhere")
    assert not (tmp_path / "s").exists()
