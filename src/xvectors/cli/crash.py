"""Report an unforeseen error: write the traceback to a file that the user can send in."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from importlib import metadata

from xvectors.cli.terminal import print

CRASH_STATUS = 70
"""EX_SOFTWARE of sysexits.h: an internal error of the program."""
PACKAGES = ("xvectors", "torch", "numpy", "scipy", "typer")


def describe_crash(error: BaseException) -> str:
    """Describe the error in one sentence that names a file with the traceback.

    If no file can be written, the traceback is printed instead.
    """
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    try:
        path = _write_report(error)
    except OSError:
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(line, file=sys.stderr)
        return f"internal error ({what}): this is a bug in xvectors; please report it with the lines above"
    return (
        f"internal error ({what}): this is a bug in xvectors; please report it with the file {path}, and check first "
        "what that file says about your own files"
    )


def _write_report(error: BaseException) -> str:
    lines = [
        f"command   {shlex.join(sys.argv)}",
        f"time      {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        f"platform  {platform.platform()}, Python {platform.python_version()}",
        *(f"package   {name} {_version(name)}" for name in PACKAGES),
        "",
        *traceback.format_exception(error),
    ]
    # mkstemp: only the owner can read it, and the folder for temporary files exists everywhere
    descriptor, path = tempfile.mkstemp(prefix="xvectors-crash-", suffix=".txt", text=True)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("\n".join(lines))
    return path


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
