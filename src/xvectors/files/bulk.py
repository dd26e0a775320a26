"""Read large, plain text tables in chunks by pyarrow.

A chunk is plain if single delimiters separate its cells and no cell is quoted. All others raise `Irregular` and are
left to readers that go line by line, and that name the line of an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

BOM = b"\xef\xbb\xbf"


class Irregular(ValueError):
    """The text cannot be read in bulk: it is wrong, or has unusual spaces, quotes or numbers."""


def chunks_of_lines(file: BinaryIO, header_line: int, chunk_bytes: int) -> Iterator[memoryview]:
    """Yield the text below the header in blocks of whole lines. `header_line` counts from 1; 0 is text without one."""
    if file.read(len(BOM)) != BOM:
        file.seek(0)
    for number in range(1, header_line + 1):
        line = file.readline().removesuffix(b"\n").removesuffix(b"\r")
        if b'"' in line or b"\r" in line or (line and number < header_line):
            raise Irregular("its header has quotes or spaces above it, or its lines end in different ways")
    while text := file.read(chunk_bytes):
        whole = text.rfind(b"\n") + 1
        if len(text) < chunk_bytes:
            whole = len(text)  # the file's end, with or without an end of line
        elif not whole:
            raise Irregular(f"it has a line of more than {chunk_bytes:,} bytes")
        file.seek(whole - len(text), os.SEEK_CUR)
        yield memoryview(text)[:whole]


def release_memory() -> None:
    """Return to the operating system what pyarrow has freed, which it would keep for later."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def parse_chunk(lines: memoryview, delimiter: str, width: int, kinds: dict[int, Any]) -> dict[int, Any] | None:
    """Return the columns of a chunk as pyarrow arrays; None for blank lines.

    Parameters
    ----------
    width
        Number of cells of each line.
    kinds
        pyarrow types of the wanted columns, by column number.

    Raises
    ------
    Irregular
        Lines of another width, or cells that are not of their type.
    """
    import pyarrow as pa
    from pyarrow import csv

    if bytes(lines[: len(BOM)]) == BOM:
        raise Irregular("it has a byte order mark inside")
    try:
        table = csv.read_csv(
            pa.BufferReader(lines),
            read_options=csv.ReadOptions(
                use_threads=False, block_size=len(lines) + 1, column_names=[str(number) for number in range(width)]
            ),
            parse_options=csv.ParseOptions(
                delimiter=delimiter, quote_char=False, double_quote=False, ignore_empty_lines=True
            ),
            convert_options=csv.ConvertOptions(
                column_types={str(number): kind for number, kind in kinds.items()},
                include_columns=[str(number) for number in kinds],
                null_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        if not bytes(lines).strip(b"\r\n"):
            return None
        raise Irregular("lines differ in their number of fields, or a score is written in an unusual way") from error
    return {number: table.column(str(number)).combine_chunks() for number in kinds}
