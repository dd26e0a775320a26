"""TDNNLayer against a loop over frames, by hand, and on bad input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.models import TDNNLayer


def looped(layer: TDNNLayer, x: Tensor) -> Tensor:
    """The definition: output frame j is the affine map of the frames j - min(context) + c, in that order, then ReLU."""
    first, span = min(layer.context), max(layer.context) - min(layer.context)
    frames = []
    for j in range(x.shape[1] - span):
        spliced = torch.cat([x[:, j - first + c] for c in layer.context], dim=1)
        affine = spliced @ layer.linear.weight.T
        affine = affine if layer.linear.bias is None else affine + layer.linear.bias
        frames.append(affine if layer.activation is None else affine.clamp(min=0))
    return torch.stack(frames, dim=1)


def test_shape_and_names_of_the_exercise() -> None:
    layer = TDNNLayer(24, [-2, -1, 0, 1, 2], 512)
    assert layer(torch.zeros(32, 498, 24)).shape == (32, 494, 512)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {"linear.weight": (512, 120), "linear.bias": (512,)}


@pytest.mark.parametrize("context", [[-1, 0, 2], [-1, 1], [1, -1]])
def test_hand_computed_blocks_follow_the_given_order(context: list[int]) -> None:
    """One channel whose frame t holds 10**t, and block k weighing k + 1."""
    layer = TDNNLayer(1, context, 1, bias=False)  # nothing is negative, so that the ReLU lets all pass
    with torch.no_grad():
        layer.linear.weight.copy_(torch.arange(1.0, len(context) + 1).unsqueeze(0))
    x = 10.0 ** torch.arange(4.0).view(1, 4, 1)
    expected = {
        (-1, 0, 2): [1 + 2 * 10 + 3 * 1000],
        (-1, 1): [1 + 2 * 100, 10 + 2 * 1000],
        (1, -1): [100 + 2 * 1, 1000 + 2 * 10],
    }
    assert layer(x).flatten().tolist() == expected[tuple(context)]


def test_zero_weights_give_the_bias_and_the_relu_cuts_it() -> None:
    affine = TDNNLayer(3, [-3, 0, 3], 2, activation=None)
    layer = TDNNLayer(3, [-3, 0, 3], 2)
    bias = torch.tensor([1.5, -2.0])
    state = {"linear.weight": torch.zeros(2, 9), "linear.bias": bias}
    affine.load_state_dict(state)
    layer.load_state_dict(state)
    x = torch.randn(2, 9, 3)
    assert torch.equal(affine(x), bias.expand(2, 3, 2))
    assert torch.equal(layer(x), torch.tensor([1.5, 0.0]).expand(2, 3, 2))


@pytest.mark.parametrize("context", [[-2, -1, 0, 1, 2], [0], [-3, 1, 2]])
def test_relu_is_the_default_and_any_activation_can_take_its_place(context: list[int]) -> None:
    torch.manual_seed(0)
    layer = TDNNLayer(input_dim=4, input_context=context, output_dim=6)
    x = torch.randn(2, 9, 4)
    out = layer(x)
    assert out.min() == 0  # about half of all values are cut
    layer.activation = None
    affine = layer(x)
    assert affine.min() < -0.1
    assert torch.equal(out, affine.clamp(min=0))
    layer.activation = torch.tanh
    assert torch.equal(layer(x), affine.tanh())
    assert layer.input_context == layer.context == tuple(context)


def test_an_activation_with_weights_is_part_of_the_layer() -> None:
    layer = TDNNLayer(2, [0], 3, activation=nn.PReLU())
    assert list(layer.state_dict()) == ["linear.weight", "linear.bias", "activation.weight"]
    torch.testing.assert_close(
        layer(-torch.ones(1, 1, 2)), functional.prelu(layer.linear(-torch.ones(1, 1, 2)), torch.tensor([0.25]))
    )


@settings(max_examples=60, deadline=None)
@given(
    context=st.lists(st.integers(-6, 6), min_size=1, max_size=5, unique=True),
    extra_frames=st.integers(0, 5),
    batch=st.integers(1, 3),
    bias=st.booleans(),
    activation=st.sampled_from([torch.relu, None]),
)
def test_any_context_equals_the_loop_with_its_gradients(
    context: list[int], extra_frames: int, batch: int, bias: bool, activation: Callable[[Tensor], Tensor] | None
) -> None:
    torch.manual_seed(0)
    layer = TDNNLayer(4, context, 5, bias=bias, activation=activation)
    x = torch.randn(batch, max(context) - min(context) + 1 + extra_frames, 4, requires_grad=True)
    expected, out = looped(layer, x), layer(x)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    wanted = [x, *layer.parameters()]
    upstream = torch.randn_like(out)
    for ours, theirs in zip(
        torch.autograd.grad(out, wanted, upstream),
        torch.autograd.grad(expected, wanted, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_convolved_form_equals_the_spliced_one() -> None:
    torch.manual_seed(0)
    even = TDNNLayer(24, [-3, 0, 3], 32)
    order = [1, 0, 2]
    spliced = TDNNLayer(24, [even.context[k] for k in order], 32)
    with torch.no_grad():
        spliced.linear.weight.copy_(even.linear.weight.view(32, 3, 24)[:, order].flatten(1))
        spliced.linear.bias.copy_(even.linear.bias)
    assert (even.dilation, spliced.dilation) == (3, None)
    x = torch.randn(4, 50, 24)
    torch.testing.assert_close(even(x), spliced(x), atol=1e-5, rtol=1e-5)


def test_accepts_input_that_is_not_contiguous() -> None:
    torch.manual_seed(0)
    layer = TDNNLayer(4, [-1, 0, 1], 5)
    x = torch.randn(2, 4, 9).transpose(1, 2)
    torch.testing.assert_close(layer(x), looped(layer, x), atol=1e-5, rtol=1e-5)


def test_weights_are_live() -> None:
    layer = TDNNLayer(2, [-1, 0, 1], 3)
    x = torch.randn(1, 5, 2)
    before = layer(x)
    with torch.no_grad():
        layer.linear.weight.mul_(2.0)
        layer.linear.bias.mul_(2.0)
    torch.testing.assert_close(layer(x), 2 * before)


@pytest.mark.parametrize("context", [[-2, 0, 2], [0], [-3, 1, 2]])
def test_autocast_gives_bfloat16_within_its_precision(context: list[int]) -> None:
    torch.manual_seed(0)
    layer = TDNNLayer(16, context, 8)
    x = torch.randn(3, 20, 16)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ([], r"input_context is empty; give at least one offset, such as \[0\]"),
        ([-1, 0, -1], r"context \[-1, 0, -1\] names an offset twice; give each one once"),
        ([0.5, 1], r"context \[0.5, 1\] must hold whole frames; round its offsets"),
        (["0", "1"], r"context \['0', '1'\] must hold whole frames"),
        ([float("nan")], r"context \[nan\] must hold whole frames"),
        (5, r"input_context is 5; give a list of offsets, such as \[-1, 0, 1\]"),
    ],
)
def test_bad_contexts(context: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        TDNNLayer(24, context, 8)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("input_dim", "output_dim", "name"), [(0, 8, "input_dim"), (8, -1, "output_dim")])
def test_bad_sizes(input_dim: int, output_dim: int, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*; it must be at least 1"):
        TDNNLayer(input_dim, [0], output_dim)


def test_an_activation_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"activation must be a function such as torch\.relu, or None, not 'relu'"):
        TDNNLayer(24, [0], 8, activation="relu")


@pytest.mark.parametrize("shape", [(9, 24), (2, 9, 23), (2, 1, 9, 24)])
def test_bad_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected \[batch, frames, 24\], got \[") as caught:
        TDNNLayer(24, [0], 8)(torch.zeros(shape))
    assert str(list(shape)) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_too_few_frames_names_both_numbers() -> None:
    layer = TDNNLayer(24, [-3, 0, 3], 8)
    assert layer(torch.zeros(1, 7, 24)).shape == (1, 1, 8)
    with pytest.raises(TooShortError, match=r"got 6 frames, but input_context \[-3, 0, 3\] needs at least 7"):
        layer(torch.zeros(1, 6, 24))
