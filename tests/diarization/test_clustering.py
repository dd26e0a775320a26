"""VBx, average linkage and spectral clustering: by hand, against every path, and on drawn speakers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from xvectors.backends import PLDA
from xvectors.diarization.clustering.ahc import SpeakerRange, average_linkage, by_first
from xvectors.diarization.clustering.spectral import spectral_clustering
from xvectors.diarization.clustering.vbx import soft_assignment, vbx
from xvectors.errors import ConfigError, ShapeError


def drawn(speakers: int, each: int, seed: int = 0, dim: int = 8, psi: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [n, d] within which speakers spread by 1 and between which by psi, in runs of 5, and speakers [n]."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.tile(np.arange(speakers), each // 5), 5)
    return rng.normal(0, np.sqrt(psi), (speakers, dim))[truth] + rng.normal(size=(len(truth), dim)), truth


def test_one_iteration_by_hand() -> None:
    """Of 1 and -1, with one speaker each: variances 1 / 2, means 1 / 2 and -1 / 2, and the logistic function of 1."""
    found = vbx([[1.0], [-1.0]], [1.0], np.eye(2), loop_probability=0.0, fa=1.0, fb=1.0, iterations=1)
    share = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(found.posterior, [[share, 1 - share], [1 - share, share]])
    np.testing.assert_allclose(found.priors, [0.5, 0.5])
    each = np.log(0.5 * (np.exp(0.125) + np.exp(-0.875))) - 0.5 * (1 + np.log(2 * np.pi))
    assert found.evidence == pytest.approx((2 * each + np.log(0.5) - 0.5 - 0.25 + 1,))


def test_the_chain_equals_the_sum_over_every_path() -> None:
    rng = np.random.default_rng(3)
    x, phi, loop = rng.normal(size=(6, 2)), np.array([2.0, 0.5]), 0.7
    start = rng.dirichlet(np.ones(3), 6)
    found = vbx(x, phi, start, loop_probability=loop, fa=0.8, fb=2.0, iterations=1)
    variance = 1 / (1 + 0.4 * start.sum(axis=0)[:, None] * phi)
    mean = 0.4 * variance * (start.T @ (x * np.sqrt(phi)))
    constant = -0.5 * (np.square(x).sum(axis=1, keepdims=True) + 2 * np.log(2 * np.pi))
    logs = 0.8 * ((x * np.sqrt(phi)) @ mean.T - 0.5 * (variance + mean**2) @ phi + constant)
    change = loop * np.eye(3) + (1 - loop) / 3
    total, posterior = 0.0, np.zeros((6, 3))
    for path in itertools.product(range(3), repeat=6):
        steps = np.prod([change[a, b] for a, b in itertools.pairwise(path)])
        joint = np.exp(sum(logs[at, to] for at, to in enumerate(path))) * steps / 3
        total += joint
        posterior[np.arange(6), path] += joint
    np.testing.assert_allclose(found.posterior, posterior / total)
    speakers = 0.5 * 2.0 * (np.log(variance) - variance - mean**2 + 1).sum()
    assert found.evidence[0] == pytest.approx(np.log(total) + speakers)


@pytest.mark.parametrize("loop", [0.0, 0.9])
@pytest.mark.parametrize("speakers", [1, 2, 6])
def test_vbx_finds_how_many_speakers_there_are(speakers: int, loop: float) -> None:
    """Starting from twice as many clusters as there are speakers; the evidence never falls."""
    x, truth = drawn(speakers, 30)
    parts = 2 * truth + (np.arange(len(truth)) % 3 == 0)
    found = vbx(x, np.full(8, 40.0), soft_assignment(parts), loop_probability=loop, fa=0.5, fb=10.0)
    labels = found.posterior.argmax(axis=1)
    np.testing.assert_array_equal(by_first(labels), truth)
    assert (found.priors > 1e-3).sum() == speakers
    assert np.all(np.diff(found.evidence) > -1e-6)


def test_the_diagonal_of_plda_is_what_vbx_takes() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    plda = PLDA.from_covariances(
        np.ones(4), within=mixing @ mixing.T, between=mixing @ np.diag([9, 4, 2, 0.5]) @ mixing.T
    )
    rows, psi = plda.diagonal(rng.multivariate_normal(np.ones(4), mixing @ mixing.T, 20_000))
    np.testing.assert_allclose(psi, [9, 4, 2, 0.5])
    np.testing.assert_allclose(np.cov(rows.T), np.eye(4), atol=0.05)


def test_vbx_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ShapeError, match=r"features \[2, 1\], variances \[2\]"):
        vbx([[1.0], [2.0]], [1.0, 2.0], np.eye(2))
    with pytest.raises(ShapeError, match="not finite"):
        vbx([[np.nan]], [1.0], [[1.0]])
    with pytest.raises(ConfigError, match="loop_probability 1"):
        vbx([[1.0]], [1.0], [[1.0]], loop_probability=1.0)


def test_average_linkage_by_hand() -> None:
    """0 and 1 join at 3, 2 and 3 at 2; the mean of the four similarities between the pairs is -1."""
    similarity = np.array([[9, 3, 0, -2], [3, 9, -1, -1], [0, -1, 9, 2], [-2, -1, 2, 9.0]])
    for threshold, labels in ((2.5, [0, 0, 1, 2]), (0.0, [0, 0, 1, 1]), (-0.9, [0, 0, 1, 1]), (-1.1, [0, 0, 0, 0])):
        assert average_linkage(similarity, threshold).tolist() == labels
    assert average_linkage(similarity, 0.0, SpeakerRange(3, 9)).tolist() == [0, 0, 1, 2]
    assert average_linkage(similarity, 0.0, SpeakerRange(1, 1)).tolist() == [0, 0, 0, 0]
    assert average_linkage(similarity[:1, :1], 0.0).tolist() == [0]
    assert average_linkage(np.zeros((0, 0)), 0.0).tolist() == []
    with pytest.raises(ShapeError, match=r"\[2, 3\]"):
        average_linkage(np.zeros((2, 3)), 0.0)


def test_speaker_ranges_are_parsed() -> None:
    assert SpeakerRange.of("2..6") == (2, 6)
    assert SpeakerRange.of("3") == SpeakerRange.of(3) == (3, 3)
    assert SpeakerRange.of(None).least == 1
    for wrong in ("6..2", "0", "two", "2..", "-1"):
        with pytest.raises(ConfigError, match="speakers"):
            SpeakerRange.of(wrong)


@pytest.mark.parametrize("speakers", [2, 3, 7])
def test_spectral_clustering_finds_the_speakers(speakers: int) -> None:
    x, truth = drawn(speakers, 40)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.testing.assert_array_equal(spectral_clustering(similarity), truth)
    forced = spectral_clustering(similarity, SpeakerRange(speakers, speakers))
    np.testing.assert_array_equal(forced, truth)
    assert spectral_clustering(similarity, SpeakerRange(1, 1)).tolist() == [0] * len(truth)
    assert len(set(spectral_clustering(similarity, SpeakerRange(speakers + 2, 12)).tolist())) >= speakers + 2
