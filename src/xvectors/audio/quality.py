"""What a recording is fit for. In: mono sound, whole or in pieces. Out: Quality: speech, noise, bandwidth, clipping,
silence and offset, and sentences about what is worth knowing. numpy only.

Hours fit into memory: of every 10 ms two numbers are kept, and one spectrum of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.activity import FRAMES_PER_S, PIECE_S, SILENT_DBFS, Frames, Mask, mask_of, measure, runs

NOISY_DB = 10.0
NARROW_HZ = 5500.0
"""Telephone lines pass 3.4 or 4 kHz; wideband ones 7 kHz."""
CLIPPED_SHARE = 0.001
"""Of the samples on flattened peaks; from here on it is heard."""
OFFSET = 0.02
SILENT_SHARE = 0.5
QUIET_DBFS = -50.0
"""Speech of this level is 51 dB above the rounding to 16 bits; what is quieter may have lost what is faint in it."""

LEAST_SPEECH_LIKE = 0.2
"""Of the stretches that sound: with less, music with a word in it is no recording of a voice."""

FLAT_TOLERANCE = 2.0**-15
"""From the greatest or the least value of all; unclipped speech is there for one sample."""
FAINTEST_CLIPPED = 0.05
ZERO_RUN_S = 0.01

POWER_FLOOR = 1e-10  # quantization noise of 16 bits
QUIET_QUANTILE = 0.1
QUIET_TO_MEAN = 1.1  # of noise in frames of 20 ms, from that quantile of their power to its mean
LOUD_SHARE = 1e-3  # of the loudest frame's power: the level of speech is that of the frames above
FEWEST_QUIET_FRAMES = 10
SPEECH_EDGE_FRAMES = 3

SPECTRUM_S = 0.032
EDGE_DB = 20.0
"""The fall that marks the end of a band. Natural spectra fall as far, but not within a third of a kilohertz."""
BELOW_EDGE_HZ, ABOVE_EDGE_HZ = (400.0, 100.0), 150.0
LOWEST_EDGE_HZ = 1000.0
TOP_SHARE = 0.95  # of half the sampling rate: beyond, converters roll off


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was found about one recording.

    Attributes
    ----------
    duration_s, speech_s : seconds of all, and of speech
    sample_rate_hz : the recording's own
    snr_db : level of the speech over that of the noise beneath it; NaN without speech or without pauses. From 10
        to 30 dB within 2 dB of the truth for synthetic voices, 5 dB for real ones; reverberation counts as noise
    level_dbfs : root mean square of the speech, 0 is full scale; NaN without speech
    bandwidth_hz : where the spectrum ends; half the sampling rate where nothing cuts it off, NaN in silence
    clipped_share : of the samples, those on flattened peaks
    silent_share : of the time, -90 dBFS or less
    zero_share : of the samples, those in runs of exact zeros of 10 ms and more
    dc_offset : mean of the samples, 1 is full scale
    peak : greatest absolute value, 1 is full scale
    speech_like_share : of the stretches of five seconds that sound, those that sound like speech, not like music,
        tones, machines or noise; NaN where nobody asked or too little sounds to say. See xvectors.audio.nonspeech
    remarks : what is worth knowing of its file, such as that its end is missing
    """

    duration_s: float
    speech_s: float
    sample_rate_hz: int
    snr_db: float
    level_dbfs: float
    bandwidth_hz: float
    clipped_share: float
    silent_share: float
    zero_share: float
    dc_offset: float
    peak: float
    speech_like_share: float = math.nan
    remarks: tuple[str, ...] = ()

    @property
    def is_unlike_speech(self) -> bool:
        """Whether what sounds is none of speech; False where that cannot be told."""
        return self.speech_like_share < LEAST_SPEECH_LIKE

    @property
    def notes(self) -> tuple[str, ...]:
        """What a listener should know before relying on the recording; nothing where nothing stands out."""
        found = list(self.remarks)
        if self.is_unlike_speech:
            found.append("little or no speech: it sounds like music, tones or a machine")
        if self.snr_db < NOISY_DB:
            found.append(f"noisy: the speech is about {self.snr_db:.0f} dB above the noise")
        if self.level_dbfs < QUIET_DBFS:
            found.append(f"very quiet: the speech is at {self.level_dbfs:.0f} dBFS")
        if self.bandwidth_hz < NARROW_HZ:
            origin = (
                "" if self.sample_rate_hz / 2 < NARROW_HZ else f", though it is sampled at {self.sample_rate_hz} Hz"
            )
            found.append(f"narrow band: nothing above {self.bandwidth_hz / 1000:.1f} kHz, as on a telephone{origin}")
        if self.clipped_share >= CLIPPED_SHARE:
            found.append(f"clipped: {self.clipped_share:.1%} of the samples are cut off at the peaks")
        if self.silent_share >= SILENT_SHARE:
            zeros = ", of it exact zeros" if self.zero_share >= 0.9 * self.silent_share else ""
            found.append(f"silent for {self.silent_share:.0%} of the time{zeros}")
        if abs(self.dc_offset) >= OFFSET:
            found.append(f"offset: the samples are {self.dc_offset:+.2f} of full scale off the middle")
        return tuple(found)

    def to_dict(self) -> dict[str, object]:
        """The fields and the notes, for JSON; None for what is not known."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        known = {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()
        }
        return {**known, "notes": list(self.notes)}


class Meter:
    """Takes a recording piece by piece, and says at the end what it is like.

    >>> meter = Meter(16_000)
    >>> meter.add(np.zeros(16_000, dtype=np.float32))
    >>> meter.quality().silent_share
    1.0
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._frames: list[Frames] = []
        self._count = self._zeros = 0
        self._sum = 0.0
        self._peaks = (_Peak(), _Peak())
        self._spectrum = _Spectrum(sample_rate_hz)

    def add(self, piece: NDArray[np.floating]) -> None:
        """The next samples in [-1, 1]: whole seconds, but for the last piece, and at most about PIECE_S of them."""
        samples = np.asarray(piece)
        self._frames.append(measure(samples, self.sample_rate_hz))
        self._count += len(samples)
        self._sum += float(samples.sum(dtype=np.float64))
        self._zeros += _in_runs(samples == 0, round(ZERO_RUN_S * self.sample_rate_hz))
        for side, values in zip(self._peaks, (samples, -samples), strict=True):
            side.add(values)
        self._spectrum.add(samples)

    def mask(self) -> Mask:
        """bool [frames of 10 ms]: where there is speech in what was added."""
        return mask_of(Frames.joined(self._frames))

    def quality(self, mask: Mask | None = None) -> Quality:
        """Of what was added; `mask` saves working out that of `mask()` again."""
        frames = Frames.joined(self._frames)
        speech = mask_of(frames) if mask is None else mask
        peak = max(0.0, *(side.height for side in self._peaks))
        clipped = sum(side.count for side in self._peaks if side.is_flat and side.height >= FAINTEST_CLIPPED)
        silent = frames.power <= 10 ** (SILENT_DBFS / 10)
        total = max(1, self._count)
        return Quality(
            duration_s=self._count / self.sample_rate_hz,
            speech_s=float(np.count_nonzero(speech) / FRAMES_PER_S),
            sample_rate_hz=self.sample_rate_hz,
            snr_db=snr_of_frames(frames.power, speech),
            level_dbfs=10 * math.log10(float(frames.power[speech].mean())) if speech.any() else math.nan,
            bandwidth_hz=self._spectrum.bandwidth_hz(),
            clipped_share=clipped / total,
            silent_share=float(silent.mean()) if len(silent) else float(peak == 0),
            zero_share=self._zeros / total,
            dc_offset=self._sum / total,
            peak=peak,
        )


def quality_of(samples: NDArray[np.floating], sample_rate_hz: int) -> Quality:
    """Of a waveform [samples] in [-1, 1]."""
    meter = Meter(sample_rate_hz)
    size = PIECE_S * sample_rate_hz
    for start in range(0, len(samples), size):
        meter.add(samples[start : start + size])
    return meter.quality()


def estimate_snr_db(samples: NDArray[np.floating], sample_rate_hz: int) -> float:
    """The SNR in dB of a waveform [samples] in [-1, 1]: `Quality.snr_db` alone."""
    size = PIECE_S * sample_rate_hz
    frames = Frames.joined(
        measure(samples[start : start + size], sample_rate_hz) for start in range(0, len(samples), size)
    )
    return snr_of_frames(frames.power, mask_of(frames))


def snr_of_frames(power: NDArray[np.floating], speech: Mask) -> float:
    """The SNR in dB by the power [n] and the speech bool [n] of frames of 10 ms; NaN without speech or without pauses.

    The noise is the lesser of two estimates, each of which is too high where the other is good: the mean power of the
    pauses, which holds speech that noise has drowned, and a low quantile of all power, which in long sentences without
    a pause is that of quiet sounds.
    """
    quiet = ~_widened(speech, SPEECH_EDGE_FRAMES)
    if not speech.any() or np.count_nonzero(quiet) < FEWEST_QUIET_FRAMES:
        return math.nan
    floored = np.asarray(power, dtype=np.float64) + POWER_FLOOR
    pairs = floored[: len(floored) // 2 * 2].reshape(-1, 2).mean(axis=1)
    noise = min(float(floored[quiet].mean()), QUIET_TO_MEAN * float(np.quantile(pairs, QUIET_QUANTILE)))
    spoken = floored[speech]
    level = float(spoken[spoken >= LOUD_SHARE * spoken.max()].mean())
    return 10 * math.log10(max(level - noise, POWER_FLOOR) / noise)


class _Peak:
    """The greatest value so far, how many samples lie on it, and whether two of them ever side by side."""

    def __init__(self) -> None:
        self.height, self.count, self.is_flat = -math.inf, 0, False

    def add(self, values: NDArray[np.floating]) -> None:
        highest = float(values.max(initial=-math.inf))
        if highest > self.height + FLAT_TOLERANCE:
            self.count, self.is_flat = 0, False
        self.height = max(self.height, highest)
        if highest >= self.height - FLAT_TOLERANCE:
            there = values >= self.height - FLAT_TOLERANCE
            self.count += int(np.count_nonzero(there))
            self.is_flat |= bool((there[1:] & there[:-1]).any())


class _Spectrum:
    """The power spectrum of all frames that are not silent, and where it ends."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.rate = sample_rate_hz
        self.size = 1 << round(math.log2(SPECTRUM_S * sample_rate_hz))
        self.power = np.zeros(self.size // 2 + 1)

    def add(self, samples: NDArray[np.floating]) -> None:
        frames = np.asarray(samples[: len(samples) // self.size * self.size], dtype=np.float64).reshape(-1, self.size)
        frames = frames[frames.var(axis=1) > 10 ** (SILENT_DBFS / 10)]
        if len(frames):
            window = np.hanning(self.size + 1)[:-1]
            self.power += np.square(np.abs(np.fft.rfft(frames * window))).sum(axis=0)

    def bandwidth_hz(self) -> float:
        if not self.power.any():
            return math.nan
        top_hz = self.rate / 2
        step_hz = self.rate / self.size
        level_db = 10 * np.log10(np.maximum(self.power / self.power.max(), 1e-15))
        last = int(TOP_SHARE * top_hz / step_hz)
        below, near = (round(reach / step_hz) for reach in BELOW_EDGE_HZ)
        above = round(ABOVE_EDGE_HZ / step_hz)
        edges = np.arange(round(LOWEST_EDGE_HZ / step_hz), last - above)
        if not len(edges):
            return top_hz
        sums = np.concatenate(([0.0], np.cumsum(level_db)))
        before = (sums[edges - near] - sums[edges - below]) / (below - near)
        # the greatest level from each edge to the top
        after = np.maximum.accumulate(level_db[: last + 1][::-1])[::-1][edges + above]
        at = int(np.argmax(before - after))
        if before[at] - after[at] < EDGE_DB:
            return top_hz
        middle_db = (before[at] + after[at]) / 2
        within = level_db[: edges[at] + above + 1]
        return float((np.flatnonzero(within >= middle_db)[-1] + 0.5) * step_hz)


def _in_runs(mask: Mask, least: int) -> int:
    """How many True stand in runs of at least `least`."""
    if not mask.any():
        return 0
    found = runs(mask)
    lengths = found[:, 1] - found[:, 0]
    return int(lengths[lengths >= least].sum())


def _widened(mask: Mask, by: int) -> Mask:
    wide = mask.copy()
    for shift in range(1, by + 1):
        wide[shift:] |= mask[:-shift]
        wide[:-shift] |= mask[shift:]
    return wide
