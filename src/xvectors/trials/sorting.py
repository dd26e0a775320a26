"""Sort and count large arrays of scores in place, or in blocks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # entries handled at once: some tens of megabytes of temporary arrays
MAX_THREADS = 8


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of `BLOCK` entries that cover `count` entries."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def sort_in_place(values: NDArray[np.floating[Any]]) -> None:
    """Sort in place, on several cores for large arrays."""
    threads = min(os.cpu_count() or 1, MAX_THREADS, 1 + len(values) // BLOCK)
    edges = [len(values) * thread // threads for thread in range(threads + 1)]
    if threads == 1:
        values.sort()
        return
    values.partition(edges[1:-1])
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: values[part].sort(), itertools.starmap(slice, itertools.pairwise(edges))))


def part_distinct(values: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """Move the distinct values of a sorted array to its front.

    Returns how many values are below each, int32 or int64.
    """
    below = np.empty(len(values), dtype=np.int32 if len(values) < 2**31 else np.int64)
    found, last = 0, np.nan
    for part in blocks(len(values)):
        some = values[part].copy()
        at = np.flatnonzero(np.append(some[0] != last, some[1:] != some[:-1]))
        values[found : found + len(at)] = some[at]
        below[found : found + len(at)] = part.start + at
        found, last = found + len(at), some[-1]
    return below[:found]
