"""Ctrl-C and SIGTERM during a run: the first is noted, so that the step under way can end and be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """`received` is the signal that asked the run to end, if one did."""

    received: signal.Signals | None = None


@contextmanager
def answered_signals() -> Iterator[Signals]:
    """Note the first SIGINT or SIGTERM and put the previous handlers back, so that a second one ends at once.

    Outside the main thread, where Python allows no handlers, nothing is noted.
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
