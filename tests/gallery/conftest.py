"""A system simulated: embeddings of speakers drawn from a known model, and a verifier that learnt from others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from xvectors.verification import Basis, Verifier, learn_verifier

DIM = 16
SYSTEM = "a" * 64
OTHER = "b" * 64


@dataclass
class Voices:
    """Speakers of variance 1 in DIM dimensions, and recordings of them with noise of variance 1 / seconds."""

    rng: np.random.Generator
    means: np.ndarray

    def record(self, speaker: int, *seconds: float) -> tuple[np.ndarray, list[float]]:
        noise = self.rng.standard_normal((len(seconds), DIM)) / np.sqrt(np.array(seconds))[:, None]
        return (self.means[speaker] + noise).astype(np.float32), list(seconds)


def make_voices(count: int, seed: int) -> Voices:
    rng = np.random.default_rng(seed)
    return Voices(rng, rng.standard_normal((count, DIM)))


@pytest.fixture
def voices() -> Voices:
    return make_voices(40, seed=1)


@pytest.fixture(scope="session")
def verifier() -> Verifier:
    voices = make_voices(30, seed=2)
    rows, speakers, recording, duration, whole = [], [], [], [], []
    for speaker in range(30):
        for number in range(4):
            for seconds in (5.0, 0.5, 1.0, 2.0):
                rows.append(voices.record(speaker, seconds)[0][0])
                speakers.append(f"s{speaker:02d}")
                recording.append(4 * speaker + number)
                duration.append(seconds)
                whole.append(seconds > 2)
    basis = Basis(
        embeddings=np.array(rows),
        speakers=np.array(speakers),
        recording=np.array(recording),
        duration_s=np.array(duration),
        whole=np.array(whole),
    )
    return learn_verifier(basis, fewest_to_choose=1000)
