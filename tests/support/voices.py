"""Synthetic voices for tests: speech and noise apart, so that what was mixed is known."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from xvectors.corpus.synth.espeak import Espeak
from xvectors.corpus.synth.generate import make, plan
from xvectors.corpus.synth.sessions import active_power

RATE = 16_000


@functools.cache
def spoken(seed: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(speech, noise) of one sentence of each of `count` voices, float32 of equal lengths."""
    with tempfile.TemporaryDirectory() as scratch:
        engine = Espeak(Path(scratch))
        return [make(engine, seed, number, plan(seed, number, 0))[1:] for number in range(count)]


def mixed(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Their sum, the power of the active speech `snr_db` above that of the noise."""
    ratio = active_power(speech.astype(np.float32), RATE) / np.mean(noise.astype(np.float64) ** 2)
    return (speech + noise * np.sqrt(ratio) * 10 ** (-snr_db / 20)).astype(np.float32)
