"""From turns to the gallery: labels, renaming, files read back, and the checks of an enrollment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.commands import run
from support.voices import RATE, spoken
from xvectors import SpeakerEncoder
from xvectors.audio.recording import open_recording
from xvectors.diarization import ConversationStyle, Diarization, Turn, read_rttm, simulate_conversation, write_turns
from xvectors.diarization.naming.enrollment import enroll_speakers
from xvectors.diarization.naming.renaming import parse_names, rename_speakers
from xvectors.diarization.turn_files.reading import read_turns
from xvectors.diarization.turns import alone
from xvectors.errors import ConfigError, ManifestError, TooShortError
from xvectors.gallery import open_gallery

DRY = ConversationStyle(duration_s=30.0, turn_s=6.0, overlap=0.0, rt60_s=None, snr_db=40.0)


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained("starter", device="cpu")


@pytest.fixture(scope="module")
def talk() -> tuple[np.ndarray, list[Turn]]:
    voices = {f"v{at}": [speech.astype(np.float32)] for at, (speech, _) in enumerate(spoken(4, 2))}
    return simulate_conversation(voices, RATE, DRY, seed=1)


@pytest.fixture
def meeting(talk: tuple[np.ndarray, list[Turn]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording with its turns as RTTM; the user has no gallery."""
    monkeypatch.delenv("XVECTORS_GALLERY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    soundfile.write(tmp_path / "my meeting.wav", talk[0], RATE)
    write_turns(tmp_path, "my meeting", talk[1], ["rttm", "json"])
    return tmp_path / "my meeting.wav"


def turn(start_s: float, end_s: float, speaker: str, name: str | None = None) -> Turn:
    return Turn(start_s=start_s, end_s=end_s, speaker=speaker, name=name)


def test_what_is_said_alone_leaves_overlap_out() -> None:
    turns = [turn(0, 4, "a"), turn(3, 6, "b"), turn(5, 5.5, "c"), turn(8, 9, "a"), turn(8.5, 10, "a")]
    parts = [(part.start_s, part.end_s, part.speaker) for part in alone(turns)]
    assert parts == [(0, 3, "a"), (4, 5, "b"), (5.5, 6, "b"), (8, 10, "a")]
    assert alone([]) == []
    assert alone([turn(0, 1, "a"), turn(0, 1, "b")]) == []


def test_names_come_from_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"speaker_2": "Bob", "speaker_3": "Bob"}')
    assert parse_names(["speaker_1=Ann Lee", str(tmp_path / "names.json")]) == {
        "speaker_1": "Ann Lee",
        "speaker_2": "Bob",
        "speaker_3": "Bob",
    }
    assert parse_names([]) == {}
    for option, why in {"speaker_1": "LABEL=NAME", "=bob": "LABEL=NAME", "speaker_1=": "name"}.items():
        with pytest.raises(ConfigError, match=why):
            parse_names([option])
    with pytest.raises(ConfigError, match="named both Ann and Bob"):
        parse_names(["speaker_1=Ann", "speaker_1=Bob"])
    for text, why in {"[]": "not an object", '{"a": 1}': "a name for each label", '{"a"': ":1: is not JSON"}.items():
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(ManifestError, match=why):
            parse_names([str(tmp_path / "wrong.json")])


def test_speakers_of_one_name_become_one() -> None:
    turns = (turn(0, 2, "speaker_1"), turn(2, 3, "speaker_2"), turn(5, 6, "speaker_3", "Ann"))
    found = Diarization(
        recording="x",
        turns=turns,
        speech_s={"speaker_1": 2.0, "speaker_2": 1.0, "speaker_3": 1.0},
        embeddings={
            "speaker_1": np.array([1, 0], np.float32),
            "speaker_2": np.array([0, 1], np.float32),
            "speaker_3": np.array([0, 1], np.float32),
        },
        two_voices={"speaker_1": -5.0, "speaker_3": -6.0},
    )
    new = rename_speakers(found, {"speaker_1": "Bob", "speaker_2": "Bob"})
    assert [(each.start_s, each.end_s, each.label) for each in new] == [(0, 3, "Bob"), (5, 6, "Ann")]
    assert new.speech_s == {"Bob": 3.0, "speaker_3": 1.0}
    np.testing.assert_allclose(new.embeddings["Bob"], [2 / 3, 1 / 3], rtol=1e-6)
    assert new.two_voices == {"speaker_3": -6.0}
    to_ann = rename_speakers(found, {"speaker_2": "Ann"})  # whom the gallery calls Ann already
    assert [(each.label, each.speaker) for each in to_ann] == [
        ("speaker_1", "speaker_1"),
        ("Ann", "Ann"),
        ("Ann", "Ann"),
    ]
    assert [each.label for each in rename_speakers(found, {"Ann": "Eve"})][-1] == "Eve"
    with pytest.raises(ConfigError, match="did you mean 'speaker_"):
        rename_speakers(found, {"speaker_9": "Bob"})
    with pytest.raises(ConfigError, match="named both Bob and Eve"):
        rename_speakers(found, {"speaker_3": "Bob", "Ann": "Eve"})


def test_turns_are_read_back(meeting: Path, talk: tuple[np.ndarray, list[Turn]]) -> None:
    for suffix in (".rttm", ".json"):
        found = read_turns(meeting.with_suffix(suffix), "my meeting")
        assert [each.label for each in found] == [each.label for each in talk[1]]
        np.testing.assert_allclose(
            [each.end_s for each in found], [each.end_s for each in talk[1]], atol=0.0011
        )  # both are written in milliseconds
        with pytest.raises(ManifestError, match="not of call; name the file"):
            read_turns(meeting.with_suffix(suffix), "call")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "no list `turns`"),
        ('{"recording": "a", "turns": [{"start_s": 2, "end_s": 1, "speaker": "x"}]}', "turn 0 is"),
        ('{"recording": "a", "turns": [{"start_s": NaN, "end_s": 1, "speaker": "x"}]}', "turn 0 is"),
        ('{"recording": "a", "turns": [{"start_s": 0, "end_s": 1, "speaker": ""}]}', "turn 0 is"),
        ('{"recording": "a", "turns": [7]}', "turn 0 is 7"),
        ("[" * 100_000, "JSON|nested"),
    ],
)
def test_wrong_turns_are_told(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ManifestError, match=why):
        read_turns(tmp_path / "a.json", "a")


def test_a_speaker_is_enrolled_by_exactly_what_they_say(
    encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]], tmp_path: Path
) -> None:
    samples, turns = talk
    sound = open_recording(samples, "talk", waveform_rate_hz=RATE)
    own = [each for each in turns if each.speaker == "v1"]
    cut = np.concatenate([samples[round(each.start_s * RATE) : round(each.end_s * RATE)] for each in own])
    heard = encoder.listen(cut)
    with open_gallery(tmp_path / "team.sqlite", system=encoder, create=True) as gallery:
        (enrolled,) = enroll_speakers(encoder, gallery, sound, turns, {"v1": "Bob"})
        assert enrolled.labels == ("v1",)
        assert enrolled.result.num_added == 1
        assert enrolled.heard[0].speech_s == pytest.approx(heard.speech_s, abs=0.1)
        bob = gallery.verify("Bob", encoder.encode_heard([heard.samples])[0], heard.speech_s)
        assert bob.score > 0.99
        (again,) = enroll_speakers(encoder, gallery, sound, turns, {"v1": "Bob"})
        assert again.result.repeated == (0,)


def test_doubtful_speech_is_told_and_too_little_refused(
    encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]], tmp_path: Path
) -> None:
    samples, turns = talk
    sound = open_recording(samples, "talk", waveform_rate_hz=RATE)
    with open_gallery(tmp_path / "team.sqlite", system=encoder, create=True) as gallery:
        both = [turn(each.start_s, each.end_s, "x") for each in turns]
        (mixed,) = enroll_speakers(encoder, gallery, sound, both, {"x": "Mixed"})
        assert mixed.two_voices.keys() == {"x"}
        assert any("forget Mixed --last" in line for line in mixed.doubts())
        (apart,) = enroll_speakers(encoder, gallery, sound, turns, {"v0": "Same", "v1": "Same"})
        assert apart.two_voices == {}
        assert [doubt.recording for doubt in apart.result.doubts] == [0, 1]
        short = [*turns, turn(0.0, 0.05, "short")]
        hidden = [*turns, turn(turns[0].start_s, turns[0].end_s, "hidden")]
        for some, label, why in ((short, "short", "short"), (hidden, "hidden", "hidden never speaks alone")):
            with pytest.raises(TooShortError, match=why):
                enroll_speakers(encoder, gallery, sound, some, {"v0": "New", label: "Other"})
        assert {each.name for each in gallery.store.speakers(gallery.now())} == {"Mixed", "Same"}


def test_enroll_after_a_look_at_the_turns(meeting: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "team.sqlite"
    exists = run("diarize", meeting, status=2).stderr
    assert f"or use its turns with --turns {meeting.with_suffix('.rttm')}" in exists
    printed = run(
        *("diarize", meeting, "--turns", meeting.with_suffix(".rttm"), "--gallery", gallery, "--consent", "said yes"),
        *("--enroll", "v1=Bob", "--rename", "v0=Ann Lee", "--format", "rttm", "-o", tmp_path / "named"),
    ).stdout
    assert "Bob is enrolled, with " in printed
    assert "s of speech of v1" in printed
    assert " - " not in printed.splitlines()[0]
    labels = {each.speaker for each in read_rttm(tmp_path / "named" / "my meeting.rttm").turns["my_meeting"]}
    assert labels == {"Ann_Lee", "Bob"}
    enrolled = run("speakers", "--gallery", gallery).stdout
    assert enrolled.startswith("Bob  1 voiceprint")
    assert "said yes" in enrolled
    (found,) = json.loads(
        run(
            *("diarize", meeting, "--turns", meeting.with_suffix(".json"), "--gallery", gallery),
            *("--enroll", "v1=Bob", "--json"),
        ).stdout
    )
    assert (found["enrolled"][0]["speaker"], found["enrolled"][0]["repeated"], found["written"]) == ("Bob", [0], [])


def test_enroll_right_after_diarizing(meeting: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = run(
        "diarize", meeting, "-o", out, "--gallery", tmp_path / "new.sqlite", "--enroll", "speaker_1=Bob"
    ).stdout
    assert "Bob is enrolled, with " in printed
    labels = {each.speaker for each in read_rttm(out / "my meeting.rttm").turns["my_meeting"]}
    assert labels == {"Bob", "speaker_2"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("b.wav", "--enroll", "x=y"), "--enroll is about one recording"),
        (("b.wav", "--rename", "x=y"), "--rename is about one recording"),
        (("b.wav", "--turns", "x.rttm"), "--turns is about one recording"),
        (("--consent", "yes"), "--consent goes with --enroll"),
        (("--channel", "separate", "--enroll", "x=y"), "--enroll hears one channel"),
        (("--turns", "none.rttm"), "none.rttm: no such file"),
        (("--turns", "my meeting.rttm", "--enroll", "v0=speaker_2"), "give a name, or join the two with --rename"),
    ],
)
def test_wrong_wishes_are_told(
    arguments: tuple[str, ...], why: str, meeting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(meeting.parent)
    assert why in run("diarize", meeting, *arguments, status=2).stderr
