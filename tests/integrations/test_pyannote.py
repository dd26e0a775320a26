"""The call that diarization pipelines make."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xvectors import SpeakerEncoder
from xvectors.errors import ShapeError
from xvectors.integrations.pyannote import PyannoteEmbedding

RATE = 16_000


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def embedding(encoder: SpeakerEncoder) -> PyannoteEmbedding:
    return PyannoteEmbedding(encoder)


@pytest.fixture(scope="module")
def waves() -> torch.Tensor:
    swing = torch.sin(torch.arange(2 * RATE) / RATE * torch.tensor([[20.0], [30.0], [50.0]])).exp()
    return (0.1 * swing * torch.randn(3, 2 * RATE, generator=torch.Generator().manual_seed(0))).unsqueeze(1)


def test_its_properties(encoder: SpeakerEncoder, embedding: PyannoteEmbedding) -> None:
    assert (embedding.sample_rate, embedding.dimension, embedding.metric) == (16_000, 128, "cosine")
    assert embedding.min_num_samples == encoder.fbank.samples_for(encoder.model.context_frames)
    assert embedding.to(torch.device("cpu")) is embedding
    assert encoder.device == torch.device("cpu")


def test_without_masks(encoder: SpeakerEncoder, embedding: PyannoteEmbedding, waves: torch.Tensor) -> None:
    found = embedding(waves)
    assert (found.shape, found.dtype) == ((3, 128), np.float32)
    np.testing.assert_allclose(found, encoder.encode(list(waves.squeeze(1))), atol=1e-4)


def test_masks_choose_samples(encoder: SpeakerEncoder, embedding: PyannoteEmbedding, waves: torch.Tensor) -> None:
    masks = torch.zeros(3, 4)
    masks[0, 1:3] = 1.0
    masks[1, [0, 3]] = 0.9
    masks[2] = torch.tensor([0.5, 0.2, 0.6, 0.0])
    half = RATE // 2
    wave = waves.squeeze(1)
    kept = [wave[0, half : 3 * half], torch.cat([wave[1, :half], wave[1, 3 * half :]]), wave[2, 2 * half : 3 * half]]
    np.testing.assert_allclose(embedding(waves, masks), encoder.encode(kept), atol=1e-4)
    np.testing.assert_allclose(embedding(waves, masks=masks > 0.5), encoder.encode(kept), atol=1e-4)


def test_rows_with_too_little_are_nan(
    encoder: SpeakerEncoder, embedding: PyannoteEmbedding, waves: torch.Tensor
) -> None:
    masks = torch.zeros(3, 2 * RATE)
    masks[0, : embedding.min_num_samples - 1] = 1.0
    masks[1, : embedding.min_num_samples] = 1.0
    found = embedding(waves, masks)
    assert np.isnan(found[[0, 2]]).all()
    np.testing.assert_allclose(found[1:2], encoder.encode(waves[1, 0, : embedding.min_num_samples]), atol=1e-4)
    assert np.isnan(embedding(torch.zeros(2, 1, RATE))).all()
    assert np.isnan(embedding(waves[:, :, :100])).all()


@pytest.mark.parametrize(
    ("waveforms", "masks", "message"),
    [
        (torch.zeros(2, RATE), None, r"must be \[batch, 1, samples\], mono, got \[2, 16000\]"),
        (torch.zeros(2, 2, RATE), None, r"mono, got \[2, 2, 16000\]"),
        (torch.zeros(2, 1, RATE), torch.zeros(3, 10), r"masks must be \[2, frames\], got \[3, 10\]"),
        (torch.zeros(2, 1, RATE), torch.zeros(2, 0), r"got \[2, 0\]"),
    ],
)
def test_other_shapes(
    embedding: PyannoteEmbedding, waveforms: torch.Tensor, masks: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        embedding(waveforms, masks)
