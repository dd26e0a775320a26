"""Enrolled speakers at the command line, as a new user would try it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import Printed, run

from xvectors.calibrate import calibrate
from xvectors.config import load_recipe
from xvectors.gallery import SqliteStore
from xvectors.training import train

SETTINGS = (
    "model.size=0.125",
    "model.embedding_dim=32",
    "training.batch_size=16",
    "training.epochs=4",
    "training.workers=0",
    "training.precision=float32",
    # the buzzes differ in what mean normalisation takes away
    "features.mean_normalisation=false",
    "data.train_test_prop=1.0",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.6",
    "data.validation_chunk_s=0.6",
)
Command = Callable[..., Printed]


@pytest.fixture(scope="module")
def system(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained and calibrated on all ten speakers: it knows them well."""
    out = tmp_path_factory.mktemp("gallery") / "system"
    table = toy_corpus / "metadata.csv"
    train(table, out, load_recipe("xvector", SETTINGS), device="cpu", show_progress=False)
    calibrate(out, data=table, device="cpu", show_progress=False)
    return out


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    return tmp_path / "gallery.sqlite"


@pytest.fixture
def command(gallery: Path, system: Path) -> Command:
    """The command with this gallery, and the system where it needs one."""

    def given(name: str, *arguments: object, status: int = 0) -> Printed:
        options: list[object] = ["--gallery", gallery]
        if name in ("enroll", "identify", "re-enroll"):
            options += ["--system", system, "--device", "cpu"]
        return run(*name.split(), *arguments, *options, status=status)

    return given


def test_enroll_identify_and_forget(command: Command, toy_corpus: Path, gallery: Path) -> None:
    s0, s9 = toy_corpus / "s00", toy_corpus / "s09"
    printed = command("enroll", "alice", s0 / "u6.flac", s0 / "u7.flac")
    assert printed == ("alice is enrolled, with 2 recordings, 2.5 s\n", "")
    printed = command("enroll", "bob", s9 / "u7.flac", "--consent", "signed 2026", "--expires", "2999-12-31")
    assert printed.stdout == "bob is enrolled, with 1 recording, 1.3 s\n"
    printed = command("enroll", "alice", s0 / "u5.flac")
    assert printed == ("alice was enrolled already, with 2 voiceprints; added 1 recording, 1.1 s\n", "")

    answer = command("identify", s0 / "u4.flac").stdout.splitlines()
    assert answer[0].startswith("alice: LLR ")
    assert answer[0].endswith("threshold 1.1 among 2 enrolled speakers")
    assert [line.split("  ")[:2] for line in answer[1:]] == [["1", "alice"], ["2", "bob"]]
    stranger = command("identify", toy_corpus / "s05" / "u7.flac", "--top", 1).stdout.splitlines()
    assert stranger[0].startswith("nobody enrolled: even ")
    assert len(stranger) == 2
    found = json.loads(command("identify", s9 / "u5.flac", "--json", "--prior", 0.9).stdout)
    assert (found["speaker"], found["num_enrolled"], found["p_enrolled"]) == ("bob", 2, 0.9)
    assert found["matches"][0]["llr"] > found["matches"][0]["threshold"] == pytest.approx(np.log(0.55 / 0.45))

    lines = command("speakers").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["alice", "bob"]
    assert "3 voiceprints, 3.6 s, since 20" in lines[0]
    assert "expires 2999-12-31" in lines[1]
    assert "consent: signed 2026" in lines[1]
    listed = json.loads(command("speakers", "--json").stdout)
    assert [(each["name"], each["num_voiceprints"], each["expires_at"]) for each in listed] == [
        ("alice", 3, None),
        ("bob", 1, "2999-12-31T00:00:00+00:00"),
    ]

    assert command("forget", "alice").stdout == "alice is forgotten: 3 voiceprints removed from the file\n"
    assert b"alice" not in gallery.read_bytes()
    assert command("speakers").stdout.startswith("bob  1 voiceprint")
    assert command("gallery purge").stdout == "0 expired voiceprints removed from the file\n"


def test_two_voices_under_one_name_are_warned_about(command: Command, toy_corpus: Path) -> None:
    other = toy_corpus / "s09" / "u7.flac"
    command("enroll", "alice", toy_corpus / "s00" / "u6.flac", toy_corpus / "s00" / "u7.flac")
    printed = command("enroll", "alice", other)
    assert printed.stdout == "alice was enrolled already, with 2 voiceprints; added 1 recording, 1.3 s\n"
    assert printed.stderr.startswith(f"warning: {other} does not sound like alice's other recordings (LLR -")
    assert printed.stderr.endswith(
        "is it the same person? If not, `xvectors forget alice --last` takes back what was enrolled now\n"
    )


def test_the_same_recording_twice(command: Command, toy_corpus: Path) -> None:
    first, second = (toy_corpus / "s00" / f"u{number}.flac" for number in (6, 7))
    assert command("enroll", "alice", first).stderr == ""
    printed = command("enroll", "alice", second, first, second)
    assert printed.stdout.startswith("alice was enrolled already, with 1 voiceprint; added 3 recordings")
    told = [line.split(" is enrolled as alice already: ")[0] for line in printed.stderr.splitlines()]
    assert told == [f"warning: {first}", f"warning: {second}"]


def test_taking_back_what_was_enrolled_last(
    command: Command, toy_corpus: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("enroll", "alice", toy_corpus / "s00" / "u6.flac", toy_corpus / "s00" / "u7.flac")
    with SqliteStore(gallery) as store:
        store._connection.execute("UPDATE voiceprints SET enrolled_at = '2020-01-01T00:00:00Z'")
    command("enroll", "alice", toy_corpus / "s09" / "u7.flac")
    assert command("forget", "alice", "--last").stdout == "alice: 1 voiceprint removed from the file\n"
    assert command("speakers").stdout.startswith("alice  2 voiceprints, 2.5 s, since 2020-01-01")
    assert command("forget", "alice", "--last").stdout == "alice: 2 voiceprints removed from the file\n"
    assert "nobody is enrolled" in command("speakers").stdout


def test_mistakes_are_one_line_and_change_nothing(
    command: Command, toy_corpus: Path, gallery: Path, tmp_path: Path
) -> None:
    good = toy_corpus / "s00" / "u7.flac"
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not a sound")
    soundfile.write(tmp_path / "short.wav", np.full(640, 0.1), 16_000)
    for arguments, reason in (
        (("enroll", "bob", good, tmp_path / "nothing.wav"), "nothing.wav: no such file"),
        (("enroll", "bob", tmp_path / "empty.wav"), "empty.wav: the file is empty"),
        (("enroll", "bob", tmp_path / "text.wav"), "text.wav: not a sound file"),
        (("enroll", "bob", tmp_path / "short.wav"), "short.wav: 0.040 s of audio are less than"),
        (("enroll", "bob", tmp_path), "is a folder, not a recording"),
        (("enroll", " ", good), "a speaker's name must not be empty"),
        (("enroll", good, good), "is a file: the speaker's name comes first, then the recordings"),
        (("enroll", "bob", good, "--expires", "soon"), "the expiry date 'soon' is no date; write it as 2030-01-31"),
        (("enroll", "bob", good, "--expires", "2020-01-31"), "the expiry date 2020-01-31 has passed"),
        (("identify", good), "there is no gallery yet; `xvectors enroll NAME a.wav` makes one"),
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
    assert printed.stderr == f"error: nobody called alicia is enrolled in {gallery}; did you mean alice?\n"
    assert "top is 0" in command("identify", good, "--top", 0, status=2).stderr
    assert "nothing.wav: no such file" in command("identify", tmp_path / "nothing.wav", status=2).stderr
    assert gallery.read_bytes() == before


def test_another_system_and_re_enroll(command: Command, system: Path, toy_corpus: Path, tmp_path: Path) -> None:
    """The same network with other last bits is another system; what was kept goes over to it."""
    s0, s9 = toy_corpus / "s00", toy_corpus / "s09"
    command("enroll", "alice", s0 / "u6.flac", s0 / "u7.flac", "--keep-audio")
    command("enroll", "bob", s9 / "u7.flac")
    other = tmp_path / "other"
    shutil.copytree(system, other)
    from safetensors.numpy import load_file, save_file

    weights = load_file(other / "model.safetensors")
    save_file(weights, other / "model.safetensors", metadata={"epoch": "1", "note": "other"})
    for name in ("backend.npz", "calibration.toml"):
        (other / name).unlink()
    options = ("--system", other, "--gallery", tmp_path / "gallery.sqlite", "--device", "cpu")
    refused = run("identify", s0 / "u5.flac", *options, status=2).stderr
    assert "all 2 speakers in" in refused
    assert "were enrolled with other systems than this one" in refused
    assert "enroll again with this one; `xvectors re-enroll` does so where the recordings were kept" in refused
    renewed = run("re-enroll", *options)
    assert renewed.stdout == "embedded again with this system: 2 voiceprints of 1 speaker\n"
    assert renewed.stderr == "still enrolled with another system only: bob; enroll again\n"
    answer = run("identify", s0 / "u5.flac", *options).stdout.splitlines()
    assert answer[0].startswith("cannot tell: the system is not calibrated")
    assert answer[1].startswith("1  alice  cosine 0.")
    assert answer[2].startswith("not compared, because enrolled with another system: bob;")
    noted = run("enroll", "alice", s0 / "u4.flac", *options).stderr
    assert noted.startswith("note: whether these are all of one voice was not checked: the system is not calibrated")


def test_export_and_import(command: Command, toy_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.sqlite"
    command("enroll", "alice", toy_corpus / "s00" / "u7.flac")
    assert command("gallery export", out).stdout == f"1 voiceprint: {out}\n"
    assert "there is a file already" in command("gallery export", out, status=2).stderr
    new = tmp_path / "new.sqlite"
    assert run("gallery", "import", out, "--gallery", new).stdout == "added: 1 voiceprint; there already: 0\n"
    assert run("gallery", "import", out, "--gallery", new).stdout == "added: 0 voiceprints; there already: 1\n"
    assert run("speakers", "--gallery", out).stdout == command("speakers").stdout


def test_nobody_is_enrolled_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert run("speakers").stdout == "nobody is enrolled; `xvectors enroll NAME a.wav` enrolls\n"
    assert run("speakers", "--json").stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("XVECTORS_GALLERY", str(tmp_path / "g.sqlite"))
    SqliteStore(tmp_path / "g.sqlite", create=True).close()
    assert run("speakers").stdout == "nobody is enrolled; `xvectors enroll NAME a.wav` enrolls\n"
