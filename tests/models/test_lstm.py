"""The LSTM over windows: which windows a recording has, and that silence after its end is read but begins none."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from support.tolerances import BATCHED
from xvectors.export.graph import WaveformGraph
from xvectors.export.onnx_file import build_onnx
from xvectors.features import Fbank
from xvectors.features.toolkits import RESEMBLYZER
from xvectors.models.lstm import GE2ELSTM


def starts(samples: int) -> list[int]:
    """First frames of the windows of 1.6 s, 1.3 a second, as Resemblyzer counts them in samples."""
    frames = math.ceil((samples + 1) / 160)
    found = list(range(0, max(1, frames - 160 + 77 + 1), 77))
    return found[:-1] if len(found) > 1 and samples - 160 * found[-1] < 0.75 * 25_600 else found


def small(**settings: int) -> GE2ELSTM:
    torch.manual_seed(0)
    return GE2ELSTM(num_speakers=3, embedding_dim=12, input_dim=5, width=16, depth=2, **settings).eval()


def by_hand(model: GE2ELSTM, x: Tensor, first: list[int]) -> Tensor:
    """Windows of features [frames, bands] one after the other."""
    vectors = []
    for start in first:
        window = torch.zeros(160, x.shape[1])
        window[: len(x[start : start + 160])] = x[start : start + 160]
        hidden = model.linear(model.lstm(window)[0][-1]).clamp(min=0)
        vectors.append(hidden / hidden.norm())
    mean = torch.stack(vectors).mean(dim=0)
    return mean / mean.norm()


@pytest.mark.parametrize("samples", [1, 25_599, 25_600, 31_519, 31_520, 31_679, 43_839, 43_840, 56_160, 100_000])
@pytest.mark.parametrize("tail", [0, 2])
def test_windows_are_those_of_resemblyzer(samples: int, tail: int) -> None:
    frames, model = samples // 160 + 1, small(tail_frames=tail)
    x = 1.0 + torch.rand(frames + tail, 5, generator=torch.Generator().manual_seed(samples))
    expected = by_hand(model, x, starts(samples))
    with torch.inference_mode():
        torch.testing.assert_close(model.embed(x[None])[0], expected, atol=1e-6, rtol=1e-5)
        batch = torch.full((3, len(x) + 300, 5), float("nan"))
        batch[:, : len(x)] = x
        together = model.embed(batch, torch.tensor([len(x)] * 3))
    torch.testing.assert_close(together, expected.expand(3, -1), atol=1e-6, rtol=1e-5)


def test_embeddings_have_length_1_and_no_negative_values() -> None:
    with torch.inference_mode():
        embeddings = small().embed(torch.rand(4, 700, 5))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    assert embeddings.min() >= 0


@pytest.mark.slow
def test_exported_from_the_waveform() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    features = replace(RESEMBLYZER, num_mels=5)
    fbank, model = Fbank(**asdict(features)), small(tail_frames=2)
    graph = build_onnx(WaveformGraph(fbank, model).eval(), fbank.samples_for(model.context_frames), 16_000)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for batch, samples in ((1, 300), (3, 25_600), (2, 100_001)):
        time = torch.arange(samples) / 16_000
        waves = torch.stack([torch.sin(6.28 * (200 + 90 * row) * time) for row in range(batch)])
        expected = model.embed(fbank(waves)).detach()
        found = torch.from_numpy(session.run(None, {"waveform": waves.numpy()})[0])
        torch.testing.assert_close(found, expected, atol=BATCHED, rtol=0.0)


def test_it_learns() -> None:
    """Two speakers that differ in a band, by an angular softmax as in training."""
    model = small().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.rand(8, 170, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 2
    x[labels == 1, :, 2] += 2.0
    for _ in range(30):
        loss = functional.cross_entropy(20 * model(x)[:, :2], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
