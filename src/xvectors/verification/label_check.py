"""Find labels that two people seem to share.

The recordings of such a label form two groups, each as similar as those of one speaker, and as different from each
other as those of two speakers. One such label among ten makes a calibration underconfident and an error rate too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from xvectors.backends.cosine import length_normalize
from xvectors.text import short_repr
from xvectors.trials.pairs import speaker_numbers
from xvectors.trials.sampling import sample_recordings

MAX_RECORDINGS = 50
"""Largest number of recordings per speaker to examine, enough to find two voices."""
AT_MOST = 100_000
"""Largest total number of recordings; beyond it, some speakers are not judged."""
MAX_PAIRS = 100_000
"""Largest number of pairs that estimate the similarity of two speakers."""
MIN_SPEAKERS = 3
MIN_IN_GROUP = 3
MAX_BETWEEN, MIN_WITHIN = 0.4, 2 / 3
"""Similarity, where 0 is that of two speakers and 1 that of one. Among 35 unseen speakers of speechocean762 and a
system of the recipe `resnet`, the label with two people has 0.26 between its groups, the next one 0.72."""
MIN_CONTRAST = 2.0
"""Least distance of the cosines of one speaker from those of two, in standard deviations of the latter. Otherwise the
embeddings separate speakers too poorly to judge."""


@short_repr()
@dataclass(frozen=True)
class TwoVoices:
    """A name, the rows of its two groups of recordings, the larger first, and how alike they are: within each and
    between them, where 0 is as two speakers of this corpus, and 1 as one."""

    speaker: str
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    within: tuple[float, float]
    between: float

    def sentence(self, names: Sequence[str]) -> str:
        """Describe the finding, with the first recording of each group; `names` [n] are those of the rows."""
        more, fewer = self.rows
        return (
            f"speaker {self.speaker!r}: {len(more)} and {len(fewer)} of its recordings sound like two people, such as "
            f"{names[more[0]]} and {names[fewer[0]]}"
        )


def find_two_voices(embeddings: ArrayLike, speakers: ArrayLike, *, seed: int = 0) -> list[TwoVoices]:
    """Return the labels that two people seem to share, the clearest first.

    Up to 50 recordings of each speaker, drawn by `seed`, are divided into two groups by average linkage of the cosines,
    after subtracting the mean of all embeddings. The similarity of two speakers, and of one speaker's recordings, in
    this corpus decides whether the groups are two people. A person who used two devices can look like two people; if
    many speakers do, the devices are the cause. Speakers with fewer than 6 recordings are not judged, and nobody is if
    there are fewer than 3 speakers or if embeddings hardly tell them apart. Beyond 100,000 recordings, only some
    speakers are examined.

    Parameters
    ----------
    embeddings
        [n, D] of whole recordings.
    speakers
        [n] their speakers.

    Raises
    ------
    ShapeError
        Embeddings that are not finite, or have no direction.
    """
    names: NDArray[np.str_] = np.asarray(speakers, dtype=np.str_)
    directions = length_normalize(embeddings)
    rows = sample_recordings(names, each=MAX_RECORDINGS, at_most=AT_MOST, seed=seed)
    rows = rows[np.argsort(names[rows], kind="stable")]
    number = speaker_numbers(names[rows])
    if len(np.unique(number)) < MIN_SPEAKERS:
        return []
    chosen = directions[rows].astype(np.float64)
    chosen -= chosen.mean(axis=0)
    unit = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    left, right = np.random.default_rng(seed).integers(len(rows), size=(2, MAX_PAIRS))
    two = number[left] != number[right]
    of_two = np.einsum("nd,nd->n", unit[left[two]], unit[right[two]])
    apart = float(np.median(of_two))
    starts = np.flatnonzero(np.diff(number)) + 1
    cosines = [of_one @ of_one.T for of_one in np.split(unit, starts)]
    means = [_mean_pair(block) for block in cosines if len(block) > 1]
    together = float(np.median(means)) if means else apart
    if not together - apart > MIN_CONTRAST * of_two.std():
        return []
    found = []
    for own, block in zip(np.split(rows, starts), cosines, strict=True):
        if len(block) < 2 * MIN_IN_GROUP:
            continue
        distances = np.maximum(1.0 - block[np.triu_indices(len(block), 1)], 0.0)
        first = fcluster(linkage(distances, "average"), 2, "maxclust") == 1
        groups = sorted((np.flatnonzero(first), np.flatnonzero(~first)), key=len, reverse=True)
        if len(groups[1]) < MIN_IN_GROUP:
            continue
        within = [(_mean_pair(block[np.ix_(g, g)]) - apart) / (together - apart) for g in groups]
        between = (float(block[np.ix_(*groups)].mean()) - apart) / (together - apart)
        if between < MAX_BETWEEN and min(within) > MIN_WITHIN:
            found.append(
                TwoVoices(str(names[own[0]]), (own[groups[0]], own[groups[1]]), (within[0], within[1]), between)
            )
    return sorted(found, key=lambda voices: voices.between)


def _mean_pair(cosines: NDArray[np.float64]) -> float:
    """Return the mean cosine of two recordings."""
    return float(cosines[np.triu_indices(len(cosines), 1)].mean())
