"""Read enrollment files, which enroll models from several recordings as in the NIST SRE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import ManifestError
from xvectors.files.tables import Table
from xvectors.text import first_few
from xvectors.trials.headers import ALIASES, header_columns
from xvectors.trials.names import RecordingRows
from xvectors.trials.text import text_lines

COLUMNS = {
    "model": ALIASES["enroll"],
    "recording": (*ALIASES["test"], "recording", "utterance", "utt"),
}
SIDE = ("side", "channel")


@dataclass(frozen=True, kw_only=True)
class Enrollment:
    """Models sorted by name, and the recordings from which each is enrolled."""

    models: tuple[str, ...]
    utterances: tuple[tuple[str, ...], ...]
    source: str
    num_repeated: int = 0
    """Number of repeated recordings of a model, which count once."""

    def resolve(self, recordings: RecordingRows) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the rows [k] of the embedding matrix and the model number [k] of each, in the order of the models.

        A recording that a model lists under two spellings counts once.

        Raises
        ------
        ManifestError
            For recordings that are not among the embeddings.
        """
        names = [name for utterances in self.utterances for name in utterances]
        rows = recordings.rows(names)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise ManifestError(
                f"{self.source}: {len(unknown)} of {len(names)} enrollment recordings are not among the "
                f"{len(recordings)} embedded ones: {first_few([names[at] for at in unknown])}; embed them, or correct "
                "the names"
            )
        numbers = np.repeat(np.arange(len(self.models), dtype=np.int32), [len(each) for each in self.utterances])
        _, first = np.unique(numbers.astype(np.int64) * len(recordings) + rows, return_index=True)
        first.sort()
        return rows[first], numbers[first]

    def lines(self, num_rows: int) -> list[str]:
        """Return remarks as lines of text, given the number of rows from `resolve`."""
        again = self.num_repeated + sum(map(len, self.utterances)) - num_rows
        return [f"{again} recordings that a model of {self.source} names again, counted once"] if again else []


def read_enrollment(path: str | os.PathLike[str]) -> Enrollment:
    """Read lines `model utterance [utterance ...]`, where a model may have several lines, or a table.

    The header of a table names model and recording, such as modelid, segmentid and side of the NIST SRE, with one
    recording per line.

    Raises
    ------
    ManifestError
        For a file that cannot be read or is empty, a line without a recording, and both sides of one recording.
    """
    path = Path(path)
    columns = header_columns(path, COLUMNS)
    models: dict[str, dict[str, None]] = {}
    repeated = 0
    for model, utterances in _text_rows(path) if columns is None else _table_rows(path, columns):
        known = models.setdefault(model, {})
        before = len(known)
        known.update(dict.fromkeys(utterances))
        repeated += before + len(utterances) - len(known)
    if not models:
        raise ManifestError(f"{path}: is empty; an enrollment file has lines: model utterance ...")
    names = sorted(models)
    return Enrollment(
        models=tuple(names),
        utterances=tuple(tuple(models[name]) for name in names),
        source=str(path),
        num_repeated=repeated,
    )


def _text_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(text_lines(path), start=1):
        model, *utterances = line.split() or [""]
        if not model:
            continue
        if not utterances:
            raise ManifestError(f"{path}: line {number}: model {model} has no recording; write: model utterance ...")
        yield model, utterances


def _table_rows(path: Path, columns: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    table, read = Table(path), 0
    side_at = next((at for at, name in enumerate(table.header) if name.lower() in SIDE), None)
    sides: dict[str, str] = {}
    for rows in table.blocks():
        for at, row in enumerate(rows, start=read):
            model, recording = (row[columns[name]].strip() for name in COLUMNS)
            if not model or not recording:
                raise ManifestError(
                    f"{path}: line {table.line(at)}: an empty cell; every line needs model and recording"
                )
            if side_at is not None:
                side = row[side_at].strip().lower()
                if sides.setdefault(recording, side) != side:
                    raise ManifestError(
                        f"{path}: line {table.line(at)}: side {side} of {recording}, of which earlier lines use side "
                        f"{sides[recording]}; make a recording of each side, and use their names"
                    )
            yield model, [recording]
        read += len(rows)
