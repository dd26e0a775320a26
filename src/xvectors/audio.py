"""Sound files to arrays and back: the one importer of soundfile, soxr and torchcodec.

In: paths, bytes or binary files of any format libsndfile reads (and, with the extra `media`, FFmpeg).
Out: float32 mono in [-1, 1) with its rate. libsndfile shortens damaged files without a word; here a file
that holds less sound than its header states is an error, whichever format hides it.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from xvectors.containers import check_end, needs_ffmpeg, with_size
from xvectors.errors import (
    AudioError,
    AudioFileError,
    EmptyFileError,
    MissingExtraError,
    MissingFileError,
    TruncatedFileError,
)
from xvectors.files import atomic_write

Samples: TypeAlias = NDArray[np.float32]
Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
Channel: TypeAlias = Literal["mix"] | int

# A lossy decoder's state depends on the packets before; a second of run-in makes it equal a whole decode's.
RUN_IN_S = {"OPUS": 1.0, "MPEG_LAYER_I": 1.0, "MPEG_LAYER_II": 1.0, "MPEG_LAYER_III": 1.0}
# Input frames read beyond both ends of a resampled segment, times the ratio of the rates where that is above
# one: more than soxr's HQ filter reaches, so that the segment's edges equal the whole file's.
RESAMPLING_MARGIN_FRAMES = 2048


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a header says. `num_frames` counts samples per channel; the names are libsndfile's."""

    sample_rate_hz: int
    num_channels: int
    num_frames: int
    format: str
    subtype: str

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.sample_rate_hz


def probe(source: Source) -> AudioInfo:
    """Read a header: rate, channels, length and encoding; of WAV, AIFF and Ogg also whether the end is there.

    Raises AudioFileError for a file that is missing, empty, truncated or no sound, MissingExtraError for one
    that needs the extra `media`.
    """
    with _opened(source) as sound:
        return sound.info


def read(
    source: Source,
    *,
    sample_rate_hz: int | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    channel: Channel = "mix",
) -> tuple[Samples, int]:
    """Read a recording, or a segment of it at the cost of the segment alone.

    Parameters
    ----------
    source
        A path, the bytes of a sound file, or a binary file object, which is read to its end.
    sample_rate_hz
        The rate wanted; soxr (HQ) resamples where the file has another. None keeps the file's.
    start_s, duration_s
        The segment: from frame round(start_s * rate), as many samples as round(duration_s * rate), fewer only
        where the file ends. At the file's own rate it equals the same slice of the whole exactly (MP3 and
        Opus: to 1e-6), resampled to 1e-3.
    channel
        "mix" averages the channels, a number picks one.

    Returns
    -------
    samples, sample_rate_hz
        float32 [samples], integers scaled to [-1, 1). What is not finite in the file is returned as it is.

    Raises AudioFileError for a file that is missing, empty, truncated or no sound, MissingExtraError for one
    that needs the extra `media`, AudioError for a segment, rate or channel that the recording does not have.
    """
    if sample_rate_hz is not None and sample_rate_hz <= 0:
        raise AudioError(f"sample_rate_hz is {sample_rate_hz}; it must be positive")
    with _opened(source) as sound:
        info = sound.info
        rate_hz = info.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        total = _resampled_length(info.num_frames, info.sample_rate_hz, rate_hz)
        first, count = segment(sound.name, total, rate_hz, start_s, duration_s)
        if rate_hz == info.sample_rate_hz:
            return _mono(sound.read(first, count), channel, sound.name), rate_hz
        # A block that starts on a multiple of `step` starts on a sample of the resampled grid too.
        divisor = math.gcd(info.sample_rate_hz, rate_hz)
        step, step_out = info.sample_rate_hz // divisor, rate_hz // divisor
        margin = math.ceil(RESAMPLING_MARGIN_FRAMES * max(1.0, step / step_out))
        begin = max(0, first * step // step_out - margin) // step
        end = min(info.num_frames, -((first + count) * -step // step_out) + margin)
        block = _mono(sound.read(begin * step, end - begin * step), channel, sound.name)
        skip = first - begin * step_out
        return resample(block, info.sample_rate_hz, rate_hz)[skip : skip + count], rate_hz


def blocks(
    source: Source,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    block_s: float = 30.0,
    channel: Channel | None = None,
) -> Iterator[Samples]:
    """Decode a recording or a segment piece by piece, so that hours fit into memory.

    Yields float32 [frames, channels] at the file's own rate; with a `channel`, as `read` takes it, [frames]. Raises as
    `read` does, also between two pieces.
    """
    with _opened(source) as sound:
        rate_hz = sound.info.sample_rate_hz
        first, count = segment(sound.name, sound.info.num_frames, rate_hz, start_s, duration_s)
        size = max(1, round(block_s * rate_hz))
        for offset in range(0, count, size):
            frames = sound.read(first + offset, min(size, count - offset))
            yield frames if channel is None else _mono(frames, channel, sound.name)


def stream(
    source: Source,
    *,
    sample_rate_hz: int,
    start_s: float = 0.0,
    duration_s: float | None = None,
    channel: Channel = "mix",
    block_s: float = 30.0,
) -> Iterator[Samples]:
    """What `read` gives of a recording or a segment, piece by piece, so that hours fit into memory.

    Yields float32 [samples] at `sample_rate_hz`. Joined they equal what `read` gives, resampled to 1e-3, but for the
    ends of a segment, where the filter does not see what lies outside. Raises as `read` does, also between two pieces.
    """
    with _opened(source) as sound:
        rate_hz = sound.info.sample_rate_hz
        first, count = segment(sound.name, sound.info.num_frames, rate_hz, start_s, duration_s)
        resampler, size = Resampler(rate_hz, sample_rate_hz), max(1, round(block_s * rate_hz))
        for offset in range(0, count, size):
            block = _mono(sound.read(first + offset, min(size, count - offset)), channel, sound.name)
            yield resampler.feed(block, last=offset + size >= count)


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Resample float32 [samples] (or [samples, channels]) with soxr's HQ band-limited filter.

    n samples become n * to_hz / from_hz, rounded. https://sourceforge.net/projects/soxr
    """
    if from_hz <= 0 or to_hz <= 0:
        raise AudioError(f"cannot resample from {from_hz} Hz to {to_hz} Hz; both rates must be positive")
    samples = np.asarray(samples, dtype=np.float32)
    if from_hz == to_hz or not len(samples):
        return samples
    return np.asarray(soxr.resample(samples, from_hz, to_hz, quality="HQ"), dtype=np.float32)


class Resampler:
    """`resample` for mono sound that comes chunk by chunk: its pieces, joined, are what `resample` gives, to 1e-3."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise AudioError(f"cannot resample from {from_hz} Hz to {to_hz} Hz; both rates must be positive")
        same = from_hz == to_hz
        self._stream = None if same else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """What float32 [samples] bring at the new rate; the filter holds some back until `last`."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)


def write(
    path: str | os.PathLike[str], samples: NDArray[np.floating], sample_rate_hz: int, subtype: str = "PCM_16"
) -> None:
    """Write [samples] or [samples, channels]; the suffix of `path` names the format. Atomic.

    Integer encodings clip what lies outside [-1, 1). Raises AudioError for an encoding that the format does
    not have and for samples that integers cannot hold, StorageError where nothing can be written.
    """
    path = Path(path)
    kind = {"OGA": "OGG", "OPUS": "OGG", "AIF": "AIFF"}.get(path.suffix[1:].upper(), path.suffix[1:].upper())
    if not soundfile.check_format(kind, subtype):
        known = soundfile.available_subtypes(kind) if kind in soundfile.available_formats() else {}
        offer = f"{kind} takes {', '.join(known)}" if known else "use a suffix such as .wav or .flac"
        raise AudioError(f"{path}: cannot be written as {subtype} {kind}; {offer}")
    if subtype not in {"FLOAT", "DOUBLE"} and not np.isfinite(samples).all():
        raise AudioError(f"{path}: NaN or infinite samples cannot be written as {subtype}; repair them or use FLOAT")
    # Encoded in memory first: libsndfile does not tell a full disk from success.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, sample_rate_hz, subtype=subtype, format=kind)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


class _Sound(Protocol):
    """An opened recording, whichever library decodes it."""

    name: str
    info: AudioInfo

    def read(self, first: int, count: int) -> Samples:
        """Decode exactly `count` frames from frame `first`: float32 [frames, channels]."""
        ...


class _LibsndfileSound:
    def __init__(self, file: soundfile.SoundFile, name: str) -> None:
        self.name = name
        self.info = AudioInfo(file.samplerate, file.channels, file.frames, file.format, file.subtype)
        self._file = file

    def read(self, first: int, count: int) -> Samples:
        try:
            # soundfile seeks after every read: adjoining segments need the run-in too, and in the same read.
            run_in = min(first, round(RUN_IN_S.get(self.info.subtype, 0.0) * self.info.sample_rate_hz))
            self._file.seek(first - run_in)
            frames = self._file.read(run_in + count, dtype="float32", always_2d=True)[run_in:]
        except soundfile.LibsndfileError as error:
            raise TruncatedFileError(
                f"{self.name}: cannot be decoded to its end ({error.error_string.rstrip('.')}); "
                "the file is truncated or damaged, replace it"
            ) from error
        if len(frames) < count:
            raise TruncatedFileError(
                f"{self.name}: truncated: its header states {self.info.num_frames} samples per channel, "
                f"{first + len(frames)} could be decoded; replace the file"
            )
        return np.asarray(frames, dtype=np.float32)


class _MediaSound:
    """AAC in MP4, WMA, WebM, ...: decoded by FFmpeg through torchcodec."""

    def __init__(self, source: bytes | str, name: str, *, states_length: bool) -> None:
        self.name = name
        try:
            from torchcodec.decoders import AudioDecoder
        except ImportError as error:
            raise MissingExtraError(
                f"{name}: needs FFmpeg to be read; pip install 'xvectors[media]', or convert the file to FLAC"
            ) from error
        except (RuntimeError, OSError) as error:
            raise MissingExtraError(
                f"{name}: needs FFmpeg to be read, and torchcodec does not load, mostly for want of FFmpeg's "
                "libraries; install FFmpeg, or convert the file to FLAC"
            ) from error
        try:
            self._decoder = AudioDecoder(source)
            header = self._decoder.metadata
            stated_s = header.duration_seconds_from_header if states_length else None
            if stated_s is not None:
                num_frames = round(stated_s * header.sample_rate)
            else:
                num_frames = self._decoder.get_all_samples().data.shape[1]
        except (RuntimeError, ValueError) as error:
            raise AudioFileError(f"{name}: FFmpeg finds no sound in it; check the file") from error
        self.info = AudioInfo(
            header.sample_rate,
            header.num_channels,
            num_frames,
            Path(name).suffix[1:].upper(),
            header.codec or "",
        )

    def read(self, first: int, count: int) -> Samples:
        rate_hz = self.info.sample_rate_hz
        try:
            decoded = self._decoder.get_samples_played_in_range(first / rate_hz, (first + count) / rate_hz)
        except (RuntimeError, ValueError) as error:
            raise TruncatedFileError(
                f"{self.name}: cannot be decoded to its end; the file is truncated or damaged, replace it"
            ) from error
        frames: Samples = decoded.data.numpy().T
        # Containers round their length to the codec's packets, so the last tenth of a second proves nothing.
        if len(frames) + rate_hz // 10 < count:
            raise TruncatedFileError(
                f"{self.name}: truncated: its header states {self.info.num_frames} samples per channel, "
                f"{first + len(frames)} could be decoded; replace the file"
            )
        return frames


@contextmanager
def _opened(source: Source) -> Iterator[_Sound]:
    with ExitStack() as stack:
        file, name, size = _binary(source, stack)
        if size == 0:
            raise EmptyFileError(f"{name}: the file is empty (0 bytes); replace it or take it out of the corpus")
        head = file.read(64)
        if needs_ffmpeg(head):
            file.seek(0)
            # Bare AAC and AMR streams state no length, and FFmpeg's guess from the first packets can be far off.
            states_length = not head.startswith((b"\xff", b"#!AMR"))
            content = file.read() if isinstance(file, io.BytesIO) else name
            yield _MediaSound(content, name, states_length=states_length)
            return
        unfinished = check_end(file, head, size, name)
        file.seek(0)
        if unfinished is not None:
            file = with_size(file, unfinished, size, big_endian=head[:4] in {b"RIFX", b"FORM"})
        try:
            opened = soundfile.SoundFile(file if isinstance(file, io.BytesIO) else file.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            raise AudioFileError(
                f"{name}: not a sound file that can be read ({error.error_string.rstrip('.')}); "
                "check the file, or convert it to WAV or FLAC"
            ) from error
        sound = stack.enter_context(opened)
        if sound.frames >= 1 << 62:
            raise AudioFileError(f"{name}: its header does not state its length; write it again, for example with sox")
        if sound.frames == 0:
            raise EmptyFileError(f"{name}: holds no samples; replace it or take it out of the corpus")
        yield _LibsndfileSound(sound, name)


def _binary(source: Source, stack: ExitStack) -> tuple[BinaryIO, str, int]:
    """Open `source`: a binary file at its start, what to call it, its size in bytes."""
    if isinstance(source, bytes):
        return io.BytesIO(source), "<bytes>", len(source)
    if not isinstance(source, str | os.PathLike):
        content = source.read()
        return io.BytesIO(content), str(getattr(source, "name", "<file object>")), len(content)
    name = os.fspath(source)
    try:
        status = os.stat(name)
        if stat.S_ISDIR(status.st_mode):
            raise AudioFileError(f"{name}: is a folder, not a recording")
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"{name}: is a pipe or device, not a file; write the sound to a file first")
        # Unbuffered: libsndfile goes on with the same descriptor.
        return stack.enter_context(open(name, "rb", buffering=0)), name, status.st_size
    except FileNotFoundError as error:
        if "://" in name:
            raise MissingFileError(f"{name}: is an address, not a file; download it and give the file") from error
        raise MissingFileError(f"{name}: no such file; check the path and the folder it is relative to") from error
    except AudioFileError:
        raise
    except (OSError, ValueError) as error:
        raise AudioFileError(f"{name!r}: cannot be opened ({error}); check its name and permissions") from error


def segment(name: str, total: int, rate_hz: int, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """First sample and count of a segment of `total` samples; AudioError where none can lie there."""
    if not (0.0 <= start_s < math.inf) or not (duration_s is None or 0.0 < duration_s < math.inf):
        raise AudioError(
            f"{name}: no segment can start at {start_s} s and last {duration_s} s; "
            "the start must not be negative, the duration must be positive"
        )
    first = round(start_s * rate_hz)
    if first >= total:
        raise AudioError(
            f"{name}: a segment starts at {start_s:g} s, the recording lasts {total / rate_hz:.3f} s; correct start_s"
        )
    count = total - first if duration_s is None else min(total - first, round(duration_s * rate_hz))
    return first, count


def _mono(frames: Samples, channel: Channel, name: str) -> Samples:
    """One channel, or the mean of all, of [frames, channels]."""
    num_channels = frames.shape[1]
    if channel == "mix":
        return frames[:, 0] if num_channels == 1 else frames.mean(axis=1, dtype=np.float32)
    if not 0 <= channel < num_channels:
        raise AudioError(
            f'{name}: has no channel {channel}, it has {num_channels} (numbered from 0); give another number or "mix"'
        )
    return np.ascontiguousarray(frames[:, channel])


def _resampled_length(num_frames: int, from_hz: int, to_hz: int) -> int:
    return (2 * num_frames * to_hz + from_hz) // (2 * from_hz)


def encode_decode(
    samples: Samples, sample_rate_hz: int, kind: str, subtype: str, *, compression_level: float | None = None
) -> Samples:
    """What is left of float32 [samples] after an encoder and its decoder: the same number of samples, in memory.

    Parameters
    ----------
    kind, subtype
        libsndfile's names of a format and its encoding, such as ("WAV", "GSM610") or ("OGG", "OPUS").
    compression_level
        From 0 (best quality, most bits) to 1 (fewest bits), for encodings that have a choice. None: libsndfile's own.

    Encodings of integers clip what lies outside [-1, 1). Raises AudioError for an encoding that this libsndfile
    does not have, or that does not take this rate or level, and for samples that are NaN or infinite.
    """
    if not np.isfinite(samples).all():
        raise AudioError(f"NaN or infinite samples cannot be encoded as {subtype}; repair them first")
    encoded = io.BytesIO()
    try:
        soundfile.write(
            encoded, samples, sample_rate_hz, subtype=subtype, format=kind, compression_level=compression_level
        )
        encoded.seek(0)
        decoded, _ = soundfile.read(encoded, dtype="float32")
    except (soundfile.LibsndfileError, ValueError) as error:
        level = "" if compression_level is None else f" with compression level {compression_level:g}"
        raise AudioError(
            f"cannot encode {sample_rate_hz} Hz as {subtype} {kind}{level} ({error}); "
            "choose another encoding, or another rate to resample to first"
        ) from error
    result = np.zeros(len(samples), dtype=np.float32)
    count = min(len(samples), len(decoded))
    result[:count] = decoded[:count]
    return result
