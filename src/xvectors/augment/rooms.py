"""Reverberation by measured or simulated room impulse responses.

A simulated room is a shoebox with the direct sound, the first echoes by the image method (Allen and Berkley, JASA
1979), and a tail of decaying noise (Polack 1988) whose level follows from the volume of the room and the distance.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.augment.noise import SILENT_POWER, power
from xvectors.augment.spectrum import convolved, fast_length, inverse

SPEED_OF_SOUND_M_S = 343.0
MIN_ROOM_M, MAX_ROOM_M = (2.5, 2.5, 2.3), (10.0, 8.0, 4.0)
WALL_MARGIN_M = 0.3
DISTANCE_M = (0.2, 3.0)
# Farther away, the echoes have four times the power of the direct sound or more; speech is not recorded there.
FARTHEST_CRITICAL_DISTANCES = 2.0
IMAGE_ORDER = 2
IMAGES = np.array(
    [n for n in itertools.product(range(-IMAGE_ORDER, IMAGE_ORDER + 1), repeat=3) if sum(map(abs, n)) <= IMAGE_ORDER]
)
# Walls and air absorb high frequencies faster; the reverberation time refers to 0.5 to 2 kHz.
LOW_BELOW_HZ, HIGH_ABOVE_HZ = (250.0, 500.0), (2000.0, 4000.0)
LOW_RT60_RATIO, HIGH_RT60_RATIO = (1.0, 1.3), (0.4, 0.8)
LN_60_DB = math.log(1000.0)


def reverberate(waveform: Samples, impulse_response: Samples) -> Samples:
    """Convolve `waveform` [samples] with `impulse_response`, keeping length, alignment and power.

    The strongest sample of the response counts as the direct sound, and defines zero delay.
    """
    before = power(waveform)
    if before <= SILENT_POWER:
        return waveform
    direct = int(np.argmax(np.abs(impulse_response)))
    wet = convolved(waveform, impulse_response[: direct + len(waveform)], direct)
    after = power(wet)
    return wet * np.float32(math.sqrt(before / after)) if after > 0 else waveform


def simulate_room(sample_rate_hz: int, rt60_s: float, generator: np.random.Generator) -> Samples:
    """Simulate the impulse response of a random shoebox room: float32 [about 1.3 * rt60_s * sample_rate_hz], from 1."""
    size_m = generator.uniform(MIN_ROOM_M, MAX_ROOM_M)
    volume_m3 = float(np.prod(size_m))
    surface_m2 = 2 * float(size_m[0] * size_m[1] + size_m[1] * size_m[2] + size_m[2] * size_m[0])
    microphone = generator.uniform(WALL_MARGIN_M, size_m - WALL_MARGIN_M)
    direction = generator.standard_normal(3)
    # The power of all echoes over that of the direct sound is (distance / critical distance)^2 in a diffuse field.
    critical_m = 0.057 * math.sqrt(volume_m3 / rt60_s)
    farthest_m = max(DISTANCE_M[0], min(DISTANCE_M[1], FARTHEST_CRITICAL_DISTANCES * critical_m))
    distance_m = math.exp(generator.uniform(math.log(DISTANCE_M[0]), math.log(farthest_m)))
    source = microphone + direction / np.linalg.norm(direction) * distance_m
    source = np.clip(source, WALL_MARGIN_M, size_m - WALL_MARGIN_M)
    distance_m = max(DISTANCE_M[0], float(np.linalg.norm(source - microphone)))

    # Eyring: the share of the power that a wall reflects.
    reflected = math.exp(-0.161 * volume_m3 / (surface_m2 * rt60_s))
    rt60s_s = rt60_s * np.array([generator.uniform(*LOW_RT60_RATIO), 1.0, generator.uniform(*HIGH_RT60_RATIO)])
    response = _tail(sample_rate_hz, rt60s_s, generator)
    response *= np.float32(distance_m / critical_m * math.sqrt(2 * LN_60_DB / (rt60_s * sample_rate_hz)))
    # Echoes are separate at first; after about sqrt(volume) milliseconds the tail models them (Polack).
    mixing = min(len(response), max(1, round(math.sqrt(volume_m3) / 1000 * sample_rate_hz)))
    response[:mixing] *= np.linspace(0.0, 1.0, mixing, dtype=np.float32)

    images = IMAGES * size_m + np.where(IMAGES % 2 == 0, source, size_m - source)
    distances_m = np.linalg.norm(images - microphone, axis=1)
    order = np.abs(IMAGES).sum(axis=1)
    delays = np.rint((distances_m - distance_m) / SPEED_OF_SOUND_M_S * sample_rate_hz).astype(np.int64)
    heard = (order > 0) & (delays > 0) & (delays < mixing)
    gains = distance_m / distances_m[heard] * reflected ** (order[heard] / 2)
    np.add.at(response, delays[heard], gains.astype(np.float32))
    # No echo exceeds the direct sound, which defines the alignment.
    response = np.clip(response, -0.99, 0.99)
    response[0] = 1.0
    return response


def _tail(sample_rate_hz: int, rt60s_s: NDArray[np.float64], generator: np.random.Generator) -> Samples:
    """Return noise of initial power 1 that decays by 60 dB in `rt60s_s` [3] s: low, middle and high frequencies."""
    num_samples = max(2, math.ceil(float(rt60s_s.max()) * sample_rate_hz))
    size = fast_length(num_samples)
    spectrum = generator.standard_normal(2 * (size // 2 + 1), dtype=np.float32).view(np.complex64)
    spectrum *= np.float32(math.sqrt(size / 2))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate_hz), 1.0)).astype(np.float32)
    above_low, above_high = (
        np.clip((octaves - math.log2(low_hz)) / math.log2(high_hz / low_hz), 0, 1)
        for low_hz, high_hz in (LOW_BELOW_HZ, HIGH_ABOVE_HZ)
    )
    times = np.arange(num_samples, dtype=np.float32)
    tail = np.zeros(num_samples, dtype=np.float32)
    shares = (1 - above_low, above_low - above_high, above_high)
    for share, rt60_s in zip(shares, rt60s_s, strict=True):
        decay = np.exp(times * np.float32(-LN_60_DB / (rt60_s * sample_rate_hz)))
        tail += inverse(spectrum * share, size)[:num_samples] * decay
    return tail
