"""Whether a cluster of windows holds two voices: it is halved by k-means, and the halves are compared by their LLR.

The halves of one voice differ by what is said, those of two voices by the voice. On simulated conversations, 1 to 3 of
100 speakers were doubted wrongly, and 81 (starter) to 98 (CAM++) of 100 mixtures of two speakers were found.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xvectors.backends.cosine import length_normalize
from xvectors.diarization.clustering.llrs import MIN_WINDOW_S, Embeddings, Labels, LLRs, Seconds, mean_embeddings
from xvectors.verification import Verifier

DOUBTED_LLR = -4.0
"""LLR of the halves below which a speaker is doubted."""
MIN_HALF_S = 3.0
"""Halves with less speech than this differ by what is said."""
MAX_WINDOWS = 2000
"""Windows of a cluster that are halved; of more, every second, third and so on."""
SEED = 0


def two_voices(
    rows: Embeddings, window_s: Seconds, seconds: Seconds, labels: Labels, verifier: Verifier
) -> dict[int, float]:
    """Return the speakers, by number, who sound like two voices, with the LLR of their halves.

    Parameters
    ----------
    rows, window_s, seconds
        float32 [n, D] embeddings, the duration of each window, and the speech [n] that it stands for.
    labels
        [n], numbers of speakers.
    """
    scorer, long = LLRs(replace(verifier, bounds=None)), window_s >= MIN_WINDOW_S
    llrs = {
        number: _llr_of_halves(scorer, rows[at], seconds[at])
        for number in np.unique(labels).tolist()
        for at in [long & (labels == number)]
    }
    return {number: llr for number, llr in llrs.items() if llr < DOUBTED_LLR}


def _llr_of_halves(scorer: LLRs, rows: Embeddings, seconds: Seconds) -> float:
    """Return the LLR of both halves; NaN where there is too little speech for two."""
    from sklearn.cluster import KMeans

    if seconds.sum() < 2 * MIN_HALF_S:
        return float("nan")
    unit = length_normalize(rows)
    step = -(-len(unit) // MAX_WINDOWS)
    if len(np.unique(unit[::step], axis=0)) < 2:
        return float("nan")
    halves = KMeans(2, n_init=4, random_state=SEED).fit(unit[::step]).predict(unit).astype(np.int64)
    means, totals = mean_embeddings(rows, seconds, halves, 2)
    if totals.min() < MIN_HALF_S:
        return float("nan")
    return float(scorer.matrix(means[:1], totals[:1], means[1:], totals[1:])[0, 0])
