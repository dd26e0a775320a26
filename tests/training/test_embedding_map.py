from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from xvectors.backends import all_pairs_scores
from xvectors.errors import ShapeError
from xvectors.metrics import eer
from xvectors.models import EmbeddingMap
from xvectors.training.embedding_map import fit_embedding_map


def test_by_hand() -> None:
    """Two speakers, two recordings each, apart by 2 along the first axis: a variance of 2 there and of 0 beside."""
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 4.0], [-1.0, 4.0]], dtype=np.float32)
    fitted = fit_embedding_map(x, np.array([0, 0, 1, 1]))
    assert fitted.mean.tolist() == [0.0, 2.0]
    # half of each variance, and half of their mean, which is 1: 1.5 and 0.5
    assert fitted.matrix.numpy() == pytest.approx(np.diag([1.5**-0.5, 0.5**-0.5]), abs=1e-6)
    mapped = fitted(torch.tensor([[3.0, 3.0]]))
    assert mapped.numpy() == pytest.approx(np.array([[3 * 1.5**-0.5, 0.5**-0.5]]), abs=1e-6)


def test_it_parts_speakers_better_where_a_direction_is_noise() -> None:
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(40), 10)
    noise = np.array([3.0] + [0.3] * 7)
    x = generator.standard_normal((40, 8))[speakers] + generator.standard_normal((400, 8)) * noise
    mapped = fit_embedding_map(x.astype(np.float32), speakers)(torch.from_numpy(x)).numpy()
    centered = eer(*all_pairs_scores(x - x.mean(axis=0), speakers)).eer
    assert eer(*all_pairs_scores(mapped, speakers)).eer < 0.7 * centered


def test_one_recording_a_speaker_only_centers_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        fitted = fit_embedding_map(x, np.arange(5))
    assert torch.equal(fitted.matrix, torch.eye(3))
    assert fitted.mean.numpy() == pytest.approx(x.mean(axis=0), abs=1e-6)
    assert "the embedding map only centers: every one of the 5 speakers has one recording" in caplog.text


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match="embedding row 1 holds a value that is not finite"):
        fit_embedding_map(np.array([[0.0], [np.nan]], dtype=np.float32), np.array([0, 0]))
    with pytest.raises(ShapeError, match=r"mean \[3\] and matrix \[2, 2\] do not fit"):
        EmbeddingMap(torch.zeros(3), torch.eye(2))
