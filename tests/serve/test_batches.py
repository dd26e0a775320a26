"""The batcher gives each caller the rows of its own recordings, however they are gathered."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from xvectors.errors import ShapeError
from xvectors.serve.batching import Batcher


def lengths(waveforms: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([[len(waveform)] for waveform in waveforms], dtype=np.float32)


def test_concurrent_calls_share_batches_and_get_their_own_rows() -> None:
    sizes, begun, go_on = list[int](), threading.Event(), threading.Event()

    def embed(waveforms: Sequence[np.ndarray]) -> np.ndarray:
        begun.set()
        assert go_on.wait(30)
        return lengths(waveforms)

    batcher = Batcher(embed, max_recordings=8, wait_s=0.0, observe=sizes.append)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(batcher.embed, [np.zeros(100, np.float32)])
        assert begun.wait(30)
        rest = [pool.submit(batcher.embed, [np.zeros(n, np.float32), np.zeros(n + 1, np.float32)]) for n in range(10)]
        while batcher.num_waiting < 10:  # all of them wait behind the first batch
            pass
        go_on.set()
        assert first.result().tolist() == [[100]]
        assert [each.result().tolist() for each in rest] == [[[n], [n + 1]] for n in range(10)]
    batcher.close()
    assert sizes == [1, 8, 8, 4]


def test_a_recording_that_fails_fails_alone() -> None:
    def embed(waveforms: Sequence[np.ndarray]) -> np.ndarray:
        if any(len(waveform) == 3 for waveform in waveforms):
            raise ShapeError("three")
        return lengths(waveforms)

    batcher = Batcher(embed, wait_s=0.2)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(batcher.embed, [np.zeros(n, np.float32)]) for n in range(1, 5)]
        for number, each in enumerate(asked, start=1):
            if number == 3:
                with pytest.raises(ShapeError, match="three"):
                    each.result()
            else:
                assert each.result().tolist() == [[number]]
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.embed([np.zeros(1, np.float32)])


def test_another_error_reaches_every_caller_and_ends_nothing() -> None:
    def embed(waveforms: Sequence[np.ndarray]) -> np.ndarray:
        if len(waveforms[0]) == 1:
            raise MemoryError
        return lengths(waveforms)

    batcher = Batcher(embed)
    with pytest.raises(MemoryError):
        batcher.embed([np.zeros(1, np.float32)])
    assert batcher.embed([np.zeros(2, np.float32)]).tolist() == [[2]]
    batcher.close()
