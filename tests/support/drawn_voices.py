"""Simulated speakers: embeddings drawn from a known model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIM = 32
SYSTEM = "a" * 64
OTHER = "b" * 64


@dataclass
class Voices:
    """Speakers of variance 1 in DIM dimensions, and recordings of them with noise of variance 1 / (2 seconds)."""

    rng: np.random.Generator
    means: np.ndarray

    def record(self, speaker: int, *seconds: float) -> tuple[np.ndarray, list[float]]:
        noise = self.rng.standard_normal((len(seconds), DIM)) / np.sqrt(2 * np.array(seconds))[:, None]
        return (self.means[speaker] + noise).astype(np.float32), list(seconds)


def make_voices(count: int, seed: int) -> Voices:
    rng = np.random.default_rng(seed)
    return Voices(rng, rng.standard_normal((count, DIM)))
