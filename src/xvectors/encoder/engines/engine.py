"""The interface between `SpeakerEncoder` and the library that runs its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.verification import Verifier


class Engine(Protocol):
    """A loaded network with its features."""

    @property
    def name(self) -> str:
        """The path of the system's folder or file, or `starter`."""
        ...

    @property
    def device(self) -> object:
        """The device it computes on, such as `cpu`."""
        ...

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def embedding_dim(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Identifies the features and weights: embeddings of different fingerprints must not be compared."""
        ...

    @property
    def samples_needed(self) -> int:
        """Number of samples of the shortest recording that has an embedding."""
        ...

    @property
    def channel(self) -> Channel:
        """The channel of files that the network was trained on, or `mix`."""
        ...

    @property
    def verifier(self) -> Verifier:
        """The system's back-end and calibration, or cosine scoring without one. Raises CheckpointError if damaged."""
        ...

    def embed(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        """Embed waveforms of at least `samples_needed` samples: float32 [n, embedding_dim].

        A waveform's embedding does not depend on the others in the batch (within 1e-4).
        """
        ...
