"""Embeddings laid out in the plane: t-SNE (van der Maaten and Hinton, JMLR 2008) and principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from xvectors.backends import length_normalize
from xvectors.embeddings import load_embeddings
from xvectors.errors import ConfigError, ShapeError
from xvectors.text import short_repr
from xvectors.trials import sample_recordings

MIN_POINTS = 3
MAX_POINTS = 3000
"""Largest number of recordings on a map; t-SNE of this many takes a few seconds."""
MIN_TSNE_POINTS = 7
"""Fewest recordings for t-SNE; with fewer, (n - 1) / 3 is below 2, and points coincide."""


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class SpeakerMap:
    """The embeddings of k recordings in the plane.

    Attributes
    ----------
    rows : int64 [k]
        The recordings, as rows of the n embeddings.
    speakers : tuple of str
        Names of the s speakers on the map, sorted.
    speaker_index : int64 [k]
        The speaker of each point, an index into `speakers`.
    gender : int8 [k]
        0 male, 1 female, -1 unknown.
    tsne, principal : float32 [k, 2]
        Coordinates by t-SNE, and along the first two principal components.
    num_recordings : int
        n, the recordings that points were chosen from.
    """

    rows: NDArray[np.int64]
    speakers: tuple[str, ...]
    speaker_index: NDArray[np.int64]
    gender: NDArray[np.int8]
    tsne: NDArray[np.float32]
    principal: NDArray[np.float32]
    num_recordings: int


def map_speakers(embeddings: ArrayLike, speakers: Sequence[str], gender: ArrayLike) -> SpeakerMap | None:
    """Lay out the embeddings [n, D] of speakers [n] with genders [n].

    Embeddings without a direction (all zero, or not finite) are left out. With more than 3,000 recordings, an even
    selection from every speaker is shown. Returns None with fewer than 3 recordings to show.
    """
    vectors = np.asarray(embeddings)
    rows = np.flatnonzero(np.isfinite(vectors).all(axis=1) & (np.abs(vectors).max(axis=1, initial=0) > 0))
    if len(rows) < MIN_POINTS:
        return None
    names = np.asarray(speakers)
    if len(rows) > MAX_POINTS:
        _, number = np.unique(names[rows], return_inverse=True)
        each = max(1, MAX_POINTS // (int(number.max()) + 1))
        rows = rows[sample_recordings(number, each=each, at_most=MAX_POINTS)]
    present, index = np.unique(names[rows], return_inverse=True)
    unit = length_normalize(vectors[rows])
    return SpeakerMap(
        rows=rows,
        speakers=tuple(present.tolist()),
        speaker_index=index.astype(np.int64),
        gender=np.asarray(gender, dtype=np.int8)[rows],
        tsne=tsne(unit),
        principal=principal_plane(unit),
        num_recordings=len(vectors),
    )


def map_saved_embeddings(path: Path) -> SpeakerMap | None:
    """Lay out the embeddings that `evaluate` or `xvectors embed` saved; see `map_speakers`.

    Raises
    ------
    CheckpointError
        Missing or damaged embeddings.
    """
    saved = load_embeddings(path, "speaker", "gender")
    return map_speakers(saved["embeddings"], saved["speaker"].tolist(), saved["gender"])


def tsne(embeddings: ArrayLike, *, perplexity: float = 30.0, seed: int = 42) -> NDArray[np.float32]:
    """Lay out embeddings by scikit-learn's t-SNE of their directions, started from the principal components.

    Distances between far clusters carry no meaning. Fewer than seven embeddings allow no perplexity of 2, and equal
    ones have no neighborhoods: these are laid out by their first two principal components instead.

    Parameters
    ----------
    embeddings
        [n, D] real numbers.
    perplexity
        The number of neighbors that count, clipped by `clip_perplexity`.
    seed
        Equal seeds give equal points.

    Returns
    -------
    float32 [n, 2]

    Raises
    ------
    ConfigError
        A perplexity that is not above 0.
    ShapeError
        No embeddings, or rows without a direction (see `length_normalize`).
    """
    if not perplexity > 0:
        raise ConfigError(f"perplexity is {perplexity}: give a number above 0, usually 5 to 50")
    unit = length_normalize(embeddings)
    n = len(unit)
    if n == 0:
        raise ShapeError("no embeddings: there is nothing to lay out")
    # Computed values of equal embeddings differ in the last digits.
    if n < MIN_TSNE_POINTS or np.ptp(unit, axis=0).max() < 1e-6:
        return principal_plane(unit)
    if unit.shape[1] == 1:
        unit = np.concatenate([unit, np.zeros_like(unit)], axis=1)
    from sklearn.manifold import TSNE  # takes a second to import, which commands on score files need not wait for

    layout = TSNE(
        n_components=2,
        perplexity=clip_perplexity(perplexity, n),
        init="pca",
        learning_rate="auto",
        random_state=seed,
    )
    # One thread: OpenMP's spinning threads take a hundred times as long on processors that others use too.
    with threadpool_limits(1):
        points: NDArray[np.float32] = layout.fit_transform(unit)
    return points


def principal_plane(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project points [n, D] onto their first two principal components, [n, 2]."""
    u, s, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    plane = np.zeros((len(points), 2), dtype=np.float32)
    plane[:, : len(s)] = (u * s)[:, :2]
    return plane


def clip_perplexity(perplexity: float, n: int) -> float:
    """Limit the perplexity to (n - 1) / 3, because t-SNE looks at three times as many neighbors."""
    return min(perplexity, (n - 1) / 3)
