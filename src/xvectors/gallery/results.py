"""What a gallery answers. In: nothing. Out: plain values, which JSON can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xvectors.verification.decision import CANNOT_TELL

NOBODY = "nobody enrolled"


@dataclass(frozen=True, kw_only=True)
class Match:
    """A recording against one enrolled speaker.

    `llr` (natural log), its `threshold` (the LLR at which this speaker is as probable as nobody enrolled),
    `probability` (that it is this speaker) and `same_speaker` are None where the system is not calibrated; `score` then
    is all there is, a cosine. `same_speaker` is None also where the probability is between 0.2 and 0.8.
    """

    speaker: str
    score: float
    llr: float | None
    probability: float | None
    threshold: float | None
    same_speaker: bool | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """A recording against all enrolled speakers.

    Attributes
    ----------
    speaker : who it is; None for nobody enrolled, and where it cannot be told
    decided : whether one answer, a speaker or nobody enrolled, has a probability of 0.8 and more
    most_likely : the most probable speaker; None where that is nobody enrolled, or there are no probabilities
    p_nobody : the probability of nobody enrolled; None where there are no probabilities
    matches : the best, by LLR (by score where there is none), at most as many as were asked for
    num_enrolled : the speakers it was compared with
    p_target : the prior of the recording being of any of them
    left_out : names of speakers who are enrolled with other systems only, and so were not compared
    reasons : why it cannot be told who it is, or what makes the answer weaker than its number
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

    @property
    def answer(self) -> str:
        """The answer in words: a name, "nobody enrolled", or "cannot tell" and who is the most likely."""
        if self.decided:
            return self.speaker or NOBODY
        return CANNOT_TELL if self.p_nobody is None else f"{CANNOT_TELL}, most likely {self.most_likely or NOBODY}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"answer": self.answer, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A new recording that does not seem to be of the speaker: its number among the new ones, from 0, and its LLR
    against all others under that name."""

    recording: int
    llr: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Enrollment:
    """What enrolling did.

    `num_before`: voiceprints the name had before, of any system, expired ones included. `checked`: whether the new
    recordings were compared with each other and those before; `doubts` are those that came out below the threshold.
    `repeated`: numbers of new recordings that were enrolled under this name before, or twice now.
    """

    speaker: str
    num_added: int
    num_before: int
    checked: bool
    doubts: tuple[Doubt, ...]
    repeated: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What importing a gallery file did.

    Attributes
    ----------
    num_added, num_known : voiceprints added, and those that were there already
    merged : names that were enrolled before and got further voiceprints, sorted
    doubts : by name, the voiceprints that came out below the threshold against all others of that name; their numbers
        count from 0 in the order of the file, known ones left out
    unchecked : names with new voiceprints whose voices could not be compared, because they are of other systems or
        because the gallery's is not calibrated, sorted
    """

    num_added: int
    num_known: int
    merged: tuple[str, ...]
    doubts: dict[str, tuple[Doubt, ...]]
    unchecked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """What a recording is compared with under a name: `duration_s` seconds in `num_voiceprints` recordings."""

    speaker: str
    num_voiceprints: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class ReEnrollment:
    """`renewed` and `failed` count by name; `without_audio` names who is still enrolled with other systems only."""

    renewed: dict[str, int]
    failed: tuple[str, ...]
    without_audio: tuple[str, ...]
