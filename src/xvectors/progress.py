"""Show the progress of long work: a bar with an ETA on a terminal, or lines of text when piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

SECONDS_BETWEEN_PLAIN_LINES = 15.0


class Progress(Protocol):
    """Interface for long work: `advance(n)` after each piece; `note(text)` replaces the text after the bar."""

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


class Silent:
    """A progress that shows nothing."""

    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Plain:
    """One line every SECONDS_BETWEEN_PLAIN_LINES seconds, for logs and pipes."""

    def __init__(self, description: str, total: int, stream: TextIO, done: int) -> None:
        self._description, self._total, self._stream = description, total, stream
        self._done, self._first, self._note = done, done, ""
        self._started = self._printed = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._printed >= SECONDS_BETWEEN_PLAIN_LINES and self._done < self._total:
            self._printed = now
            rate = (self._done - self._first) / (now - self._started)
            eta_s = (self._total - self._done) / rate if rate > 0 else float("nan")
            note = f" | {self._note}" if self._note else ""
            line = f"{self._description}: {self._done}/{self._total} | {_clock(eta_s)} left{note}"
            self._stream.write(line + "\n")
            self._stream.flush()

    def note(self, text: str) -> None:
        self._note = text


class _Bar:
    """A rich progress bar."""

    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, n: int = 1) -> None:
        self._bar.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)


@contextmanager
def progress_bar(
    description: str, total: int, *, enabled: bool = True, done: int = 0, stream: TextIO | None = None
) -> Iterator[Progress]:
    """Show the progress of `total` pieces of work, `done` of which are finished already.

    A terminal shows a bar with the time left; elsewhere a line is printed every 15 seconds. Both go to standard error,
    so that standard output has only results. `enabled=False` shows nothing.
    """
    stream = stream or sys.stderr
    if not enabled or total <= 0:
        yield Silent()
    elif stream.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import (
            Progress as RichProgress,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with RichProgress(*columns, console=Console(file=stream), transient=True) as bar:
            yield _Bar(bar, bar.add_task(description, total=total, completed=done, note=""))
    else:
        yield _Plain(description, total, stream, done)


def _clock(seconds: float) -> str:
    if seconds != seconds:
        return "?"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"
