"""Print safely: names from files cannot break a line, move the cursor, or fail in the stream's encoding.

Every command that prints imports `print` from here.
"""

from __future__ import annotations

import builtins
import io
import json
import logging
import os
import re
import sys
from typing import Any, TextIO

from xvectors.errors import StorageError
from xvectors.text import printable

MAX_MESSAGE_CHARS = 2000
"""Longest error or warning that is printed whole: a cell of a damaged table may have 100,000 characters."""
MAX_WORD_CHARS = 800
"""Longest word in a message that is printed whole, so that a long file name does not displace the message."""
_LONG_WORD = re.compile(rf"\S{{{MAX_WORD_CHARS + 1},}}")


class OutputClosed(Exception):
    """The reader of the output has closed it, as `head` does. It is not an OSError, which typer would catch."""


def print(*values: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print the values on one line, with control characters escaped (`xvectors.text.printable`).

    Raises
    ------
    StorageError
        The stream cannot be written, for example because the disk is full.
    OutputClosed
        The reader of the stream has closed it.
    """
    stream = file or sys.stdout
    _write(stream, printable(" ".join(map(str, values))), flush)


def shortened(message: str) -> str:
    """Cut the middle out of words and of the whole message where they are too long to read."""
    message = _LONG_WORD.sub(
        lambda word: f"{word[0][: MAX_WORD_CHARS // 2]}[...]{word[0][-MAX_WORD_CHARS // 2 :]}", message
    )
    if len(message) <= MAX_MESSAGE_CHARS:
        return message
    return f"{message[: MAX_MESSAGE_CHARS // 2]} [...] {message[-MAX_MESSAGE_CHARS // 2 :]}"


def print_json(value: Any) -> None:
    """Print a value as indented ASCII JSON. Raises the errors of `print`."""
    _write(sys.stdout, json.dumps(value, indent=2), False)


def prepare_streams() -> None:
    """Make both streams accept every character, as an escape if the encoding lacks it; replace a closed stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write the buffered standard output. Raises the errors of `print`."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _translated(error) from error


def discard_output() -> None:
    """Discard buffered output that cannot be written, so that the interpreter does not fail on it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            descriptor = stream.fileno()
            stream.flush()
        except io.UnsupportedOperation:
            continue
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


class LogFormatter(logging.Formatter):
    """Format a record as one safe line, `WARNING: message`, followed by its traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        line = printable(shortened(f"{record.levelname}: {' '.join(record.getMessage().split())}"))
        traceback = self.formatException(record.exc_info).split("\n") if record.exc_info else []
        return "\n".join([line, *map(printable, traceback)])


def _write(stream: TextIO, text: str, flush: bool) -> None:
    try:
        builtins.print(text, file=stream, flush=flush)
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> StorageError | OutputClosed:
    if isinstance(error, BrokenPipeError):
        return OutputClosed()
    return StorageError(f"the output cannot be written: {error.strerror or error}; nothing else was lost")
