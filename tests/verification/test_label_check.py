from __future__ import annotations

import numpy as np
import pytest

from xvectors.errors import ShapeError
from xvectors.verification.label_check import find_two_voices


def people(count: int, each: int, *, spread: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of `each` recordings of people around a mean that all share, and whose they are."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((count, 32))
    rows = np.repeat(centers, each, axis=0) + spread * rng.standard_normal((count * each, 32)) + 3.0
    return rows, np.repeat(np.arange(count), each)


def test_two_people_under_one_name_are_found() -> None:
    rows, whose = people(12, 10)
    names = np.array([f"s{n:02d}" for n in whose])
    assert find_two_voices(rows, names) == []
    names[whose == 11] = "s03"  # ten recordings of s11 go by the name s03 ...
    kept = np.flatnonzero((whose != 3) | (np.arange(len(whose)) % 10 < 6))  # ... who has six of its own
    (found,) = find_two_voices(rows[kept], names[kept])
    assert found.speaker == "s03"
    names = [f"r{n}" for n in range(len(kept))]
    assert found.sentence(names) == (
        "speaker 's03': 10 and 6 of its recordings sound like two people, such as "
        f"r{found.rows[0][0]} and r{found.rows[1][0]}"
    )
    assert set(whose[kept][found.rows[0]]) == {11}
    assert set(whose[kept][found.rows[1]]) == {3}
    assert len(found.rows[1]) == 6
    assert abs(found.between) < 0.2
    assert min(found.within) > 0.9


def test_more_recordings_than_are_looked_at() -> None:
    rows, whose = people(5, 120)
    names = np.where(whose == 4, 0, whose)
    (found,) = find_two_voices(rows, names)
    assert found.speaker == "0"
    assert sum(map(len, found.rows)) == 50


def test_a_voice_that_drifts_is_one() -> None:
    """Recordings on a line from one end of a speaker's spread to the other: near neighbors, far ends, no gap."""
    rng = np.random.default_rng(0)
    rows, whose = people(10, 12)
    drift = np.linspace(-1, 1, 12)[:, None] * rng.standard_normal(32)
    rows[whose == 2] = rng.standard_normal(32) + 3.0 + 0.7 * drift
    assert find_two_voices(rows, whose) == []


@pytest.mark.parametrize("each", [2, 5])
def test_too_few_recordings_or_speakers_are_not_judged(each: int) -> None:
    rows, whose = people(8, each)
    assert find_two_voices(rows, whose // 2 if each == 2 else whose) == []
    assert find_two_voices(rows[: 2 * each], whose[: 2 * each]) == []
    assert find_two_voices(np.empty((0, 4)), []) == []


def test_embeddings_that_tell_nobody_apart_accuse_nobody() -> None:
    noise = np.random.default_rng(0).standard_normal((200, 16))
    assert find_two_voices(noise, np.repeat(np.arange(10), 20)) == []
    assert find_two_voices(np.ones((40, 8)), np.repeat(np.arange(4), 10)) == []


def test_what_is_no_embedding_is_refused() -> None:
    with pytest.raises(ShapeError, match="one row a recording"):
        find_two_voices(np.zeros(3), ["a", "b", "c"])
    rows, whose = people(4, 6)
    rows[5, 3] = np.nan
    with pytest.raises(ShapeError, match="embedding row 5 holds a value that is not finite"):
        find_two_voices(rows, whose)
