"""Ctrl-C and SIGTERM during a run: the first one is noted, so that the current step can end and be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """Holds the signal that asked the run to end, or None."""

    received: signal.Signals | None = None


@contextmanager
def noted_signals() -> Iterator[Signals]:
    """Note the first SIGINT or SIGTERM and restore the previous handlers, so that a second one acts at once.

    Python allows signal handlers in the main thread only; in other threads nothing is noted.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        signals.received = signal.Signals(number)
        restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield signals
    finally:
        restore()
