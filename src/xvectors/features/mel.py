"""Triangular filters on the mel scale, and the cosine transform from filterbanks to cepstra."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xvectors.errors import ConfigError
from xvectors.text import nearest

MEL_SCALES = ("htk", "slaney")
TRIANGLES = ("mel", "hz", "symmetric")

SLANEY_LINEAR_HZ, SLANEY_MEL_HZ, SLANEY_OCTAVES = 1000.0, 200.0 / 3, math.log(6.4) / 27
"""Slaney's scale: linear below 1000 Hz with 66.7 Hz per mel, then 27 mel for each factor of 6.4."""


def to_mel(frequency_hz: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return 1127.0 * torch.log1p(frequency_hz / 700.0)
    above = (frequency_hz / SLANEY_LINEAR_HZ).clamp(min=1.0).log() / SLANEY_OCTAVES
    return frequency_hz.clamp(max=SLANEY_LINEAR_HZ) / SLANEY_MEL_HZ + above


def to_hz(mel: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return 700.0 * torch.expm1(mel / 1127.0)
    bend = SLANEY_LINEAR_HZ / SLANEY_MEL_HZ
    return mel.clamp(max=bend) * SLANEY_MEL_HZ * ((mel - bend).clamp(min=0.0) * SLANEY_OCTAVES).exp()


def mel_filters(
    num_mels: int,
    fft_length: int,
    sample_rate_hz: int,
    low_hz: float,
    high_hz: float,
    *,
    scale: str = "htk",
    triangles: str = "mel",
    equal_area: bool = False,
    stretched_bins: bool = False,
) -> Tensor:
    """Return filters, float64 [fft_length // 2 + 1, num_mels]; the arguments are those of `Fbank`.

    Raises
    ------
    ConfigError
        For frequencies or names that are not possible, or filters narrower than the bins.
    """
    for name, value, known in (("mel_scale", scale, MEL_SCALES), ("triangles", triangles, TRIANGLES)):
        if value not in known:
            raise ConfigError(f"{name} {value!r} is unknown{nearest(value, known)}")
    low_hz, top_hz = _checked_range(low_hz, high_hz, sample_rate_hz / 2)
    edges = to_mel(torch.tensor([low_hz, top_hz], dtype=torch.float64), scale)
    corners = torch.linspace(float(edges[0]), float(edges[1]), num_mels + 2, dtype=torch.float64)
    corners_hz = to_hz(corners, scale)
    last = fft_length // 2 - 1 if stretched_bins else fft_length // 2
    bins = torch.arange(fft_length // 2 + 1, dtype=torch.float64) * (sample_rate_hz / 2 / last)
    if triangles == "mel":
        bins = to_mel(bins, scale)
    else:
        corners = corners_hz
    left, center, right = corners[:-2], corners[1:-1], corners[2:]
    if triangles == "symmetric":
        right = 2 * center - left
    bins = bins.unsqueeze(1)
    filters = torch.minimum((bins - left) / (center - left), (right - bins) / (right - center)).clamp(min=0.0)
    # Kaldi's filters never reach the Nyquist bin itself.
    filters[-1] = 0.0
    empty = int((filters.sum(dim=0) == 0).sum())
    if empty:
        raise ConfigError(
            f"num_mels is {num_mels}, too many for {sample_rate_hz} Hz and frames of {fft_length} points: "
            f"{empty} filters would hold no frequency bin; lower num_mels, or raise frame_length_ms"
        )
    return filters * (2.0 / (corners_hz[2:] - corners_hz[:-2])) if equal_area else filters


def cepstrum_matrix(num_mels: int, num_ceps: int, lifter: float) -> Tensor:
    """Return the orthonormal cosine transform (DCT-II) with liftering, float64 [num_mels, num_ceps]."""
    order = torch.arange(num_ceps, dtype=torch.float64)
    position = torch.arange(num_mels, dtype=torch.float64).unsqueeze(1) + 0.5
    matrix = (math.pi / num_mels * position * order).cos() * math.sqrt(2.0 / num_mels)
    matrix[:, 0] = math.sqrt(1.0 / num_mels)
    return matrix * (1.0 + lifter / 2 * (math.pi * order / lifter).sin()) if lifter else matrix


def _checked_range(low_hz: float, high_hz: float, nyquist_hz: float) -> tuple[float, float]:
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
    return low_hz, top_hz
