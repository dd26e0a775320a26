"""Who of many is nearest. In: a row for each enrolled speaker, whose dot product with the row of a recording is the
speaker's score. Out: those that may be among the best. Exact, in memory, float16.

`Search` is what `Gallery` needs; a database server with an index of vectors can be one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.scoring.products import Rows

BLOCK_ROWS = 8192
GROUP_ROWS = 512
LARGEST = 1000.0
"""Rows are scaled so that no value is larger; float16 ends at 65504."""
MARGIN = 5 * 2.0**-11
"""Bound on the error of a product of float16 rows by the lengths of both: both rows and the result are rounded, each
relatively by 2^-11 at most; the rest is for sums in float32."""


class Search(Protocol):
    """Rows of enrolled speakers, by the speakers' ids."""

    def __len__(self) -> int: ...

    def candidates(self, query: Rows, count: int) -> NDArray[np.int64]:
        """Ids of the `count` speakers, or all, whose rows have the highest products with `query` [d], in no order.

        None of them is missing; others may be among them.
        """
        ...


class ExactSearch:
    """Every row is compared.

    Rows are kept in float16, as deviations from the first one, so that what they have in common costs no precision.
    A bound on what rounding does to a product tells which others may belong to the best. torch multiplies float16
    about as fast as the memory gives it; where it is not installed numpy does, many times as slowly.

    Args:
        blocks: (ids [m], rows float32 [m, d]), any number of times.
        size: how many rows to expect; others may be enrolled while they are read.
    """

    def __init__(self, blocks: Iterable[tuple[NDArray[np.int64], Rows]], size: int) -> None:
        self._ids = np.empty(size, dtype=np.int64)
        self._rows = np.empty((0, 0), dtype=np.float16)
        self._varies = np.empty(0, dtype=np.bool_)
        self._longest = 0.0
        origin: Rows = np.empty(0, dtype=np.float32)
        scale, count = 0.0, 0
        for ids, rows in blocks:
            if not len(ids):
                continue
            if not count:
                origin = rows[0].copy()
                self._rows = np.empty((size, rows.shape[1]), dtype=np.float16)
                self._varies = np.zeros(rows.shape[1], dtype=np.bool_)
            deviations = rows - origin
            largest = float(np.abs(deviations).max())
            if largest * scale > LARGEST or (scale == 0.0 and largest > 0.0):
                if scale:
                    self._rows[:count] *= np.float16(1.0 / (largest * scale))
                    self._longest /= largest * scale
                scale = 1.0 / largest
            deviations *= scale
            end = count + len(ids)
            if end > len(self._ids):
                room = end + end // 8 - len(self._ids)
                self._ids = np.concatenate([self._ids, np.empty(room, dtype=np.int64)])
                self._rows = np.concatenate([self._rows, np.empty((room, rows.shape[1]), dtype=np.float16)])
            self._ids[count:end], self._rows[count:end] = ids, deviations
            self._varies |= deviations.any(axis=0)
            self._longest = max(self._longest, float(np.linalg.norm(deviations, axis=1).max()))
            count = end
        self._ids, self._rows = self._ids[:count], self._rows[:count]

    def __len__(self) -> int:
        return len(self._ids)

    def candidates(self, query: Rows, count: int) -> NDArray[np.int64]:
        if count >= len(self):
            return self._ids
        direction = np.where(self._varies, query, 0.0)
        length = float(np.linalg.norm(direction))
        if length == 0.0:
            return self._ids
        products = self._products((direction / length).astype(np.float32))
        # The count-th highest of the groups' maxima is no higher than the count-th highest of all.
        maxima = np.maximum.reduceat(products, np.arange(0, len(products), GROUP_ROWS))
        floor = _nth_highest(maxima, count) if len(maxima) >= count else float(products.min())
        slack = 2 * MARGIN * self._longest
        near = np.flatnonzero(products >= floor - slack)
        best = _nth_highest(products[near], count)
        found: NDArray[np.int64] = self._ids[near[products[near] >= best - slack]]
        return found

    def _products(self, direction: Rows) -> NDArray[np.float32]:
        if find_spec("torch") is not None:
            import torch

            with torch.inference_mode():
                half = torch.from_numpy(self._rows) @ torch.from_numpy(direction).half()
                products: NDArray[np.float32] = half.float().numpy()
                return products
        products = np.empty(len(self), dtype=np.float32)
        for start in range(0, len(self), BLOCK_ROWS):
            block = self._rows[start : start + BLOCK_ROWS]
            products[start : start + len(block)] = block.astype(np.float32) @ direction
        return products


def _nth_highest(values: NDArray[np.float32], count: int) -> float:
    return float(np.partition(values, len(values) - count)[len(values) - count])
