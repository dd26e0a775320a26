"""The verdict: its numbers are those of the evaluation, and its words fit none, one, few and many of everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xvectors.evaluation.measures import Measure
from xvectors.evaluation.mistakes import DecidedTrials
from xvectors.evaluation.shift import ConditionShift, risk_coverage
from xvectors.evaluation.verdict import (
    Commands,
    Concentration,
    ErrorRate,
    Style,
    Verdict,
    people,
    reach_verdict,
    times_in,
)
from xvectors.metrics import ROC
from xvectors.trials import all_pairs


def decided(target_misses: int, false_accepts: list[tuple[int, int]], speakers: int = 12) -> DecidedTrials:
    """Target trials score 5 and others -5, but for the first few target trials, and one trial of each pair named."""
    speaker = np.repeat(np.arange(speakers, dtype=np.int32), 6)
    trials = all_pairs(speaker)
    llrs = np.where(trials.target, 5.0, -5.0)
    llrs[np.flatnonzero(trials.target)[:target_misses]] = -5.0
    sides = list(zip(speaker[trials.enroll].tolist(), speaker[trials.test].tolist(), strict=True))
    free = [at for at in range(len(trials)) if not trials.target[at]]
    for pair in false_accepts:
        at = next(at for at in free if sides[at] == pair)
        free.remove(at)
        llrs[at] = 5.0
    names = tuple(f"s{number:02d}" for number in range(speakers))
    return DecidedTrials(trials=trials, scores=llrs, threshold=0.0, speakers=names, speaker_index=speaker)


def reached(trials: DecidedTrials, system: str = "exp/xv") -> Verdict:
    some = Measure(name="", value=0.1, unit="share")
    measures = dict.fromkeys(("eer", "far", "frr"), some)
    return reach_verdict(trials, measures, is_calibrated=True, commands=Commands.for_system(system))


def verdict(**changed: object) -> Verdict:
    values: dict[str, object] = {
        "num_speakers": 60,
        "num_trials": 15_051,
        "false_accepts": ErrorRate(num_errors=922, num_trials=14_881, low=0.0381, high=0.0988),
        "misses": ErrorRate(num_errors=6, num_trials=170, low=0.006, high=0.071),
        "is_calibrated": True,
        "is_guessing": False,
        "commands": Commands.for_system("exp/xv"),
    }
    return Verdict(**(values | changed))  # type: ignore[arg-type]


def test_the_verdict_says_how_often_and_what_others_may_see() -> None:
    assert verdict().sentences() == [
        "When two recordings are of different people, it takes them for one person 6 times in 100 (with other people, "
        "4 to 10).",
        "When both are of one person, it misses that 4 times in 100 (with other people, 1 to 7).",
        "Measured on 60 people and 15,051 pairs of recordings; the brackets hold with 95 % confidence for other people "
        "of the same kind.",
    ]


def test_no_error_is_not_perfect() -> None:
    none = ErrorRate(num_errors=0, num_trials=2300, low=0.0, high=0.139)
    said = verdict(false_accepts=none, misses=replace(none, num_trials=1)).sentences()
    assert "never took them for one person (none of 2,300 pairs; with other people, up to 14 in 100)" in said[0]
    assert "never missed that (none of 1 pair; with other people, up to 14 in 100)" in said[1]


def test_fewer_than_five_speakers_are_too_few_to_say_and_the_command_mends_it() -> None:
    found = reached(decided(1, [], speakers=3), system="my systems/xv")
    assert found.is_too_few
    said = found.sentences(Style(strong="<{}>".format))
    assert said[0].startswith("<Too few speakers to say>")
    assert "3 people" in said[0]
    assert "0 of 108 pairs" in said[1]
    assert "1 of 45 pairs" in said[1]
    assert "xvectors evaluate 'my systems/xv' --data FOLDER" in said[2]
    assert not reached(decided(1, [], speakers=5)).is_too_few


def test_counts_are_those_of_the_trials() -> None:
    found = reached(decided(3, [(0, 1), (0, 1), (2, 3)]))
    assert (found.false_accepts.num_errors, found.false_accepts.num_trials) == (3, 2376)
    assert (found.misses.num_errors, found.misses.num_trials) == (3, 180)
    assert found.confused is None  # three errors say nothing of whose they are


def test_the_pair_and_the_speaker_of_many_errors_are_named() -> None:
    pairs = [(4, 9)] * 4 + [(0, 1), (0, 2), (3, 5), (6, 7), (1, 2), (8, 10), (2, 11), (3, 9)]
    found = reached(decided(10, pairs))
    assert found.confused == Concentration(speakers=("s04", "s09"), num_errors=4, num_all=12)
    assert found.missed == Concentration(speakers=("s00",), num_errors=10, num_all=10)
    said = " ".join(found.sentences(Style(name="<{}>".format)))
    assert "A third (4 of 12) of these false matches are one pair of people: <s04> and <s09>." in said
    assert "All (10 of 10) of the misses are of one person: <s00>." in said


def test_a_speaker_in_most_errors_is_named_where_no_pair_is() -> None:
    others = [(at, 11) for at in range(11)]
    found = reached(decided(0, [*others, (0, 1), (2, 3), (4, 5)]))
    assert found.confused == Concentration(speakers=("s11",), num_errors=11, num_all=14)
    assert "About three quarters (11 of 14) of these false matches involve s11." in found.sentences()


def test_errors_spread_evenly_are_nobodys() -> None:
    pairs = [(a, b) for a in range(12) for b in range(a + 1, 12)]
    assert reached(decided(0, pairs)).confused is None


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0.062, (6, 100)), (0.5, (50, 100)), (0.0149, (15, 1000)), (0.0003, (3, 10_000)), (1e-7, (0, 1_000_000))],
)
def test_rates_are_so_many_times_in_a_power_of_ten(rate: float, expected: tuple[int, int]) -> None:
    assert times_in(rate) == expected


def test_plurals() -> None:
    assert (people(1), people(2), people(10_000)) == ("1 person", "2 people", "10,000 people")
    once = ErrorRate(num_errors=1, num_trials=1_000_000)
    assert "takes them for one person once in 1,000,000." in verdict(false_accepts=once).sentences()[0]


def test_a_weak_system_is_told_the_command_that_helps() -> None:
    style = Style(code="<{}>".format)
    uncalibrated = verdict(is_calibrated=False).sentences(style)[-1]
    assert "not calibrated" in uncalibrated
    assert "<xvectors calibrate exp/xv --data RECORDINGS>" in uncalibrated
    guessing = verdict(is_guessing=True, is_calibrated=False).sentences(style)
    (remedy,) = (line for line in guessing if "close to guessing" in line)
    assert "train longer" in remedy
    assert "<xvectors import MODEL -o SYSTEM>" in remedy
    assert "not calibrated" in guessing[-1]
    assert "xvectors calibrate" not in " ".join(guessing)  # it would be refused


@pytest.mark.parametrize(("num_shifted", "warned"), [(20, False), (21, True)])
def test_more_than_a_fifth_of_recordings_unlike_the_calibration_set_are_warned_about(
    num_shifted: int, warned: bool
) -> None:
    shift = ConditionShift(
        num_usual=100 - num_shifted,
        num_shifted=num_shifted,
        num_untested=0,
        num_unknown=50,
        unusual=(("a low pitch", 15), ("very quiet pauses", 9)),
        degrees=(),
        coverage=risk_coverage(ROC.from_scores([1.0], [0.0])),
    )
    some = dict.fromkeys(("eer", "far", "frr"), Measure(name="", value=0.1, unit="share"))
    commands = Commands.for_system("exp/xv")
    found = reach_verdict(decided(1, []), some, is_calibrated=True, commands=commands, shift=shift)
    last = found.sentences(Style(code="<{}>".format))[-1]
    assert ("unlike the recordings that the system was calibrated on" in last) == warned
    if warned:
        assert last.startswith("21 of 100 recordings are unlike")
        assert "most often: a low pitch" in last
        assert "<xvectors calibrate exp/xv --data RECORDINGS>" in last
