"""Embed the recordings of concurrent requests in batches."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.errors import XVectorsError

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Work:
    waveforms: Sequence[Samples]
    rows: Future[Rows] = field(default_factory=Future)


class Batcher:
    """Gathers recordings of several threads, and embeds them in one call.

    A batch begins with the first recording that waits, and ends when `max_recordings` have come or `wait_s` have
    passed. While one batch is embedded, the next one gathers, so that batches grow with the load.

    Parameters
    ----------
    embed
        Embeds waveforms: float32 [n, D].
    max_recordings
        Number of recordings from which a batch does not wait for further ones.
    wait_s
        Longest time in seconds to wait.
    observe
        Told the number of recordings of each batch.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[Samples]], Rows],
        *,
        max_recordings: int = 16,
        wait_s: float = 0.002,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._embed, self._max_recordings, self._wait_s, self._observe = embed, max_recordings, wait_s, observe
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="xvectors-batches", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Number of calls that wait for a batch."""
        return self._queue.qsize()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def embed(self, waveforms: Sequence[Samples]) -> Rows:
        """Embed waveforms within the next batch: float32 [n, D]. Raises what the embedding of these raises."""
        work = _Work(waveforms)
        with self._lock:
            if self._closed:
                raise RuntimeError("this Batcher is closed")
            self._queue.put(work)
        return work.rows.result()

    def close(self) -> None:
        """Embed what waits, and end the thread."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            batch, is_last = self._gather()
            if batch:
                self._observe(sum(len(work.waveforms) for work in batch))
                self._finish(batch)

    def _gather(self) -> tuple[list[_Work], bool]:
        """Return the next batch, and whether it is the last one."""
        first = self._queue.get()
        if first is None:
            return [], True
        batch, count = [first], len(first.waveforms)
        deadline = time.monotonic() + self._wait_s
        while count < self._max_recordings:
            try:
                work = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if work is None:
                return batch, True
            batch.append(work)
            count += len(work.waveforms)
        return batch, False

    def _finish(self, batch: list[_Work]) -> None:
        waveforms = [waveform for work in batch for waveform in work.waveforms]
        try:
            rows = self._embed(waveforms)
        except XVectorsError as error:
            if len(batch) == 1:
                batch[0].rows.set_exception(error)
                return
            for work in batch:  # the error is of one of them
                self._finish([work])
            return
        except BaseException as error:  # noqa: BLE001 - the callers wait for it, and raise it
            for work in batch:
                work.rows.set_exception(error)
            return
        at = 0
        for work in batch:
            work.rows.set_result(rows[at : at + len(work.waveforms)])
            at += len(work.waveforms)
