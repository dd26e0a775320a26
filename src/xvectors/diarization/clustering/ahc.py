"""Agglomerative hierarchical clustering with average linkage: the mean similarity of all pairs of two clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ShapeError
from xvectors.text import printable


class SpeakerRange(NamedTuple):
    """The least and the greatest number of speakers to find."""

    least: int = 1
    most: int = 1_000_000

    @classmethod
    def of(cls, text: str | int | None) -> SpeakerRange:
        """Parse "3" or "2..6"; None is any number. Raises ConfigError for anything else."""
        if text is None:
            return cls()
        low, dots, high = str(text).strip().partition("..")
        if not low.isdecimal() or (dots and not high.isdecimal()):
            raise ConfigError(f"speakers {printable(str(text))!r} is no number of speakers; give one as 3, or 2..6")
        found = cls(int(low), int(high if dots else low))
        if not 1 <= found.least <= found.most:
            raise ConfigError(f"speakers {printable(str(text))!r}: give 1 or more, and the smaller number first")
        return found


def average_linkage(similarity: ArrayLike, threshold: float, speakers: SpeakerRange | None = None) -> NDArray[np.int64]:
    """Join the two most similar clusters again and again, and return the labels [n] from 0, by first occurrence.

    Parameters
    ----------
    similarity
        [n, n], symmetric, such as LLRs or cosines.
    threshold
        Clusters whose mean similarity is below this are not joined.
    speakers
        Limits of the number of clusters, which the threshold gives way to. There are never more clusters than rows.

    Raises
    ------
    ShapeError
        A matrix that is not square or not finite.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    scores: NDArray[np.floating] = np.asarray(similarity)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not np.isfinite(scores).all():
        raise ShapeError(f"similarities have the shape {list(scores.shape)}, or values not finite: give [n, n]")
    if len(scores) < 2:
        return np.zeros(len(scores), dtype=np.int64)
    limits = speakers or SpeakerRange()
    # distances from 0 on, as scipy wants them
    highest = float(scores.max())
    distance = squareform(np.asarray(highest - scores, dtype=np.float64), checks=False)
    tree = linkage(distance, method="average")
    labels = fcluster(tree, highest - threshold, criterion="distance")
    found = int(labels.max())
    if not limits.least <= found <= limits.most:
        wanted = min(max(found, limits.least), limits.most)
        labels = fcluster(tree, wanted, criterion="maxclust")
    return by_first(labels)


def by_first(labels: ArrayLike) -> NDArray[np.int64]:
    """Number labels [n] from 0 in the order in which they first occur."""
    _, first, numbers = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].astype(np.int64)
