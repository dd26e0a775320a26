"""Read large, plain text tables in chunks by pyarrow.

All text that is not plain raises `Irregular` and is left to readers that go line by line, and that name the line of an
error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

BOM = b"\xef\xbb\xbf"


class Irregular(ValueError):
    """The text cannot be read in bulk: it is wrong, or has unusual spaces, quotes or numbers."""


def chunks_of_lines(
    file: BinaryIO, header_line: int, chunk_bytes: int, *, quotes: bool = False
) -> Iterator[memoryview]:
    """Yield the text below the header in blocks of whole lines.

    `header_line` counts from 1; 0 is text without a header. The header may have quotes only if `quotes`.
    """
    if file.read(len(BOM)) != BOM:
        file.seek(0)
    for number in range(1, header_line + 1):
        line = file.readline().removesuffix(b"\n").removesuffix(b"\r")
        if (b'"' in line and not quotes) or b"\r" in line or (line and number < header_line):
            raise Irregular("its header has quotes or spaces above it, or its lines end in different ways")
    while text := file.read(chunk_bytes):
        whole = text.rfind(b"\n") + 1
        if len(text) < chunk_bytes:
            whole = len(text)  # the file's end, with or without an end of line
        elif not whole:
            raise Irregular(f"it has a line of more than {chunk_bytes:,} bytes")
        file.seek(whole - len(text), os.SEEK_CUR)
        yield memoryview(text)[:whole]


def are_quoted(text: bytes, delimiter: str, *, quotes: bool = True) -> bool:
    """Return whether quotes enclose some cells of these lines. Without `quotes` they are text, as are apostrophes.

    Raises
    ------
    Irregular
        Quotes within cells, quoted cells of several lines, cells that begin with an apostrophe, and line breaks of
        several kinds.
    """
    import numpy as np

    if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
        raise Irregular("its lines end in different ways")
    quoted = quotes and b'"' in text
    if not quoted and not (quotes and b"'" in text):
        return False
    characters = np.frombuffer(b"\n" + text + b"\n", np.uint8)
    is_break = characters == ord("\n")
    is_edge = is_break | (characters == ord(delimiter))
    is_first = is_edge[:-1] & (characters[1:] == ord("'"))
    if b" '" in text:
        is_first |= is_edge[:-1] & (characters[1:] == ord(" "))
    begins = 1 + np.flatnonzero(is_first)
    if quoted:
        marks = np.flatnonzero(characters == ord('"'))
        if len(marks) % 2:
            raise Irregular("a quote is not closed")
        opening, closing = marks[::2], marks[1::2]
        single = opening[1:] != closing[:-1] + 1  # two quotes within a cell stand for one
        opening, closing = opening[np.append(True, single)], closing[np.append(single, True)]
        breaks = np.flatnonzero(is_break)
        encloses = is_edge[opening - 1] & (is_edge[closing + 1] | (characters[closing + 1] == ord("\r")))
        if not (encloses & (np.searchsorted(breaks, opening) == np.searchsorted(breaks, closing))).all():
            raise Irregular("there are quotes within cells, or quoted cells of several lines")
        if (characters[opening + 1] == ord("'")).any():
            raise Irregular("quoted cells begin with an apostrophe")
        begins = begins[np.searchsorted(opening, begins) == np.searchsorted(closing, begins)]
    if len(begins):
        raise Irregular("cells begin with an apostrophe")
    return quoted


def release_memory() -> None:
    """Return to the operating system what pyarrow has freed, which it would keep for later."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def parse_chunk(
    lines: memoryview, delimiter: str, width: int, kinds: dict[int, Any], *, quotes: bool = False
) -> dict[int, Any] | None:
    """Return the columns of a chunk as pyarrow arrays; None for blank lines.

    Parameters
    ----------
    width
        Number of cells of each line.
    kinds
        pyarrow types of the wanted columns, by column number.
    quotes
        Whether quotes enclose cells; otherwise they are text. No cell may hold a line break.

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
                delimiter=delimiter, quote_char='"' if quotes else False, double_quote=quotes, ignore_empty_lines=True
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
