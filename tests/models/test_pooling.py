"""StatisticsPooling by hand, against numpy, and where deviations vanish."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xvectors.errors import ConfigError, ShapeError
from xvectors.models import Padding, StatisticsPooling


def test_hand_computed_population_deviation() -> None:
    x = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])
    out = StatisticsPooling()(x)
    torch.testing.assert_close(out, torch.tensor([[2.0, 5.0, 1.0, 1e-5]]), atol=1e-7, rtol=0.0)


def test_equals_numpy_in_float64() -> None:
    x = torch.randn(3, 40, 7, generator=torch.Generator().manual_seed(0)) * 3 - 2
    wide = x.double().numpy()
    expected = np.concatenate((wide.mean(axis=1), wide.std(axis=1)), axis=1)
    np.testing.assert_allclose(StatisticsPooling()(x).numpy(), expected, atol=1e-5)


def test_survives_a_large_offset() -> None:
    """Mean square minus squared mean would leave nothing of a deviation of 1 beside an offset of 10,000."""
    x = 10_000.0 + torch.randn(1, 400, 5, generator=torch.Generator().manual_seed(0))
    deviation = StatisticsPooling()(x)[:, 5:]
    np.testing.assert_allclose(deviation.numpy(), x.double().numpy().std(axis=1), rtol=2e-4)


def test_padded_frames_change_neither_result_nor_gradient() -> None:
    pooling = StatisticsPooling()
    generator = torch.Generator().manual_seed(0)
    counts = [1, 9, 17, 30]
    alone = [torch.randn(1, n, 6, generator=generator, requires_grad=True) for n in counts]
    padded = torch.full((4, 30, 6), 1e6)
    padded[1, 9:] = float("nan")
    for row, x in enumerate(alone):
        padded[row, : x.shape[1]] = x.detach()[0]
    padded.requires_grad_()
    upstream = torch.randn(4, 12, generator=generator)
    out = pooling(padded, Padding(torch.tensor(counts), 30))
    (gradient,) = torch.autograd.grad(out, padded, upstream)
    for row, x in enumerate(alone):
        expected = pooling(x)
        torch.testing.assert_close(out[row], expected[0], atol=1e-5, rtol=1e-5)
        (expected_gradient,) = torch.autograd.grad(expected, x, upstream[row : row + 1])
        torch.testing.assert_close(gradient[row, : x.shape[1]], expected_gradient[0], atol=1e-5, rtol=1e-5)
        assert not gradient[row, x.shape[1] :].any()


@pytest.mark.parametrize("frames", [1, 20])
@pytest.mark.parametrize("counted", [False, True])
def test_constant_input_has_a_floored_deviation_and_finite_gradients(frames: int, counted: bool) -> None:
    x = torch.full((2, frames, 3), 0.1, requires_grad=True)
    out = StatisticsPooling(variance_floor=1e-6)(x, Padding(torch.full((2,), frames), frames) if counted else None)
    torch.testing.assert_close(out[:, 3:], torch.full((2, 3), 1e-3))
    out.sum().backward()
    assert x.grad is not None
    # Only the mean moves with the input: 1 / T a frame.
    torch.testing.assert_close(x.grad, torch.full_like(x, 1.0 / frames))


def test_gradient_is_the_numerical_one() -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(StatisticsPooling(), (x,))
    assert torch.autograd.gradcheck(StatisticsPooling(), (x, Padding(torch.tensor([3, 5]), 5)))


@pytest.mark.parametrize("padding", [None, Padding(torch.tensor([150, 200]), 200)])
def test_half_precision_is_pooled_in_float32(padding: Padding | None) -> None:
    x = (100 + torch.randn(2, 200, 4, generator=torch.Generator().manual_seed(0))).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = StatisticsPooling()(x, padding)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, StatisticsPooling()(x.float(), padding), atol=0.0, rtol=0.0)


def test_bad_input() -> None:
    pooling = StatisticsPooling()
    with pytest.raises(ShapeError, match=r"expected \[batch, frames, channels\], got \[4, 3\]"):
        pooling(torch.zeros(4, 3))
    with pytest.raises(ShapeError, match=r"got \[4, 0, 3\]"):
        pooling(torch.zeros(4, 0, 3))
    with pytest.raises(ShapeError, match=r"got \[4, 5, 3\] with the padding of 3 recordings of 5 frames"):
        pooling(torch.zeros(4, 5, 3), Padding(torch.tensor([5, 5, 5]), 5))
    with pytest.raises(ShapeError, match=r"frame counts must lie between 1 and 5, got 0"):
        Padding(torch.tensor([0, 5]), 5)
    with pytest.raises(ConfigError, match=r"variance_floor is 0.0; it must be above 0, such as 1e-10"):
        StatisticsPooling(variance_floor=0.0)
