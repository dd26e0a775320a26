"""What a SpeakerEncoder is given, made ready to be embedded. In: paths, bytes, files, arrays, tensors. Out: mono
float32 samples at the system's rate, whole, or block by block where they are long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.audio import Channel, Samples
from xvectors.audio.segments import Detector, hear
from xvectors.audio.speech import LONGEST_WHOLE_S as LONGEST_WHOLE_S
from xvectors.audio.speech import LOUDEST
from xvectors.corpus import Manifest
from xvectors.corpus.packed import PackedStrings
from xvectors.encoder.engines import Engine
from xvectors.errors import AudioError, MissingExtraError, TooShortError

if TYPE_CHECKING:
    import torch

Recording: TypeAlias = "str | PathLike[str] | bytes | BinaryIO | NDArray[np.floating] | torch.Tensor"

BLOCK_S = 30.0
"""What is decoded at once of a long recording."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A recording in memory: its samples, how long it was before any trimming, and the seconds of speech in it, which
    are all where nobody looked for it."""

    samples: Samples
    duration_s: float
    speech_s: float


@dataclass(frozen=True, kw_only=True)
class Long:
    """A recording that is embedded in pieces: `blocks()` decodes it from its start."""

    name: str
    blocks: Callable[[], Iterator[Samples]]


def listed(recordings: object) -> list[Any]:
    """`recordings` as a list; a single one counts as a list of one. AudioError for what is neither."""
    if isinstance(recordings, np.ndarray) and recordings.dtype.kind in "OU" and recordings.ndim == 1:
        return list(recordings)  # names, not a waveform
    single = isinstance(recordings, str | PathLike | bytes | bytearray | memoryview | np.ndarray)
    if single or _is_tensor(recordings) or hasattr(recordings, "read"):
        return [recordings]
    if not isinstance(recordings, Iterable):
        raise AudioError(f"a {type(recordings).__name__} is no recording; give {KINDS}, or a list of these")
    return list(recordings)


KINDS = "a path, the bytes of a sound file, a binary file object, or a mono waveform as an array or tensor"


def name_of(recording: object, index: int) -> str:
    """What errors call the recording."""
    return fspath(recording) if isinstance(recording, str | PathLike) else f"recording {index}"


def opened(
    recording: Any,
    index: int,
    engine: Engine,
    rate_hz: int | None = None,
    channel: Channel | None = None,
) -> Whole | Long:
    """Any kind of recording, read. `rate_hz` is that of arrays and tensors, `channel` of files, by default the
    system's. Raises AudioError or a subclass."""
    name = name_of(recording, index)
    if isinstance(recording, str | PathLike):
        return from_file(recording, name, engine, channel=channel)
    if isinstance(recording, bytes | bytearray | memoryview):
        return from_file(bytes(recording), name, engine, channel=channel)
    if hasattr(recording, "read"):
        content = recording.read()
        if not isinstance(content, bytes):
            raise AudioError(f"{name}: the file object gives {type(content).__name__}; open it as binary, with 'rb'")
        return from_file(content, name, engine, channel=channel)
    if not isinstance(recording, np.ndarray) and not _is_tensor(recording):
        raise AudioError(f"{name}: a {type(recording).__name__} is no recording; give {KINDS}")
    return from_array(recording, name, engine, rate_hz)


def from_file(
    source: str | PathLike[str] | bytes,
    name: str,
    engine: Engine,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    channel: Channel | None = None,
) -> Whole | Long:
    """A sound file, or the segment of it from `start_s`, which lasts `duration_s` or to the end."""
    rate, channel = engine.sample_rate_hz, engine.channel if channel is None else channel
    most = round(LONGEST_WHOLE_S * rate)
    # one sample more tells a long recording, without a second opening for all the others
    wanted_s = (most + 1) / rate if duration_s is None else min(duration_s, (most + 1) / rate)
    try:
        samples, _ = audio.read(source, sample_rate_hz=rate, start_s=start_s, duration_s=wanted_s, channel=channel)
    except AudioError as error:
        raise _named(error, source, name) from error
    if len(samples) <= most:
        return _whole(samples, name, engine)

    def blocks() -> Iterator[Samples]:
        try:
            yield from audio.stream(
                source,
                sample_rate_hz=rate,
                start_s=start_s,
                duration_s=duration_s,
                channel=channel,
                block_s=BLOCK_S,
            )
        except AudioError as error:
            raise _named(error, source, name) from error

    return Long(name=name, blocks=blocks)


def from_array(recording: Any, name: str, engine: Engine, rate_hz: int | None) -> Whole | Long:
    """A waveform [samples] of floats in [-1, 1] at `rate_hz`, the system's by default."""
    array = check_waveform(recording, name)
    rate, own_hz = engine.sample_rate_hz, engine.sample_rate_hz if rate_hz is None else rate_hz
    if own_hz <= 0:
        raise AudioError(f"sample_rate_hz is {own_hz}; it must be positive")
    if len(array) <= LONGEST_WHOLE_S * own_hz:
        samples = audio.resample(array.astype(np.float32, copy=False), own_hz, rate)
        return _whole(samples, name, engine)

    def blocks() -> Iterator[Samples]:
        resampler, size = audio.Resampler(own_hz, rate), round(BLOCK_S * own_hz)
        for first in range(0, len(array), size):
            block = array[first : first + size].astype(np.float32, copy=False)
            yield resampler.feed(block, last=first + size >= len(array))

    return Long(name=name, blocks=blocks)


def check_waveform(recording: Any, name: str) -> NDArray[np.floating]:
    """The array of a mono waveform; AudioError for another rank or type, which says what to do."""
    array = recording.detach().cpu().numpy() if _is_tensor(recording) else np.asarray(recording)
    if array.ndim == 1 and np.issubdtype(array.dtype, np.floating):
        return array
    remedy = "divide integers by their full scale"
    if array.ndim > 1:
        remedy = "mix its channels, as in samples.mean(axis=1) for [samples, channels], or give a list of waveforms"
    raise AudioError(
        f"{name}: a waveform must be one-dimensional floats in [-1, 1], not {array.dtype} {list(array.shape)}; {remedy}"
    )


def blocks_of(recording: Whole | Long) -> Iterator[Samples]:
    """Its samples, block by block."""
    return iter([recording.samples]) if isinstance(recording, Whole) else recording.blocks()


def pieces(blocks: Iterable[Samples], longest: int, needed: int) -> Iterator[Samples]:
    """Samples that come in blocks, in pieces of `longest`.

    The last is shorter, or longer by less than `needed`: none is shorter than `needed` unless all there is is.
    """
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= longest + needed:
            yield rest[:longest]
            rest = rest[longest:]
    if len(rest):
        yield rest


def separate(recordings: list[Any]) -> tuple[list[Any], list[Channel | None]]:
    """Each channel of each recording as a recording of its own, and which it is; None of a waveform."""
    items, channels = list[Any](), list[Channel | None]()
    for recording in recordings:
        if hasattr(recording, "read"):
            recording = recording.read()
        if not isinstance(recording, str | PathLike | bytes):
            items.append(recording)
            channels.append(None)
            continue
        count = audio.probe(recording).num_channels
        items += [recording] * count
        channels += range(count)
    return items, channels


def separate_rows(manifest: Manifest) -> tuple[Manifest, list[Channel]]:
    """The manifest with a row for each channel, whose id ends in the channel's number, and the channels.

    A recording that cannot be read stays one row. Ids of recordings with one channel stay as they are.
    """
    rows, channels, ids = list[int](), list[Channel](), list[str]()
    for row in range(len(manifest)):
        try:
            count = audio.probe(manifest.full_path(row)).num_channels
        except (AudioError, MissingExtraError):
            count = 1  # embedding it says what is wrong
        rows += [row] * count
        channels += range(count)
        ids += [manifest.id[row]] if count == 1 else [f"{manifest.id[row]}:{channel}" for channel in range(count)]
    return replace(manifest.take(rows), id=PackedStrings.from_strings(ids)), channels


def check_finite(samples: Samples, name: str) -> None:
    """AudioError where samples are no sound."""
    if len(samples) and not (samples.max() <= LOUDEST and samples.min() >= -LOUDEST):
        raise AudioError(f"{name}: samples that are NaN, infinite or absurdly large; convert it again")


def silent(name: str) -> AudioError:
    return AudioError(f"{name}: only zeros; there is no voice in it")


def too_short(name: str, num_samples: int, engine: Engine, what: str = "audio") -> TooShortError:
    rate = engine.sample_rate_hz
    return TooShortError(
        f"{name}: {num_samples / rate:.3f} s of {what} are less than the {engine.samples_needed / rate:.3f} s that the "
        "network looks at around every frame; give more"
    )


def ready(recording: Whole | Long, name: str, engine: Engine, detector: Detector | None) -> Whole | Long:
    """The recording with what is to be embedded of it alone; one that comes in pieces is left to whoever takes them.

    Raises TooShortError where too little is left.
    """
    if isinstance(recording, Long):
        return recording
    heard, speech_s = hear(recording.samples, engine.sample_rate_hz, detector)
    if len(heard) < engine.samples_needed:
        what = "sound" if detector is None else "speech"
        raise too_short(name, len(heard), engine, f"{what} in {recording.duration_s:.3f} s of audio")
    return Whole(samples=heard, duration_s=recording.duration_s, speech_s=speech_s)


def _whole(samples: Samples, name: str, engine: Engine) -> Whole:
    if len(samples) < engine.samples_needed:
        raise too_short(name, len(samples), engine)
    check_finite(samples, name)
    if not samples.any():
        raise silent(name)
    duration_s = len(samples) / engine.sample_rate_hz
    return Whole(samples=samples, duration_s=duration_s, speech_s=duration_s)


def _named(error: AudioError, source: str | PathLike[str] | bytes, name: str) -> AudioError:
    """The error with the recording's name where audio.py could not know it."""
    return type(error)(str(error).replace("<bytes>", name, 1)) if isinstance(source, bytes) else error


def _is_tensor(recording: object) -> TypeGuard[torch.Tensor]:
    """Whether it is a tensor, asked without importing torch."""
    return hasattr(recording, "detach") and hasattr(recording, "cpu")
