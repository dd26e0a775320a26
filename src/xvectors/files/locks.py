"""Locks on files that only one process may write at a time."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from xvectors.errors import BusyError, StorageError
from xvectors.files.writing import why_unwritable

POLL_S = 0.05

_held: dict[Path, int] = {}
"""The locks of this process, and the thread that holds each."""
_held_changes = threading.Lock()


@contextmanager
def exclusive(path: Path | str, *, of: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for the duration of the block. The lock is reentrant within a thread.

    The operating system releases it when the process ends, even if killed.

    Parameters
    ----------
    path
        The lock file. It names the holder and is removed at the end, with the folders created for it if they are
        empty.
    of
        Name for error messages: a system directory, an output file.
    wait_s
        Seconds to wait for another holder.

    Raises
    ------
    BusyError
        Another process or thread holds the lock.
    StorageError
        The lock file cannot be created.
    """
    path = Path(path).absolute()
    me = threading.get_ident()
    with _held_changes:
        is_mine = _held.get(path) == me
    if is_mine:
        yield
        return
    made = [folder for folder in path.parents if not folder.exists()]
    descriptor = -1
    try:
        descriptor = _awaited(path, of, wait_s)
        yield
    finally:
        if descriptor >= 0:
            with suppress(OSError):  # while it is locked: afterwards another process may own it
                path.unlink()
            os.close(descriptor)
        for folder in made:
            with suppress(OSError):  # folders that are not empty stay
                folder.rmdir()
        if descriptor >= 0:
            with _held_changes:
                del _held[path]


def _awaited(path: Path, of: str, wait_s: float) -> int:
    """Take the lock for this thread and return its descriptor; wait up to `wait_s` for another holder."""
    until = time.monotonic() + wait_s
    while True:
        try:
            return _taken(path, of)
        except BusyError:
            if time.monotonic() >= until:
                raise
            time.sleep(POLL_S)


def _taken(path: Path, of: str) -> int:
    with _held_changes:
        if path in _held:
            raise BusyError(f"{of}: this process is already writing it; wait until it ends, or choose another")
        _held[path] = threading.get_ident()
    try:
        return _locked(path, of)
    except BaseException:
        with _held_changes:
            del _held[path]
        raise


def _locked(path: Path, of: str) -> int:
    """Lock the file, write the name of the holder into it, and return its descriptor."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            reason = why_unwritable(path) or error.strerror or str(error)
            raise StorageError(f"{of}: cannot be written: {reason}") from error
        if not _lock(descriptor):
            holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip() or "another process"
            os.close(descriptor)
            raise BusyError(f"{of}: {holder} is writing it; wait until it ends, or choose another")
        # the previous holder may have removed the file that was opened here
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
    try:
        os.write(descriptor, f"process {os.getpid()} on {platform.node()} ({command}, since {now})".encode())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        raise StorageError(f"{of}: cannot be written: {error.strerror or error}") from error
    return descriptor


def _lock(descriptor: int) -> bool:
    """Lock an open file without waiting.

    Child processes do not inherit record locks, so a loader process that outlives its killed parent does not block the
    next run.
    """
    if sys.platform == "win32":
        import msvcrt

        try:
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # after the text, which stays readable
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
