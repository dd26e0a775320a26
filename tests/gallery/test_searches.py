"""What every search does, in memory and in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from support.gallery_places import NOW, new_place, voiceprint
from support.postgres import Server
from xvectors.gallery import ExactSearch, Search
from xvectors.gallery.postgres import search as in_database
from xvectors.gallery.postgres.search import IndexSearch
from xvectors.gallery.postgres.store import PostgresStore

MakeSearch = Callable[[np.ndarray], Search]


@pytest.fixture(params=["memory", "database"])
def make_search(request: pytest.FixtureRequest) -> MakeSearch:
    """Makes a search among rows [n, d] of the speakers 1 to n."""
    if request.param == "memory":
        return lambda rows: ExactSearch([(np.arange(len(rows)) + 1, rows)], len(rows))
    store: PostgresStore = request.getfixturevalue("store")
    return lambda rows: search_in_database(store, rows)


@pytest.fixture
def store(server: Server) -> Iterator[PostgresStore]:
    with PostgresStore(new_place(server).location, create=True) as opened:
        yield opened


def search_in_database(store: PostgresStore, rows: np.ndarray, room: int = 100) -> IndexSearch:
    """A search among rows, where `room` more speakers may be added."""
    with store.block() as connection:
        connection.execute(
            "INSERT INTO speakers (name, changed) SELECT number::text, 0 FROM generate_series(1, %s) AS number",
            (len(rows) + room,),
        )
    store.add("1", [voiceprint(1)])
    store.select(
        "INSERT INTO search_spaces (system, backend, as_of) SELECT id, 'some', %s FROM systems RETURNING id", (NOW,)
    )
    search = IndexSearch(store, 1)
    search.update(np.arange(len(rows)) + 1, rows)
    return search


def best(rows: np.ndarray, query: np.ndarray, count: int) -> set[int]:
    return set((np.argsort(-(rows.astype(np.float64) @ query))[:count] + 1).tolist())


def unit_rows(count: int, size: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_none_of_the_best_is_missing(make_search: MakeSearch) -> None:
    rows = unit_rows(1500, 32, seed=0)
    search = make_search(rows)
    assert (len(search), search.exact) == (1500, True)
    for query in unit_rows(10, 32, seed=1):
        found = search.candidates(query, 10).tolist()
        assert best(rows, query, 10) <= set(found)
        assert 10 <= len(found) <= 30


def test_rows_are_replaced_and_added(make_search: MakeSearch) -> None:
    rows = unit_rows(600, 16, seed=2)
    search = make_search(rows[:550])
    rows[[3, 400]] = 3 * unit_rows(2, 16, seed=3)
    changed = np.array([3, 400, *range(550, 600)])
    search.update(changed + 1, rows[changed])
    search.update(changed[:0], rows[:0])
    assert len(search) == 600
    for query in unit_rows(10, 16, seed=4):
        assert best(rows, query, 5) <= set(search.candidates(query, 5).tolist())


def test_what_all_rows_share_costs_nothing(make_search: MakeSearch) -> None:
    """As with PLDA, whose rows have a column of ones that meets a large offset."""
    rows = unit_rows(500, 32, seed=5)
    query = unit_rows(1, 32, seed=6)[0]
    shifted, large = np.hstack([rows + 500, np.ones((500, 1), np.float32)]), np.append(query, np.float32(1e5))
    assert best(rows, query, 10) <= set(make_search(shifted).candidates(large, 10).tolist())


def test_fewer_speakers_than_asked_for(make_search: MakeSearch) -> None:
    rows = unit_rows(5, 8, seed=7)
    search = make_search(rows)
    assert sorted(search.candidates(rows[0], 5).tolist()) == [1, 2, 3, 4, 5]
    assert sorted(search.candidates(rows[0], 200).tolist()) == [1, 2, 3, 4, 5]


def test_the_index_finds_nearly_all(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Voices in 24 dimensions; of the ten best, the 200 candidates of the HNSW index hold at least 95 %."""
    monkeypatch.setattr(in_database, "INDEX_FROM", 3000)
    rows = unit_rows(3000, 24, seed=8)
    search = search_in_database(store, rows[:2999])
    search.make_index(24)
    assert search.exact
    search.update(np.array([3000]), rows[2999:])
    search.make_index(24)
    assert not search.exact
    search.make_index(24)  # once is enough
    new = unit_rows(50, 24, seed=9)
    search.update(np.arange(3001, 3051), new)
    search.discard(np.arange(1, 101))
    assert len(search) == 2950
    everybody = np.vstack([rows, new])
    everybody[:100] = -10.0  # which no query is near to
    with store.block() as connection:
        connection.execute("SET LOCAL enable_sort = off")  # among so few rows, sorting them all is faster
        hits = 0
        for query in unit_rows(20, 24, seed=10):
            everybody[:100] = -10 * query
            found = search.candidates(query, 200)
            assert len(found) == len(set(found.tolist())) == 200
            hits += len(best(everybody, query, 10) & set(found.tolist()))
        plan = connection.execute(
            "EXPLAIN SELECT speaker FROM search_rows WHERE space = 1 "
            "ORDER BY (coordinates::vector(25)) <-> %s::vector LIMIT 200",
            (str(np.zeros(25).tolist()),),
        ).fetchall()
    assert any("search_rows_hnsw_1" in line for (line,) in plan), plan
    assert hits >= 190


def test_the_index_ranks_by_products_whatever_the_lengths(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of unequal length, far from the origin, with a column of ones that meets a large offset, as with PLDA."""
    monkeypatch.setattr(in_database, "INDEX_FROM", 2000)
    rng = np.random.default_rng(12)
    rows = unit_rows(2100, 16, seed=13) * rng.uniform(0.5, 2.0, (2100, 1)).astype(np.float32) + 3.0
    rows = np.hstack([rows, np.ones((2100, 1), np.float32)])
    search = search_in_database(store, rows[:2000])
    search.make_index(17)
    search.update(np.arange(2001, 2101), rows[2000:])
    assert (search.exact, len(search)) == (False, 2100)
    hits = 0
    with store.block() as connection:
        connection.execute("SET LOCAL enable_sort = off")
        for query in unit_rows(20, 17, seed=14):
            query[16] = 1e4
            hits += len(best(rows, query, 10) & set(search.candidates(query, 100).tolist()))
    assert hits >= 190


def test_more_dimensions_than_an_index_can_have(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_database, "INDEX_FROM", 10)
    rows = unit_rows(20, 2001, seed=11)
    search = search_in_database(store, rows)
    search.make_index(2001)
    assert search.exact
    assert best(rows, rows[3], 1) <= set(search.candidates(rows[3], 1).tolist())
