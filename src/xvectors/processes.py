"""Cores for this process, and worker processes that do not run the main script again."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_one_at_a_time = threading.RLock()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def without_main_script() -> Iterator[None]:
    """Keep worker processes started in this context from importing the main script.

    If processes are spawned (Windows, macOS) or come from a fork server (Linux from Python 3.14), multiprocessing runs
    the main script again in each of them, which fails unless the script is guarded by `if __name__ == "__main__":`. Our
    workers need only this package, so multiprocessing sees a main module without a file, as in an interactive session.

    Objects defined in the script itself cannot be sent to such workers.
    """
    with _one_at_a_time:
        script = sys.modules["__main__"]
        stand_in = ModuleType("__main__")
        stand_in.__dict__.update({key: value for key, value in vars(script).items() if key not in _LOCATION})
        sys.modules["__main__"] = stand_in
        try:
            yield
        finally:
            sys.modules["__main__"] = script


_LOCATION = ("__file__", "__spec__")
"""Attributes by which multiprocessing finds the script."""
