"""Damaged inputs, one after the other. In: a reader and the file that it reads. Out: what it should not have raised."""

from __future__ import annotations

import random
import signal
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mutations import mutate

from xvectors.errors import XVectorsError

LIMIT_S = 10
"""What one damaged input may take at most: hundreds of times what a whole one takes, on a slow and busy machine."""
LIMIT_BYTES = 2 << 30
"""What the process may grow by meanwhile."""


@dataclass
class Reader:
    """What reads a file: `read` is called for every damaged state of `path`; `beside` is removed before each."""

    name: str
    path: Path
    read: Callable[[], object]
    beside: Sequence[Path] = ()


@dataclass
class Outcome:
    """How many inputs were tried, how many of them were refused, and the faults: seed, error and where it came from."""

    reader: str
    tried: int = 0
    refused: int = 0
    faults: dict[str, list[int]] = field(default_factory=dict)


class TookTooLongError(BaseException):
    """Not an Exception, so that nothing on its way takes it for the file's fault."""


def fuzz(reader: Reader, *, inputs: int | None = None, seconds: float | None = None, first_seed: int = 0) -> Outcome:
    """Try so many inputs, or for so long. The number of an input is its seed: see `damaged`."""
    whole = reader.path.read_bytes()
    outcome = Outcome(reader.name)
    until = None if seconds is None else time.monotonic() + seconds
    seed = first_seed
    with limited_memory():
        reader.read()  # what is whole is read
        while (seed - first_seed < inputs) if inputs is not None else time.monotonic() < (until or 0):
            for path in reader.beside:
                path.unlink(missing_ok=True)
            reader.path.write_bytes(damaged(reader.name, whole, seed))
            outcome.tried += 1
            fault = _fault(reader, outcome)
            if fault:
                outcome.faults.setdefault(fault, []).append(seed)
            seed += 1
    for path in reader.beside:
        path.unlink(missing_ok=True)
    reader.path.write_bytes(whole)
    reader.read()
    return outcome


def damaged(name: str, whole: bytes, seed: int) -> bytes:
    return mutate(whole, random.Random(zlib.crc32(name.encode()) * 1_000_003 + seed), [whole])


@contextmanager
def limited_memory() -> Iterator[None]:
    """The process may grow by LIMIT_BYTES of address space, where the system can say so."""
    if sys.platform != "linux":
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _fault(reader: Reader, outcome: Outcome) -> str | None:
    """What is wrong with how a damaged file was read, in one line; None where it was read or refused."""
    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a file is odd may be warned of
            reader.read()
    except XVectorsError as error:
        outcome.refused += 1
        if isinstance(error.__cause__, MemoryError):
            return f"{reader.name}: more than {LIMIT_BYTES >> 20} MiB"
    except TookTooLongError:
        return f"{reader.name}: more than {LIMIT_S} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "xvectors" in frame.filename]
        at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{reader.name}: {type(error).__name__} at {at}: {str(error)[:100]!r}"
    return None


@contextmanager
def time_limit() -> Iterator[None]:
    """Raises TookTooLongError in the block after LIMIT_S, where the system has alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise TookTooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
