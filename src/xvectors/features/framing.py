"""Frames of recordings: how many there are, where they lie, and the window that weighs their samples."""

from __future__ import annotations

import math
from typing import overload

import torch
from torch import Tensor
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.text import nearest

WINDOWS = ("povey", "hamming", "hanning", "rectangular")
CENTER_PADDINGS = ("none", "zeros", "reflect")
MAX_SAMPLES_PER_FRAME = 1 << 16
"""Far more than features of speech need: anything longer is a mistake, or a file crafted to fill memory."""
MAX_EXTRA_FRAMES = 1000


class Framing:
    """The frames of a recording: `length` samples each, every `shift` samples; the arguments are those of `Fbank`."""

    def __init__(
        self,
        sample_rate_hz: int,
        frame_length_ms: float,
        frame_shift_ms: float,
        fft_length: int,
        snip_edges: bool,
        center_padding: str,
        extra_frames: int = 0,
        edge_zeros_ms: float = 0.0,
    ) -> None:
        if center_padding not in CENTER_PADDINGS:
            raise ConfigError(f"center_padding {center_padding!r} is unknown{nearest(center_padding, CENTER_PADDINGS)}")
        self.length = _samples("frame_length_ms", frame_length_ms, sample_rate_hz, at_least=2)
        self.shift = _samples("frame_shift_ms", frame_shift_ms, sample_rate_hz, at_least=1)
        self.fft_length = fft_length or 1 << (self.length - 1).bit_length()
        if self.fft_length % 2 or not self.length <= self.fft_length <= MAX_SAMPLES_PER_FRAME:
            raise ConfigError(
                f"fft_length is {fft_length}; it must be even, at least the {self.length} samples of a frame and at "
                f"most {MAX_SAMPLES_PER_FRAME}, or 0 for the next power of two"
            )
        if not 0 <= extra_frames <= MAX_EXTRA_FRAMES or (extra_frames and center_padding != "zeros"):
            raise ConfigError(
                f"extra_frames is {extra_frames}; it must be 0 to {MAX_EXTRA_FRAMES}, and 0 unless center_padding is "
                "zeros"
            )
        self.extra_frames = extra_frames
        self.centered = center_padding != "none"
        self.mirrored = center_padding == "reflect" or not (self.centered or snip_edges)
        inside = snip_edges and not self.centered
        if edge_zeros_ms and not (inside and 0.0 < edge_zeros_ms < frame_length_ms / 2):
            raise ConfigError(
                f"edge_zeros_ms is {edge_zeros_ms}; it must be less than half of frame_length_ms, and 0 unless "
                'snip_edges is true and center_padding is "none"'
            )
        self.edge_zeros = math.floor(edge_zeros_ms * sample_rate_hz / 1000.0 + 1e-6)
        # samples of the first frame that lie before the recording
        self.before = self.edge_zeros
        if self.centered:  # the FFT is centered; a shorter frame lies in its middle
            self.before = self.fft_length // 2 - (self.fft_length - self.length) // 2
        elif self.mirrored:
            self.before = self.length // 2 - self.shift // 2

    @overload
    def num_frames(self, lengths: int) -> int: ...
    @overload
    def num_frames(self, lengths: Tensor) -> Tensor: ...
    def num_frames(self, lengths: int | Tensor) -> int | Tensor:
        """Return the number of frames in recordings of `lengths` samples; 0 if they are too short."""
        if self.centered:
            return (lengths // self.shift + 1 + self.extra_frames) * (lengths >= self.samples_for(1))
        if self.mirrored:
            frames = (lengths + self.shift // 2) // self.shift
        else:
            frames = (lengths + 2 * self.edge_zeros - self.length) // self.shift + 1
        return frames.clamp(min=0) if isinstance(frames, Tensor) else max(frames, 0)

    def samples_for(self, num_frames: int) -> int:
        """Return the number of samples of the shortest recording with `num_frames` frames."""
        if self.centered:
            frames_inside = num_frames - self.extra_frames
            return max((frames_inside - 1) * self.shift, self.fft_length // 2 + 1 if self.mirrored else 2)
        if self.mirrored:
            return num_frames * self.shift - self.shift // 2
        return max(self.length + (num_frames - 1) * self.shift - 2 * self.edge_zeros, 2)

    def extended(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """Return waveforms in which frame t begins at sample t * shift: [batch, at least all frames' samples]."""
        samples = waveforms.shape[1]
        if self.mirrored:
            after = (self.num_frames(samples) - 1) * self.shift + self.length - self.before
            position = torch.arange(-self.before, after, device=waveforms.device)
            # Kaldi's reflection repeats the end sample, so its period is twice the recording
            repeats = 0 if self.centered else 1
            # a tensor in either case: ONNX has no remainder by a number that is not known while exporting
            own = torch.scalar_tensor(samples, dtype=torch.int64, device=waveforms.device)
            last = (own if lengths is None else lengths.unsqueeze(1)) - 1
            period = 2 * last + 2 * repeats
            position = position % period
            position = torch.minimum(position, period - repeats - position)
            return waveforms[:, position] if lengths is None else waveforms.gather(1, position)
        if not (self.centered or self.edge_zeros):
            return waveforms
        if lengths is not None:
            sample = torch.arange(samples, device=waveforms.device)
            waveforms = waveforms.masked_fill(sample >= lengths.unsqueeze(1), 0.0)
        after = self.edge_zeros or self.length - self.before + self.extra_frames * self.shift
        return functional.pad(waveforms, (self.before, after))


def make_window(name: str, length: int, *, periodic: bool = False) -> Tensor:
    """Return a window, float64 [length]. Raises ConfigError for an unknown name."""
    if name not in WINDOWS:
        raise ConfigError(f"window {name!r} is unknown{nearest(name, WINDOWS)}")
    if name == "rectangular":
        return torch.ones(length, dtype=torch.float64)
    if name == "hamming":
        return torch.hamming_window(length, periodic=periodic, dtype=torch.float64)
    hann = torch.hann_window(length, periodic=periodic, dtype=torch.float64)
    return hann**0.85 if name == "povey" else hann


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
