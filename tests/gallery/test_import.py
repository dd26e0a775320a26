"""Importing a gallery file that anybody may have made: what is refused, what is asked, what is warned about."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.drawn_voices import OTHER, SYSTEM, Voices, make_voices
from xvectors.corpus.synth import synthesize
from xvectors.errors import GalleryError, ShapeError
from xvectors.gallery import Gallery, SqliteStore, export_gallery, import_gallery
from xvectors.verification import Verifier, cosine_verifier


@pytest.fixture
def gallery(tmp_path: Path, verifier: Verifier) -> Gallery:
    return Gallery(SqliteStore(tmp_path / "mine.sqlite", create=True), system=SYSTEM, verifier=verifier)


def other_gallery(path: Path, verifier: Verifier, name: str, rows: np.ndarray, seconds: list[float]) -> Path:
    with Gallery(SqliteStore(path, create=True), system=SYSTEM, verifier=verifier) as other:
        other.enroll(name, rows, seconds)
    return path


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_takeover_is_asked_about_warned_about_and_does_not_succeed(
    gallery: Gallery, verifier: Verifier, voices: Voices, tmp_path: Path
) -> None:
    """Somebody's recordings, enrolled as ann elsewhere, that claim to last an hour."""
    ann = voices.record(0, 5.0, 5.0, 5.0)
    gallery.enroll("ann", *ann)
    file = other_gallery(tmp_path / "theirs.sqlite", verifier, "ann", *voices.record(1, 5.0))
    change(file, "UPDATE voiceprints SET duration_s = 3600")
    with pytest.raises(GalleryError, match=r"\(ann\); nothing was imported. If they are the same people, add --merge"):
        import_gallery(gallery, file)
    assert gallery.speaker("ann").num_voiceprints == 3
    done = import_gallery(gallery, file, merge=True)
    assert (done.num_added, done.merged, list(done.doubts), done.unchecked) == (1, ("ann",), ["ann"], ())
    assert done.doubts["ann"][0].llr < 0
    (own,), _ = voices.record(0, 5.0)
    (impostor,), _ = voices.record(1, 5.0)
    assert gallery.verify("ann", own, 5.0).same_speaker
    assert gallery.verify("ann", impostor, 5.0).same_speaker is not True
    assert gallery.store.forget("ann", last=True) == 1
    assert gallery.speaker("ann").duration_s == 15.0


def test_the_takeover_from_the_command_line(calibrated_starter: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "made", speakers=2, utterances=5, seed=12, workers=1)
    ann, thief = (sorted(folder.glob("*.flac")) for folder in sorted((tmp_path / "made").glob("synth-*")))
    mine, theirs = tmp_path / "mine.sqlite", tmp_path / "theirs.sqlite"
    system = ("--system", calibrated_starter)
    run("enroll", "ann", *ann[:3], "--gallery", mine, *system)
    run("enroll", "ann", thief[0], "--gallery", theirs, *system)
    change(theirs, "UPDATE voiceprints SET duration_s = 3600")
    before = mine.read_bytes()
    refused = run("gallery", "import", theirs, "--gallery", mine, *system, status=2)
    assert "(ann)" in refused.stderr
    assert "--merge" in refused.stderr
    assert mine.read_bytes() == before
    merged = run("gallery", "import", theirs, "--gallery", mine, "--merge", *system)
    assert "of ann does not sound like the others of that name" in merged.stderr
    assert "`xvectors forget ann --last`" in merged.stderr
    assert merged.stdout.startswith("further voiceprints for names that were enrolled: ann\n")
    heard = {
        str(path): run("verify", path, "--as", "ann", "--gallery", mine, *system).stdout.splitlines()[0]
        for path in (ann[4], thief[4])
    }
    assert heard[str(thief[4])] != "same speaker"
    assert heard[str(ann[4])] != "different speakers"


def test_two_voices_under_a_new_name_are_warned_about(
    gallery: Gallery, verifier: Verifier, voices: Voices, tmp_path: Path
) -> None:
    rows = np.concatenate([voices.record(2, 5.0, 5.0)[0], voices.record(3, 5.0)[0]])
    done = import_gallery(gallery, other_gallery(tmp_path / "o.sqlite", verifier, "new", rows, [5.0] * 3))
    assert (done.num_added, done.merged) == (3, ())
    assert 2 in [doubt.recording for doubt in done.doubts["new"]]


def test_what_cannot_be_compared_is_said(gallery: Gallery, verifier: Verifier, tmp_path: Path) -> None:
    voices = make_voices(3, seed=4)
    file = tmp_path / "o.sqlite"
    with Gallery(SqliteStore(file, create=True), system=OTHER, verifier=verifier) as other:
        other.enroll("foreign", *voices.record(0, 5.0))
    assert import_gallery(gallery, file).unchecked == ("foreign",)
    blind = Gallery(SqliteStore(tmp_path / "b.sqlite", create=True), system=OTHER, verifier=cosine_verifier())
    assert import_gallery(blind, file).unchecked == ("foreign",)


SMUGGLED = {
    "a date that is none": ("UPDATE voiceprints SET enrolled_at = 'yesterday'", "enrolled_at"),
    "a date to come": ("UPDATE voiceprints SET enrolled_at = '2999-01-01T00:00:00Z'", "enrolled_at"),
    "an expiry that is none": ("UPDATE voiceprints SET expires_at = '2999-13-01'", "expires_at"),
    "a date that is a number": ("UPDATE voiceprints SET expires_at = x'00'", "expires_at"),
    "an embedding cut short": ("UPDATE voiceprints SET embedding = x'0011'", "embedding"),
    "no embedding": ("UPDATE voiceprints SET embedding = x''", "embedding"),
    "an embedding of text": ("UPDATE voiceprints SET embedding = 'abcd'", "embedding"),
    "NaN": ("UPDATE voiceprints SET embedding = x'0000C07F0000803F'", "not finite"),
    "all zeros": ("UPDATE voiceprints SET embedding = zeroblob(128)", "all zeros"),
    "an endless length": ("UPDATE voiceprints SET embedding = x'FFFF7F7FFFFF7F7F'", "length"),
    "an endless duration": ("UPDATE voiceprints SET duration_s = 9e999", "duration"),
    "a duration of text": ("UPDATE voiceprints SET duration_s = 'long'", "duration"),
    "a condition cut short": ("UPDATE voiceprints SET condition = x'0011'", "condition"),
    "a condition too long": ("UPDATE voiceprints SET condition = zeroblob(28)", "condition"),
    "an endless condition": (f"UPDATE voiceprints SET condition = x'0000807F{40 * '0'}'", "condition"),
    "a condition of text": ("UPDATE voiceprints SET condition = 'text of 24 characters...'", "condition"),
    "a system that is none": ("UPDATE voiceprints SET system = 'mine, theirs'", "fingerprint"),
    "a name of bytes": ("UPDATE speakers SET name = x'616e6e'", "name"),
    "an empty name": ("UPDATE speakers SET name = ''", "name"),
    "a padded name": ("UPDATE speakers SET name = ' ann '", "name"),
    "a name that is not composed": ("UPDATE speakers SET name = 'Zoe' || char(776)", "name"),
    "a name with an escape": ("UPDATE speakers SET name = 'ann' || char(27) || '[2J'", "name"),
    "an endless name": ("UPDATE speakers SET name = printf('%0*d', 100000, 7)", "name"),
    "a note of bytes": ("UPDATE voiceprints SET consent = x'00'", "consent"),
    "a note with an escape": ("UPDATE voiceprints SET consent = 'yes' || char(27) || ']0;x'", "note of consent yes"),
    "a note that turns around": ("UPDATE voiceprints SET consent = 'yes' || char(8238)", "note of consent yes"),
    "an endless note": ("UPDATE voiceprints SET consent = printf('%0*d', 100000, 7)", "100000 characters"),
    "sound that is none": ("INSERT INTO recordings SELECT id, 'text' FROM voiceprints", "recording"),
}


@pytest.mark.parametrize("kind", SMUGGLED)
def test_rows_that_enroll_would_not_write(
    gallery: Gallery, verifier: Verifier, voices: Voices, tmp_path: Path, kind: str
) -> None:
    statement, named = SMUGGLED[kind]
    file = other_gallery(tmp_path / "o.sqlite", verifier, "mallory", *voices.record(1, 5.0))
    with Gallery(SqliteStore(file), system=SYSTEM, verifier=verifier) as other:
        other.enroll("before", *voices.record(2, 5.0))  # a good one: all or nothing
    change(
        file, "PRAGMA ignore_check_constraints = ON", f"{statement} {'' if 'INSERT' in statement else 'WHERE id = 1'}"
    )
    with pytest.raises((GalleryError, ShapeError), match=named) as refused:
        import_gallery(gallery, file)
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()
    assert gallery.store.speakers(gallery.now()) == []


def test_an_embedding_of_another_size(gallery: Gallery, verifier: Verifier, voices: Voices, tmp_path: Path) -> None:
    gallery.enroll("ann", *voices.record(0, 5.0))
    file = other_gallery(tmp_path / "o.sqlite", verifier, "mallory", voices.record(1, 5.0)[0][:, :8], [5.0])
    with pytest.raises(GalleryError, match="mallory has 8 dimensions, but others of the same system have 32"):
        import_gallery(gallery, file)


TRAPS = {
    "view": (
        "DROP TABLE recordings",
        "CREATE VIEW recordings AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) "
        "SELECT i AS voiceprint, x'00' AS audio FROM n",
    ),
    "trigger": ("CREATE TRIGGER t AFTER INSERT ON speakers BEGIN DELETE FROM speakers; END",),
    "virtual table": ("CREATE VIRTUAL TABLE t USING fts5(x)",),
    "expression index": ("CREATE INDEX slow ON speakers (length(name))",),
    "missing table": ("DROP TABLE recordings",),
    "generated column": ("ALTER TABLE speakers ADD COLUMN g AS (zeroblob(1000000000))",),
}


@pytest.mark.parametrize("kind", TRAPS)
def test_tables_that_are_not_a_gallerys(
    gallery: Gallery, verifier: Verifier, voices: Voices, tmp_path: Path, kind: str
) -> None:
    file = other_gallery(tmp_path / "o.sqlite", verifier, "mallory", *voices.record(1, 5.0))
    change(file, *TRAPS[kind])
    with pytest.raises(GalleryError, match=r"o\.sqlite: its tables are not those of a gallery.*nothing was read"):
        import_gallery(gallery, file)
    gallery.enroll("ann", *voices.record(0, 5.0))  # the write lock is free


def test_the_source_is_not_changed(gallery: Gallery, verifier: Verifier, voices: Voices, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = other_gallery(folder / "o.sqlite", verifier, "bob", *voices.record(1, 5.0))
    before = file.read_bytes()
    assert import_gallery(gallery, file).num_added == 1
    assert file.read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["o.sqlite"]


def test_a_source_that_is_being_written(gallery: Gallery, verifier: Verifier, voices: Voices, tmp_path: Path) -> None:
    """What stands in the log beside the file is read too."""
    with Gallery(SqliteStore(tmp_path / "o.sqlite", create=True), system=SYSTEM, verifier=verifier) as other:
        other.enroll("bob", *voices.record(1, 5.0))
        assert import_gallery(gallery, tmp_path / "o.sqlite").num_added == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_at_once(gallery: Gallery, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GalleryError, match="pipe: is a pipe or device"):
        import_gallery(gallery, tmp_path / "pipe")
    with pytest.raises(GalleryError, match="pipe: is a pipe or device"):
        SqliteStore(tmp_path / "pipe", create=True)


def test_the_last_enrollment_is_the_one_made_last(verifier: Verifier, voices: Voices, tmp_path: Path) -> None:
    """Not the one with the latest time: clocks go back."""
    from datetime import UTC, datetime

    times = iter([datetime(2030, 1, 1, tzinfo=UTC)] * 2 + [datetime(2026, 1, 1, tzinfo=UTC)] * 2)
    store = SqliteStore(tmp_path / "g.sqlite", create=True)
    gallery = Gallery(store, system=SYSTEM, verifier=verifier, now=lambda: next(times))
    first, second = voices.record(0, 5.0), voices.record(0, 4.0)
    gallery.enroll("ann", *first)
    next(times)
    gallery.enroll("ann", *second)
    assert store.forget("ann", last=True) == 1
    (left,) = store.voiceprints()
    assert left.voiceprint.duration_s == 5.0


def killed(script: str, *arguments: Path) -> None:
    """Run a script that stops itself with SIGKILL."""
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_the_copy_of_a_killed_export_is_removed(verifier: Verifier, voices: Voices, tmp_path: Path) -> None:
    """By the next `forget`, wherever it was written."""
    mine, out = tmp_path / "mine.sqlite", tmp_path / "out" / "copy.sqlite"
    other_gallery(mine, verifier, "ann", *voices.record(0, 5.0)).chmod(0o600)
    killed(
        """
import os, sys
from pathlib import Path
from xvectors.gallery import SqliteStore, export_gallery
store = SqliteStore(sys.argv[1])
add_all = SqliteStore.add_all
def stop(self, source, *, merge):
    add_all(self, source, merge=merge)
    os.kill(os.getpid(), 9)
SqliteStore.add_all = stop
export_gallery(store, Path(sys.argv[2]))
""",
        mine,
        out,
    )
    assert any(b"ann" in path.read_bytes() for path in out.parent.iterdir())
    assert {path.stat().st_mode & 0o077 for path in out.parent.iterdir()} == {0}
    with SqliteStore(mine) as store:
        store.forget("ann")
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_a_killed_forget_is_finished_by_the_next_use(verifier: Verifier, voices: Voices, tmp_path: Path) -> None:
    mine = other_gallery(tmp_path / "mine.sqlite", verifier, "ann", *voices.record(0, 5.0))
    killed(
        """
import os, sys
from xvectors.gallery import SqliteStore
SqliteStore._overwrite = lambda *args: os.kill(os.getpid(), 9)
SqliteStore(sys.argv[1]).forget("ann")
""",
        mine,
    )

    def found() -> bool:
        return any(b"ann" in path.read_bytes() for path in tmp_path.iterdir())

    assert found()
    with SqliteStore(mine):
        assert not found()


def test_a_copy_that_is_being_written_is_told(verifier: Verifier, voices: Voices, tmp_path: Path) -> None:
    mine = other_gallery(tmp_path / "mine.sqlite", verifier, "ann", *voices.record(0, 5.0))
    begun, go_on = threading.Event(), threading.Event()

    class Slow(SqliteStore):
        def audio(self, number: int) -> bytes | None:
            begun.set()
            go_on.wait(30)
            return super().audio(number)

    with Slow(mine) as store, SqliteStore(mine) as other:
        thread = threading.Thread(target=export_gallery, args=(store, tmp_path / "copy.sqlite"))
        thread.start()
        begun.wait(30)
        with pytest.raises(
            GalleryError, match=r"ann is forgotten, but an earlier copy of the gallery is being written"
        ):
            other.forget("ann")
        go_on.set()
        thread.join()
        assert [path.name for path in tmp_path.glob("*copy*")] == ["copy.sqlite"]
        assert [each.speaker for each in SqliteStore(tmp_path / "copy.sqlite").voiceprints()] == ["ann"]
