"""Find the speech of a recording, cut it into windows, and embed them, in memory that does not grow with the audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio import Samples
from xvectors.audio.activity import FRAMES_PER_S, PIECE_S, Frames, mask_of, measure, runs
from xvectors.audio.recording import OpenRecording
from xvectors.audio.segments import Detector, find_spoken, without_zeros
from xvectors.audio.speech import check_finite
from xvectors.encoder.engines import Engine
from xvectors.errors import ConfigError, ShapeError
from xvectors.text import short_repr

Regions = NDArray[np.float64]

WINDOW_S, HOP_S = 1.5, 0.5
READ_S = 60.0
"""Windows within this many seconds are read together."""
DETECTOR_S = 300.0
"""Seconds that a VAD other than "energy" is given at once."""
BATCH_SIZE = 32
EDGE_S = 0.05
"""What the energy VAD finds is widened by so much on either side: quiet beginnings and ends of words."""
CLOSED_PAUSE_S = 0.4
"""Shorter pauses belong to the speech around them."""


@short_repr("start_s", "seconds", "region", "embeddings")
@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechWindows:
    """The windows of speech of a recording, in order of time.

    Attributes
    ----------
    regions : [k, 2], starts and ends of stretches of speech in seconds
    start_s, end_s : [n] of each window
    region : [n] the region that each window lies in
    embeddings : float32 [n, dim]
    """

    regions: Regions
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    region: NDArray[np.int64]
    embeddings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def center_s(self) -> NDArray[np.float64]:
        return 0.5 * (self.start_s + self.end_s)

    @property
    def spans(self) -> Regions:
        """[n, 2], the stretch that each window stands for; those of a region fill it."""
        low, high = self.regions[self.region, 0].copy(), self.regions[self.region, 1].copy()
        middle = 0.5 * (self.center_s[1:] + self.center_s[:-1])
        same = self.region[1:] == self.region[:-1]
        low[1:][same] = middle[same]
        high[:-1][same] = middle[same]
        return np.stack([low, high], axis=1)

    @property
    def seconds(self) -> NDArray[np.float64]:
        spans = self.spans
        return np.asarray(spans[:, 1] - spans[:, 0], dtype=np.float64)


def find_speech(sound: OpenRecording, detector: Detector | None) -> Regions:
    """Return the stretches of speech [k, 2] of a recording in seconds, without short pauses.

    None as the VAD takes everything for speech. "energy" hears the levels of the whole recording; other VADs hear five
    minutes at a time. Raises AudioError for samples that are not finite and for what cannot be read.
    """
    rate = sound.sample_rate_hz
    if detector is None or detector is find_spoken:
        measured, num_samples = list[Frames](), 0
        for piece in sound.blocks(PIECE_S):
            check_finite(piece, sound.name)
            num_samples += len(piece)
            measured.append(measure(piece, rate) if detector else Frames.joined(()))
        if detector is None:
            return np.array([[0.0, num_samples / rate]]) if num_samples else np.empty((0, 2))
        regions = runs(mask_of(Frames.joined(measured))) / FRAMES_PER_S + np.array([-EDGE_S, EDGE_S])
        return joined_regions(np.clip(regions, 0.0, num_samples / rate), CLOSED_PAUSE_S)
    found, first = [np.empty((0, 2))], 0
    for piece in sound.blocks(DETECTOR_S):
        check_finite(piece, sound.name)
        found.append((detector(piece, rate) + first) / rate)
        first += len(piece)
    return joined_regions(np.concatenate(found), CLOSED_PAUSE_S)


def joined_regions(regions: ArrayLike, gap_s: float = 0.0) -> Regions:
    """Sort regions [k, 2] and join those at most `gap_s` apart. Raises ShapeError for others than starts and ends."""
    rows = np.asarray(regions, dtype=np.float64).reshape(-1, 2) if np.size(regions) == 0 else np.asarray(regions)
    if rows.ndim != 2 or rows.shape[1] != 2 or not np.isfinite(rows).all() or (rows[:, 0] > rows[:, 1]).any():
        raise ShapeError(
            f"regions of speech have the shape {list(rows.shape)}: give starts and ends in seconds, [k, 2]"
        )
    joined = list[list[float]]()
    for start, end in rows[np.argsort(rows[:, 0], kind="stable")].tolist():
        if joined and start <= joined[-1][1] + gap_s:
            joined[-1][1] = max(joined[-1][1], end)
        elif end > start:
            joined.append([start, end])
    return np.array(joined, dtype=np.float64).reshape(-1, 2)


def cut_windows(
    regions: Regions, window_s: float = WINDOW_S, hop_s: float = HOP_S
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return starts [n], ends [n] and regions [n] of windows that start every hop and end with their region.

    A region shorter than a window is one window. Raises ConfigError for a hop that is not above 0 and at most a window.
    """
    if not 0 < hop_s <= window_s < np.inf:
        raise ConfigError(f"window_s is {window_s} and hop_s {hop_s}: give a hop above 0 and at most a window")
    starts, ends, numbers = list[float](), list[float](), list[int]()
    for number, (start, end) in enumerate(regions.tolist()):
        last = max(start, end - window_s)
        count = int(np.floor((last - start) / hop_s + 1e-6)) + 1
        cuts = [start + hop_s * at for at in range(count)]
        if last - cuts[-1] > 0.02:  # otherwise the last window ends with the region, nearly
            cuts.append(last)
        else:
            cuts[-1] = last
        starts += cuts
        ends += [min(cut + window_s, end) for cut in cuts]
        numbers += [number] * len(cuts)
    return np.array(starts), np.array(ends), np.array(numbers, dtype=np.int64)


def embed_windows(
    sound: OpenRecording, regions: Regions, engine: Engine, *, window_s: float = WINDOW_S, hop_s: float = HOP_S
) -> SpeechWindows:
    """Embed the windows of regions of speech. Windows with less sound than the network needs are left out.

    Raises AudioError where the recording cannot be read, ConfigError as `cut_windows` does.
    """
    starts, ends, numbers = cut_windows(regions, window_s, hop_s)
    kept, embeddings = list[int](), [np.empty((0, engine.embedding_dim), dtype=np.float32)]
    waiting, waiting_at = list[Samples](), list[int]()

    def flush() -> None:
        if waiting:
            vectors = engine.embed(waiting)
            finite = np.isfinite(vectors).all(axis=1)
            embeddings.append(vectors[finite])
            kept.extend(np.array(waiting_at)[finite].tolist())
            waiting.clear()
            waiting_at.clear()

    for at, samples in _cut(sound, starts, ends, engine.sample_rate_hz):
        heard = without_zeros(samples, engine.sample_rate_hz)
        if len(heard) >= engine.samples_needed and heard.any():
            waiting.append(heard)
            waiting_at.append(at)
        if len(waiting) == BATCH_SIZE:
            flush()
    flush()
    rows = np.array(kept, dtype=np.int64)
    return SpeechWindows(
        regions=regions,
        start_s=starts[rows],
        end_s=ends[rows],
        region=numbers[rows],
        embeddings=np.concatenate(embeddings),
    )


def _cut(
    sound: OpenRecording, starts: NDArray[np.float64], ends: NDArray[np.float64], rate: int
) -> Iterator[tuple[int, Samples]]:
    """Yield the number and the samples of each window, in order of time; the recording is read by the minute."""
    at = 0
    while at < len(starts):
        until = int(np.searchsorted(ends, starts[at] + READ_S, side="right"))
        until = max(until, at + 1)
        base = float(starts[at])
        read = sound.read(rate, base, float(ends[until - 1]) - base)
        for number in range(at, until):
            first, last = (round((time - base) * rate) for time in (starts[number], ends[number]))
            yield number, read[first:last]
        at = until
