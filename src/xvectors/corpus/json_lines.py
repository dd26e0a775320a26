"""Read tables as JSON lines, one object per line, like the manifests of NeMo."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from xvectors.errors import ManifestError
from xvectors.files import why_no_file
from xvectors.files.tables import ROWS_AT_A_TIME, Table


class JsonLines:
    """A file of JSON objects, one per line, read like `Table`. `header` holds all keys in order of appearance."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.header = list(dict.fromkeys(key for _, entry in self._entries() for key in entry))

    def blocks(self) -> Iterator[list[list[str]]]:
        """Yield blocks of rows as lists of cells. Raises ManifestError, which names the line, for other JSON."""
        entries = (entry for _, entry in self._entries())
        while block := list(islice(entries, ROWS_AT_A_TIME)):
            yield [[_cell(entry.get(key)) for key in self.header] for entry in block]

    def columns(self) -> Iterator[list[tuple[str, ...]]]:
        """Yield blocks of rows like `blocks`, as one column after the other."""
        for rows in self.blocks():
            yield list(zip(*rows, strict=True))

    def line(self, row: int) -> int:
        """Return the line of row number `row` (from 0, without blank lines)."""
        return next(number for number, _ in islice(self._entries(), row, None))

    def _entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with open(self.path, encoding="utf-8-sig") as text:
                for number, line in enumerate(text, start=1):
                    if line.strip():
                        yield number, self._entry(number, line)
        except UnicodeDecodeError as error:
            raise ManifestError(f"{self.path}: is not UTF-8 text; save it as UTF-8") from error
        except OSError as error:
            raise ManifestError(f"{self.path}: cannot be read ({error.strerror}); check the path") from error

    def _entry(self, number: int, line: str) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:  # RecursionError: thousands of nested brackets
            reason = getattr(error, "msg", error)
            raise ManifestError(
                f"{self.path}: line {number} is not JSON ({reason}); write one object per line, as NeMo does"
            ) from error
        if not isinstance(entry, dict):
            raise ManifestError(
                f"{self.path}: line {number} is not a JSON object; write one object per line, as NeMo does"
            )
        if "\\u" in line:
            try:
                json.dumps(entry, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise ManifestError(
                    f"{self.path}: line {number} has half of a surrogate pair (\\ud800 to \\udfff), no character"
                ) from error
        return entry


def open_table(path: str | os.PathLike[str]) -> Table | JsonLines:
    """Open a text table or JSON lines, which begin with a brace."""
    if why_no_file(os.fspath(path)):
        return Table(path)  # which says it
    try:
        with open(path, encoding="utf-8-sig") as text:
            first = next((line for line in text if line.strip()), "")
    except (OSError, UnicodeDecodeError):
        return Table(path)  # which says what is wrong
    return JsonLines(path) if first.lstrip().startswith("{") else Table(path)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
