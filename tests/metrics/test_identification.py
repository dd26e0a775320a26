"""Ranks and open-set rates of small galleries by hand, and of a random one by counting."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics import identification_rates, open_set_posterior

GALLERY = ["ann", "bob", "cyd"]
PROBES = ["ann", "bob", "bob", "cyd", "dan", "eve"]
SCORES = [
    [0.9, 0.1, 0.2],  # right, 0.9
    [0.5, 0.4, 0.1],  # second
    [0.1, 0.7, 0.7],  # tied: the other comes first
    [0.3, 0.2, 0.6],  # right, 0.6
    [0.8, 0.0, 0.1],  # unknown, best 0.8
    [0.1, 0.5, 0.4],  # unknown, best 0.5
]


def test_ranks_by_hand() -> None:
    result = identification_rates(SCORES, PROBES, GALLERY)
    assert result.rank.tolist() == [1, 2, 2, 1]
    assert result.accuracy == 0.5
    assert [result.rank_rate(k) for k in (1, 2, 3)] == [0.5, 1.0, 1.0]


def test_open_set_rates_by_hand() -> None:
    result = identification_rates(SCORES, PROBES, GALLERY)
    # No unknown may pass: above 0.8 only ann's probe. One of two: above 0.5 ann's and cyd's; rank 2 adds bob's 0.7.
    strict, half, wide = result.dir_at_far(0.0), result.dir_at_far(0.5), result.dir_at_far(0.5, k=2)
    assert (strict.detection_and_identification_rate, strict.false_alarm_rate) == (0.25, 0.0)
    assert (half.detection_and_identification_rate, half.false_alarm_rate) == (0.5, 0.5)
    assert wide.detection_and_identification_rate == 0.75
    assert 0.5 < half.threshold < 0.50001
    assert (half.num_enrolled_probes, half.num_unknown_probes) == (4, 2)
    assert result.dir_at_far(1.0, k=3).detection_and_identification_rate == 1.0


def test_a_large_gallery_equals_counting_probe_by_probe() -> None:
    rng = np.random.default_rng(0)
    gallery, probes = rng.permutation(50)[:40], rng.integers(0, 50, 300)
    scores = rng.normal(size=(300, 40)) + 2.0 * (probes[:, None] == gallery)
    result = identification_rates(scores, probes, gallery)
    hits = known = passing = 0
    threshold = result.dir_at_far(0.1).threshold
    for row, probe in zip(scores, probes, strict=True):
        if probe in gallery:
            known += 1
            hits += gallery[np.argmax(row)] == probe
        else:
            passing += row.max() >= threshold
    assert result.accuracy == hits / known
    assert passing == int(0.1 * (300 - known))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0]], ["a"], ["a", "b"]), ShapeError, "scores have the shape [1, 1], but there are 1 probes and 2"),
        ((np.empty((0, 1)), [], ["a"]), ManifestError, "nobody to identify: give at least one probe and one enrolled"),
        (([[np.nan]], ["a"], ["a"]), ShapeError, "the score of probe 0 against a is nan: not finite"),
        (([["x"]], ["a"], ["a"]), ShapeError, "scores are of type <U1: give real numbers"),
        (([[1.0, 2.0]], ["a"], ["a", "a"]), ManifestError, "speaker a has several columns: enroll each speaker once"),
    ],
)
def test_unusable_input_is_refused(arguments, error, message) -> None:
    with pytest.raises(error) as caught:
        identification_rates(*arguments)
    assert str(caught.value).startswith(message)


def test_rates_that_the_probes_do_not_allow_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"^no probe's speaker is enrolled: enroll speakers"):
        identification_rates([[1.0]], ["b"], ["a"]).rank_rate(1)
    closed = identification_rates([[1.0]], ["a"], ["a"])
    with pytest.raises(ManifestError, match=r"^every probe's speaker is enrolled: an open-set rate needs probes"):
        closed.dir_at_far(0.1)
    with pytest.raises(ConfigError, match=r"^k is 0: give a rank of 1"):
        closed.rank_rate(0)
    with pytest.raises(ConfigError, match=r"^the false alarm rate is 2: give a share"):
        closed.dir_at_far(2)


def test_posteriors_by_hand() -> None:
    """Two enrolled at p = 0.6: 0.3 exp(llr) each against 0.4 of nobody."""
    found = open_set_posterior(np.log([4.0, 2.0]), 0.6)
    np.testing.assert_allclose([*found.enrolled, found.nobody], np.array([1.2, 0.6, 0.4]) / 2.2, rtol=1e-12)
    assert found.threshold == pytest.approx(np.log(0.4 / 0.3))
    # five more without an LLR count as the least likely: 0.6 / 7 each
    found = open_set_posterior(np.log([4.0, 2.0]), 0.6, 7)
    joint = np.array([4, 2, 7 * 0.4 / 0.6])
    np.testing.assert_allclose([*found.enrolled, found.nobody], joint / (joint.sum() + 5 * 2), rtol=1e-12)


def test_without_evidence_the_posterior_is_the_prior() -> None:
    found = open_set_posterior(np.zeros(10), 0.7)
    np.testing.assert_allclose(found.enrolled, 0.07, rtol=1e-12)
    assert found.nobody == pytest.approx(0.3)


def test_one_enrolled_speaker_has_the_posterior_of_a_trial() -> None:
    for llr in (-900.0, -1.0, 0.2, 40.0, 900.0):
        found = open_set_posterior([llr], 0.01)
        assert found.enrolled[0] == pytest.approx(1 / (1 + np.exp(np.log(99) - llr)) if llr > -700 else 0.0)
        assert found.enrolled[0] + found.nobody == pytest.approx(1.0, abs=1e-15)


def test_a_posterior_needs_llrs() -> None:
    for llrs, count in (([], 3), ([np.nan], 1), ([0.0, 1.0], 1), ([[0.0]], 1)):
        with pytest.raises(ShapeError, match="LLRs of shape"):
            open_set_posterior(llrs, 0.5, count)
    with pytest.raises(ConfigError, match="p_target"):
        open_set_posterior([0.0], 1.0)
