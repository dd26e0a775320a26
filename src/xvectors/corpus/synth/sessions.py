"""Simulate the session of an utterance: room, microphone, noise and level.

The room is an impulse response of decaying noise (Polack 1988) with a few early echoes, the microphone a
random smooth response; the noise has one of several colors and a known signal-to-noise ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

SNR_DB = (10.0, 25.0)
RT60_S = (0.1, 0.5)
DIRECT_TO_REVERBERANT_DB = (10.0, 24.0)
LEVEL_DBFS = (-34.0, -18.0)
PEAK = 0.89  # one decibel below full scale
NOISE_SLOPES_DB_PER_OCTAVE = {"white": 0.0, "pink": -3.0, "brown": -6.0, "speech": -5.0, "fan": -3.0}

_TILT_DB_PER_OCTAVE = 1.2
_BUMP_DB = 2.0
_FRAME_S = 0.01
_ACTIVE_BELOW_LOUDEST_DB = 30.0


@dataclass(frozen=True, kw_only=True)
class Session:
    """The conditions of one recording."""

    snr_db: float
    rt60_s: float
    direct_to_reverberant_db: float
    noise: str
    level_dbfs: float
    pauses_s: tuple[float, float]  # before and after the speech


def draw_session(rng: np.random.Generator) -> Session:
    """Draw every condition of a session uniformly from its range."""
    return Session(
        snr_db=float(rng.uniform(*SNR_DB)),
        rt60_s=float(rng.uniform(*RT60_S)),
        direct_to_reverberant_db=float(rng.uniform(*DIRECT_TO_REVERBERANT_DB)),
        noise=str(rng.choice(list(NOISE_SLOPES_DB_PER_OCTAVE))),
        level_dbfs=float(rng.uniform(*LEVEL_DBFS)),
        pauses_s=(float(rng.uniform(0.1, 0.2)), float(rng.uniform(0.1, 0.2))),
    )


def record(clean: Samples, sample_rate_hz: int, session: Session, rng: np.random.Generator) -> tuple[Samples, Samples]:
    """Record `clean` (float32 [n]): return speech and noise, each float32 [m], whose sum is the recording.

    The peak of the sum is at most PEAK; the level is the root mean square of the active speech over full scale.
    """
    trimmed = trim(clean, sample_rate_hz)
    before, after = (round(pause_s * sample_rate_hz) for pause_s in session.pauses_s)
    total = before + len(trimmed) + after
    dry = np.zeros(total, dtype=np.float32)
    dry[before : before + len(trimmed)] = trimmed

    impulse = _room(session, sample_rate_hz, rng)
    size = _fast_length(total + len(impulse))
    frequencies_hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    microphone = _microphone(frequencies_hz, rng)
    speech = _inverse(np.fft.rfft(dry, size) * np.fft.rfft(impulse, size) * microphone, size)[:total]
    noise = _noise(session.noise, frequencies_hz, microphone, size, rng)[:total]

    speech_rms = np.sqrt(active_power(speech, sample_rate_hz))
    noise *= speech_rms / np.sqrt(np.mean(noise**2)) * np.float32(10 ** (-session.snr_db / 20))
    gain = 10 ** (session.level_dbfs / 20) / speech_rms
    gain = np.float32(min(gain, PEAK / np.max(np.abs(speech + noise))))
    return speech * gain, noise * gain


def active_power(samples: Samples, sample_rate_hz: int) -> float:
    """Return the mean power of the 10 ms frames within 30 dB of the loudest: the speech level without pauses."""
    powers = _frame_powers(samples, sample_rate_hz)
    return float(np.mean(powers[powers >= powers.max() * 10 ** (-_ACTIVE_BELOW_LOUDEST_DB / 10)]))


def trim(samples: Samples, sample_rate_hz: int) -> Samples:
    """Cut the silence, more than 40 dB below the loudest frame, from both ends."""
    powers = _frame_powers(samples, sample_rate_hz)
    heard = np.flatnonzero(powers >= powers.max() * 1e-4)
    frame = round(_FRAME_S * sample_rate_hz)
    return samples[heard[0] * frame : (heard[-1] + 1) * frame]


def _frame_powers(samples: Samples, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    frame = round(_FRAME_S * sample_rate_hz)
    whole = len(samples) // frame * frame
    powers: npt.NDArray[np.float32] = np.mean(samples[:whole].reshape(-1, frame) ** 2, axis=1)
    return powers


def _room(session: Session, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    length = round(session.rt60_s * sample_rate_hz)
    time_s = np.arange(length, dtype=np.float32) / sample_rate_hz
    tail = rng.standard_normal(length, dtype=np.float32)
    tail *= np.exp(np.float32(-np.log(1000.0) / session.rt60_s) * time_s)
    tail[: round(0.002 * sample_rate_hz)] = 0
    for _ in range(4):
        tail[round(rng.uniform(0.002, 0.02) * sample_rate_hz)] += np.float32(rng.normal(0, 4))
    # air and walls absorb high frequencies: a one-zero low pass
    tail[1:] = 0.6 * tail[1:] + 0.4 * tail[:-1]
    wanted_power = 10 ** (-session.direct_to_reverberant_db / 10)
    tail *= np.float32(np.sqrt(wanted_power / np.sum(tail**2)))
    tail[0] = 1
    return tail


def _microphone(frequencies_hz: npt.NDArray[np.floating], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw a gain for every frequency: tilt, three broad bumps, and band edges."""
    octaves = np.log2(np.maximum(frequencies_hz, 20) / 1000).astype(np.float32)
    gain_db = np.float32(rng.uniform(-_TILT_DB_PER_OCTAVE, _TILT_DB_PER_OCTAVE)) * octaves
    for _ in range(3):
        center, width, height = (
            rng.uniform(-2.5, 2.8),
            rng.uniform(0.3, 1.0),
            rng.uniform(-_BUMP_DB, _BUMP_DB),
        )
        gain_db += np.float32(height) * np.exp(-0.5 * ((octaves - np.float32(center)) / np.float32(width)) ** 2)
    low_hz, high_hz = rng.uniform(40, 180), rng.uniform(5000, 8500)
    gain_db -= 10 * np.log10(1 + (np.float32(low_hz) / np.maximum(frequencies_hz, 1).astype(np.float32)) ** 4)
    gain_db -= 10 * np.log10(1 + (frequencies_hz / high_hz).astype(np.float32) ** 12)
    return np.asarray(10 ** (gain_db / 20), dtype=np.float32)


def _noise(
    kind: str,
    frequencies_hz: npt.NDArray[np.floating],
    microphone: npt.NDArray[np.float32],
    size: int,
    rng: np.random.Generator,
) -> Samples:
    """Draw `size` samples of Gaussian noise of the named color, filtered by the microphone."""
    octaves = np.log2(np.maximum(frequencies_hz, 50) / 50).astype(np.float32)
    if kind == "speech":  # flat up to 500 Hz, like the long-term spectrum of speech
        octaves = np.maximum(octaves - np.float32(np.log2(10)), 0)
    shape = microphone * 10 ** (np.float32(NOISE_SLOPES_DB_PER_OCTAVE[kind] / 20) * octaves)
    parts = rng.standard_normal(2 * len(shape), dtype=np.float32)
    spectrum = parts.view(np.complex64) * shape
    if kind == "fan":  # a motor: harmonics of its speed above the pink noise
        base_hz = rng.uniform(60, 180)
        bins = np.round(base_hz * np.arange(1, 9) / frequencies_hz[1]).astype(int)
        spectrum[bins] *= np.float32(np.sqrt(size) * 0.08)
    return _inverse(spectrum, size)


def _inverse(spectrum: npt.NDArray[np.complexfloating], size: int) -> Samples:
    return np.fft.irfft(spectrum, size).astype(np.float32, copy=False)


def _fast_length(at_least: int) -> int:
    """Return the smallest length with small prime factors, which the FFT handles fast."""
    power = 1 << (at_least - 1).bit_length()
    return next(power * eighths // 8 for eighths in (5, 6, 7, 8) if power * eighths // 8 >= at_least)
