"""Worker processes. In: a script's main module. Out: workers that start without running it again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_one_at_a_time = threading.RLock()


@contextmanager
def main_left_out() -> Iterator[None]:
    """Worker processes that are started within do not import the caller's script.

    Where processes are spawned (Windows, macOS; a fork server, Python's choice on Linux from 3.14 on), multiprocessing
    runs the main script again in each of them, which ends them at once unless the script stands below `if __name__ ==
    "__main__":`. What our workers need lives in this package, so multiprocessing is shown a main module without a file,
    such as that of an interactive session, for which it does nothing of the kind. Forked workers are as ever.

    Objects that a script itself defines cannot be sent to such workers.
    """
    with _one_at_a_time:
        script = sys.modules["__main__"]
        stand_in = ModuleType("__main__")
        stand_in.__dict__.update({key: value for key, value in vars(script).items() if key not in _WHERE_IT_LIES})
        sys.modules["__main__"] = stand_in
        try:
            yield
        finally:
            sys.modules["__main__"] = script


_WHERE_IT_LIES = ("__file__", "__spec__")
"""By what multiprocessing finds the script."""
