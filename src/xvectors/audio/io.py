"""Reading recordings, segments of them, and long ones piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator

from xvectors.audio.channels import Canceled, Channel, cancellation, chosen, mono
from xvectors.audio.decoding.opening import Source, opened
from xvectors.audio.resampling import Resampler, resample
from xvectors.audio.sound import AudioInfo, Samples
from xvectors.errors import AudioError

# Input frames read beyond both ends of a resampled segment, times the ratio of the rates where that is above
# one: more than soxr's HQ filter reaches, so that the segment's edges equal the whole file's.
RESAMPLING_MARGIN_FRAMES = 2048


def probe(source: Source) -> AudioInfo:
    """Read a header: rate, channels, length and encoding; for WAV, AIFF and Ogg also whether the end is there.

    Raises AudioFileError for a file that is missing, empty, truncated or no sound, MissingExtraError for one
    that needs the extra `media`.
    """
    with opened(source) as sound:
        return sound.info


def canceled(source: Source) -> Canceled | None:
    """Return the channel that "mix" takes alone, because the channels cancel: their mean is at least 5 dB weaker.

    None where the mean is a mix, or there is one channel. `.note` says it in words. Raises as `read` does.
    """
    with opened(source) as sound:
        return cancellation(sound)


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
        "mix" averages the channels; where they cancel (`canceled`) it is one of them. A number, from 0, "left" or
        "right" picks one.

    Returns
    -------
    samples, sample_rate_hz
        float32 [samples], integers scaled to [-1, 1). What is not finite in the file is returned as it is.

    Raises AudioFileError for a file that is missing, empty, truncated or no sound, MissingExtraError for one
    that needs the extra `media`, AudioError for a segment, rate or channel that the recording does not have.
    """
    if sample_rate_hz is not None and sample_rate_hz <= 0:
        raise AudioError(f"sample_rate_hz is {sample_rate_hz}; it must be positive")
    with opened(source) as sound:
        info = sound.info
        rate_hz = info.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        total = _resampled_length(info.num_frames, info.sample_rate_hz, rate_hz)
        first, count = segment(sound.name, total, rate_hz, start_s, duration_s)
        taken = chosen(sound, channel)
        if rate_hz == info.sample_rate_hz:
            return mono(sound.read(first, count), taken), rate_hz
        # A block that starts on a multiple of `step` starts on a sample of the resampled grid too.
        divisor = math.gcd(info.sample_rate_hz, rate_hz)
        step, step_out = info.sample_rate_hz // divisor, rate_hz // divisor
        margin = math.ceil(RESAMPLING_MARGIN_FRAMES * max(1.0, step / step_out))
        begin = max(0, first * step // step_out - margin) // step
        end = min(info.num_frames, -((first + count) * -step // step_out) + margin)
        block = mono(sound.read(begin * step, end - begin * step), taken)
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
    with opened(source) as sound:
        rate_hz = sound.info.sample_rate_hz
        first, count = segment(sound.name, sound.info.num_frames, rate_hz, start_s, duration_s)
        size = max(1, round(block_s * rate_hz))
        taken = None if channel is None else chosen(sound, channel)
        for offset in range(0, count, size):
            frames = sound.read(first + offset, min(size, count - offset))
            yield frames if taken is None else mono(frames, taken)


def stream(
    source: Source,
    *,
    sample_rate_hz: int,
    start_s: float = 0.0,
    duration_s: float | None = None,
    channel: Channel = "mix",
    block_s: float = 30.0,
) -> Iterator[Samples]:
    """Yield what `read` returns piece by piece, so that hours fit into memory.

    Yields float32 [samples] at `sample_rate_hz`. Joined they equal what `read` gives, resampled to 1e-3, but for the
    ends of a segment, where the filter does not see what lies outside. Raises as `read` does, also between two pieces.
    """
    with opened(source) as sound:
        rate_hz = sound.info.sample_rate_hz
        first, count = segment(sound.name, sound.info.num_frames, rate_hz, start_s, duration_s)
        taken = chosen(sound, channel)
        resampler, size = Resampler(rate_hz, sample_rate_hz), max(1, round(block_s * rate_hz))
        for offset in range(0, count, size):
            block = mono(sound.read(first + offset, min(size, count - offset)), taken)
            yield resampler.feed(block, last=offset + size >= count)


def segment(name: str, total: int, rate_hz: int, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """Return first sample and length of a segment in `total` samples; AudioError if it lies outside."""
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


def _resampled_length(num_frames: int, from_hz: int, to_hz: int) -> int:
    return (2 * num_frames * to_hz + from_hz) // (2 * from_hz)
