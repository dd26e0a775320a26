"""The parity certificate of an imported model: our network beside the toolkit's own, with the same weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import Tensor

from xvectors.config import Recipe
from xvectors.features import Fbank
from xvectors.models import Backbone
from xvectors.system.importers.family import Family, Source

DURATIONS_S = (0.5, 1.0, 1.6, 2.5, 4.0, 7.0, 12.0, 20.0)
FORMANTS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""First three formants of the vowels in father, heed, who'd and head, of men (Peterson and Barney, JASA 1952)."""
BANDWIDTH_HZ = 90.0
SILENCE_S = 0.15


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far our embeddings are from the reference's.

    Attributes
    ----------
    reference
        The package and version of the reference, or why there was none.
    recordings
        Number of recordings compared; 0 without the reference.
    largest_difference
        Largest difference in any value of an embedding, relative to the embedding's largest value.
    """

    reference: str
    recordings: int = 0
    largest_difference: float = 0.0

    def sentence(self) -> str:
        if not self.recordings:
            return f"parity not checked: {self.reference}"
        return (
            f"parity: {self.recordings} recordings of 0.5 to 20 s, embedded by this network and by {self.reference} on "
            f"the same features, differ by {self.largest_difference:.1e} of the largest value at most"
        )

    def as_table(self) -> dict[str, str | int | float]:
        return asdict(self)


def check_parity(family: Family, source: Source, recipe: Recipe, model: Backbone, fbank: Fbank) -> Parity:
    """Embed eight synthetic voices with our network and with the family's own class, where it is installed."""
    if family.reference_network is None:
        return Parity(reference=f"no package has the code of {family.title}")
    try:
        reference = family.reference_network(source)
        version = metadata.version(family.reference)
    except ImportError as error:  # PackageNotFoundError is one
        return Parity(reference=f"the reference needs `pip install {family.reference}` ({error})")
    largest = 0.0
    with torch.inference_mode():
        for voice in synthetic_voices(recipe.features.sample_rate_hz):
            features = fbank(torch.from_numpy(voice))
            ours, theirs = model.eval().embed(features)[0], _flat(reference(features))
            largest = max(largest, float((ours - theirs).abs().max() / theirs.abs().max()))
    return Parity(reference=f"{family.reference} {version}", recordings=len(DURATIONS_S), largest_difference=largest)


def synthetic_voices(sample_rate_hz: int) -> list[NDArray[np.float32]]:
    """Make eight voices, the same in every run: pulses through changing formants, with silence at both ends."""
    generator = np.random.default_rng(0)
    voices = []
    for number, duration_s in enumerate(DURATIONS_S):
        samples = round(duration_s * sample_rate_hz)
        time = np.arange(samples) / sample_rate_hz
        pitch_hz = 90.0 + 25.0 * number
        phase = pitch_hz * time + 0.8 * np.sin(2 * np.pi * 2.5 * time)
        pulses = np.diff(np.floor(phase), prepend=0.0) + 0.01 * generator.standard_normal(samples)
        wave = np.zeros(samples)
        for first in range(0, samples, sample_rate_hz // 5):
            part = pulses[first : first + sample_rate_hz // 5]
            for formant in FORMANTS_HZ[int(generator.integers(len(FORMANTS_HZ)))]:
                part = _resonated(part, formant * (1.0 + 0.03 * number), sample_rate_hz)
            wave[first : first + len(part)] = part
        edge = round(min(SILENCE_S, duration_s / 8) * sample_rate_hz)
        wave[:edge] = wave[-edge:] = 0.0
        wave += 1e-4 * generator.standard_normal(samples)
        voices.append((0.3 * wave / np.abs(wave).max()).astype(np.float32))
    return voices


def _resonated(wave: NDArray[np.float64], formant_hz: float, sample_rate_hz: int) -> NDArray[np.float64]:
    radius = np.exp(-np.pi * BANDWIDTH_HZ / sample_rate_hz)
    poles = [1.0, -2 * radius * np.cos(2 * np.pi * formant_hz / sample_rate_hz), radius**2]
    filtered: NDArray[np.float64] = lfilter([sum(poles)], poles, wave)
    return filtered


def _flat(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The embedding of a reference that returns it alone, or as the last of several outputs."""
    embedding = output[-1] if isinstance(output, tuple) else output
    return embedding.flatten()
