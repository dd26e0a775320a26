"""SphereFace2 against the paper's formula, by hand and in numpy, its gradients, and what it refuses."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from xvectors.config import load_recipe
from xvectors.errors import ConfigError
from xvectors.losses import SphereFace2, build_loss, make_head

TYPES = ["cosine", "angle"]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(rows: list[list[float]], **settings: float | int | str) -> SphereFace2:
    """A head in float64 with these class weights."""
    head = SphereFace2(len(rows[0]), len(rows), **settings).double()  # type: ignore[arg-type]
    with torch.no_grad():
        head.weight.copy_(torch.tensor(rows, dtype=torch.float64))
    return head


def numpy_loss(theta: np.ndarray, labels: np.ndarray, head: SphereFace2, bias: float) -> float:
    """The mean loss from the angles [batch, classes], entry by entry."""
    scale, margin, weight = head.scale, head.margin, head.positive_weight
    total = 0.0
    for row, label in zip(theta, labels, strict=True):
        for k, angle in enumerate(row):
            sign = 1 if k == label else -1
            if head.margin_type == "cosine":
                similarity = 2 * ((math.cos(angle) + 1) / 2) ** head.similarity_power - 1 - sign * margin
            else:
                assert margin < angle < math.pi - margin
                similarity = 2 * ((math.cos(angle + sign * margin) + 1) / 2) ** head.similarity_power - 1
            share = weight if sign == 1 else 1 - weight
            total += share * softplus(-sign * (scale * similarity + bias))
    return total / len(theta)


def test_value_and_gradients_by_hand() -> None:
    """60 degrees from the target, where g = 2 * 0.75^3 - 1 = -0.15625; 90 from the other class, where g = -0.75."""
    head = built([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], margin=0.1, scale=2.0)
    with torch.no_grad():
        head.bias.fill_(0.2)
    x = torch.tensor([[0.5, 0.0, math.sqrt(0.75)]], dtype=torch.float64, requires_grad=True)
    loss, logits = head(x, torch.tensor([0]))
    loss.backward()
    assert logits.tolist() == [[pytest.approx(1.0), pytest.approx(0.0)]]
    target, other = 2 * (-0.15625 - 0.1) + 0.2, 2 * (-0.75 + 0.1) + 0.2
    assert (target, other) == (pytest.approx(-0.3125), pytest.approx(-1.1))
    assert loss.item() == pytest.approx(0.7 * softplus(0.3125) + 0.3 * softplus(-1.1), rel=1e-12)
    assert head.bias.grad is not None
    assert head.bias.grad.item() == pytest.approx(-0.7 * sigmoid(0.3125) + 0.3 * sigmoid(-1.1), rel=1e-12)
    # g' = 3 ((z + 1) / 2)^2; a cosine's gradient is the class's direction, less the part along the embedding
    by_target = -0.7 * sigmoid(0.3125) * 2 * 3 * 0.75**2
    by_other = 0.3 * sigmoid(-1.1) * 2 * 3 * 0.5**2
    expected = [by_target * (1 - 0.25), by_other, by_target * -0.5 * math.sqrt(0.75)]
    assert x.grad is not None
    assert x.grad[0].tolist() == [pytest.approx(each, rel=1e-12) for each in expected]


@pytest.mark.parametrize("margin_type", TYPES)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_loss_against_numpy(margin_type: str, power: int) -> None:
    directions = np.deg2rad([0, 75, 150])
    head = built(
        np.stack([np.cos(directions), np.sin(directions)], axis=1).tolist(),
        margin=0.15,
        scale=20.0,
        positive_weight=0.6,
        similarity_power=power,
        margin_type=margin_type,
    )
    with torch.no_grad():
        head.bias.fill_(-1.5)
    angles, labels = np.deg2rad([20.0, 40.0, 100.0, 125.0]), np.array([0, 2, 1, 0])
    x = torch.from_numpy(3.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    loss, logits = head(x, torch.from_numpy(labels))
    theta = np.abs(angles[:, None] - directions)
    assert loss.item() == pytest.approx(numpy_loss(theta, labels, head, -1.5), rel=1e-10)
    np.testing.assert_allclose(logits.detach().numpy(), 20 * np.cos(theta), atol=1e-12)


@pytest.mark.parametrize("margin_type", TYPES)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_gradient_is_the_numerical_one(margin_type: str, power: int) -> None:
    head = SphereFace2(4, 5, margin=0.4, scale=4.0, margin_type=margin_type, similarity_power=power)
    with torch.no_grad():
        head.weight.copy_(random(5, 4, seed=2))
        head.bias.fill_(0.3)
    head = head.double()
    x = random(6, 4).double()
    x[5] = -head.weight.detach()[0] + 0.05 * x[5]  # beyond pi - margin from its class
    labels = torch.tensor([0, 1, 2, 3, 4, 0])

    def loss(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        result: tuple[Tensor, Tensor] = torch.func.functional_call(head, {"weight": weight, "bias": bias}, (x, labels))
        return result[0]

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), head.weight, head.bias))


@pytest.mark.parametrize("margin_type", TYPES)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_loss_falls_as_the_target_comes_nearer(margin_type: str, power: int) -> None:
    """From 180 degrees to 0, also where the angle's margin is beyond pi."""
    head = built([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], margin=0.5, scale=10.0, margin_type=margin_type)
    head.similarity_power = power
    theta = torch.linspace(math.pi, 0, 181, dtype=torch.float64)
    losses = torch.stack(
        [head(torch.stack((t.cos(), t.sin(), 0 * t)).unsqueeze(0), torch.tensor([0]))[0] for t in theta]
    )
    assert (losses.diff() < 1e-9).all()
    assert losses[0] > losses[-1] + 5


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("margin_type", TYPES)
def test_gradients_are_finite_everywhere(margin_type: str, precision: torch.dtype) -> None:
    head = SphereFace2(4, 3, margin=0.3, scale=64.0, margin_type=margin_type)
    with torch.no_grad():
        head.weight.copy_(random(3, 4, seed=1))
        head.weight[2] = 0.0
    w = head.weight.detach()
    rows = [w[0], -w[0], w[1], 1e-4 * w[1], 1e4 * w[1], 0 * w[0]]
    for row in rows:
        for label in range(3):
            x = row.to(precision).unsqueeze(0).requires_grad_()
            head.zero_grad()
            loss, logits = head(x, torch.tensor([label]))
            loss.backward()
            assert loss.dtype == logits.dtype == torch.float32
            assert loss.isfinite()
            for grad in (x.grad, head.weight.grad, head.bias.grad):
                assert grad is not None
                assert grad.isfinite().all()


def test_what_it_refuses() -> None:
    for settings, message in [
        ({"margin": 1.0}, "margin is 1.0; it must be at least 0 and below 1"),
        ({"margin": 1.6, "margin_type": "angle"}, "margin is 1.6; it must be radians between 0 and pi/2 (1.5708)"),
        ({"margin_type": "C"}, "margin_type is 'C'; it must be cosine or angle"),
        ({"positive_weight": 1.0}, "positive_weight is 1.0; it must be above 0 and below 1"),
        ({"similarity_power": 1.5}, "similarity_power is 1.5; it must be a whole number of at least 1"),
    ]:
        with pytest.raises(ConfigError, match=f"^{re.escape(f'SphereFace2: {message}')}$"):
            build_loss("sphereface2", 8, 5, **settings)
    with pytest.raises(ConfigError, match=r"^loss 'sphereface2' has no setting 'sub_centers'"):
        build_loss("sphereface2", 8, 5, sub_centers=2)


def test_a_recipe_builds_it() -> None:
    recipe = load_recipe("resnet", ["loss.name=sphereface2", "loss.scale=32", "loss.positive_weight=0.8"])
    head = make_head(recipe.loss, 8, 5)
    assert repr(head) == (
        "SphereFace2(8, 5, margin=0.1, scale=32, positive_weight=0.8, similarity_power=3, margin_type=cosine)"
    )
