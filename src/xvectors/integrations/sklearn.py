"""A system as a scikit-learn transformer from recordings to embeddings, for any estimator.

from sklearn.pipeline import make_pipeline
clf = make_pipeline(SpeakerEmbedder("exp/xv"), LogisticRegression()).fit(paths, speakers)
"""

from __future__ import annotations

from numbers import Number
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from xvectors.audio.vad import DetectorName
from xvectors.encoder import SpeakerEncoder
from xvectors.system.folder import STARTER


class SpeakerEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds recordings with a trained system; `fit` loads it and learns nothing.

    Parameters
    ----------
    system
        What `SpeakerEncoder.from_pretrained` takes.
    device, threads, batch_size, trim_silence, sample_rate_hz
        As in `SpeakerEncoder.from_pretrained` and `encode`.

    Attributes
    ----------
    encoder_ : the SpeakerEncoder

    `X` is a list, series or 1-D array of recordings, each anything that `SpeakerEncoder.encode` takes, or a 2-D array
    [recordings, samples] of waveforms of one length.

    Examples
    --------
    >>> SpeakerEmbedder().fit_transform(["a.wav", "b.wav"]).shape              # doctest: +SKIP
    (2, 128)
    """

    def __init__(
        self,
        system: str | PathLike[str] = STARTER,
        *,
        device: str = "auto",
        threads: int | None = None,
        batch_size: int = 32,
        trim_silence: DetectorName | None = "energy",
        sample_rate_hz: int | None = None,
    ) -> None:
        self.system = system
        self.device = device
        self.threads = threads
        self.batch_size = batch_size
        self.trim_silence = trim_silence
        self.sample_rate_hz = sample_rate_hz

    def fit(self, X: Any = None, y: object = None) -> Self:
        """Load the system. `X` is only checked, and `y` is ignored."""
        if X is not None:
            self._recordings(X)
        self.encoder_ = SpeakerEncoder.from_pretrained(self.system, device=self.device, threads=self.threads)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return embeddings, float32 [recordings, dim]. Errors are those of `SpeakerEncoder.encode`."""
        check_is_fitted(self)
        return self.encoder_.encode(
            self._recordings(X),
            sample_rate_hz=self.sample_rate_hz,
            batch_size=self.batch_size,
            trim_silence=self.trim_silence,
        )

    @property
    def _n_features_out(self) -> int:
        return self.encoder_.embedding_dim

    def _recordings(self, X: Any) -> list[Any]:
        """Return `X` as a list of recordings."""
        nested = isinstance(X, list | tuple) and bool(X) and isinstance(X[0], list | tuple | Number)
        if nested or issparse(X) or (hasattr(X, "__array__") and not _lists(X)):
            # samples are not features: arrays may differ in length, so their number is not kept
            return list(check_array(X, dtype=np.float32, estimator=self))
        return list(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.requires_fit = True
        return tags


def _lists(X: Any) -> bool:
    """Whether an array or series is a list of recordings: one dimension, of names or objects."""
    array = np.asarray(X)
    return array.ndim == 1 and array.dtype.kind in "OUST"
