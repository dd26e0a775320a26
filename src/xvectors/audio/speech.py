"""A recording as a decision needs it. In: a path, bytes, file or waveform. Out: what it is like, and its speech as one
waveform at the system's rate. Recordings of any length take the same memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xvectors.audio import Channel, Samples
from xvectors.audio.activity import FRAMES_PER_S, KEPT_PAUSE_S, PIECE_S, Mask, runs
from xvectors.audio.nonspeech import SPEECH_LOG_ODDS, log_odds
from xvectors.audio.quality import Meter, Quality
from xvectors.audio.recording import open_recording
from xvectors.audio.segments import find_spoken, hear, without_zeros
from xvectors.errors import AudioError
from xvectors.text import brief

MOST_SPEECH_S = 300.0
"""More is not compared: LLRs of whole recordings stop growing long before."""
LONGEST_WHOLE_S = 120.0
"""A longer recording is heard and embedded in pieces, so that memory does not grow with it."""
LOUDEST = 1e6
"""Times full scale, as in the scan of a corpus; what is beyond is no sound."""


def check_finite(samples: Samples, name: str) -> None:
    """Raise AudioError for samples that are NaN, infinite or far beyond full scale."""
    if len(samples) and not (samples.max() <= LOUDEST and samples.min() >= -LOUDEST):
        raise AudioError(f"{name}: samples that are NaN, infinite or absurdly large; convert it again")


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
    if quality.duration_s <= LONGEST_WHOLE_S:
        samples, speech_s = hear(sound.read(sample_rate_hz), sample_rate_hz, find_spoken)
        quality = replace(quality, speech_s=speech_s)
        return Heard(name=sound.name, quality=quality, speech_s=speech_s, samples=samples if speech_s else samples[:0])
    stretches, speech_s = _stretches(mask, quality.duration_s)
    parts = [sound.read(sample_rate_hz, start_s, duration_s) for start_s, duration_s in stretches]
    samples = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    samples = without_zeros(samples, sample_rate_hz)
    return Heard(name=sound.name, quality=quality, speech_s=speech_s, samples=samples)


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
