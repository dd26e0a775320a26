"""Files of turns: what is written is read again, and what is wrong with a file is told with its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from xvectors.diarization import Turn, read_rttm, read_uem, score_files, write_rttm, write_turns
from xvectors.errors import ConfigError, ManifestError

TURNS = [
    Turn(start_s=3661.5, end_s=3662.0004, speaker="speaker_2"),
    Turn(start_s=0.25, end_s=2.0, speaker="speaker_1", name="Ann<b>", answer="Ann<b>", llr=4.5),
]


def written(folder: Path, text: str, name: str = "a.rttm") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rttm_is_written_and_read(tmp_path: Path) -> None:
    write_rttm(tmp_path / "out.rttm", {"one": TURNS, "two": TURNS[:1]})
    assert (tmp_path / "out.rttm").read_text().splitlines() == [
        "SPEAKER one 1 0.250 1.750 <NA> <NA> Ann<b> <NA> <NA>",
        "SPEAKER one 1 3661.500 0.500 <NA> <NA> speaker_2 <NA> <NA>",
        "SPEAKER two 1 3661.500 0.500 <NA> <NA> speaker_2 <NA> <NA>",
    ]
    found = read_rttm(tmp_path / "out.rttm")
    assert found.notes == ()
    assert list(found.turns) == ["one", "two"]
    assert [(turn.start_s, turn.end_s, turn.speaker) for turn in found.turns["one"]] == [
        (0.25, 2.0, "Ann<b>"),
        (3661.5, 3662.0, "speaker_2"),
    ]


@pytest.mark.parametrize(("what", "recording", "speaker"), [("speaker", "a", "ann lee"), ("recording", "a b", "ann")])
def test_names_with_spaces_cannot_stand_in_rttm(tmp_path: Path, what: str, recording: str, speaker: str) -> None:
    with pytest.raises(ManifestError, match=f"{what} .*without spaces"):
        write_rttm(tmp_path / "out.rttm", {recording: [Turn(start_s=0, end_s=1, speaker=speaker)]})
    assert not (tmp_path / "out.rttm").exists()


def test_other_lines_and_nine_fields_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        ";; made by hand\n\nSPKR-INFO m 1 <NA> <NA> <NA> unknown ann <NA>\nSPEAKER m 1 1.5 2 <NA> <NA> ann <NA>\n",
    )
    (turn,) = read_rttm(path).turns["m"]
    assert (turn.start_s, turn.end_s, turn.speaker) == (1.5, 3.5, "ann")


def test_overlapping_and_empty_turns_of_a_speaker_are_joined_and_told(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "SPEAKER m 1 4 2 <NA> <NA> ann <NA> <NA>\n"
        "SPEAKER m 1 1 3.5 <NA> <NA> ann <NA> <NA>\n"
        "SPEAKER m 1 1 0.000 <NA> <NA> bob <NA> <NA>\n"
        "SPEAKER m 1 2 3 <NA> <NA> bob <NA> <NA>\n"
        "SPEAKER m 1 6 1 <NA> <NA> ann <NA> <NA>\n",
    )
    found = read_rttm(path)
    assert [(turn.start_s, turn.end_s, turn.speaker) for turn in found.turns["m"]] == [
        (1, 6, "ann"),
        (2, 5, "bob"),
        (6, 7, "ann"),
    ]
    assert found.notes == (
        f"{path}:3: turns of 0 s, left out",
        f"{path}:1: overlapping turns of one speaker, joined",
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("SPEAKER m 1 0 1 <NA> <NA> ann lee <NA> <NA>", "has 11 fields where RTTM has 10; a name with spaces"),
        ("SPEAKER m 1 0 1 <NA> <NA> ann", "has 8 fields"),
        ("SPEAKER m 1 0 -1 <NA> <NA> ann <NA> <NA>", "its duration is '-1'"),
        ("SPEAKER m 1 -0.5 1 <NA> <NA> ann <NA> <NA>", "its start is '-0.5'"),
        ("SPEAKER m 1 nan 1 <NA> <NA> ann <NA> <NA>", "its start is 'nan'"),
        ("SPEAKER m 1 0,5 1 <NA> <NA> ann <NA> <NA>", "its start is '0,5'"),
        ("m 1 0 1", "begins with 'm', no type of RTTM"),
    ],
)
def test_a_wrong_line_is_named_with_a_right_one(tmp_path: Path, line: str, why: str) -> None:
    path = written(tmp_path, f"SPEAKER m 1 0 1 <NA> <NA> ann <NA> <NA>\n{line}\n")
    with pytest.raises(ManifestError) as found:
        read_rttm(path)
    assert f"{path}:2: " in str(found.value)
    assert why in str(found.value)
    assert "as in: SPEAKER meeting 1" in str(found.value)


def test_files_without_turns_are_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"missing\.rttm: no such file"):
        read_rttm(tmp_path / "missing.rttm")
    with pytest.raises(ManifestError, match=r"a\.rttm: holds no line"):
        read_rttm(written(tmp_path, "\n"))
    with pytest.raises(ManifestError, match="only lines of other types"):
        read_rttm(written(tmp_path, "LEXEME m 1 0 1 hello lex ann <NA> <NA>\n"))


def test_uem_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "m 1 10 20\nm 1 0 5.5\nn 1 1 2\n", "a.uem")
    found = read_uem(path)
    np.testing.assert_array_equal(found["m"], [[0, 5.5], [10, 20]])
    np.testing.assert_array_equal(found["n"], [[1, 2]])
    for line, why in {"m 1 5 5": "not after its start", "m 5 6": "3 fields where UEM has 4"}.items():
        with pytest.raises(ManifestError, match=f"b.uem:1: .*{why}.*as in: meeting"):
            read_uem(written(tmp_path, line, "b.uem"))


def test_turns_are_written_in_every_format(tmp_path: Path) -> None:
    turns = [TURNS[0], Turn(start_s=0.25, end_s=2.0, speaker="speaker_1", name="A & <B>", answer="A & <B>", llr=4.5)]
    paths = write_turns(tmp_path, "my call", turns, ("json", "vtt", "srt", "audacity"))
    assert [path.name for path in paths] == ["my call.json", "my call.vtt", "my call.srt", "my call.labels.txt"]
    as_json, vtt, srt, audacity = (path.read_text(encoding="utf-8") for path in paths)
    assert json.loads(as_json) == {
        "recording": "my call",
        "turns": [
            {"start_s": 0.25, "end_s": 2.0, "speaker": "speaker_1", "name": "A & <B>", "answer": "A & <B>", "llr": 4.5},
            {"start_s": 3661.5, "end_s": 3662.0, "speaker": "speaker_2", "name": None, "answer": None, "llr": None},
        ],
    }
    assert vtt == (
        "WEBVTT\n\n00:00:00.250 --> 00:00:02.000\n<v A &amp; &lt;B&gt;>A &amp; &lt;B&gt;\n\n"
        "01:01:01.500 --> 01:01:02.000\n<v speaker_2>speaker_2\n"
    )
    assert srt == "1\n00:00:00,250 --> 00:00:02,000\nA & <B>\n\n2\n01:01:01,500 --> 01:01:02,000\nspeaker_2\n"
    assert audacity == "0.250000\t2.000000\tA & <B>\n3661.500000\t3662.000400\tspeaker_2\n"
    (rttm,) = write_turns(tmp_path, "my call", TURNS)
    assert rttm.read_text().startswith("SPEAKER my_call 1 0.250 1.750 ")
    with pytest.raises(ConfigError, match="format 'vvt' is unknown; did you mean 'vtt'"):
        write_turns(tmp_path, "a", TURNS, ("vvt",))


REF = "SPEAKER m 1 0 10 <NA> <NA> a <NA> <NA>\nSPEAKER m 1 10 10 <NA> <NA> b <NA> <NA>\n"
HYP = "SPEAKER m 1 0 8 <NA> <NA> x <NA> <NA>\nSPEAKER m 1 8 12 <NA> <NA> y <NA> <NA>\n"


def test_the_command_prints_error_rates(tmp_path: Path) -> None:
    ref, hyp = written(tmp_path, REF, "ref.rttm"), written(tmp_path, HYP, "hyp.rttm")
    lines = run("diarize", "--evaluate", ref, hyp).stdout.splitlines()
    assert lines[1].split() == ["full", "10.00", "0.00", "0.00", "10.00", "18.33"]
    assert lines[2].split()[:2] == ["fair", "9.21"]  # 1.75 s of 19 s
    assert lines[-2] == "1 recording, 20.0 s of speech by 2 speakers"
    uem = written(tmp_path, "m 1 0 8\n", "all.uem")
    found = json.loads(run("diarize", "--evaluate", ref, hyp, "--uem", uem, "--json").stdout)
    assert found["scorings"]["full"]["der"] == 0.0
    assert found["scorings"]["forgiving"]["collar_s"] == 0.25
    assert found["scorings"]["full"]["recordings"]["m"]["speech_s"] == 8.0


def test_recordings_that_do_not_match_are_told(tmp_path: Path) -> None:
    ref = written(tmp_path, REF + "SPEAKER n 1 0 5 <NA> <NA> a <NA> <NA>\n", "ref.rttm")
    hyp = written(tmp_path, HYP + "SPEAKER o 1 0 5 <NA> <NA> a <NA> <NA>\n", "hyp.rttm")
    scores = score_files(ref, hyp)
    assert scores.errors["full"]["n"].missed_s == 5.0
    assert scores.notes == (
        f"{hyp} lacks n: all their speech is missed",
        f"{hyp} alone has o: not scored",
    )
    uem = written(tmp_path, "m 1 0 20\np 1 0 5\n", "all.uem")
    with_uem = score_files(ref, hyp, uem)
    assert list(with_uem.errors["full"]) == ["m", "p"]
    assert f"{uem} lacks n: not scored" in with_uem.notes
    other = written(tmp_path, HYP.replace(" m ", " z "), "other.rttm")
    with pytest.raises(ManifestError, match=r"no recording in common: one has m, n, the other z"):
        score_files(ref, other)
    assert run("diarize", "--evaluate", ref, other, status=2).stderr.startswith("error: ")


def test_intervals_take_five_recordings(tmp_path: Path) -> None:
    """Of 20 s each, 2 s are confused, and from none to 5 s are false alarms."""
    ref = "".join(REF.replace(" m ", f" m{at} ") for at in range(6))
    hyp = "".join(HYP.replace(" m ", f" m{at} ").replace(" 8 12 ", f" 8 {12 + at} ") for at in range(6))
    scores = score_files(written(tmp_path, ref, "ref.rttm"), written(tmp_path, hyp, "hyp.rttm"))
    interval = scores.interval("full")
    assert interval is not None
    assert interval.num_recordings == 6
    assert interval.value == pytest.approx(27 / 120)
    assert interval.low < interval.value < interval.high
