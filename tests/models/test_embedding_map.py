from __future__ import annotations

import numpy as np
import pytest
import torch

from xvectors.errors import ShapeError
from xvectors.models import EmbeddingMap


def made(num_speakers: int = 40, each: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings whose scatter within speakers is 100, 1 and 0.01 along the axes, around a mean far from 0."""
    generator = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), each)
    within = generator.standard_normal((len(speakers), 3)) * np.array([10.0, 1.0, 0.1])
    return 50 + 5 * generator.standard_normal((num_speakers, 3))[speakers] + within, speakers


def test_without_shrinkage_the_scatter_becomes_even() -> None:
    x, speakers = made()
    mapped = EmbeddingMap.fit(x, speakers, shrinkage=0.0)(torch.from_numpy(x)).numpy().astype(np.float64)
    assert np.abs(mapped.mean(axis=0)).max() < 1e-4
    scatter = mapped - np.stack([mapped[speakers == s].mean(axis=0) for s in range(40)])[speakers]
    covariance = scatter.T @ scatter / (len(x) - 40)
    mean_variance = np.mean([100.0, 1.0, 0.01])
    assert covariance == pytest.approx(mean_variance * np.eye(3), abs=0.12 * mean_variance)


def test_by_hand() -> None:
    """Two speakers, two recordings each, apart by 2 along the first axis: a variance of 2 there and of 0 beside."""
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 4.0], [-1.0, 4.0]])
    fitted = EmbeddingMap.fit(x, [0, 0, 1, 1], shrinkage=0.5)
    assert fitted.mean.tolist() == [0.0, 2.0]
    # over the mean variance 1, half of it replaced: 0.5 * 2 + 0.5 and 0.5 * 0 + 0.5
    assert fitted.matrix.numpy() == pytest.approx(np.diag([1.5**-0.5, 0.5**-0.5]), abs=1e-6)


def test_all_shrunk_it_only_centres() -> None:
    x, speakers = made()
    fitted = EmbeddingMap.fit(x, speakers, shrinkage=1.0)
    assert fitted.matrix.numpy() == pytest.approx(np.eye(3), abs=1e-6)
    assert fitted.mean.numpy() == pytest.approx(x.mean(axis=0), abs=1e-4)


def test_speakers_of_one_recording_only_centre() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    assert torch.equal(EmbeddingMap.fit(x, range(5)).matrix, torch.eye(3))


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match=r"expected finite embeddings \[n, dim\] and as many speakers, got \[2, 3\]"):
        EmbeddingMap.fit(np.full((2, 3), np.nan), [0, 1])
    with pytest.raises(ShapeError, match=r"and \[3\]"):
        EmbeddingMap.fit(np.zeros((2, 3)), [0, 1, 1])
    with pytest.raises(ShapeError, match=r"mean \[3\] and matrix \[2, 2\] do not belong"):
        EmbeddingMap(torch.zeros(3), torch.eye(2))
