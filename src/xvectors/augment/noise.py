"""Generate noise, and mix noise into speech at a given SNR.

There are colored noise, mains hum, clicks, and babble of given voices. SNRs compare mean powers over the whole chunk.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xvectors.audio import Samples
from xvectors.augment.spectrum import bumps_db, fast_length, inverse, response_frequencies_hz, shape_spectrum

# Mean power of what counts as silence, -120 dB of full scale: no ratio can be set against it.
SILENT_POWER = 1e-12
SLOPES_DB_PER_OCTAVE = {"white": 0.0, "pink": -3.0, "brown": -6.0}
RANDOM_SLOPE_DB_PER_OCTAVE = (-9.0, 2.0)
# Below this the slope stops, so that brown noise is not all rumble.
FLAT_BELOW_HZ = 60.0
BUMPS_DB = 10.0
SWELL_DB, SWELL_EVERY_S = 5.0, 0.25
MAINS_HZ, MAINS_TOLERANCE = (50.0, 60.0), 0.004
HUM_HARMONICS, HUM_TABLE_POINTS = 24, 4096
CLICKS_PER_S, CLICK_MAX_S = (1.0, 15.0), 0.02


def power(waveform: Samples) -> float:
    """Return the mean square."""
    return float(np.mean(np.square(waveform), dtype=np.float64)) if len(waveform) else 0.0


def mix_at_snr(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """Add `noise` [samples] to `speech` [samples], scaled to `snr_db`. Returns `speech` if either is silent."""
    return mix_babble(speech, [(noise, snr_db)])


def mix_babble(speech: Samples, voices: Iterable[tuple[Samples, float]]) -> Samples:
    """Add every voice to `speech`, each at its own SNR in dB; silent voices add nothing."""
    speech_power = power(speech)
    if speech_power <= SILENT_POWER:
        return speech
    mixed = speech
    for voice, snr_db in voices:
        voice_power = power(voice)
        if voice_power > SILENT_POWER:
            mixed = mixed + voice * np.float32(np.sqrt(speech_power / voice_power) * 10 ** (-snr_db / 20))
    return mixed


def made_noise(num_samples: int, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """Draw colored noise (70 %), hum or clicks: float32 [num_samples] at any level."""
    kind = generator.random()
    if kind < 0.15:
        return hum(num_samples, sample_rate_hz, generator)
    if kind < 0.3:
        return clicks(num_samples, sample_rate_hz, generator)
    slopes = [*SLOPES_DB_PER_OCTAVE.values(), generator.uniform(*RANDOM_SLOPE_DB_PER_OCTAVE)]
    noise = colored_noise(num_samples, sample_rate_hz, generator.choice(slopes), generator, bumps=BUMPS_DB)
    return noise * _swell(num_samples, sample_rate_hz, generator)


def colored_noise(
    num_samples: int,
    sample_rate_hz: int,
    slope_db_per_octave: float,
    generator: np.random.Generator,
    *,
    bumps: float = 0.0,
) -> Samples:
    """Draw Gaussian noise [num_samples] with a linear slope in dB per octave and bumps of up to `bumps` dB."""
    size = fast_length(max(num_samples, 2))
    frequencies_hz = response_frequencies_hz(sample_rate_hz)
    gain_db = slope_db_per_octave * np.log2(np.maximum(frequencies_hz, FLAT_BELOW_HZ) / 1000.0)
    if bumps:
        gain_db += bumps_db(frequencies_hz, bumps, generator)
    spectrum = generator.standard_normal(2 * (size // 2 + 1), dtype=np.float32).view(np.complex64)
    spectrum[0] = 0
    return inverse(shape_spectrum(spectrum, gain_db), size)[:num_samples]


def hum(num_samples: int, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """Draw mains hum [num_samples]: 50 or 60 Hz and harmonics, each weaker by a random factor."""
    mains_hz = generator.choice(MAINS_HZ) * generator.uniform(1 - MAINS_TOLERANCE, 1 + MAINS_TOLERANCE)
    harmonics = np.arange(1, min(HUM_HARMONICS, max(1, int(sample_rate_hz / 2 / mains_hz))) + 1)
    amplitudes = harmonics ** -generator.uniform(0.3, 2.0) * generator.uniform(0.1, 1.0, len(harmonics))
    spectrum = np.zeros(HUM_TABLE_POINTS // 2 + 1, dtype=np.complex128)
    spectrum[harmonics] = amplitudes * np.exp(2j * np.pi * generator.random(len(harmonics)))
    period = np.fft.irfft(spectrum, HUM_TABLE_POINTS) * HUM_TABLE_POINTS / 2
    places = np.arange(num_samples) * (mains_hz / sample_rate_hz * HUM_TABLE_POINTS)
    return np.asarray(period[places.astype(np.int64) % HUM_TABLE_POINTS], dtype=np.float32)


def clicks(num_samples: int, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """Draw clicks and knocks [num_samples]: one or more decaying bursts of noise at random times."""
    noise = np.zeros(num_samples, dtype=np.float32)
    duration_s = num_samples / sample_rate_hz
    longest = max(1, round(CLICK_MAX_S * sample_rate_hz))
    times = np.arange(longest, dtype=np.float32)
    count = 1 + generator.poisson(generator.uniform(*CLICKS_PER_S) * duration_s)
    for place in generator.integers(0, num_samples, count):
        decay_samples = generator.uniform(0.02, 0.2) * longest
        burst = generator.standard_normal(longest, dtype=np.float32) * np.exp(times * np.float32(-1 / decay_samples))
        room = min(longest, num_samples - int(place))
        noise[place : place + room] += np.float32(generator.lognormal(0.0, 0.7)) * burst[:room]
    return noise


def _swell(num_samples: int, sample_rate_hz: int, generator: np.random.Generator) -> Samples:
    """Draw a gain [num_samples] that varies slowly by a few decibels, since few noises are stationary."""
    step = max(1, round(SWELL_EVERY_S * sample_rate_hz))
    nodes = 10 ** (generator.uniform(-SWELL_DB, SWELL_DB, num_samples // step + 2) / 20)
    return np.asarray(np.interp(np.arange(num_samples), np.arange(len(nodes)) * step, nodes), dtype=np.float32)
