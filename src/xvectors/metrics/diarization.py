"""Errors of diarization, exact in time: DER and JER from the turns of a reference and a hypothesis.

Time is cut at every boundary into intervals within which nothing changes, so that no frame length matters. DER and its
three parts are those of NIST's Rich Transcription evaluations (md-eval), JER is that of the second DIHARD challenge
(Ryant et al., Interspeech 2019). Speakers are mapped one to one such that the time scored as correct is greatest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ConfigError, ShapeError
from xvectors.metrics.bootstrap import interval_ends
from xvectors.text import short_repr

MIN_RECORDINGS = 5
"""Fewer recordings give too few distinct draws for percentiles."""


class Scoring(NamedTuple):
    """What is scored: everything but a collar on each side of every boundary of the reference, perhaps no overlap.

    `collar_s` counts on each side, as in md-eval; the `collar` of pyannote.metrics is the total width, twice as much.
    """

    collar_s: float
    skip_overlap: bool


FULL = Scoring(0.0, False)
"""Everything: what is comparable across publications."""
FAIR = Scoring(0.25, False)
FORGIVING = Scoring(0.25, True)
SCORINGS = {"full": FULL, "fair": FAIR, "forgiving": FORGIVING}


@short_repr()
class SpeakerTurns(NamedTuple):
    """Turns of one recording: `start_s` and `end_s`, float64 [n], and the speakers' numbers from 0, int64 [n].

    Overlapping turns of one speaker count once, and turns without duration do not count.
    """

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    speaker: NDArray[np.int64]

    @classmethod
    def of(cls, start_s: ArrayLike, end_s: ArrayLike, speaker: ArrayLike) -> SpeakerTurns:
        """Check the turns, and number the speakers [n], numbers or names, in sorted order.

        Raises ShapeError for arrays of unequal length, times that are not finite, and turns that end before they start.
        """
        starts, ends = np.asarray(start_s, dtype=np.float64), np.asarray(end_s, dtype=np.float64)
        names = np.asarray(speaker)
        if not starts.ndim == ends.ndim == names.ndim == 1 or not len(starts) == len(ends) == len(names):
            raise ShapeError(
                f"turns have starts {list(starts.shape)}, ends {list(ends.shape)} and speakers {list(names.shape)}: "
                "give one of each a turn, [n]"
            )
        wrong = np.flatnonzero(~(np.isfinite(starts) & np.isfinite(ends) & (ends >= starts)))
        if len(wrong):
            at = int(wrong[0])
            raise ShapeError(f"turn {at} is from {starts[at]} s to {ends[at]} s: give finite times, the start first")
        _, numbers = np.unique(names, return_inverse=True)
        return cls(starts, ends, numbers.astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class DiarizationErrors:
    """Speaker time in seconds of one recording or, summed with `+`, of several.

    Attributes
    ----------
    speech_s : time of the reference's speakers, those who overlap counted each
    missed_s : time of reference speakers beyond the number that the hypothesis has there
    false_alarm_s : time of hypothesis speakers beyond the number that the reference has there
    confusion_s : time of other speakers than the ones mapped
    jaccard : sum over the reference's speakers of 1 - intersection / union with the speaker mapped
    num_speakers : number of speakers in the reference
    """

    speech_s: float
    missed_s: float
    false_alarm_s: float
    confusion_s: float
    jaccard: float
    num_speakers: int

    @property
    def der(self) -> float:
        """Diarization error rate: all errors over `speech_s`; it may exceed 1. NaN where nobody speaks."""
        return self._share(self.missed_s + self.false_alarm_s + self.confusion_s)

    @property
    def jer(self) -> float:
        """Jaccard error rate: every speaker counts alike, however long; at most 1."""
        return self.jaccard / self.num_speakers if self.num_speakers else float("nan")

    @property
    def missed(self) -> float:
        return self._share(self.missed_s)

    @property
    def false_alarm(self) -> float:
        return self._share(self.false_alarm_s)

    @property
    def confusion(self) -> float:
        return self._share(self.confusion_s)

    def __add__(self, other: DiarizationErrors) -> DiarizationErrors:
        return DiarizationErrors(
            speech_s=self.speech_s + other.speech_s,
            missed_s=self.missed_s + other.missed_s,
            false_alarm_s=self.false_alarm_s + other.false_alarm_s,
            confusion_s=self.confusion_s + other.confusion_s,
            jaccard=self.jaccard + other.jaccard,
            num_speakers=self.num_speakers + other.num_speakers,
        )

    def _share(self, seconds: float) -> float:
        return seconds / self.speech_s if self.speech_s else float("nan")


NO_ERRORS = DiarizationErrors(
    speech_s=0.0, missed_s=0.0, false_alarm_s=0.0, confusion_s=0.0, jaccard=0.0, num_speakers=0
)


@dataclass(frozen=True, kw_only=True)
class RecordingInterval:
    """A rate with its confidence interval over recordings of the same kind."""

    value: float
    low: float
    high: float
    confidence: float
    num_recordings: int


def diarization_errors(
    reference: SpeakerTurns,
    hypothesis: SpeakerTurns,
    *,
    regions_s: ArrayLike | None = None,
    scoring: Scoring = FULL,
) -> DiarizationErrors:
    """Compare the turns of a hypothesis with those of a reference.

    Parameters
    ----------
    regions_s
        [k, 2], starts and ends of what is scored (the UEM); they may overlap. None: from the first to the last
        boundary of both, as in pyannote.metrics, where md-eval takes the reference's alone.
    scoring
        `FULL`, `FAIR`, `FORGIVING` or another collar. The mapping of speakers is the best one for what is scored.

    Raises
    ------
    ShapeError
        Regions of another shape, that are not finite or end before they start.
    ConfigError
        A collar below 0.
    """
    collar_s = scoring.collar_s
    if not 0 <= collar_s < np.inf:
        raise ConfigError(f"collar_s is {collar_s}: give the seconds on each side of a boundary, 0 or more")
    every = np.concatenate([*reference[:2], *hypothesis[:2]])
    regions = np.empty((0, 2)) if not len(every) else np.array([[every.min(), every.max()]])
    if regions_s is not None:
        regions = _checked_regions(regions_s)
    spoken = reference.end_s > reference.start_s
    bounds = np.concatenate([reference.start_s[spoken], reference.end_s[spoken]])
    collars = np.stack([bounds - collar_s, bounds + collar_s], axis=1)
    edges = np.unique(np.concatenate([every, regions.ravel(), collars.ravel()]))
    if len(edges) < 2:
        return NO_ERRORS
    ref, hyp = _present(reference, edges), _present(hypothesis, edges)
    scored = _covered(regions, edges)
    if collar_s:
        scored &= ~_covered(collars, edges)
    if scoring.skip_overlap:
        scored &= ref.sum(axis=1) < 2
    weight = np.diff(edges)[scored]
    ref, hyp = ref[scored], hyp[scored]
    common_s = np.asarray((ref * weight[:, None]).T @ hyp.astype(np.float64), dtype=np.float64)
    num_ref, num_hyp = ref.sum(axis=1), hyp.sum(axis=1)
    both_s = float(weight @ np.minimum(num_ref, num_hyp))
    jaccard, num_speakers = _jaccard(common_s, weight @ ref.astype(np.float64), weight @ hyp.astype(np.float64))
    return DiarizationErrors(
        speech_s=float(weight @ num_ref),
        missed_s=float(weight @ np.maximum(num_ref - num_hyp, 0)),
        false_alarm_s=float(weight @ np.maximum(num_hyp - num_ref, 0)),
        confusion_s=max(0.0, both_s - _most(common_s)),
        jaccard=jaccard,
        num_speakers=num_speakers,
    )


def der_interval(
    errors: Sequence[DiarizationErrors], *, num_draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> RecordingInterval:
    """Return the DER of all recordings together, with its bootstrap interval over recordings.

    Draws take as many recordings as there are, with replacement; the interval is the expanded percentile interval of
    `xvectors.metrics.bootstrap`.

    Raises
    ------
    ShapeError
        Fewer than 5 recordings, or none with speech.
    ConfigError
        A confidence outside (0, 1), or fewer than 100 draws.
    """
    if not 0.0 < confidence < 1.0 or num_draws < 100:
        raise ConfigError(f"confidence {confidence} and {num_draws} draws: give one within (0, 1), and at least 100")
    if len(errors) < MIN_RECORDINGS:
        raise ShapeError(
            f"an interval over recordings needs at least {MIN_RECORDINGS} of them, there are {len(errors)}: "
            "measure on more, or without intervals"
        )
    wrong_s = np.array([each.missed_s + each.false_alarm_s + each.confusion_s for each in errors])
    speech_s = np.array([each.speech_s for each in errors])
    if not speech_s.any():
        raise ShapeError("nobody speaks in the reference of any recording, so there is no error rate")
    drawn = np.random.default_rng(seed).integers(0, len(errors), (num_draws, len(errors)))
    totals = speech_s[drawn].sum(axis=1)
    rates = wrong_s[drawn].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = interval_ends(rates, confidence, len(errors))
    return RecordingInterval(
        value=float(wrong_s.sum() / speech_s.sum()),
        low=float(low),
        high=float(high),
        confidence=confidence,
        num_recordings=len(errors),
    )


def _checked_regions(regions_s: ArrayLike) -> NDArray[np.float64]:
    regions = np.asarray(regions_s, dtype=np.float64)
    if regions.ndim != 2 or regions.shape[1] != 2:
        raise ShapeError(f"regions have the shape {list(regions.shape)}: give starts and ends in seconds, [k, 2]")
    if not np.isfinite(regions).all() or (regions[:, 0] > regions[:, 1]).any():
        raise ShapeError("a region is not finite or ends before it starts: give starts and ends in seconds, [k, 2]")
    return regions


def _present(turns: SpeakerTurns, edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return bool [intervals, speakers]: who speaks between each two edges."""
    count = int(turns.speaker.max()) + 1 if len(turns.speaker) else 0
    changes = np.zeros((len(edges), count), dtype=np.int64)
    np.add.at(changes, (np.searchsorted(edges, turns.start_s), turns.speaker), 1)
    np.add.at(changes, (np.searchsorted(edges, turns.end_s), turns.speaker), -1)
    return np.asarray(np.cumsum(changes, axis=0)[:-1] > 0)


def _covered(spans: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return bool [intervals]: what lies within any of the spans [k, 2]."""
    changes = np.zeros(len(edges), dtype=np.int64)
    np.add.at(changes, np.searchsorted(edges, spans[:, 0]), 1)
    np.add.at(changes, np.searchsorted(edges, spans[:, 1]), -1)
    return np.asarray(np.cumsum(changes)[:-1] > 0)


def _most(common_s: NDArray[np.float64]) -> float:
    from scipy.optimize import linear_sum_assignment

    return float(common_s[linear_sum_assignment(common_s, maximize=True)].sum())


def _jaccard(
    common_s: NDArray[np.float64], ref_s: NDArray[np.float64], hyp_s: NDArray[np.float64]
) -> tuple[float, int]:
    """Return the sum of the Jaccard errors of the reference's speakers under their best mapping, and their number."""
    from scipy.optimize import linear_sum_assignment

    there = ref_s > 0
    common_s, ref_s = common_s[there], ref_s[there]
    union = ref_s[:, None] + hyp_s[None] - common_s
    shared = np.divide(common_s, union, out=np.zeros_like(union), where=union > 0)
    return float(len(ref_s) - shared[linear_sum_assignment(shared, maximize=True)].sum()), len(ref_s)
