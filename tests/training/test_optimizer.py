from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xvectors.config import TrainingConfig
from xvectors.errors import ConfigError
from xvectors.training.optimizer import in_large_margin_stage, learning_rate, make_optimizer, margin_at

ONE_CYCLE = TrainingConfig(learning_rate=2.0, schedule="one_cycle", warm_up=0.25)


def test_constant_is_constant() -> None:
    training = TrainingConfig(learning_rate=5e-3)
    assert [learning_rate(training, p) for p in (0.0, 0.3, 1.0)] == [5e-3, 5e-3, 5e-3]


@pytest.mark.parametrize(
    ("progress", "rate"),
    [(0.0, 0.08), (0.125, 1.04), (0.25, 2.0), (0.625, 1.0), (1.0, 0.0)],
)
def test_one_cycle_by_hand(progress: float, rate: float) -> None:
    """From 4 % of the peak up to it at a quarter, half of it half way down, nothing at the end."""
    assert learning_rate(ONE_CYCLE, progress) == pytest.approx(rate, abs=1e-12)


def test_one_cycle_without_warm_up_starts_at_the_peak() -> None:
    assert learning_rate(dataclasses.replace(ONE_CYCLE, warm_up=0.0), 0.0) == 2.0


def test_exponential_by_hand() -> None:
    training = dataclasses.replace(ONE_CYCLE, schedule="exponential", final_share=1e-4)
    assert [learning_rate(training, p) for p in (0.0, 0.25, 0.625, 1.0)] == pytest.approx([0.08, 2.0, 0.02, 2e-4])


@pytest.mark.parametrize(
    ("name", "moved"),
    # the gradient is 1, the weight 3, the rate 0.1 and the decay 0.01: Adam steps by the rate; AdamW also decays by
    # 0.1 * 0.01 * 3; Nesterov's first step is rate * (1 + momentum) * (1 + 0.01 * 3)
    [("adam", 0.1), ("adamw", 0.103), ("sgd", 0.1 * 1.9 * 1.03)],
)
def test_first_steps_by_hand(name: str, moved: float) -> None:
    layer = nn.Linear(1, 1, bias=False)
    weight = nn.init.constant_(layer.weight, 3.0)
    training = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=1e-2)
    optimizer = make_optimizer(layer, training)
    weight.grad = torch.ones(1, 1)
    optimizer.step()
    assert weight.item() == pytest.approx(3 - moved, abs=1e-6)


def test_adam_decays_in_the_gradient() -> None:
    """With no gradient but the decay's, Adam's first step is the learning rate, whatever the decay."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 3.0)
    optimizer = make_optimizer(layer, TrainingConfig(learning_rate=0.1, weight_decay=1e-2))
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.9, abs=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_do_not_decay(name: str) -> None:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.bias, 3.0)
    training = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(layer, training)
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 1), torch.zeros(1)
    optimizer.step()
    assert layer.bias.item() == 3.0


def test_the_large_margin_stage_is_the_end_of_the_run() -> None:
    training = TrainingConfig(large_margin_share=0.25)
    assert [in_large_margin_stage(training, p) for p in (0.0, 0.74, 0.75, 1.0)] == [False, False, True, True]
    assert not in_large_margin_stage(TrainingConfig(), 1.0)


@pytest.mark.parametrize(
    ("progress", "expected"), [(-1.0, 0.0), (0.0, 0.0), (0.2, 0.0), (0.3, 0.1), (0.4, 0.2), (0.6, 0.4), (1.1, 0.4)]
)
def test_margin_ramp_by_hand(progress: float, expected: float) -> None:
    assert margin_at(progress, start=0.2, end=0.6, final=0.4) == pytest.approx(expected, abs=1e-12)


@given(
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    progress=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    final=st.floats(0, 1.5),
)
@settings(derandomize=True)
def test_margin_ramp_never_falls_or_passes_its_end(
    bounds: tuple[float, float], progress: tuple[float, float], final: float
) -> None:
    start, end = sorted(bounds)
    earlier, later = (margin_at(p, start, end, final) for p in sorted(progress))
    assert 0 <= earlier <= later <= final
    assert margin_at(1.0, start, end, final) == final


def test_margin_ramp_as_a_step_and_bad_ramps() -> None:
    assert [margin_at(p, 0.5, 0.5, 0.2) for p in (0.49, 0.5, 0.51)] == [0.0, 0.2, 0.2]
    assert margin_at(0.0, 0.0, 0.0, 0.2) == 0.2
    for start, end in ((0.6, 0.2), (-0.1, 0.5), (0.0, 1.5), (math.nan, 0.5)):
        with pytest.raises(ConfigError, match="it must be 0 <= start <= end <= 1"):
            margin_at(0.5, start, end, 0.2)
    with pytest.raises(ConfigError, match=r"the margin's final value is -0.2; it must be at least 0"):
        margin_at(0.5, 0.0, 1.0, -0.2)
