"""Read large score files on all cores.

A file is read in bulk if single delimiters separate its fields; the result equals that of reading line by line. Other
files raise `Irregular` and are left to `score_lines`.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.files.bulk import Irregular, chunks_of_lines, parse_chunk
from xvectors.files.tables import restored
from xvectors.trials.list_files import LABELS
from xvectors.trials.score_lines import Form, ScoreColumns

CHUNK_BYTES = 1 << 24
MAX_THREADS = 8
ROWS_AT_A_TIME = 1 << 20


def read_bulk(path: Path, form: Form) -> ScoreColumns:
    """Read a file in chunks, one per thread.

    It takes 17 bytes of memory per trial, the names, and about 200 MB for the chunks.

    Raises
    ------
    Irregular
        A file that is not plain. Reading it line by line shows whether it is wrong.
    """
    if form.width < 3 or (not form.is_table and form.width > 4):
        raise Irregular(f"its first line has {form.width} fields")
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    store = _Store(path.stat().st_size, form)
    waiting: deque[Future[_Part]] = deque()
    with open(path, "rb") as file, ThreadPoolExecutor(threads) as pool:
        for text in chunks_of_lines(file, form.header_line, CHUNK_BYTES):
            waiting.append(pool.submit(_parsed, text, form))
            if len(waiting) > threads:
                store.add(waiting.popleft().result())
        while waiting:
            store.add(waiting.popleft().result())
    return store.columns()


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The columns of a chunk, with names as indices into pyarrow arrays of distinct names."""

    num_bytes: int
    names: tuple[Any, Any]
    sides: tuple[NDArray[np.int32], NDArray[np.int32]]
    scores: NDArray[np.float64]
    target: NDArray[np.bool_] | None


class _Store:
    """Columns that grow part by part. The first part reserves room for the whole file, which is used as it fills."""

    def __init__(self, file_bytes: int, form: Form) -> None:
        import pyarrow as pa

        self.file_bytes, self.delimiter, self.is_table = file_bytes, form.delimiter, form.is_table
        self.count = 0
        self.known = pa.array([], pa.string())
        self.types = [np.int32, np.int32, np.float64, *([np.bool_] if "target" in form.places else [])]
        self.arrays: list[NDArray[Any]] = [np.empty(0, dtype=kind) for kind in self.types]

    def add(self, part: _Part) -> None:
        count = self.count + len(part.scores)
        if not self.count:
            room = int(1.02 * count * self.file_bytes / part.num_bytes) + 1
            self.arrays = [np.empty(room, dtype=kind) for kind in self.types]
        elif count > len(self.arrays[0]):
            for array in self.arrays:
                array.resize(int(1.1 * count), refcheck=False)  # in place: no second copy while it grows
        rows = slice(self.count, count)
        for array, names, side in zip(self.arrays[:2], part.names, part.sides, strict=True):
            np.take(self._codes(names), side, out=array[rows], mode="clip")  # mode: the others copy `out` first
        self.arrays[2][rows] = part.scores
        if part.target is not None:
            self.arrays[3][rows] = part.target
        self.count = count

    def columns(self) -> ScoreColumns:
        if not self.count:
            raise Irregular("it holds no scores")
        for array in self.arrays:
            array.resize(self.count, refcheck=False)
        names = self.known.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), dtype=np.int32)
        rank[order] = np.arange(len(names), dtype=np.int32)
        for side in self.arrays[:2]:
            for start in range(0, self.count, ROWS_AT_A_TIME):
                rows = slice(start, start + ROWS_AT_A_TIME)
                side[rows] = rank[side[rows]]
        return ScoreColumns(
            names=tuple(names[at] for at in order),
            enroll=self.arrays[0],
            test=self.arrays[1],
            scores=self.arrays[2],
            target=self.arrays[3] if len(self.arrays) > 3 else None,
        )

    def _codes(self, names: Any) -> NDArray[np.int32]:
        """Return the number of each name; new names get the next numbers."""
        import pyarrow as pa
        from pyarrow import compute

        codes = compute.index_in(names, value_set=self.known)
        if codes.null_count:
            new = names.filter(codes.is_null())
            self._check(new.to_pylist())
            self.known = pa.concat_arrays([self.known, new])
            codes = compute.index_in(names, value_set=self.known)
        return np.asarray(codes.to_numpy(), dtype=np.int32)

    def _check(self, names: list[str]) -> None:
        for name in names:
            if name.split() != [name] if self.delimiter is None else name.strip() != name:
                raise Irregular(f"there are spaces around or in the name {name!r}")
            if self.is_table and restored(name) != name:
                raise Irregular(f"the name {name!r} has an apostrophe for spreadsheets")


def _parsed(lines: memoryview, form: Form) -> _Part:
    """Read one chunk in one thread."""
    import pyarrow as pa

    text = lines.obj  # the lines, and perhaps the beginning of one more
    assert isinstance(text, bytes)
    if form.is_table and b'"' in text:
        raise Irregular("it has quoted cells")
    if form.width > len(form.places) and not text.isascii():
        raise Irregular("it has columns that are not read and may not be UTF-8")
    kinds = {place: pa.float64() if what == "score" else pa.string() for what, place in form.places.items()}
    columns = parse_chunk(lines, form.delimiter or " ", form.width, kinds)
    if columns is None:
        return _empty(len(lines), "target" in form.places)
    cells = {what: columns[place] for what, place in form.places.items()}
    words = {what: column.dictionary_encode() for what, column in cells.items() if what != "score"}
    scores = cells["score"].to_numpy()
    if not np.isfinite(scores).all():
        raise Irregular("it has scores that are not finite")
    target = None
    if "target" in words:
        known = [LABELS.get(label.strip().lower()) for label in words["target"].dictionary.to_pylist()]
        if None in known:
            raise Irregular("it has labels that are not known")
        target = np.array(known, dtype=bool)[words["target"].indices.to_numpy()]
    return _Part(
        num_bytes=len(lines),
        names=(words["enroll"].dictionary, words["test"].dictionary),
        sides=(words["enroll"].indices.to_numpy(), words["test"].indices.to_numpy()),
        scores=scores,
        target=target,
    )


def _empty(num_bytes: int, labeled: bool) -> _Part:
    import pyarrow as pa

    nothing, none = pa.array([], pa.string()), np.empty(0, dtype=np.int32)
    target = np.empty(0, dtype=bool) if labeled else None
    return _Part(num_bytes=num_bytes, names=(nothing, nothing), sides=(none, none), scores=np.empty(0), target=target)
