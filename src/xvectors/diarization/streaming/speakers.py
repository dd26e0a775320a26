"""Tell speakers apart as they speak: each window is compared with the mean of each speaker so far, by LLRs.

A window that is unlike everybody waits for the next one; two in a row make a new speaker. What has been said stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xvectors.diarization.clustering.llrs import MIN_WINDOW_S, LLRs
from xvectors.errors import CheckpointError
from xvectors.verification import Verifier

Row = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class OnlineSettings:
    """How speakers are told apart as they come. The defaults were chosen on simulated conversations alone.

    Attributes
    ----------
    new_llr : a window whose LLRs with all speakers are below this may be of a new one
    alone_llr : the same for a window with no other after it, because the speech ends
    stay_llr : added to the LLR of whoever spoke last
    join_llr : LLR of two speakers' means from which they are one, who goes on under the older label
    learn_llr : a window with a lower LLR does not change the speaker's mean
    most_speakers : more are not told apart
    """

    new_llr: float = 0.0
    alone_llr: float = -2.0
    stay_llr: float = 1.0
    join_llr: float = 2.0
    learn_llr: float = 0.0
    most_speakers: int = 20


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The speaker of a window, by number from 0, and whether the window is sure enough to learn from."""

    speaker: int
    sure: bool


@dataclass(frozen=True)
class _Window:
    row: Row
    window_s: float
    seconds: float


class OnlineSpeakers:
    """The speakers of a recording so far: the mean embedding of each, weighted by the speech behind it.

    Raises CheckpointError for a verifier that is not calibrated.
    """

    def __init__(self, verifier: Verifier, settings: OnlineSettings | None = None) -> None:
        if not verifier.is_calibrated:
            raise CheckpointError(
                "the system is not calibrated, so no score says whether two windows are of one speaker; `xvectors "
                "calibrate DIR --data SPEAKERS` calibrates it"
            )
        self.settings = settings or OnlineSettings()
        self.joined: dict[int, int] = {}
        self._scorer = LLRs(replace(verifier, bounds=None))
        self._sums = list[Row]()
        self._totals = list[float]()
        self._last = -1
        self._held: _Window | None = None

    def __len__(self) -> int:
        """Return the number of speakers found, with those who turned out to be somebody else."""
        return len(self._sums)

    def decide(self, row: Row, window_s: float, seconds: float, *, last: bool) -> list[Decided]:
        """Return who speaks in the windows that are decided now, in order: the one that waits, and this one.

        Parameters
        ----------
        row, window_s, seconds
            Embedding [D] of the window, its duration, and the speech that it stands for.
        last
            Whether the speech ends with this window, so that none after it can be waited for.
        """
        window = _Window(row, window_s, seconds)
        if not self._sums:
            return [self._new(window)]
        llrs = self._llrs(row, window_s)
        is_new = llrs.max() < self.settings.new_llr and window_s >= MIN_WINDOW_S
        if is_new and len(self._sums) - len(self.joined) < self.settings.most_speakers:
            if self._held is not None:
                held, self._held = self._held, None
                return self._both(held, window, last=last)
            if not last:
                self._held = window
                return []
            if llrs.max() < self.settings.alone_llr:
                return [self._new(window)]
        return [*self.give_up_waiting(), self._nearest(window, llrs)]

    def give_up_waiting(self) -> list[Decided]:
        """Decide on the window that waits, if one does: it is of whoever is nearest."""
        if self._held is None:
            return []
        held, self._held = self._held, None
        return [self._nearest(held, self._llrs(held.row, held.window_s))]

    def _both(self, held: _Window, window: _Window, *, last: bool) -> list[Decided]:
        """Make a new speaker of two windows in a row that are unlike everybody, also taken together."""
        seconds = held.seconds + window.seconds
        mean: Row = ((held.seconds * held.row + window.seconds * window.row) / max(seconds, 1e-6)).astype(np.float32)
        if self._llrs(mean, max(held.window_s, window.window_s)).max() < self.settings.new_llr:
            return [self._new(held), self._nearest(window, self._llrs(window.row, window.window_s))]
        first = self._nearest(held, self._llrs(held.row, held.window_s))
        if last:
            return [first, self._nearest(window, self._llrs(window.row, window.window_s))]
        self._held = window
        return [first]

    def _new(self, window: _Window) -> Decided:
        self._sums.append(window.row * np.float32(window.seconds))
        self._totals.append(window.seconds)
        self._last = len(self._sums) - 1
        return Decided(speaker=self._last, sure=True)

    def _nearest(self, window: _Window, llrs: NDArray[np.float32]) -> Decided:
        biased = llrs.copy()
        biased[self._last] += self.settings.stay_llr
        best = int(np.argmax(biased))
        sure = bool(llrs[best] >= self.settings.learn_llr) and window.window_s >= MIN_WINDOW_S
        if sure:
            self._sums[best] = self._sums[best] + window.row * np.float32(window.seconds)
            self._totals[best] += window.seconds
            best = self._without_double(best)
        self._last = best
        return Decided(speaker=best, sure=sure)

    def _llrs(self, row: Row, seconds: float) -> NDArray[np.float32]:
        """Return the LLR of an embedding with each speaker; -inf for those who are somebody else."""
        totals = np.array(self._totals)
        means = np.stack(self._sums) / np.maximum(totals, 1e-6)[:, None].astype(np.float32)
        llrs: Row = self._scorer.matrix(row[None], np.array([seconds]), means, totals)[0]
        llrs[list(self.joined)] = -np.inf
        return llrs

    def _without_double(self, speaker: int) -> int:
        """Join a speaker whose mean has changed with another who turns out to be the same; return who is left."""
        if len(self._sums) - len(self.joined) < 2:
            return speaker
        llrs = self._llrs(self._sums[speaker] / np.float32(max(self._totals[speaker], 1e-6)), self._totals[speaker])
        llrs[speaker] = -np.inf
        other = int(np.argmax(llrs))
        if llrs[other] < self.settings.join_llr:
            return speaker
        kept, gone = min(speaker, other), max(speaker, other)
        self._sums[kept] = self._sums[kept] + self._sums[gone]
        self._totals[kept] += self._totals[gone]
        self.joined[gone] = kept
        return kept
