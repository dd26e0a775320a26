"""Running a command in this process. In: its arguments. Out: what it printed, its exit status checked."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import NamedTuple
from unittest import mock

import pytest

from xvectors.cli import main


class Printed(NamedTuple):
    stdout: str
    stderr: str


def run(*arguments: object, status: int = 0) -> Printed:
    stdout, stderr = io.StringIO(), io.StringIO()
    logging.getLogger().handlers.clear()  # each command sets up its own
    with (
        mock.patch.object(sys, "argv", ["xvectors", *map(str, arguments)]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert (ended.value.code or 0) == status, stdout.getvalue() + stderr.getvalue()
    return Printed(stdout.getvalue(), stderr.getvalue())
