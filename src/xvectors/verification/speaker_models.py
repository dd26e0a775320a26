"""Models of enrolled speakers: one for each, from all recordings enrolled.

A model is the mean of the recordings' embeddings, as the back-end transforms them, weighted by duration. It counts as
one recording of the total duration: about what the network would give for the recordings joined. A calibration learned
from pairs of single recordings therefore still holds. docs/explanation/robustness.md compares alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio.condition import mean_conditions, unknown_conditions
from xvectors.audio.speech import MAX_SPEECH_S
from xvectors.backends.backend import EnrolledModels
from xvectors.backends.cosine import length_normalize
from xvectors.backends.transforms import LengthNorm
from xvectors.text import short_repr
from xvectors.verification.verifier import Verifier, magnitudes_of


@short_repr("speaker", "duration_s")
@dataclass(frozen=True, kw_only=True, eq=False)
class SpeakerModels:
    """Models of k speakers, one for each.

    Attributes
    ----------
    speaker : [k] each speaker's id, ascending
    models : the models in the form that the back-end scores
    duration_s : [k] the total duration that each model counts as, in seconds
    condition : float32 [k, 6], the mean of the recordings' conditions, weighted by duration; NaN where unknown
    magnitude : [k], the mean log length of the recordings' embeddings, weighted by duration
    """

    speaker: NDArray[np.int64]
    models: EnrolledModels
    duration_s: NDArray[np.float64]
    condition: NDArray[np.float32]
    magnitude: NDArray[np.float64]

    def scores(self, verifier: Verifier, embedding: ArrayLike) -> NDArray[np.float32]:
        """Score a recording, its embedding [D], against every model: [k]."""
        return verifier.backend.score_matrix(self.models, np.asarray(embedding)[None])[:, 0]


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class EnrolledSpeaker:
    """An enrolled speaker, ready to be compared with a recording by `SpeakerEncoder.verify`.

    Attributes
    ----------
    name : str
    num_voiceprints : number of enrolled recordings
    duration_s : their total duration, in seconds
    system : fingerprint of the system that embedded them
    model : the speaker's model (k = 1)
    """

    name: str
    num_voiceprints: int
    duration_s: float
    system: str
    model: SpeakerModels


def model_speakers(
    verifier: Verifier,
    speaker: NDArray[np.int64],
    embeddings: NDArray[np.float32],
    duration_s: NDArray[np.float64],
    condition: NDArray[np.float32] | None = None,
) -> SpeakerModels:
    """Average each speaker's recordings into a model.

    A recording counts for at most the duration of the longest one in the calibration set. There is no evidence that
    more speech than that improves an embedding, and a recording with a wrong duration of hours would outweigh all
    others.

    Parameters
    ----------
    speaker
        [n] the speaker's id for each row, ascending; n is at least 1.
    embeddings, duration_s
        [n, D] as the network gave them, and seconds [n].
    condition
        [n, 6], the measures of `audio.condition`; None where unknown. A measure that is NaN is left out of the mean.

    Raises
    ------
    ShapeError
        The embeddings do not fit the back-end.
    """
    backend = verifier.backend
    max_s = float(verifier.basis.get("longest_s", MAX_SPEECH_S))
    first = np.flatnonzero(np.diff(speaker, prepend=-1))
    ids = speaker[first]
    counted_s = np.minimum(duration_s, max_s)
    sizes = np.diff(first, append=len(speaker))
    total_s = np.add.reduceat(counted_s, first)
    rows = backend.transform(embeddings)
    if len(ids) < len(rows):
        weights = counted_s / np.repeat(total_s, sizes)
        rows = np.add.reduceat(rows * weights[:, None], first, axis=0).astype(np.float32)
        if backend.steps and isinstance(backend.steps[-1], LengthNorm):
            rows = length_normalize(rows)
    models = EnrolledModels(names=ids, means=rows, counts=np.ones(len(ids), dtype=np.int64))
    conditions = unknown_conditions(len(ids))
    if condition is not None:
        conditions = mean_conditions(condition, counted_s, np.repeat(np.arange(len(ids)), sizes), len(ids))
    magnitude = np.add.reduceat(magnitudes_of(embeddings) * counted_s, first) / total_s
    return SpeakerModels(speaker=ids, models=models, duration_s=total_s, condition=conditions, magnitude=magnitude)
