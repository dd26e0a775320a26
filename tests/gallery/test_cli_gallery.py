"""Enrolled speakers at the command line, as a new user would try it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.commands import Printed, run
from xvectors.corpus.synth import synthesize
from xvectors.gallery import SqliteStore

Command = Callable[..., Printed]


SPEAKERS = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic voices that the system never heard: alice, bob and carol, u0.flac to u7.flac of each."""
    out = tmp_path_factory.mktemp("voices")
    synthesize(out / "made", speakers=3, utterances=8, seed=12, workers=1)
    for name, folder in zip(SPEAKERS, sorted(path for path in (out / "made").iterdir() if path.is_dir()), strict=True):
        (out / name).mkdir()
        for number, path in enumerate(sorted(folder.glob("*.flac"))):
            path.rename(out / name / f"u{number}.flac")
    return out


@pytest.fixture(scope="module")
def system(calibrated_starter: Path) -> Path:
    return calibrated_starter


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    return tmp_path / "gallery.sqlite"


@pytest.fixture
def command(gallery: Path, system: Path) -> Command:
    """The command with this gallery, and the system where it needs one."""

    def given(name: str, *arguments: object, status: int = 0) -> Printed:
        options: list[object] = ["--gallery", gallery]
        if name in ("enroll", "identify", "re-enroll", "verify"):
            options += ["--system", system, "--device", "cpu"]
        return run(*name.split(), *arguments, *options, status=status)

    return given


def test_enroll_identify_and_forget(command: Command, voices: Path, gallery: Path) -> None:
    alice, bob = voices / "alice", voices / "bob"
    printed = command("enroll", "alice", alice / "u6.flac", alice / "u7.flac")
    assert re.fullmatch(r"alice is enrolled, with 2 recordings, \d\.\d s of speech\n", printed.stdout)
    printed = command("enroll", "bob", bob / "u7.flac", "--consent", "signed 2026", "--expires", "2999-12-31")
    assert printed.stdout.startswith("bob is enrolled, with 1 recording, ")
    printed = command("enroll", "alice", alice / "u5.flac")
    assert printed.stdout.startswith("alice was enrolled already, with 2 voiceprints; added 1 recording, ")

    answer = command("identify", alice / "u4.flac").stdout.splitlines()
    assert answer[0].startswith("alice: LLR ")
    assert answer[0].endswith("threshold 0.7 among 2 enrolled speakers")
    assert [line.split("  ")[:2] for line in answer[1:3]] == [["1", "alice"], ["2", "bob"]]
    assert re.fullmatch(r"-  nobody enrolled  probability \d+\.\d%", answer[3])
    assert re.match(r".*u4\.flac: \d\.\d s of speech in \d\.\d s", answer[4])
    stranger = command("identify", voices / "carol" / "u7.flac", "--top", 1).stdout.splitlines()
    assert re.match(r"nobody enrolled: (alice|bob) has an LLR of -\d+\.\d, threshold 0\.7 among 2", stranger[0])
    assert len(stranger) == 4
    found = json.loads(command("identify", bob / "u5.flac", "--json", "--p-target", 0.9).stdout)
    assert (found["speaker"], found["num_enrolled"], found["p_target"]) == ("bob", 2, 0.9)
    assert found["matches"][0]["llr"] > found["matches"][0]["threshold"] == pytest.approx(np.log(2 * 0.1 / 0.9))

    lines = command("speakers").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["alice", "bob"]
    assert "3 voiceprints, " in lines[0]
    assert "expires 2999-12-31" in lines[1]
    assert "consent: signed 2026" in lines[1]
    listed = json.loads(command("speakers", "--json").stdout)
    assert [(each["name"], each["num_voiceprints"], each["expires_at"]) for each in listed] == [
        ("alice", 3, None),
        ("bob", 1, "2999-12-31T00:00:00+00:00"),
    ]

    assert command("forget", "alice").stdout == "alice is forgotten: 3 voiceprints removed\n"
    assert b"alice" not in gallery.read_bytes()
    assert command("speakers").stdout.startswith("bob  1 voiceprint")
    assert command("gallery purge").stdout == "0 expired voiceprints removed\n"


def test_verify_as(command: Command, voices: Path, tmp_path: Path) -> None:
    command("enroll", "alice", voices / "alice" / "u6.flac", voices / "alice" / "u7.flac")
    lines = command("verify", voices / "alice" / "u4.flac", "--as", "alice").stdout.splitlines()
    assert lines[0] == "same speaker"
    assert re.match(
        r"LLR \+\d+\.\d\d \(natural log\): the recording is .* as likely to come from alice as from someone else",
        lines[1],
    )
    assert lines[2].startswith("probability of alice: ")
    assert re.fullmatch(r"alice: \d\.\d s of speech in 2 recordings enrolled", lines[-1])
    assert command("verify", voices / "bob" / "u4.flac", "--as", "alice").stdout.startswith("different speakers\n")
    found = json.loads(
        command("verify", voices / "alice" / "u4.flac", "--as", "alice", "--p-target", 0.01, "--json").stdout
    )
    assert (found["speaker"], found["p_target"], len(found["recordings"])) == ("alice", 0.01, 1)
    assert found["threshold"] == pytest.approx(np.log(99))
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    assert command("verify", tmp_path / "silence.wav", "--as", "alice").stdout.startswith("cannot tell\n")
    assert "no speaker dave is enrolled" in command("verify", tmp_path / "silence.wav", "--as", "dave", status=2).stderr
    for arguments in ([], [voices / "alice" / "u5.flac", "--as", "alice"]):
        printed = command("verify", voices / "alice" / "u4.flac", *arguments, status=2)
        assert printed.stderr.startswith("error: give two recordings to compare, or one recording and --as NAME")


def test_what_holds_too_little_speech_is_neither_enrolled_nor_identified(
    command: Command, voices: Path, gallery: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(160_000), 16_000)
    printed = command("enroll", "alice", voices / "alice" / "u6.flac", tmp_path / "noise.wav", status=2)
    assert "noise.wav contains no speech, only noise or a whisper, in its 10.0 s; give a recording" in printed.stderr
    assert not gallery.exists()
    command("enroll", "alice", voices / "alice" / "u6.flac")
    answer = command("identify", tmp_path / "noise.wav").stdout.splitlines()
    assert answer[0].startswith("cannot tell: ")
    assert "contains no speech" in answer[0]
    found = json.loads(command("identify", tmp_path / "noise.wav", "--json").stdout)
    assert (found["speaker"], found["decided"], found["matches"]) == (None, False, [])
    assert found["recording"]["speech_s"] == 0


def test_two_voices_under_one_name_are_warned_about(command: Command, voices: Path) -> None:
    other = voices / "bob" / "u7.flac"
    command("enroll", "alice", voices / "alice" / "u6.flac", voices / "alice" / "u7.flac")
    printed = command("enroll", "alice", other)
    assert printed.stdout.startswith("alice was enrolled already, with 2 voiceprints; added 1 recording, ")
    line = printed.stderr.splitlines()[0]
    assert line.startswith(f"warning: {other} does not sound like alice's other recordings (LLR -")
    assert line.endswith("is it the same person? If not, `xvectors forget alice --last` undoes this enrollment")


def test_the_same_recording_twice(command: Command, voices: Path) -> None:
    first, second = (voices / "alice" / f"u{number}.flac" for number in (6, 7))
    assert "warning" not in command("enroll", "alice", first).stderr
    printed = command("enroll", "alice", second, first, second)
    assert printed.stdout.startswith("alice was enrolled already, with 1 voiceprint; added 3 recordings")
    told = [
        line.split(" is enrolled as alice already; ")[0] for line in printed.stderr.splitlines() if "warning" in line
    ]
    assert told == [f"warning: {first}", f"warning: {second}"]


def test_taking_back_what_was_enrolled_last(
    command: Command, voices: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("enroll", "alice", voices / "alice" / "u6.flac", voices / "alice" / "u7.flac")
    with SqliteStore(gallery) as store:
        store._connection.execute("UPDATE voiceprints SET enrolled_at = '2020-01-01T00:00:00Z'")
    command("enroll", "alice", voices / "bob" / "u7.flac")
    assert command("forget", "alice", "--last").stdout == "alice: 1 voiceprint removed\n"
    assert command("speakers").stdout.startswith("alice  2 voiceprints, ")
    assert command("forget", "alice", "--last").stdout == "alice: 2 voiceprints removed\n"
    assert "nobody is enrolled" in command("speakers").stdout


def test_mistakes_are_one_line_and_change_nothing(
    command: Command, voices: Path, gallery: Path, tmp_path: Path
) -> None:
    good = voices / "alice" / "u7.flac"
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not a sound")
    soundfile.write(tmp_path / "short.wav", np.full(640, 0.1), 16_000)
    for arguments, reason in (
        (("enroll", "bob", good, tmp_path / "nothing.wav"), "nothing.wav: no such file"),
        (("enroll", "bob", tmp_path / "empty.wav"), "empty.wav: the file is empty"),
        (("enroll", "bob", tmp_path / "text.wav"), "text.wav: not a sound file"),
        (
            ("enroll", "bob", tmp_path / "short.wav"),
            "short.wav lasts 0.04 s, but at least 0.4 s of speech are needed; give a recording with more speech",
        ),
        (("enroll", "bob", tmp_path), "is a folder, not a recording"),
        (("enroll", " ", good), "a speaker's name must not be empty"),
        (("enroll", good, good), "is a file: the speaker's name comes first, then the recordings"),
        (("enroll", "bob", good, "--expires", "soon"), "the expiry date 'soon' is not a date; write it as 2030-01-31"),
        (("enroll", "bob", good, "--expires", "2020-01-31"), "the expiry date 2020-01-31 has passed"),
        (("identify", good), "there is no gallery yet; make one with `xvectors enroll NAME a.wav`"),
        (("speakers",), "there is no gallery yet"),
        (("forget", "bob"), "there is no gallery yet"),
    ):
        printed = command(*arguments, status=2)
        assert printed.stdout == ""
        assert printed.stderr.startswith("error: ")
        assert reason in printed.stderr
        assert printed.stderr.count("\n") == 1
        assert not gallery.exists()
    command("enroll", "alice", good)
    before = gallery.read_bytes()
    printed = command("forget", "alicia", status=2)
    assert printed.stderr == f"error: no speaker alicia is enrolled in {gallery}; did you mean 'alice'?\n"
    assert "top is 0" in command("identify", good, "--top", 0, status=2).stderr
    assert "nothing.wav: no such file" in command("identify", tmp_path / "nothing.wav", status=2).stderr
    assert gallery.read_bytes() == before


def test_another_system_and_re_enroll(command: Command, system: Path, voices: Path, tmp_path: Path) -> None:
    """The same network with other last bits is another system; what was kept goes over to it."""
    alice, bob = voices / "alice", voices / "bob"
    command("enroll", "alice", alice / "u6.flac", alice / "u7.flac", "--keep-audio")
    command("enroll", "bob", bob / "u7.flac")
    other = tmp_path / "other"
    shutil.copytree(system, other)
    from safetensors.numpy import load_file, save_file

    weights = load_file(other / "model.safetensors")
    save_file(weights, other / "model.safetensors", metadata={"epoch": "1", "note": "other"})
    for name in ("backend.npz", "calibration.toml"):
        (other / name).unlink()
    options = ("--system", other, "--gallery", tmp_path / "gallery.sqlite", "--device", "cpu")
    refused = run("identify", alice / "u5.flac", *options, status=2).stderr
    assert "all 2 speakers in" in refused
    assert "were enrolled with other systems than this one" in refused
    assert "enroll again with this one; `xvectors re-enroll` does so where the recordings were kept" in refused
    renewed = run("re-enroll", *options)
    assert renewed.stdout == "embedded again with this system: 2 voiceprints of 1 speaker\n"
    assert renewed.stderr == "still enrolled with another system only: bob; enroll again\n"
    answer = run("identify", alice / "u5.flac", *options).stdout.splitlines()
    assert answer[0].startswith("cannot tell: the system is not calibrated")
    assert answer[1].startswith("1  alice  cosine 0.")
    assert answer[2].startswith("not compared, because enrolled with another system: bob;")
    noted = run("enroll", "alice", alice / "u4.flac", *options).stderr
    assert noted.startswith("note: whether these are all of one voice was not checked: the system is not calibrated")


def test_export_and_import(command: Command, voices: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.sqlite"
    command("enroll", "alice", voices / "alice" / "u7.flac")
    assert command("gallery export", "-o", out).stdout == f"1 voiceprint: {out}\n"
    assert "the file exists; name another" in command("gallery export", "-o", out, status=2).stderr
    new = tmp_path / "new.sqlite"
    assert run("gallery", "import", out, "--gallery", new).stdout == "added: 1 voiceprint; there already: 0\n"
    assert run("gallery", "import", out, "--gallery", new).stdout == "added: 0 voiceprints; there already: 1\n"
    assert run("speakers", "--gallery", out).stdout == command("speakers").stdout


def test_nobody_is_enrolled_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert run("speakers").stdout == "nobody is enrolled; enroll a speaker with `xvectors enroll NAME a.wav`\n"
    assert run("speakers", "--json").stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("XVECTORS_GALLERY", str(tmp_path / "g.sqlite"))
    SqliteStore(tmp_path / "g.sqlite", create=True).close()
    assert run("speakers").stdout == "nobody is enrolled; enroll a speaker with `xvectors enroll NAME a.wav`\n"
