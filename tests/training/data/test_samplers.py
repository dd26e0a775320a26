"""The orders of an epoch: how often each row comes, and what stands beside it in a batch."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xvectors.errors import ConfigError
from xvectors.training.data.samplers import Balanced, SpeakersTimesUtterances, make_order


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_speaker_balance() -> None:
    """100 rows of three speakers: 33 or 34 of each, and no row of a speaker twice as often as another of his."""
    labels = np.array([0] * 80 + [1] * 15 + [2] * 5)
    order = make_order("speaker_balanced", np.arange(100), labels=labels, genders=np.zeros(100, np.int8))
    drawn = order.draw(generator())
    assert len(drawn) == len(order) == 100
    assert sorted(Counter(labels[drawn].tolist()).values()) == [33, 33, 34]
    times = Counter(drawn.tolist())
    assert {times[row] for row in range(95, 100)} <= {6, 7}
    assert {times[row] for row in range(80)} <= {0, 1}


def test_who_comes_once_more_changes() -> None:
    order = Balanced(np.arange(5), np.array([0, 0, 1, 1, 1]))
    more = {Counter((order.draw(generator(seed)) >= 2).tolist())[True] for seed in range(20)}
    assert more == {2, 3}


def test_p_x_k() -> None:
    """12 speakers of 10 rows, batches of 4 speakers x 3 rows: three different rows of each, all four different."""
    labels = np.repeat(np.arange(12), 10)
    order = make_order(
        "p_x_k",
        np.arange(120),
        labels=labels,
        genders=np.zeros(120, np.int8),
        batch_size=12,
        utterances_per_speaker=3,
    )
    drawn = order.draw(generator())
    assert len(drawn) == len(order) == 12 * 4 * 3
    assert set(drawn.tolist()) == set(range(120))
    for batch in drawn.reshape(-1, 4, 3):
        assert len({labels[row] for row in batch.flatten()}) == 4
        for rows in batch:
            assert len({labels[row] for row in rows}) == 1
    assert not np.array_equal(drawn, order.draw(generator(1)))
    assert np.array_equal(drawn, order.draw(generator()))


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=5, max_size=12), seed=st.integers(0, 100))
def test_p_x_k_of_any_sizes(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = SpeakersTimesUtterances(np.arange(len(labels)), labels, per_batch=4, per_speaker=2)
    drawn = order.draw(generator(seed))
    assert len(drawn) == len(order) == sum(-(-n // 2) * 2 for n in sizes)
    assert set(drawn.tolist()) == set(range(len(labels)))
    # while all speakers still have rows, no batch holds one twice
    complete = min(-(-n // 2) for n in sizes) * len(sizes) // 4
    for batch in drawn[: complete * 8].reshape(-1, 4, 2):
        assert len(set(labels[batch[:, 0]].tolist())) == 4


def test_an_unknown_sampler() -> None:
    with pytest.raises(ConfigError, match=r"unknown sampler 'pxk'; did you mean 'p_x_k'\?"):
        make_order("pxk", np.arange(2), labels=np.arange(2), genders=np.zeros(2, np.int8))


@pytest.mark.parametrize(
    ("genders", "there"),
    [([-1, -1, -1], "none whose gender is known"), ([1, -1, 1], "only those of female speakers")],
)
def test_genders_to_balance_must_be_known(genders: list[int], there: str) -> None:
    message = (
        "the sampler 'gender_balanced' (data.sampler) needs training recordings of both genders, and there are "
        f"{there}; give the corpus a column `gender` (m or f), or choose another sampler"
    )
    known = np.array([*genders, 0], np.int8)  # the last one does not train
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make_order("gender_balanced", np.arange(3), labels=np.arange(4), genders=known)


def test_a_batch_that_k_does_not_divide() -> None:
    with pytest.raises(
        ConfigError,
        match=r"training.batch_size = 10 is no multiple of data.utterances_per_speaker = 3; change one of them",
    ):
        make_order(
            "p_x_k",
            np.arange(9),
            labels=np.arange(9),
            genders=np.zeros(9, np.int8),
            batch_size=10,
            utterances_per_speaker=3,
        )
