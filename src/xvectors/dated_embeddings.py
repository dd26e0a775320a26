"""Embeddings with the dates of their recordings, from the file itself or from a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import find_columns
from xvectors.corpus.json_lines import open_table
from xvectors.corpus.readers import MANIFEST_NAMES
from xvectors.embeddings import load_embeddings
from xvectors.errors import CheckpointError, ManifestError
from xvectors.text import count, first_few
from xvectors.trials import RecordingRows
from xvectors.verification.drift import Incoming

DATE_COLUMN = "date"


def read_incoming(
    embeddings: str | Path, *, data: str | Path | None = None, date_column: str | None = None
) -> Incoming:
    """Read conditions, seconds of speech and dates of embedded recordings.

    Parameters
    ----------
    embeddings
        A file of `load_embeddings` with a column `condition`.
    data
        A table, or a folder with a manifest, which has the dates: columns id or path, and that of dates.
    date_column
        Name of the column of dates (ISO 8601). By default "date", and without one in the file, there are no dates.

    Raises
    ------
    CheckpointError
        A file that cannot be read, is empty, lacks conditions, or lacks the column of dates that was named.
    ManifestError
        A table that cannot be read or does not name every embedding; a cell that is not a date; its row is named.
    """
    source, name = Path(embeddings), date_column or DATE_COLUMN
    arrays = load_embeddings(source, optional=["id", "speech_s", "condition", name])
    rows = len(arrays["embeddings"])
    if not rows:
        raise CheckpointError(f"{source}: holds no embeddings")
    condition = arrays.get("condition")
    if condition is None or np.isnan(condition).all():
        raise CheckpointError(
            f"{source}: {'has no column condition' if condition is None else 'no condition in it is known'}; embed "
            "again with `xvectors embed`, to .npz or .parquet"
        )
    if data is not None:
        dates = _dates_of_table(_table_of(Path(data)), source, name, arrays.get("id"))
    elif name in arrays:
        dates = _dates_of_file(source, name, arrays[name])
    elif date_column is None:
        dates = None
    else:
        raise CheckpointError(
            f"{source}: has no column {name!r} of dates; name another with --date-column, or give a table of dates "
            "with --data"
        )
    return Incoming(
        condition=condition,
        speech_s=arrays["speech_s"].astype(np.float64) if "speech_s" in arrays else np.full(rows, np.nan),
        dates=dates,
    )


def _dates_of_file(source: Path, name: str, cells: NDArray[Any]) -> list[datetime]:
    if cells.dtype.kind == "M":
        cells = cells.astype("datetime64[s]")
    return [
        _date(str(cell), partial("{}: {} of row {}".format, source, name, row))
        for row, cell in enumerate(cells.tolist(), start=1)
    ]


def _table_of(data: Path) -> Path:
    """Return the table of dates: `data`, or the manifest in that folder."""
    if not data.is_dir():
        return data
    found = next((data / name for name in MANIFEST_NAMES if (data / name).is_file()), None)
    if found is None:
        raise ManifestError(
            f"{data}: holds no {' and no '.join(MANIFEST_NAMES)}; give a table with the columns id and date"
        )
    return found


def _dates_of_table(path: Path, source: Path, name: str, ids: NDArray[Any] | None) -> list[datetime]:
    """Return the date of each embedding, found by its id."""
    if ids is None:
        raise CheckpointError(f"{source}: has no ids, by which dates could be found in {path}")
    table = open_table(path)
    if name not in table.header:
        raise ManifestError(
            f"{path}: has no column {name!r} of dates (columns found: {', '.join(table.header)}); name it with "
            "--date-column"
        )
    places = _names_of_recordings(table.header, path, source)
    blocks = list(table.columns())
    cells = {key: _column(blocks, at) for key, at in places.items()}
    at = _best_rows(cells, [str(each) for each in ids.tolist()], path, source)
    dates = _column(blocks, table.header.index(name))

    def place(row: int) -> str:
        return f"{path}: {name} of line {table.line(row)}"

    return [_date(dates[row], partial(place, row)) for row in at.tolist()]


def _names_of_recordings(header: Sequence[str], path: Path, source: Path) -> dict[str, int]:
    """Return the numbers of the columns id and path, those that there are."""
    known = find_columns(header, str(path), required=()).known
    places = {name: number for name, number in known.items() if name in ("id", "path")}
    if not places and "speaker" in known and header[known["speaker"]].lower() == "id":
        places = {"id": known["speaker"]}  # without a column of speakers, an id counts as one, as in VoxCeleb's table
    if not places:
        raise ManifestError(f"{path}: no column names the recordings; call one id, with the ids of {source.name}")
    return places


def _column(blocks: Sequence[Sequence[Any]], at: int) -> list[str]:
    return [str(cell).strip() for block in blocks for cell in block[at]]


def _best_rows(cells: dict[str, list[str]], ids: Sequence[str], path: Path, source: Path) -> NDArray[np.int32]:
    """Return the row of each id in the column that has most of them. Raises ManifestError unless it has all."""
    candidates = [RecordingRows(names).rows(ids) for names in cells.values()]
    at = max(candidates, key=lambda rows: int(np.count_nonzero(rows >= 0)))
    without = [name for name, row in zip(ids, at.tolist(), strict=True) if row < 0]
    if without:
        raise ManifestError(
            f"{path}: has no date for {count(len(without), 'embedding')} of {source.name} ({first_few(without)}); "
            "give a table with a row for each id"
        )
    return at


def _date(cell: str, place: Callable[[], str]) -> datetime:
    """Parse a date. `place` names the cell, and is only called for an error: finding a line takes reading the file."""
    try:
        date = datetime.fromisoformat(cell.strip())
        return date if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # OverflowError: a time in UTC before the year 1
        raise ManifestError(f"{place()} is {cell!r:.60}, not a date; write it as 2026-05-31 (ISO 8601)") from error
