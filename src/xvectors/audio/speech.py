"""Prepare a recording for a decision: its speech at the sample rate of the system, its quality and its condition.

Memory does not grow with the length of the recording.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.audio.activity import FRAMES_PER_S, KEPT_PAUSE_S, PIECE_S, Mask, runs
from xvectors.audio.condition import measure_condition
from xvectors.audio.nonspeech import SPEECH_LOG_ODDS, log_odds
from xvectors.audio.quality import Meter, Quality
from xvectors.audio.recording import open_recording
from xvectors.audio.segments import find_spoken, hear, without_zeros
from xvectors.audio.sound import MAX_SAMPLE
from xvectors.errors import AudioError
from xvectors.text import short_repr

MAX_SPEECH_S = 300.0
"""Use at most this much speech; more does not improve the score."""
MAX_WHOLE_S = 120.0
"""Longer recordings are processed in pieces, so that memory does not grow with their length."""


def check_finite(samples: Samples, name: str) -> None:
    """Raise AudioError for samples that are NaN, infinite or far beyond full scale."""
    if len(samples) and not (samples.max() <= MAX_SAMPLE and samples.min() >= -MAX_SAMPLE):
        raise AudioError(f"{name}: the samples are NaN, infinite or absurdly large; convert the recording again")


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """The speech of one recording, and its quality.

    Attributes
    ----------
    name : name of the recording in messages
    quality : quality of the whole recording
    speech_s : seconds of speech in `samples`
    samples : float32 [samples] at the sample rate of the system: up to 300 s of speech with pauses of at most 0.6 s and
        no runs of zeros; empty without speech. `SpeakerEncoder.encode` embeds the same of recordings of up to 120 s
    condition : float32 [6], the measures `audio.condition.CONDITION_NAMES` of `samples`; NaN where one cannot be made
    """

    name: str
    quality: Quality
    speech_s: float
    samples: Samples
    condition: NDArray[np.float32]


def listen(
    recording: Any,
    name: str,
    *,
    sample_rate_hz: int,
    waveform_rate_hz: int | None = None,
    channel: Channel = "mix",
) -> Heard:
    """Find the speech in a recording, and measure its condition and the quality of the recording.

    Parameters
    ----------
    recording
        A path, the bytes of a sound file, a binary file object, or a mono waveform [samples] of floats in [-1, 1] as an
        array or a tensor.
    name
        Name in error messages of a recording without a path.
    sample_rate_hz
        Sample rate of the result.
    waveform_rate_hz
        Sample rate of a waveform, if it differs from `sample_rate_hz`. Files state their own.
    channel
        Channel of a file, as in `audio.read`.

    Raises
    ------
    AudioError
        For a file that cannot be read, an array that is not a mono waveform, and NaN samples.
    """
    rate_hz = sample_rate_hz if waveform_rate_hz is None else waveform_rate_hz
    sound = open_recording(recording, name, waveform_rate_hz=rate_hz, channel=channel)
    meter = Meter(sound.sample_rate_hz)
    speech_like = list[bool]()
    for piece in sound.blocks(PIECE_S):
        check_finite(piece, sound.name)
        meter.add(piece)
        speech_like += [value >= SPEECH_LOG_ODDS for value in log_odds(piece, sound.sample_rate_hz)]
    mask = meter.mask()
    share = float(np.mean(speech_like)) if speech_like else math.nan
    quality = replace(meter.quality(mask), speech_like_share=share, remarks=sound.notes)
    if quality.duration_s <= MAX_WHOLE_S:
        samples, speech_s = hear(sound.read(sample_rate_hz), sample_rate_hz, find_spoken)
        quality = replace(quality, speech_s=speech_s)
        return _heard(sound.name, quality, speech_s, samples if speech_s else samples[:0], sample_rate_hz)
    stretches, speech_s = _stretches(mask, quality.duration_s)
    parts = [sound.read(sample_rate_hz, start_s, duration_s) for start_s, duration_s in stretches]
    samples = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    samples = without_zeros(samples, sample_rate_hz)
    return _heard(sound.name, quality, speech_s, samples, sample_rate_hz)


def _heard(name: str, quality: Quality, speech_s: float, samples: Samples, sample_rate_hz: int) -> Heard:
    condition = measure_condition(samples, sample_rate_hz)
    return Heard(name=name, quality=quality, speech_s=speech_s, samples=samples, condition=condition)


def _stretches(mask: Mask, duration_s: float) -> tuple[list[tuple[float, float | None]], float]:
    """Return (start, duration) of each segment to keep, and the seconds of speech in them. None: to the end."""
    kept, speech_s = list[tuple[float, float | None]](), 0.0
    for start, end in runs(mask) / FRAMES_PER_S:
        room_s = MAX_SPEECH_S - speech_s
        if room_s <= 0:
            break
        end = min(end, start + room_s)
        speech_s += end - start
        first, last = max(0.0, start - KEPT_PAUSE_S), min(duration_s, end + KEPT_PAUSE_S)
        if kept and first <= kept[-1][0] + (kept[-1][1] or 0.0):
            first, _ = kept.pop()
        kept.append((first, last - first))
    # up to 10 ms after the last whole frame
    if kept and kept[-1][0] + (kept[-1][1] or 0.0) >= duration_s - 1 / FRAMES_PER_S:
        kept[-1] = kept[-1][0], None
    return kept, float(speech_s)
