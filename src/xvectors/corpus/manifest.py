"""The manifest: a table of recordings with speakers and metadata, as numpy columns that loader processes share."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.corpus import columns as cells
from xvectors.corpus.columns import FEMALE as FEMALE
from xvectors.corpus.columns import GENDER_NAMES, SPLIT_NAMES, BadCell, Codes, Columns, Parsed
from xvectors.corpus.columns import MALE as MALE
from xvectors.corpus.columns import NO_SPLIT as NO_SPLIT
from xvectors.corpus.columns import TEST as TEST
from xvectors.corpus.columns import TRAIN as TRAIN
from xvectors.corpus.columns import UNKNOWN_GENDER as UNKNOWN_GENDER
from xvectors.corpus.columns import VAL as VAL
from xvectors.corpus.json_lines import open_table
from xvectors.corpus.packed import PackedBuilder, PackedStrings
from xvectors.corpus.segments import Times, find_segments, warn_of_open_ends
from xvectors.errors import ManifestError
from xvectors.files import as_on_disk
from xvectors.files.tables import write_table
from xvectors.text import agree, count

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One row, with an absolute path. Values for unknown are those of Manifest."""

    id: str
    path: Path
    speaker: str
    gender: int = UNKNOWN_GENDER
    age: float = math.nan
    session: str | None = None
    start_s: float = 0.0
    duration_s: float = math.nan
    split: int = NO_SPLIT


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """A corpus as columns with one entry per row.

    Attributes
    ----------
    path, id : packed strings; paths are relative to `root` or absolute, ids unique
    speaker_index : int32, into `speakers`, a sorted tuple of names
    gender : int8, 0 male, 1 female, -1 unknown
    age : float32 years, NaN unknown
    session_index : int32, into `sessions`, a sorted tuple of names; -1 unknown
    duration_s : float64, NaN unknown
    start_s : float64, start of the utterance in its file
    split : int8, NO_SPLIT, TRAIN, VAL or TEST
    extra : all other columns, packed strings by name
    root : folder that relative paths start from
    source : the table or folder this was read from, beside which the scan is cached; None for rows in memory
    passed_over : number of files of a folder that are not recordings, by suffix
    faults : by row, why start, end and duration are contradictory; the scan leaves such rows out
    states_segments : whether `duration_s` is that of a segment even if all segments start with their file
    """

    path: PackedStrings
    id: PackedStrings
    speaker_index: NDArray[np.int32]
    speakers: tuple[str, ...]
    gender: NDArray[np.int8]
    age: NDArray[np.float32]
    session_index: NDArray[np.int32]
    sessions: tuple[str, ...]
    duration_s: NDArray[np.float64]
    start_s: NDArray[np.float64]
    split: NDArray[np.int8]
    extra: dict[str, PackedStrings] = field(default_factory=dict)
    root: Path
    source: Path | None = None
    passed_over: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[int, str] = field(default_factory=dict)
    states_segments: bool = False

    @classmethod
    def read_csv(cls, path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> Manifest:
        """Read a table with a header, or JSON lines. `path` and `speaker` are required; the usual aliases are known.

        Relative paths start from `root`, by default the folder of the table, or `clips` in it for Common Voice. An age,
        gender or duration that cannot be parsed counts as unknown, with a warning; rows with contradictory start, end
        and duration become `faults`. Raises ManifestError, which names the line, for all other errors.
        """
        table = open_table(path)
        source = str(table.path)
        builder = ManifestBuilder(
            table.header,
            cells.find_columns(table.header, source),
            lambda row: f"{source}: line {table.line(row)}",
        )
        for rows in table.blocks():
            builder.add(rows)
        if root is None:
            root = table.path.parent
            if COMMON_VOICE.issubset(table.header) and (root / "clips").is_dir():
                root = root / "clips"
        return builder.build(source, Path(root), table.path)

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, object] | Utterance], root: str | os.PathLike[str] = "."
    ) -> Manifest:
        """Make a manifest from dicts keyed by column name, or from Utterances. Meant for small corpora."""
        dicts = [_as_cells(row) for row in rows]
        header = list(dict.fromkeys(name for row in dicts for name in row))
        builder = ManifestBuilder(header, cells.find_columns(header, "rows"), lambda row: f"row {row}")
        if dicts:
            builder.add([[row.get(name, "") for name in header] for row in dicts])
        return builder.build("rows", Path(root), None)

    def __len__(self) -> int:
        return len(self.speaker_index)

    def __repr__(self) -> str:
        return f"Manifest({len(self)} utterances, {len(self.speakers)} speakers, root={str(self.root)!r})"

    @property
    def has_segments(self) -> bool:
        """Whether rows are segments of files. Otherwise a duration is only a fact about the file."""
        return self.states_segments or bool(self.start_s.any())

    def full_path(self, index: int) -> Path:
        """Return the absolute path of the recording of row `index`, as spelled on disk."""
        path = self.path[index]
        return self.root / path if path.isascii() else Path(as_on_disk(self.root / path))

    def row(self, index: int) -> Utterance:
        session = int(self.session_index[index])
        return Utterance(
            id=self.id[index],
            path=self.full_path(index),
            speaker=self.speakers[self.speaker_index[index]],
            gender=int(self.gender[index]),
            age=float(self.age[index]),
            session=self.sessions[session] if session >= 0 else None,
            start_s=float(self.start_s[index]),
            duration_s=float(self.duration_s[index]),
            split=int(self.split[index]),
        )

    def take(self, indices: ArrayLike) -> Manifest:
        """Return these rows (numbers or a mask), in this order. Speakers and sessions without rows are dropped."""
        rows = np.asarray(indices)
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        speaker_index, speakers = _compact(self.speaker_index[rows], self.speakers)
        session_index, sessions = _compact(self.session_index[rows], self.sessions)
        return replace(
            self,
            path=self.path.take(rows),
            id=self.id.take(rows),
            speaker_index=speaker_index,
            speakers=speakers,
            gender=self.gender[rows],
            age=self.age[rows],
            session_index=session_index,
            sessions=sessions,
            duration_s=self.duration_s[rows],
            start_s=self.start_s[rows],
            split=self.split[rows],
            extra={name: column.take(rows) for name, column in self.extra.items()},
            faults={n: self.faults[row] for n, row in enumerate(rows.tolist()) if row in self.faults}
            if self.faults
            else {},
        )

    def with_columns(
        self,
        *,
        gender: ArrayLike | None = None,
        age: ArrayLike | None = None,
        duration_s: ArrayLike | None = None,
        start_s: ArrayLike | None = None,
        split: ArrayLike | None = None,
    ) -> Manifest:
        """Return the rows with new values in these columns. Raises ManifestError for a wrong number of values."""
        given = {"gender": gender, "age": age, "duration_s": duration_s, "start_s": start_s, "split": split}
        arrays: dict[str, Any] = {
            name: np.asarray(v, dtype=_DTYPES[name]) for name, v in given.items() if v is not None
        }
        for name, array in arrays.items():
            if array.shape != (len(self),):
                raise ManifestError(f"column {name}: shape {array.shape} does not fit {len(self)} rows")
        return replace(self, **arrays)

    def write_csv(self, path: str | os.PathLike[str], *, relative_to: str | os.PathLike[str] | None = None) -> None:
        """Write a table that `read_csv` reads back with the same rows, values and files.

        Recordings below `relative_to` (default: the folder of the table) get relative paths, others absolute ones.
        Columns without values are left out. Raises StorageError if the file cannot be written.
        """
        base = Path(os.path.abspath(relative_to if relative_to is not None else Path(path).parent))
        written: dict[str, Callable[[slice], Iterable[object]]] = {
            "path": lambda rows: self._paths_from(base, rows),
            "speaker": lambda rows: (self.speakers[s] for s in self.speaker_index[rows].tolist()),
            "id": lambda rows: _strings(self.id, rows),
        }
        if (self.gender != UNKNOWN_GENDER).any():
            written["gender"] = lambda rows: (_name(GENDER_NAMES, g) for g in self.gender[rows].tolist())
        if not np.isnan(self.age).all():
            written["age"] = lambda rows: map(_number, self.age[rows])
        if self.sessions:
            written["session"] = lambda rows: (_name(self.sessions, s) for s in self.session_index[rows].tolist())
        if self.has_segments:
            # this name says that durations are those of segments
            written["offset" if self.states_segments else "start_s"] = lambda rows: map(_number, self.start_s[rows])
        if not np.isnan(self.duration_s).all():
            written["duration_s"] = lambda rows: map(_number, self.duration_s[rows])
        if (self.split != NO_SPLIT).any():
            written["split"] = lambda rows: (_name(SPLIT_NAMES, s) for s in self.split[rows].tolist())
        for name, column in self.extra.items():
            written[name] = partial(_strings, column)
        try:
            write_table(path, list(written), self._rows(list(written.values())))
        except UnicodeEncodeError as error:
            raise ManifestError(
                f"{path}: a name is not UTF-8, which no table can hold ({error.object!r}); rename the file"
            ) from error

    def _rows(self, written: list[Callable[[slice], Iterable[object]]]) -> Iterator[Iterable[object]]:
        for first in range(0, len(self), 16_384):
            rows = slice(first, min(first + 16_384, len(self)))
            yield from zip(*(column(rows) for column in written), strict=True)

    def _paths_from(self, base: Path, rows: slice) -> Iterator[str]:
        """Return the paths relative to the folder `base`, faster than one relpath per row."""
        if self.root == base:
            yield from _strings(self.path, rows)
            return
        prefix = os.path.relpath(self.root, base)
        prefix = f"{self.root}/" if prefix.split(os.sep)[0] == os.pardir else f"{prefix}/"
        for path in _strings(self.path, rows):
            yield path if os.path.isabs(path) else prefix + path


_DTYPES = {
    "gender": np.int8,
    "age": np.float32,
    "duration_s": np.float64,
    "start_s": np.float64,
    "end_s": np.float64,
    "split": np.int8,
}
_UNKNOWN = {"gender": UNKNOWN_GENDER, "age": math.nan, "duration_s": math.nan, "start_s": 0.0, "end_s": math.nan}
COMMON_VOICE = frozenset({"client_id", "path"})
"""Columns that identify a table of Common Voice."""


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

    def add(self, rows: list[list[str]]) -> None:
        by_column = list(zip(*rows, strict=True))
        known = {name: by_column[number] for name, number in self._columns.known.items()}
        self._paths.extend(self._filled("path", known.pop("path")))
        self._code("speaker", self._filled("speaker", known.pop("speaker")))
        if "id" in known:
            self._ids.extend(self._filled("id", known.pop("id")))
        if "session" in known:
            self._code("session", list(map(str.strip, known.pop("session"))))
        if self._columns.split_is_published_set:
            self._code("set", list(map(str.strip, known.pop("split"))))
        for name, column in known.items():
            self._store(name, self._parse(name, column))
        for name, number in self._columns.extra.items():
            self._extra[name].extend(list(map(str.strip, by_column[number])))
        self._count += len(rows)

    def build(self, source: str, root: Path, file: Path | None, *, ends_are_known: bool = False) -> Manifest:
        """Return the manifest. `ends_are_known`: segments without a duration end with their file."""
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
        return Manifest(
            path=paths,
            id=ids,
            speaker_index=speaker_index,
            speakers=speakers,
            gender=self._column("gender", UNKNOWN_GENDER),
            age=self._column("age", math.nan),
            session_index=session_index,
            sessions=sessions,
            duration_s=duration_s,
            start_s=start_s,
            split=split,
            extra=extra,
            root=root,
            source=file,
            faults=faults,
            states_segments=states_segments,
        )

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

    def _filled(self, name: str, column: tuple[str, ...]) -> list[str]:
        stripped = list(map(str.strip, column))
        if "" in stripped:
            raise ManifestError(f"{self._place(self._count + stripped.index(''))}: {name} is empty; fill it in")
        return stripped

    def _code(self, name: str, column: list[str]) -> None:
        self._store(name, self._names[name].encode(column))

    def _parse(self, name: str, column: tuple[str, ...]) -> NDArray[Any]:
        parsed = self._parsers[name]
        try:
            return np.fromiter(map(parsed.__getitem__, column), dtype=_DTYPES[name], count=len(column))
        except BadCell:
            return np.array([self._understood(name, row, cell) for row, cell in enumerate(column)], _DTYPES[name])

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


def _as_cells(row: Mapping[str, object] | Utterance) -> dict[str, str]:
    if isinstance(row, Utterance):
        values: Mapping[str, object] = asdict(row) | {"split": _name(SPLIT_NAMES, row.split)}
    else:
        values = row
    return {str(name): "" if value is None else str(value) for name, value in values.items()}


def _compact(index: NDArray[np.int32], names: tuple[str, ...]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    used = np.zeros(len(names) + 1, dtype=np.bool_)
    used[index] = True  # -1 (no name) marks the last entry
    position = np.cumsum(used[:-1], dtype=np.int32) - 1
    return (
        np.append(position, np.int32(-1))[index].astype(np.int32),
        tuple(name for name, keep in zip(names, used[:-1].tolist(), strict=True) if keep),
    )


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


def _strings(column: PackedStrings, rows: slice) -> Iterator[str]:
    return iter(PackedStrings(column.data, column.offsets[rows.start : rows.stop + 1]))


def _name(names: tuple[str, ...], index: int) -> str:
    return names[index] if index >= 0 else ""


def _number(value: np.floating) -> str:
    """Return the shortest text that reads back as the same number; empty for NaN."""
    return "" if np.isnan(value) else str(value).removesuffix(".0")
