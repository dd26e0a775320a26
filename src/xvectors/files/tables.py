"""Read and write text tables: CSV with commas, semicolons or tabs. Errors name the line.

Spreadsheets evaluate cells that begin with =, +, - or @, so a file or speaker with such a name could run commands on
the computer of anyone who opens the table (OWASP, "CSV Injection"). `write_table` puts an apostrophe before such text,
and `Table` removes it again.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from xvectors.errors import ManifestError
from xvectors.files import atomic_write, why_no_file

if TYPE_CHECKING:
    from _csv import Reader

ROWS_AT_A_TIME = 1024  # fits into the cache of a processor: a quarter faster than 16,384
DELIMITERS = ",\t;"

APOSTROPHE = "'"
_RISKY = frozenset("'\t\r\n\v\f =+-@\uff1d\uff0b\uff0d\uff20")
"""First characters of text that `protected` may change."""
_FORMULA = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Cells that spreadsheets evaluate: signs, also full-width or after stripped characters; and the same, protected."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)", re.ASCII)


def protected(text: str) -> str:
    """Put an apostrophe before text that spreadsheets would evaluate. Numbers stay as they are.

    >>> protected("=1+1"), protected("-0.5"), protected("'quoted'")
    ("'=1+1", '-0.5', "'quoted'")
    """
    return APOSTROPHE + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def restored(cell: str) -> str:
    """Undo `protected`.

    >>> restored("'=1+1"), restored("''=1+1"), restored("'quoted'")
    ('=1+1', "'=1+1", "'quoted'")
    """
    return cell[1:] if cell.startswith(APOSTROPHE) and _FORMULA.match(cell) else cell


class Table:
    """A table on disk, which can be read repeatedly. `header` holds the stripped column names."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with self._opened() as text:
            first = text.readline()
            while first and not first.strip():
                first = text.readline()
        if not first:
            raise ManifestError(f"{self.path}: is empty; a header and one row per utterance are needed")
        self._delimiter = max(DELIMITERS, key=first.count)
        # tables of Common Voice have no quoting: a quotation mark is literal
        self._is_quoted = "client_id" not in first or self._delimiter != "\t"
        self.header = [restored(name.strip()) for name in self._first_record()]

    def blocks(self) -> Iterator[list[list[str]]]:
        """Yield blocks of rows as lists of cells, without blank lines and with `protected` cells restored.

        Raises ManifestError, which names the line, for rows of another width than the header, bad quotes and bytes that
        are not UTF-8.
        """
        width = len(self.header)
        with self._opened() as text:
            reader = self._reader(text)
            try:
                for header in reader:
                    if header:
                        break
                while rows := list(islice(reader, ROWS_AT_A_TIME)):
                    if set(map(len, rows)) != {width}:
                        self._check_widths()
                        rows = [row for row in rows if row]
                    # one search over all text, since such cells are rare
                    if self._is_quoted and APOSTROPHE in "".join(chain.from_iterable(rows)):
                        rows = [[restored(cell) for cell in row] for row in rows]
                    if rows:
                        yield rows
            except csv.Error as error:
                raise ManifestError(
                    f"{self.path}: line {reader.line_num}: {error}; check the quotes in and above it"
                ) from error

    def line(self, row: int) -> int:
        """Return the line of the file on which row number `row` (from 0, without blank lines) ends."""
        with self._opened() as text:
            reader = self._reader(text)
            records = (record for record in reader if record)
            next(islice(records, row + 1, None))
            return int(reader.line_num)

    def _first_record(self) -> list[str]:
        with self._opened() as text:
            reader = self._reader(text)
            try:
                return next(record for record in reader if record)
            except csv.Error as error:
                raise ManifestError(f"{self.path}: line {reader.line_num}: {error}; check its quotes") from error

    def _check_widths(self) -> None:
        with self._opened() as text:
            reader = self._reader(text)
            for record in reader:
                if record and len(record) != len(self.header):
                    raise ManifestError(
                        f"{self.path}: line {reader.line_num} has {len(record)} cells, the header has "
                        f"{len(self.header)}; quote cells that contain the separator {self._delimiter!r}"
                    )

    def _reader(self, text: io.TextIOWrapper) -> Reader:
        return csv.reader(
            text,
            delimiter=self._delimiter,
            skipinitialspace=True,
            strict=True,
            quoting=csv.QUOTE_MINIMAL if self._is_quoted else csv.QUOTE_NONE,
        )

    @contextmanager
    def _opened(self) -> Iterator[io.TextIOWrapper]:
        if why := why_no_file(self.path):
            raise ManifestError(f"{self.path}: {why}")
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as text:
                yield text
        except UnicodeDecodeError as error:
            raise ManifestError(
                f"{self.path}: line {_line_not_utf8(self.path)} is not UTF-8 text; "
                "save the file as UTF-8 CSV, or name the right file"
            ) from error
        except OSError as error:
            raise ManifestError(f"{self.path}: cannot be read ({error.strerror}); check the path") from error


def write_table(
    path: str | os.PathLike[str],
    header: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    errors: str = "strict",
    private: bool = False,
) -> None:
    """Write a comma-separated UTF-8 table atomically, with text `protected`.

    `errors` handles file names that are not UTF-8, as in `str.encode`; `private` is that of `atomic_write`. Raises
    StorageError if the file cannot be written.
    """
    with (
        atomic_write(Path(path), private=private) as temporary,
        open(temporary, "w", encoding="utf-8", errors=errors, newline="") as text,
    ):
        writer = csv.writer(_Lines(text), lineterminator="\r\n")
        writer.writerows(
            [protected(cell) if isinstance(cell, str) and cell[:1] in _RISKY else cell for cell in row]
            for row in chain([header], rows)
        )


class _Lines:
    """Terminates rows with LF. A csv.writer with that terminator would leave carriage returns in cells unquoted."""

    def __init__(self, text: TextIO) -> None:
        self._text = text

    def write(self, row: str) -> int:
        return self._text.write(row.removesuffix("\r\n") + "\n")


def _line_not_utf8(path: Path) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
