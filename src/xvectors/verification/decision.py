"""Decide whether two recordings, or a recording and an enrolled speaker, are of the same speaker.

`verify` reads from top to bottom: hear both sides, list the reasons not to answer, score, turn the score into an LLR
and the LLR into a probability, and answer. Where it cannot answer, it says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio import Channel, Samples
from xvectors.audio.quality import Quality
from xvectors.audio.recording import Recording
from xvectors.audio.speech import MAX_SPEECH_S, Heard
from xvectors.errors import AudioError, GalleryError
from xvectors.metrics.detection_cost import bayes_threshold
from xvectors.metrics.identification import Posterior, open_set_posterior
from xvectors.trials.pairs import Trials
from xvectors.verification.shift import caveats_of_condition
from xvectors.verification.speaker_models import EnrolledSpeaker
from xvectors.verification.verifier import Verifier, magnitudes_of

SAME, DIFFERENT, CANNOT_TELL = "same speaker", "different speakers", "cannot tell"

MIN_PROBABILITY = 0.8
"""Probability that an answer needs, at equal costs of both errors. With less, more than one answer in five would be
wrong."""
MIN_CROP_S = 0.5
"""Calibrations are learned from crops of at least this duration."""
MIN_SPEECH_SHARE = 0.8
"""Share of the shortest calibration recording's duration that a recording needs. VAD is off by up to a tenth of a
second in half a second, so a share of 1 would reject recordings like those in the calibration set."""
MIN_SPEECH_S = MIN_SPEECH_SHARE * MIN_CROP_S
"""A recording with less speech than this is never compared."""
SHORT_SPEECH_S = 1.0
"""A recording with less speech than this is remarked on."""
SILENT_SHARE = 0.99
"""A recording with at least this share of silence counts as silent."""
EARLIER_VERSION = (
    "calibrated by an earlier version: its LLRs have no bounds and do not know the condition of recordings; "
    "`xvectors calibrate DIR` learns both"
)
"""Completes "the system was"."""
OTHER_SYSTEM_REMEDY = (
    "enroll again with this one; `xvectors re-enroll` does so where the recordings were kept (--keep-audio)"
)


class Encoder(Protocol):
    """The part of `SpeakerEncoder` that a decision needs."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def verifier(self) -> Verifier: ...

    def listen(
        self,
        recording: Recording,
        *,
        name: str = "recording",
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
    ) -> Heard: ...

    def encode_heard(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class RecordingSummary:
    """The name and the quality of a recording that a decision is based on."""

    name: str
    quality: Quality

    @classmethod
    def from_heard(cls, heard: Heard) -> RecordingSummary:
        return cls(name=heard.name, quality=heard.quality)

    def __str__(self) -> str:
        """Return one line: the amount of speech in the recording, and warnings about it."""
        speech = f"{self.name}: {_seconds(self.quality.speech_s)} of speech in {_seconds(self.quality.duration_s)}"
        return "; ".join((speech, *self.quality.notes))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"name": self.name, **self.quality.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether two recordings, or a recording and an enrolled speaker, are of the same speaker.

    Attributes
    ----------
    answer : "same speaker", "different speakers" or "cannot tell"
    score : score of the back-end, such as a cosine; None where there is too little speech for one
    llr : natural log of the likelihood ratio, same speaker to different speakers; None where there is too little
        speech or no calibration
    probability : probability of the same speaker, given the LLR and `p_target`; None where there is no LLR
    p_target : probability of the same speaker before the recordings were heard
    threshold : LLR at which both answers are equally probable
    recordings : both recordings, or the one compared with an enrolled speaker
    reasons : why there is no answer, or what weakens the answer
    speaker : name of the enrolled speaker; None for two recordings
    """

    answer: str
    score: float | None
    llr: float | None
    probability: float | None
    p_target: float
    threshold: float
    recordings: tuple[RecordingSummary, ...]
    reasons: tuple[str, ...]
    speaker: str | None = None

    @property
    def same_speaker(self) -> bool | None:
        """True or False; None for "cannot tell"."""
        return None if self.answer == CANNOT_TELL else self.answer == SAME

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "answer": self.answer,
            "speaker": self.speaker,
            "same_speaker": self.same_speaker,
            "score": self.score,
            "llr": self.llr,
            "probability": self.probability,
            "p_target": self.p_target,
            "threshold": self.threshold,
            "recordings": [recording.to_dict() for recording in self.recordings],
            "reasons": list(self.reasons),
        }


def verify(
    encoder: Encoder,
    enroll: Recording | EnrolledSpeaker,
    test: Recording,
    *,
    p_target: float | None = None,
    sample_rate_hz: int | None = None,
    channel: Channel | None = None,
) -> Decision:
    """Decide whether `test` is of the same speaker as `enroll`.

    Only speech is embedded, with its short pauses, and the LLR is the one for that much speech, not for the duration
    of the file. The answer is "cannot tell" where a recording sounds like music, tones or a machine, holds less than
    0.4 s of speech (0.8 times the shortest calibration recording, where that is longer than 0.5 s), where the system is
    not calibrated, and where the probability is between 0.2 and 0.8.

    Parameters
    ----------
    encoder
        A `SpeakerEncoder`.
    enroll
        A recording, in any form that `SpeakerEncoder.listen` takes, or an `EnrolledSpeaker`.
    test
        A recording.
    p_target
        Probability of the same speaker before the recordings are heard; by default the verifier's.
    sample_rate_hz, channel
        As in `SpeakerEncoder.listen`.

    Raises
    ------
    AudioError
        A recording cannot be read or embedded.
    ConfigError
        `p_target` is outside (0, 1).
    GalleryError
        The speaker was enrolled with another system.
    """
    verifier = encoder.verifier
    prior = verifier.p_target if p_target is None else p_target
    threshold = bayes_threshold(prior)

    # Hear both sides. An enrolled speaker was heard at enrollment.
    speaker: EnrolledSpeaker | None = None
    if isinstance(enroll, EnrolledSpeaker):
        speaker, sides = enroll, {"the recording": test}
        if speaker.system != encoder.fingerprint:
            raise other_system_error(speaker.name, encoder.fingerprint)
    else:
        sides = {"the first recording": enroll, "the second recording": test}
    heard = [
        encoder.listen(recording, name=name, sample_rate_hz=sample_rate_hz, channel=channel)
        for name, recording in sides.items()
    ]

    score = llr = probability = None
    answer = CANNOT_TELL
    reasons = [reason for side in heard if (reason := why_unusable(side, verifier))]
    if not reasons:
        embeddings = encoder.encode_heard([side.samples for side in heard])
        if not np.isfinite(embeddings).all():
            names = ", ".join(side.name for side in heard)
            raise AudioError(f"{names}: an embedding is not finite; check the samples")

        if speaker is not None:
            scores, enroll_s = speaker.model.scores(verifier, embeddings[0]), speaker.model.duration_s
            enroll_condition, enroll_magnitude = speaker.model.condition, speaker.model.magnitude
        else:
            scores, enroll_s = verifier.score(embeddings, _ONE_PAIR), np.array([heard[0].speech_s])
            enroll_condition, enroll_magnitude = heard[0].condition[None], magnitudes_of(embeddings[:1])
        evidence = weigh(
            verifier,
            scores,
            enroll_s,
            heard[-1].speech_s,
            prior,
            enroll_condition=enroll_condition,
            test_condition=heard[-1].condition,
            enroll_magnitude=enroll_magnitude,
            test_magnitude=float(magnitudes_of(embeddings[-1:])[0]),
        )
        score = float(scores[0])
        reasons = [
            *caveats_of_system(verifier),
            *caveats_of_recordings(heard),
            *caveats_of_condition(verifier, heard),
        ]

        if evidence.llrs is not None and evidence.posterior is not None:
            llr, probability = float(evidence.llrs[0]), float(evidence.posterior.enrolled[0])
            same = accepts(probability, evidence.posterior.nobody)
            if same is None:
                low, high = f"{1 - MIN_PROBABILITY:.0%}", f"{MIN_PROBABILITY:.0%}"
                reasons.insert(0, f"the probability is between {low} and {high}, which is too uncertain for an answer")
            else:
                answer = SAME if same else DIFFERENT
                reasons += caveats_of_prior(llr, prior)
    return Decision(
        answer=answer,
        score=score,
        llr=llr,
        probability=probability,
        p_target=prior,
        threshold=threshold,
        recordings=tuple(RecordingSummary.from_heard(side) for side in heard),
        reasons=tuple(reasons),
        speaker=None if speaker is None else speaker.name,
    )


_ONE_PAIR = Trials(
    enroll=np.zeros(1, dtype=np.int32), test=np.ones(1, dtype=np.int32), target=np.zeros(1, dtype=np.bool_)
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The match of one recording with k recordings or models of different speakers.

    Attributes
    ----------
    scores : [k]
    llrs : [k], natural log; None where the system is not calibrated
    posterior : the probabilities that follow from the LLRs and a prior; None where there are none
    """

    scores: NDArray[np.float32]
    llrs: NDArray[np.float64] | None
    posterior: Posterior | None


def weigh(
    verifier: Verifier,
    scores: NDArray[np.float32],
    enroll_s: ArrayLike,
    test_s: float,
    p_target: float,
    num_enrolled: int | None = None,
    *,
    enroll_condition: NDArray[np.float32] | None = None,
    test_condition: NDArray[np.float32] | None = None,
    enroll_magnitude: NDArray[np.float64] | None = None,
    test_magnitude: float | None = None,
) -> Evidence:
    """Turn the scores of one recording against k others into LLRs and probabilities.

    Parameters
    ----------
    scores
        [k] of the back-end.
    enroll_s, test_s
        Seconds of speech of the k sides [k], and of the recording.
    p_target
        Prior probability that the recording is of any enrolled speaker.
    num_enrolled
        Number of enrolled speakers, those without a score included; k by default.
    enroll_condition, test_condition
        The measures of `audio.condition` of the k sides [k, 6], and of the recording [6]; None where unknown.
    enroll_magnitude, test_magnitude
        The log lengths of the embeddings of the k sides [k], and of the recording's; None where unknown.
    """
    if not verifier.is_calibrated:
        return Evidence(scores=scores, llrs=None, posterior=None)
    count = len(scores)
    test_conditions = None if test_condition is None else np.tile(test_condition, (count, 1))
    llrs = verifier.llrs(
        scores,
        enroll_s,
        np.full(count, test_s),
        enroll_condition,
        test_conditions,
        enroll_magnitude=enroll_magnitude,
        test_magnitude=None if test_magnitude is None else np.full(count, test_magnitude),
    )
    return Evidence(scores=scores, llrs=llrs, posterior=open_set_posterior(llrs, p_target, num_enrolled))


def accepts(probability: float, complement: float) -> bool | None:
    """Whether a statement holds, given its probability and its opposite's; None where neither is MIN_PROBABILITY."""
    if probability >= MIN_PROBABILITY:
        return True
    return False if complement >= MIN_PROBABILITY else None


def min_speech_s(verifier: Verifier) -> float:
    """Return the seconds of speech that a recording needs for an LLR."""
    return MIN_SPEECH_SHARE * max(MIN_CROP_S, float(verifier.basis.get("shortest_s", 0.0)))


def why_unusable(heard: Heard, verifier: Verifier) -> str:
    """Say why the recording cannot be compared with others; an empty string where it can."""
    quality, min_s = heard.quality, min_speech_s(verifier)
    if quality.duration_s < min_s:
        return f"{heard.name} lasts {quality.duration_s:.2f} s, but at least {min_s:.1f} s of speech are needed"
    if quality.silent_share >= SILENT_SHARE:
        return f"{heard.name} is silent"
    if not heard.speech_s:
        return f"{heard.name} contains no speech, only noise or a whisper, in its {quality.duration_s:.1f} s"
    if quality.is_unlike_speech:
        return f"{heard.name} contains no speech; it sounds like music, tones or a machine"
    if heard.speech_s < min_s:
        return f"{heard.name} contains {heard.speech_s:.2f} s of speech, but at least {min_s:.1f} s are needed"
    return ""


def caveats_of_system(verifier: Verifier) -> list[str]:
    """Say what weakens every answer of this verifier."""
    if not verifier.is_calibrated:
        return [
            "the system is not calibrated, so its scores have no known meaning; "
            "`xvectors calibrate DIR --data SPEAKERS` calibrates it"
        ]
    if verifier.bounds is None:
        return [f"the system was {EARLIER_VERSION}"]
    if not verifier.basis.get("held_out", True):
        return ["the system is calibrated on its own training speakers, so LLRs of other speakers are overconfident"]
    return []


def caveats_of_recordings(recordings: Sequence[Heard]) -> list[str]:
    """Say what weakens a comparison of these recordings."""
    found = []
    if len(recordings) == 2 and np.array_equal(recordings[0].samples, recordings[1].samples):
        found.append("both recordings are the same, so the comparison says nothing about speakers")
    for heard in recordings:
        if heard.speech_s < SHORT_SPEECH_S:
            found.append(f"{heard.name} contains only {heard.speech_s:.2f} s of speech, so the evidence is weak")
        if heard.quality.speech_s > MAX_SPEECH_S:
            found.append(f"{heard.name}: only the first {MAX_SPEECH_S:.0f} s of speech were compared")
    return found


def caveats_of_prior(log_odds_ratio: float, prior: float) -> list[str]:
    """Say that an answer follows from the prior, where the evidence raised its log-odds by too little to decide."""
    if abs(log_odds_ratio) >= math.log(MIN_PROBABILITY / (1 - MIN_PROBABILITY)):
        return []
    return [f"the recordings give little evidence; the answer mostly follows from the prior of {prior:g}"]


def other_system_error(name: str, fingerprint: str) -> GalleryError:
    """Return the error for a speaker who was enrolled with another system than the one with this fingerprint."""
    return GalleryError(
        f"{name} was enrolled with another system than this one ({fingerprint[:12]}), and embeddings of two systems "
        f"cannot be compared: {OTHER_SYSTEM_REMEDY}"
    )


def describe(decision: Decision) -> Iterator[str]:
    """Yield the decision in lines to read: answer, LLR, probability, threshold, reasons, and the recordings."""
    yield decision.answer
    name = decision.speaker
    one = "one speaker" if name is None else name
    if decision.llr is not None and decision.probability is not None:
        subject = "the recordings are" if name is None else "the recording is"
        hypotheses = [one, "two speakers" if name is None else "someone else"]
        if decision.llr < 0:
            hypotheses.reverse()
        yield (
            f"LLR {decision.llr:+.2f} (natural log): {subject} {_times(abs(decision.llr))} as likely to come from "
            f"{hypotheses[0]} as from {hypotheses[1]}"
        )
        yield f"probability of {one}: {_percent(decision.probability)} (prior {_percent(decision.p_target)})"
        yield f"threshold: LLR {decision.threshold:.2f}, where both answers are equally probable"
    elif decision.score is not None:
        yield f"score {decision.score:.3f} (not an LLR)"
    for reason in decision.reasons:
        yield f"note: {reason}"
    for recording in decision.recordings:
        yield str(recording)


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
