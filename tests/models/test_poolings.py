"""Every pooling: padding, gradients, half precision, bad input; each against its formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from xvectors.errors import ConfigError, ShapeError
from xvectors.models import POOLINGS, Padding, make_pooling
from xvectors.models.layers.padding import FrameNorm
from xvectors.models.layers.pooling import (
    AttentivePooling,
    ChannelContextPooling,
    MeanPooling,
    MultiHeadAttentivePooling,
    Pooling,
    StatisticsPooling,
)

CHANNELS = 8
ALL = pytest.mark.parametrize("name", list(POOLINGS))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pooling_called(name: str) -> Pooling:
    torch.manual_seed(0)
    return make_pooling(name, CHANNELS).eval()


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def weighted(x: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = (weights * x).sum(axis=0)
    return np.concatenate((mean, np.sqrt((weights * x**2).sum(axis=0) - mean**2)))


def arrays(module: torch.nn.Module) -> dict[str, NDArray[np.float64]]:
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


@ALL
def test_width_and_one_frame(name: str) -> None:
    pooling = pooling_called(name)
    x = seeded(3, 1, CHANNELS)
    out = pooling(x)
    assert out.shape == (3, pooling.out_dim(CHANNELS))
    torch.testing.assert_close(out[:, :CHANNELS], x[:, 0])
    if out.shape[1] > CHANNELS:
        deviation = (1e-10 + (1e-7 if name == "tstp" else 0.0)) ** 0.5
        torch.testing.assert_close(out[:, CHANNELS:], torch.full((3, CHANNELS), deviation))


@pytest.mark.parametrize(("name", "offset"), [("unbiased_statistics", 0.0), ("tstp", 1e-7)])
def test_deviations_by_t_less_one(name: str, offset: float) -> None:
    x = seeded(2, 6, CHANNELS)
    padded = make_pooling(name, CHANNELS)(x, Padding(torch.tensor([4, 6]), 6))
    for row, own in zip(padded, (x[0, :4], x[1]), strict=True):
        expected = torch.cat((own.mean(dim=0), (own.var(dim=0) + offset).sqrt()))
        torch.testing.assert_close(row, expected, rtol=1e-6, atol=1e-6)


def test_mean_by_hand() -> None:
    x = torch.tensor([[[1.0, 5.0], [3.0, 6.0], [100.0, 100.0]]])
    assert MeanPooling()(x, Padding(torch.tensor([2]), 3)).tolist() == [[2.0, 5.5]]


def test_attentive_pooling_equals_its_formula() -> None:
    torch.manual_seed(0)
    pooling = AttentivePooling(CHANNELS, attention_dim=5)
    x, p = seeded(2, 20, CHANNELS), arrays(pooling)
    for recording, out in zip(x.double().numpy(), pooling(x).detach().numpy(), strict=True):
        hidden = np.tanh(recording @ p["hidden.weight"].T + p["hidden.bias"])
        np.testing.assert_allclose(out, weighted(recording, softmax(hidden @ p["score.weight"].T)), atol=1e-5)


def test_multi_head_pooling_equals_its_formula() -> None:
    torch.manual_seed(0)
    pooling = MultiHeadAttentivePooling(CHANNELS, heads=2)
    x, query = seeded(2, 20, CHANNELS), arrays(pooling)["query"]
    for recording, out in zip(x.double().numpy(), pooling(x).detach().numpy(), strict=True):
        parts = recording[:, :4], recording[:, 4:]
        expected = [softmax(part @ query[head] / 2.0) @ part for head, part in enumerate(parts)]
        np.testing.assert_allclose(out, np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("global_context", [True, False])
def test_channel_context_pooling_equals_its_formula(global_context: bool) -> None:
    torch.manual_seed(0)
    pooling = ChannelContextPooling(CHANNELS, attention_dim=5, global_context=global_context)
    x, p = seeded(2, 20, CHANNELS), arrays(pooling)
    for recording, out in zip(x.double().numpy(), pooling(x).detach().numpy(), strict=True):
        weight, seen = p["hidden.weight"], recording
        if global_context:
            ones = np.ones((20, 1))
            seen = np.concatenate((recording, ones * recording.mean(axis=0), ones * recording.std(axis=0)), axis=1)
            weight = np.concatenate((weight, p["context.weight"]), axis=1)
        scores = np.tanh(seen @ weight.T + p["hidden.bias"]) @ p["score.weight"].T
        np.testing.assert_allclose(out, weighted(recording, softmax(scores)), atol=1e-5)


def test_attention_of_wespeaker_and_speechbrain_equals_their_formulas() -> None:
    x = seeded(2, 20, CHANNELS)
    ones = np.ones((20, 1))
    for name in ("astp", "normalized_channel_context", "asp"):
        pooling = pooling_called(name)
        p = arrays(pooling)
        if name != "astp":
            pooling.train()(x)  # moves the running statistics away from 0 and 1
            pooling.eval()
        for recording, out in zip(x.double().numpy(), pooling(x).detach().numpy(), strict=True):
            deviation = np.sqrt(recording.var(axis=0, ddof=1) + 1e-7) if name == "astp" else recording.std(axis=0)
            hidden = recording @ p["hidden.weight"].T + p["hidden.bias"]
            if name != "asp":
                hidden += ones * (np.concatenate((recording.mean(axis=0), deviation)) @ p["context.weight"].T)
            if name != "astp":
                own = {key: value.double().numpy() for key, value in pooling.hidden_norm.named_buffers()}
                hidden = (np.maximum(hidden, 0.0) - own["running_mean"]) / np.sqrt(own["running_var"] + 1e-5)
            scores = (hidden if name == "asp" else np.tanh(hidden)) @ p["score.weight"].T
            np.testing.assert_allclose(out, weighted(recording, softmax(scores)), atol=1e-5)


def test_equal_scores_make_attention_plain_statistics() -> None:
    x, padding = seeded(3, 20, CHANNELS), Padding(torch.tensor([20, 3, 11]), 20)
    for pooling in (AttentivePooling(CHANNELS), ChannelContextPooling(CHANNELS)):
        torch.nn.init.zeros_(pooling.score.weight)
        torch.testing.assert_close(pooling(x, padding), StatisticsPooling()(x, padding), atol=1e-5, rtol=1e-5)


@ALL
@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=4), filler=st.sampled_from([0.0, 1e6, float("nan")]))
def test_padding_changes_neither_result_nor_gradient(name: str, counts: list[int], filler: float) -> None:
    pooling = pooling_called(name)
    alone = [seeded(1, n, CHANNELS, seed=n).requires_grad_() for n in counts]
    padded = torch.full((len(counts), 12, CHANNELS), filler)
    for row, x in enumerate(alone):
        padded[row, : x.shape[1]] = x.detach()[0]
    padded.requires_grad_()
    out = pooling(padded, Padding(torch.tensor(counts), 12))
    # gradients from all sides, so that errors in means and deviations cannot cancel
    upstream = seeded(*out.shape, seed=1)
    (gradient,) = torch.autograd.grad(out, padded, upstream)
    for row, x in enumerate(alone):
        expected = pooling(x)
        torch.testing.assert_close(out[row], expected[0], atol=1e-5, rtol=1e-5)
        (expected_gradient,) = torch.autograd.grad(expected, x, upstream[row : row + 1])
        torch.testing.assert_close(gradient[row, : x.shape[1]], expected_gradient[0], atol=1e-4, rtol=1e-4)
        assert not gradient[row, x.shape[1] :].any()


@ALL
@pytest.mark.parametrize("frames", [1, 20])
def test_constant_input_has_finite_gradients(name: str, frames: int) -> None:
    pooling = pooling_called(name)
    x = torch.full((2, frames, CHANNELS), -15.9424, requires_grad=True)
    pooling(x, Padding(torch.tensor([frames, 1]), frames)).sum().backward()
    for gradient in (x.grad, *[p.grad for p in pooling.parameters()]):
        assert gradient is not None
        assert torch.isfinite(gradient).all()


@ALL
def test_gradient_is_the_numerical_one(name: str) -> None:
    pooling = pooling_called(name).double()
    x = seeded(2, 5, CHANNELS).double().requires_grad_()
    assert torch.autograd.gradcheck(pooling, (x,))
    assert torch.autograd.gradcheck(pooling, (x, Padding(torch.tensor([3, 5]), 5)))


@ALL
@pytest.mark.parametrize("padding", [None, Padding(torch.tensor([150, 200]), 200)])
def test_half_precision_is_pooled_in_float32(name: str, padding: Padding | None) -> None:
    pooling, x = pooling_called(name), (10 + seeded(2, 200, CHANNELS)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = pooling(x, padding)
    assert out.dtype == torch.float32
    # scores in bfloat16 move the weights by a per cent of the deviation, and a half-precision mean by far more
    torch.testing.assert_close(out, pooling(x.float(), padding), atol=0.03, rtol=0.0)


@ALL
def test_bad_input(name: str) -> None:
    pooling = pooling_called(name)
    class_name = type(pooling).__name__
    with pytest.raises(ShapeError, match=rf"{class_name}: expected \[batch, frames, .*\], got \[4, 8\]"):
        pooling(torch.zeros(4, CHANNELS))
    with pytest.raises(ShapeError, match=r"got \[4, 0, 8\]"):
        pooling(torch.zeros(4, 0, CHANNELS))
    with pytest.raises(
        ShapeError, match=rf"{class_name}: got \[2, 5, 8\] with the padding of 3 recordings of 5 frames"
    ):
        pooling(torch.zeros(2, 5, CHANNELS), Padding(torch.tensor([5, 5, 5]), 5))
    with pytest.raises(ShapeError, match=rf"{class_name}: got .* with the padding of 2 recordings of 4 frames"):
        pooling(torch.zeros(2, 5, CHANNELS), Padding(torch.tensor([4, 3]), 4))
    if list(pooling.parameters()):
        with pytest.raises(ShapeError, match=r"expected \[batch, frames, 8\], got \[2, 5, 7\]"):
            pooling(torch.zeros(2, 5, 7))


def test_impossible_settings() -> None:
    with pytest.raises(ConfigError, match=r"unknown pooling 'atentive'; did you mean 'attentive'\?"):
        make_pooling("atentive", 8)
    with pytest.raises(ConfigError, match="MultiHeadAttentivePooling: 3 heads do not divide 8 channels"):
        MultiHeadAttentivePooling(8, heads=3)
    with pytest.raises(
        ConfigError, match="MultiHeadAttentivePooling: heads is 0; it must be a whole number, at least 1"
    ):
        MultiHeadAttentivePooling(8, heads=0)
    with pytest.raises(
        ConfigError, match="AttentivePooling: attention_dim is 0; it must be a whole number, at least 1"
    ):
        AttentivePooling(8, attention_dim=0)
    with pytest.raises(
        ConfigError, match="ChannelContextPooling: channels is 0; it must be a whole number, at least 1"
    ):
        ChannelContextPooling(0)
    with pytest.raises(ConfigError, match=r"variance_floor is 0.0; it must be above 0"):
        AttentivePooling(8, variance_floor=0.0)
    for name in POOLINGS:
        with pytest.raises(ConfigError, match=r"variance_floor is 0.0; it must be above 0"):
            make_pooling(name, 8, 0.0)


def test_padding_bounds_by_hand() -> None:
    padding = Padding(torch.tensor([3, 5, 1]), 5)
    assert padding.behind.int().tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]]
    assert padding.rows.tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 10]
    assert padding.strided(2).counts.tolist() == [2, 3, 1]
    assert padding.strided(2).frames == 3
    assert Padding(torch.tensor([3, 5, 2]), 5).shortened(1).counts.tolist() == [2, 4, 1]
    x = torch.full((3, 5, 2), float("nan"))
    x[0, :3], x[1], x[2, :1] = 1.0, 2.0, 3.0
    assert padding.zero(x).sum(dim=(1, 2)).tolist() == [6.0, 20.0, 6.0]
    assert padding.mean(padding.zero(x)).tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


@pytest.mark.parametrize("bands", [None, 3])
def test_frame_norm_takes_the_own_frames_statistics(bands: int | None) -> None:
    counts = [4, 6]
    inner = () if bands is None else (bands,)
    x = 2 + 3 * seeded(2, 6, *inner, 5)
    x[0, 4:] = 1e6
    norm = FrameNorm(5)
    out = norm(x, Padding(torch.tensor(counts), 6, x.device))
    own = torch.cat([x[row, :n].reshape(-1, 5) for row, n in enumerate(counts)])
    torch.testing.assert_close(norm.running_mean, 0.1 * own.mean(dim=0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * own.var(dim=0))
    expected = (own - own.mean(dim=0)) / (own.var(dim=0, unbiased=False) + 1e-5).sqrt()
    got = torch.cat([out[row, :n].reshape(-1, 5) for row, n in enumerate(counts)])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert not out[0, 4:].any()
