"""The gallery file: what it keeps, what it refuses, what it forgets."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from support.conditions import some_conditions
from support.permissions import without_root
from xvectors.errors import GalleryError, StorageError, UnknownSpeakerError
from xvectors.gallery import Gallery, SqliteStore, Voiceprint, default_gallery, export_gallery, import_gallery
from xvectors.gallery.sqlite import database
from xvectors.gallery.sqlite.migrations import MIGRATIONS
from xvectors.verification import cosine_verifier

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
SYSTEM, OTHER = "a" * 64, "b" * 64


def voiceprint(seed: int, system: str = SYSTEM, **fields: object) -> Voiceprint:
    embedding = np.random.default_rng(seed).standard_normal(64).astype(np.float32)
    return Voiceprint(**{"embedding": embedding, "duration_s": 2.5, "system": system, "enrolled_at": NOW, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gallery.sqlite"


def test_what_is_added_comes_back(path: Path) -> None:
    with SqliteStore(path, create=True) as store:
        assert store.add("alice", [voiceprint(1, consent="signed"), voiceprint(2, audio=b"RIFF")]) == 0
        assert store.add("bob", [voiceprint(3, OTHER)]) == 0
        assert store.add("alice", [voiceprint(4, duration_s=1.5, expires_at=NOW + timedelta(days=1))]) == 2
    with SqliteStore(path) as store:
        alice, bob = store.speakers(NOW)
        assert (alice.name, alice.num_voiceprints, alice.num_expired, alice.num_kept) == ("alice", 3, 0, 1)
        assert (alice.duration_s, alice.systems, alice.consent) == (6.5, (SYSTEM,), ("signed",))
        assert (alice.enrolled_at, alice.expires_at) == (NOW, NOW + timedelta(days=1))
        assert (bob.name, bob.systems, bob.consent, bob.expires_at) == ("bob", (OTHER,), (), None)
        (block,) = store.blocks(SYSTEM, NOW)
        np.testing.assert_array_equal(block.embeddings, [voiceprint(seed).embedding for seed in (1, 2, 4)])
        assert block.duration_s.tolist() == [2.5, 2.5, 1.5]
        assert set(block.speaker.tolist()) == {store.id_of("alice")}
        assert store.names_of_others(SYSTEM, NOW) == ["bob"]
        later = store.speakers(NOW + timedelta(days=1))[0]
        assert (later.num_voiceprints, later.num_expired) == (2, 1)


def test_conditions_come_back(path: Path) -> None:
    first, second = some_conditions(2)
    second[4] = np.nan
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1, condition=first), voiceprint(2), voiceprint(3, condition=second)])
    with SqliteStore(path) as store:
        for block in (*store.blocks(SYSTEM, NOW), store.voiceprints_of([store.id_of("alice")], SYSTEM, NOW)):
            assert block.condition.dtype == np.float32
            np.testing.assert_array_equal(block.condition, [first, np.full(6, np.nan), second])
        assert store.voiceprints_of([], SYSTEM, NOW).condition.shape == (0, 6)
        found = [entry.voiceprint.condition for entry in store.voiceprints()]
        np.testing.assert_array_equal(found[0], first)
        assert found[1] is None
        np.testing.assert_array_equal(found[2], second)


@pytest.mark.parametrize(
    "blob", ["x'0000'", "zeroblob(28)", "'text of 24 characters...'", "1.5", f"x'0000807F{40 * '0'}'"]
)
def test_a_condition_that_is_none(path: Path, blob: str) -> None:
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE voiceprints SET condition = {blob}")
        connection.commit()
    with SqliteStore(path) as store:
        for read in (lambda: list(store.blocks(SYSTEM, NOW)), lambda: list(store.voiceprints())):
            with pytest.raises(
                GalleryError, match=r"the gallery is damaged: its condition is not 6 float32 numbers .*; restore a copy"
            ):
                read()


def file_of_version_2(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alice, enrolled before voiceprints had conditions."""
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", MIGRATIONS[:2])
        database.connect(path, create=True).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO speakers VALUES (1, 'alice', 1)")
        row = (1, 1, SYSTEM, voiceprint(1).embedding.tobytes(), 2.5, "2030-01-01T00:00:00Z", None, None, 1)
        connection.execute("INSERT INTO voiceprints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.commit()


def test_voiceprints_of_earlier_versions_have_no_condition(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of_version_2(path, monkeypatch)
    with SqliteStore(tmp_path / "new.sqlite", create=True) as store:
        gallery = Gallery(store, system=SYSTEM, verifier=cosine_verifier(), now=lambda: NOW)
        assert import_gallery(gallery, path).num_added == 1
        assert [entry.voiceprint.condition for entry in store.voiceprints()] == [None]
    with closing(sqlite3.connect(path)) as connection:  # an import changes nothing in the file
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    with SqliteStore(path) as store:
        (block,) = store.blocks(SYSTEM, NOW)
        np.testing.assert_array_equal(block.embeddings, [voiceprint(1).embedding])
        assert np.isnan(block.condition).all()
        store.add("alice", [voiceprint(2, condition=some_conditions(1)[0])])
        (block,) = store.blocks(SYSTEM, NOW)
        np.testing.assert_array_equal(block.condition, [np.full(6, np.nan), some_conditions(1)[0]])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT condition IS NULL FROM voiceprints ORDER BY id").fetchall() == [(1,), (0,)]


@pytest.mark.parametrize("name", ["a b.sqlite", "100%?mode=ro#1.sqlite", "Übung'\".sqlite"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    with SqliteStore(tmp_path / name, create=True) as store:
        store.add("alice", [voiceprint(1)])
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_file_system_without_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with SqliteStore(path, create=True) as store:
        assert store.add("alice", [voiceprint(1)]) == 0
    with SqliteStore(path, create=True) as store:
        assert store.add("alice", [voiceprint(2)]) == 1
    assert [file.name for file in path.parent.iterdir()] == ["gallery.sqlite"]


def test_only_its_owner_can_read_it(path: Path) -> None:
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["gallery.sqlite", "gallery.sqlite-shm", "gallery.sqlite-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_gallery() == tmp_path / "xvectors" / "gallery.sqlite"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_gallery() == tmp_path / ".local" / "share" / "xvectors" / "gallery.sqlite"


def test_forgetting_leaves_no_bytes(path: Path) -> None:
    """Neither in the file nor in the log, while others stay and another process has the file open."""
    secret = voiceprint(1, audio=b"spoken by alice" * 1000, consent="alice signed this")
    traces = [secret.embedding.tobytes()[at : at + 32] for at in range(0, 256, 32)]
    traces += [b"spoken by alice", b"alice signed this", b"alice"]

    def found() -> list[bytes]:
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
        return [trace for trace in traces if trace in content]

    with SqliteStore(path, create=True) as store, SqliteStore(path) as other:
        store.add("alice", [secret])
        store.add("bob", [voiceprint(seed) for seed in range(2, 40)])
        store.add("alice", [voiceprint(50)])
        other.speakers(NOW)
        assert found() == traces  # the search would find them
        assert store.forget("alice") == 2
        assert found() == []
        assert [speaker.name for speaker in other.speakers(NOW)] == ["bob"]
        assert len(other.voiceprints_of([other.id_of("bob")], SYSTEM, NOW).speaker) == 38


def test_forgetting_says_so_where_a_reader_keeps_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    with SqliteStore(path, create=True) as store, closing(sqlite3.connect(path)) as reader:
        store.add("alice", [voiceprint(1)])
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM voiceprints").fetchone()
        with pytest.raises(
            GalleryError, match=r"alice is forgotten, but traces may remain, .*; run `xvectors gallery purge`"
        ):
            store.forget("alice")
        assert store.speakers(NOW) == []
        reader.execute("COMMIT")
        assert store.purge(NOW) == 0
        assert path.with_name("gallery.sqlite-wal").stat().st_size == 0


def test_purging_removes_what_has_expired(path: Path) -> None:
    soon = NOW + timedelta(days=1)
    old = voiceprint(1, expires_at=soon)
    with SqliteStore(path, create=True) as store:
        store.add("alice", [old])
        store.add("bob", [voiceprint(2), voiceprint(3, expires_at=soon)])
        assert store.purge(NOW) == 0
        assert store.purge(soon) == 2
        assert [(speaker.name, speaker.num_voiceprints) for speaker in store.speakers(soon)] == [("bob", 1)]
        assert old.embedding.tobytes() not in path.read_bytes()


def test_a_name_that_is_not_there(path: Path) -> None:
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
        for name, remedy in (("Alicia", "did you mean 'alice'?"), ("zoe", "`xvectors speakers` lists all names")):
            with pytest.raises(UnknownSpeakerError) as raised:
                store.forget(name)
            assert str(raised.value) == f"no speaker {name} is enrolled in {path}; {remedy}"


def test_a_gallery_that_is_not_there(path: Path) -> None:
    with pytest.raises(GalleryError, match=r"there is no gallery yet; make one with `xvectors enroll NAME a\.wav`"):
        SqliteStore(path)
    assert not path.parent.exists()


def test_files_that_are_no_gallery(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE speakers (id INTEGER)")
    (tmp_path / "text").write_text("alice,0.1,0.2\n")
    (tmp_path / "empty").touch()
    for name, reason in (
        ("foreign.sqlite", "the file is a database of another program, not a gallery"),
        ("text", "the file is not a gallery"),
        ("empty", "is empty, so it is not a gallery"),
        (".", "is a folder; name the gallery's file"),
    ):
        before = (tmp_path / name).read_bytes() if (tmp_path / name).is_file() else b""
        for create in (False, True):
            with pytest.raises(GalleryError, match=reason):
                SqliteStore(tmp_path / name, create=create)
        assert not before or (tmp_path / name).read_bytes() == before


def test_a_file_of_a_newer_version(path: Path) -> None:
    SqliteStore(path, create=True).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(
        GalleryError, match=r"newer xvectors wrote this gallery \(schema 7, newer than 3\); upgrade xvectors"
    ):
        SqliteStore(path)


def test_a_file_of_an_older_version_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
    newer = (*MIGRATIONS, ("ALTER TABLE speakers ADD COLUMN note TEXT", "UPDATE speakers SET note = 'moved'"))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    for _ in range(2):
        with SqliteStore(path) as store:
            assert [speaker.name for speaker in store.speakers(NOW)] == ["alice"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name, note FROM speakers").fetchall() == [("alice", "moved")]
        assert connection.execute("SELECT version FROM migrations").fetchall() == [(1,), (2,), (3,), (4,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)

    broken = (*newer, ("ALTER TABLE speakers ADD COLUMN more TEXT", "INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr(database, "MIGRATIONS", broken)
    with pytest.raises(GalleryError, match="no such table: nowhere"):
        SqliteStore(path)
    with closing(sqlite3.connect(path)) as connection:  # as it was before
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
        assert len(connection.execute("PRAGMA table_info(speakers)").fetchall()) == 4


def test_the_last_enrollment_in_a_file_of_the_first_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It did not number enrollments: those of one time are one, in the order of the file, all before any new one."""
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", MIGRATIONS[:1])
        database.connect(path, create=True).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO speakers VALUES (1, 'alice', 1)")
        for number, time in enumerate(["2031-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"], 1):
            row = (number, 1, SYSTEM, voiceprint(number).embedding.tobytes(), number, time, None, None)
            connection.execute("INSERT INTO voiceprints VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.commit()
    with SqliteStore(path) as store:
        store.add("alice", [voiceprint(9)])
        assert [store.forget("alice", last=True) for _ in range(3)] == [1, 2, 1]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_truncated_file(path: Path, share: float) -> None:
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(seed) for seed in range(200)])
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    with pytest.raises(GalleryError, match="is truncated or damaged"), SqliteStore(path) as store:
        store.speakers(NOW)
    assert path.stat().st_size == round(share * len(content))


def test_a_schema_that_is_no_text(path: Path) -> None:
    """SQLite's own message then holds bytes that are no UTF-8."""
    SqliteStore(path, create=True).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET name = CAST(x'ff6162' AS TEXT), sql = 'x' WHERE name = 'speakers'")
        connection.commit()
    with pytest.raises(GalleryError, match=r"gallery\.sqlite: the gallery is damaged \(.*\); restore a copy"):
        SqliteStore(path)


def test_a_time_that_is_none(path: Path) -> None:
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE voiceprints SET enrolled_at = '2026-11-28T21:16208Z'")
        connection.commit()
    with SqliteStore(path) as store:
        for read in (lambda: store.speakers(NOW), lambda: list(store.voiceprints())):
            with pytest.raises(
                GalleryError,
                match=r"gallery\.sqlite: the gallery is damaged: '2026-11-28T21:16208Z' is not a time; restore",
            ):
                read()


def test_damage_met_while_traces_are_removed_is_no_other_process_using_the_file(path: Path) -> None:
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(seed) for seed in range(200)])
        store.add("bob", [voiceprint(200)])
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    middle = len(content) // 2 // page * page  # of alice's voiceprints
    content[middle : middle + page] = b"\xff" * page
    path.write_bytes(content)
    with SqliteStore(path) as store, pytest.raises(GalleryError, match="is truncated or damaged") as raised:
        store.forget("bob")
    assert "another process" not in str(raised.value)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Unlike tmp_path, other users than root may look into it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_gallery_that_cannot_be_written_can_be_read(open_folder: Path) -> None:
    folder = open_folder / "shared"
    folder.mkdir()
    path = folder / "gallery.sqlite"
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
    path.chmod(0o444)
    folder.chmod(0o555)
    before = path.read_bytes()
    with without_root():
        with SqliteStore(path, create=True) as store:
            assert [speaker.name for speaker in store.speakers(NOW)] == ["alice"]
            for change in (lambda: store.add("bob", [voiceprint(2)]), lambda: store.forget("alice")):
                with pytest.raises(StorageError, match=r"cannot be written, because .* read-only; nothing was changed"):
                    change()
        with pytest.raises(StorageError, match="the gallery cannot be made: Permission denied; name another"):
            SqliteStore(folder / "other.sqlite", create=True)
    folder.chmod(0o755)
    assert path.read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["gallery.sqlite"]


def test_a_read_only_gallery_that_is_being_written(open_folder: Path) -> None:
    """What is in the log only cannot be seen, and nothing older is shown in its place."""
    path = open_folder / "gallery.sqlite"
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
        path.chmod(0o444)
        with without_root(), pytest.raises(GalleryError, match=r"another process is writing it or .*sqlite-wal holds"):
            SqliteStore(path)


def limited(script: str, limit: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """A limit on the size of files stands for it: what fits is kept, what does not is refused as a whole."""
    with SqliteStore(path, create=True) as store:
        store.add("alice", [voiceprint(1)])
    script = f"""
import numpy as np
from datetime import UTC, datetime
from xvectors.errors import StorageError
from xvectors.gallery import SqliteStore, Voiceprint
one = Voiceprint(embedding=np.ones(64, np.float32), duration_s=1.0, system="c" * 64, enrolled_at=datetime.now(UTC))
with SqliteStore({str(path)!r}) as store:
    for number in range(1000):
        try:
            store.add("bob", [one] * 10)
        except StorageError as error:
            print(number, error)
            break
    print(store.speakers(datetime.now(UTC))[1].num_voiceprints)
"""
    ended = limited(script, 400_000)
    assert ended.returncode == 0, ended.stderr
    reason, count = ended.stdout.splitlines()
    number, text = reason.split(" ", 1)
    assert text.startswith(
        f"{path}: the gallery cannot be written (disk I/O error); nothing was changed. If the disk is full, make room"
    )
    assert int(count) == 10 * int(number) > 0
    with SqliteStore(path) as store:
        assert {speaker.name: speaker.num_voiceprints for speaker in store.speakers(NOW)} == {
            "alice": 1,
            "bob": int(count),
        }
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_forgetting_on_a_full_disk(path: Path) -> None:
    """The voiceprint is gone, its place overwritten; only the file as a whole could not be written anew."""
    secret = voiceprint(1)
    with SqliteStore(path, create=True) as store:
        store.add("alice", [secret])
        store.add("bob", [voiceprint(seed) for seed in range(2, 1000)])
    script = f"""
from xvectors.errors import StorageError
from xvectors.gallery import SqliteStore
with SqliteStore({str(path)!r}) as store:
    try:
        store.forget("alice")
    except StorageError as error:
        print(error)
"""
    ended = limited(script, 200_000)
    assert ended.stdout.startswith(f"{path}: alice is forgotten, but traces may remain, because the file could not be ")
    assert ended.stdout.endswith("make room, then run `xvectors gallery purge`\n")
    with SqliteStore(path) as store:
        assert [(speaker.name, speaker.num_voiceprints) for speaker in store.speakers(NOW)] == [("bob", 998)]
        assert store.purge(NOW) == 0
    assert secret.embedding.tobytes()[:64] not in path.read_bytes()


def test_no_room_for_a_new_gallery(path: Path) -> None:
    script = f"from xvectors.gallery import SqliteStore; SqliteStore({str(path)!r}, create=True)"
    ended = limited(script, 4096)
    assert f"StorageError: {path}: the gallery cannot be written (disk I/O error); nothing was changed" in ended.stderr
    assert list(path.parent.iterdir()) == []


def test_export_and_import(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "everybody.sqlite"
    (condition,) = some_conditions(1)
    condition[4:] = np.nan
    with SqliteStore(path, create=True) as store:
        first = voiceprint(1, audio=b"sound", consent="yes", condition=condition)
        store.add("alice", [first, voiceprint(2, OTHER)])
        store.add("bob", [voiceprint(3, expires_at=NOW + timedelta(days=9))])
        assert export_gallery(store, out) == 3
        with pytest.raises(GalleryError, match="the file exists; name another, or remove it"):
            export_gallery(store, out)
        everybody = store.speakers(NOW)
    assert [file.name for file in out.parent.iterdir()] == ["everybody.sqlite"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with SqliteStore(tmp_path / "new.sqlite", create=True) as store:
        store.add("bob", [voiceprint(4)])
        gallery = Gallery(store, system=SYSTEM, verifier=cosine_verifier(), now=lambda: NOW)
        with pytest.raises(GalleryError, match=r"enrolled here already.*\(bob\); nothing was imported.*--merge"):
            import_gallery(gallery, out)
        done = import_gallery(gallery, out, merge=True)
        assert (done.num_added, done.num_known, done.merged) == (3, 0, ("bob",))
        done = import_gallery(gallery, out)
        assert (done.num_added, done.num_known, done.merged) == (0, 3, ())
        alice, bob = store.speakers(NOW)
        assert alice == everybody[0]
        conditions = {
            entry.number: entry.voiceprint.condition for entry in store.voiceprints() if entry.speaker == "alice"
        }
        np.testing.assert_array_equal(conditions[min(conditions)], condition)
        assert conditions[max(conditions)] is None
        assert (bob.num_voiceprints, bob.duration_s) == (2, 5.0)
        assert [(kept.speaker, kept.audio) for kept in store.kept_recordings(OTHER, NOW)] == [("alice", b"sound")]
        with pytest.raises(GalleryError, match="there is no gallery yet"):
            import_gallery(gallery, tmp_path / "nothing.sqlite")
