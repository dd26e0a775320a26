"""Put the result of an evaluation into words that need no knowledge of the field."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xvectors.evaluation.measures import Measure
from xvectors.evaluation.mistakes import DecidedTrials
from xvectors.evaluation.shift import ConditionShift
from xvectors.metrics.bootstrap import MIN_SPEAKERS
from xvectors.text import agree, count

GUESSING = 0.4
"""Lowest EER at which the verdict says that the system is close to guessing, whose EER is 0.5."""
MIN_ERRORS = 5
MIN_ERRORS_OF_ONE = 3
"""A pair or speaker is named only if there are this many errors, and this many of them are theirs."""
MIN_SHARE_OF_PAIR, MIN_SHARE_OF_SPEAKER = 0.1, 0.25
TIMES_EVEN = 3.0
"""A pair or speaker is named only if it has this many times its even share of the errors."""
BASES = (100, 1000, 10_000, 100_000, 1_000_000)
FRACTIONS = (
    (3 / 4, "three quarters"),
    (2 / 3, "two thirds"),
    (1 / 2, "half"),
    (1 / 3, "a third"),
    (1 / 4, "a quarter"),
    (1 / 5, "a fifth"),
    (1 / 10, "a tenth"),
)


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """Errors of one kind at the threshold.

    `low` and `high` bound the rate to expect with other people; they are None with too few speakers.
    """

    num_errors: int
    num_trials: int
    low: float | None = None
    high: float | None = None

    @property
    def value(self) -> float:
        return self.num_errors / self.num_trials


@dataclass(frozen=True, kw_only=True)
class Concentration:
    """A pair of speakers, or one speaker, that accounts for `num_errors` of the `num_all` errors of a kind."""

    speakers: tuple[str, ...]
    num_errors: int
    num_all: int


@dataclass(frozen=True, kw_only=True)
class Style:
    """Markup for emphasis, speakers' names and commands in the sentences; by default there is no markup."""

    strong: Callable[[str], str] = str
    name: Callable[[str], str] = str
    code: Callable[[str], str] = str


PLAIN = Style()


class Commands(NamedTuple):
    """What to run next: the evaluation of more people, what its argument stands for, and the calibration."""

    evaluate: str
    argument: str
    calibrate: str

    @classmethod
    def for_system(cls, system: str) -> Commands:
        quoted = shlex.quote(system)
        return cls(
            evaluate=f"xvectors evaluate {quoted} --data FOLDER",
            argument="FOLDER holds a folder for each speaker",
            calibrate=f"xvectors calibrate {quoted} --data RECORDINGS",
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How often two people are taken for one, how often one person for two, and who causes many of these errors."""

    num_speakers: int
    num_trials: int
    false_accepts: ErrorRate
    misses: ErrorRate
    confused: Concentration | None = None
    """The pair of speakers, or the one speaker, behind many of the false accepts."""
    missed: Concentration | None = None
    """The speaker behind many of the misses."""
    is_calibrated: bool
    is_guessing: bool
    commands: Commands
    shift: ConditionShift | None = None
    """The shift of the recordings from the calibration set, where it is worth a warning."""

    @property
    def is_too_few(self) -> bool:
        """Whether there are too few speakers to generalize to others."""
        return self.num_speakers < MIN_SPEAKERS

    def sentences(self, style: Style = PLAIN) -> list[str]:
        """Return the verdict, the data behind it, and what to do if that is not good enough."""
        found = self._too_few(style) if self.is_too_few else self._enough(style)
        if not self.is_calibrated:
            found.append(
                "The system is not calibrated. Its threshold was chosen on these same pairs, so expect more errors "
                "with other recordings."
            )
            if not self.is_guessing:  # scores that do not separate speakers cannot be calibrated
                found[-1] += (
                    f" Calibrate it: {style.code(self.commands.calibrate)}, with 20 speakers or more that it was not "
                    "trained on."
                )
        return [*found, *self._unlike(style)]

    def _enough(self, style: Style) -> list[str]:
        found = [
            f"When two recordings are of different people, it {_often(self.false_accepts, 'takes', 'took', style)}.",
            f"When both are of one person, it {_often(self.misses, 'misses', 'missed', style)}.",
        ]
        if self.is_guessing:
            found.append(
                f"{style.strong('This is close to guessing.')} Check the speaker labels. If they are right, train "
                "longer or on more speakers, or import a published model: "
                f"{style.code('xvectors import MODEL -o SYSTEM')}."
            )
        found += self._whose(style)
        basis = f"Measured on {people(self.num_speakers)} and {count(self.num_trials, 'pair')} of recordings"
        if any(rate.high is not None for rate in (self.false_accepts, self.misses)):
            basis += "; the brackets hold with 95 % confidence for other people of the same kind"
        return [*found, f"{basis}."]

    def _too_few(self, style: Style) -> list[str]:
        measured_on = f"it was measured on {people(self.num_speakers)}, and at least {MIN_SPEAKERS} are needed"
        return [
            f"{style.strong('Too few speakers to say')} how well the system works: {measured_on}.",
            f"It took two people for one in {_of(self.false_accepts)} pairs, and missed {_of(self.misses)} pairs of "
            "one person.",
            f"Measure it on more people: {style.code(self.commands.evaluate)} ({self.commands.argument}, with two or "
            "more recordings of each).",
        ]

    def _unlike(self, style: Style) -> list[str]:
        if self.shift is None:
            return []
        num_shifted, num_known = self.shift.num_shifted, self.shift.num_known
        numbers = f"{num_shifted:,} of {count(num_known, 'recording')} {agree(num_shifted, 'is', 'are')} unlike"
        most = f"; most often: {self.shift.unusual[0][0]}"
        return [
            f"{style.strong(numbers)} the recordings that the system was calibrated on{most}. Its answers to such "
            f"recordings are surer after {style.code(self.commands.calibrate)} with recordings of this kind, of 20 "
            "speakers or more."
        ]

    def _whose(self, style: Style) -> list[str]:
        found = []
        if self.confused is not None:
            names = [style.name(speaker) for speaker in self.confused.speakers]
            whose = f"are one pair of people: {' and '.join(names)}" if len(names) == 2 else f"involve {names[0]}"
            found.append(f"{_share(self.confused)} of these false matches {whose}.")
        if self.missed is not None:
            found.append(
                f"{_share(self.missed)} of the misses are of one person: {style.name(self.missed.speakers[0])}."
            )
        return found


def reach_verdict(
    decided: DecidedTrials,
    measures: Mapping[str, Measure],
    *,
    is_calibrated: bool,
    commands: Commands,
    shift: ConditionShift | None = None,
) -> Verdict:
    """Turn the errors at the threshold into a verdict; `measures` holds eer, far and frr of the same trials."""
    num_speakers = len(decided.speakers)
    misses, false_accepts = decided.misses, decided.false_accepts
    missed = np.bincount(decided.speaker_pairs(misses)[0], minlength=num_speakers)
    enough = num_speakers >= MIN_SPEAKERS
    return Verdict(
        num_speakers=num_speakers,
        num_trials=len(decided.trials),
        false_accepts=_rate(measures["far"], len(false_accepts), decided.trials.num_nontarget),
        misses=_rate(measures["frr"], len(misses), decided.trials.num_target),
        confused=_confused(decided, false_accepts) if enough else None,
        missed=_most_of(decided.speakers, missed, len(misses), sides=1) if enough else None,
        is_calibrated=is_calibrated,
        is_guessing=measures["eer"].value >= GUESSING,
        commands=commands,
        shift=shift if shift is not None and shift.is_notable else None,
    )


def times_in(rate: float) -> tuple[int, int]:
    """Write a rate as a number of times in 100, or in the lowest power of ten that gives at least two times.

    Examples
    --------
    >>> times_in(0.062), times_in(0.0149)
    ((6, 100), (15, 1000))
    """
    base = next((base for base in BASES if round(rate * base) >= 2), BASES[-1])
    return round(rate * base), base


def people(number: int) -> str:
    """Write a number of people.

    Examples
    --------
    >>> people(1), people(1200)
    ('1 person', '1,200 people')
    """
    return "1 person" if number == 1 else f"{number:,} people"


def _rate(measure: Measure, num_errors: int, num_trials: int) -> ErrorRate:
    found = measure.interval
    ends = {} if found is None else {"low": found.low, "high": found.high}
    return ErrorRate(num_errors=num_errors, num_trials=num_trials, **ends)


def _confused(decided: DecidedTrials, rows: NDArray[np.int64]) -> Concentration | None:
    """Find the pair, or else the speaker, with far more than an even share of the false accepts in `rows`."""
    names = decided.speakers
    num_all, num_speakers = len(rows), len(names)
    if num_all < MIN_ERRORS:
        return None
    a, b = decided.speaker_pairs(rows)
    keys, numbers = np.unique(a * num_speakers + b, return_counts=True)
    most = int(np.argmax(numbers))
    even = TIMES_EVEN * 2 / (num_speakers * (num_speakers - 1))
    if numbers[most] >= MIN_ERRORS_OF_ONE and numbers[most] / num_all >= max(MIN_SHARE_OF_PAIR, even):
        pair = tuple(names[at] for at in divmod(int(keys[most]), num_speakers))
        return Concentration(speakers=pair, num_errors=int(numbers[most]), num_all=num_all)
    return _most_of(names, np.bincount(np.concatenate([a, b]), minlength=num_speakers), num_all, sides=2)


def _most_of(names: tuple[str, ...], numbers: NDArray[np.int64], num_all: int, *, sides: int) -> Concentration | None:
    """Find the speaker with far more than an even share of the errors, each of which involves `sides` speakers."""
    if num_all < MIN_ERRORS:
        return None
    most = int(np.argmax(numbers))
    least = max(MIN_SHARE_OF_SPEAKER, TIMES_EVEN * sides / len(names))
    if numbers[most] < MIN_ERRORS_OF_ONE or numbers[most] / num_all < least:
        return None
    return Concentration(speakers=(names[most],), num_errors=int(numbers[most]), num_all=num_all)


def _often(rate: ErrorRate, does: str, did: str, style: Style) -> str:
    """Say how often the error happened, and how often it may with other people."""
    object_ = "them for one person" if does == "takes" else "that"
    if not rate.num_errors:
        most = "" if rate.high is None else f"; with other people, up to {_in(*times_in(rate.high))}"
        return f"{style.strong('never')} {did} {object_} (none of {count(rate.num_trials, 'pair')}{most})"
    times, base = times_in(rate.value)
    often = "once" if times == 1 else f"{times:,} times"
    may = ""
    if rate.low is not None and rate.high is not None:
        may = f" (with other people, {round(rate.low * base):,} to {round(rate.high * base):,})"
    return f"{does} {object_} {style.strong(f'{often} in {base:,}')}{may}"


def _in(times: int, base: int) -> str:
    return f"{times:,} in {base:,}"


def _of(rate: ErrorRate) -> str:
    return f"{rate.num_errors:,} of {rate.num_trials:,}"


def _share(found: Concentration) -> str:
    """Begin a sentence with a share in words, and the counts."""
    numbers = f"({found.num_errors:,} of {found.num_all:,})"
    share = found.num_errors / found.num_all
    if found.num_errors == found.num_all:
        return f"All {numbers}"
    nearest, words = min(FRACTIONS, key=lambda one: abs(one[0] - share))
    if abs(nearest - share) > 0.1 * nearest:
        return f"About {100 * share:.0f} % {numbers}"
    return f"{words[0].upper()}{words[1:]} {numbers}" if abs(nearest - share) < 0.005 else f"About {words} {numbers}"
