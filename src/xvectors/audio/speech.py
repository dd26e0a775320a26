"""A recording as a decision needs it. In: a path, bytes, file or waveform. Out: what it is like, and its speech as one
waveform at the system's rate. Recordings of any length take the same memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.audio import Channel, Samples
from xvectors.audio.activity import FRAMES_PER_S, KEPT_PAUSE_S, PIECE_S, Mask, runs
from xvectors.audio.nonspeech import SPEECH_LOG_ODDS, log_odds
from xvectors.audio.quality import Meter, Quality
from xvectors.audio.segments import find_spoken, hear, without_zeros
from xvectors.errors import AudioError
from xvectors.text import brief

MOST_SPEECH_S = 300.0
"""More is not compared: LLRs of whole recordings stop growing long before."""
LONGEST_WHOLE_S = 120.0
"""A longer recording is heard and embedded in pieces, so that memory does not grow with it."""
LOUDEST = 1e6
"""Times full scale, as in the scan of a corpus; what is beyond is no sound."""


@brief()
@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """One recording, listened to.

    Attributes
    ----------
    name : what to call it
    quality : of all of it
    speech_s : seconds of speech in `samples`
    samples : float32 [samples] at the system's rate: the speech with pauses of at most 0.6 s, without runs of zeros,
        and of at most 300 s of speech; of a recording of up to 120 s it is what `SpeakerEncoder.encode` embeds.
        Empty without speech
    """

    name: str
    quality: Quality
    speech_s: float
    samples: Samples


@dataclass(frozen=True, kw_only=True)
class _Sound:
    sample_rate_hz: int
    remarks: tuple[str, ...]  # on its file
    pieces: Callable[[], Iterator[Samples]]  # at its own rate, PIECE_S each
    segment: Callable[[float, float | None], Samples]  # from a second on, for some seconds, at the rate wanted


def listen(
    recording: Any,
    name: str,
    *,
    sample_rate_hz: int,
    waveform_rate_hz: int | None = None,
    channel: Channel = "mix",
) -> Heard:
    """Find the speech of a recording, and what it is like.

    Parameters
    ----------
    recording
        A path, the bytes of a sound file, a binary file object, or a mono waveform [samples] of floats in [-1, 1], an
        array or a tensor.
    name
        What errors call a recording that has no path.
    sample_rate_hz
        Of the samples wanted.
    waveform_rate_hz
        Of a waveform given, where it is another. Files say their own.
    channel
        Of files, as in `audio.read`.

    Raises
    ------
    AudioError
        What cannot be read, is no mono waveform, or holds NaN.
    """
    if isinstance(recording, str | os.PathLike):
        name = os.fspath(recording)
    sound = _open(recording, name, sample_rate_hz, waveform_rate_hz, channel)
    meter = Meter(sound.sample_rate_hz)
    speech_like = list[bool]()
    for piece in sound.pieces():
        if not np.abs(piece).max(initial=0.0) <= LOUDEST:
            raise AudioError(f"{name}: samples that are NaN, infinite or absurdly large; convert it again")
        meter.add(piece)
        speech_like += [value >= SPEECH_LOG_ODDS for value in log_odds(piece, sound.sample_rate_hz)]
    mask = meter.mask()
    share = float(np.mean(speech_like)) if speech_like else math.nan
    quality = replace(meter.quality(mask), speech_like_share=share, remarks=sound.remarks)
    if quality.duration_s <= LONGEST_WHOLE_S:
        samples, speech_s = hear(sound.segment(0.0, None), sample_rate_hz, find_spoken)
        quality = replace(quality, speech_s=speech_s)
        return Heard(name=name, quality=quality, speech_s=speech_s, samples=samples if speech_s else samples[:0])
    stretches, speech_s = _stretches(mask, quality.duration_s)
    parts = [sound.segment(start_s, duration_s) for start_s, duration_s in stretches]
    samples = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    samples = without_zeros(samples, sample_rate_hz)
    return Heard(name=name, quality=quality, speech_s=speech_s, samples=samples)


def _stretches(mask: Mask, duration_s: float) -> tuple[list[tuple[float, float | None]], float]:
    """(start, seconds) of each stretch to keep, and the seconds of speech in them. To the end where seconds is None."""
    kept, speech_s = list[tuple[float, float | None]](), 0.0
    for start, end in runs(mask) / FRAMES_PER_S:
        room_s = MOST_SPEECH_S - speech_s
        if room_s <= 0:
            break
        end = min(end, start + room_s)
        speech_s += end - start
        first, last = max(0.0, start - KEPT_PAUSE_S), min(duration_s, end + KEPT_PAUSE_S)
        if kept and first <= kept[-1][0] + (kept[-1][1] or 0.0):
            first, _ = kept.pop()
        kept.append((first, last - first))
    # 10 ms and less behind the last frame
    if kept and kept[-1][0] + (kept[-1][1] or 0.0) >= duration_s - 1 / FRAMES_PER_S:
        kept[-1] = kept[-1][0], None
    return kept, float(speech_s)


def _open(recording: Any, name: str, rate_hz: int, waveform_rate_hz: int | None, channel: Channel) -> _Sound:
    if hasattr(recording, "cpu"):  # a tensor; torch need not be there
        recording = recording.detach().cpu().numpy()
    if isinstance(recording, np.ndarray):
        return _waveform(recording, name, rate_hz, rate_hz if waveform_rate_hz is None else waveform_rate_hz)
    if hasattr(recording, "read"):
        recording = recording.read()
    if not isinstance(recording, str | os.PathLike | bytes):
        raise AudioError(
            f"{name}: a {type(recording).__name__} is no recording; give a path, the bytes of a sound file, or a "
            "waveform with its sample rate"
        )
    info = audio.probe(recording)
    canceled = audio.canceled(recording) if channel == "mix" else None
    return _Sound(
        sample_rate_hz=info.sample_rate_hz,
        remarks=(*info.notes, *((canceled.note,) if canceled else ())),
        pieces=lambda: audio.blocks(recording, block_s=PIECE_S, channel=channel),
        segment=lambda start_s, duration_s: audio.read(
            recording, sample_rate_hz=rate_hz, start_s=start_s, duration_s=duration_s, channel=channel
        )[0],
    )


def _waveform(array: NDArray[Any], name: str, rate_hz: int, own_hz: int) -> _Sound:
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"{name}: a waveform must be one-dimensional floats in [-1, 1], not {array.dtype} {list(array.shape)}"
        )
    if own_hz <= 0:
        raise AudioError(f"{name}: its rate cannot be {own_hz} Hz; give the samples a second of the waveform")

    def pieces() -> Iterator[Samples]:
        size = PIECE_S * own_hz
        for start in range(0, len(array), size):
            yield np.asarray(array[start : start + size], dtype=np.float32)

    def segment(start_s: float, duration_s: float | None) -> Samples:
        first = round(start_s * own_hz)
        count = len(array) if duration_s is None else round(duration_s * own_hz)
        return audio.resample(np.asarray(array[first : first + count], dtype=np.float32), own_hz, rate_hz)

    return _Sound(sample_rate_hz=own_hz, remarks=(), pieces=pieces, segment=segment)
