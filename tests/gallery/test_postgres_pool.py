"""The connections of a gallery on a server: each thread has its own, few are open, and lost ones are made anew."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from support.gallery_places import NOW, new_place, voiceprint
from support.postgres import Server
from xvectors.errors import UnavailableError
from xvectors.gallery.postgres import pool as pooling
from xvectors.gallery.postgres.pool import Pool
from xvectors.gallery.postgres.store import PostgresStore


class Line:
    """A connection that can be cut."""

    def __init__(self) -> None:
        self.closed = self.is_cut = False

    def execute(self, statement: str) -> None:
        if self.is_cut:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        assert statement == "SELECT 1"

    def close(self) -> None:
        self.closed = True


class Lines:
    """Makes them, unless the server is down."""

    def __init__(self) -> None:
        self.made: list[Line] = []
        self.is_down = False

    def __call__(self) -> Line:
        if self.is_down:
            raise psycopg.OperationalError("connection refused")
        self.made.append(Line())
        return self.made[-1]


def pool_of(lines: Lines, size: int = 2) -> Pool:
    return Pool(lines, location="postgresql://db/voices", size=size)  # type: ignore[arg-type]


def test_a_thread_keeps_its_connection_and_the_next_gets_it_again() -> None:
    lines = Lines()
    pool = pool_of(lines)
    for _ in range(3):
        with pool.borrowed() as first, pool.borrowed(checked=True) as second:
            assert first is second is pool.held
    assert pool.held is None
    assert len(lines.made) == 1


def test_no_more_are_open_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    pool = pool_of(lines)
    both_in, leave = threading.Barrier(3), threading.Event()

    def hold() -> None:
        with pool.borrowed():
            both_in.wait(30)
            assert leave.wait(30)

    with ThreadPoolExecutor(3) as threads:
        held = [threads.submit(hold) for _ in range(2)]
        both_in.wait(30)
        with monkeypatch.context() as hurried:
            hurried.setattr(pooling, "WAIT_S", 0.05)
            with pytest.raises(UnavailableError, match=r"postgresql://db/voices: all connections.*try again later"):
                pool.borrowed().__enter__()
        waiting = threads.submit(lambda: pool.borrowed().__enter__())
        leave.set()
        assert waiting.result(30) in lines.made
        assert [each.result() for each in held] == [None, None]
    assert len(lines.made) == 2


def test_where_one_was_lost_the_idle_ones_are_not_trusted() -> None:
    lines = Lines()
    pool = pool_of(lines)
    with pool.borrowed(), ThreadPoolExecutor(1) as other:
        other.submit(lambda: pool.borrowed().__enter__() and None).result()
    with pool.borrowed() as line:
        line.close()  # what psycopg does where it notices
    for line in lines.made:
        line.is_cut = True
    with pool.borrowed(checked=True) as line:
        assert line is lines.made[-1]
        assert not line.is_cut
    lines.is_down = True
    line.is_cut = True
    for _ in range(5):  # a failure keeps no place
        with pytest.raises(psycopg.OperationalError, match="refused"), pool.borrowed(checked=True):
            pass
    lines.is_down = False
    with pool.borrowed() as again:
        pool.discard()
        assert not again.closed, "in use"
    assert again.closed


def test_threads_do_not_wait_for_each_other(server: Server) -> None:
    location = new_place(server).location
    with PostgresStore(location, create=True) as store, ThreadPoolExecutor(8) as threads:
        store.add("alice", [voiceprint(1)])
        with store.change() as change:
            change.connection.execute("UPDATE speakers SET name = 'alicia'")
            assert [each.name for each in store.speakers(NOW)] == ["alicia"], "its own change"
            found = threads.submit(store.speakers, NOW).result(30)
            assert [each.name for each in found] == ["alice"], "read meanwhile, from before the change"

        names = [f"speaker {number}" for number in range(24)]
        with PostgresStore(location) as other:
            for number in range(0, len(names), 12):
                if number == 12:  # all of them are lost at once
                    other.select(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                        "WHERE application_name = 'xvectors' AND pid != pg_backend_pid()"
                    )
                added = threads.map(lambda each: store.add(each, [voiceprint(2)]), names[number : number + 12])
                assert list(added) == [0] * 12
        assert [each.name for each in store.speakers(NOW)] == ["alicia", *sorted(names)]
        assert store.state(NOW).revision == 26
        ((open_now,),) = store.select("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xvectors'")
        assert 1 <= open_now <= pooling.MAX_CONNECTIONS


def test_who_re_enrolls_and_loses_the_connection_is_told_so(server: Server) -> None:
    location = new_place(server).location

    def re_enroll(store: PostgresStore, other: PostgresStore) -> None:
        with store.exclusive():
            ((number,),) = store.select("SELECT pg_backend_pid()")
            other.select("SELECT pg_terminate_backend(%s, 5000)", (number,))
            store.add("alice", [voiceprint(1)])

    with PostgresStore(location, create=True) as store, PostgresStore(location) as other:
        with pytest.raises(UnavailableError, match="connection to the server was lost"):
            re_enroll(store, other)
        with other.exclusive():
            assert other.speakers(NOW) == []
        assert store.add("alice", [voiceprint(1)]) == 0
