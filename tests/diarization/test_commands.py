"""The commands: turns on the screen and in files, calls, broken recordings, and simulated conversations."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.commands import run
from support.voices import RATE, spoken
from xvectors.audio.activity import speech_s
from xvectors.corpus import open_corpus
from xvectors.diarization import ConversationStyle, SpeakerRange, conversations, read_rttm, read_uem
from xvectors.diarization.simulation.conversation import simulate_conversation
from xvectors.errors import ConfigError

DRY = ConversationStyle(duration_s=20.0, turn_s=6.0, overlap=0.0, rt60_s=None, snr_db=40.0)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four synthetic voices with one sentence each."""
    root = tmp_path_factory.mktemp("people")
    for at, (speech, _) in enumerate(spoken(4, 4)):
        (root / f"v{at}").mkdir()
        soundfile.write(root / f"v{at}" / "a.flac", speech.astype(np.float32), RATE)
    return root


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    voices = {f"v{at}": [speech.astype(np.float32)] for at, (speech, _) in enumerate(spoken(4, 2))}
    samples, _ = simulate_conversation(voices, RATE, DRY, seed=1)
    path = tmp_path_factory.mktemp("meeting") / "my meeting.wav"
    soundfile.write(path, samples, RATE)
    return path


@pytest.fixture(autouse=True)
def no_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has no gallery."""
    monkeypatch.delenv("XVECTORS_GALLERY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_turns_are_printed_and_written(meeting: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = run("diarize", meeting, "-o", out, "--format", "rttm,vtt", "--device", "cpu").stdout.splitlines()
    assert lines[0].endswith("  speaker_1")
    assert lines[0].startswith("0:00:0")
    assert f"{meeting}: 2 speakers" in "\n".join(lines)
    assert lines[-1] == f"written: {out / 'my meeting.rttm'}, {out / 'my meeting.vtt'}"
    turns = read_rttm(out / "my meeting.rttm").turns["my_meeting"]
    assert len(turns) == sum(" - " in line for line in lines)
    error = run("diarize", meeting, "-o", out, status=2).stderr
    assert "my meeting.rttm exists; write elsewhere with -o DIR, or replace it with --overwrite" in error
    (found,) = json.loads(run("diarize", meeting, "-o", out, "--overwrite", "--speakers", "1", "--json").stdout)
    assert {turn["speaker"] for turn in found["turns"]} == {"speaker_1"}
    assert found["written"] == [str(out / "my meeting.rttm")]


def test_speakers_of_the_gallery_are_named(meeting: Path, people: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "team.sqlite"
    run("enroll", "Ann", people / "v1" / "a.flac", "--gallery", gallery)
    printed = run("diarize", meeting, "-o", tmp_path, "--gallery", gallery).stdout
    assert "  Ann" in printed
    assert "in this recording, LLR " in printed
    labels = {turn.speaker for turn in read_rttm(tmp_path / "my meeting.rttm").turns["my_meeting"]}
    assert "Ann" in labels
    assert labels - {"Ann"} <= {"speaker_1", "speaker_2"}
    missing = run("diarize", meeting, "-o", tmp_path / "b", "--gallery", tmp_path / "none.sqlite", status=2).stderr
    assert "none.sqlite" in missing


def test_a_call_has_a_speaker_on_each_channel(tmp_path: Path) -> None:
    (left, _), (right, _) = spoken(4, 2)
    call = np.zeros((len(left) + len(right), 2), dtype=np.float32)
    call[: len(left), 0], call[len(left) :, 1] = left, right
    soundfile.write(tmp_path / "call.wav", call, RATE)
    printed = run("diarize", tmp_path / "call.wav", "--channels", "separate").stdout
    assert "call.wav: 2 speakers" in printed
    assert (
        "leave --speakers out"
        in run("diarize", tmp_path / "call.wav", "--channel", "separate", "--speakers", "2", status=2).stderr
    )


def test_a_broken_recording_does_not_end_the_run(meeting: Path, tmp_path: Path) -> None:
    broken, silent = tmp_path / "broken.wav", tmp_path / "silent.wav"
    broken.write_bytes(b"RIFF")
    soundfile.write(silent, np.zeros(RATE), RATE)
    printed = run("diarize", broken, silent, "-o", tmp_path / "out")
    assert printed.stderr.startswith(f"left out: {broken}")
    assert printed.stdout == f"{silent}: no speech was found\n"
    assert (tmp_path / "out" / "silent.rttm").read_text() == ""
    assert run("diarize", broken, "-o", tmp_path / "out", status=2).stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give recordings to diarize"),
        (("a.wav", "--evaluate", "a", "b"), "takes no recordings"),
        (("a.wav", "--uem", "a"), "--uem goes with --evaluate"),
        (("a.wav", "--speakers", "x"), "speakers 'x'"),
        (("a.wav", "--format", "txt"), "format 'txt' is unknown"),
        (("a/a.wav", "b/a.wav", "-o", "out"), "would both be written to"),
        (("a.wav", "--clustering", "vbx"), "needs a back-end with PLDA"),
        (("a.wav", "--vad", "loud"), "is not a VAD"),
        (("a.wav", "--channel", "top"), "channel 'top'"),
    ],
)
def test_wrong_arguments_are_told(arguments: tuple[str, ...], why: str) -> None:
    assert why in run("diarize", *arguments, status=2).stderr


def test_simulated_conversations_are_written_with_their_turns(people: Path, tmp_path: Path) -> None:
    arguments = ("simulate-conversations", people, "--number", "3", "--speakers", "1..3", "--minutes", "0.2")
    printed = run(*arguments, "-o", tmp_path / "a", "--seed", "3").stdout
    assert printed.startswith("3 simulated conversations in ")
    run(*arguments, "-o", tmp_path / "b", "--seed", "3")
    turns, regions = (
        read_rttm(tmp_path / "a" / "conversations.rttm").turns,
        read_uem(tmp_path / "a" / "conversations.uem"),
    )
    names = [f"simulated-{at:03d}-{at + 1}-speakers" for at in range(3)]
    assert list(turns) == list(regions) == names
    for at, name in enumerate(names):
        first, second = ((tmp_path / each / f"{name}.flac").read_bytes() for each in "ab")
        assert first == second
        assert len({turn.speaker for turn in turns[name]}) == at + 1
        assert regions[name][0, 1] >= max(turn.end_s for turn in turns[name]) - 1e-3
    assert "and the corpus has 4" in run(*arguments[:-4], "--speakers", "9", "-o", tmp_path / "c", status=2).stderr
    assert "no range of seconds" in run(*arguments, "-o", tmp_path / "c", "--rt60", "long", status=2).stderr


def test_a_conversation_is_what_its_style_says(people: Path) -> None:
    manifest = open_corpus(people)

    def made(**style: object) -> tuple[np.ndarray, list]:
        how = ConversationStyle(**{"duration_s": 60.0, "turn_s": 3.0, "rt60_s": None, "snr_db": None, **style})  # type: ignore[arg-type]
        (found,) = conversations(manifest, 1, SpeakerRange(3, 3), how, seed=5)
        return found.samples, found.turns

    samples, turns = made(overlap=0.0, pause_s=1.0)
    assert all(second.start_s >= first.end_s for first, second in itertools.pairwise(turns))
    assert 60 <= max(turn.end_s for turn in turns) <= len(samples) / RATE + 0.02 <= 80
    spoken_s = sum(turn.duration_s for turn in turns)
    assert speech_s(samples, RATE) == pytest.approx(spoken_s, rel=0.15)
    silent = np.ones(len(samples), dtype=bool)
    for turn in turns:
        silent[round(turn.start_s * RATE) - RATE // 50 : round(turn.end_s * RATE) + RATE // 50] = False
    assert np.abs(samples[silent]).max() < 0.05 * np.abs(samples).max()
    _, crowded = made(overlap=1.0, overlap_s=1.0)
    overlaps = sum(second.start_s < first.end_s for first, second in itertools.pairwise(crowded))
    assert overlaps >= 0.5 * len({turn.start_s for turn in crowded})
    for wrong in ({"overlap": 2.0}, {"turn_s": 0.0}, {"rt60_s": (0.9, 0.2)}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            made(**wrong)


def test_answers_lie_within_a_turn_of_somebody_else() -> None:
    voices = {f"v{at}": [speech.astype(np.float32)] for at, (speech, _) in enumerate(spoken(4, 3))}
    style = replace(DRY, duration_s=60.0, turn_s=8.0, answers_per_min=30.0, answer_s=0.4)
    _, without = simulate_conversation(voices, RATE, replace(style, answers_per_min=0.0), seed=3)
    _, turns = simulate_conversation(voices, RATE, style, seed=3)
    within = [
        turn
        for turn in turns
        if any(o.speaker != turn.speaker and o.start_s <= turn.start_s and turn.end_s <= o.end_s + 0.01 for o in turns)
    ]
    assert not any(o is not t and o.start_s < t.start_s < t.end_s < o.end_s for o in without for t in without)
    assert len(within) >= 8
    with pytest.raises(ConfigError, match="answers_per_min"):
        replace(style, answers_per_min=-1.0)


def test_what_finds_overlap_is_chosen(meeting: Path, tmp_path: Path) -> None:
    error = run("diarize", meeting, "-o", tmp_path, "--overlap", tmp_path / "gone.bin", status=2).stderr
    assert "gone.bin" in error
    alone = run("diarize", meeting, "-o", tmp_path, "--overlap", "none", "--device", "cpu").stdout
    assert f"{meeting}: 2 speakers" in alone
    turns = read_rttm(tmp_path / "my meeting.rttm").turns["my_meeting"]
    assert all(before.end_s <= after.start_s + 0.002 for before, after in itertools.pairwise(turns))
