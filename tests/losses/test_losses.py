"""Each head against trigonometry in numpy over all angles, in every precision, where gradients end, and in training."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from xvectors.errors import ConfigError, ShapeError
from xvectors.losses import (
    MARGIN_LOSSES,
    AAMSoftmax,
    AMSoftmax,
    MarginSoftmax,
    build_loss,
    softmax_loss,
)
from xvectors.training.optimizer import margin_at

SOFTMAXES = ["am_softmax", "aam_softmax"]
MARGINS = {AMSoftmax: [0.0, 0.2, 0.5, 0.99], AAMSoftmax: [0.0, 0.2, 0.5, 1.2, math.pi / 2]}
CASES = [(head, margin) for head, margins in MARGINS.items() for margin in margins]
PRECISIONS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
ANGLES = np.sort(np.concatenate((np.linspace(0, np.pi, 181), math.pi - np.array([1e-9, 1e-4, 0.2, 0.5, 1.2, 1.5708]))))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numpy_lowered(head: type[MarginSoftmax], theta: np.ndarray, margin: float) -> np.ndarray:
    """The target's cosine, from the angle itself."""
    if head is AMSoftmax:
        return np.cos(theta) - margin
    return np.where(theta + margin <= np.pi, np.cos(theta + margin), np.cos(theta) - 1 + np.cos(margin))


def numpy_raised(theta: np.ndarray, margin: float) -> np.ndarray:
    raised: np.ndarray = np.where(theta >= margin, np.cos(theta - margin), np.cos(theta) + 1 - np.cos(margin))
    return raised


def numpy_loss(logits: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> float:
    peak = logits.max(axis=1, keepdims=True)
    log_probability = logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))
    wanted = np.full(logits.shape, smoothing / logits.shape[1])
    wanted[np.arange(len(labels)), labels] += 1 - smoothing
    return float(-(wanted * log_probability).sum(axis=1).mean())


def numpy_angles(embeddings: Tensor, head: MarginSoftmax) -> np.ndarray:
    """Angles [batch, num_classes] to each class's nearest sub-center, by the well-conditioned atan2 formula."""
    x = embeddings.detach().double().numpy()
    w = head.weight.detach().double().numpy().reshape(head.num_classes, head.sub_centers, -1)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    w = w / np.linalg.norm(w, axis=2, keepdims=True)
    x = x[:, None, None, :]
    apart, together = np.linalg.norm(x - w, axis=3), np.linalg.norm(x + w, axis=3)
    angles: np.ndarray = (2 * np.arctan2(apart, together)).min(axis=2)
    return angles


def numpy_forward(head: MarginSoftmax, embeddings: Tensor, labels: Tensor) -> tuple[float, np.ndarray]:
    """Loss and logits one sample and class at a time, the hardest wrong classes found by sorting."""
    angles, y = numpy_angles(embeddings, head), labels.numpy()
    penalized = np.cos(angles)
    for row, target in enumerate(y):
        penalized[row, target] = numpy_lowered(type(head), angles[row, target], head.margin)
        wrong = sorted((c for c in range(head.num_classes) if c != target), key=lambda c: angles[row, c])
        for c in wrong[: head.inter_top_k]:
            penalized[row, c] = numpy_raised(angles[row, c], head.inter_top_k_margin)
    return numpy_loss(head.scale * penalized, y, head.label_smoothing), head.scale * np.cos(angles)


def target_logits(head: MarginSoftmax, embeddings: Tensor) -> Tensor:
    """What the loss sees of class 0: with two classes, loss = log(1 + exp(wrong - target)), undone sample by sample."""
    values = []
    for row in embeddings:
        loss, logits = head(row.unsqueeze(0), torch.tensor([0]))
        values.append(logits[0, 1] - torch.log(torch.expm1(loss)))
    return torch.stack(values)


def plane(theta: np.ndarray) -> Tensor:
    """Points of length 3 in a plane, theta from its first axis."""
    return torch.from_numpy(3.0 * np.stack((np.cos(theta), np.sin(theta)), axis=1))


def two_classes(head: type[MarginSoftmax], margin: float) -> MarginSoftmax:
    """Class 0 towards x, of length 0.5, and class 1 towards y, of length 7; in float64, scale 1."""
    built = head(2, 2, scale=1.0, margin=margin).double()
    with torch.no_grad():
        built.weight.copy_(torch.tensor([[0.5, 0.0], [0.0, 7.0]]))
    return built


@pytest.mark.parametrize(("head", "margin"), CASES)
def test_target_logit_over_all_angles(head: type[MarginSoftmax], margin: float) -> None:
    built = two_classes(head, margin)
    found = target_logits(built, plane(ANGLES)).detach().numpy()
    np.testing.assert_allclose(found, numpy_lowered(head, ANGLES, margin), atol=2e-8)
    assert np.all(np.diff(found) <= 1e-9), "the logit must fall all the way from 0 to pi"


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.2, math.pi / 2])
def test_angular_margin_joins_without_a_jump(margin: float) -> None:
    edge = math.pi - margin
    near = target_logits(two_classes(AAMSoftmax, margin), plane(edge + np.array([-1e-6, 0.0, 1e-6])))
    torch.testing.assert_close(near, torch.full((3,), -1.0, dtype=torch.float64), atol=2e-6, rtol=0.0)


def test_hand_computed_angular_margin() -> None:
    """60 degrees from the target and 90 from the other class, margin 30 degrees: logits 0 and 0."""
    head = AAMSoftmax(3, 2, margin=math.pi / 6, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.0, 5.0, 0.0]]))
    embedding = torch.tensor([[math.cos(math.pi / 3), 0.0, math.sin(math.pi / 3)]])
    loss, logits = head(embedding, torch.tensor([0]))
    torch.testing.assert_close(loss, torch.tensor(math.log(2)))
    torch.testing.assert_close(logits, torch.tensor([[5.0, 0.0]]), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("sub_centers", [1, 3])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("head", "margin"), CASES)
def test_loss_and_logits_over_all_angles_in_each_precision(
    head: type[MarginSoftmax], margin: float, precision: torch.dtype, sub_centers: int
) -> None:
    """Half-precision input is what it is after rounding; from there on float32 is kept, under autocast too."""
    built = head(3, 4, margin=margin, scale=30.0, sub_centers=sub_centers, inter_top_k=2, inter_top_k_margin=0.3)
    with torch.no_grad():  # near each other, so that the nearest one's angle too goes from 0 to almost pi
        built.weight[1:sub_centers] = built.weight[0] + 0.02 * random(sub_centers - 1, 3)
    wide = precision == torch.float64
    built = built.double() if wide else built
    axis = built.weight.detach()[0].double()
    across = torch.linalg.cross(axis, torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64))
    axis, across = axis / axis.norm(), across / across.norm()
    theta = torch.from_numpy(ANGLES).unsqueeze(1)
    embeddings = (2.0 * (theta.cos() * axis + theta.sin() * across)).to(precision)
    for labels in (torch.zeros(len(ANGLES), dtype=torch.int64), torch.arange(len(ANGLES)) % 4):
        with torch.autocast("cpu", torch.bfloat16, enabled=not wide):
            loss, logits = built(embeddings, labels)
        expected_loss, expected_logits = numpy_forward(built, embeddings, labels)
        assert loss.dtype == logits.dtype == (torch.float64 if wide else torch.float32)
        np.testing.assert_allclose(logits.detach().numpy(), expected_logits, atol=1e-11 if wide else 2e-5)
        assert loss.item() == pytest.approx(expected_loss, rel=1e-8 if wide else 3e-5)


@pytest.mark.parametrize("sub_centers", [1, 3])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_equals_its_float32_self(precision: torch.dtype, sub_centers: int) -> None:
    x, labels = random(16, 8).to(precision), torch.arange(16) % 5
    for name in SOFTMAXES:
        head = build_loss(name, 8, 5, **({} if name == "softmax" else {"sub_centers": sub_centers}))
        with torch.autocast("cpu", torch.bfloat16):
            loss, logits = head(x, labels)
        wide_loss, wide_logits = head(x.float(), labels)
        torch.testing.assert_close(loss, wide_loss, atol=0.0, rtol=0.0)
        torch.testing.assert_close(logits, wide_logits, atol=0.0, rtol=0.0)
        half = head.to(precision)
        loss, logits = half(x, labels)
        assert loss.dtype == logits.dtype == torch.float32
        loss.backward()
        assert all(p.grad is not None and p.grad.dtype == precision for p in half.parameters())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_against_numpy_in_every_precision(precision: torch.dtype, smoothing: float) -> None:
    """Half-precision logits, over a range that float16's exponential would leave, lose nothing more."""
    logits, labels = (60 * random(9, 4)).to(precision).requires_grad_(), torch.arange(9) % 4
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != torch.float64):
        loss = softmax_loss(logits, labels, smoothing)
    assert loss.dtype == (torch.float64 if precision == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(
        numpy_loss(logits.detach().double().numpy(), labels.numpy(), smoothing), rel=1e-5
    )
    loss.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("head", [AMSoftmax, AAMSoftmax])
@pytest.mark.parametrize("sub_centers", [1, 3])
def test_margin_0_is_the_scaled_softmax(head: type[MarginSoftmax], sub_centers: int) -> None:
    built, x, labels = head(6, 4, margin=0.0, scale=20.0, sub_centers=sub_centers), random(9, 6), torch.arange(9) % 4
    loss, logits = built(x, labels)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, labels), atol=0.0, rtol=0.0)


@pytest.mark.parametrize("head", [AMSoftmax, AAMSoftmax])
@given(
    seed=st.integers(0, 2**31),
    num_classes=st.integers(2, 9),
    options=st.fixed_dictionaries(
        {
            "sub_centers": st.integers(1, 4),
            "inter_top_k": st.integers(0, 8),
            "margin": st.floats(0, 0.99),
            "inter_top_k_margin": st.floats(0, 1.57),
            "label_smoothing": st.floats(0, 0.9),
        }
    ),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_option_against_brute_force(
    head: type[MarginSoftmax], seed: int, num_classes: int, options: dict[str, int]
) -> None:
    options["inter_top_k"] = min(options["inter_top_k"], num_classes - 1)
    built = head(3, num_classes, **options)
    with torch.no_grad():
        built.weight.copy_(random(len(built.weight), 3, seed=seed))
    x, labels = random(6, 3, seed=seed + 1), torch.arange(6) % num_classes
    loss, logits = built(x, labels)
    expected_loss, expected_logits = numpy_forward(built, x, labels)
    np.testing.assert_allclose(logits.detach().numpy(), expected_logits, atol=1e-4)
    assert loss.item() == pytest.approx(expected_loss, rel=1e-4, abs=1e-4)


def test_sub_centers_that_agree_equal_one() -> None:
    x, labels = random(9, 6), torch.arange(9) % 4
    one, three = AAMSoftmax(6, 4), AAMSoftmax(6, 4, sub_centers=3)
    with torch.no_grad():
        three.weight.copy_(one.weight.repeat_interleave(3, dim=0))
    for mine, other in zip(one(x, labels), three(x, labels), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-6)


def test_the_nearest_sub_center_alone_speaks_and_learns() -> None:
    head = AMSoftmax(2, 2, sub_centers=2, scale=1.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1], [0.6, -0.8]]))
    loss, logits = head(torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
    torch.testing.assert_close(logits, torch.tensor([[1.0, 0.1 / math.sqrt(1.01)]]))
    loss.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.abs().sum(dim=1).gt(0).tolist() == [False, False, True, False]


def test_inter_top_k_leaves_its_own_target_and_easy_classes_alone() -> None:
    """With the target nearest of all, k = 1 raises the second nearest: by hand, from 90 to 90 - 30 degrees."""
    head = AMSoftmax(2, 3, margin=0.0, scale=1.0, inter_top_k=1, inter_top_k_margin=math.pi / 6)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    loss, logits = head(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    torch.testing.assert_close(logits, torch.tensor([[1.0, 0.0, -1.0]]))
    expected = -1.0 + math.log(math.exp(1.0) + math.exp(0.5) + math.exp(-1.0))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", SOFTMAXES)
def test_gradient_is_the_numerical_one(name: str) -> None:
    options = {"margin": 0.7, "sub_centers": 2, "inter_top_k": 2, "scale": 4.0}
    head = build_loss(name, 4, 5, label_smoothing=0.1, **options).double()
    x = random(6, 4).double()
    # The last one is beyond pi - margin from its class.
    x[5] = -head.weight.detach()[: len(head.weight) // 5].mean(dim=0) + 0.05 * x[5]
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    parameters = tuple(head.parameters())

    def loss(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(dict(head.named_parameters()), values, strict=True))
        result: tuple[Tensor, Tensor] = torch.func.functional_call(head, named, (x, labels))
        return result[0]

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), *parameters))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("head", "margin"), CASES)
def test_gradients_are_finite_everywhere(head: type[MarginSoftmax], margin: float, precision: torch.dtype) -> None:
    built = head(4, 3, margin=margin, scale=64.0, sub_centers=2, inter_top_k=2, inter_top_k_margin=0.1)
    with torch.no_grad():
        built.weight[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
        built.weight[2] = 0.0
    w = built.weight.detach()
    nearly = w[0] + torch.tensor([0.0, 3e-4, 0.0, 0.0])
    rows = [w[0], -w[0], w[1], -w[3], nearly, -nearly, 0 * w[0], *(w[1] * 10.0**-n for n in range(1, 13)), w[1] * 1e4]
    built = built.double() if precision == torch.float64 else built
    for row in rows:
        for label in range(3):
            x = row.to(precision).unsqueeze(0).requires_grad_()
            built.zero_grad()
            loss, logits = built(x, torch.tensor([label]))
            loss.backward()
            assert loss.isfinite()
            assert logits.isfinite().all()
            assert x.grad is not None
            assert x.grad.isfinite().all()
            assert built.weight.grad is not None
            assert built.weight.grad.isfinite().all()


@pytest.mark.parametrize("head", [AMSoftmax, AAMSoftmax])
def test_a_gradient_beside_the_class_is_that_of_float64(head: type[MarginSoftmax]) -> None:
    """Within a degree of 0 and pi the sine's derivative is large; what reaches the embedding must not be noise."""
    built = head(3, 3, margin=0.4, scale=10.0, label_smoothing=0.1)
    axis = built.weight.detach()[0]
    x = torch.cat((axis + 0.01 * random(8, 3), -axis + 0.01 * random(8, 3, seed=1)))
    labels = torch.zeros(16, dtype=torch.int64)
    gradients = []
    for module, embeddings in ((built, x), (copy.deepcopy(built).double(), x.double())):
        leaf = embeddings.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(module(leaf, labels)[0], leaf)
        gradients.append(gradient.double())
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-3, rtol=5e-3)


@pytest.mark.parametrize("head", [AMSoftmax, AAMSoftmax])
def test_length_does_not_matter_and_no_length_has_no_gradient(head: type[MarginSoftmax]) -> None:
    built, x, labels = head(6, 4), random(5, 6), torch.arange(5) % 4
    expected = built(x, labels)
    for factor in (1e-10, 1e-4, 1e6, 1e15):
        for found, wanted in zip(built(x * factor, labels), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)
    zero = torch.zeros(1, 6, requires_grad=True)
    loss, logits = built(zero, torch.tensor([1]))
    loss.backward()
    assert not logits.any()
    assert zero.grad is not None
    assert not zero.grad.any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in MARGIN_LOSSES for value in (math.nan, math.inf)),
        ("am_softmax", 1e30),
        ("aam_softmax", 1e30),
    ],
)
def test_what_has_diverged_makes_no_finite_loss(name: str, value: float) -> None:
    x = random(3, 4)
    x[1] = value
    assert not build_loss(name, 4, 3)(x, torch.tensor([0, 1, 2]))[0].isfinite()


def test_set_margin_takes_effect_and_refuses_what_does_not_fit() -> None:
    head, x, labels = AAMSoftmax(6, 4, margin=0.0), random(9, 6), torch.arange(9) % 4
    losses = []
    for margin in (0.0, 0.1, 0.2, 0.4):
        head.set_margin(margin)
        loss, _ = head(x, labels)
        losses.append(loss.item())
        assert loss.item() == pytest.approx(numpy_forward(head, x, labels)[0], rel=1e-4)
    assert losses == sorted(losses)
    assert losses[0] < losses[-1] - 1
    for margin in (-0.1, 1.6, math.nan):
        with pytest.raises(ConfigError, match="AAMSoftmax: margin is"):
            head.set_margin(margin)
    assert head.margin == 0.4


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_state_round_trip(name: str) -> None:
    head, other = build_loss(name, 6, 4), build_loss(name, 6, 4)
    x, labels = random(9, 6), torch.arange(9) % 4
    assert not torch.equal(head(x, labels)[0], other(x, labels)[0])
    assert set(head.state_dict()) == {"weight"} | ({"bias"} if name == "sphereface2" else set())
    other.load_state_dict(head.state_dict(), strict=True)
    for mine, theirs in zip(head(x, labels), other(x, labels), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0.0, rtol=0.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("am_softmax", {}),
        ("aam_softmax", {}),
        ("aam_softmax", {"sub_centers": 3, "inter_top_k": 2, "label_smoothing": 0.05}),
        ("sphereface2", {}),
        ("sphereface2", {"margin_type": "angle"}),
    ],
)
def test_training_separates_classes(name: str, options: dict[str, float]) -> None:
    """Six directions behind a linear map, ramped margin: new points are classified, and lie near their own class."""
    network, head = nn.Linear(10, 8), build_loss(name, 8, 6, **options)
    centers = random(6, 10, seed=1)
    labels = torch.arange(96) % 6
    train, new = (centers[labels] + 0.4 * random(96, 10, seed=s) for s in (2, 3))
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for step in range(80):
        head.set_margin(margin_at(step / 80, 0.1, 0.5, 0.3))
        loss, _ = head(network(train), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        embeddings = nn.functional.normalize(network(new))
        accuracy = (head(embeddings, labels)[1].argmax(dim=1) == labels).float().mean()
    cosines = embeddings @ embeddings.T
    same = labels[:, None] == labels
    assert losses[-1] < 0.3 * losses[0]
    assert accuracy >= 0.97
    assert cosines[same].mean() - cosines[~same].mean() > 0.6


def test_weights_point_everywhere_with_length_about_1() -> None:
    weight = AAMSoftmax(256, 1000).weight.detach()
    assert weight.norm(dim=1).mean() == pytest.approx(1.0, abs=0.01)
    assert weight.mean(dim=0).norm() < 0.05


def test_build_loss_by_name() -> None:
    built = build_loss("aam_softmax", 8, 5, margin=0.3, scale=32, sub_centers=2, inter_top_k=3, label_smoothing=0.1)
    assert isinstance(built, AAMSoftmax)
    assert (built.margin, built.scale, built.sub_centers, built.inter_top_k) == (0.3, 32.0, 2, 3)
    assert built.weight.shape == (10, 8)
    assert repr(built) == (
        "AAMSoftmax(8, 5, margin=0.3, scale=32, sub_centers=2, inter_top_k=3, "
        "inter_top_k_margin=0.06, label_smoothing=0.1)"
    )
    assert isinstance(build_loss("am_softmax", 8, np.int64(5)), AMSoftmax)
    assert {name: type(build_loss(name, 8, 5)) for name in MARGIN_LOSSES} == MARGIN_LOSSES


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("aam_softmx", "unknown loss 'aam_softmx'; did you mean 'aam_softmax'?"),
        ("triplet", "unknown loss 'triplet'; known are aam_softmax, am_softmax, sphereface2"),
    ],
)
def test_unknown_loss(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        build_loss(name, 8, 5)


def test_unknown_setting() -> None:
    with pytest.raises(ConfigError, match=r"^loss 'aam_softmax' has no setting 'marign'; did you mean 'margin'\?$"):
        build_loss("aam_softmax", 8, 5, marign=0.2)


RADIANS = "radians between 0 and pi/2 (1.5708)"
WRONG_CLASSES = "a whole number from 0 (none) to 4, the number of wrong classes"


@pytest.mark.parametrize(
    ("name", "key", "value", "wanted"),
    [
        *(("aam_softmax", "margin", value, RADIANS) for value in (-0.1, 1.6, math.nan, "0.2", None, torch.tensor(0.2))),
        *(("am_softmax", "margin", value, "at least 0 and below 1") for value in (-0.1, 1.0, math.nan)),
        *(("am_softmax", "scale", value, "a finite number above 0") for value in (0, -30.0, math.inf, math.nan)),
        *(("am_softmax", "sub_centers", value, "a whole number of at least 1") for value in (0, 1.5, True)),
        *(("aam_softmax", "inter_top_k", value, WRONG_CLASSES) for value in (5, -1, 1.0)),
        *(("aam_softmax", "inter_top_k_margin", value, RADIANS) for value in (-0.06, 1.6)),
        *((name, "label_smoothing", value, "at least 0 and below 1") for name in SOFTMAXES for value in (1.0, -0.1)),
    ],
)
def test_impossible_settings(name: str, key: str, value: object, wanted: str) -> None:
    message = f"{MARGIN_LOSSES[name].__name__}: {key} is {value!r}; it must be {wanted}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        build_loss(name, 8, 5, **{key: value})


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_impossible_sizes(name: str) -> None:
    with pytest.raises(ConfigError, match="num_classes is 1; it must be a whole number of at least 2"):
        build_loss(name, 8, 1)
    with pytest.raises(ConfigError, match="embedding_dim is 0; it must be a whole number of at least 1"):
        build_loss(name, 0, 5)


@pytest.mark.parametrize("name", MARGIN_LOSSES)
@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.zeros(3, 7), [0, 0, 0], "expected embeddings [batch, 8], got [3, 7]"),
        (torch.zeros(8), [0], "expected embeddings [batch, 8], got [8]"),
        (torch.zeros(0, 8), [], "expected embeddings [batch, 8], got [0, 8]"),
        (torch.zeros(3, 8).long(), [0, 0, 0], "embeddings must be floating-point numbers, got torch.int64"),
        (torch.zeros(3, 8), [0, 0], "expected 3 labels of torch.int64, one per embedding, got [2] of torch.int64"),
        (torch.zeros(1, 8), [0.0], "expected 1 labels of torch.int64, one per embedding, got [1] of torch.float32"),
        (torch.zeros(3, 8), [0, 5, 1], "labels must lie between 0 and 4, got 5"),
        (torch.zeros(3, 8), [0, -1, 5], "labels must lie between 0 and 4, got -1"),
        (torch.zeros(3, 8), [0, -100, 1], "labels must lie between 0 and 4, got -100"),
    ],
)
def test_impossible_input(name: str, embeddings: Tensor, labels: list[float], message: str) -> None:
    head = build_loss(name, 8, 5)
    with pytest.raises(ShapeError, match=f"^{re.escape(f'{type(head).__name__}: {message}')}$"):
        head(embeddings, torch.tensor(labels))
