"""Noises to embed, and their rate."""

from __future__ import annotations

import numpy as np

RATE = 16_000


def noises(lengths_s: list[float]) -> list[np.ndarray]:
    """Noise whose loudness swings more and quicker from one to the next: mean normalization takes none of that away."""
    generator = np.random.default_rng(0)
    waves = []
    for i, duration_s in enumerate(lengths_s):
        t = np.arange(round(duration_s * RATE)) / RATE
        swing = np.exp(i * np.sin(2 * np.pi * (2 + i) * t))
        waves.append((swing * generator.normal(0, 0.01, len(t))).astype(np.float32))
    return waves
