"""Count the speakers of a recording over time with the bundled network, in memory that does not grow with the audio."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.audio.activity import runs
from xvectors.audio.recording import OpenRecording
from xvectors.audio.speech import check_finite
from xvectors.diarization.windows import CLOSED_PAUSE_S, Regions, joined_regions
from xvectors.errors import MissingExtraError

if TYPE_CHECKING:
    from xvectors.diarization.overlap.network import SpeakerCounter

Counter: TypeAlias = "Callable[[OpenRecording], SpeakerCounts]"
NO_NETWORK, BUNDLED = "none", "bundled"

WEIGHTS = Path(__file__).parent / "network.safetensors"
BLOCK_S = 60.0
"""Seconds that the network is given at once, besides its context."""
SEVERAL_PROBABILITY, SMOOTHED_FRAMES = 0.4, 5
"""Several people speak where the bundled network gives this probability or more, on average over 0.2 s."""
PYANNOTE_SEVERAL_PROBABILITY = 0.3
"""The same for pyannote's network, which is right where it says so, and seldom says so."""
PYANNOTE_TWO_FROM_S = 1.0
"""So much overlap found by pyannote's network means two speakers. The bundled one is wrong too often for that."""
NOBODY_PROBABILITY = 0.5
"""Somebody speaks where the network gives nobody less than this."""
SHORTEST_S, CLOSED_S = 0.12, 0.2
"""Shorter stretches of overlap are left out, after shorter gaps between them are closed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeakerCounts:
    """How many people speak, as probabilities of consecutive frames.

    Attributes
    ----------
    probabilities : float32 [frames, 3] of nobody, one, and several
    frame_s, start_s : duration of a frame, and where the first one begins, in seconds
    several_from : probability of several from which on it is taken for overlap
    smoothed_frames : frames around each over which this probability is averaged first
    two_from_s : seconds of overlap from which on there are at least two speakers
    """

    probabilities: NDArray[np.float32]
    frame_s: float
    start_s: float
    several_from: float = SEVERAL_PROBABILITY
    smoothed_frames: int = 1
    two_from_s: float = np.inf

    @property
    def least_speakers(self) -> int:
        """The least number of speakers that the overlap implies: 1 or 2."""
        overlap = self.overlap()
        return 2 if float(np.sum(overlap[:, 1] - overlap[:, 0])) >= self.two_from_s else 1

    def overlap(self) -> Regions:
        """Return the stretches [k, 2] in seconds where several people speak."""
        from scipy.ndimage import uniform_filter1d

        several = self.probabilities[:, 2]
        if self.smoothed_frames > 1 and len(several):
            several = uniform_filter1d(several, self.smoothed_frames)
        regions = joined_regions(self._regions(several >= self.several_from), CLOSED_S)
        return regions[regions[:, 1] - regions[:, 0] >= SHORTEST_S]

    def speech(self, probability: float = NOBODY_PROBABILITY) -> Regions:
        """Return the stretches [k, 2] in seconds where somebody speaks: nobody has less than this probability."""
        return joined_regions(self._regions(self.probabilities[:, 0] < probability), CLOSED_PAUSE_S)

    def _regions(self, frames: NDArray[np.bool_]) -> Regions:
        return np.asarray(np.maximum(runs(frames) * self.frame_s + self.start_s, 0.0), dtype=np.float64)


def find_counter(network: str | os.PathLike[str] = NO_NETWORK) -> Counter | None:
    """Return what counts speakers: the bundled network for "bundled", that of a file, or None for "none".

    A file is pyannote's segmentation-3.0 (pytorch_model.bin).

    Raises CheckpointError for a file that cannot be read or holds another network, MissingExtraError without torch.
    """
    if network == NO_NETWORK:
        return None
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"overlap {network} needs torch; pip install torch, or use none") from error
    if network == BUNDLED:
        return count_speakers
    from xvectors.diarization.overlap.pyannote import (
        FIELD_SAMPLES,
        FRAME_SAMPLES,
        SAMPLE_RATE_HZ,
        count_by_pyannote,
        load_pyannote,
    )

    loaded = load_pyannote(Path(network))

    def count(sound: OpenRecording) -> SpeakerCounts:
        return SpeakerCounts(
            probabilities=count_by_pyannote(sound, loaded),
            frame_s=FRAME_SAMPLES / SAMPLE_RATE_HZ,
            start_s=0.5 * (FIELD_SAMPLES - FRAME_SAMPLES) / SAMPLE_RATE_HZ,
            several_from=PYANNOTE_SEVERAL_PROBABILITY,
            two_from_s=PYANNOTE_TWO_FROM_S,
        )

    return count


@functools.cache
def load_network(path: Path = WEIGHTS) -> SpeakerCounter:
    """Return the bundled network, in evaluation mode, in float32."""
    import safetensors.torch

    from xvectors.diarization.overlap.network import SpeakerCounter

    network = SpeakerCounter()
    weights = safetensors.torch.load_file(path)
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    )
    return network.eval()


def count_speakers(
    sound: OpenRecording, network: SpeakerCounter | None = None, *, block_s: float = BLOCK_S
) -> SpeakerCounts:
    """Count the speakers of a recording. A recording of less than a frame has no frames.

    Blocks of any length give the same probabilities, apart from rounding.

    Raises AudioError for samples that are not finite and for what cannot be read.
    """
    import torch

    from xvectors.diarization.overlap.network import FRAME_S, MIDDLE_S

    network = network or load_network()
    found = [np.empty((0, 3), dtype=np.float32)]
    with torch.inference_mode():
        for samples, before, frames in _blocks(sound, network, block_s):
            probabilities = network(torch.from_numpy(samples).unsqueeze(0))[0].exp()
            found.append(probabilities[before:][:frames].numpy())
    return SpeakerCounts(
        probabilities=np.concatenate(found),
        frame_s=FRAME_S,
        start_s=MIDDLE_S - 0.5 * FRAME_S,
        smoothed_frames=SMOOTHED_FRAMES,
    )


def _blocks(sound: OpenRecording, network: SpeakerCounter, block_s: float) -> Iterator[tuple[Samples, int, int | None]]:
    """Yield stretches of sound with context, the frames of context before, and the frames to keep (None for all)."""
    from xvectors.diarization.overlap.network import FRAME_S, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

    context, at_once = network.context_frames, max(1, round(block_s / FRAME_S))
    buffer, before = np.empty(0, dtype=np.float32), 0
    for piece in sound.stream(SAMPLE_RATE_HZ, block_s):
        check_finite(piece, sound.name)
        buffer = np.concatenate([buffer, piece])
        while len(buffer) >= (before + at_once + context + 1) * SAMPLES_PER_FRAME:
            yield buffer[: (before + at_once + context + 1) * SAMPLES_PER_FRAME], before, at_once
            kept = min(before + at_once, context)
            buffer = buffer[(before + at_once - kept) * SAMPLES_PER_FRAME :]
            before = kept
    if len(buffer) - before * SAMPLES_PER_FRAME >= network.fbank.samples_needed:
        yield buffer, before, None
