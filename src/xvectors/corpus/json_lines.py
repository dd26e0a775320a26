"""Tables as JSON lines: one object a line, such as NeMo's manifests.

In: a file. Out: a header of all keys and blocks of rows of text, as `xvectors.files.tables.Table` gives them.
"""

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
    """A file of JSON objects, one a line, read as often as asked. `header`: every key, in order of appearance."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.header = list(dict.fromkeys(key for _, entry in self._entries() for key in entry))

    def blocks(self) -> Iterator[list[list[str]]]:
        """Yield the rows as lists of cells, many at a time. Raises ManifestError, with the line, for no object."""
        entries = (entry for _, entry in self._entries())
        while block := list(islice(entries, ROWS_AT_A_TIME)):
            yield [[_cell(entry.get(key)) for key in self.header] for entry in block]

    def line(self, row: int) -> int:
        """The line of the file on which row number `row` stands (from 0, blank lines not counted)."""
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
        except (ValueError, RecursionError) as error:  # RecursionError: brackets in brackets, thousands deep
            reason = getattr(error, "msg", error)
            raise ManifestError(
                f"{self.path}: line {number} is no JSON ({reason}); write one object a line, as NeMo does"
            ) from error
        if not isinstance(entry, dict):
            raise ManifestError(f"{self.path}: line {number} is no JSON object; write one object a line, as NeMo does")
        if "\\u" in line:
            try:
                json.dumps(entry, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise ManifestError(
                    f"{self.path}: line {number} has half of a surrogate pair (\\ud800 to \\udfff), no character"
                ) from error
        return entry


def open_table(path: str | os.PathLike[str]) -> Table | JsonLines:
    """A table of either kind: JSON lines begin with a brace."""
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
