"""Whether two recordings are of one speaker, or one is of somebody enrolled. In: recordings, what compares them, a
verifier. Out: a Decision, which says what it rests on, or that no answer can be given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.audio.quality import Quality
from xvectors.audio.speech import MAX_SPEECH_S, Heard, listen
from xvectors.errors import AudioError
from xvectors.metrics import bayes_threshold, open_set_posterior
from xvectors.trials import Trials
from xvectors.verification import Verifier

SAME, DIFFERENT, CANNOT_TELL = "same speaker", "different speakers", "cannot tell"

SHORTEST_LEARNED_S = 0.5
"""Calibrations learn from crops of half a second and more. What they say about less is that of half a second."""
SHORTER_SHARE = 0.8
"""Of the shortest recordings that the calibration knows: what is shorter gets no number. The detector of speech is out
by up to a tenth of a second in half a second; a bound of all of it would turn away what was learned from."""
LITTLE_SPEECH_S = 1.0
CERTAIN = 0.8
"""The probability that an answer takes, at equal costs of both errors. With less, more than one answer in five would be
wrong: a toss-up, for whoever acts on it."""
MOSTLY_SILENT = 0.99

EncodeFunction = Callable[[list[Samples]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A recording that a decision rests on: what it is called, and what it is like."""

    name: str
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether two recordings are of one speaker, or one recording is of a speaker who is enrolled.

    Attributes
    ----------
    answer : "same speaker", "different speakers" or "cannot tell"
    score : the back-end's, such as a cosine; None where there is too little speech for it
    llr : natural log of how much likelier the recordings are of one speaker than of two; None where there is too little
        speech, or no calibration
    probability : of one speaker, by the LLR and `p_target`; None where there is no LLR
    p_target : the probability of one speaker before the recordings were heard
    threshold : the LLR at which one and two speakers are equally probable
    recordings : both sides, or the one that was compared with a speaker who is enrolled
    reasons : why no answer can be given, or what makes the answer weaker than its number
    speaker : the name of the speaker who is enrolled; None for two recordings
    """

    answer: str
    score: float | None
    llr: float | None
    probability: float | None
    p_target: float
    threshold: float
    recordings: tuple[Recorded, ...]
    reasons: tuple[str, ...]
    speaker: str | None = None

    @property
    def same_speaker(self) -> bool | None:
        """True or False; None for "cannot tell"."""
        return None if self.answer == CANNOT_TELL else self.answer == SAME

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "answer": self.answer,
            "speaker": self.speaker,
            "same_speaker": self.same_speaker,
            "score": self.score,
            "llr": self.llr,
            "probability": self.probability,
            "p_target": self.p_target,
            "threshold": self.threshold,
            "recordings": [{"name": side.name, **side.quality.to_dict()} for side in self.recordings],
            "reasons": list(self.reasons),
        }


def decide(
    first: Any,
    second: Any,
    *,
    encode: EncodeFunction,
    verifier: Verifier,
    sample_rate_hz: int,
    channel: Channel = "mix",
    waveform_rate_hz: int | None = None,
    p_target: float | None = None,
) -> Decision:
    """Compare two recordings by their speech.

    Parameters
    ----------
    first, second
        Recordings as `listen` takes them.
    encode
        Gives float32 [recordings, D] of waveforms at `sample_rate_hz`.
    verifier
        The system's back-end and calibration. Without calibration the answer is "cannot tell".
    channel, waveform_rate_hz
        As in `listen`.
    p_target
        The probability of one speaker before the recordings were heard; by default the verifier's.

    The embedding is that of the speech, with its short pauses; the LLR is the one that so many seconds of speech
    support, not so many seconds of recording. The answer is "cannot tell" where a side sounds like music, tones or a
    machine and not like speech, with less than 0.4 s of speech (0.8 times the shortest recordings that the calibration
    learned from, where these last more than 0.5 s), without a calibration, and with a probability between 0.2 and 0.8.

    Raises
    ------
    AudioError
        A recording that cannot be read.
    ConfigError
        A `p_target` outside (0, 1).
    """
    sides = [
        listen(recording, name, sample_rate_hz=sample_rate_hz, waveform_rate_hz=waveform_rate_hz, channel=channel)
        for recording, name in ((first, "the first recording"), (second, "the second recording"))
    ]

    def compare() -> tuple[float, float | None]:
        score = _score(sides, encode, verifier)
        if not verifier.is_calibrated:
            return score, None
        return score, float(verifier.llrs([score], [sides[0].speech_s], [sides[1].speech_s])[0])

    return judge(sides, compare, verifier, p_target=p_target)


def judge(
    sides: Sequence[Heard],
    compare: Callable[[], tuple[float, float | None]],
    verifier: Verifier,
    *,
    p_target: float | None = None,
    speaker: str | None = None,
) -> Decision:
    """The decision on recordings that were listened to. `compare` gives score and LLR (None without calibration), and
    is asked where there is enough speech; `speaker` is who a single recording is compared with. ConfigError for a
    `p_target` outside (0, 1)."""
    prior = verifier.p_target if p_target is None else p_target
    threshold = bayes_threshold(prior)
    reasons = [reason for reason in (lacking(side, verifier) for side in sides) if reason]
    score = llr = probability = None
    answer = CANNOT_TELL
    if not reasons:
        score, llr = compare()
        reasons = [*of_verifier(verifier), *of_sides(sides)]
        if llr is not None:
            posterior = open_set_posterior([llr], prior)
            probability = float(posterior.enrolled[0])
            answer = {True: SAME, False: DIFFERENT, None: CANNOT_TELL}[is_certain(probability, posterior.nobody)]
            if answer == CANNOT_TELL:
                reasons.insert(0, f"the probability is between {1 - CERTAIN:.0%} and {CERTAIN:.0%}")
            else:
                reasons += of_prior(llr, prior)
    return Decision(
        answer=answer,
        score=score,
        llr=llr,
        probability=probability,
        p_target=prior,
        threshold=threshold,
        recordings=tuple(Recorded(name=side.name, quality=side.quality) for side in sides),
        reasons=tuple(reasons),
        speaker=speaker,
    )


def describe(decision: Decision) -> Iterator[str]:
    """The decision in lines to read: the answer, what it rests on, reasons, and both recordings with their notes."""
    yield decision.answer
    if decision.llr is not None and decision.probability is not None:
        name = decision.speaker
        what, one, two, even, yes = (
            ("recordings are", "one speaker", "two", "one and two speakers are", "one speaker")
            if name is None
            else ("recording is", name, "somebody else", f"{name} and somebody else are", name)
        )
        if decision.llr < 0:
            one, two = ("two speakers", "one") if name is None else (two, one)
        times = _times(abs(decision.llr))
        yield f"LLR {decision.llr:+.2f} (natural log): the {what} {times} as likely of {one} as of {two}"
        yield (
            f"probability of {yes}: {_percent(decision.probability)}, where it was {_percent(decision.p_target)} before"
        )
        yield f"threshold: an LLR of {decision.threshold:.2f}, where {even} equally probable"
    elif decision.score is not None:
        yield f"score {decision.score:.3f}, which is no LLR"
    for reason in decision.reasons:
        yield f"note: {reason}"
    for side in decision.recordings:
        yield about(side.name, side.quality)


def about(name: str, quality: Quality) -> str:
    """A recording in a line: how much speech there is in it, and what to know of it."""
    speech = f"{name}: {_seconds(quality.speech_s)} of speech in {_seconds(quality.duration_s)}"
    return "; ".join((speech, *quality.notes))


def _times(log_ratio: float) -> str:
    if log_ratio > math.log(1e6):
        return "over a million times"
    ratio = math.exp(log_ratio)
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def _percent(probability: float) -> str:
    if probability > 0.999:
        return "over 99.9%"
    return "under 0.1%" if probability < 0.001 else f"{probability:.1%}"


def least_speech_s(verifier: Verifier) -> float:
    """Seconds of speech below which no LLR of this verifier is given."""
    return SHORTER_SHARE * max(SHORTEST_LEARNED_S, float(verifier.basis.get("shortest_s", 0.0)))


def lacking(side: Heard, verifier: Verifier) -> str:
    """Why this recording cannot be compared with any; empty where it can."""
    quality, least_s = side.quality, least_speech_s(verifier)
    if quality.duration_s < least_s:
        return f"{side.name} lasts {quality.duration_s:.2f} s, and {least_s:.1f} s of speech are needed"
    if quality.silent_share >= MOSTLY_SILENT:
        return f"{side.name} is silent"
    if not side.speech_s:
        return f"{side.name} holds no speech, only noise (or a whisper) in its {quality.duration_s:.1f} s"
    if quality.is_unlike_speech:
        return f"{side.name}: no speech found; it sounds like music, tones or a machine"
    if side.speech_s < least_s:
        return f"{side.name} holds {side.speech_s:.2f} s of speech, and {least_s:.1f} s are needed"
    return ""


def _score(sides: list[Heard], encode: EncodeFunction, verifier: Verifier) -> float:
    embeddings = encode([side.samples for side in sides])
    if not np.isfinite(embeddings).all():
        raise AudioError(f"{sides[0].name}, {sides[1].name}: an embedding is not finite; are the samples sound?")
    pair = Trials(
        enroll=np.zeros(1, dtype=np.int32), test=np.ones(1, dtype=np.int32), target=np.zeros(1, dtype=np.bool_)
    )
    return float(verifier.score(embeddings, pair)[0])


def is_certain(probability: float, otherwise: float) -> bool | None:
    """Whether something holds, given its probability and that of its opposite; None where neither is CERTAIN."""
    if probability >= CERTAIN:
        return True
    return False if otherwise >= CERTAIN else None


def of_verifier(verifier: Verifier) -> list[str]:
    """What to know of every answer that rests on this verifier."""
    if not verifier.is_calibrated:
        return [
            "the system is not calibrated, so that nothing says what its score means; `xvectors calibrate DIR --data "
            "SPEAKERS` learns it"
        ]
    if not verifier.basis.get("held_out", True):
        return ["the calibration rests on speakers that the system was trained on: others' LLRs are too sure"]
    return []


def of_prior(log_ratio: float, prior: float) -> list[str]:
    """What to know of a certain answer whose odds rose by this natural log over those of the prior."""
    if abs(log_ratio) >= math.log(CERTAIN / (1 - CERTAIN)):
        return []
    return [f"the recordings say little: the answer is mostly that of the prior, {prior:g}"]


def of_sides(sides: Sequence[Heard]) -> list[str]:
    """What makes a comparison of these recordings weaker than its number."""
    found = []
    if len(sides) == 2 and np.array_equal(sides[0].samples, sides[1].samples):
        found.append("the two are one and the same recording, which says nothing about speakers")
    for side in sides:
        if side.speech_s < LITTLE_SPEECH_S:
            found.append(f"{side.name} holds only {side.speech_s:.2f} s of speech: the LLR is one of so little")
        if side.quality.speech_s > MAX_SPEECH_S:
            found.append(f"{side.name}: only its first {MAX_SPEECH_S:.0f} s of speech were compared")
    return found
