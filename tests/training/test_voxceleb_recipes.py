"""The recipes at VoxCeleb's scale: features and schedules as in WeSpeaker's, sizes on the meta device, small steps."""

from __future__ import annotations

import math

import pytest
import torch

from support.steps_on_shares import batch
from xvectors.config import Recipe, load_recipe
from xvectors.features.toolkits import REDIMNET2, WESPEAKER
from xvectors.losses import make_head
from xvectors.models import count_parameters
from xvectors.system.serialization import make_model, num_classes
from xvectors.training.learner import Learner
from xvectors.training.optimizer import in_large_margin_stage, learning_rate, margin_at
from xvectors.training.public_runs import PUBLIC_RUNS

SPEAKERS = 5934
NETWORKS = {
    "voxceleb-resnet34": ("ResNet34", 6.63, ("model.channels=4", "model.embedding_dim=16")),
    "voxceleb-ecapa": ("ECAPA", 6.19, ("model.channels=16", "model.embedding_dim=16")),
    "voxceleb-xvector": ("XVector", 4.61, ("model.size=0.06", "model.embedding_dim=16")),
    "voxceleb-redimnet2-b2": ("ReDimNet2", 3.6, ("model.size=b0", "model.embedding_dim=16")),
}
"""The network's class, its published size in millions up to the embedding, and settings that make it small."""
EPOCHS = {name: 120 if "redimnet2" in name else 150 for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_on_the_meta_device_has_its_published_size(name: str) -> None:
    recipe, (kind, size_m, _) = load_recipe(name), NETWORKS[name]
    with torch.device("meta"):
        model = make_model(recipe, SPEAKERS)
        head = make_head(recipe.loss, model.embedding_dim, num_classes(recipe, SPEAKERS))
    assert type(model).__name__ == kind
    assert all(parameter.is_meta for module in (model, head) for parameter in module.parameters())
    assert head.weight.shape == (3 * SPEAKERS, model.embedding_dim)  # a class for each of three speeds
    counted = count_parameters(model)
    # ReDimNet2's size is published with one digit
    assert counted / 1e6 == pytest.approx(size_m, abs=0.1 if kind == "ReDimNet2" else 0.02)


def test_features_are_those_of_the_toolkits() -> None:
    for name in NETWORKS:
        assert load_recipe(name).features == (REDIMNET2 if "redimnet2" in name else WESPEAKER)


def published_rate(recipe: Recipe, epoch: float) -> float:
    """WeSpeaker's ExponentialDecrease after its warm-up: falling from the first epoch on, times a factor."""
    if "redimnet2" in recipe.name:
        return 12.0 * 0.1 * math.exp(epoch / 120 * math.log(6e-5 / 0.1))
    return recipe.training.batch_size / 64 * 0.1 * math.exp(epoch / 150 * math.log(5e-5 / 0.1))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_schedule_is_the_published_one(name: str) -> None:
    recipe = load_recipe(name)
    training, loss, epochs = recipe.training, recipe.loss, recipe.training.epochs
    assert epochs == EPOCHS[name] + 5
    for epoch in (7, 20, 60, 110, EPOCHS[name]):
        assert learning_rate(training, epoch / epochs) == pytest.approx(published_rate(recipe, epoch), rel=0.01)

    def margin(epoch: float) -> float:
        return margin_at(epoch / epochs, loss.margin_start, loss.margin_end, loss.margin)

    assert margin(18.9) == 0
    assert margin(19 + 20 / 6) == pytest.approx(0.1, abs=0.01)
    assert margin(26) == margin(EPOCHS[name]) == 0.2
    # the large-margin stage has five epochs
    assert not in_large_margin_stage(training, (EPOCHS[name] - 0.1) / epochs)
    assert in_large_margin_stage(training, (EPOCHS[name] + 0.1) / epochs)
    assert loss.large_margin == (0.3 if "redimnet2" in name else 0.5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_step_of_each_stage(name: str) -> None:
    settings = (*NETWORKS[name][2], "training.precision=float32", "training.batch_size=4", "training.accumulate=2")
    learner = Learner(load_recipe(name, settings), 4, torch.device("cpu"))
    before = learner.head.weight.detach().clone()
    margins = []
    for number, fraction in enumerate((0.5, 0.99)):
        loss, num_correct = learner.step(batch(4, 4000), fraction, (0, number))
        assert math.isfinite(loss)
        assert 0 <= num_correct <= 4
        margins.append(learner.head.margin)
    assert margins == [0.2, learner.recipe.loss.large_margin]
    assert learner.head.weight.isfinite().all()
    assert not torch.equal(learner.head.weight, before)
    assert int(learner.average.n_averaged) == 2


def test_each_has_a_public_run_to_compare_with() -> None:
    assert PUBLIC_RUNS.keys() == NETWORKS.keys()
    assert PUBLIC_RUNS["voxceleb-xvector"][2].line() == (
        "x-vector, with the large-margin stage and AS-norm: 1.59 / 1.641 / 2.726 % (WeSpeaker, "
        "examples/voxceleb/v2/README.md)"
    )
