"""The exported form of the features, beside the module whose work it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from xvectors.export.graph import GraphFbank
from xvectors.features import Fbank


def voices(samples: int, rate_hz: int) -> torch.Tensor:
    """Two buzzes [2, samples] over a hum and an offset, the second with silence at its end."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(samples) / rate_hz
    waves = [torch.sign(torch.sin(6.28 * f * time + torch.sin(12 * time))) for f in (110.0, 205.0)]
    waves = [0.1 * wave + 0.01 * torch.randn(samples, generator=generator) + 0.05 for wave in waves]
    waves[1][samples * 3 // 4 :] = 0.0
    return torch.stack(waves)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_mels": 80, "mean_normalization": True},
        {"num_mels": 80, "normalize_level": True},
        {"num_mels": 80, "sample_scale": 32768.0},
        {"snip_edges": False, "num_mels": 40},
        {"window": "hamming", "remove_dc": False, "preemphasis": 0.0},
        {"window": "rectangular", "use_power": False},
        {"sample_rate_hz": 8000, "window": "hanning", "high_frequency_hz": -200.0},
        {"sample_rate_hz": 22050, "num_mels": 40},  # frames of 551 samples, an odd number, every 220
        {"sample_rate_hz": 11025, "snip_edges": False, "frame_length_ms": 30.0},
    ],
)
def test_the_graphs_features_are_those_of_fbank(settings: dict[str, Any]) -> None:
    fbank = Fbank(**settings)
    waves = voices(round(0.7 * fbank.sample_rate_hz) + 3, fbank.sample_rate_hz)
    expected, graph = fbank(waves), GraphFbank(fbank)(waves)
    assert graph.shape == expected.shape
    torch.testing.assert_close(graph, expected, atol=2e-3, rtol=0)
    assert (graph - expected).abs().mean() < 2e-5
    assert expected.std() > 0.5  # the comparison could fail


def test_bins_without_a_filter_are_left_out() -> None:
    graph = GraphFbank(Fbank(num_mels=24))
    assert graph.cosines.shape == graph.sines.shape == (200, 255)  # of 257: neither 0 Hz nor the Nyquist frequency
    assert graph.filters.shape == (255, 24)
