"""A column of strings as two numpy arrays, which costs little more than their bytes.

Forked processes share the arrays, while a list of str is copied page by page as reference counts change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.text import composed

ROWS_AT_A_TIME = 65_536
HASHED_AT_A_TIME = 8_192


class PackedStrings:
    """An immutable column of strings: UTF-8 `data` uint8 [bytes] and `offsets` int64 [rows + 1].

    File names that are not UTF-8 keep their bytes (surrogateescape), as `os.fsdecode` gives them.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.data, self.offsets = data, offsets

    @classmethod
    def from_strings(cls, strings: Iterable[str]) -> PackedStrings:
        builder = PackedBuilder()
        builder.extend(list(strings))
        return builder.build()

    @classmethod
    def from_arrow(cls, array: Any) -> PackedStrings:
        """Copy the strings of a pyarrow StringArray."""
        _, ends, data = array.buffers()
        offsets = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
        return cls(np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].copy(), offsets - offsets[0])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index = int(index) % len(self)
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), ROWS_AT_A_TIME):
            ends = self.offsets[first : first + ROWS_AT_A_TIME + 1]
            start = int(ends[0])
            block = self.data[start : ends[-1]].tobytes()
            edges = (ends - start).tolist()
            for begin, end in pairwise(edges):
                yield block[begin:end].decode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return f"PackedStrings({len(self)} rows, {self.data.nbytes} bytes)"

    def take(self, indices: ArrayLike) -> PackedStrings:
        """Return the strings of these rows, in this order."""
        rows = np.asarray(indices, dtype=np.int64)
        lengths = np.diff(self.offsets)[rows]
        starts = self.offsets[:-1][rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        data = np.empty(offsets[-1], dtype=np.uint8)
        for first in range(0, len(rows), ROWS_AT_A_TIME):
            block = slice(first, first + ROWS_AT_A_TIME)
            begin, end = offsets[first], offsets[min(first + ROWS_AT_A_TIME, len(rows))]
            shift = np.repeat(starts[block] - offsets[:-1][block], lengths[block])
            data[begin:end] = self.data[np.arange(begin, end) + shift]
        return PackedStrings(data, offsets)

    def stems(self) -> PackedStrings:
        """Return every path without its suffix, without creating any `str`."""
        lengths, parts = np.empty(len(self), dtype=np.int64), []
        for first in range(0, len(self), ROWS_AT_A_TIME):
            rows = slice(first, min(first + ROWS_AT_A_TIME, len(self)))
            begin, end = self.offsets[rows.start], self.offsets[rows.stop]
            block = self.data[begin:end]
            starts, ends = self.offsets[:-1][rows] - begin, self.offsets[1:][rows] - begin
            slash = _last(block == ord("/"), starts, ends)
            dot = _last(block == ord("."), starts, ends)
            # neither a leading dot of a file name nor a dot in a folder name starts a suffix
            has_suffix = dot > np.maximum(slash + 1, starts)
            lengths[rows] = np.where(has_suffix, dot, ends) - starts
            position = np.arange(len(block)) - np.repeat(starts, ends - starts)
            parts.append(block[position < np.repeat(lengths[rows], ends - starts)])
        offsets = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return PackedStrings(np.concatenate([np.empty(0, np.uint8), *parts]), offsets)

    def is_stripped(self, *, allow_empty: bool) -> bool:
        """Whether all strings clearly have no white space around them: they begin and end with visible ASCII."""
        starts, ends = self.offsets[:-1], self.offsets[1:]
        filled = ends > starts
        if not allow_empty and not filled.all():
            return False
        edges = self.data[starts[filled]], self.data[ends[filled] - 1]
        return all(bool(((edge > ord(" ")) & (edge < 0x7F)).all()) for edge in edges)

    def composed(self) -> PackedStrings:
        """Return the strings in the Unicode form in which names are compared (NFC)."""
        if not (self.data >= 0x80).any():
            return self
        return PackedStrings.from_strings(composed(name) for name in self)

    def duplicates(self) -> list[tuple[int, int]]:
        """Return pairs (first row, later row) of equal strings, ordered by the later row."""
        hashes = self._hashes()
        order = np.argsort(hashes, kind="stable")
        again = np.flatnonzero(np.diff(hashes[order]) == 0)
        suspects = np.unique(np.concatenate([order[again], order[again + 1]]))
        first: dict[str, int] = {}
        pairs = []
        for row in suspects.tolist():
            earlier = first.setdefault(self[row], row)
            if earlier != row:
                pairs.append((earlier, row))
        return pairs

    def _hashes(self) -> NDArray[np.uint64]:
        """Return for each string the sum of its bytes, each multiplied with a number that depends on its place."""
        longest = int(np.diff(self.offsets).max(initial=0))
        factors = np.random.default_rng(0).integers(1 << 63, size=longest, dtype=np.uint64)
        hashes = np.empty(len(self), dtype=np.uint64)
        for first in range(0, len(self), HASHED_AT_A_TIME):
            ends = self.offsets[first : first + HASHED_AT_A_TIME + 1] - self.offsets[first]
            block = self.data[self.offsets[first] : self.offsets[first] + ends[-1]]
            place = np.arange(len(block)) - np.repeat(ends[:-1], np.diff(ends))
            sums = np.zeros(len(block) + 1, dtype=np.uint64)
            np.cumsum(factors[place] * (block + np.uint64(1)), out=sums[1:])  # modulo 2 ** 64
            hashes[first : first + len(ends) - 1] = sums[ends[1:]] - sums[ends[:-1]]
        return hashes


class PackedBuilder:
    """Collect strings block by block."""

    def __init__(self) -> None:
        self._data: list[NDArray[np.uint8]] = []
        self._lengths: list[NDArray[np.int64]] = []

    def extend(self, strings: list[str] | tuple[str, ...]) -> None:
        joined = "".join(strings)
        encoded = joined.encode("utf-8", "surrogateescape")
        self._data.append(np.frombuffer(encoded, dtype=np.uint8))
        lengths: Iterable[int] = map(len, strings)
        if len(encoded) != len(joined):
            lengths = (len(string.encode("utf-8", "surrogateescape")) for string in strings)
        self._lengths.append(np.fromiter(lengths, dtype=np.int64, count=len(strings)))

    def append(self, block: PackedStrings) -> None:
        self._data.append(block.data)
        self._lengths.append(np.diff(block.offsets))

    def build(self) -> PackedStrings:
        """Return the column and empty the builder, so that nothing is held twice."""
        counts = np.concatenate([np.zeros(1, dtype=np.int64), *self._lengths])
        np.cumsum(counts, out=counts)
        data = np.concatenate([np.empty(0, np.uint8), *self._data])
        self._data, self._lengths = [], []
        return PackedStrings(data, counts)


def _last(where: NDArray[np.bool_], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of the last True in each [start, end); -1 if all are False."""
    positions = np.concatenate([np.full(1, -1, dtype=np.int64), np.flatnonzero(where)])
    last = positions[np.searchsorted(positions, ends) - 1]
    return np.where(last >= starts, last, -1)
