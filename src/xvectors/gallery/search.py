"""Who of many is nearest. In: a row for each enrolled speaker, whose dot product with the row of a recording is the
speaker's score. Out: those that may be among the best. Exact, in memory, float16.

`Search` is what `Gallery` needs; a database server with an index of vectors can be one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.backends.products import Rows
from xvectors.text import brief

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

    def update(self, ids: NDArray[np.int64], rows: Rows) -> None:
        """Take rows [m, d] for speakers [m], new ones or in the place of those they had."""
        ...

    def candidates(self, query: Rows, count: int) -> NDArray[np.int64]:
        """Ids of the `count` speakers, or all, whose rows have the highest products with `query` [d], in no order.

        None of them is missing; others may be among them.
        """
        ...


@brief("_count")
class ExactSearch:
    """Every row is compared. Not for several threads at once.

    Rows are kept in float16, as deviations from the first one, so that what they have in common costs no precision.
    A bound on what rounding does to a product tells which others may belong to the best. torch multiplies float16
    about as fast as the memory gives it; where it is not installed numpy does, many times as slowly.

    Args:
        blocks: (ids [m], rows float32 [m, d]), any number of times, each id once.
        size: how many rows to expect; others may be enrolled while they are read.
    """

    def __init__(self, blocks: Iterable[tuple[NDArray[np.int64], Rows]], size: int) -> None:
        self._count = 0
        self._ids = np.empty(size, dtype=np.int64)
        self._rows = np.empty((0, 0), dtype=np.float16)
        self._varies = np.empty(0, dtype=np.bool_)
        self._origin: Rows = np.empty(0, dtype=np.float32)
        self._scale = self._longest = 0.0
        for ids, rows in blocks:
            self._append(ids, rows)

    def __len__(self) -> int:
        return self._count

    def update(self, ids: NDArray[np.int64], rows: Rows) -> None:
        new = np.ones(len(ids), dtype=np.bool_)
        for at, number in enumerate(ids.tolist()):
            place = np.flatnonzero(self._ids[: self._count] == number)
            if len(place):
                new[at] = False
                self._rows[place[0]] = self._deviations(rows[at : at + 1])[0]
        self._append(ids[new], rows[new])

    def candidates(self, query: Rows, count: int) -> NDArray[np.int64]:
        ids = self._ids[: self._count]
        if count >= len(self):
            return ids.copy()
        direction = np.where(self._varies, query, 0.0)
        length = float(np.linalg.norm(direction))
        if length == 0.0:
            return ids.copy()
        products = self._products((direction / length).astype(np.float32))
        # The count-th highest of the groups' maxima is no higher than the count-th highest of all.
        maxima = np.maximum.reduceat(products, np.arange(0, len(products), GROUP_ROWS))
        floor = _nth_highest(maxima, count) if len(maxima) >= count else float(products.min())
        slack = 2 * MARGIN * self._longest
        near = np.flatnonzero(products >= floor - slack)
        best = _nth_highest(products[near], count)
        found: NDArray[np.int64] = ids[near[products[near] >= best - slack]]
        return found

    def _append(self, ids: NDArray[np.int64], rows: Rows) -> None:
        if not len(ids):
            return
        if not self._count:
            self._origin = rows[0].copy()
            self._rows = np.empty((len(self._ids), rows.shape[1]), dtype=np.float16)
            self._varies = np.zeros(rows.shape[1], dtype=np.bool_)
        end = self._count + len(ids)
        if end > len(self._ids):
            room = end + end // 8 - len(self._ids)
            self._ids = np.concatenate([self._ids, np.empty(room, dtype=np.int64)])
            self._rows = np.concatenate([self._rows, np.empty((room, rows.shape[1]), dtype=np.float16)])
        self._ids[self._count : end], self._rows[self._count : end] = ids, self._deviations(rows)
        self._count = end

    def _deviations(self, rows: Rows) -> Rows:
        """From the first row, at the scale of those that are here, which shrink where these are far larger."""
        deviations = rows - self._origin
        largest = float(np.abs(deviations).max())
        if largest * self._scale > LARGEST or (self._scale == 0.0 and largest > 0.0):
            if self._scale:
                self._rows[: self._count] *= np.float16(1.0 / (largest * self._scale))
                self._longest /= largest * self._scale
            self._scale = 1.0 / largest
        deviations *= self._scale
        self._varies |= deviations.any(axis=0)
        self._longest = max(self._longest, float(np.linalg.norm(deviations, axis=1).max()))
        return deviations

    def _products(self, direction: Rows) -> NDArray[np.float32]:
        try:
            import torch
        except ModuleNotFoundError:
            pass  # in blocks of float32, which is slower
        else:
            from xvectors.devices import survive_forks

            survive_forks()
            with torch.inference_mode():
                half = torch.from_numpy(self._rows[: self._count]) @ torch.from_numpy(direction).half()
                products: NDArray[np.float32] = half.float().numpy()
                return products
        products = np.empty(len(self), dtype=np.float32)
        for start in range(0, len(self), BLOCK_ROWS):
            block = self._rows[start : min(start + BLOCK_ROWS, self._count)]
            products[start : start + len(block)] = block.astype(np.float32) @ direction
        return products


def _nth_highest(values: NDArray[np.float32], count: int) -> float:
    return float(np.partition(values, len(values) - count)[len(values) - count])
