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

from xvectors.corpus.builder import ManifestBuilder
from xvectors.corpus.columns import (
    FEMALE as FEMALE,
)
from xvectors.corpus.columns import (
    GENDER_NAMES,
    SPLIT_NAMES,
    find_columns,
)
from xvectors.corpus.columns import (
    MALE as MALE,
)
from xvectors.corpus.columns import (
    NO_SPLIT as NO_SPLIT,
)
from xvectors.corpus.columns import (
    TEST as TEST,
)
from xvectors.corpus.columns import (
    TRAIN as TRAIN,
)
from xvectors.corpus.columns import (
    UNKNOWN_GENDER as UNKNOWN_GENDER,
)
from xvectors.corpus.columns import (
    VAL as VAL,
)
from xvectors.corpus.json_lines import open_table
from xvectors.corpus.packed import PackedStrings
from xvectors.errors import ManifestError
from xvectors.files import as_on_disk
from xvectors.files.tables import write_table

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
            find_columns(table.header, source),
            lambda row: f"{source}: line {table.line(row)}",
        )
        for columns in table.columns():
            builder.add(columns)
        if root is None:
            root = table.path.parent
            if COMMON_VOICE.issubset(table.header) and (root / "clips").is_dir():
                root = root / "clips"
        return cls(**builder.build(source, Path(root), table.path))

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, object] | Utterance], root: str | os.PathLike[str] = "."
    ) -> Manifest:
        """Make a manifest from dicts keyed by column name, or from Utterances. Meant for small corpora."""
        dicts = [_as_cells(row) for row in rows]
        header = list(dict.fromkeys(name for row in dicts for name in row))
        builder = ManifestBuilder(header, find_columns(header, "rows"), lambda row: f"row {row}")
        if dicts:
            builder.add([tuple(row.get(name, "") for row in dicts) for name in header])
        return cls(**builder.build("rows", Path(root), None))

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
            name: np.asarray(v, dtype=getattr(self, name).dtype) for name, v in given.items() if v is not None
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


COMMON_VOICE = frozenset({"client_id", "path"})
"""Columns that identify a table of Common Voice."""


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


def _strings(column: PackedStrings, rows: slice) -> Iterator[str]:
    return iter(PackedStrings(column.data, column.offsets[rows.start : rows.stop + 1]))


def _name(names: tuple[str, ...], index: int) -> str:
    return names[index] if index >= 0 else ""


def _number(value: np.floating) -> str:
    """Return the shortest text that reads back as the same number; empty for NaN."""
    return "" if np.isnan(value) else str(value).removesuffix(".0")
