"""One model a speaker, from all recordings enrolled. In: a back-end, voiceprints. Out: models that it scores.

A model is the mean of the recordings' embeddings, as the back-end transforms them, weighted by seconds, and counts as
one recording of all these seconds: about what the network would give for the recordings joined. A calibration that
was learned from pairs of single recordings then still holds. docs/explanation/robustness.md compares alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.speech import MAX_SPEECH_S
from xvectors.backends import LengthNorm
from xvectors.backends.backend import Enrolled
from xvectors.backends.cosine import length_normalize
from xvectors.gallery.records import Block
from xvectors.verification import Verifier


@dataclass(frozen=True, kw_only=True, eq=False)
class Models:
    """k speakers: `ids` [k], ascending, `enrolled` for the back-end, `duration_s` [k] of all recordings together."""

    ids: NDArray[np.int64]
    enrolled: Enrolled
    duration_s: NDArray[np.float64]


def models_of(verifier: Verifier, block: Block) -> Models:
    """The models of a block that is not empty. Raises ShapeError where the embeddings do not fit the back-end.

    A recording counts at most as many seconds as the longest that the calibration learned from: nothing bears out that
    more make an embedding better, and a recording that is said to last for hours would outweigh all others.
    """
    backend = verifier.backend
    most_s = float(verifier.basis.get("longest_s", MAX_SPEECH_S))
    first = np.flatnonzero(np.diff(block.speaker, prepend=-1))
    ids = block.speaker[first]
    counted_s = np.minimum(block.duration_s, most_s)
    seconds = np.add.reduceat(counted_s, first)
    rows = backend.transform(block.embeddings)
    if len(ids) < len(rows):
        weights = counted_s / np.repeat(seconds, np.diff(first, append=len(rows)))
        rows = np.add.reduceat(rows * weights[:, None], first, axis=0).astype(np.float32)
        if backend.steps and isinstance(backend.steps[-1], LengthNorm):
            rows = length_normalize(rows)
    return Models(
        ids=ids, enrolled=Enrolled(names=ids, means=rows, counts=np.ones(len(ids), dtype=np.int64)), duration_s=seconds
    )
