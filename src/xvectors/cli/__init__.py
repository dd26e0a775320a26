"""The command line: parsing and printing only. Everything heavy is imported inside the command that needs it.

shared.py holds the program and its common options; every other module registers the commands of one kind.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

import typer

# each registers its commands, in this order within a group of the help
# isort: off
from xvectors.cli import using  # noqa: F401
from xvectors.cli import gallery  # noqa: F401
from xvectors.cli import training  # noqa: F401
from xvectors.cli import evaluation  # noqa: F401
from xvectors.cli import exporting  # noqa: F401
from xvectors.cli import upgrading  # noqa: F401

# isort: on
from xvectors.cli.crash import CRASH_STATUS, describe_crash
from xvectors.cli.shared import ERROR_STATUS, PANELS, SIGNAL_STATUS, USAGE_ERROR, app, usage_lines
from xvectors.cli.terminal import (
    LogFormatter,
    ReaderGone,
    discard_output,
    flush_output,
    prepare_streams,
    print,
    shortened,
)
from xvectors.errors import StorageError, XVectorsError

__all__ = ["app", "main"]

SIGPIPE = 13  # signal.SIGPIPE, which Windows has not
OF_THE_MACHINE = {
    errno.ENOSPC,
    errno.EFBIG,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EIO,
}
"""Errors that no file's name comes with, and that are not the program's fault."""

app.registered_commands.sort(key=lambda command: PANELS.index(str(command.rich_help_panel)))


def main() -> None:
    """Run the command line; a user's mistake is one line and exit status 2, a fault of the program one line and 70."""
    prepare_streams()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        try:
            # not standalone: typer would print usage errors itself, the user's own arguments as they are
            status = app(prog_name="xvectors", standalone_mode=False)
        finally:
            flush_output()
        sys.exit(status or 0)
    except USAGE_ERROR as error:
        _end(ERROR_STATUS, *usage_lines(error))
    except typer.Abort:
        _end(1, "aborted")
    except ReaderGone:
        _end(SIGNAL_STATUS + SIGPIPE)
    except XVectorsError as error:
        _end(ERROR_STATUS, f"error: {' '.join(str(error).split())}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            _end(CRASH_STATUS, f"error: {describe_crash(error)}")
        _end(
            ERROR_STATUS,
            "error: this needs torch, which is not installed: pip install torch; verify, enroll, identify and embed "
            "run without it, on a system with a model.onnx, as the starter is (pip install onnxruntime)",
        )
    except OSError as error:
        if error.filename is None and error.errno not in OF_THE_MACHINE:
            _end(CRASH_STATUS, f"error: {describe_crash(error)}")
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        _end(ERROR_STATUS, f"error: {name}{error.strerror}")
    except Exception as error:  # noqa: BLE001 - the last net: whatever it is, the user gets a sentence and a report
        _end(CRASH_STATUS, f"error: {describe_crash(error)}")


def _end(status: int, *lines: str) -> NoReturn:
    """Print the lines to standard error, if that can be written, and end with the status."""
    with suppress(StorageError, ReaderGone):
        for line in lines:
            print(shortened(line), file=sys.stderr, flush=True)
    discard_output()
    sys.exit(status)
