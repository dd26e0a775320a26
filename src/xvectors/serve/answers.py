"""Answers of the service, as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from xvectors.gallery import Doubt, Identification
from xvectors.verification.decision import Decision, RecordingSummary

Verdict = Literal["accept", "reject", "cannot_tell"]


class Answer(BaseModel):
    """What every answer states."""

    request_id: str
    model: str = Field(description="Name of the system.")
    model_fingerprint: str = Field(description="SHA-256 of its features and weights.")
    processing_time_ms: float


class RecordingReport(BaseModel):
    """A recording and its quality."""

    name: str
    duration_s: float
    speech_s: float
    sample_rate_hz: int
    snr_db: float | None = None
    level_dbfs: float | None = None
    bandwidth_hz: float | None = None
    clipped_share: float
    silent_share: float
    speech_like_share: float | None = None
    notes: list[str] = Field(description="Warnings about the recording.")

    @classmethod
    def of(cls, summary: RecordingSummary) -> RecordingReport:
        values = summary.to_dict()
        return cls(**{name: values[name] for name in cls.model_fields})


class DecisionAnswer(Answer):
    """What every decision states."""

    decision: Verdict
    llr: float | None = Field(description="Natural log of the likelihood ratio; null if none was computed.")
    prior: float = Field(description="Probability before the recording was heard.")
    probability: float | None = Field(description="Probability after it was heard.")
    threshold: float | None = Field(description="LLR at which both answers are equally probable.")
    reasons: list[str] = Field(description="Why there is no answer, or what weakens it.")
    speech_s: float = Field(description="Seconds of speech in the recording that was tested.")


class VerifyAnswer(DecisionAnswer):
    """Whether a recording is of the same speaker as another one, or of an enrolled speaker."""

    verified: bool = Field(description="Whether the decision is `accept`.")
    confidence: float | None = Field(description="The probability, under LocalAI's name.")
    score: float | None = Field(description="Score of the back-end, such as a cosine.")
    speaker: str | None = Field(description="The enrolled speaker; null for two recordings.")
    recordings: list[RecordingReport]


class MatchAnswer(BaseModel):
    """The match with one enrolled speaker."""

    id: str
    name: str
    match: bool = Field(description="Whether the decision is that it is this speaker.")
    score: float
    llr: float | None
    probability: float | None
    confidence: float | None


class IdentifyAnswer(DecisionAnswer):
    """Which enrolled speaker a recording is of: `accept` names one, `reject` means nobody enrolled."""

    speaker: str | None = Field(description="The speaker; null unless the decision is `accept`.")
    most_likely: str | None
    p_nobody: float | None = Field(description="Probability of nobody enrolled.")
    matches: list[MatchAnswer]
    num_enrolled: int
    num_left_out: int = Field(description="Speakers who are enrolled with other systems only.")
    recording: RecordingReport | None


class EmbedAnswer(Answer):
    """The embedding of a recording."""

    embedding: list[float]
    dim: int
    speech_s: float
    recording: RecordingReport


class DoubtAnswer(BaseModel):
    """A new recording that does not sound like the speaker's others."""

    recording: int = Field(description="Its position among the new recordings, from 0.")
    llr: float
    threshold: float

    @classmethod
    def of(cls, doubt: Doubt) -> DoubtAnswer:
        return cls(recording=doubt.recording, llr=doubt.llr, threshold=doubt.threshold)


class SpeakerAnswer(BaseModel):
    """An enrolled speaker."""

    id: str
    name: str
    status: Literal["enrolled", "enrolling", "expired", "other_system"] = Field(
        description="`enrolling`: more speech is needed; `other_system`: to be enrolled again with this system."
    )
    num_voiceprints: int
    num_expired: int
    speech_s: float = Field(description="Seconds of speech of voiceprints that match.")
    speech_needed_s: float = Field(description="Seconds of speech still needed until `enrolled`.")
    consent: list[str]
    enrolled_at: str
    expires_at: str | None = Field(description="When the next voiceprint expires.")


class RegisterAnswer(Answer):
    """What was enrolled."""

    id: str
    name: str
    num_added: int
    num_before: int
    speech_s: float = Field(description="Seconds of speech that were added.")
    checked: bool = Field(description="Whether the recordings were compared with each other and with earlier ones.")
    doubts: list[DoubtAnswer]
    repeated: list[int] = Field(description="New recordings, from 0, that were enrolled before or are given twice.")
    speaker: SpeakerAnswer
    recordings: list[RecordingReport]


class AnalyzeAnswer(Answer):
    """The quality of a recording, and whether it can be compared."""

    usable: bool
    reasons: list[str]
    speech_s: float
    recording: RecordingReport


class SpeakersAnswer(BaseModel):
    """One page of the enrolled speakers, sorted by name."""

    speakers: list[SpeakerAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last one.")


class PointAnswer(BaseModel):
    """A speaker on the map."""

    name: str
    x: float = Field(description="From -1 to 1.")
    y: float = Field(description="From -1 to 1.")
    nearest: str | None = Field(description="The speaker on the map who sounds most alike.")
    cosine: float | None = Field(description="Cosine of the mean embeddings of the two.")


class MapAnswer(BaseModel):
    """The enrolled speakers in the plane, where voices that sound alike are close to each other."""

    points: list[PointAnswer] = Field(description="At most 500, sorted by name.")
    num_speakers: int = Field(description="Speakers who could be on it.")
    shown_share: float = Field(description="Share of the variance of the voices that the plane shows.")


class ForgottenAnswer(BaseModel):
    """What was removed."""

    removed: int = Field(description="Number of voiceprints.")


def verdict_of(decision: Decision) -> Verdict:
    """Return the answer of a verification."""
    if decision.same_speaker is None:
        return "cannot_tell"
    return "accept" if decision.same_speaker else "reject"


def verdict_on(found: Identification) -> Verdict:
    """Return the answer of an identification."""
    if not found.decided:
        return "cannot_tell"
    return "accept" if found.speaker is not None else "reject"
