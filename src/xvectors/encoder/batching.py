"""Read recordings ahead of the network, batch recordings of similar length, and embed them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.condition import mean_conditions, measure_condition, unknown_conditions
from xvectors.audio.segments import Detector, find_spoken, hear
from xvectors.audio.speech import check_finite
from xvectors.encoder import sources
from xvectors.encoder.engines import Engine
from xvectors.encoder.results import Embedded
from xvectors.encoder.sources import Long, Whole, pieces, silent, too_short
from xvectors.errors import AudioError, ConfigError, MissingExtraError
from xvectors.progress import progress_bar

READ_AHEAD = 64
"""Number of recordings that are decoded and then sorted by length into batches."""
MAX_SAMPLES_AHEAD = 8_000_000
"""Total samples of the recordings read ahead (32 MB), so that long recordings do not fill the memory."""
MAX_BATCH_SAMPLES = 5_000_000
"""Samples of a padded batch: five minutes at 16 kHz, about half a gigabyte in the default network."""
READERS = 2
"""Number of decoding threads; soundfile and soxr release the GIL while they work."""
MAX_WAITING = 4
"""Number of recordings that are decoded before the network asks for them."""

Read = Whole | Long | AudioError | MissingExtraError


def read_ahead(count: int, read: Callable[[int], Read]) -> Iterator[tuple[int, Read]]:
    """Yield `(i, read(i))` for i from 0 to `count` - 1, reading a few ahead in threads."""
    with ThreadPoolExecutor(READERS) as readers:
        waiting: deque[tuple[int, Future[Read]]] = deque()
        for index in range(count):
            waiting.append((index, readers.submit(read, index)))
            if len(waiting) == MAX_WAITING:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def groups(read: Iterable[tuple[int, Read]], batch_size: int) -> Iterator[dict[int, Read]]:
    """Group recordings for sorting by length: READ_AHEAD of them, or fewer long ones. A `Long` one ends its group."""
    max_size = max(READ_AHEAD, batch_size)
    group: dict[int, Read] = {}
    samples = 0
    for index, found in read:
        group[index] = found
        samples += len(found.samples) if isinstance(found, Whole) else 0
        if len(group) == max_size or samples > MAX_SAMPLES_AHEAD or isinstance(found, Long):
            yield group
            group, samples = {}, 0
    if group:
        yield group


def batches(indices: list[int], lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """Split `indices`, sorted by length, into batches limited in number and in padded length."""
    batch: list[int] = []
    for index, length in zip(indices, lengths, strict=True):
        if batch and (len(batch) == batch_size or (len(batch) + 1) * length > MAX_BATCH_SAMPLES):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def embed_all(
    engine: Engine,
    count: int,
    read: Callable[[int], Whole | Long],
    name: Callable[[int], str],
    detector: Detector | None,
    *,
    batch_size: int,
    progress: bool,
    stop_at_failure: bool,
    measured: bool = False,
) -> Embedded:
    """Embed the recordings `read(0)` to `read(count - 1)`; a failure is raised or listed in the result.

    Conditions are NaN unless they are `measured`.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    embeddings = np.zeros((count, engine.embedding_dim), dtype=np.float32)
    duration_s, speech_s, condition = np.zeros(count), np.zeros(count), unknown_conditions(count)
    failures: dict[int, str] = {}

    def attempt(index: int) -> Read:
        try:
            return read(index)
        except (AudioError, MissingExtraError) as error:
            return error

    def fail(index: int, error: AudioError | MissingExtraError) -> None:
        if stop_at_failure:
            raise error
        failures[index] = str(error)

    def store(members: Sequence[int], vectors: NDArray[np.float32]) -> None:
        embeddings[members] = vectors
        for index, vector in zip(members, vectors, strict=True):
            if not np.isfinite(vector).all():
                fail(index, AudioError(f"{name(index)}: its embedding is not finite; check its samples"))

    with progress_bar("embedding", count, enabled=progress) as shown:
        for group in groups(read_ahead(count, attempt), batch_size):
            waveforms = {}
            for index, found in group.items():
                if isinstance(found, Whole):
                    waveforms[index] = found.samples
                    duration_s[index], speech_s[index] = found.duration_s, found.speech_s
                    if found.condition is not None:
                        condition[index] = found.condition
                elif isinstance(found, Long):
                    try:
                        vector, duration_s[index], speech_s[index], condition[index] = embed_long(
                            engine, found, detector, measured=measured
                        )
                    except AudioError as error:
                        fail(index, error)
                    else:
                        store([index], vector[np.newaxis])
                else:
                    fail(index, found)
            by_length = sorted(waveforms, key=lambda index: len(waveforms[index]))
            for members in batches(by_length, [len(waveforms[index]) for index in by_length], batch_size):
                store(members, engine.embed([waveforms[index] for index in members]))
            shown.advance(len(group))
    rows = np.array([index for index in range(count) if index not in failures], dtype=np.int64)
    return Embedded(embeddings[rows], rows, sorted(failures.items()), duration_s[rows], speech_s[rows], condition[rows])


def embed_long(
    engine: Engine, recording: Long, detector: Detector | None, *, measured: bool = False
) -> tuple[NDArray[np.float32], float, float, NDArray[np.float32]]:
    """Embed a long recording piece by piece.

    Returns the mean embedding [dim], weighted by the samples embedded of each piece, the duration of the recording, the
    seconds of speech in it, and the mean of the pieces' conditions [6], weighted likewise; NaN unless `measured`.
    """
    rate, needed = engine.sample_rate_hz, engine.samples_needed
    total, weight, length, speech_s, has_sound = np.zeros(engine.embedding_dim), 0, 0, 0.0, False
    conditions, weights = list[NDArray[np.float32]](), list[int]()
    for piece in pieces(recording.blocks(), round(sources.MAX_WHOLE_S * rate), needed):
        length += len(piece)
        check_finite(piece, recording.name)
        heard, seconds = hear(piece, rate, detector)
        has_sound |= bool(piece.any())
        # a piece without speech does not count if others have some
        if len(heard) >= needed and seconds:
            total += len(heard) * engine.embed([heard])[0].astype(np.float64)
            weight += len(heard)
            speech_s += seconds
            if measured:
                conditions.append(measure_condition(heard, rate))
                weights.append(len(heard))
    if not has_sound:
        raise silent(recording.name)
    if not weight and detector is find_spoken:
        vector, _, _, condition = embed_long(engine, recording, None, measured=measured)
        return vector, length / rate, 0.0, condition
    if not weight:
        raise too_short(recording.name, 0, engine, f"speech in {length / rate:.0f} s of audio")
    condition = unknown_conditions(1)
    if measured:
        condition = mean_conditions(np.stack(conditions), weights, np.zeros(len(weights), dtype=np.int64), 1)
    return (total / weight).astype(np.float32), length / rate, speech_s, condition[0]
