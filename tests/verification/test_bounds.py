"""Bounds of LLRs: pairs of speakers and disjoint pairs of recordings, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xvectors.verification.bounds import llr_bounds


def test_ten_speakers_cannot_say_ten_thousand_times() -> None:
    low, high = llr_bounds(np.repeat(np.arange(10), 5))
    assert high == pytest.approx(math.log(1 + 45))  # 10 * 9 / 2 pairs of speakers
    assert low == pytest.approx(-math.log(1 + 20))  # two disjoint pairs of each speaker's five recordings
    assert high < math.log(10_000)


def test_speakers_of_two_domains_are_not_paired() -> None:
    low, high = llr_bounds(np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    assert (low, high) == pytest.approx((-math.log(1 + 4), math.log(1 + 2)))


def test_the_least_is_a_factor_of_two() -> None:
    assert llr_bounds(np.array([0, 1])) == pytest.approx((-math.log(2), math.log(2)))
