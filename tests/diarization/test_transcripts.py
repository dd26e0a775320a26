"""Speakers of words: the assignment by hand, whisper's JSON, CTM, captions, and what is wrong with a transcript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from support.commands import run
from xvectors.diarization import Turn, write_turns
from xvectors.diarization.transcripts import label_transcript, speakers_of_spans
from xvectors.diarization.transcripts.captions import captions
from xvectors.diarization.transcripts.words import Word
from xvectors.errors import ConfigError, ManifestError, ShapeError


def turn(start_s: float, end_s: float, speaker: str) -> Turn:
    return Turn(start_s=start_s, end_s=end_s, speaker=speaker)


TURNS = [turn(0.0, 2.0, "ann"), turn(1.8, 4.0, "bob"), turn(6.0, 8.0, "ann")]


@pytest.mark.parametrize(
    ("start_s", "end_s", "who"),
    [
        (0.5, 1.0, "ann"),
        (1.7, 2.5, "bob"),  # 0.3 s of ann's, 0.7 s of bob's
        (1.8, 2.0, "ann"),  # both speak throughout: whose turn began first
        (3.9, 6.3, "ann"),  # 0.1 s of bob's, 0.3 s of ann's
        (4.4, 4.6, "bob"),  # nobody speaks: bob is 0.4 s away, ann 1.4 s
        (5.0, 5.0, "bob"),  # both 1 s away, the limit: the first
        (5.2, 5.2, "ann"),
        (1.0, 1.0, "ann"),
        (9.0, 9.5, "ann"),
        (9.01, 9.5, None),  # more than 1 s away
    ],
)
def test_a_word_is_of_whoever_speaks_most_during_it(start_s: float, end_s: float, who: str | None) -> None:
    assert speakers_of_spans([(start_s, end_s)], TURNS) == [who]


def test_spans_without_turns_and_wrong_spans() -> None:
    assert speakers_of_spans([(0, 1), (2, 3)], []) == [None, None]
    assert speakers_of_spans([], TURNS) == []
    assert speakers_of_spans([(4.5, 4.6)], TURNS, gap_s=0.4) == [None]
    for wrong in ([(2, 1)], [(0, np.nan)]):
        with pytest.raises(ShapeError, match="starts and ends"):
            speakers_of_spans(wrong, TURNS)


TIMES = st.integers(0, 40).map(lambda tick: tick / 4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(TIMES, st.integers(1, 20), st.sampled_from("abc")), max_size=12),
    st.lists(st.tuples(TIMES, st.integers(0, 8)), min_size=1, max_size=5),
)
def test_the_search_finds_what_a_look_at_every_turn_finds(
    turns: list[tuple[float, int, str]], spans: list[tuple[float, int]]
) -> None:
    all_turns = [turn(start, start + length / 4, who) for start, length, who in turns]
    rows = [(start, start + length / 4) for start, length in spans]
    for (start, end), found in zip(rows, speakers_of_spans(rows, all_turns, gap_s=0.5), strict=True):
        spoken = dict.fromkeys("abc", 0.0)
        for each in all_turns:
            spoken[each.speaker] += max(0.0, min(each.end_s, end) - max(each.start_s, start))
        away = {
            who: min((max(t.start_s - end, start - t.end_s, 0) for t in all_turns if t.speaker == who), default=99)
            for who in "abc"
        }
        if any(spoken.values()):
            assert found is not None
            assert spoken[found] == max(spoken.values())
        elif min(away.values()) <= 0.5:
            assert found is not None
            assert away[found] == min(away.values())
        else:
            assert found is None


def whisper() -> dict[str, Any]:
    """What whisper writes with --word_timestamps True, shortened; its words begin with their spaces."""
    return {
        "text": " Hello there. Yes, hello.",
        "segments": [
            {
                "id": 0,
                "start": 0.5,
                "end": 1.5,
                "text": " Hello there.",
                "words": [
                    {"word": " Hello", "start": 0.5, "end": 1.0, "probability": 0.9},
                    {"word": " there.", "start": 1.0, "end": 1.5, "probability": 0.8},
                ],
            },
            {
                "id": 1,
                "start": 1.5,
                "end": 3.6,
                "text": " Yes, hello.",
                "words": [
                    {"word": " Yes,", "start": 1.5, "end": 1.7, "probability": 0.9},
                    {"word": " hello.", "start": 2.8, "end": 3.6, "probability": 0.9},
                ],
            },
        ],
        "language": "en",
    }


def labeled(document: Any, folder: Path, turns: list[Turn] = TURNS, **options: Any) -> Any:
    path = folder / "words.json"
    path.write_text(json.dumps(document))
    return label_transcript(path, turns, recording="meeting", **options)


def test_whisper_keeps_its_form_and_gets_speakers(tmp_path: Path) -> None:
    found = labeled(whisper(), tmp_path)
    assert [word.speaker for word in found.words] == ["ann", "ann", "ann", "bob"]
    document = json.loads(found.text)
    assert [segment.pop("speaker") for segment in document["segments"]] == ["ann", "bob"]
    assert [word.pop("speaker") for each in document["segments"] for word in each["words"]] == [
        word.speaker for word in found.words
    ]
    assert document == whisper()
    assert found.to_vtt() == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n<v ann>Hello there.\n\n"
        "00:00:01.500 --> 00:00:01.700\n<v ann>Yes,\n\n00:00:02.800 --> 00:00:03.600\n<v bob>hello.\n"
    )
    assert found.to_srt().splitlines()[:3] == ["1", "00:00:00,500 --> 00:00:01,500", "ann: Hello there."]


def test_segments_alone_are_labeled(tmp_path: Path) -> None:
    document = whisper()
    for segment in document["segments"]:
        del segment["words"]
    found = labeled(document, tmp_path)
    assert [(word.text, word.speaker) for word in found.words] == [(" Hello there.", "ann"), (" Yes, hello.", "bob")]
    assert [segment["speaker"] for segment in json.loads(found.text)["segments"]] == ["ann", "bob"]


def test_whisperx_and_words_beside_segments(tmp_path: Path) -> None:
    """whisperX gives words that it cannot align no times, and lists all words again beside the segments."""
    document = whisper()
    words = document["segments"][1]["words"]
    words[:] = [
        {"word": "Yes,", "start": 1.5, "end": 1.7},
        {"word": "747"},
        {"word": "hello.", "start": 2.8, "end": 3.6},
    ]
    document["segments"][0]["words"] = [{"word": "2026"}, {"word": "there.", "start": 0.5, "end": 1.5, "score": 0.5}]
    document["word_segments"] = [dict(word) for segment in document["segments"] for word in segment["words"]]
    found = labeled(document, tmp_path)
    assert [(word.text, word.speaker) for word in found.words] == [
        *(("2026", "ann"), ("there.", "ann"), ("Yes,", "ann"), ("747", "ann"), ("hello.", "bob"))
    ]
    again = json.loads(found.text)["word_segments"]
    assert [word["speaker"] for word in again] == [word.speaker for word in found.words]
    assert found.notes == (
        f"{tmp_path / 'words.json'}: 2 words without times, given to the speaker of the word beside",
    )
    assert "<v ann>2026 there.\n" in found.to_vtt()
    beside = {
        "text": "a b",
        "words": [{"word": "a", "start": 0.0, "end": 1.0}, {"word": "b", "start": 3.0, "end": 3.5}],
    }
    assert [word.speaker for word in labeled(beside, tmp_path).words] == ["ann", "bob"]
    beside["segments"] = [{"start": 0.0, "end": 3.5, "text": "a b"}]
    assert [word.text for word in labeled(beside, tmp_path).words] == ["a", "b"]


def test_languages_without_spaces_are_joined_without(tmp_path: Path) -> None:
    words = [{"word": "你", "start": 0.1, "end": 0.3}, {"word": "好", "start": 0.3, "end": 0.5}]
    segment = {"start": 0.1, "end": 0.5, "text": "你好", "words": words}
    assert "<v ann>你好\n" in labeled({"segments": [segment], "language": "zh"}, tmp_path).to_vtt()
    assert "<v ann>你 好\n" in labeled({"segments": [segment], "language": "en"}, tmp_path).to_vtt()


def test_ctm_gets_the_speaker_as_its_eighth_field(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_text(
        ";; comment\nmy_meeting 1 0.50 0.50 hello 0.98\nother 1 0.1 0.1 no\nmy_meeting 1 2.5 0.5 yes\n"
        "my_meeting 1 20.0 0.5 ah 0.4 lex old\n"
    )
    turns = [turn(0, 2, "Ann Lee"), turn(2, 4, "bob")]
    found = label_transcript(path, turns, recording="my meeting")
    assert found.text == (
        "my_meeting 1 0.50 0.50 hello 0.98 lex Ann_Lee\n"
        "my_meeting 1 2.5 0.5 yes NA lex bob\n"
        "my_meeting 1 20.0 0.5 ah 0.4 lex <NA>\n"
    )
    assert found.notes == (f"{path}: 1 word has no speaker: no turn within 1 s",)
    assert "Ann Lee: hello\n" in found.to_srt()
    path.write_text(found.text)
    assert label_transcript(path, turns, recording="my meeting").text == found.text
    with pytest.raises(ManifestError, match="holds the words of my_meeting, none of call"):
        label_transcript(path, turns, recording="call")
    for line, why in {
        "a 1 0.5 hello": ":1: has 4 fields",
        "a 1 x 1 b": "its start is 'x'",
        "a 1 0 -1 b": "duration",
    }.items():
        path.write_text(line)
        with pytest.raises(ManifestError, match=why):
            label_transcript(path, turns, recording="a")


def test_captions_end_where_they_should() -> None:
    words = [
        *(Word(start_s=at, end_s=at + 0.9, text=f"word{at}", speaker="a") for at in range(20)),
        Word(start_s=22.5, end_s=22.5, text="late <b>", speaker=None),
    ]
    found = list(captions(words))
    assert all(each.end_s - each.start_s <= 7 for each in found)
    assert " ".join(each.text for each in found) == " ".join(word.text for word in words)
    assert (found[-1].start_s, found[-1].end_s) == (22.5, 22.6)
    wide = [Word(start_s=at / 10, end_s=at / 10 + 0.1, text="x" * 30, speaker="a") for at in range(9)]
    assert [len(each.text) for each in captions(wide)] == [61, 61, 61, 61, 30]


def broken(change: str) -> Any:
    document = whisper()
    word = document["segments"][1]["words"][1]
    if change == "no segments":
        return {"transcription": []}
    if change == "nothing timed":
        return {"segments": [], "words": [{"word": "a"}]}
    if change == "no times of a segment":
        del document["segments"][0]["start"], document["segments"][0]["end"]
    if change == "a word's end missing":
        del word["end"]
    if change == "backwards":
        word["end"] = 1.0
    if change == "text as time":
        word["start"] = "2.8"
    if change == "words no list":
        document["segments"][0]["words"] = "Hello"
    if change == "no text":
        document["segments"][0]["text"] = None
    if change == "no word":
        word["word"] = 3
    if change == "late":
        word.update(start=99.0, end=100.0)
    return document


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("no segments", "has no list `segments`"),
        ("nothing timed", "no segment and no word with times"),
        ("no times of a segment", "segment 0 has no start and end"),
        ("a word's end missing", r"segment 1, word 1 \('hello.'\) has only a start"),
        ("backwards", "lasts from 2.8 to 1.0"),
        ("text as time", "lasts from '2.8' to 3.6"),
        ("words no list", "`words` of segment 0 is no list"),
        ("no text", "segment 0 has no text"),
        ("no word", "segment 1, word 1 has no `word`"),
        ("late", "starts at 99.0 s, but meeting lasts 8.0 s"),
    ],
)
def test_wrong_transcripts_are_told(change: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=why):
        labeled(broken(change), tmp_path, duration_s=8.0)
    with pytest.raises(ConfigError, match="no transcript by its suffix"):
        label_transcript(tmp_path / "words.txt", TURNS, recording="a")


def test_the_command_writes_transcript_and_captions(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "meeting.wav", np.zeros(8 * 16_000), 16_000)
    write_turns(tmp_path, "meeting", TURNS)
    (tmp_path / "meeting.json").write_text(json.dumps(whisper()))
    arguments = ("diarize", tmp_path / "meeting.wav", "--turns", tmp_path / "meeting.rttm", "--rename", "bob=Bob Roe")
    printed = run(*arguments, "--transcript", tmp_path / "meeting.json", "--format", "srt").stdout
    assert printed.splitlines()[-1] == f"written: {tmp_path / 'meeting.speakers.json'}, {tmp_path / 'meeting.srt'}"
    assert "Bob Roe: hello." in (tmp_path / "meeting.srt").read_text()
    document = json.loads((tmp_path / "meeting.speakers.json").read_text())
    assert document["segments"][1]["words"][1]["speaker"] == "Bob Roe"
    again = run(*arguments, "--transcript", tmp_path / "meeting.json", status=2).stderr
    assert "meeting.speakers.json exists; write elsewhere with -o DIR, or replace it with --overwrite\n" in again
    wrong = run(*arguments, "--transcript", tmp_path / "words.doc", status=2).stderr
    assert "give the .json of whisper or whisperX, or a .ctm file" in wrong
