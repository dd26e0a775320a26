"""What computes behind a SpeakerEncoder, whichever library runs it. In: waveforms. Out: their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.verification import Verifier


class Engine(Protocol):
    """A network with its features, loaded."""

    @property
    def name(self) -> str:
        """What a user calls the system: the path of its folder or file."""
        ...

    @property
    def device(self) -> object:
        """Where it computes; printed, it is `cpu` or the like."""
        ...

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def embedding_dim(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Which weights these are: embeddings of two fingerprints are not to be compared."""
        ...

    @property
    def samples_needed(self) -> int:
        """Samples of the shortest recording that has an embedding."""
        ...

    @property
    def channel(self) -> Channel:
        """Which channel of a file it was trained on, or their mix."""
        ...

    @property
    def verifier(self) -> Verifier:
        """The system's back-end and calibration; the cosine where it has none. Raises CheckpointError for damage."""
        ...

    def embed(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        """Embed waveforms, each of `samples_needed` samples or more: [n, embedding_dim], each as it is alone (1e-4)."""
        ...
