"""Who of a million is it: the search in memory, beside float32 with numpy, and `Gallery.identify` on a gallery file.

    python benchmarks/gallery.py [--speakers 1000000] [--dim 256] [--threads 2] [--rounds 15] [--json FILE]

The bar: the ten best of 1 million x 256 in under 50 ms on two cores. Random embeddings of length 1, one voiceprint a
speaker, queries that no two rounds share. Takes about 3 GB of memory and 1.3 GB of disk. Both ways must find the same.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from xvectors.gallery import ExactSearch, Gallery, SqliteStore
from xvectors.gallery.shortlist import SHORTLIST_SIZE
from xvectors.verification import cosine_verifier

SYSTEM = "0" * 64
BLOCK = 8192
BAR_MS = 50.0
Rows = NDArray[np.float32]


def rows(count: int, dim: int, seed: int) -> Iterator[tuple[NDArray[np.int64], Rows]]:
    rng = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        block = rng.standard_normal((min(BLOCK, count - start), dim), dtype=np.float32)
        yield np.arange(start, start + len(block)) + 1, block / np.linalg.norm(block, axis=1, keepdims=True)


def write_gallery(path: Path, count: int, dim: int) -> None:
    """What enrolling all of them would write, in one transaction."""
    SqliteStore(path, create=True).close()
    with closing(sqlite3.connect(path)) as connection:
        for ids, block in rows(count, dim, seed=0):
            numbers = ids.tolist()
            connection.executemany("INSERT INTO speakers VALUES (?, ?, 0)", [(n, f"speaker {n}") for n in numbers])
            connection.executemany(
                "INSERT INTO voiceprints VALUES (?, ?, ?, ?, 3.0, '2030-01-01T00:00:00Z', NULL, NULL)",
                [(n, n, SYSTEM, row.tobytes()) for n, row in zip(numbers, block, strict=True)],
            )
        connection.commit()


def milliseconds(run: Callable[[Rows], object], queries: Rows) -> list[float]:
    """Of each query, after two that are not counted."""
    taken = []
    for query in queries:
        start = time.perf_counter()
        run(query)
        taken.append(1000 * (time.perf_counter() - start))
    return taken[2:]


def ten_best(everybody: Rows, query: Rows) -> NDArray[np.int64]:
    """Row numbers, the best first."""
    products = everybody @ query
    some = np.argpartition(products, -10)[-10:]
    return some[np.argsort(-products[some])]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--speakers", type=int, default=1_000_000)
    options.add_argument("--dim", type=int, default=256)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=15, help="measured queries (default: %(default)s)")
    options.add_argument("--search-only", action="store_true", help="without the gallery file")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    count, dim = arguments.speakers, arguments.dim
    queries = np.random.default_rng(1).standard_normal((arguments.rounds + 2, dim), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with threadpool_limits(arguments.threads):
        table: list[dict[str, object]] = []

        def report(name: str, taken: list[float]) -> None:
            median, worst = statistics.median(taken), max(taken)
            table.append({"case": name, "median_ms": median, "worst_ms": worst, "bar_ms": BAR_MS})
            print(f"{name:<44} median {median:>8.1f} ms  worst {worst:>8.1f} ms  (bar {BAR_MS:g} ms)", flush=True)

        start = time.perf_counter()
        search = ExactSearch(rows(count, dim, seed=0), count)
        print(f"{count} x {dim} in memory after {time.perf_counter() - start:.1f} s, their making included")
        for best_of in (10, SHORTLIST_SIZE):
            ask = partial(search.candidates, count=best_of)
            report(f"search, float16, candidates for the best {best_of}", milliseconds(ask, queries))
        found = [search.candidates(query, 10) for query in queries]
        del search, ask

        everybody = np.concatenate([block for _, block in rows(count, dim, seed=0)])
        report("numpy, float32, product and partition", milliseconds(partial(ten_best, everybody), queries))
        best = [ten_best(everybody, query) + 1 for query in queries]
        del everybody
        missed = sum(len(np.setdiff1d(own, some)) for own, some in zip(best, found, strict=True))
        print(f"of the {10 * len(queries)} best by float32, {missed} are not among the candidates")
        if missed:
            raise SystemExit("the search is not exact")
        if not arguments.search_only:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "gallery.sqlite"
                write_gallery(path, count, dim)
                print(f"gallery file of {path.stat().st_size / 1e9:.2f} GB")
                with Gallery(SqliteStore(path), system=SYSTEM, verifier=cosine_verifier()) as gallery:
                    start = time.perf_counter()
                    gallery.identify(queries[0], 3.0)
                    print(f"first query, which reads it: {time.perf_counter() - start:.1f} s")
                    report(
                        "Gallery.identify, top 10", milliseconds(lambda q: gallery.identify(q, 3.0, top=10), queries)
                    )
                    names = [[match.speaker for match in gallery.identify(q, 3.0, top=10).matches] for q in queries]
                expected = [[f"speaker {n}" for n in own] for own in best]
                print(f"the same ten as float32 in {sum(map(list.__eq__, names, expected))} of {len(queries)} queries")
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"peak memory {peak_gb:.2f} GB, numpy's float32 copy included")
    if arguments.json:
        about = {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "sqlite": sqlite3.sqlite_version,
            "threads": arguments.threads,
            "machine": platform.machine(),
            "speakers": count,
            "dim": dim,
        }
        arguments.json.write_text(json.dumps({"about": about, "rows": table}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
