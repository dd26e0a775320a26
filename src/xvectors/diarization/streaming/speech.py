"""Speech in sound that is still coming in: the energy VAD, with the levels of the last minute as the recording's."""

from __future__ import annotations

from collections import deque

import numpy as np

from xvectors.audio import Samples
from xvectors.audio.activity import FRAMES_PER_S, Frames, mask_of, measure, runs

BLOCK_S = 0.25
"""Sound is heard in blocks of this duration."""
LOOKAHEAD_S = 0.2
"""A frame is decided once this much is heard after it: most of the context that the VAD looks at."""
HISTORY_S = 60.0


class SpeechTracker:
    """Finds the speech of a recording block by block. Memory does not grow.

    Parameters
    ----------
    sample_rate_hz
        Sample rate of the blocks: a multiple of 400 Hz, so that each block holds whole frames of 10 ms.
    everything
        Whether to take everything for speech.
    """

    def __init__(self, sample_rate_hz: int, *, everything: bool = False) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.decided_s = 0.0
        self._everything = everything
        self._history: deque[Frames] = deque(maxlen=round(HISTORY_S / BLOCK_S))
        self._num_heard = self._num_decided = 0

    def feed(self, block: Samples, *, last: bool = False) -> list[tuple[float, float]]:
        """Hear a block, float32 [samples]; return new stretches of speech in seconds, in order.

        A stretch may begin where the last one ended. All speech before `decided_s` has been returned.
        """
        if self._everything:
            begin_s, self._num_heard = self.decided_s, self._num_heard + len(block)
            self.decided_s = self._num_heard / self.sample_rate_hz
            return [(begin_s, self.decided_s)] if self.decided_s > begin_s else []
        frames = measure(block, self.sample_rate_hz)
        self._history.append(frames)
        self._num_heard += len(frames.power)
        until = self._num_heard - (0 if last else round(LOOKAHEAD_S * FRAMES_PER_S))
        if until <= self._num_decided:
            return []
        mask = mask_of(Frames.joined(self._history))
        first = self._num_heard - len(mask)
        new = mask[self._num_decided - first : until - first]
        found = (runs(new) + self._num_decided) / FRAMES_PER_S
        self._num_decided = until
        self.decided_s = until / FRAMES_PER_S
        return [(start, end) for start, end in np.asarray(found).tolist()]
