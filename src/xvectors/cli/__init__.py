"""The command line: parsing and printing only. Everything heavy is imported inside the command that needs it.

shared.py holds the program and its common options; every other module registers the commands of one kind.
"""

from __future__ import annotations

import logging
import sys

# each registers its commands, in this order within a group of the help
# isort: off
from xvectors.cli import using  # noqa: F401
from xvectors.cli import gallery  # noqa: F401
from xvectors.cli import training  # noqa: F401
from xvectors.cli import evaluation  # noqa: F401
from xvectors.cli import exporting  # noqa: F401

# isort: on
from xvectors.cli.shared import ERROR_STATUS, PANELS, app
from xvectors.errors import XVectorsError

__all__ = ["app", "main"]

app.registered_commands.sort(key=lambda command: PANELS.index(str(command.rich_help_panel)))


def main() -> None:
    """Run the command line; a user's mistake is one line and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        app(prog_name="xvectors")
    except XVectorsError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(ERROR_STATUS)
