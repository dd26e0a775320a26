"""What the command line prints, and how it ends when something goes wrong that no command foresaw."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import xvectors.cli
from support.commands import run
from xvectors.cli import main
from xvectors.cli.terminal import print as print_safely
from xvectors.gallery import SqliteStore, Voiceprint
from xvectors.text import printable
from xvectors.verification import cosine_verifier

RTL = "\u202e"
FULL = Path("/dev/full")


class Stream(io.TextIOWrapper):
    """A stream of some encoding, as the terminal's or the pipe's may be."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)


def run_on(stdout: io.TextIOWrapper, stderr: io.TextIOWrapper, *arguments: object) -> object:
    """Run a command on these streams; returns the exit status."""
    logging.getLogger().handlers.clear()
    with (
        mock.patch.object(sys, "argv", ["xvectors", *map(str, arguments)]),
        mock.patch.object(sys, "stdout", stdout),
        mock.patch.object(sys, "stderr", stderr),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return ended.value.code or 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann", "ann"),
        ("Zoë 🎙 محمد नमस्ते", "Zoë 🎙 محمد नमस्ते"),
        ("می‌خواهم", "می‌خواهم"),  # written with a zero-width non-joiner
        ("\x1b[2J\x1b[Hsame speaker", "\\x1b[2J\\x1b[Hsame speaker"),
        ("a\nsame speaker\r", "a\\nsame speaker\\r"),
        (f"ann{RTL}gnp.wav", "ann\\u202egnp.wav"),
        ("\u2066x\u2069\u200e\u200f\u061c\ufeff", "\\u2066x\\u2069\\u200e\\u200f\\u061c\\ufeff"),
        ("a\u2028b\x85c\x9b", "a\\u2028b\\x85c\\x9b"),
        (os.fsdecode(b"caf\xe9.wav"), "caf\\xe9.wav"),
    ],
)
def test_what_terminals_obey_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(expected) == expected


def test_every_command_prints_by_the_safe_print() -> None:
    """No module of the command line calls the builtin, typer's echo, or the standard streams themselves."""
    for path in sorted(Path(str(xvectors.cli.__file__)).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "xvectors.cli.terminal"
            for alias in node.names
        }
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if path.name != "terminal.py":
            assert "print" not in called or "print" in imported, path.name
            assert not called & {"typer.echo", "sys.stdout.write", "sys.stderr.write", "json.dumps"}, path.name


def test_names_and_notes_of_files_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """A gallery that another program wrote, whose names hold a line, a color and a turn of direction."""
    from datetime import UTC, datetime

    import numpy as np

    path = tmp_path / "gallery.sqlite"
    name = f"ann\x1b[2J\nbob  9 voiceprints{RTL}"
    with SqliteStore(path, create=True) as store:
        when = datetime.now(UTC)
        voiceprint = Voiceprint(
            embedding=np.ones(4, dtype=np.float32),
            duration_s=3.0,
            system="a" * 64,
            enrolled_at=when,
            expires_at=None,
            consent="yes\x1b]0;title\x07",
            audio=None,
        )
        store.add(name, [voiceprint])
    printed = run("speakers", "--gallery", path).stdout
    assert printed.count("\n") == 1
    assert printed.startswith("ann\\x1b[2J\\nbob  9 voiceprints\\u202e  1 voiceprint, 3.0 s")
    assert "consent: yes\\x1b]0;title\\x07" in printed
    as_json = run("speakers", "--gallery", path, "--json").stdout
    assert json.loads(as_json)[0]["name"] == name
    assert as_json.isascii()
    missing = run("verify", tmp_path / f"x{RTL}\x1b[1m.wav", "--as", "ann", "--gallery", path, status=2)
    assert missing.stderr.startswith("error: ")
    assert printable(missing.stderr.rstrip("\n")) == missing.stderr.rstrip("\n")
    forgotten = run("forget", name, "--gallery", path).stdout
    assert forgotten == f"{printable(name)} is forgotten: 1 voiceprint removed\n"


@pytest.mark.parametrize("name", [f"ann{RTL}", "a\nb", "\x1b[31mann", "ann\u200b", "\ud800", "x\x85y"])
def test_names_that_cannot_be_seen_are_not_enrolled(name: str, tmp_path: Path) -> None:
    printed = run("enroll", name, "a.wav", "--gallery", tmp_path / "g.sqlite", status=2)
    assert printed.stderr.startswith(f"error: the speaker's name {printable(name)} has control characters")
    assert printed.stderr.count("\n") == 1
    assert not (tmp_path / "g.sqlite").exists()


@pytest.mark.parametrize("note", [f"yes{RTL}", "yes\nno", "\x1b]0;title\x07", "yes\u200b", "y" * 10_001])
def test_notes_that_cannot_be_seen_are_not_enrolled(note: str, tmp_path: Path) -> None:
    """Before any recording is read, and from Python as from the command line."""
    import numpy as np

    from xvectors.errors import ConfigError
    from xvectors.gallery import Gallery

    printed = run("enroll", "ann", "a.wav", "--consent", note, "--gallery", tmp_path / "g.sqlite", status=2)
    assert printed.stderr.startswith("error: ")
    assert "note of consent" in printed.stderr
    assert printed.stderr.count("\n") == 1
    assert len(printed.stderr) < 300
    assert not (tmp_path / "g.sqlite").exists()
    with SqliteStore(tmp_path / "g.sqlite", create=True) as store:
        gallery = Gallery(store, system="a" * 64, verifier=cosine_verifier())
        with pytest.raises(ConfigError, match="note of consent"):
            gallery.enroll("ann", np.ones((1, 4)), [3.0], consent=note)
        gallery.enroll("ann", np.ones((1, 4)), [3.0], consent="signé ✔ 2026")
        assert store.speakers(gallery.now())[0].consent == ("signé ✔ 2026",)


def test_log_messages_are_printable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> bool:
        logging.getLogger("xvectors").warning("left out %s", f"a\x1b[2J\n{RTL}.wav")
        return False

    monkeypatch.setattr("xvectors.gallery.is_there", warn)
    assert run("speakers").stderr == "WARNING: left out a\\x1b[2J \\u202e.wav\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_stream_of_any_encoding_takes_every_name(encoding: str, tmp_path: Path) -> None:
    """What an encoding lacks becomes an escape, on both streams and in the help."""
    stdout, stderr = Stream(encoding), Stream(encoding)
    gallery = tmp_path / "Zoë 声 \udce9.sqlite"
    assert run_on(stdout, stderr, "forget", "Zoë 声", "--gallery", gallery) == 2
    assert stderr.text().startswith("error: ")
    assert stderr.text().isascii() == (encoding == "ascii")
    assert ("声" in stderr.text()) == (encoding == "utf-8")
    assert ("\\u58f0" in stderr.text()) == (encoding != "utf-8")
    assert "\\xe9.sqlite" in stderr.text()
    assert run_on(stdout, stderr, "--help") == 0
    assert "Recognize speakers" in stdout.text()
    stderr = Stream(encoding)
    assert run_on(stdout, stderr, "声 \udce9") == 2
    assert "No such command" in stderr.text()


def test_a_fault_of_the_program_is_one_sentence_a_file_and_status_70(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("three apples among\nnobody")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("xvectors.gallery.is_there", fail)
    printed = run("speakers", status=70)
    (report,) = tmp_path.glob("xvectors-crash-*.txt")
    assert printed.stdout == ""
    assert printed.stderr.count("\n") == 1
    assert "internal error (ZeroDivisionError: three apples among\\nnobody)" in printed.stderr
    assert str(report) in printed.stderr
    text = report.read_text()
    assert "command   xvectors speakers" in text
    assert "ZeroDivisionError: three apples" in text
    assert "in fail" in text
    assert report.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    printed = run("speakers", status=70)
    assert "Traceback" in printed.stderr
    assert printed.stderr.splitlines()[-1].startswith("error: internal error (ZeroDivisionError")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_full_output_is_an_error_in_one_line() -> None:
    stderr = Stream("utf-8")
    with FULL.open("w") as stdout:
        assert run_on(stdout, stderr, "--version") == 2
        assert stderr.text() == "error: the output cannot be written: No space left on device; nothing else was lost\n"
    with FULL.open("w") as broken, FULL.open("w") as stdout:
        assert run_on(stdout, broken, "--version") == 2


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["verify", "--help"]])
def test_a_reader_that_leaves_ends_the_command_as_a_shell_expects(arguments: list[str]) -> None:
    """As with `| head`: no message, and the status of SIGPIPE."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([sys.executable, "-m", "xvectors", *arguments], stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_streams_are_no_error() -> None:
    command = f"{sys.executable} -m xvectors --version"
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_safely("a\nb", 3)
    print_safely()
    assert capsys.readouterr().out == "a\\nb 3\n\n"


HOSTILE = f"x\x1b[31m\n{RTL}y\x07"


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        ([HOSTILE], "No such command"),
        ([f"--{HOSTILE}"], "No such option"),
        (["verify", "a.wav", "b.wav", HOSTILE], "unexpected extra argument"),
        (["gallery", HOSTILE], "No such command"),
        (["verify"], "Missing argument 'FILE'"),
        (["verify", "a.wav", "--channel"], "requires an argument"),
    ],
)
def test_usage_errors_show_arguments_safely(arguments: list[str], about: str) -> None:
    """On two lines at most: how the command is used, and what is wrong."""
    printed = run(*arguments, status=2).stderr.splitlines()
    assert all(line == printable(line) for line in printed)
    assert printed[-1].startswith("error: ")
    assert about in printed[-1]
    assert len(printed) == 1 or (len(printed) == 2 and printed[0].startswith("Usage: xvectors"))
    assert HOSTILE not in arguments[-1] or "\\x1b[31m" in printed[-1]


def test_tracebacks_of_the_log_are_safe_too() -> None:
    from xvectors.cli.terminal import LogFormatter

    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed on %s", (HOSTILE,), sys.exc_info())
    lines = LogFormatter().format(record).split("\n")
    assert lines[0].startswith("ERROR: failed on x\\x1b[31m")
    assert lines[1].startswith("Traceback")
    assert all(line == printable(line) for line in lines)
