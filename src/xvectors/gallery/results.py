"""Results of the methods of a gallery: plain values that can be written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xvectors.verification.decision import CANNOT_TELL, RecordingSummary

NOBODY = "nobody enrolled"


@dataclass(frozen=True, kw_only=True)
class Match:
    """The match of a recording with one enrolled speaker.

    Attributes
    ----------
    speaker : name
    score : score of the back-end, such as a cosine
    llr : natural-log likelihood ratio; None where the system is not calibrated
    probability : probability of this speaker; None where the system is not calibrated
    threshold : LLR at which this speaker is as probable as nobody enrolled; None where the system is not calibrated
    same_speaker : the answer; None where the probability is between 0.2 and 0.8 or the system is not calibrated
    """

    speaker: str
    score: float
    llr: float | None
    probability: float | None
    threshold: float | None
    same_speaker: bool | None


@dataclass(frozen=True, kw_only=True)
class Identification:
    """Which enrolled speaker a recording is of, if any.

    Attributes
    ----------
    speaker : name; None for nobody enrolled, and where there is no answer
    decided : whether one answer, a speaker or nobody enrolled, has a probability of at least 0.8
    most_likely : the most probable speaker; None where that is nobody enrolled, or there are no probabilities
    p_nobody : probability of nobody enrolled; None where there are no probabilities
    matches : the best matches by LLR (by score without a calibration), at most the number requested
    num_enrolled : number of speakers that the recording was compared with
    p_target : prior probability that the recording is of any enrolled speaker
    left_out : names of speakers who are enrolled with other systems only, and were not compared
    reasons : why there is no answer, or what weakens the answer
    recording : the recording; None where an embedding was identified
    """

    speaker: str | None
    decided: bool
    most_likely: str | None
    p_nobody: float | None
    matches: tuple[Match, ...]
    num_enrolled: int
    p_target: float
    left_out: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    recording: RecordingSummary | None = None

    @property
    def answer(self) -> str:
        """The answer in words: a name, "nobody enrolled", or "cannot tell" and the most likely speaker."""
        if self.decided:
            return self.speaker or NOBODY
        return CANNOT_TELL if self.p_nobody is None else f"{CANNOT_TELL}, most likely {self.most_likely or NOBODY}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        recording = None if self.recording is None else self.recording.to_dict()
        return {"answer": self.answer, **asdict(self), "recording": recording}


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A new recording that does not sound like the speaker.

    Attributes
    ----------
    recording : index among the new recordings
    llr : LLR against all other recordings under that name
    threshold : LLR below which the recording is doubted
    """

    recording: int
    llr: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class EnrollmentResult:
    """The result of `Gallery.enroll`.

    Attributes
    ----------
    num_before : number of voiceprints the name had before, of any system, expired ones included
    checked : whether the new recordings were compared with each other and with the earlier ones
    doubts : new recordings whose LLR was below the threshold
    repeated : indices of new recordings that were enrolled under this name before, or are given twice
    """

    speaker: str
    num_added: int
    num_before: int
    checked: bool
    doubts: tuple[Doubt, ...]
    repeated: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """The result of `import_gallery`.

    Attributes
    ----------
    num_added, num_known : number of voiceprints added, and of those that were present already
    merged : names that were enrolled before and got further voiceprints, sorted
    doubts : by name, the voiceprints whose LLR against all others of that name was below the threshold; their indices
        count the name's new voiceprints in the order of the file
    unchecked : names whose new voiceprints could not be compared, because they are of other systems or because the
        gallery's system is not calibrated, sorted
    """

    num_added: int
    num_known: int
    merged: tuple[str, ...]
    doubts: dict[str, tuple[Doubt, ...]]
    unchecked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReEnrollmentResult:
    """The result of `Gallery.re_enroll`.

    Attributes
    ----------
    renewed : number of renewed voiceprints by name
    failed : name and reason for each recording that could not be embedded
    without_audio : names that are still enrolled with other systems only
    """

    renewed: dict[str, int]
    failed: tuple[str, ...]
    without_audio: tuple[str, ...]
