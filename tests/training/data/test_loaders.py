"""What each rank of a run reads, what is kept decoded, and how much of the held-out speakers is scored."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from xvectors import audio
from xvectors.config import load_recipe
from xvectors.training import PreparedCorpus, prepare_corpus
from xvectors.training.data import loaders
from xvectors.training.data.loaders import Loaders, decoded_bytes_each
from xvectors.training.distributed import Group

RECIPE = load_recipe(
    "xvector", ["training.batch_size=14", "training.workers=0", "data.held_out_prop=0.25", "data.train_test_prop=1.0"]
)


@pytest.fixture(scope="module")
def corpus(toy_corpus: Path) -> PreparedCorpus:
    return prepare_corpus(toy_corpus, RECIPE, min_samples=1000)[0]


def test_ranks_share_each_batch(corpus: PreparedCorpus) -> None:
    cpu = torch.device("cpu")
    whole = list(Loaders(RECIPE, corpus, cpu).train_batches)
    shares = [list(Loaders(RECIPE, corpus, cpu, group=Group(rank, 2)).train_batches) for rank in range(2)]
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


def test_all_of_a_corpus_is_kept_decoded_or_nothing() -> None:
    assert decoded_bytes_each(2**20, 4, num_workers=2) == 2 * 2**20
    assert decoded_bytes_each(2**20 + 1, 4, num_workers=2) == 0
    assert decoded_bytes_each(2**21, 4, num_workers=0) == 4 * 2**20
    assert decoded_bytes_each(math.nan, 4, num_workers=1) == 0
    assert decoded_bytes_each(1, 0, num_workers=1) == 0


@pytest.mark.parametrize(("most_mb", "reads"), [(64, 1), (0, 3)])
def test_training_recordings_are_decoded_once(
    toy_corpus: Path, monkeypatch: pytest.MonkeyPatch, most_mb: int, reads: int
) -> None:
    recipe = load_recipe("xvector", ["training.workers=0", f"training.decoded_mb={most_mb}"])
    corpus, _ = prepare_corpus(toy_corpus, recipe, min_samples=4_000)
    loaders = Loaders(recipe, corpus, torch.device("cpu"))
    calls: list[str] = []
    read = audio.read
    monkeypatch.setattr(audio, "read", lambda path, **given: calls.append(str(path)) or read(path, **given))
    for _ in range(3):
        for batch in loaders.train:
            assert not batch.failures
    assert len(calls) == reads * len(corpus.train_rows)
