"""The command line. Commands only parse and print; each imports what it needs when it runs.

`shared` holds the program and the options that commands share; each of the other modules registers the commands of
one group in the help.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

import typer

# importing a module registers its commands, in the order in which the help lists them
# isort: off
from xvectors.cli import recognition  # noqa: F401
from xvectors.cli import gallery  # noqa: F401
from xvectors.cli import serving  # noqa: F401
from xvectors.cli import training  # noqa: F401
from xvectors.cli import preparing  # noqa: F401
from xvectors.cli import planning  # noqa: F401
from xvectors.cli import packing  # noqa: F401
from xvectors.cli import calibration  # noqa: F401
from xvectors.cli import evaluation  # noqa: F401
from xvectors.cli import diarization  # noqa: F401
from xvectors.cli import conversations  # noqa: F401
from xvectors.cli import drift  # noqa: F401
from xvectors.cli import embedding  # noqa: F401
from xvectors.cli import importing  # noqa: F401
from xvectors.cli import pushing  # noqa: F401
from xvectors.cli import demo  # noqa: F401

# isort: on
from xvectors.cli.crash import CRASH_STATUS, describe_crash
from xvectors.cli.shared import ERROR_STATUS, SIGNAL_STATUS, USAGE_ERROR, app, usage_lines
from xvectors.cli.terminal import (
    LogFormatter,
    OutputClosed,
    discard_output,
    flush_output,
    prepare_streams,
    print,
    shortened,
)
from xvectors.errors import StorageError, XVectorsError

__all__ = ["app", "main"]

SIGPIPE = 13  # signal.SIGPIPE, which Windows lacks
SYSTEM_ERRORS = {
    errno.ENOSPC,
    errno.EFBIG,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EIO,
}
"""Errors of the operating system that name no file and are not faults of the program, such as a full disk."""


def main() -> None:
    """Run the command line and exit with its status.

    A user's mistake prints one line and exits with status 2, a fault of the program with 70, an interruption with 1.
    If the reader of the output is gone, as with `xvectors --help | head`, the status is that of SIGPIPE, 141.
    """
    prepare_streams()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        try:
            # typer's standalone mode would print usage errors itself, with the arguments unescaped
            status = app(prog_name="xvectors", standalone_mode=False)
        finally:
            flush_output()
    except SystemExit as error:
        # rich and typer exit with status 1 when they meet a broken pipe
        if isinstance(error.__context__, BrokenPipeError):
            _exit(SIGNAL_STATUS + SIGPIPE)
        raise
    except USAGE_ERROR as error:
        _exit(ERROR_STATUS, *usage_lines(error))
    except typer.Abort:
        _exit(1, "aborted")
    except OutputClosed:
        _exit(SIGNAL_STATUS + SIGPIPE)
    except XVectorsError as error:
        _exit(ERROR_STATUS, f"error: {' '.join(str(error).split())}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            _exit(CRASH_STATUS, f"error: {describe_crash(error)}")
        _exit(
            ERROR_STATUS,
            "error: this needs torch, which is not installed: pip install torch; verify, enroll, identify and embed "
            "run without it if the system has a model.onnx, as the starter has (pip install onnxruntime)",
        )
    except OSError as error:
        if error.filename is None and error.errno not in SYSTEM_ERRORS:
            _exit(CRASH_STATUS, f"error: {describe_crash(error)}")
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        _exit(ERROR_STATUS, f"error: {name}{error.strerror}")
    except Exception as error:  # noqa: BLE001 - whatever failed, the user gets a sentence and a report
        _exit(CRASH_STATUS, f"error: {describe_crash(error)}")
    sys.exit(status or 0)


def _exit(status: int, *lines: str) -> NoReturn:
    """Print lines to standard error, if it can be written, and exit with the status."""
    with suppress(StorageError, OutputClosed):
        for line in lines:
            print(shortened(line), file=sys.stderr, flush=True)
    discard_output()
    sys.exit(status)
