"""Files that are missing, of another kind, unreadable or absurd: one sentence, status 2, and nothing hangs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from xvectors.config import load_recipe
from xvectors.corpus import open_corpus, scan
from xvectors.corpus.walk import walk_recordings
from xvectors.errors import ConfigError, ManifestError
from xvectors.files import why_no_file

LONG = "a" * 5000
linux = pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there")


def one_sentence(*arguments: object) -> str:
    printed = run(*arguments, status=2)
    assert printed.stdout == ""
    assert printed.stderr.startswith("error: ")
    assert printed.stderr.count("\n") == 1
    return printed.stderr


def test_why_there_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    found = {name: why_no_file(tmp_path / name) for name in ("none", "file/x", "gone", "circle", "pipe", ".", "file")}
    assert found == {
        "none": "no such file",
        "file/x": "no such file",
        "gone": "no such file, but a broken link",
        "circle": "cannot be read: Too many levels of symbolic links",
        "pipe": "is a pipe or device, not a file; write its output to a file first",
        ".": "is a folder, not a file",
        "file": "",
    }
    assert why_no_file(LONG) == "cannot be read: File name too long"
    assert why_no_file("a\0b") == "no such file"


def test_pipes_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Lists and scores are read more than once, and a gallery is written: none of them can be a pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2, dtype=np.float32), id=["a", "b"], duration_s=[1.0, 1.0])
    for arguments in (
        ("speakers", "--gallery", pipe),
        ("gallery", "export", "-o", tmp_path / "out.sqlite", "--gallery", pipe),
        ("evaluate", "--scores", pipe),
        ("score", pipe, "--trials", pipe),
        ("score", tmp_path / "e.npz", "--trials", pipe),
        ("verify", pipe, pipe),
    ):
        assert f"{pipe}: is a pipe or device" in one_sentence(*arguments)


def test_missing_files_are_missing_and_not_damaged(tmp_path: Path) -> None:
    none = tmp_path / "none.npz"
    np.savez(tmp_path / "e.npz", embeddings=np.eye(2, dtype=np.float32), id=["a", "b"], duration_s=[1.0, 1.0])
    for arguments in (
        ("evaluate", "--scores", none),
        ("score", tmp_path / "e.npz", "--trials", none),
        ("score", tmp_path / "e.npz", "--trials", none, "--enrollment", none),
        ("verify", none, none),
    ):
        message = one_sentence(*arguments)
        assert f"{none}: no such file" in message
        assert "damaged" not in message


def test_a_system_that_lacks_a_part_says_which(calibrated_starter: Path, tmp_path: Path) -> None:
    for name in ("backend.npz", "speakers.csv", "model.safetensors"):
        system = tmp_path / name
        shutil.copytree(calibrated_starter, system)
        (system / name).unlink()
        message = one_sentence("verify", "a.wav", "b.wav", "--system", system, "--device", "cpu")
        assert name in message
        assert "damaged" not in message


def test_names_of_5000_characters(tmp_path: Path) -> None:
    for arguments in (
        ("speakers", "--gallery", LONG),
        ("forget", "ann", "--gallery", LONG),
        ("verify", f"{LONG}.wav", f"{LONG}.wav"),
        ("evaluate", "--scores", LONG),
        ("evaluate", LONG),
        ("train", LONG, "-o", tmp_path / "s"),
        ("trials", LONG, "-o", tmp_path / "t.csv"),
    ):
        message = one_sentence(*arguments)
        assert "File name too long" in message or "no such" in message
    (tmp_path / "corpus.csv").write_text(f"path,speaker\n{LONG}.wav,ann\n")
    with pytest.raises(ManifestError, match="1 of 1 utterances cannot be used"):
        scan(open_corpus(tmp_path / "corpus.csv"), cache=False)


def test_a_link_to_itself_does_not_end_a_corpus(toy_corpus: Path, tmp_path: Path) -> None:
    for speaker in ("s00", "s01"):
        shutil.copytree(toy_corpus / speaker, tmp_path / speaker)
    (tmp_path / "s00" / "z.wav").symlink_to("z.wav")
    (tmp_path / "s00" / "folder").symlink_to("folder")
    assert list(walk_recordings(tmp_path))[7:9] == ["s00/u7.flac", "s00/z.wav"]
    report = scan(open_corpus(tmp_path), cache=False).report
    assert report.num_kept == 16
    ((path, speaker),) = [(remark.path, remark.speaker) for remark in report.rejected]
    assert (path, speaker) == ("s00/z.wav", "s00")


@linux
def test_names_that_are_not_utf8_are_left_out_before_anything_is_trained(toy_corpus: Path, tmp_path: Path) -> None:
    """Not after the scan of a whole corpus, when its table cannot be written."""
    for speaker in ("s00", "s01"):
        shutil.copytree(toy_corpus / speaker, tmp_path / speaker)
    shutil.copy(toy_corpus / "s02" / "u0.flac", os.fsencode(tmp_path / "s00") + b"/caf\xe9.flac")
    shutil.copytree(toy_corpus / "s03", os.fsdecode(os.fsencode(tmp_path) + b"/Zo\xeb"))
    result = scan(open_corpus(tmp_path), cache=False)
    assert {remark.reason.value for remark in result.report.rejected} == {"name not UTF-8"}
    assert (result.report.num_kept, len(result.report.rejected)) == (16, 9)
    result.manifest.write_csv(tmp_path / "corpus.csv")
    result.report.write_csv(tmp_path / "left_out.csv")
    assert "caf\\udce9.flac" in (tmp_path / "left_out.csv").read_text()


@pytest.mark.parametrize("segment", ["nan nan", "0 nan", "nan 1", "0 inf", "-inf 2"])
def test_a_kaldi_segment_needs_finite_times(segment: str, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text("r r.wav\n")
    (tmp_path / "utt2spk").write_text("u s\n")
    (tmp_path / "segments").write_text(f"u r {segment}\n")
    with pytest.raises(ManifestError, match=r"segments: u: .* is not a recording, a start and an end in seconds"):
        open_corpus(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = " + "[" * 50_000, "not valid TOML"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("[training]\nepochs = " + "9" * 400, "epochs is a whole number of 400 digits"),
        ("[training]\nlearning_rate = " + "9" * 400, "learning_rate is a whole number of 400 digits"),
    ],
)
def test_absurd_toml_is_an_error_of_the_recipe(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "r.toml")
    key, _, value = text.rpartition("=")
    override = ("training." if "training" in key else "") + key.split()[-1] + "=" + value.strip()
    with pytest.raises(ConfigError, match=r"not a value of TOML|digits|must be a number"):
        load_recipe("lab", [override])


def test_without_a_home_there_is_a_sentence(toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XVECTORS_GALLERY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where there is no home directory
    assert "your home directory is not known: set HOME, or XDG_DATA_HOME" in one_sentence("speakers")
    shutil.copytree(toy_corpus / "s00", tmp_path / "s00")
    assert scan(open_corpus(tmp_path)).report.num_kept == 8


def test_a_home_that_cannot_be_read_costs_only_the_kept_findings(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", f"/{LONG}")
    shutil.copytree(toy_corpus / "s00", tmp_path / "s00")
    assert scan(open_corpus(tmp_path)).report.num_kept == 8
