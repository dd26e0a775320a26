"""A small network that counts how many people speak, every 40 ms: nobody, one, or two and more.

Log-mel filterbanks without their mean over 10 s, two convolutions that halve the rate, and a stack of dilated
convolutions with residual connections (temporal convolutional network: Bai, Kolter and Koltun, arXiv 1803.01271). It
sees a limited stretch, so that a recording read in blocks gives what the whole of it gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.features import Fbank

SAMPLE_RATE_HZ = 16_000
FRAME_S = 0.04
SAMPLES_PER_FRAME = 640
MIDDLE_S = 0.0125
"""The middle of frame n is at 40 n + 12.5 ms, where its filterbank frame has its own."""
NOBODY, ONE, SEVERAL = range(3)
MEAN_FRAMES = 500
"""Filterbank frames of 10 ms on either side over whose mean the features are centered."""
FBANK_FRAMES = 4
"""Filterbank frames to a frame."""
DILATIONS = (1, 2, 4, 8, 16) * 2


class SpeakerCounter(nn.Module):
    """Log probabilities of nobody, one speaker, and several speakers, every 40 ms.

    Parameters
    ----------
    num_mels
        Log-mel filters of the features.
    channels
        Width of the convolutions.
    dilations
        Distance in frames between the three taps of each residual convolution.
    """

    def __init__(
        self, *, num_mels: int = 64, channels: int = 128, dilations: tuple[int, ...] = DILATIONS, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dilations = dilations
        self.fbank = Fbank(sample_rate_hz=SAMPLE_RATE_HZ, num_mels=num_mels, sample_scale=32768.0, energy_offset=100.0)
        self.spectral = nn.Sequential(
            nn.Conv1d(num_mels, channels, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, stride=2, padding=1),
        )
        self.temporal = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(channels),
                nn.ReLU(),
                nn.Conv1d(channels, channels, 3, dilation=dilation, padding=dilation),
                nn.Dropout(dropout),
            )
            for dilation in dilations
        )
        self.count = nn.Sequential(nn.BatchNorm1d(channels), nn.ReLU(), nn.Conv1d(channels, 3, 1))

    @property
    def context_frames(self) -> int:
        """Frames on either side of a frame that its probabilities depend on."""
        return MEAN_FRAMES // FBANK_FRAMES + 1 + sum(self.dilations)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return log probabilities [batch, frames, 3] of waveforms [batch, samples] in [-1, 1] at 16 kHz.

        There are as many frames as the filterbank has, divided by four and rounded up. Raises TooShortError for less
        than 25 ms.
        """
        features = centered(self.fbank(waveforms)).transpose(1, 2)
        hidden = self.spectral(0.3 * features)
        for block in self.temporal:
            hidden = hidden + block(hidden)
        return functional.log_softmax(self.count(hidden).transpose(1, 2), dim=2)


def centered(features: Tensor, frames: int = MEAN_FRAMES) -> Tensor:
    """Subtract from features [batch, frames, mels] their mean over a window of frames on either side."""
    count = features.shape[1]
    sums = functional.pad(features.double().cumsum(1), (0, 0, 1, 0))
    at = torch.arange(count, device=features.device)
    first, last = (at - frames).clamp(min=0), (at + frames + 1).clamp(max=count)
    means = (sums[:, last] - sums[:, first]) / (last - first).unsqueeze(1)
    return features - means.to(features.dtype)
