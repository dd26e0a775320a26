"""Compare the embeddings of an exported file with those of its system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.encoder import SpeakerEncoder

TOLERANCE = 1e-4
"""Largest difference in any value of a float32 embedding, relative to the largest value if that is above 1."""
SIGNAL_LENGTHS_S = (0.5, 3.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference between two embeddings of a recording.

    Attributes
    ----------
    name
        Name of the recording.
    largest
        Largest difference in any value, relative to the largest value of the embedding if that is above 1.
    cosine
        Cosine of the two embeddings.
    """

    name: str
    largest: float
    cosine: float


def compare_embeddings(
    encoder: SpeakerEncoder, exported: SpeakerEncoder, recordings: Mapping[str, Path | NDArray[np.floating]]
) -> list[Difference]:
    """Embed named recordings, each alone and whole, with the system and with the exported file.

    Errors are those of `SpeakerEncoder.encode`.
    """
    both = (encoder, exported)
    return [
        difference_of(name, *(one.encode([recording], trim_silence=None)[0] for one in both))
        for name, recording in recordings.items()
    ]


def worst(differences: Sequence[Difference]) -> Difference:
    return max(differences, key=lambda difference: difference.largest)


def signals(sample_rate_hz: int, min_samples: int) -> dict[str, NDArray[np.float32]]:
    """Make three test signals of 0.5 to 10 s, of noise with different pitch and modulation, the same in every run."""
    generator = np.random.default_rng(0)
    made = {}
    for number, length_s in enumerate(SIGNAL_LENGTHS_S):
        samples = max(min_samples, round(length_s * sample_rate_hz))
        time = np.arange(samples) / sample_rate_hz
        pitch = np.sin(2 * np.pi * (110 + 40 * number) * time + 3 * np.sin(2 * np.pi * 2 * time))
        swell = np.exp(number + np.sin(2 * np.pi * (1.5 + number) * time))
        wave = 0.02 * swell * (np.sign(pitch) + 0.3 * generator.standard_normal(samples))
        made[f"{samples / sample_rate_hz:.2f} s of noise"] = wave.astype(np.float32)
    return made


def difference_of(name: str, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Difference:
    """Return the difference between two embeddings [D] of the recording `name`."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    scale = max(1.0, float(np.abs(a).max()))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / norms if norms > 0 else float(np.array_equal(a, b))
    return Difference(name=name, largest=float(np.abs(a - b).max()) / scale, cosine=cosine)
