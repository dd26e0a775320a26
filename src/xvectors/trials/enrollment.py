"""Enrollment of models from several recordings, as in the NIST SRE. In: a text file. Out: models and their rows."""

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
    """Models, sorted by name, and the recordings that each is enrolled from."""

    models: tuple[str, ...]
    utterances: tuple[tuple[str, ...], ...]
    source: str
    num_repeated: int = 0
    """Recordings that a model named again, and that count once."""

    def resolve(self, recordings: RecordingRows) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(rows [k] of the embedding matrix, the model number [k] that each row belongs to), in the models' order.

        A recording that a model names twice, under two spellings, comes once.

        Raises
        ------
        ManifestError
            Recordings that are not among the embeddings, the first of them named.
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
        """What there is to say, a line each, where `resolve` gave so many rows."""
        again = self.num_repeated + sum(map(len, self.utterances)) - num_rows
        return [f"{again} recordings that a model of {self.source} names again, counted once"] if again else []


def read_enrollment(path: str | os.PathLike[str]) -> Enrollment:
    """Read lines `model utterance`, or `model utterance utterance ...`; a model may go on in further lines.

    Or a table whose header names model and recording, as the NIST SRE's modelid, segmentid, side: one recording a line.

    Raises
    ------
    ManifestError
        A file that cannot be read, is empty, or has a line that names no recording; both sides of one recording.
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
            raise ManifestError(f"{path}: line {number}: model {model} names no recording; write: model utterance ...")
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
                        f"{path}: line {table.line(at)}: side {side} of {recording}, of which lines above take side "
                        f"{sides[recording]}; make a recording of each side, and name these"
                    )
            yield model, [recording]
        read += len(rows)
