"""The second speaker of overlapped speech, in cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xvectors.diarization import Diarization, Turn
from xvectors.diarization.overlap import with_second_speakers


def turn(speaker: str, start_s: float, end_s: float) -> Turn:
    return Turn(start_s=start_s, end_s=end_s, speaker=speaker)


def spans(turns: list[Turn]) -> list[tuple[str, float, float]]:
    return [(found.speaker, found.start_s, found.end_s) for found in turns]


THREE = [turn("a", 0, 10), turn("b", 10, 20), turn("c", 25, 30), turn("a", 30, 40)]


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        # at the end of a's turn, b begins early
        ([[9, 10]], [("a", 0, 10), ("b", 9, 20), ("c", 25, 30), ("a", 30, 40)]),
        # on both sides of a boundary, both go on
        ([[9, 12]], [("a", 0, 12), ("b", 9, 20), ("c", 25, 30), ("a", 30, 40)]),
        # an answer within a turn: of whoever speaks nearest
        ([[3, 4]], [("a", 0, 10), ("b", 3, 4), ("b", 10, 20), ("c", 25, 30), ("a", 30, 40)]),
        ([[12, 13]], [("a", 0, 10), ("b", 10, 20), ("a", 12, 13), ("c", 25, 30), ("a", 30, 40)]),
        ([[26, 29]], [("a", 0, 10), ("b", 10, 20), ("c", 25, 30), ("a", 26, 29), ("a", 30, 40)]),
        # where nobody has a turn, nothing is added
        ([[21, 24]], [("a", 0, 10), ("b", 10, 20), ("c", 25, 30), ("a", 30, 40)]),
        ([], [("a", 0, 10), ("b", 10, 20), ("c", 25, 30), ("a", 30, 40)]),
    ],
)
def test_the_nearest_other_speaker_is_the_second(
    overlap: list[list[float]], expected: list[tuple[str, float, float]]
) -> None:
    found = with_second_speakers(THREE, np.array(overlap, dtype=np.float64).reshape(-1, 2))
    assert spans(found) == expected


def test_of_two_who_are_equally_near_the_one_after_speaks() -> None:
    found = with_second_speakers([turn("a", 0, 2), turn("b", 2, 8), turn("c", 8, 9)], np.array([[4.0, 6.0]]))
    assert spans(found) == [("a", 0, 2), ("b", 2, 8), ("c", 4, 6), ("c", 8, 9)]


def test_a_single_speaker_stays_alone_and_no_turns_stay_none() -> None:
    alone = [turn("a", 0, 5), turn("a", 6, 9)]
    assert with_second_speakers(alone, np.array([[1.0, 8.0]])) == alone
    assert with_second_speakers([], np.array([[1.0, 8.0]])) == []


def test_names_and_answers_go_with_the_speaker() -> None:
    named = [turn("a", 0, 5), Turn(start_s=5, end_s=9, speaker="b", name="bob", answer="bob", llr=3.0)]
    found = with_second_speakers(named, np.array([[4.0, 5.0]]))
    assert spans(found) == [("a", 0, 5), ("b", 4, 9)]
    assert (found[1].name, found[1].answer, found[1].llr) == ("bob", "bob", 3.0)


def test_seconds_of_speech_count_the_second_speaker_too() -> None:
    found = Diarization.of_turns("talk", THREE).with_overlap([[9.0, 10.0]])
    assert found.speech_s == pytest.approx({"a": 20.0, "b": 11.0, "c": 5.0})
    assert len(found.turns) == 4


def test_hours_of_turns_take_no_time_to_speak_of() -> None:
    turns = [turn(f"s{at % 3}", at, at + 1) for at in range(20_000)]
    overlap = np.stack([np.arange(20_000) + 0.9, np.arange(20_000) + 1.0], axis=1)
    found = with_second_speakers(turns, overlap)
    assert sum(part.duration_s for part in found) == pytest.approx(20_000 + 0.1 * 19_999 + 0.1, rel=0.01)
