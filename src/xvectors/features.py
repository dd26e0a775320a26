"""Log-mel filterbanks, from waveforms [batch, samples] to float32 features [batch, frames, mels].

The recipe is Kaldi's compute-fbank-feats without dither (Povey et al., "The Kaldi speech recognition
toolkit", ASRU 2011): frames, DC removal, pre-emphasis, window, power spectrum, triangles on the mel scale,
logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self, overload

import torch
from torch import Tensor, nn

from xvectors.config import MAX_HZ, MAX_MELS
from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.text import nearest

# Floor of the mel energies, as in Kaldi: digital silence becomes log(1.19e-07) = -15.94.
ENERGY_FLOOR = torch.finfo(torch.float32).eps
LEVEL_DBFS = -30.0
"""Level to which `normalize_level` scales recordings. Read speech is recorded at -35 to -15 dBFS; among -18 to -30 dBFS
this level is best for weights trained without the setting (docs/explanation/robustness.md)."""
MIN_STD = 1e-6
"""Recordings with a smaller standard deviation, -120 dBFS, are not amplified further."""
WINDOWS = ("povey", "hamming", "hanning", "rectangular")
MAX_SAMPLES_PER_FRAME = 1 << 16
"""Far more than features of speech need: anything longer is a mistake, or a file crafted to fill memory."""
FRAMES_PER_BLOCK = {"cpu": 512}
"""Frames processed at once. Blocks bound the memory of long recordings (three buffers of 2 KiB per frame at 16 kHz) and
keep the buffers in the cache of a CPU. GPUs prefer few large kernels."""
FRAMES_PER_BLOCK_ELSEWHERE = 1 << 16


class Fbank(nn.Module):
    """Log-mel filterbanks of a batch of waveforms, equal to Kaldi's within 1e-3 and differentiable.

    Parameters
    ----------
    sample_rate_hz
        Rate of the waveforms.
    num_mels
        Triangular filters, spaced evenly on the mel scale 1127 ln(1 + f / 700).
    frame_length_ms, frame_shift_ms
        Length of a frame and distance between the starts of two.
    preemphasis
        Coefficient p of y[t] = x[t] - p x[t - 1], within each frame; 0 for none.
    remove_dc
        Whether each frame's mean is removed.
    window
        "povey" (a Hann window to the power 0.85), "hamming", "hanning" or "rectangular".
    snip_edges
        True: only frames that lie inside the recording. False: a frame for every shift, the recording being
        reflected at both ends.
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
        self.frame_length = _samples("frame_length_ms", frame_length_ms, sample_rate_hz, at_least=2)
        self.frame_shift = _samples("frame_shift_ms", frame_shift_ms, sample_rate_hz, at_least=1)
        self.fft_length = 1 << (self.frame_length - 1).bit_length()
        filters = _mel_filters(num_mels, self.fft_length, sample_rate_hz, low_frequency_hz, high_frequency_hz)
        if use_power:
            # Power is re^2 + im^2: with every row repeated, the matrix product also does this addition.
            filters = filters.repeat_interleave(2, dim=0)
        self.register_buffer("window", _window(window, self.frame_length).float(), persistent=False)
        self.register_buffer("filters", filters.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # half() and the like on a network that contains this module must not round the tables
        window, filters = self.window, self.filters
        convert: Callable[..., object] = super()._apply
        convert(fn, recurse)
        self.window = window.to(self.window.device)
        self.filters = filters.to(self.filters.device)
        return self

    @overload
    def num_frames(self, lengths: int) -> int: ...
    @overload
    def num_frames(self, lengths: Tensor) -> Tensor: ...
    def num_frames(self, lengths: int | Tensor) -> int | Tensor:
        """Return the number of frames in recordings of `lengths` samples; 0 if they are too short."""
        if self.snip_edges:
            frames = (lengths - self.frame_length) // self.frame_shift + 1
        else:
            frames = (lengths + self.frame_shift // 2) // self.frame_shift
        return frames.clamp(min=0) if isinstance(frames, Tensor) else max(frames, 0)

    @property
    def samples_needed(self) -> int:
        """Number of samples of the shortest recording with a frame."""
        return self.samples_for(1)

    def samples_for(self, num_frames: int) -> int:
        """Return the number of samples of the shortest recording with `num_frames` frames."""
        if self.snip_edges:
            return self.frame_length + (num_frames - 1) * self.frame_shift
        return num_frames * self.frame_shift - self.frame_shift // 2

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
            if self.normalize_level:
                waveforms = _leveled(waveforms, lengths)
            if self.sample_scale != 1.0:
                waveforms = waveforms * self.sample_scale
            features = self._log_mels(self._framed(waveforms, lengths))
            if num_frames is not None:
                features = features.masked_fill(_padding(features, num_frames), 0.0)
            if self.mean_normalization:
                features = mean_normalize(features, num_frames)
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

    def _framed(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """Return a view [batch, frames, frame_length] of the waveforms; without snip_edges, reflected at the ends."""
        if not self.snip_edges:
            samples = waveforms.shape[1]
            before = self.frame_length // 2 - self.frame_shift // 2
            after = (self.num_frames(samples) - 1) * self.frame_shift + self.frame_length - before
            position = torch.arange(-before, after, device=waveforms.device)
            # the reflection repeats the end sample, so its period is twice the recording
            end = samples if lengths is None else lengths.unsqueeze(1)
            position = position % (2 * end)
            position = torch.minimum(position, 2 * end - 1 - position)
            waveforms = waveforms.gather(1, position.expand(waveforms.shape[0], -1))
        return waveforms.unfold(1, self.frame_length, self.frame_shift)

    def _log_mels(self, frames: Tensor) -> Tensor:
        batch, count, _ = frames.shape
        at_once = FRAMES_PER_BLOCK.get(frames.device.type, FRAMES_PER_BLOCK_ELSEWHERE)
        # no loop over blocks while exporting or compiling: it would fix the number of frames
        if torch.compiler.is_compiling() or batch * count <= at_once:
            return self._log_mels_of_block(frames)
        blocks = torch.split(frames, max(1, at_once // batch), dim=1)
        return torch.cat([self._log_mels_of_block(block) for block in blocks], dim=1)

    def _log_mels_of_block(self, frames: Tensor) -> Tensor:
        if self.remove_dc:
            frames = frames - frames.mean(dim=2, keepdim=True)
        # the FFT is fastest on a buffer of its own length
        padded = frames.new_zeros(*frames.shape[:2], self.fft_length)
        window, length = self.window, self.frame_length
        if self.preemphasis:
            # Kaldi assumes that the sample before a frame equals its first
            padded[..., 0] = frames[..., 0] * ((1.0 - self.preemphasis) * window[0])
            emphasised = torch.sub(frames[..., 1:], frames[..., :-1], alpha=self.preemphasis)
            padded[..., 1:length] = emphasised.mul_(window[1:])
        else:
            padded[..., :length] = frames * window
        spectrum = torch.fft.rfft(padded)
        parts = torch.view_as_real(spectrum).square().flatten(2) if self.use_power else spectrum.abs()
        return (parts @ self.filters).clamp(min=ENERGY_FLOOR).log()


def mean_normalize(features: Tensor, num_frames: Tensor | None = None) -> Tensor:
    """Subtract the mean of each mel over the frames of a recording (cepstral mean normalization, CMN).

    `features` are floating point [batch, frames, mels]; `num_frames` [batch] counts the frames of each recording (all
    by default). Frames after them are excluded from the mean and become exactly 0.
    """
    if num_frames is None:
        return features - features.mean(dim=1, keepdim=True)
    padding = _padding(features, num_frames)
    own = features.masked_fill(padding, 0.0)
    mean = own.sum(dim=1, keepdim=True) / num_frames.to(features.device).view(-1, 1, 1)
    return (own - mean).masked_fill(padding, 0.0)


def _leveled(waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """Scale each waveform of [batch, samples] so that the standard deviation of its samples is LEVEL_DBFS."""
    if lengths is None:
        variance = waveforms.var(dim=1, correction=0, keepdim=True)
    else:
        count = lengths.unsqueeze(1)
        padding = torch.arange(waveforms.shape[1], device=waveforms.device) >= count
        own = waveforms.masked_fill(padding, 0.0)
        centered = (own - own.sum(dim=1, keepdim=True) / count).masked_fill(padding, 0.0)
        variance = centered.square().sum(dim=1, keepdim=True) / count
    return waveforms * (10 ** (LEVEL_DBFS / 20) / variance.clamp(min=MIN_STD**2).sqrt())


def _padding(features: Tensor, num_frames: Tensor) -> Tensor:
    """Return bool [batch, frames, 1]: which frames lie after the end of their recording."""
    frame = torch.arange(features.shape[1], device=features.device)
    return (frame >= num_frames.to(features.device).unsqueeze(1)).unsqueeze(2)


def _samples(name: str, duration_ms: float, sample_rate_hz: int, at_least: int) -> int:
    # Rounded down, as Kaldi does, but not for a product such as 44099.99999999999.
    samples = math.floor(duration_ms * sample_rate_hz / 1000.0 + 1e-6) if math.isfinite(duration_ms) else 0
    if samples < at_least:
        raise ConfigError(
            f"{name} is {duration_ms} ms, {samples} samples at {sample_rate_hz} Hz; it must be at least "
            f"{at_least} samples, such as {'25' if name == 'frame_length_ms' else '10'} ms"
        )
    if samples > MAX_SAMPLES_PER_FRAME:
        raise ConfigError(
            f"{name} is {duration_ms} ms, more than {MAX_SAMPLES_PER_FRAME} samples at {sample_rate_hz} Hz; it is "
            f"usually {'25' if name == 'frame_length_ms' else '10'} ms"
        )
    return samples


def _window(name: str, length: int) -> Tensor:
    if name not in WINDOWS:
        raise ConfigError(f"window {name!r} is unknown{nearest(name, WINDOWS)}")
    if name == "rectangular":
        return torch.ones(length, dtype=torch.float64)
    if name == "hamming":
        return torch.hamming_window(length, periodic=False, dtype=torch.float64)
    hann = torch.hann_window(length, periodic=False, dtype=torch.float64)
    return hann**0.85 if name == "povey" else hann


def _mel(frequency_hz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(frequency_hz / 700.0)


def _mel_filters(num_mels: int, fft_length: int, sample_rate_hz: int, low_hz: float, high_hz: float) -> Tensor:
    """Triangles [fft_length // 2 + 1, num_mels], linear on the mel scale between the centers."""
    nyquist_hz = sample_rate_hz / 2
    top_hz = high_hz if high_hz > 0 else nyquist_hz + high_hz
    if not 0.0 <= low_hz < nyquist_hz:
        raise ConfigError(
            f"low_frequency_hz is {low_hz}; it must lie between 0 and half the sample rate, {nyquist_hz:g}"
        )
    if not top_hz <= nyquist_hz:
        raise ConfigError(
            f"high_frequency_hz is {high_hz}, over half the sample rate, {nyquist_hz:g}; "
            "lower it, or give 0 for half the sample rate"
        )
    if top_hz <= low_hz:
        raise ConfigError(
            f"high_frequency_hz is {high_hz}, which stands for {top_hz:g} Hz and is not above "
            f"low_frequency_hz, {low_hz:g}; raise it"
        )
    edges = _mel(torch.tensor([low_hz, top_hz], dtype=torch.float64))
    corners = torch.linspace(float(edges[0]), float(edges[1]), num_mels + 2, dtype=torch.float64)
    left, center, right = corners[:-2], corners[1:-1], corners[2:]
    bins_hz = torch.arange(fft_length // 2 + 1, dtype=torch.float64) * (sample_rate_hz / fft_length)
    mel = _mel(bins_hz).unsqueeze(1)
    filters = torch.minimum((mel - left) / (center - left), (right - mel) / (right - center)).clamp(min=0.0)
    # Kaldi's filters never reach the Nyquist bin itself.
    filters[-1] = 0.0
    empty = int((filters.sum(dim=0) == 0).sum())
    if empty:
        raise ConfigError(
            f"num_mels is {num_mels}, too many for {sample_rate_hz} Hz and frames of {fft_length} points: "
            f"{empty} filters would hold no frequency bin; lower num_mels, or raise frame_length_ms"
        )
    return filters
