"""Measure the quality of a recording: speech, noise, bandwidth, clipping, silence and DC offset. numpy only.

Recordings of any length fit into memory: two numbers are kept per 10 ms, and one spectrum.
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
"""Share of samples on flattened peaks from which clipping is audible."""
OFFSET = 0.02
SILENT_SHARE = 0.5
QUIET_DBFS = -50.0
"""Speech at this level is 51 dB above the rounding to 16 bits; quieter speech may have lost its faint sounds."""

MIN_SPEECH_LIKE_SHARE = 0.2
"""Below this share of speech-like windows, a recording counts as music or noise, even with a few words in it."""

FLAT_TOLERANCE = 2.0**-15
"""Distance from the extreme value within which samples count as clipped; natural peaks last one sample."""
FAINTEST_CLIPPED = 0.05
ZERO_RUN_S = 0.01

POWER_FLOOR = 1e-10  # quantization noise of 16 bits
QUIET_QUANTILE = 0.1
QUIET_TO_MEAN = 1.1  # ratio of the mean power of noise to that quantile, in frames of 20 ms
LOUD_SHARE = 1e-3  # of the power of the loudest frame; the speech level averages the frames above
MIN_QUIET_FRAMES = 10
SPEECH_EDGE_FRAMES = 3

SPECTRUM_S = 0.032
EDGE_DB = 20.0
"""Drop that marks the end of a band. Natural spectra drop as much, but not within a third of a kilohertz."""
BELOW_EDGE_HZ, ABOVE_EDGE_HZ = (400.0, 100.0), 150.0
MIN_EDGE_HZ = 1000.0
TOP_SHARE = 0.95  # of half the sample rate; converters roll off above


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Measurements of one recording.

    Attributes
    ----------
    duration_s, speech_s : seconds of audio and of speech
    sample_rate_hz : sample rate of the recording
    snr_db : speech level over noise level; NaN without speech or without pauses. Between 10 and 30 dB it is within
        2 dB of the truth for synthetic voices and 5 dB for real ones; reverberation counts as noise
    level_dbfs : root mean square of the speech (full scale is 0); NaN without speech
    bandwidth_hz : upper end of the spectrum: half the sample rate unless the band was cut, NaN in silence
    clipped_share : share of samples on flattened peaks
    silent_share : share of the time at -90 dBFS or less
    zero_share : share of samples in runs of exact zeros of 10 ms or longer
    dc_offset : mean of the samples (full scale is 1)
    peak : greatest absolute value (full scale is 1)
    speech_like_share : share of the audible windows of five seconds that sound like speech rather than music, tones,
        machines or noise; NaN if not measured, or if too little is audible. See xvectors.audio.nonspeech
    remarks : oddities of the file, such as a missing end
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
        """Whether the audible part is not speech; False if that is unknown."""
        return self.speech_like_share < MIN_SPEECH_LIKE_SHARE

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that warn of problems with the recording; empty if there are none."""
        found = list(self.remarks)
        if self.is_unlike_speech:
            found.append("little or no speech: the recording sounds like music, tones or a machine")
        if self.snr_db < NOISY_DB:
            found.append(f"noisy: the speech is about {self.snr_db:.0f} dB above the noise")
        if self.level_dbfs < QUIET_DBFS:
            found.append(f"very quiet: the speech is at {self.level_dbfs:.0f} dBFS")
        if self.bandwidth_hz < NARROW_HZ:
            origin = (
                "" if self.sample_rate_hz / 2 < NARROW_HZ else f", though it is sampled at {self.sample_rate_hz} Hz"
            )
            found.append(
                f"narrow band: nothing above {self.bandwidth_hz / 1000:.1f} kHz, as on a telephone line{origin}"
            )
        if self.clipped_share >= CLIPPED_SHARE:
            found.append(f"clipped: {self.clipped_share:.1%} of the samples are cut off at the peaks")
        if self.silent_share >= SILENT_SHARE:
            zeros = ", all of it exact zeros" if self.zero_share >= 0.9 * self.silent_share else ""
            found.append(f"silent for {self.silent_share:.0%} of the time{zeros}")
        if abs(self.dc_offset) >= OFFSET:
            found.append(f"DC offset: the mean of the samples is {self.dc_offset:+.2f} of full scale")
        return tuple(found)

    def to_dict(self) -> dict[str, object]:
        """Return the fields and the notes for JSON, with None for unknown values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        known = {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()
        }
        return {**known, "notes": list(self.notes)}


class Meter:
    """Measure the quality of a recording piece by piece.

    Examples
    --------
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
        """Add the next samples in [-1, 1]: whole seconds except for the last piece, and at most about PIECE_S."""
        samples = np.asarray(piece)
        self._frames.append(measure(samples, self.sample_rate_hz))
        self._count += len(samples)
        self._sum += float(samples.sum(dtype=np.float64))
        self._zeros += _in_runs(samples == 0, round(ZERO_RUN_S * self.sample_rate_hz))
        for side, values in zip(self._peaks, (samples, -samples), strict=True):
            side.add(values)
        self._spectrum.add(samples)

    def mask(self) -> Mask:
        """Return bool [frames of 10 ms]: which frames of the samples so far are speech."""
        return mask_of(Frames.joined(self._frames))

    def quality(self, mask: Mask | None = None) -> Quality:
        """Return the quality of the samples so far. Pass the result of `mask()` to save computing it again."""
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
    """Measure the quality of a waveform [samples] in [-1, 1]."""
    meter = Meter(sample_rate_hz)
    size = PIECE_S * sample_rate_hz
    for start in range(0, len(samples), size):
        meter.add(samples[start : start + size])
    return meter.quality()


def estimate_snr_db(samples: NDArray[np.floating], sample_rate_hz: int) -> float:
    """Estimate the SNR in dB of a waveform [samples] in [-1, 1], as `Quality.snr_db` states it."""
    size = PIECE_S * sample_rate_hz
    frames = Frames.joined(
        measure(samples[start : start + size], sample_rate_hz) for start in range(0, len(samples), size)
    )
    return snr_of_frames(frames.power, mask_of(frames))


def snr_of_frames(power: NDArray[np.floating], speech: Mask) -> float:
    """Estimate the SNR in dB from the power [n] and the speech mask, bool [n], of frames of 10 ms.

    The noise power is the smaller of two estimates: the mean power of the pauses, which is too high if noise masks
    speech there, and a low quantile of the power of all frames, which is too high in long sentences without a pause.
    NaN without speech or without pauses.
    """
    quiet = ~_widened(speech, SPEECH_EDGE_FRAMES)
    if not speech.any() or np.count_nonzero(quiet) < MIN_QUIET_FRAMES:
        return math.nan
    floored = np.asarray(power, dtype=np.float64) + POWER_FLOOR
    pairs = floored[: len(floored) // 2 * 2].reshape(-1, 2).mean(axis=1)
    noise = min(float(floored[quiet].mean()), QUIET_TO_MEAN * float(np.quantile(pairs, QUIET_QUANTILE)))
    spoken = floored[speech]
    level = float(spoken[spoken >= LOUD_SHARE * spoken.max()].mean())
    return 10 * math.log10(max(level - noise, POWER_FLOOR) / noise)


class _Peak:
    """The greatest value so far, the number of samples at it, and whether two of them were adjacent."""

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
    """The power spectrum of all frames that are not silent."""

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
        edges = np.arange(round(MIN_EDGE_HZ / step_hz), last - above)
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
    """Count the True values in runs of at least `least`."""
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
