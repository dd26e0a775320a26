"""The speakers every system is tested on. In: a corpus. Out: a manifest that fixes them; error rates of embeddings.

Whatever the seed of a training run, its test speakers are those that `split_corpus` draws with seed 0; the seed decides
which utterances of the other speakers validate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from xvectors.backends import all_pairs_scores
from xvectors.corpus import NO_SPLIT, TEST, TRAIN, Manifest, open_corpus, split_corpus
from xvectors.encoder import Embedded
from xvectors.metrics import eer, min_dcf

TRAIN_SHARE = 0.8
P_TARGET = 0.01
CENTER_STEP = 10
"""Every tenth training utterance tells the mean that embeddings are centered by."""


def fix_test_speakers(data: str | Path, folder: Path) -> Path:
    """Write folder/manifest.csv: the corpus with `split` set to test for every fifth speaker; returns its path.

    Train on it with data.train_test_prop=1, or of the speakers that are left some would be tested too.
    """
    corpus = open_corpus(data)
    split = split_corpus(corpus, train_test_prop=TRAIN_SHARE, seed=0)
    assert not set(split.train_speakers) & set(split.test_speakers)
    print(f"{len(split.train_speakers)} speakers to train on, {len(split.test_speakers)} others to test")
    folder.mkdir(parents=True, exist_ok=True)
    fixed = corpus.with_columns(split=np.where(split.assignment == TEST, TEST, NO_SPLIT))
    fixed.write_csv(folder / "manifest.csv")
    return folder / "manifest.csv"


def unheard(corpus: Manifest, heard: Iterable[str]) -> Manifest:
    """The test speakers of a corpus that has some, else all of it; SystemExit for test speakers that were `heard`."""
    if not (corpus.split == TEST).any():
        return corpus
    tested = corpus.take(corpus.split == TEST)
    both = sorted(set(heard) & set(tested.speakers))
    if both:
        raise SystemExit(f"the system was trained on {both[0]}, one of {len(both)} such test speakers")
    return tested


def measure(
    embed: Callable[[Manifest], Embedded], corpus: Manifest, trained_speakers: Iterable[str]
) -> dict[str, float | int]:
    """Error rates by cosine over all pairs of the test speakers' utterances; `corpus` is divided as it was trained on.

    `centered_eer` is after the mean embedding of training utterances is taken away, which a network that does not
    normalize its embeddings needs.
    """
    test = corpus.take(corpus.split == TEST)
    both = set(trained_speakers) & set(test.speakers)
    assert not both, f"test speakers that were trained on: {sorted(both)[:5]}"
    embedded = embed(test)
    assert not embedded.failures, f"every system has the same trials, but this one failed: {embedded.failures[:3]}"
    target, nontarget = all_pairs_scores(embedded.embeddings, test.speaker_index)
    center = embed(corpus.take(np.flatnonzero(corpus.split == TRAIN)[::CENTER_STEP])).embeddings.mean(axis=0)
    centered = all_pairs_scores(embedded.embeddings - center, test.speaker_index)
    return {
        "num_test_speakers": len(test.speakers),
        "num_trials": len(target) + len(nontarget),
        "eer": eer(target, nontarget).eer,
        "centered_eer": eer(*centered).eer,
        "min_dcf": min_dcf(target, nontarget, p_target=P_TARGET).min_dcf,
    }
