"""Spectral clustering whose number of neighbors and of speakers follow from the eigengap, without a threshold (NME-SC:
Park et al., IEEE Signal Processing Letters 27, 2020).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.diarization.clustering.ahc import SpeakerRange, by_first
from xvectors.errors import ShapeError

MAX_SPEAKERS = 20
"""Greatest number that is looked for where none is given; gaps between higher eigenvalues say little."""
MAX_NEIGHBORS_SHARE = 0.25
"""Greatest share of the rows that are taken as neighbors of one."""
MIN_NEIGHBORS = 10
"""Smallest number of neighbors: more than the windows that overlap one, which say nothing about speakers."""
NUM_TRIALS = 20
"""Numbers of neighbors that are tried."""


def spectral_clustering(
    similarity: ArrayLike, speakers: SpeakerRange | None = None, *, seed: int = 0
) -> NDArray[np.int64]:
    """Cluster rows by their similarities, and return the labels [n] from 0, by first occurrence.

    For several numbers of nearest neighbors the graph of mutual neighbors is made, and the gaps between the eigenvalues
    of its Laplacian measured. The number whose greatest gap is largest for its neighbors is taken, with the number of
    speakers before that gap. It is made for a few speakers who all say much; it cannot tell one speaker from two well.

    Parameters
    ----------
    similarity
        [n, n], symmetric; only the order within rows matters.
    speakers
        Limits of the number of clusters; by default from 1 to 20.
    seed
        Seed of the k-means at the end.

    Raises
    ------
    ShapeError
        A matrix that is not square or not finite.
    """
    from scipy.linalg import eigh

    scores: NDArray[np.float64] = np.asarray(similarity, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not np.isfinite(scores).all():
        raise ShapeError(f"similarities have the shape {list(scores.shape)}, or values not finite: give [n, n]")
    limits = speakers or SpeakerRange()
    size = len(scores)
    least, most = min(limits.least, size), min(limits.most, MAX_SPEAKERS if speakers is None else size, size)
    most = max(least, min(most, max(MAX_SPEAKERS, limits.least)))
    if size < 3 or most == 1:
        return np.arange(size) if least >= size else np.zeros(size, dtype=np.int64)
    nearest = np.argsort(-scores, axis=1, kind="stable")
    best, chosen = np.inf, (1, np.zeros((size, 1)))
    fewest = min(MIN_NEIGHBORS, size - 1)
    for count in np.unique(np.linspace(fewest, max(fewest, MAX_NEIGHBORS_SHARE * size), NUM_TRIALS).astype(int)):
        graph = np.zeros_like(scores)
        np.put_along_axis(graph, nearest[:, :count], 1.0, axis=1)
        graph = 0.5 * (graph + graph.T)
        np.fill_diagonal(graph, 0.0)
        laplacian = np.diag(graph.sum(axis=1)) - graph
        values, vectors = eigh(laplacian, subset_by_index=[0, min(most, size - 1)])
        largest = float(graph.sum(axis=1).max()) * 2.0  # bounds the greatest eigenvalue
        gaps = np.diff(values)[least - 1 : most] / max(largest, 1e-12)
        at = int(np.argmax(gaps))
        ratio = count / size / max(float(gaps[at]), 1e-12)
        if ratio < best:
            best, chosen = ratio, (least + at, vectors[:, : least + at])
    number, rows = chosen
    return by_first(_k_means(rows, number, seed))


def _k_means(rows: NDArray[np.float64], number: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans

    if number == 1:
        return np.zeros(len(rows), dtype=np.int64)
    found = KMeans(number, n_init=5, random_state=seed).fit_predict(rows)
    return np.asarray(found, dtype=np.int64)
