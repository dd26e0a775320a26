"""Read tables that describe recordings in folders: lists of speakers (VoxCeleb), of sessions, or of utterances."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xvectors.corpus.builder import ManifestBuilder
from xvectors.corpus.columns import Columns, find_columns
from xvectors.corpus.json_lines import open_table
from xvectors.corpus.manifest import Manifest
from xvectors.errors import ManifestError
from xvectors.text import agree, composed, count, first_few

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class UtteranceTable:
    """A table with one row per utterance. `rows` hold cells in the order of `header`."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    columns: Columns

    @property
    def has_paths(self) -> bool:
        return "path" in self.columns.known

    def paths(self) -> Iterator[str]:
        column = self.columns.known["path"]
        return (row[column].strip() for row in self.rows)

    def locate(self, files: Mapping[str, str]) -> list[str | None]:
        """Return the file of each row among `files` (paths by composed path without suffix); None if missing."""
        stems = ([composed(stem) for stem in self._stems(row)] for row in self.rows)
        return [next((files[stem] for stem in of_row if stem in files), None) for of_row in stems]

    def expected(self, row: int) -> str:
        """Return the expected path of the recording of a row, for messages."""
        if self.has_paths:
            return self.rows[row][self.columns.known["path"]].strip()
        return " or ".join(f"{stem}.*" for stem in self._stems(self.rows[row])[:2])

    def manifest(self, found: Sequence[str | None], root: Path, source: Path) -> Manifest:
        """Return the manifest of the rows that have a file."""
        kept = [row for row, path in enumerate(found) if path is not None]
        number = self.columns.known.get("path")
        header = list(self.header) if number is not None else [*self.header, "path"]
        rows = []
        for row in kept:
            cells = list(self.rows[row])
            if number is None:
                cells.append(str(found[row]))
            rows.append(cells)
        builder = ManifestBuilder(
            header,
            find_columns(header, str(self.path)),
            lambda row: f"{self.path}: line {open_table(self.path).line(kept[row])}",
        )
        builder.add(list(zip(*rows, strict=True)))
        return Manifest(**builder.build(str(self.path), root, source))

    def _stems(self, row: list[str]) -> list[str]:
        known = self.columns.known
        speaker, name = row[known["speaker"]].strip(), row[known["id"]].strip()
        tail = name.rpartition("_")[2]
        session = row[known["session"]].strip() if "session" in known else ""
        folder = f"{speaker}/{session}" if session else speaker
        return list(dict.fromkeys([f"{folder}/{name}", f"{folder}/{tail}", f"{speaker}/{name}", name]))


class SpeakerTable:
    """A table with one row per speaker, or per session of a speaker, to be joined to files."""

    def __init__(self, path: Path, header: list[str], rows: list[list[str]], columns: Columns) -> None:
        self.path = path
        known = columns.known
        self._names = [name for name in header if header.index(name) not in (known["speaker"], known.get("session"))]
        numbers = [header.index(name) for name in self._names]
        self._by_speaker: dict[str, list[str]] = {}
        self._by_session: dict[tuple[str, str], list[str]] = {}
        # may differ between sessions of a speaker; the rest must agree
        varying = {known.get("age")} if "session" in known else set()
        place: dict[tuple[str, str], int] = {}
        for row, cells in enumerate(rows):
            speaker = composed(cells[known["speaker"]].strip())
            session = composed(cells[known["session"]].strip()) if "session" in known else ""
            values = [cells[number].strip() for number in numbers]
            earlier = self._by_session.setdefault((speaker, session), values)
            if earlier != values:
                table = open_table(path)
                raise ManifestError(
                    f"{path}: lines {table.line(place[speaker, session])} and {table.line(row)} disagree "
                    f"about {f'{speaker} {session}'.strip()}; keep one of them, or add a column that tells "
                    "the rows apart (path, id or session)"
                )
            place.setdefault((speaker, session), row)
            of_speaker = ["" if number in varying else v for number, v in zip(numbers, values, strict=True)]
            first = self._by_speaker.setdefault(speaker, of_speaker)
            for index, (one, other) in enumerate(zip(first, of_speaker, strict=True)):
                if one != other:
                    first[index] = ""  # known by session only

    def speaker_level(self, parts: Sequence[Sequence[str]]) -> int | None:
        """Return the number of folders above those of the speakers: the first level with a name from the table."""
        for level in range(max(map(len, parts)) - 1):
            if any(len(names) > level + 1 and composed(names[level]) in self._by_speaker for names in parts):
                return level
        return None

    def examples(self) -> str:
        return first_few(self._by_speaker)

    def joined(self, header: list[str], rows: list[list[str]], data: Path) -> tuple[list[str], list[list[str]]]:
        """Append the metadata to rows of path, speaker and session. Warns about rows without a counterpart."""
        there = dict.fromkeys(row[1] for row in rows)
        for names, where, lacking in (
            ([name for name in there if name not in self._by_speaker], data, self.path),
            ([name for name in self._by_speaker if name not in there], self.path, data),
        ):
            if names:
                number, are = count(len(names), "speaker"), agree(len(names), "is", "are")
                logger.warning("%s of %s %s not in %s, such as %s", number, where, are, lacking, first_few(names))
        unknown = [""] * len(self._names)
        return [*header, *self._names], [
            [*row, *(self._by_session.get((row[1], row[2])) or self._by_speaker.get(row[1]) or unknown)] for row in rows
        ]


def read_metadata(path: Path) -> UtteranceTable | SpeakerTable:
    """Read a table with one row per utterance, per session of a speaker, or per speaker."""
    table = open_table(path)
    rows = [row for block in table.blocks() for row in block]
    header = table.header
    columns = find_columns(header, str(path), required=("speaker",))
    if not rows:
        raise ManifestError(f"{path}: has a header and no rows; name the table that describes the recordings")
    if "path" in columns.known or "id" in columns.known:
        return UtteranceTable(path, header, rows, columns)
    return SpeakerTable(path, header, rows, columns)
