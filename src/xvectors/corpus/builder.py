"""Turn the cells of a table into the columns of a manifest, and say which cells cannot be parsed."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus import columns as cells
from xvectors.corpus.columns import NO_SPLIT, UNKNOWN_GENDER, BadCell, Codes, Columns, Parsed
from xvectors.corpus.packed import PackedBuilder, PackedStrings
from xvectors.corpus.segments import Times, find_segments, warn_of_open_ends
from xvectors.errors import ManifestError
from xvectors.files.tables import Column, distinct
from xvectors.text import agree, count

logger = logging.getLogger(__name__)

_DTYPES = {
    "gender": np.int8,
    "age": np.float32,
    "duration_s": np.float64,
    "start_s": np.float64,
    "end_s": np.float64,
    "split": np.int8,
}
_UNKNOWN = {"gender": UNKNOWN_GENDER, "age": math.nan, "duration_s": math.nan, "start_s": 0.0, "end_s": math.nan}


class ManifestBuilder:
    """Turn blocks of cells into columns. `place(row)` names a row in error messages."""

    def __init__(self, header: list[str], columns: Columns, place: Callable[[int], str]) -> None:
        self._columns, self._place, self._count = columns, place, 0
        self._paths, self._ids = PackedBuilder(), PackedBuilder()
        self._extra = {name: PackedBuilder() for name in columns.extra}
        self._set_name = header[columns.known["split"]] if "split" in columns.known else ""
        self._names = {"speaker": Codes(), "session": Codes(), "set": Codes()}
        self._parsers = {
            "gender": Parsed(cells.parse_gender),
            "age": Parsed(cells.parse_age),
            "duration_s": Parsed(cells.parse_duration),
            "start_s": Parsed(cells.parse_start),
            "end_s": Parsed(cells.parse_end),
            "split": Parsed(cells.parse_split),
        }
        self._arrays: dict[str, list[NDArray[Any]]] = {}
        self._odd = {name: _OddCells() for name in _UNKNOWN}
        self._own_names = {meaning: header[number] for meaning, number in columns.known.items()}

    def add(self, columns: Sequence[Column]) -> None:
        """Add a block of rows: for each column of the header its cells, as str or as a pyarrow array."""
        known = {name: columns[number] for name, number in self._columns.known.items()}
        num_rows = len(known["path"])
        self._pack("path", self._paths, known.pop("path"))
        self._code("speaker", known.pop("speaker"))
        if "id" in known:
            self._pack("id", self._ids, known.pop("id"))
        if "session" in known:
            self._code("session", known.pop("session"))
        if self._columns.split_is_published_set:
            self._code("set", known.pop("split"))
        for name, column in known.items():
            self._store(name, self._parse(name, column))
        for name, number in self._columns.extra.items():
            self._pack(name, self._extra[name], columns[number])
        self._count += num_rows

    def build(self, source: str, root: Path, file: Path | None, *, ends_are_known: bool = False) -> dict[str, Any]:
        """Return the arguments of `Manifest`. `ends_are_known`: segments without a duration end with their file."""
        if not self._count:
            raise ManifestError(f"{source}: lists no recording; a header and one row per utterance are needed")
        paths, extra = self._paths.build(), {name: column.build() for name, column in self._extra.items()}
        root = Path(os.path.abspath(root))
        states_segments = "end_s" in self._own_names or self._own_names.get("start_s", "").lower() == "offset"
        start_s, duration_s, faults = self._segments(source, states_segments, lambda row: root / paths[row])
        if not ends_are_known:
            warn_of_open_ends(start_s, duration_s, source)
        speakers, speaker_index = self._names["speaker"].ranked(self._codes("speaker"))
        sessions: tuple[str, ...] = ()
        session_index = np.full(self._count, -1, dtype=np.int32)
        if "session" in self._columns.known:
            sessions, session_index = _without_empty(*self._names["session"].ranked(self._codes("session")))
        split = self._column("split", NO_SPLIT)
        if self._columns.split_is_published_set:
            words = list(self._names["set"])
            if cells.is_our_split(words):
                split = np.array([cells.parse_split(word) for word in words], np.int8)[self._codes("set")]
            else:
                extra[self._set_name] = PackedStrings.from_strings(words).take(self._codes("set"))
        if "id" in self._columns.known:
            ids = self._ids.build().composed()
            for earlier, later in ids.duplicates():
                raise ManifestError(
                    f"{self._place(later)}: id {ids[later]!r} is already used ({self._place(earlier)}); "
                    "ids must be unique"
                )
        else:
            ids = _default_ids(paths, start_s, source)
        return {
            "path": paths,
            "id": ids,
            "speaker_index": speaker_index,
            "speakers": speakers,
            "gender": self._column("gender", UNKNOWN_GENDER),
            "age": self._column("age", math.nan),
            "session_index": session_index,
            "sessions": sessions,
            "duration_s": duration_s,
            "start_s": start_s,
            "split": split,
            "extra": extra,
            "root": root,
            "source": file,
            "faults": faults,
            "states_segments": states_segments,
        }

    def _segments(
        self, source: str, states_segments: bool, path_of: Callable[[int], Path]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[int, str]]:
        """Return starts and durations in seconds, and the faults by row. Warns about cells that cannot be parsed."""
        start, duration_s = (self._column(name, _UNKNOWN[name]) for name in ("start_s", "duration_s"))
        end = self._column("end_s", math.nan) if "end_s" in self._own_names else None
        bad = {**self._odd["end_s"].rows, **self._odd["start_s"].rows}
        if states_segments or start.any() or bad:
            bad = {**self._odd["duration_s"].rows, **bad}
            self._odd["duration_s"] = _OddCells()
        times = Times(
            start=start,
            end=end,
            duration_s=duration_s,
            names=self._own_names,
            bad=bad,
            source=source,
        )
        for name in ("gender", "age", "duration_s"):
            if odd := self._odd[name].rows:
                row = min(odd)
                logger.warning(
                    "%s: %s of %r %s as unknown, the first: %s",
                    self._place(row),
                    count(self._odd[name].count, "cell"),
                    self._own_names[name],
                    agree(self._odd[name].count, "is not understood and counts", "are not understood and count"),
                    odd[row],
                )
        return find_segments(times, path_of)

    def _pack(self, name: str, packed: PackedBuilder, column: Column) -> None:
        if not isinstance(column, tuple):
            block = PackedStrings.from_arrow(column)
            if block.is_stripped(allow_empty=packed not in (self._paths, self._ids)):
                packed.append(block)
                return
            column = column.to_pylist()
        stripped = list(map(str.strip, column))
        if packed in (self._paths, self._ids):
            self._require(name, stripped)
        packed.extend(stripped)

    def _require(self, name: str, stripped: list[str]) -> None:
        if "" in stripped:
            raise ManifestError(f"{self._place(self._count + stripped.index(''))}: {name} is empty; fill it in")

    def _code(self, name: str, column: Column) -> None:
        column, rows = distinct(column)
        stripped = list(map(str.strip, column))
        if name == "speaker" and "" in stripped:
            self._require(name, stripped if rows is None else [stripped[at] for at in rows.tolist()])
        codes = self._names[name].encode(stripped)
        self._store(name, codes if rows is None else codes[rows])

    def _parse(self, name: str, column: Column) -> NDArray[Any]:
        if name.endswith("_s") and not isinstance(column, tuple):
            seconds = _seconds(column, _UNKNOWN[name])
            if seconds is not None:
                return seconds
        parsed = self._parsers[name]
        once, rows = distinct(column)
        try:
            values = np.fromiter(map(parsed.__getitem__, once), dtype=_DTYPES[name], count=len(once))
        except BadCell:
            every = column if rows is None else column.to_pylist()
            return np.array([self._understood(name, row, cell) for row, cell in enumerate(every)], _DTYPES[name])
        return values if rows is None else values[rows]

    def _understood(self, name: str, row: int, cell: str) -> float:
        """Parse a cell. In optional columns, a cell that cannot be parsed is unknown."""
        try:
            return self._parsers[name][cell]
        except BadCell as error:
            row += self._count
            if name not in self._odd:
                raise ManifestError(f"{self._place(row)}: {error}") from None
            self._odd[name].add(row, str(error))
            return _UNKNOWN[name]

    def _store(self, name: str, values: NDArray[Any]) -> None:
        self._arrays.setdefault(name, []).append(values)

    def _codes(self, name: str) -> NDArray[np.int32]:
        return np.concatenate(self._arrays.pop(name))

    def _column(self, name: str, unknown: float) -> NDArray[Any]:
        parts = self._arrays.pop(name, None)
        return np.concatenate(parts) if parts else np.full(self._count, unknown, dtype=_DTYPES[name])


@dataclass
class _OddCells:
    """Count the cells that cannot be parsed, and keep the errors of the first rows."""

    count: int = 0
    rows: dict[int, str] = field(default_factory=dict)

    def add(self, row: int, message: str) -> None:
        self.count += 1
        self.rows[row] = message


def _seconds(column: Column, unknown: float) -> NDArray[np.float64] | None:
    """Return the numbers of a pyarrow array, with `unknown` for empty cells; None if they are not all plain numbers."""
    import pyarrow as pa
    from pyarrow import compute

    empty = compute.equal(column, "")
    try:
        numbers = compute.cast(compute.if_else(empty, None, column), pa.float64())
    except pa.ArrowInvalid:
        return None
    seconds: NDArray[np.float64] = numbers.fill_null(0.0).to_numpy()
    if not (np.isfinite(seconds) & (seconds >= 0)).all():
        return None
    return np.where(empty.to_numpy(zero_copy_only=False), unknown, seconds)


def _without_empty(names: tuple[str, ...], index: NDArray[np.int32]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Drop the empty name, which sorts first and becomes -1."""
    return (names[1:], (index - 1).astype(np.int32)) if names and not names[0] else (names, index)


def _default_ids(paths: PackedStrings, start_s: NDArray[np.float64], source: str) -> PackedStrings:
    """Return the paths without suffix. Rows with the same path get `#0`, `#1`, ... by path and start."""
    stems = paths.stems().composed()
    groups: dict[int, list[int]] = {}
    for earlier, later in stems.duplicates():
        groups.setdefault(earlier, [earlier]).append(later)
    if not groups:
        return stems
    named: dict[int, str] = {}
    for rows in groups.values():
        ordered = sorted(rows, key=lambda row: (paths[row], start_s[row]))
        named.update((row, f"{stems[row]}#{number}") for number, row in enumerate(ordered))
    ids = PackedStrings.from_strings(named.get(row, stem) for row, stem in enumerate(stems))
    for earlier, later in ids.duplicates():
        raise ManifestError(
            f"{source}: {paths[earlier]} and {paths[later]} would get the same id; "
            "add a column id that tells them apart"
        )
    return ids
