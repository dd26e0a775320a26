from __future__ import annotations

import math
from pathlib import Path

import pytest

from xvectors import audio, load_recipe
from xvectors.devices import find_device
from xvectors.training import prepare_corpus
from xvectors.training.loaders import Loaders, decoded_bytes_each


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
    corpus, _ = prepare_corpus(toy_corpus, recipe, min_samples=4_000, show_progress=False)
    loaders = Loaders(recipe, corpus, find_device("cpu"))
    calls: list[str] = []
    read = audio.read
    monkeypatch.setattr(audio, "read", lambda path, **given: calls.append(str(path)) or read(path, **given))
    for _ in range(3):
        for batch in loaders.train:
            assert not batch.failures
    assert len(calls) == reads * len(corpus.train_rows)
