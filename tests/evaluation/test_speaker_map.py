"""The layout of embeddings in the plane: neighborhoods, few and equal points, an even selection of many recordings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from xvectors.errors import ConfigError, ShapeError
from xvectors.evaluation import speaker_map
from xvectors.evaluation.speaker_map import clip_perplexity, map_speakers, tsne


def clusters(speakers: int, utterances: int, dim: int = 32) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Gaussian speakers, not hard to tell apart."""
    rng = np.random.default_rng(0)
    index = np.repeat(np.arange(speakers), utterances)
    centers = rng.normal(size=(speakers, dim))
    return (centers[index] + 0.5 * rng.normal(size=(len(index), dim))).astype(np.float32), index


@pytest.mark.parametrize(("n", "expected"), [(7, 2.0), (31, 10.0), (90, 89 / 3), (91, 30.0), (5000, 30.0)])
def test_perplexity_is_clipped_to_a_third_of_the_others(n: int, expected: float) -> None:
    assert clip_perplexity(30.0, n) == pytest.approx(expected)
    assert clip_perplexity(1.5, n) == 1.5


def test_tsne_keeps_speakers_together_and_repeats_itself() -> None:
    embeddings, speaker = clusters(6, 8)
    points = tsne(embeddings)
    assert points.shape == (48, 2)
    assert points.dtype == np.float32
    distances = np.linalg.norm(points[:, None] - points, axis=2) + np.diag(np.full(48, np.inf))
    np.testing.assert_array_equal(speaker[distances.argmin(axis=1)], speaker)
    np.testing.assert_array_equal(tsne(embeddings), points)


def test_tsne_looks_at_directions_only() -> None:
    embeddings, _ = clusters(3, 4)
    lengths = 2.0 ** np.arange(12)[:, None]
    np.testing.assert_array_equal(tsne(embeddings * lengths.astype(np.float32)), tsne(embeddings))


@pytest.mark.parametrize("dim", [1, 2, 64])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 8])
def test_tsne_of_few_points_of_few_dimensions_is_finite(n: int, dim: int) -> None:
    points = tsne(np.random.default_rng(0).normal(size=(n, dim)))
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()


def test_few_points_keep_their_distances() -> None:
    unit = np.eye(3)
    points = tsne(unit)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.testing.assert_allclose(distances[~np.eye(3, dtype=bool)], math.sqrt(2), rtol=1e-5)


def test_equal_embeddings_fall_on_one_place() -> None:
    np.testing.assert_allclose(np.ptp(tsne(np.full((30, 8), 0.3)), axis=0), 0, atol=1e-6)


def test_tsne_refuses_what_it_cannot_lay_out() -> None:
    with pytest.raises(ConfigError, match=r"^perplexity is 0: give a number above 0, usually 5 to 50$"):
        tsne(np.eye(3), perplexity=0)
    with pytest.raises(ShapeError, match=r"^no embeddings: there is nothing to lay out$"):
        tsne(np.empty((0, 4)))
    with pytest.raises(ShapeError, match=r"^embedding row 1 is all zeros"):
        tsne([[1.0, 0.0], [0.0, 0.0]])


def test_a_map_holds_every_recording_with_a_direction() -> None:
    embeddings, speaker = clusters(3, 4)
    embeddings[5] = 0.0
    embeddings[7, 0] = np.nan
    names = [f"s{number}" for number in speaker]
    found = map_speakers(embeddings, names, speaker % 2)
    assert found is not None
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 6, 8, 9, 10, 11]
    assert [found.speakers[at] for at in found.speaker_index] == [names[row] for row in found.rows]
    assert found.gender.tolist() == (speaker % 2)[found.rows].tolist()
    assert (found.tsne.shape, found.principal.shape, found.num_recordings) == ((10, 2), (10, 2), 12)
    assert map_speakers(embeddings[4:8], names[4:8], speaker[4:8]) is None  # two of four have a direction


def test_many_recordings_are_mapped_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, speaker = clusters(12, 6)
    monkeypatch.setattr(speaker_map, "MAX_POINTS", 36)
    found = map_speakers(embeddings, [f"s{number:02d}" for number in speaker], np.zeros(72))
    assert found is not None
    assert np.bincount(found.speaker_index).tolist() == [3] * 12
    assert found.num_recordings == 72
