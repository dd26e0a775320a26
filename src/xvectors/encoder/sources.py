"""Prepare what `SpeakerEncoder` is given: mono float32 samples at the system's rate, in blocks if they are long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.audio import Channel, Samples
from xvectors.audio.condition import measure_condition
from xvectors.audio.recording import FileRecording, OpenRecording, open_recording
from xvectors.audio.segments import Detector, hear
from xvectors.audio.speech import MAX_WHOLE_S as MAX_WHOLE_S
from xvectors.audio.speech import check_finite
from xvectors.corpus import Manifest
from xvectors.corpus.packed import PackedStrings
from xvectors.encoder.engines import Engine
from xvectors.errors import AudioError, MissingExtraError, TooShortError

BLOCK_S = 30.0
"""Seconds of a long recording that are decoded at once."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A recording in memory.

    `duration_s` is its duration before trimming, and `speech_s` the seconds of speech in it, all of it if no VAD was
    run. `condition` are the measures [6] of `samples`; None if they were not asked for.
    """

    samples: Samples
    duration_s: float
    speech_s: float
    condition: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Long:
    """A recording that is embedded piece by piece; `blocks()` decodes it from its start."""

    name: str
    blocks: Callable[[], Iterator[Samples]]


def opened(
    recording: Any, index: int, engine: Engine, rate_hz: int | None = None, channel: Channel | None = None
) -> Whole | Long:
    """Read a recording of any kind.

    `rate_hz` is the sample rate of arrays and tensors, `channel` that of files; both are the system's by default.
    Raises AudioError or a subclass.
    """
    rate_hz = engine.sample_rate_hz if rate_hz is None else rate_hz
    channel = engine.channel if channel is None else channel
    found = open_recording(recording, name_of(recording, index), waveform_rate_hz=rate_hz, channel=channel)
    return read_segment(found, engine)


def name_of(recording: object, index: int) -> str:
    """Return the recording's name for error messages."""
    return fspath(recording) if isinstance(recording, str | PathLike) else f"recording {index}"


def read_segment(
    recording: OpenRecording, engine: Engine, *, start_s: float = 0.0, duration_s: float | None = None
) -> Whole | Long:
    """Read a recording, or the segment of it from `start_s` that lasts `duration_s` or to the end."""
    rate = engine.sample_rate_hz
    longest_whole = round(MAX_WHOLE_S * rate)
    # reading one sample more detects a long recording without opening every file twice
    wanted_s = (longest_whole + 1) / rate if duration_s is None else min(duration_s, (longest_whole + 1) / rate)
    samples = recording.read(rate, start_s, wanted_s)
    if len(samples) <= longest_whole:
        return _whole(samples, recording.name, engine)
    return Long(name=recording.name, blocks=lambda: recording.stream(rate, BLOCK_S, start_s, duration_s))


def read_row(
    manifest: Manifest, row: int, engine: Engine, channel: Channel | None, *, is_segment: bool
) -> Whole | Long:
    """Read a recording of a corpus, or the segment that its row states if `is_segment`, `manifest.has_segments`.

    `channel` is the system's by default. Raises AudioError for a faulty row or recording.
    """
    path = manifest.full_path(row)
    if row in manifest.faults:
        raise AudioError(f"{path}: {manifest.faults[row]}; correct the table")
    duration_s = float(manifest.duration_s[row]) if is_segment else np.nan
    return read_segment(
        FileRecording(path, str(path), engine.channel if channel is None else channel),
        engine,
        start_s=float(manifest.start_s[row]),
        duration_s=None if np.isnan(duration_s) else duration_s,
    )


def blocks_of(recording: Whole | Long) -> Iterator[Samples]:
    """Iterate over the samples of a recording, block by block."""
    return iter([recording.samples]) if isinstance(recording, Whole) else recording.blocks()


def pieces(blocks: Iterable[Samples], longest: int, needed: int) -> Iterator[Samples]:
    """Cut samples that come in blocks into pieces of `longest` samples.

    The last piece may be shorter, or longer by less than `needed`, so that no piece is shorter than `needed` unless
    the whole recording is.
    """
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= longest + needed:
            yield rest[:longest]
            rest = rest[longest:]
    if len(rest):
        yield rest


def separate_rows(manifest: Manifest) -> tuple[Manifest, list[Channel]]:
    """Give each channel of each recording a row of its own; return the new manifest and the channel of each row.

    The ids of multichannel recordings get the channel's number as a suffix, as in `call:0`. A recording that cannot
    be read keeps its single row.
    """
    rows, channels, ids = list[int](), list[Channel](), list[str]()
    for row in range(len(manifest)):
        try:
            count = audio.probe(manifest.full_path(row)).num_channels
        except (AudioError, MissingExtraError):
            count = 1  # embedding reports what is wrong with it
        rows += [row] * count
        channels += range(count)
        ids += [manifest.id[row]] if count == 1 else [f"{manifest.id[row]}:{channel}" for channel in range(count)]
    return replace(manifest.take(rows), id=PackedStrings.from_strings(ids)), channels


def silent(name: str) -> AudioError:
    return AudioError(f"{name}: only zeros, so it holds no speech; give another recording")


def too_short(name: str, num_samples: int, engine: Engine, what: str = "audio") -> TooShortError:
    rate = engine.sample_rate_hz
    return TooShortError(
        f"{name}: {num_samples / rate:.3f} s of {what} are less than the {engine.samples_needed / rate:.3f} s that the "
        "network needs; give a longer recording"
    )


def ready(
    recording: Whole | Long, name: str, engine: Engine, detector: Detector | None, *, measured: bool = False
) -> Whole | Long:
    """Reduce a whole recording to the part that is embedded, and measure its condition if asked; return a long one as
    it is.

    Raises TooShortError if too little remains.
    """
    if isinstance(recording, Long):
        return recording
    heard, speech_s = hear(recording.samples, engine.sample_rate_hz, detector)
    if len(heard) < engine.samples_needed:
        what = "sound" if detector is None else "speech"
        raise too_short(name, len(heard), engine, f"{what} in {recording.duration_s:.3f} s of audio")
    condition = measure_condition(heard, engine.sample_rate_hz) if measured else None
    return Whole(samples=heard, duration_s=recording.duration_s, speech_s=speech_s, condition=condition)


def _whole(samples: Samples, name: str, engine: Engine) -> Whole:
    if len(samples) < engine.samples_needed:
        raise too_short(name, len(samples), engine)
    check_finite(samples, name)
    if not samples.any():
        raise silent(name)
    duration_s = len(samples) / engine.sample_rate_hz
    return Whole(samples=samples, duration_s=duration_s, speech_s=duration_s)
