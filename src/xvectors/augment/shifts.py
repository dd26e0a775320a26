"""Shifts of condition that a calibration is tested and learned under: copies of recordings as if made otherwise.

Each shift takes a waveform and a random generator, so that every recording is changed in its own way; the lines of two
telephone calls differ, for example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from xvectors.audio import Samples
from xvectors.augment.channel import a_law, at_rate, back_at_rate, clipped, coded, equalized, telephone
from xvectors.augment.noise import made_noise, mix_at_snr
from xvectors.augment.rooms import reverberate, simulate_room
from xvectors.augment.voice import change_voice

Shift = Callable[[Samples, int, np.random.Generator], Samples]
LINE_RATE_HZ = 8_000


def _landline(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """A telephone line of 300 to 3400 Hz with A-law."""
    narrow = at_rate(telephone(waveform, sample_rate_hz, band_pass=True), sample_rate_hz, LINE_RATE_HZ)
    peak = max(float(np.abs(narrow).max(initial=0.0)), 1e-4)
    return back_at_rate(a_law(narrow / np.float32(2 * peak)), LINE_RATE_HZ, sample_rate_hz, len(waveform))


def _mobile(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """A mobile telephone: GSM, or Opus at 8 kHz."""
    if generator.random() < 0.5:
        return coded(telephone(waveform, sample_rate_hz, band_pass=True), sample_rate_hz, "gsm", generator)
    return coded(telephone(waveform, sample_rate_hz, band_pass=False), sample_rate_hz, "opus", generator)


def _calls(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """A telephone call with a handset, a line and noise of its own."""
    heard = equalized(waveform, sample_rate_hz, 8.0, generator)
    if generator.random() < 0.5:
        heard = mix_at_snr(heard, made_noise(len(heard), sample_rate_hz, generator), generator.uniform(8.0, 20.0))
    line = _landline if generator.random() < 0.5 else _mobile
    return line(heard, sample_rate_hz, generator)


def _noise(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    return mix_at_snr(waveform, made_noise(len(waveform), sample_rate_hz, generator), generator.uniform(3.0, 15.0))


def _room(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    return reverberate(waveform, simulate_room(sample_rate_hz, generator.uniform(0.4, 1.0), generator))


def _microphone(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    return equalized(waveform, sample_rate_hz, 10.0, generator)


def _clipped(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    return clipped(waveform, generator.uniform(10.0, 20.0))


def _raised(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """A raised voice: higher, faster and brighter."""
    return change_voice(
        waveform,
        sample_rate_hz,
        pitch=generator.uniform(1.2, 1.5),
        formants=generator.uniform(1.0, 1.06),
        tempo=generator.uniform(1.0, 1.25),
        tilt_db=generator.uniform(1.0, 4.0),
    )


def _moods(waveform: Samples, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """A recording in a mood of its own: raised, low and slow, or lively."""
    mood = generator.integers(3)
    if mood == 0:
        return _raised(waveform, sample_rate_hz, generator)
    low = mood == 1
    return change_voice(
        waveform,
        sample_rate_hz,
        pitch=generator.uniform(0.8, 0.95) if low else generator.uniform(1.05, 1.3),
        formants=generator.uniform(0.97, 1.03),
        tempo=generator.uniform(0.75, 0.95) if low else generator.uniform(0.9, 1.3),
        tilt_db=generator.uniform(-4.0, -1.0) if low else generator.uniform(-1.0, 3.0),
    )


SHIFTS: Mapping[str, Shift] = MappingProxyType(
    {
        "landline": _landline,
        "mobile": _mobile,
        "calls": _calls,
        "noise": _noise,
        "room": _room,
        "microphone": _microphone,
        "clipped": _clipped,
        "raised voice": _raised,
        "moods": _moods,
    }
)
"""Shifts by name. In `calls` and `moods`, recordings of one speaker differ the most."""
