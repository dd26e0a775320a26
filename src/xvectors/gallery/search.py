"""Find the nearest of many enrolled speakers, exactly, in memory.

Each speaker has a row whose dot product with the row of a recording is the speaker's score. `Search` is the protocol
of such searches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.backends.dot_products import Rows
from xvectors.text import short_repr

BLOCK_ROWS = 8192
GROUP_ROWS = 512
MAX_VALUE = 1000.0
"""Rows are scaled so that no value is larger; the largest float16 is 65504."""
MARGIN = 5 * 2.0**-11
"""Bound on the error of a dot product of float16 rows, relative to the lengths of both. Rounding adds at most 2^-11 for
each row and for the result; the rest allows for sums in float32."""


class Search(Protocol):
    """Rows of enrolled speakers, found by the speakers' ids."""

    @property
    def exact(self) -> bool:
        """Whether `candidates` misses none. If not, the search's documentation states how many it finds."""
        ...

    def __len__(self) -> int: ...

    def update(self, ids: NDArray[np.int64], rows: Rows) -> None:
        """Add or replace the rows [m, d] of speakers [m]."""
        ...

    def candidates(self, query: Rows, count: int) -> NDArray[np.int64]:
        """Return the ids of the `count` speakers whose rows have the highest products with `query` [d], in any order.

        None of them is missing where the search is exact, but others may be among them. Where there are fewer
        speakers, all are returned.
        """
        ...


@short_repr("_count")
class ExactSearch:
    """A search that compares all rows. Only one thread may use it at a time.

    Rows are kept in float16 as deviations from the first one, so that their common part costs no precision. A bound on
    the rounding error of a product shows which other rows may be among the best. torch multiplies float16 at about the
    speed of the memory; where it is not installed, numpy is used, which is many times slower.

    Parameters
    ----------
    blocks
        Pairs of ids [m] and float32 rows [m, d]; each id occurs once.
    size
        The expected number of rows; others may be enrolled while they are read.
    """

    exact = True

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
        # the count-th highest of the groups' maxima is at most the count-th highest of all products
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
        """Return the scaled deviations from the first row; scale all rows down where these are far larger."""
        deviations = rows - self._origin
        largest = float(np.abs(deviations).max())
        if largest * self._scale > MAX_VALUE or (self._scale == 0.0 and largest > 0.0):
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
            pass
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
