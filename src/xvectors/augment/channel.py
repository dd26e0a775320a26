"""Channel effects: microphone response, clipping, telephone band and codecs.

Mu-law and A-law follow the formulas of ITU-T G.711; libsndfile provides the other codecs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xvectors.audio import Samples, encode_decode, resample
from xvectors.augment.spectrum import band_edges_db, bumps_db, filtered, response_frequencies_hz

TELEPHONE_RATE_HZ = 8_000
WIDE_RATE_HZ = 16_000
TELEPHONE_BAND_HZ = (300.0, 3400.0)
TELEPHONE_BAND_ORDER = 6
EQUALIZER_LOW_HZ, EQUALIZER_HIGH_HZ = (20.0, 250.0), (3500.0, 12_000.0)
EQUALIZER_TILT_DB_PER_OCTAVE = 2.0


class Encoding(NamedTuple):
    """Names of a codec in libsndfile, the range of its compression level, and whether it supports more than 8 kHz."""

    kind: str
    subtype: str
    levels: tuple[float, float] | None
    wide: bool


ENCODINGS = {
    "gsm": Encoding("WAV", "GSM610", None, False),
    "opus": Encoding("OGG", "OPUS", (0.9, 1.0), True),  # 32 to 8 kbit/s
    "vorbis": Encoding("OGG", "VORBIS", (0.8, 1.0), True),
    "mp3": Encoding("MP3", "MPEG_LAYER_III", (0.7, 0.9), True),  # 1.0 does not exist at every rate
}


def equalized(waveform: Samples, sample_rate_hz: int, max_db: float, generator: np.random.Generator) -> Samples:
    """Filter `waveform` [samples] by a random microphone: tilt, three bumps of up to `max_db`, and band edges."""
    frequencies_hz = response_frequencies_hz(sample_rate_hz)
    tilt = generator.uniform(-EQUALIZER_TILT_DB_PER_OCTAVE, EQUALIZER_TILT_DB_PER_OCTAVE)
    gain_db = tilt * np.log2(np.maximum(frequencies_hz, 50.0) / 1000.0) + bumps_db(frequencies_hz, max_db, generator)
    low_hz, high_hz = (np.exp(generator.uniform(*np.log(r))) for r in (EQUALIZER_LOW_HZ, EQUALIZER_HIGH_HZ))
    return filtered(waveform, sample_rate_hz, gain_db + band_edges_db(frequencies_hz, low_hz, high_hz, 2))


def clipped(waveform: Samples, depth_db: float) -> Samples:
    """Clip `waveform` [samples] at `depth_db` below its peak."""
    limit = np.abs(waveform).max(initial=0.0) * np.float32(10 ** (-depth_db / 20))
    return np.clip(waveform, -limit, limit)


def telephone(waveform: Samples, sample_rate_hz: int, *, band_pass: bool) -> Samples:
    """Resample `waveform` [samples] to 8 kHz and back; `band_pass` limits it to 300-3400 Hz (-3 dB)."""
    narrow = at_rate(waveform, sample_rate_hz, TELEPHONE_RATE_HZ)
    if band_pass:
        frequencies_hz = response_frequencies_hz(TELEPHONE_RATE_HZ)
        narrow = filtered(
            narrow, TELEPHONE_RATE_HZ, band_edges_db(frequencies_hz, *TELEPHONE_BAND_HZ, TELEPHONE_BAND_ORDER)
        )
    return back_at_rate(narrow, TELEPHONE_RATE_HZ, sample_rate_hz, len(waveform))


def coded(waveform: Samples, sample_rate_hz: int, codec: str, generator: np.random.Generator) -> Samples:
    """Encode and decode `waveform` [samples] by `codec`, one of settings.CODECS, at 8 kHz or, if supported, 16 kHz.

    Waveforms above full scale are scaled down and back up. Raises AudioError if libsndfile lacks the codec.
    """
    encoding = ENCODINGS.get(codec)
    wide = encoding is not None and encoding.wide and sample_rate_hz >= WIDE_RATE_HZ and generator.random() < 0.5
    rate_hz = WIDE_RATE_HZ if wide else TELEPHONE_RATE_HZ
    peak = np.abs(waveform).max(initial=np.float32(1.0))
    narrow = at_rate(waveform / peak, sample_rate_hz, rate_hz)
    if encoding is None:
        narrow = mu_law(narrow) if codec == "mu-law" else a_law(narrow)
    else:
        level = None if encoding.levels is None else generator.uniform(*encoding.levels)
        narrow = encode_decode(narrow, rate_hz, encoding.kind, encoding.subtype, compression_level=level)
    result: Samples = back_at_rate(narrow, rate_hz, sample_rate_hz, len(waveform)) * peak
    return result


def mu_law(samples: Samples) -> Samples:
    """float32 samples in [-1, 1] after G.711 mu-law, 8 bits: 14-bit magnitudes in eight segments of 16 steps."""
    biased = np.minimum(np.abs(samples) * np.float32(8192), np.float32(8158)) + np.float32(33)
    step = np.ldexp(np.float32(1), np.frexp(biased)[1] - 5)
    magnitude = (np.floor(biased / step) + np.float32(0.5)) * step - np.float32(33)
    return np.asarray(np.copysign(magnitude / np.float32(8192), samples), dtype=np.float32)


def a_law(samples: Samples) -> Samples:
    """float32 samples in [-1, 1] after G.711 A-law, 8 bits: 13-bit magnitudes, the lowest 64 in equal steps."""
    magnitude = np.minimum(np.abs(samples) * np.float32(4096), np.float32(4095))
    step = np.ldexp(np.float32(1), np.maximum(np.frexp(magnitude)[1] - 5, 1))
    magnitude = (np.floor(magnitude / step) + np.float32(0.5)) * step
    return np.asarray(np.copysign(magnitude / np.float32(4096), samples), dtype=np.float32)


def at_rate(waveform: Samples, from_hz: int, to_hz: int) -> Samples:
    """Subsample, and never empty."""
    result = resample(waveform, from_hz, to_hz)
    return result if len(result) else np.zeros(1, dtype=np.float32)


def back_at_rate(waveform: Samples, from_hz: int, to_hz: int, num_samples: int) -> Samples:
    """Subsample to exactly `num_samples`, which differ by the rounding of two lengths."""
    result = at_rate(waveform, from_hz, to_hz)[:num_samples]
    return np.pad(result, (0, num_samples - len(result)))
