"""Cosine scores by hand, against scikit-learn's, and the shortcut against the long way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from support.tolerances import ROUNDING
from xvectors.backends import all_pairs_scores, cosine_scores, dot_products, length_normalize
from xvectors.errors import ManifestError, ShapeError
from xvectors.trials import Trials, all_pairs


def test_cosines_by_hand() -> None:
    trials = all_pairs([0, 0, 1, 1])
    scores = cosine_scores([[1, 0], [5, 0], [0, 2], [-3, 3]], trials)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(scores, [1, 0, -half, 0, -half, half], atol=1e-7)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("blocks", [(1, 1), (40, 40), (10**6, 10**6)])
def test_scores_equal_scikit_learns_whatever_the_blocks(
    blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dot_products, "GATHER_VALUES", blocks[0])
    monkeypatch.setattr(dot_products, "PRODUCT_VALUES", blocks[1])
    rng = np.random.default_rng(0)
    embeddings, speakers = rng.normal(size=(31, 8)).astype(np.float32), rng.integers(0, 5, 31)
    trials = all_pairs(speakers)
    peer = cosine_similarity(embeddings.astype(np.float64))[trials.enroll, trials.test]
    np.testing.assert_allclose(cosine_scores(embeddings, trials), peer, atol=1e-6)
    target, nontarget = all_pairs_scores(embeddings, speakers)
    np.testing.assert_allclose(target, peer[trials.target], atol=1e-6)
    np.testing.assert_allclose(nontarget, peer[~trials.target], atol=1e-6)
    assert target.dtype == nontarget.dtype == np.float32


def test_scores_stay_within_one() -> None:
    embeddings = np.repeat(np.random.default_rng(0).normal(size=(50, 192)), 4, axis=0)
    target, nontarget = all_pairs_scores(embeddings, np.repeat(np.arange(50), 4))
    assert target.max() <= 1
    assert nontarget.min() >= -1
    np.testing.assert_allclose(target, 1, atol=ROUNDING)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1.0, 1e20, 3e38])
def test_lengths_of_any_size_are_normalized(scale: float) -> None:
    unit = length_normalize(np.float32([[1, -1, 0, 1], [0.25, 0, 0, 0]]) * np.float32(scale))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit[0, :2], [3**-0.5, -(3**-0.5)], rtol=1e-4)
    assert unit.dtype == np.float32


def test_double_precision_beyond_the_range_of_single_is_normalized() -> None:
    np.testing.assert_allclose(length_normalize([[3e200, 4e200]]), [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (
            [[1, 1], [0, 0]],
            "embedding row 1 is all zeros: no direction to compare; leave it out",
        ),
        (
            [[1, np.nan], [1, 1], [0, 0]],
            "embedding row 0 holds a value that is not finite (and 1 more rows like it): "
            "no direction to compare; leave it out",
        ),
        (
            [[1, 1], [1, 1], [np.inf, 1]],
            "embedding row 2 holds a value that is not finite: no direction to compare; leave it out",
        ),
        ([1, 1], "embeddings have the shape [2]: give one row a recording, [n, D]"),
        ([[], []], "embeddings have the shape [2, 0]: give one row a recording, [n, D]"),
        ([["a"]], "embeddings are of type <U1: give real numbers"),
    ],
)
def test_unusable_embeddings_are_refused(embeddings: list[object], message: str) -> None:
    speakers = [0, 0, 1][: len(embeddings)]
    for score in (
        lambda: cosine_scores(embeddings, all_pairs([0, 0, 1])),
        lambda: all_pairs_scores(embeddings, speakers),
    ):
        with pytest.raises(ShapeError) as caught:
            score()
        assert str(caught.value) == message


def test_trials_must_name_rows_that_exist() -> None:
    for row in (-1, 2):
        trials = Trials(enroll=np.int32([0, 0]), test=np.int32([1, row]), target=np.array([True, False]))
        with pytest.raises(ShapeError) as caught:
            cosine_scores(np.eye(2), trials)
        caught.match(f"trial 1 names row {row}, .*rows 0 to 1")


def test_all_pairs_scores_needs_a_speaker_a_row_and_both_kinds_of_pairs() -> None:
    with pytest.raises(ShapeError, match=r"2 embeddings, but 3.*give one speaker a row"):
        all_pairs_scores(np.eye(2), [0, 0, 1])
    with pytest.raises(ManifestError, match=r"no target trials.*every one of the 2 speakers"):
        all_pairs_scores(np.eye(2), [0, 1])
    with pytest.raises(ManifestError, match=r"no trials.*a trial compares two recordings, and there are 0"):
        all_pairs_scores(np.empty((0, 2)), [])
