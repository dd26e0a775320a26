"""Log-mel filterbanks, from waveforms [batch, samples] to float32 features [batch, frames, mels].

The recipe is Kaldi's compute-fbank-feats without dither (Povey et al., "The Kaldi speech recognition
toolkit", ASRU 2011): frames, DC removal, pre-emphasis, window, power spectrum, triangles on the mel scale,
logarithm. Settings turn it into the features of other toolkits, which the published models of these need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self, overload

import torch
from torch import Tensor, nn

from xvectors.config import MAX_HZ, MAX_MELS
from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.features.framing import Framing, make_window
from xvectors.features.mel import cepstrum_matrix, mel_filters
from xvectors.features.normalization import (
    leveled,
    limit_range,
    mean_normalize,
    padding_of,
    preemphasized,
    without_dc,
)
from xvectors.text import nearest

# Floor of the mel energies, as in Kaldi: digital silence becomes log(1.19e-07) = -15.94.
ENERGY_FLOOR = torch.finfo(torch.float32).eps
LOGS = ("natural", "decibel", "none")
SCOPES = ("frame", "recording")
MAX_WINDOW_FRAMES = 100_000
"""A quarter of an hour: the mean over more frames is that over the recording."""
FRAMES_PER_BLOCK = {"cpu": 512}
"""Frames processed at once. Blocks bound the memory of long recordings (three buffers of 2 KiB per frame at 16 kHz) and
keep the buffers in the cache of a CPU. GPUs prefer few large kernels."""
FRAMES_PER_BLOCK_ELSEWHERE = 1 << 16


class Fbank(nn.Module):
    """Log-mel filterbanks or cepstra of a batch of waveforms, differentiable.

    With the defaults they equal Kaldi's within 1e-3. docs/reference/features.md has the settings for other toolkits.

    Parameters
    ----------
    sample_rate_hz
        Rate of the waveforms.
    num_mels
        Triangular filters, spaced evenly on the mel scale.
    frame_length_ms, frame_shift_ms
        Length of a frame and distance between the starts of two.
    preemphasis
        Coefficient p of y[t] = x[t] - p x[t - 1]; 0 for none.
    remove_dc
        Whether each frame's mean is removed.
    window
        "povey" (a Hann window to the power 0.85), "hamming", "hanning" or "rectangular".
    snip_edges
        True: only frames that lie inside the recording. False: a frame for every shift, the recording being
        reflected at both ends. `center_padding` overrides it.
    low_frequency_hz, high_frequency_hz
        Outer edges of the first and last filter; `high_frequency_hz <= 0` is an offset from the Nyquist
        frequency.
    use_power
        Power spectrum if True, magnitude spectrum if False.
    mean_normalization
        Whether the mean of each mel over the recording is subtracted (CMN).
    normalize_level
        Whether each recording is first scaled to a standard deviation of `LEVEL_DBFS`, so that its level does not
        matter relative to the floor. False takes samples as they are, like Kaldi: float samples in the 16-bit range
        then give the features of [-1, 1] plus 2 ln 32768, except at the floor.
    sample_scale
        Factor on the samples, after any level normalization. Kaldi and WeSpeaker compute features of 16-bit integers:
        32768 turns samples in [-1, 1] into these.
    level_increase_only
        With `normalize_level`: scale only recordings below `LEVEL_DBFS`, measured as root mean square (Resemblyzer).
    preemphasis_over
        "frame": the sample before a frame's first is taken to equal it, as in Kaldi. "recording": pre-emphasis of the
        whole recording before framing, whose second sample also stands before the first.
    center_padding
        "zeros" or "reflect": a frame is centered on every multiple of the shift, with zeros or the mirrored recording
        (without its end sample) beyond the ends, as in librosa and torch.stft. "none": frames as `snip_edges` says.
    extra_frames
        With center_padding="zeros": frames after the last that is centered in the recording. The first two still hold
        the recording's end; Resemblyzer reads them where a recording ends within a window of its network.
    periodic_window
        Whether the window has the period of a frame, the default of torch and scipy's signal windows; False for a
        symmetric one.
    fft_length
        Points of the Fourier transform; 0 for the next power of two of the frame length.
    mel_scale
        "htk": 1127 ln(1 + f / 700), also Kaldi's scale. "slaney": linear below 1000 Hz, librosa's default.
    triangles
        "mel": filters are triangles over the mel scale (Kaldi). "hz": triangles over frequency (librosa, torchaudio).
        "symmetric": over frequency, the right half as wide as the left (SpeechBrain).
    equal_area
        Whether filters have the same area over frequency instead of the same peak (librosa's norm="slaney").
    log
        "natural" logarithm, "decibel" (10 log10), or "none".
    energy_floor, energy_offset
        Before the logarithm, the offset is added to each filter's energy, then the floor is its lower bound.
    top_db
        With log="decibel": values are at least the largest of the recording less this; 0 for no such bound.
    num_ceps
        Cepstral coefficients (MFCC), as Kaldi's compute-mfcc-feats; 0 keeps the filterbanks.
    cepstral_lifter
        Factor Q of coefficient i is 1 + Q / 2 sin(pi i / Q); 0 for none.
    energy_as_c0
        Whether the log energy of a frame, before pre-emphasis and window, replaces the first coefficient.
    mean_window_frames
        With `mean_normalization`: the mean over this many frames around each frame, as in Kaldi's
        apply-cmvn-sliding --center=true; 0 for the mean over the recording.
    remove_dc_over
        With `remove_dc`, "frame": each frame's mean is removed. "recording": the recording's, before all else.
    edge_zeros_ms
        Zeros before and after the recording, between which frames lie. Not with `center_padding`, or without
        `snip_edges`.
    power_floor
        Lower bound of the power or magnitude of each bin, before the filters.
    stretched_bins
        Whether the spectrum lacks the bin at the Nyquist frequency and the filters take the bins below for evenly
        spaced up to it, so that each counts as a frequency 0.4 % above its own with an FFT of 512 (ReDimNet2).

    Raises
    ------
    ConfigError
        For a setting with an impossible value.

    Notes
    -----
    Filters with 100 dB or more less energy than the strongest filter of the frame can differ from Kaldi by more than
    1e-3, because of float32 rounding in both.
    """

    window: Tensor
    filters: Tensor
    cepstra: Tensor | None

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        num_mels: int = 24,
        frame_length_ms: float = 25.0,
        frame_shift_ms: float = 10.0,
        preemphasis: float = 0.97,
        remove_dc: bool = True,
        window: str = "povey",
        snip_edges: bool = True,
        low_frequency_hz: float = 20.0,
        high_frequency_hz: float = 0.0,
        use_power: bool = True,
        mean_normalization: bool = False,
        normalize_level: bool = False,
        sample_scale: float = 1.0,
        level_increase_only: bool = False,
        preemphasis_over: str = "frame",
        center_padding: str = "none",
        extra_frames: int = 0,
        periodic_window: bool = False,
        fft_length: int = 0,
        mel_scale: str = "htk",
        triangles: str = "mel",
        equal_area: bool = False,
        log: str = "natural",
        energy_floor: float = ENERGY_FLOOR,
        energy_offset: float = 0.0,
        top_db: float = 0.0,
        num_ceps: int = 0,
        cepstral_lifter: float = 22.0,
        energy_as_c0: bool = True,
        mean_window_frames: int = 0,
        remove_dc_over: str = "frame",
        edge_zeros_ms: float = 0.0,
        power_floor: float = 0.0,
        stretched_bins: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= sample_rate_hz <= MAX_HZ:
            raise ConfigError(
                f"sample_rate_hz is {sample_rate_hz}; it must be at least 1 and at most {MAX_HZ}, such as 16000"
            )
        if not 1 <= num_mels <= MAX_MELS:
            raise ConfigError(f"num_mels is {num_mels}; it must be at least 1 and at most {MAX_MELS}, such as 24 or 80")
        if not 0.0 <= preemphasis <= 1.0:
            raise ConfigError(f"preemphasis is {preemphasis}; it must lie between 0 and 1, such as 0.97")
        if not 0.0 < sample_scale < math.inf:
            raise ConfigError(f"sample_scale is {sample_scale}; it must be above 0: 1 or 32768")
        self.sample_rate_hz = sample_rate_hz
        self.num_mels = num_mels
        self.preemphasis = preemphasis
        self.remove_dc = remove_dc
        self.snip_edges = snip_edges
        self.use_power = use_power
        self.mean_normalization = mean_normalization
        self.normalize_level = normalize_level
        self.sample_scale = sample_scale
        self.level_increase_only = level_increase_only
        self.periodic_window = periodic_window
        self.log, self.energy_floor, self.energy_offset, self.top_db = log, energy_floor, energy_offset, top_db
        self.num_ceps = num_ceps
        self.energy_as_c0 = bool(num_ceps) and energy_as_c0
        self.mean_window_frames = mean_window_frames
        self.preemphasis_over, self.remove_dc_over = preemphasis_over, remove_dc_over
        self.power_floor = power_floor
        self._check_names()
        self._check_numbers(cepstral_lifter)
        self.framing = Framing(
            sample_rate_hz,
            frame_length_ms,
            frame_shift_ms,
            fft_length,
            snip_edges,
            center_padding,
            extra_frames,
            edge_zeros_ms,
        )
        self.frame_length, self.frame_shift = self.framing.length, self.framing.shift
        self.fft_length = self.framing.fft_length
        filters = mel_filters(
            num_mels,
            self.fft_length,
            sample_rate_hz,
            low_frequency_hz,
            high_frequency_hz,
            scale=mel_scale,
            triangles=triangles,
            equal_area=equal_area,
            stretched_bins=stretched_bins,
        )
        if use_power and not power_floor:
            # Power is re^2 + im^2: with every row repeated, the matrix product also does this addition.
            filters = filters.repeat_interleave(2, dim=0)
        table = make_window(window, self.frame_length, periodic=periodic_window)
        cepstra = cepstrum_matrix(num_mels, num_ceps, cepstral_lifter) if num_ceps else None
        self.register_buffer("window", table.float(), persistent=False)
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("cepstra", None if cepstra is None else cepstra.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # half() and the like on a network that contains this module must not round the tables
        window, filters, cepstra = self.window, self.filters, self.cepstra
        convert: Callable[..., object] = super()._apply
        convert(fn, recurse)
        self.window = window.to(self.window.device)
        self.filters = filters.to(self.filters.device)
        self.cepstra = None if cepstra is None else cepstra.to(self.window.device)
        return self

    def _check_names(self) -> None:
        for name, value, known in (
            ("log", self.log, LOGS),
            ("preemphasis_over", self.preemphasis_over, SCOPES),
            ("remove_dc_over", self.remove_dc_over, SCOPES),
        ):
            if value not in known:
                raise ConfigError(f"{name} {value!r} is unknown{nearest(value, known)}")

    def _check_numbers(self, cepstral_lifter: float) -> None:
        windowed, limited, decibel = self.mean_window_frames > 0, self.top_db > 0, self.log == "decibel"
        rules = [
            ("energy_floor", self.energy_floor, 0.0 < self.energy_floor < math.inf, "above 0"),
            ("energy_offset", self.energy_offset, 0.0 <= self.energy_offset < math.inf, "at least 0"),
            ("power_floor", self.power_floor, 0.0 <= self.power_floor < math.inf, "at least 0"),
            ("top_db", self.top_db, 0.0 <= self.top_db < math.inf, "at least 0"),
            ("top_db", self.top_db, not limited or decibel, "0 unless log is decibel"),
            ("top_db", self.top_db, not (limited and self.num_ceps), "0 with num_ceps"),
            ("num_ceps", self.num_ceps, 0 <= self.num_ceps <= self.num_mels, f"0 to num_mels, {self.num_mels}"),
            ("cepstral_lifter", cepstral_lifter, 0.0 <= cepstral_lifter < math.inf, "at least 0"),
            (
                "mean_window_frames",
                self.mean_window_frames,
                0 <= self.mean_window_frames <= MAX_WINDOW_FRAMES and (self.mean_normalization or not windowed),
                f"0 to {MAX_WINDOW_FRAMES}, and 0 without mean_normalization",
            ),
        ]
        for name, value, holds, words in rules:
            if not holds:
                raise ConfigError(f"{name} is {value}; it must be {words}")

    @overload
    def num_frames(self, lengths: int) -> int: ...
    @overload
    def num_frames(self, lengths: Tensor) -> Tensor: ...
    def num_frames(self, lengths: int | Tensor) -> int | Tensor:
        """Return the number of frames in recordings of `lengths` samples; 0 if they are too short."""
        return self.framing.num_frames(lengths)

    @property
    def num_features(self) -> int:
        """Number of features of a frame: cepstral coefficients, or else filters."""
        return self.num_ceps or self.num_mels

    @property
    def samples_needed(self) -> int:
        """Number of samples of the shortest recording with a frame."""
        return self.samples_for(1)

    def samples_for(self, num_frames: int) -> int:
        """Return the number of samples of the shortest recording with `num_frames` frames."""
        return self.framing.samples_for(num_frames)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn float waveforms [batch, samples] or [samples] into features [batch, frames, mels], float32.

        `lengths` [batch] counts the samples of each recording. A padded recording has the same features as alone, and
        frames after its own `num_frames(lengths)` are exactly 0. The arithmetic is float32 under any autocast context
        or input dtype, although `torch.set_float32_matmul_precision("medium")` costs 5e-3 in the mel product.

        Raises ShapeError for another number of axes, an integer dtype or lengths that do not fit, TooShortError for a
        recording without a single frame.
        """
        if not waveforms.is_floating_point():
            raise ShapeError(f"Fbank: waveforms are {waveforms.dtype}; convert them to float, scaled as in training")
        if waveforms.dim() not in (1, 2) or (waveforms.dim() == 2 and waveforms.shape[0] == 0):
            raise ShapeError(f"Fbank: expected [batch, samples] or [samples], got {list(waveforms.shape)}")
        waveforms = (waveforms if waveforms.dim() == 2 else waveforms.unsqueeze(0)).float()
        num_frames = None
        if lengths is None:
            self._check_samples(waveforms.shape[1])
        else:
            lengths = self._checked_lengths(waveforms, lengths)
            num_frames = self.num_frames(lengths)
        with torch.autocast(waveforms.device.type, enabled=False):
            if self.remove_dc and self.remove_dc_over == "recording":
                waveforms = without_dc(waveforms, lengths)
            if self.normalize_level:
                waveforms = leveled(waveforms, lengths, increase_only=self.level_increase_only)
            if self.sample_scale != 1.0:
                waveforms = waveforms * self.sample_scale
            if self.preemphasis and self.preemphasis_over == "recording":
                waveforms = preemphasized(waveforms, self.preemphasis)
            framed = self.framing.extended(waveforms, lengths).unfold(1, self.frame_length, self.frame_shift)
            features = self._log_mels(framed)
            if self.top_db:
                features = limit_range(features, num_frames, self.top_db)
            if num_frames is not None:
                features = features.masked_fill(padding_of(features, num_frames).unsqueeze(2), 0.0)
            if self.mean_normalization:
                features = mean_normalize(features, num_frames, window_frames=self.mean_window_frames)
        return features

    def _check_samples(self, samples: int, which: str = "the recording has") -> None:
        if samples < self.samples_needed:
            raise TooShortError(
                f"Fbank: {which} {samples} samples, but one frame needs {self.samples_needed}; leave it out"
            )

    def _checked_lengths(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        batch, samples = waveforms.shape
        if lengths.shape != (batch,) or lengths.is_floating_point():
            raise ShapeError(
                f"Fbank: lengths must be {batch} integers, one per recording, "
                f"got {list(lengths.shape)} of {lengths.dtype}"
            )
        counts = lengths.tolist()
        for index, count in enumerate(counts):
            if count > samples:
                raise ShapeError(f"Fbank: lengths[{index}] is {count}, but the waveforms hold {samples} samples")
            self._check_samples(count, f"recording {index} of the batch has")
        return lengths.to(waveforms.device, torch.int64)

    def _log_mels(self, frames: Tensor) -> Tensor:
        batch, count, _ = frames.shape
        at_once = FRAMES_PER_BLOCK.get(frames.device.type, FRAMES_PER_BLOCK_ELSEWHERE)
        # no loop over blocks while exporting or compiling: it would fix the number of frames
        if torch.compiler.is_compiling() or batch * count <= at_once:
            return self._log_mels_of_block(frames)
        blocks = torch.split(frames, max(1, at_once // batch), dim=1)
        return torch.cat([self._log_mels_of_block(block) for block in blocks], dim=1)

    def _log_mels_of_block(self, frames: Tensor) -> Tensor:
        if self.remove_dc and self.remove_dc_over == "frame":
            frames = frames - frames.mean(dim=2, keepdim=True)
        # the FFT is fastest on a buffer of its own length
        padded = frames.new_zeros(*frames.shape[:2], self.fft_length)
        window, length = self.window, self.frame_length
        if self.preemphasis and self.preemphasis_over == "frame":
            # Kaldi assumes that the sample before a frame equals its first
            padded[..., 0] = frames[..., 0] * ((1.0 - self.preemphasis) * window[0])
            emphasised = torch.sub(frames[..., 1:], frames[..., :-1], alpha=self.preemphasis)
            padded[..., 1:length] = emphasised.mul_(window[1:])
        else:
            padded[..., :length] = frames * window
        spectrum = torch.fft.rfft(padded)
        features = self.compressed(self._values(spectrum) @ self.filters)
        if self.cepstra is None:
            return features
        features = features @ self.cepstra
        return torch.cat((log_energy(frames), features[..., 1:]), dim=2) if self.energy_as_c0 else features

    def _values(self, spectrum: Tensor) -> Tensor:
        """Return what the rows of the filters weigh, of a complex spectrum [batch, frames, bins]."""
        if not self.use_power:
            values = spectrum.abs()
        elif self.power_floor:
            values = torch.view_as_real(spectrum).square().sum(dim=3)
        else:
            return torch.view_as_real(spectrum).square().flatten(2)
        return values.clamp(min=self.power_floor) if self.power_floor else values

    def compressed(self, mels: Tensor) -> Tensor:
        """Return the logarithm that the settings ask for."""
        if self.log == "none":
            return mels
        if self.energy_offset:
            mels = mels + self.energy_offset
        logarithm = mels.clamp(min=self.energy_floor).log()
        return logarithm * (10 / math.log(10)) if self.log == "decibel" else logarithm


def log_energy(frames: Tensor) -> Tensor:
    """Return the natural logarithm of each frame's energy, [batch, frames, 1], with Kaldi's floor."""
    return frames.square().sum(dim=2, keepdim=True).clamp(min=ENERGY_FLOOR).log()
