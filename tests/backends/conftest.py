"""Embeddings drawn from PLDA's own model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass(frozen=True)
class Simulator:
    """embedding = mean + speaker's part ~ N(0, between) + recording's part ~ N(0, within)."""

    mean: NDArray[Any]
    within: NDArray[Any]
    between: NDArray[Any]

    def draw(self, counts: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Embeddings float32 [n, D] and speakers [n], `counts` [S] of each speaker, in random order."""
        rng = np.random.default_rng(seed)
        zero = np.zeros(len(self.mean))
        speakers = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        parts = rng.multivariate_normal(zero, self.between, size=len(counts))
        noise = rng.multivariate_normal(zero, self.within, size=len(speakers))
        return (self.mean + parts[speakers] + noise).astype(np.float32), speakers


def random_covariance(dim: int, rank: int, rng: np.random.Generator) -> NDArray[Any]:
    factor = rng.normal(size=(dim, rank))
    return factor @ factor.T / rank


@pytest.fixture(scope="session")
def simulator() -> Simulator:
    rng = np.random.default_rng(5)
    within = 0.5 * random_covariance(6, 12, rng) + 0.2 * np.eye(6)
    return Simulator(rng.normal(size=6), within, random_covariance(6, 12, rng))


@pytest.fixture(scope="session")
def low_rank_simulator() -> Simulator:
    rng = np.random.default_rng(6)
    within = 0.5 * random_covariance(6, 12, rng) + 0.2 * np.eye(6)
    return Simulator(rng.normal(size=6), within, 2 * random_covariance(6, 2, rng))
