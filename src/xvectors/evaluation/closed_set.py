"""Who of the test speakers is it? In: embeddings, speakers, a back-end. Out: rank rates, a recording enrolled each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import Backend
from xvectors.evaluation.measured import Figure
from xvectors.metrics import identify

RANKS = (1, 5)
MOST_SCORES = 20_000_000
"""Probes times enrolled speakers; of more probes, so many spread evenly over all of them."""


def rank_figures(
    backend: Backend, embeddings: NDArray[np.float32], speaker_index: NDArray[np.integer]
) -> dict[str, Figure]:
    """How often the own speaker is the best, and among the five best, where every speaker's first recording is enrolled
    and the others are looked for by the back-end's scores; `note` says of how many. None without two speakers and a
    second recording, and no rank that is at least the number of speakers.
    """
    speakers, first = np.unique(speaker_index, return_index=True)
    others = np.setdiff1d(np.arange(len(speaker_index)), first)
    if len(speakers) < 2 or not len(others):
        return {}
    some = others[:: -(-len(others) * len(speakers) // MOST_SCORES)]
    scores = backend.score_matrix(embeddings[first], embeddings[some]).T
    found = identify(scores, speaker_index[some], speakers)
    of_all = "" if len(some) == len(others) else f" of {len(others):,}"
    note = (
        f"of {len(speakers):,} speakers, the first recording of each enrolled; {len(some):,}{of_all} "
        f"{'other' if len(some) == 1 else 'others'} looked for"
    )
    return {
        f"rank_{k}": Figure(name=f"identification, rank {k}", value=found.rank_rate(k), unit="share", note=note)
        for k in RANKS
        if k < len(speakers)
    }
