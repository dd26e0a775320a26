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
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from xvectors.errors import ManifestError
from xvectors.files import atomic_write, why_no_file
from xvectors.files.bulk import Irregular, are_quoted, chunks_of_lines, parse_chunk, release_memory

if TYPE_CHECKING:
    from _csv import Reader

    import numpy as np
    from numpy.typing import NDArray

Column = Any
"""A tuple of str, or a pyarrow array of strings."""
BULK_BYTES = 1 << 22
"""Smallest file that is read in bulk. A smaller one is read in the time that importing pyarrow takes."""
CHUNK_BYTES = 1 << 20
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

    Examples
    --------
    >>> protected("=1+1"), protected("-0.5"), protected("'quoted'")
    ("'=1+1", '-0.5', "'quoted'")
    """
    return APOSTROPHE + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def restored(cell: str) -> str:
    """Undo `protected`.

    Examples
    --------
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
        with self._reading() as reader:
            self.header = [restored(name.strip()) for name in next(filter(None, reader))]
            self._header_line = int(reader.line_num)

    def blocks(self, start: int = 0) -> Iterator[list[list[str]]]:
        """Yield blocks of rows as lists of cells, without blank lines and with `protected` cells restored.

        `start` is the byte from which to read, the beginning of a line; by default that below the header. Raises
        ManifestError, which names the line, for rows of another width than the header, bad quotes and bytes that are
        not UTF-8.
        """
        width = len(self.header)
        with self._reading(start) as reader:
            records = filter(None, reader)
            if not start:
                next(records)  # the header
            while rows := list(islice(records, ROWS_AT_A_TIME)):
                if set(map(len, rows)) != {width}:
                    self._raise_wrong_width()
                # one search over all text, since such cells are rare
                if self._is_quoted and APOSTROPHE in "".join(chain.from_iterable(rows)):
                    rows = [[restored(cell) for cell in row] for row in rows]
                yield rows

    def columns(self) -> Iterator[list[Column]]:
        """Yield blocks of rows like `blocks`, as one column after the other. Cells may have spaces around them.

        The plain part of a large file is read in bulk (`files.bulk`) and its columns are pyarrow arrays, which takes a
        third of the time. From the first chunk on that is not plain, such as one with a line break in a cell, columns
        are tuples of str.
        """
        start = 0
        if self.path.stat().st_size >= BULK_BYTES and len(self.header) > 1:
            with open(self.path, "rb") as file, suppress(Irregular):
                for lines in chunks_of_lines(file, self._header_line, CHUNK_BYTES, quotes=True):
                    if block := self._in_bulk(lines):
                        yield block
                    start = file.tell()
                release_memory()
                return
        for rows in self.blocks(start):
            yield list(zip(*rows, strict=True))

    def line(self, row: int) -> int:
        """Return the line of the file on which row number `row` (from 0, without blank lines) ends."""
        with self._reading() as reader:
            next(islice(filter(None, reader), row + 1, None))
            return int(reader.line_num)

    def _in_bulk(self, lines: memoryview) -> list[Column] | None:
        """Return the columns of whole lines; None if all are blank. Raises Irregular if the lines are not plain."""
        import pyarrow as pa

        quotes = are_quoted(bytes(lines), self._delimiter, quotes=self._is_quoted)
        kinds = dict.fromkeys(range(len(self.header)), pa.string())
        columns = parse_chunk(lines, self._delimiter, len(self.header), kinds, quotes=quotes)
        return None if columns is None else list(columns.values())

    def _raise_wrong_width(self) -> NoReturn:
        with self._reading() as reader:
            record = next(record for record in reader if record and len(record) != len(self.header))
            raise ManifestError(
                f"{self.path}: line {reader.line_num} has {len(record)} cells, the header has {len(self.header)}; "
                f"quote cells that contain the separator {self._delimiter!r}"
            )

    @contextmanager
    def _reading(self, start: int = 0) -> Iterator[Reader]:
        with self._opened(start) as text:
            reader = csv.reader(
                text,
                delimiter=self._delimiter,
                skipinitialspace=True,
                strict=True,
                quoting=csv.QUOTE_MINIMAL if self._is_quoted else csv.QUOTE_NONE,
            )
            try:
                yield reader
            except csv.Error as error:
                line = reader.line_num + self.path.read_bytes()[:start].count(b"\n")
                raise ManifestError(f"{self.path}: line {line}: {error}; check the quotes in and above it") from error

    @contextmanager
    def _opened(self, start: int = 0) -> Iterator[io.TextIOWrapper]:
        if why := why_no_file(self.path):
            raise ManifestError(f"{self.path}: {why}")
        try:
            with open(self.path, "rb") as file:
                file.seek(start)
                yield io.TextIOWrapper(file, encoding="utf-8" if start else "utf-8-sig", newline="")
        except UnicodeDecodeError as error:
            raise ManifestError(
                f"{self.path}: line {_line_not_utf8(self.path)} is not UTF-8 text; "
                "save the file as UTF-8 CSV, or name the right file"
            ) from error
        except OSError as error:
            raise ManifestError(f"{self.path}: cannot be read ({error.strerror}); check the path") from error


def distinct(column: Column) -> tuple[Sequence[str], NDArray[np.int32] | None]:
    """Return the distinct cells of a pyarrow array in order of appearance, and which of them each row holds.

    A tuple is returned as it is, with None: looking its cells up one by one is as fast.
    """
    if isinstance(column, tuple):
        return column, None
    encoded = column.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


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
