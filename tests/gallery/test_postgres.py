"""A gallery on a server: what it refuses, what it keeps apart, and what it survives."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest

from support.commands import run
from support.gallery_places import NOW, SYSTEM, Place, new_place, voiceprint
from support.postgres import PASSWORD, Server, running_server
from xvectors.errors import ConfigError, GalleryError, MissingExtraError, StorageError, XVectorsError
from xvectors.gallery import open_store
from xvectors.gallery.postgres import connection as connecting
from xvectors.gallery.postgres.address import is_server, parse_address
from xvectors.gallery.postgres.migrations import MIGRATIONS
from xvectors.gallery.postgres.store import PostgresStore


@pytest.fixture
def location(server: Server) -> str:
    return new_place(server).location


def refusal(location: str, kind: type[XVectorsError] = GalleryError) -> str:
    """What opening says, with everything that a traceback would show; it never holds a password."""
    with pytest.raises(kind) as raised:
        open_store(location, create=True)
    everything = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    for secret in (PASSWORD, "not%20to%20be", "a wrong one", "a%20wrong"):
        assert secret not in everything
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_a_url_says() -> None:
    found = parse_address("postgresql://ann:s%40cret@db.example:5433/voices?schema=acme&sslmode=require")
    assert (found.location, found.schema) == ("postgresql://ann@db.example:5433/voices?schema=acme", "acme")
    assert "sslmode=require" in found.conninfo
    assert "s@cret" in found.conninfo
    assert "cret" not in repr(found)
    assert parse_address("postgres:///voices?password=secret").location == "postgresql:///voices"
    assert parse_address("postgresql://a:1,b:2/voices").location == "postgresql://a,b:1,2/voices"
    assert [is_server(name) for name in ("team.sqlite", "postgresql", None, "postgres://x")] == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("schema", ["", "pg_catalog", "a b", "Upper", "x;drop", "ä", "1a", "a" * 64])
def test_schemas_that_are_none(schema: str) -> None:
    with pytest.raises(ConfigError, match="write it with a-z, 0-9 and _"):
        parse_address(f"postgresql://localhost/voices?schema={schema}")


def test_urls_that_cannot_be_read(tmp_path: Path) -> None:
    for url in ("postgresql://ann:not%zz@h/db", "postgresql://ann:not%20to%20be@h/db?colour=red"):
        assert "postgresql://USER@HOST:5432/DATABASE?schema=NAME" in refusal(url, ConfigError)
    with pytest.raises(ConfigError, match="give it as text, not as a path"):
        open_store(Path("postgresql://localhost/voices"))


def test_servers_that_cannot_be_used(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = f"postgresql://ann:a%20wrong%20one@127.0.0.1:{free.getsockname()[1]}/voices"
        assert "start the server, or correct host and port" in refusal(down)
    wrong = refusal(server.url_of("postgres", "a wrong one"))
    assert wrong.startswith(f"postgresql://postgres@127.0.0.1:{server.port}/postgres: ")
    assert "correct the user and the password" in wrong
    assert "give it in PGPASSWORD" in refusal(server.url_of("postgres", None))
    assert 'database "nowhere" does not exist; name another' in refusal(server.url_of("postgres", PASSWORD, "nowhere"))


def test_the_command_line_says_it_in_one_line(server: Server, location: str) -> None:
    printed = run("speakers", "--gallery", server.url_of("postgres", "a wrong one"), status=2)
    assert printed.stderr.count("\n") == 1
    assert "correct the user and the password" in printed.stderr
    assert "wrong one" not in printed.stderr + printed.stdout
    with open_store(location, create=True) as store:
        store.add("alice", [voiceprint(1, consent="signed")])
    assert "alice  1 voiceprint, 2.5 s, since 2030-05-01" in run("speakers", "--gallery", location).stdout
    assert run("forget", "alice", "--gallery", location).stdout == "alice is forgotten: 1 voiceprint removed\n"
    assert "nobody is enrolled" in run("speakers", "--gallery", location).stdout


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("psycopg", "xvectors.gallery.postgres."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[postgres\]'"):
        open_store("postgresql://localhost/voices")


def test_a_server_without_pgvector(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(psycopg.Error) as raised, psycopg.connect(parse_address(location).conninfo) as bare:
        bare.execute("CREATE EXTENSION vector_of_nobody")
    error = type(raised.value)(str(raised.value).replace("vector_of_nobody", "vector"))
    monkeypatch.setattr(connecting.ServerGallery, "_migrate", lambda *_: (_ for _ in ()).throw(error))
    assert "the server has no pgvector; install it there" in refusal(location)


def test_a_role_without_rights(server: Server) -> None:
    place = new_place(server)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'")
        try:
            said = refusal(place.location.replace(server.url, server.url_of("weak", "weak")), StorageError)
            assert "Have an administrator run" in said
            assert "AUTHORIZATION" in said
        finally:
            connection.execute("DROP ROLE weak")


def test_tenants_are_kept_apart(server: Server) -> None:
    """A schema for each tenant, owned by the tenant's role, which can use no other."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        for name in ("acme", "bolt"):
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
            connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
    own = {name: f"{server.url_of(name, name)}?schema={name}" for name in ("acme", "bolt")}
    for seed, location in enumerate(own.values()):
        with open_store(location, create=True) as store:
            store.add("ann", [voiceprint(seed)])
    with open_store(own["acme"]) as acme, open_store(own["bolt"]) as bolt:
        assert acme.forget("ann") == 1
        np.testing.assert_array_equal(next(bolt.blocks(SYSTEM, NOW)).embeddings, [voiceprint(1).embedding])
        assert isinstance(acme, PostgresStore)
        for statement in ("SELECT * FROM bolt.voiceprints", "SELECT * FROM bolt.audit", "SET ROLE bolt"):
            with pytest.raises(StorageError, match="permission denied"):
                acme.select(statement)
    said = refusal(own["acme"].replace("schema=acme", "schema=bolt"), StorageError)
    assert "permission denied" in said


def test_the_audit_trail_names_nobody(location: str) -> None:
    with PostgresStore(f"{location}&application_name=front%20desk", create=True) as store:
        store.add("alice", [voiceprint(1, consent="signed"), voiceprint(2)])
        number = store.id_of("alice")
        store.forget("alice", last=True)
        store.add("bob", [voiceprint(3, expires_at=NOW)])
        store.purge(NOW)
        found = store.select("SELECT role, application, action, speaker, voiceprints FROM audit ORDER BY id")
        who = ("postgres", "front desk")
        assert found == [
            (*who, "enroll", number, 2),
            (*who, "forget the last enrollment", number, 2),
            (*who, "enroll", number + 1, 1),
            (*who, "purge", None, 1),
        ]
        # a change that fails leaves no note
        with pytest.raises(GalleryError, match="duration_s"):
            store.add("carol", [voiceprint(4), voiceprint(5, duration_s=-1.0)])
        assert store.speakers(NOW) == []
        assert store.select("SELECT count(*) FROM audit") == [(4,)]


def test_nothing_of_who_is_forgotten_is_left(location: str) -> None:
    with PostgresStore(location, create=True) as store:
        store.add("alice", [voiceprint(1, audio=b"spoken", consent="signed")])
        number = store.id_of("alice")
        store.select("INSERT INTO search_spaces (system, backend, as_of) VALUES (1, 'some', now()) RETURNING id")
        store.select("INSERT INTO search_rows SELECT 1, %s, '[1,2]'::public.vector RETURNING speaker", (number,))
        assert store.select("SELECT num_rows FROM search_spaces") == [(1,)]
        store.forget("alice")
        for table in ("speakers", "voiceprints", "recordings", "search_rows"):
            assert store.select(f"SELECT count(*) FROM {table}") == [(0,)]
        assert store.select("SELECT num_rows FROM search_spaces") == [(0,)]
        dump = str(store.select("SELECT * FROM audit"))
        assert "alice" not in dump


def test_migrations(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(location, create=True) as store:
        store.add("alice", [voiceprint(1)])
    newer = (*MIGRATIONS, ("ALTER TABLE speakers ADD COLUMN note text", "UPDATE speakers SET note = 'moved'"))
    monkeypatch.setattr(connecting, "MIGRATIONS", newer)
    for _ in range(2):
        with PostgresStore(location) as store:
            assert store.select("SELECT name, note FROM speakers") == [("alice", "moved")]
            assert store.select("SELECT version FROM migrations ORDER BY version") == [(1,), (2,)]
    broken = (*newer, ("ALTER TABLE speakers ADD COLUMN more text", "INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr(connecting, "MIGRATIONS", broken)
    with pytest.raises(GalleryError, match='"nowhere" does not exist'):
        open_store(location)
    monkeypatch.setattr(connecting, "MIGRATIONS", newer)
    with PostgresStore(location) as store:
        assert store.select("SELECT * FROM speakers LIMIT 1")[0][1] == "alice"
    monkeypatch.setattr(connecting, "MIGRATIONS", MIGRATIONS)
    with pytest.raises(GalleryError, match=r"newer xvectors made this gallery \(schema 2, newer than 1\); upgrade"):
        open_store(location)


def test_a_schema_of_another_program(server: Server) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA other_program CREATE TABLE speakers (id integer)")
    said = refusal(f"{server.url}?schema=other_program")
    assert "name another schema" in said


def test_another_process_that_changes_it_for_long(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "LOCK_S", 0.1)
    with PostgresStore(location, create=True) as store, PostgresStore(location) as other:
        with other.change():
            with pytest.raises(GalleryError, match=r"another process has locked the gallery.*Try again later"):
                store.add("alice", [voiceprint(1)])
            assert store.speakers(NOW) == []  # readers wait for nobody
        assert store.add("alice", [voiceprint(1)]) == 0


def test_a_connection_that_is_lost(server: Server, location: str) -> None:
    """The next call makes it anew; a change that was cut off is no part of the gallery."""
    with PostgresStore(location, create=True) as store, PostgresStore(location) as other:

        def cut() -> None:
            ((number,),) = store.select("SELECT pg_backend_pid()")
            assert other.select("SELECT pg_terminate_backend(%s, 5000)", (number,)) == [(True,)]

        store.add("alice", [voiceprint(1)])
        cut()
        assert [speaker.name for speaker in store.speakers(NOW)] == ["alice"]
        cut()
        store.add("bob", [voiceprint(2)])

        def change() -> None:
            with store.change():
                cut()
                store.select("SELECT 1")

        with pytest.raises(GalleryError, match=r"connection to the server was lost.*may be missing: look"):
            change()
        assert other.state(NOW).revision == 2
        store.add("carol", [voiceprint(3)])
        assert [speaker.name for speaker in store.speakers(NOW)] == ["alice", "bob", "carol"]


ENROLLER = """
import sys
import numpy as np
from datetime import UTC, datetime
from xvectors.errors import GalleryError
from xvectors.gallery import Voiceprint, open_store
store, number = open_store(sys.argv[1]), 0
print("ready", flush=True)
while True:
    one = Voiceprint(embedding=np.full(8, number + 1, np.float32), duration_s=1.0, system="a" * 64,
                     enrolled_at=datetime.now(UTC))
    try:
        store.add(sys.argv[2], [one])
    except GalleryError as error:
        print("failed", flush=True)
        continue
    print("added", flush=True)
    number += 1
"""


@pytest.mark.slow
def test_a_server_that_is_killed_loses_nothing_that_it_confirmed() -> None:
    """Four processes enroll while the server is killed and started again, with what it confirms on the disk."""
    with running_server() as server:
        place = Place(server.url)
        place.open(create=True).close()
        enrollers = [
            subprocess.Popen([sys.executable, "-c", ENROLLER, server.url, name], stdout=subprocess.PIPE, text=True)
            for name in "abcd"
        ]
        said: dict[str, Counter[str]] = {name: Counter() for name in "abcd"}

        def read(process: subprocess.Popen[str], heard: Counter[str]) -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    heard[line.strip()] += 1

        def everybody_added(more: int) -> None:
            """Wait until each process has enrolled `more` again."""
            before = {name: heard["added"] for name, heard in said.items()}
            deadline = time.monotonic() + 60
            while any(heard["added"] < before[name] + more for name, heard in said.items()):
                assert time.monotonic() < deadline
                time.sleep(0.05)

        with ThreadPoolExecutor(4) as pool:
            for process, heard in zip(enrollers, said.values(), strict=True):
                pool.submit(read, process, heard)
            for _ in range(2):
                everybody_added(5)
                server.stop(kill=True)
                time.sleep(1)
                server.start()
            everybody_added(5)
            for process in enrollers:
                process.kill()
        for process in enrollers:
            process.wait()
        with place.open() as store:
            there = {speaker.name: speaker.num_voiceprints for speaker in store.speakers(NOW)}
        for name, heard in said.items():
            confirmed = heard["added"]
            # those that were cut off between their commit and their answer may be there as well
            assert confirmed <= there[name] <= confirmed + 3
            assert heard["failed"] >= 1
