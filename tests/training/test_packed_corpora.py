"""Training on a corpus in tar shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.training import assert_same, small, state_of, watched_steps
from xvectors.corpus import open_corpus, pack
from xvectors.encoder import SpeakerEncoder
from xvectors.training import train


@pytest.mark.slow
def test_a_packed_corpus_trains_resumes_exactly_and_embeds_like_its_files(toy_corpus: Path, tmp_path: Path) -> None:
    pack(open_corpus(toy_corpus), tmp_path / "shards", per_shard=30)
    recipe = small("training.epochs=2", "training.workers=1")
    train(tmp_path / "shards", tmp_path / "whole", recipe, device="cpu", calibrate=False)
    with watched_steps(interrupt_at=4):
        train(tmp_path / "shards", tmp_path / "cut", recipe, device="cpu", calibrate=False)
    train(tmp_path / "shards", tmp_path / "cut", recipe, device="cpu", resume=True, calibrate=False)
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
    encoder = SpeakerEncoder.from_pretrained(tmp_path / "whole", device="cpu")
    corpus, packed = open_corpus(toy_corpus), open_corpus(tmp_path / "shards")
    one, two = encoder.encode_manifest(corpus), encoder.encode_manifest(packed)
    assert not one.failures
    assert not two.failures
    row_of = {utterance_id: row for row, utterance_id in enumerate(corpus.id)}
    rows = [row_of[utterance_id] for utterance_id in packed.id]
    np.testing.assert_allclose(two.embeddings, one.embeddings[rows], atol=1e-4)
