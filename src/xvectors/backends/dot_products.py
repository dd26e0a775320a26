"""Compute scores as dot products of rows, in blocks. Every back-end brings its scores to this form."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.errors import ShapeError
from xvectors.trials.pairs import count_pairs, speaker_numbers

PRODUCT_VALUES = 4_000_000  # scores of one matrix product: 16 MB
GATHER_VALUES = 65_536  # values gathered at once for a sparse list of pairs, which fit into the cache of a core
TILE_VALUES = 2_000_000  # right rows of a sparse list in the shared cache: 8 MB
DENSE_SHARE = 1 / 32  # share of listed pairs from which computing all pairs is faster
MAX_THREADS = 8  # for a sparse list, where memory bandwidth is the limit

Rows = NDArray[np.float32]


def pair_products(left: Rows, right: Rows, left_index: ArrayLike, right_index: ArrayLike) -> NDArray[np.float32]:
    """Return the dot products of listed pairs of rows.

    Parameters
    ----------
    left, right
        [k, d] and [t, d].
    left_index, right_index
        [m] row numbers.

    Returns
    -------
    [m] in the order of the list.

    Raises
    ------
    ShapeError
        For lists of unequal length, and row numbers out of range.
    """
    i, j = row_numbers(left_index, len(left)), row_numbers(right_index, len(right))
    if len(i) != len(j):
        raise ShapeError(f"{len(i)} rows on one side of the trials, {len(j)} on the other: give one pair a trial")
    same = left is right
    i, left = _used_rows(i, left)
    j, right = (j, right) if same and left is right else _used_rows(j, right)
    if len(i) >= DENSE_SHARE * len(left) * len(right):
        return _dense(left, right, i, j)
    return _sparse(left, right, i, j)


def row_products(left: Rows, right: Rows) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield blocks (first row, products [rows, t]) of left [k, d] with all rows of right [t, d]."""
    rows = max(1, PRODUCT_VALUES // max(1, len(right)))
    for start in range(0, len(left), rows):
        yield start, left[start : start + rows] @ right.T


def all_pairs_products(
    left: Rows, right: Rows, speaker_index: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the dot products of left row i and right row j for all i < j, split into target and non-target pairs.

    Parameters
    ----------
    left, right
        [n, d]: the same recordings on the enrollment and the test side.
    speaker_index
        [n]: the speaker of each row, as numbers or names.

    Returns
    -------
    (target, non-target), each in row-major order; 4 bytes per pair.

    Raises
    ------
    ManifestError
        For fewer than two rows, no target pair or no non-target pair.
    ShapeError
        Unless there is one speaker per row.
    """
    speakers = speaker_numbers(speaker_index)
    n = len(left)
    if len(speakers) != n:
        raise ShapeError(f"{n} embeddings, but {len(speakers)} speakers: give one speaker a row")
    num_target, num_nontarget = count_pairs(speakers)
    target_scores = np.empty(num_target, dtype=np.float32)
    nontarget_scores = np.empty(num_nontarget, dtype=np.float32)
    targets = nontargets = 0
    rows = max(1, PRODUCT_VALUES // n)
    columns = np.arange(n)
    for start in range(0, n, rows):
        end = min(start + rows, n)
        products = left[start:end] @ right[start:].T
        later = columns[start:] > columns[start:end, None]
        same = speakers[start:] == speakers[start:end, None]
        found = products[later & same]
        target_scores[targets : targets + len(found)] = found
        targets += len(found)
        found = products[later & ~same]
        nontarget_scores[nontargets : nontargets + len(found)] = found
        nontargets += len(found)
    return target_scores, nontarget_scores


def row_numbers(index: ArrayLike, num_rows: int) -> NDArray[np.int64]:
    """Check a list of row numbers [m] against the number of rows."""
    numbers: NDArray[Any] = np.asarray(index)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise ShapeError(f"trials' rows are {numbers.dtype} {list(numbers.shape)}: give one whole number a trial")
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < num_rows):
        trial = int(np.flatnonzero((numbers < 0) | (numbers >= num_rows))[0])
        raise ShapeError(f"trial {trial} names row {numbers[trial]}, but embeddings have rows 0 to {num_rows - 1}")
    return numbers.astype(np.int64, copy=False)


def _used_rows(index: NDArray[np.int64], rows: Rows) -> tuple[NDArray[np.int64], Rows]:
    """Return the listed rows, and the list renumbered for them."""
    used = np.zeros(len(rows), dtype=bool)
    used[index] = True
    if used.all():
        return index, rows
    return (np.cumsum(used) - 1)[index], rows[used]


def _dense(left: Rows, right: Rows, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float32]:
    """Compute all products block by block, and keep the listed ones."""
    scores = np.empty(len(i), dtype=np.float32)
    rows = max(1, PRODUCT_VALUES // max(1, len(right)), _least_block(left))
    order, blocks = _block_order(i, rows)
    i, j = i[order], j[order]
    bounds = np.searchsorted(blocks, np.arange(-(-len(left) // rows) + 1))
    for block, (first, last) in enumerate(itertools.pairwise(bounds)):
        start = block * rows
        products = left[start : start + rows] @ right.T
        scores[order[first:last]] = products[i[first:last] - start, j[first:last]]
    return scores


def _sparse(left: Rows, right: Rows, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float32]:
    """Only the listed products, a part a thread: some right rows after the other, and within these by left rows, so
    that both wait in a cache. Fetched from memory at random, rows would take longer than their products."""
    scores = np.empty(len(i), dtype=np.float32)
    order = _tile_order(left, right, i, j)
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda part: _gathered(left, right, i[part], j[part]), np.array_split(order, threads))
        scores[order] = np.concatenate(list(parts))
    return scores


def _gathered(left: Rows, right: Rows, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float32]:
    scores = np.empty(len(i), dtype=np.float32)
    block = max(1, GATHER_VALUES // left.shape[1])
    lefts, rights = np.empty((2, block, left.shape[1]), dtype=np.float32)
    for start in range(0, len(i), block):
        some = min(block, len(i) - start)
        part = slice(start, start + some)
        np.take(left, i[part], axis=0, out=lefts[:some], mode="clip")  # mode: the others copy `out` first
        np.take(right, j[part], axis=0, out=rights[:some], mode="clip")
        np.vecdot(lefts[:some], rights[:some], out=scores[part])
    return scores


def _least_block(rows: Rows) -> int:
    """Return the least block size with block numbers of 16 bits, which numpy sorts by radix sort."""
    return max(1, -(-len(rows) // 65_536))


def _tile_order(left: Rows, right: Rows, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs in the order of the block of their right row and then of their left row."""
    columns = max(1, TILE_VALUES // right.shape[1], _least_block(right))
    across = -(-len(right) // columns)
    rows = max(1, -(-len(left) // (65_536 // across)))
    down = -(-len(left) // rows)
    return np.argsort((j // columns * down + i // rows).astype(np.uint16), kind="stable")


def _block_order(i: NDArray[np.int64], rows: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return the pairs in the order of the block of their left row, and their block numbers."""
    blocks = (i // rows).astype(np.uint16)
    order: NDArray[np.int64] = np.argsort(blocks, kind="stable")
    return order, blocks[order]
