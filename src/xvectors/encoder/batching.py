"""Recordings read ahead and put into batches. In: what reads the i-th. Out: groups of them, batches of like length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from xvectors.encoder.sources import Long, Whole
from xvectors.errors import AudioError, MissingExtraError

READ_AHEAD = 64
"""Recordings decoded before they are sorted by length into batches."""
MOST_SAMPLES_AHEAD = 8_000_000
"""Of these together, 32 MB: so many long recordings do not wait in memory."""
MOST_SAMPLES_A_BATCH = 5_000_000
"""Five minutes at 16 kHz: about half a gigabyte in the default network."""
READERS = 2
"""Threads that decode; soundfile and soxr let go of the interpreter while they work."""
MOST_WAITING = 4
"""Recordings decoded, or being decoded, before the network asks for them."""

Read = Whole | Long | AudioError | MissingExtraError


def read_ahead(count: int, read: Callable[[int], Read]) -> Iterator[tuple[int, Read]]:
    """What `read` gives for 0, 1, ..., in this order, a few being read while the one before is worked on."""
    with ThreadPoolExecutor(READERS) as readers:
        waiting: deque[tuple[int, Future[Read]]] = deque()
        for index in range(count):
            waiting.append((index, readers.submit(read, index)))
            if len(waiting) == MOST_WAITING:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def groups(read: Iterable[tuple[int, Read]], batch_size: int) -> Iterator[dict[int, Read]]:
    """In groups to sort by length: READ_AHEAD recordings, or fewer long ones; one that comes in pieces ends its own."""
    most = max(READ_AHEAD, batch_size)
    group: dict[int, Read] = {}
    samples = 0
    for index, found in read:
        group[index] = found
        samples += len(found.samples) if isinstance(found, Whole) else 0
        if len(group) == most or samples > MOST_SAMPLES_AHEAD or isinstance(found, Long):
            yield group
            group, samples = {}, 0
    if group:
        yield group


def batches(indices: list[int], lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """`indices`, ascending in length, in batches that neither number nor padded length makes too large."""
    batch: list[int] = []
    for index, length in zip(indices, lengths, strict=True):
        if batch and (len(batch) == batch_size or (len(batch) + 1) * length > MOST_SAMPLES_A_BATCH):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
