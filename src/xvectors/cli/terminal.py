"""How the commands print. In: text that users and files supply parts of. Out: one line each, in characters that the
stream can hold and that do nothing to a terminal. A command that prints imports `print` from here.
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

MOST_CHARACTERS = 2000
"""Of an error or a warning: a cell of a damaged table may be 100,000 characters long."""
MOST_OF_WORD = 800
"""Of a name in it, so that what the message says of the name is not cut off."""
_LONG_WORD = re.compile(rf"\S{{{MOST_OF_WORD + 1},}}")


class ReaderGone(Exception):
    """Whoever read the output has closed it, as `head` does. Not an OSError, which typer would handle itself."""


def print(*values: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print the values as one line, whatever control characters are in them (`files.printable`).

    Raises
    ------
    StorageError
        The stream cannot be written: a full disk, say.
    ReaderGone
        Nobody reads the stream any more.
    """
    stream = file or sys.stdout
    _write(stream, printable(" ".join(map(str, values))), flush)


def shortened(message: str) -> str:
    """The message without the middle of its words, and of itself, where these are longer than anybody reads."""
    message = _LONG_WORD.sub(
        lambda word: f"{word[0][: MOST_OF_WORD // 2]}[...]{word[0][-MOST_OF_WORD // 2 :]}", message
    )
    if len(message) <= MOST_CHARACTERS:
        return message
    return f"{message[: MOST_CHARACTERS // 2]} [...] {message[-MOST_CHARACTERS // 2 :]}"


def print_json(value: Any) -> None:
    """Print a value as indented JSON, in ASCII; errors are those of `print`."""
    _write(sys.stdout, json.dumps(value, indent=2), False)


def prepare_streams() -> None:
    """Make both streams take every character: what an encoding lacks becomes an escape. A closed one is discarded."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write what is buffered of the standard output; errors are those of `print`."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _explained(error) from error


def discard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            descriptor = stream.fileno()
            stream.flush()
        except io.UnsupportedOperation:
            continue
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


class LogFormatter(logging.Formatter):
    """`WARNING: message`, one line that is printable as `print` has it, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = printable(shortened(f"{record.levelname}: {' '.join(record.getMessage().split())}"))
        traceback = self.formatException(record.exc_info).split("\n") if record.exc_info else []
        return "\n".join([line, *map(printable, traceback)])


def _write(stream: TextIO, text: str, flush: bool) -> None:
    try:
        builtins.print(text, file=stream, flush=flush)
    except OSError as error:
        raise _explained(error) from error


def _explained(error: OSError) -> StorageError | ReaderGone:
    if isinstance(error, BrokenPipeError):
        return ReaderGone()
    return StorageError(f"the output cannot be written: {error.strerror or error}; nothing else was lost")
