from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from xvectors.training.averaging import WeightAverage, averaging_exponent


@pytest.mark.parametrize(("width", "exponent"), [(0.05, 16.97), (0.1, 6.94), (0.25, 0.72)])
def test_the_exponents_of_the_paper(width: float, exponent: float) -> None:
    """Karras et al. 2024: a relative width of 5 % is the exponent 16.97, 10 % is 6.94."""
    assert averaging_exponent(width) == pytest.approx(exponent, abs=0.01)
    g = averaging_exponent(width)
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(width, abs=1e-6)


def test_the_average_is_that_of_its_profile() -> None:
    """Weights 1 to 1000: their mean under the density proportional to t^g, which is (g + 1) / (g + 2) of the way."""
    module = nn.Linear(1, 1)
    average = WeightAverage(module, 0.1)
    for step in range(1, 1001):
        with torch.no_grad():
            module.weight.fill_(float(step))
        average.update_parameters(module)
    g = averaging_exponent(0.1)
    assert average.module.weight.item() == pytest.approx(1000 * (g + 1) / (g + 2), rel=2e-3)
    assert int(average.n_averaged) == 1000


def test_the_first_step_is_the_weights_themselves_and_counters_are_copied() -> None:
    module = nn.BatchNorm1d(2)
    average = WeightAverage(module, 0.05)
    module(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    average.update_parameters(module)
    assert torch.equal(average.module.running_mean, module.running_mean)
    assert average.module.num_batches_tracked.item() == 1
    assert not average.module.training
    assert not any(p.requires_grad for p in average.module.parameters())
