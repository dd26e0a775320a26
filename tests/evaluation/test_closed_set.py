"""Rank rates with one recording of each speaker enrolled, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.backends import make_backend
from xvectors.evaluation import closed_set
from xvectors.evaluation.closed_set import rank_figures

# speakers 0, 1, 2 at 0, 60 and 120 degrees; speaker 0's second recording lies nearest to 1, its third to itself
DEGREES = np.array([0.0, 60.0, 120.0, 50.0, 20.0, 70.0])
EMBEDDINGS = np.stack([np.cos(np.radians(DEGREES)), np.sin(np.radians(DEGREES))], axis=1).astype(np.float32)
SPEAKERS = np.array([0, 1, 2, 0, 0, 1])


def test_ranks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    cosine = make_backend("cosine")
    monkeypatch.setattr(closed_set, "RANKS", (1, 2, 5))
    found = rank_figures(cosine, EMBEDDINGS, SPEAKERS)
    assert list(found) == ["rank_1", "rank_2"]  # there are three speakers
    assert found["rank_1"].value == pytest.approx(2 / 3)
    assert found["rank_2"].value == 1.0
    assert found["rank_1"].name == "identification, rank 1"
    assert found["rank_1"].note == "of 3 speakers, the first recording of each enrolled; 3 others looked for"
    assert rank_figures(cosine, EMBEDDINGS[:3], SPEAKERS[:3]) == {}
    monkeypatch.setattr(closed_set, "MOST_SCORES", 6)
    assert rank_figures(cosine, EMBEDDINGS, SPEAKERS)["rank_1"].note.endswith("; 2 of 3 others looked for")
