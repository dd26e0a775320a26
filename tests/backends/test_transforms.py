"""Transforms against numpy's covariances and scikit-learn's estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from xvectors.backends import LDA, WCCN, Center, LengthNorm, Whiten, statistics
from xvectors.backends.statistics import speaker_statistics, total_statistics, whitener
from xvectors.errors import ConfigError, ManifestError, ShapeError, XVectorsError

ALL = [Center, Whiten, WCCN, LDA, LengthNorm]


def within(x: Any, speakers: Any) -> Any:
    """Pooled covariance within speakers, by a loop."""
    squares = sum(np.cov(x[speakers == s].T, bias=True) * np.sum(speakers == s) for s in np.unique(speakers))
    return squares / (len(x) - len(np.unique(speakers)))


@pytest.fixture
def data(simulator: Any) -> tuple[Any, Any]:
    return simulator.draw(np.random.default_rng(0).integers(1, 8, 40), seed=11)


def test_centering_by_hand() -> None:
    center = Center().fit([[1, 2], [3, 6]], [0, 1])
    np.testing.assert_array_equal(center.mean_, [2, 4])
    np.testing.assert_array_equal(center.transform([[2, 5]]), [[0, 1]])


def test_length_normalization_by_hand() -> None:
    np.testing.assert_allclose(LengthNorm().fit([[1, 1]], [0]).transform([[3, -4]]), [[0.6, -0.8]], rtol=1e-6)


def test_whitening_gives_the_identity(data: tuple[Any, Any]) -> None:
    x, speakers = data
    white = Whiten(shrinkage=0.0).fit(x, speakers).transform(x)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=1e-4)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-5)


def test_wccn_gives_the_identity_within_speakers(data: tuple[Any, Any]) -> None:
    x, speakers = data
    normalized = WCCN(shrinkage=0.0).fit(x, speakers).transform(x)
    np.testing.assert_allclose(within(normalized, speakers), np.eye(6), atol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.25, 1.0])
def test_shrinkage_draws_towards_a_sphere(data: tuple[Any, Any], shrinkage: float) -> None:
    x, speakers = data
    covariance = within(x.astype(float), speakers)
    target = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 6 * np.eye(6)
    projection = WCCN(shrinkage=shrinkage).fit(x, speakers).projection_
    np.testing.assert_allclose(projection.T @ target @ projection, np.eye(6), atol=1e-5)


@pytest.mark.parametrize("n", [4, 30, 1000])
def test_the_estimated_shrinkage_is_ledoit_and_wolfs(simulator: Any, n: int) -> None:
    x, _ = simulator.draw(np.full(n, 1), seed=n)
    _, covariance = total_statistics(x)
    np.testing.assert_allclose(covariance.shrunk(None), LedoitWolf().fit(x.astype(float)).covariance_, rtol=1e-4)


@pytest.mark.parametrize("dim", [None, 3])
def test_lda_is_scikit_learns(simulator: Any, dim: int | None) -> None:
    x, speakers = simulator.draw(np.random.default_rng(0).integers(2, 8, 40), seed=11)
    peer = LinearDiscriminantAnalysis(solver="eigen", n_components=dim).fit(x.astype(float), speakers)
    theirs = peer.transform(x.astype(float))
    ours = LDA(dim=dim, shrinkage=0.0).fit(x, speakers).transform(x)
    assert ours.shape == (len(x), dim or 6)
    # theirs divides the covariance within speakers by n, ours by n - S; the sign of a direction is free
    theirs = theirs[:, : ours.shape[1]] * np.sqrt((len(x) - 40) / len(x))
    theirs = theirs - theirs.mean(axis=0)
    np.testing.assert_allclose(ours * np.sign((ours * theirs).sum(axis=0)), theirs, atol=2e-4)


def test_lda_keeps_as_many_directions_as_there_are(simulator: Any) -> None:
    x, speakers = simulator.draw(np.full(4, 10), seed=1)
    assert LDA().fit(x, speakers).transform(x).shape == (40, 3)
    for dim in (0, 4):
        with pytest.raises(ConfigError) as caught:
            LDA(dim=dim).fit(x, speakers)
        caught.match(f"LDA to {dim} dimensions: .*1 to 3; set dim within that, or give more speakers")


def test_more_dimensions_than_recordings_are_shrunk_to_something_usable() -> None:
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(5), 4)
    x = rng.normal(size=(20, 50)) + 2 * rng.normal(size=(5, 50))[speakers]
    for transform in (Whiten(), WCCN(), LDA()):
        assert np.isfinite(transform.fit(x, speakers).transform(x)).all()
    for transform in (Whiten(shrinkage=0.0), WCCN(shrinkage=0.0), LDA(shrinkage=0.0)):
        with pytest.raises(ManifestError, match=r"50 dimensions is singular.*LDA first, or set shrinkage above 0"):
            transform.fit(x, speakers)


def test_statistics_do_not_depend_on_blocks_or_order(data: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x, speakers = data
    names = np.array([f"speaker {s:02d}" for s in speakers])
    monkeypatch.setattr(statistics, "BLOCK_ROWS", 7)
    found = speaker_statistics(x[::-1], names[::-1])
    np.testing.assert_array_equal(found.counts, np.bincount(speakers))
    np.testing.assert_allclose(found.means, [x[speakers == s].mean(axis=0) for s in range(40)], rtol=1e-5)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.within.matrix, within(x.astype(float), speakers), rtol=1e-5)


def test_a_large_mean_costs_no_digits(data: tuple[Any, Any]) -> None:
    x, speakers = data[0].astype(float), data[1]
    far = speaker_statistics(x + 1e6, speakers).within.matrix
    np.testing.assert_allclose(far, within(x, speakers), rtol=1e-8)


def test_the_whitener_is_triangular_and_exact() -> None:
    covariance = np.array([[4.0, 2.0], [2.0, 5.0]])
    np.testing.assert_allclose(whitener(covariance), [[0.5, -0.25], [0, 0.5]])


@pytest.mark.parametrize("kind", ALL)
def test_unusable_embeddings_are_refused(kind: Any, data: tuple[Any, Any]) -> None:
    x, speakers = data
    bad = x.copy()
    bad[3, 2] = np.nan
    finite = r"^embedding row 3 holds a value that is not finite"
    with pytest.raises(ShapeError, match=finite):
        kind().fit(bad, speakers).transform(bad)
    fitted = kind().fit(x, speakers)
    with pytest.raises(ShapeError, match=finite):
        fitted.transform(bad)
    if kind is not LengthNorm:
        with pytest.raises(ShapeError) as caught:
            fitted.transform(x[:, :4])
        caught.match(f"4 dimensions, but this {kind.__name__} was fitted on 6: use embeddings of the same network")
        with pytest.raises(ConfigError) as unfitted:
            kind().transform(x)
        unfitted.match(rf"this {kind.__name__} is not fitted: call fit\(embeddings, speakers\)")


@pytest.mark.parametrize("kind", [WCCN, LDA])
@pytest.mark.parametrize(
    ("speakers", "error", "message"),
    [
        ([0, 0, 0], ManifestError, r"^all 3 embeddings are of one speaker: .*; add recordings of other speakers$"),
        ([0, 1, 2], ManifestError, r"^every one of the 3 speakers has one recording: .*; add second recordings, or "),
        ([0, 1], ShapeError, r"^3 embeddings, but 2 speakers: give one speaker a row$"),
    ],
)
def test_speakers_that_teach_nothing_are_refused(
    kind: Any, speakers: list[int], error: type[XVectorsError], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind().fit(np.eye(3), speakers)


def test_impossible_settings_and_too_few_embeddings_are_refused() -> None:
    for shrinkage in (-0.1, 1.1, np.nan):
        with pytest.raises(ConfigError, match=r": give a share from 0 to 1, or None to have it estimated$"):
            Whiten(shrinkage=shrinkage).fit(np.eye(3), [0, 1, 2])
    with pytest.raises(ManifestError, match=r"a covariance needs at least two embeddings, and there are 1.*give more"):
        Whiten().fit(np.ones((1, 3)), [0])


def test_parameters_are_shown() -> None:
    assert repr(LDA(dim=3)) == "LDA(dim=3, shrinkage=None)"
    assert repr(LengthNorm()) == "LengthNorm()"
