"""What the command line does about an unforeseen error. In: the exception. Out: a file to send with a report."""

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
"""EX_SOFTWARE of sysexits.h: the fault is the program's, not the user's."""
PACKAGES = ("xvectors", "torch", "numpy", "scipy", "typer")


def describe_crash(error: BaseException) -> str:
    """One sentence about the error, naming a file with the traceback; where none can be made, that is printed."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    try:
        path = _write_report(error)
    except OSError:
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(line, file=sys.stderr)
        return f"internal error ({what}), which is a fault of xvectors; please report it with the lines above"
    return (
        f"internal error ({what}), which is a fault of xvectors; please report it with the file {path}, after a look "
        "at what it says about your files"
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
    # readable by its owner only, and in a place that exists wherever the command runs
    descriptor, path = tempfile.mkstemp(prefix="xvectors-crash-", suffix=".txt", text=True)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("\n".join(lines))
    return path


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
