"""What each rank of a run reads, and how much of the held-out speakers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xvectors.config import load_recipe
from xvectors.training import PreparedCorpus, loaders, prepare_corpus
from xvectors.training.loaders import Loaders

RECIPE = load_recipe(
    "xvector", ["training.batch_size=14", "training.workers=0", "data.held_out_prop=0.25", "data.train_test_prop=1.0"]
)


@pytest.fixture(scope="module")
def corpus(toy_corpus: Path) -> PreparedCorpus:
    return prepare_corpus(toy_corpus, RECIPE, min_samples=1000, show_progress=False)[0]


def test_ranks_share_each_batch(corpus: PreparedCorpus) -> None:
    cpu = torch.device("cpu")
    whole = list(Loaders(RECIPE, corpus, cpu).train_batches)
    shares = [list(Loaders(RECIPE, corpus, cpu, rank=rank, num_ranks=2).train_batches) for rank in range(2)]
    assert [len(batch) for batch in shares[0]][:2] == [7, 7]
    assert [sorted(one + two) for one, two in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


def test_the_held_out_error_rate_is_of_some_recordings_of_each_speaker(
    corpus: PreparedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> np.ndarray:
        batches = Loaders(RECIPE, corpus, torch.device("cpu")).held_out.batch_sampler
        return np.array([request.row for batch in batches for request in batch])

    assert np.array_equal(rows(), corpus.held_out_rows)  # 3 speakers with 8 recordings: all of them
    monkeypatch.setattr(loaders, "HELD_OUT_EACH", 5)
    some = rows()
    assert set(some) <= set(corpus.held_out_rows)
    assert np.unique(corpus.manifest.speaker_index[some], return_counts=True)[1].tolist() == [5, 5, 5]
    assert np.array_equal(rows(), some)  # the same every epoch
    monkeypatch.setattr(loaders, "HELD_OUT_AT_MOST", 10)
    assert len(rows()) == 10
