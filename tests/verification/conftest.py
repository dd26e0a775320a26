"""Embeddings drawn from a known model, to learn verifiers from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from xvectors.verification import Basis

DIM = 16


def simulated(num_speakers: int, num_recordings: int, seed: int, *, channel: float = 0.0) -> Basis:
    """Speaker means of variance 1 and noise of variance 1 / seconds, in whole recordings of 3 to 6 s and their crops;
    `channel`: the standard deviation of a nuisance in the first four dimensions, the same for a recording's crops."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((num_speakers, DIM))
    rows = []
    for speaker in range(num_speakers):
        for recording in range(num_recordings):
            shift = np.zeros(DIM)
            shift[:4] = channel * rng.standard_normal(4)
            whole_s = rng.uniform(3, 6)
            for seconds in (whole_s, 0.5, 1.0, 2.0):
                noise = rng.standard_normal(DIM) / np.sqrt(seconds)
                vector = means[speaker] + shift + noise
                rows.append((vector, f"s{speaker:02d}", speaker * num_recordings + recording, seconds, seconds > 2))
    vectors, speakers, recordings, seconds, whole = zip(*rows, strict=True)
    return Basis(
        embeddings=np.array(vectors, dtype=np.float32),
        speakers=np.array(speakers),
        recording=np.array(recordings),
        duration_s=np.array(seconds),
        whole=np.array(whole),
    )


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Basis]:
    return simulated
