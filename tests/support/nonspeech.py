"""Sounds that are no speech, from a seed: music of several instruments, tones, signals, machines, knocks and noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RATE = 16_000
Random = np.random.Generator
SCALE = (0, 2, 4, 5, 7, 9, 11)
CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 11), (0, 3, 7, 10), (0, 5, 7))


def music(rng: Random, seconds: float, instrument: str) -> np.ndarray:
    """Melody, chords or arpeggios in a scale, 60 to 180 beats a minute, now and then with a second voice or drums."""
    count, beat = round(seconds * RATE), 60 / rng.uniform(60, 180)
    out = np.zeros(count + 4 * RATE)
    root, style = rng.uniform(110, 330), rng.choice(["melody", "chords", "arpeggio", "two voices"])
    at, step = 0.0, int(rng.integers(7))
    while at < seconds:
        length = beat * float(rng.choice([0.25, 0.5, 0.5, 1, 1, 2]) if style != "chords" else rng.choice([1, 2, 4]))
        step = int(np.clip(step + rng.integers(-3, 4), -4, 14))
        base = SCALE[step % 7] + 12 * (step // 7)
        if style == "chords":
            notes = [(base + k, 0.0) for k in CHORDS[rng.integers(len(CHORDS))]]
        elif style == "arpeggio":
            chord = CHORDS[rng.integers(len(CHORDS))]
            length = beat * len(chord) / 2
            notes = [(base + k, i * beat / 2) for i, k in enumerate(chord)]
        elif style == "two voices":
            notes = [(base, 0.0), (base - 12 + int(rng.choice([0, 3, 4, 7])), 0.0)]
        else:
            notes = [(base, 0.0)]
        for semitones, later in notes:
            if rng.random() < 0.07:
                continue
            tone = note(rng, root * 2 ** (semitones / 12), length * rng.uniform(0.7, 1.1), instrument)
            first = round((at + later) * RATE)
            tone = tone[: max(0, len(out) - first)]
            out[first : first + len(tone)] += rng.uniform(0.4, 1) * tone
        at += length
    out = out[:count]
    if rng.random() < 0.3:
        out = out + np.std(out) * rng.uniform(0.3, 1) * _unit(drums(rng, seconds))
    return room(rng, out) if rng.random() < 0.6 else out


def note(rng: Random, f0: float, seconds: float, instrument: str) -> np.ndarray:
    time = np.arange(max(32, round(seconds * RATE))) / RATE
    if instrument == "plucked":  # Karplus and Strong, Computer Music Journal 7 (1983)
        period = max(2, round(RATE / f0))
        rows = [rng.uniform(-1, 1, period)]
        damping = rng.uniform(0.97, 0.999)
        for _ in range(len(time) // period):
            rows.append(damping * 0.5 * (rows[-1] + np.roll(rows[-1], 1)))
        return np.concatenate(rows)[: len(time)]
    vibrato = {"bowed": 0.006, "flute": 0.004, "sung-like": 0.008}.get(instrument, 0.0) * rng.uniform(0.3, 1.6)
    f = f0 * (1 + vibrato * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * time + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(f) / RATE
    stretch = 4e-4 if instrument == "piano" else 0.0
    tilt = {"piano": 1.3, "organ": 0.8, "bowed": 1.0, "flute": 2.2, "brass": 0.7, "bells": 0.9}.get(instrument, 1.0)
    partials = (1, 2.76, 5.4, 8.9) if instrument == "bells" else range(1, min(25, int(7500 / f0)) + 1)
    formant = rng.uniform(500, 2500)
    out = np.zeros(len(time))
    for k in partials:
        at = k * np.sqrt(1 + stretch * k * k)
        if at * f0 > 7800:
            continue
        weight = k**-tilt * rng.uniform(0.4, 1)
        if instrument in ("bowed", "brass"):
            weight *= 0.3 + np.exp(-(((k * f0 - formant) / 600) ** 2))
        decay = np.exp(-time * (1.5 + 0.7 * k)) if instrument in ("piano", "bells") else 1.0
        out += weight * decay * np.sin(at * phase + rng.uniform(0, 6.28))
    attack = {"piano": 0.004, "bells": 0.002, "organ": 0.02}.get(instrument, rng.uniform(0.02, 0.12))
    envelope = np.minimum(1, time / attack) * np.minimum(1, (time[-1] - time) / 0.03)
    if instrument in ("bowed", "flute", "brass"):
        envelope *= 1 + rng.uniform(0, 0.3) * np.sin(2 * np.pi * rng.uniform(3, 7) * time)
        out += rng.uniform(0, 0.05) * rng.standard_normal(len(time))
    return out * envelope


def drums(rng: Random, seconds: float) -> np.ndarray:
    out, beat = np.zeros(round(seconds * RATE) + RATE), 60 / rng.uniform(60, 180)
    time = np.arange(RATE // 3) / RATE
    hits = {
        "kick": np.sin(2 * np.pi * (50 * time + rng.uniform(3, 8) * (1 - np.exp(-time * 30)))) * np.exp(-time * 12),
        "snare": (rng.standard_normal(len(time)) + np.sin(2 * np.pi * 190 * time)) * np.exp(-time * 18),
        "hat": np.diff(rng.standard_normal(len(time) + 1)) * np.exp(-time * 60),
        "tom": np.sin(2 * np.pi * rng.uniform(80, 220) * time) * np.exp(-time * 9),
    }
    for name, hit in hits.items():
        pattern = rng.random(16) < {"kick": 0.3, "snare": 0.2, "hat": 0.6, "tom": 0.15}[name]
        for number in range(int(seconds / beat * 4)):
            if pattern[number % 16]:
                first = round(number * beat / 4 * RATE)
                part = hit[: max(0, len(out) - first)]
                out[first : first + len(part)] += rng.uniform(0.5, 1) * part
    return out[: round(seconds * RATE)]


def tones(rng: Random, seconds: float) -> np.ndarray:
    """A steady tone or chord, or hum with its harmonics."""
    time, kind = np.arange(round(seconds * RATE)) / RATE, rng.integers(3)
    if kind == 2:
        f0 = float(rng.choice([50, 60, 100, 120, 400]))
        return sum(rng.uniform(0, 1) / k * np.sin(2 * np.pi * f0 * k * time + rng.uniform(0, 6)) for k in range(1, 25))
    out = sum(np.sin(2 * np.pi * rng.uniform(100, 3000) * time) for _ in range(int(rng.integers(1, 5))))
    if kind == 1:
        out = out * (1 + np.sin(2 * np.pi * rng.uniform(0.3, 8) * time))
    return out


def signals(rng: Random, seconds: float) -> np.ndarray:
    """Keys of a telephone, its ringing and engaged tones, a modem, Morse code."""
    count, kind = round(seconds * RATE), rng.integers(4)
    time = np.arange(count) / RATE
    if kind == 0:
        each = rng.uniform(0.06, 0.3)
        low, high = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
        key = (time / each).astype(int)
        low_of, high_of = rng.choice(low, key.max() + 1), rng.choice(high, key.max() + 1)
        on = (time % each) < each * rng.uniform(0.4, 0.8)
        return on * (np.sin(2 * np.pi * low_of[key] * time) + np.sin(2 * np.pi * high_of[key] * time))
    if kind == 1:
        period = rng.uniform(0.4, 4)
        on = (time % period) < period * rng.uniform(0.3, 0.6)
        first, second = rng.choice([350, 400, 425, 440, 450, 480, 620], 2)
        return on * (np.sin(2 * np.pi * first * time) + np.sin(2 * np.pi * second * time))
    if kind == 2:
        bit = rng.integers(0, 2, count)[(time * rng.choice([75, 300, 1200])).astype(int)]
        return np.sin(2 * np.pi * np.cumsum(np.where(bit, *rng.choice([980, 1180, 1270, 1650, 1850, 2200], 2))) / RATE)
    unit = 1.2 / rng.uniform(8, 25)
    on = rng.integers(0, 2, count)[(time / unit).astype(int)]
    return np.convolve(on, np.hanning(160) / 80, "same") * np.sin(2 * np.pi * rng.uniform(400, 1000) * time)


def sirens(rng: Random, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    low, high, rate = rng.uniform(250, 700), rng.uniform(800, 1800), rng.uniform(0.15, 4)
    turn = (time * rate) % 1
    shape = [np.sin(2 * np.pi * rate * time) / 2 + 0.5, (turn < 0.5) * 1.0, turn][rng.integers(3)]
    phase = 2 * np.pi * np.cumsum(low + (high - low) * shape) / RATE
    return room(rng, sum(rng.uniform(0, 1) / k * np.sin(k * phase) for k in range(1, 4)))


def chirps(rng: Random, seconds: float) -> np.ndarray:
    """Birds."""
    out, at = np.zeros(round(seconds * RATE) + RATE), rng.uniform(0, 0.3)
    while at < seconds:
        first, last = rng.uniform(1500, 5000, 2)
        repeats, length = int(rng.integers(1, 8)), rng.uniform(0.03, 0.2)
        time = np.arange(round(length * RATE)) / RATE
        f = (
            first
            + (last - first) * time / length
            + rng.uniform(0, 300) * np.sin(2 * np.pi * rng.uniform(20, 60) * time)
        )
        call = np.sin(2 * np.pi * np.cumsum(f) / RATE) * np.hanning(len(time))
        for _ in range(repeats):
            begin = round(at * RATE)
            part = call[: max(0, len(out) - begin)]
            out[begin : begin + len(part)] += part
            at += length * rng.uniform(1.1, 2)
        at += rng.uniform(0.1, 1)
    return room(rng, out[: round(seconds * RATE)])


def noises(rng: Random, seconds: float) -> np.ndarray:
    """Applause, wind, rain, noise that swells."""
    count, kind = round(seconds * RATE), rng.integers(3)
    time = np.arange(count) / RATE
    if kind == 0:
        out = np.zeros(count + RATE)
        for _ in range(int(seconds * rng.uniform(3, 200))):
            first = int(rng.integers(count))
            size = int(rng.integers(100, 600))
            out[first : first + size] += rng.uniform(0.2, 1) * rng.standard_normal(size) * np.exp(-np.arange(size) / 80)
        return room(rng, out[:count])
    white = rng.standard_normal(count)
    white = shaped(white, lambda f: (1 + f / rng.uniform(100, 2000)) ** -rng.uniform(0, 2.5))
    return white * (1.1 + np.sin(2 * np.pi * rng.uniform(0.2, 8) * time)) if kind == 1 else white


def engines(rng: Random, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    turns = rng.uniform(20, 150) * (1 + rng.uniform(0, 0.4) * np.sin(2 * np.pi * rng.uniform(0.05, 0.4) * time))
    phase = 2 * np.pi * np.cumsum(turns) / RATE
    out = sum(rng.uniform(0, 1) * k**-0.7 * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 40))
    return out + rng.uniform(0.1, 1) * shaped(rng.standard_normal(len(time)), lambda f: (1 + f / 300) ** -1.0)


def room(rng: Random, sound: np.ndarray) -> np.ndarray:
    """With the decaying noise of a room behind it."""
    size = round(rng.uniform(0.1, 1.2) * RATE)
    tail = rng.standard_normal(size) * np.exp(-6.9 * np.arange(size) / size)
    tail /= np.sqrt(np.sum(tail**2))
    total = 1 << int(np.ceil(np.log2(len(sound) + size)))
    wet = np.fft.irfft(np.fft.rfft(sound, total) * np.fft.rfft(tail, total), total)[: len(sound)]
    return sound + rng.uniform(0.1, 0.8) * wet


def shaped(sound: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.fft.irfft(np.fft.rfft(sound) * gain(np.fft.rfftfreq(len(sound), 1 / RATE)), len(sound))


def _unit(sound: np.ndarray) -> np.ndarray:
    return sound / max(1e-9, float(np.std(sound)))


def _instrument(name: str) -> Callable[[Random, float], np.ndarray]:
    return lambda rng, seconds: music(rng, seconds, name)


KINDS: dict[str, Callable[[Random, float], np.ndarray]] = {
    **{name: _instrument(name) for name in ("plucked", "piano", "organ", "bowed", "flute", "brass", "bells")},
    "drums": drums,
    "tones": tones,
    "signals": signals,
    "sirens": sirens,
    "chirps": chirps,
    "noises": noises,
    "engines": engines,
}


def sound(kind: str, seed: int, seconds: float) -> np.ndarray:
    """float32 [samples] at RATE of one of KINDS, its greatest absolute value 0.3."""
    rng = np.random.default_rng([seed, *kind.encode()])
    values = KINDS[kind](rng, seconds)
    return (0.3 * values / max(1e-9, float(np.abs(values).max()))).astype(np.float32)
