"""CAM++, a densely connected TDNN with context-aware masks.

Wang, Zheng, Chen, Cheng and Chen, "CAM++: a fast and efficient network for speaker verification using context-aware
masking", Interspeech 2023; its densely connected TDNN is that of Yu and Li, Interspeech 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone, check_depths, check_sizes
from xvectors.models.layers.maps import MapConv, ResidualBlock
from xvectors.models.layers.padding import Padding, RectifiedNorm
from xvectors.models.layers.pooling import make_pooling
from xvectors.models.layers.tdnn import TDNNLayer

DILATIONS = (1, 2, 2)
SEGMENT_FRAMES = 100
"""Number of frames in the local context of a mask; after the stride of two, 2 s at a frame shift of 10 ms."""
BOTTLENECK = 4
"""Width of a dense layer's bottleneck, as a multiple of its growth."""


class CAMPlusPlus(Backbone):
    """A 2-D convolutional front end, three blocks of densely connected masked TDNN layers, pooling, a linear layer.

    Parameters
    ----------
    embedding_dim
        Width of the linear layer, whose output is the embedding after a BatchNorm.
    map_channels
        Channels of the convolutions in the front end.
    channels
        Channels of the first TDNN layer, which keeps every second frame.
    growth
        Channels that each dense layer adds; an even number.
    depths
        Number of dense layers in each of the three blocks; each block ends by halving its channels.
    pooling
        Pooling over frames (mean, statistics, attentive, multi_head or channel_context).

    Notes
    -----
    Published size: 7.18 M parameters with 80 filterbanks, without the classifier.
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 512,
        input_dim: int = 80,
        *,
        map_channels: int = 32,
        channels: int = 128,
        growth: int = 32,
        depths: Sequence[int] = (12, 24, 16),
        pooling: str = "statistics",
    ) -> None:
        # the fewest of which the stride leaves two, so that there is a deviation
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames=3)
        check_sizes(self, map_channels=map_channels, channels=channels, growth=growth)
        check_depths(self, depths, len(DILATIONS))
        if growth % 2 or channels % 2:
            raise ConfigError(f"CAMPlusPlus: growth {growth} and channels {channels} must be even; they are halved")
        self.front = _FrontEnd(input_dim, map_channels)
        self.first = MapConv(self.front.output_dim, channels, (5, 1), stride=(2, 1))
        self.first_norm = RectifiedNorm(channels)
        blocks = []
        for depth, dilation in zip(depths, DILATIONS, strict=True):
            blocks.append(_DenseBlock(channels, growth, depth, dilation))
            channels = blocks[-1].output_dim
        self.blocks = nn.ModuleList(blocks)
        self.last_norm = RectifiedNorm(channels)
        self.pooling = make_pooling(pooling, channels)
        self.embedding = nn.Linear(self.pooling.out_dim(channels), embedding_dim, bias=False)
        # without weight and bias, because the layer that follows scales and shifts
        self.embedding_norm = nn.BatchNorm1d(embedding_dim, affine=False)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        x = self.front(x, padding)
        padding = padding and padding.strided(2)
        x = self.first_norm(self.first(x.unsqueeze(2)).squeeze(2), padding)
        for block in self.blocks:
            x = block(x, padding)
        x = self.last_norm(x, padding)
        return cast(Tensor, self.embedding_norm(self.embedding(self.pooling(x, padding))))


class _FrontEnd(nn.Module):
    """The front end: four residual blocks between two convolutions, which together keep an eighth of the bands."""

    def __init__(self, input_dim: int, channels: int) -> None:
        super().__init__()
        self.first, self.first_norm = MapConv(1, channels, 3), RectifiedNorm(channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels, channels, (1, stride)) for stride in (2, 1, 2, 1))
        self.last, self.last_norm = MapConv(channels, channels, 3, stride=(1, 2)), RectifiedNorm(channels)
        self.output_dim = channels * -(-input_dim // 8)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        """Map [batch, frames, mels] to [batch, frames, output_dim]."""
        x = self.first_norm(self.first(x.unsqueeze(3)), padding)
        for block in self.blocks:
            x, _ = block(x, padding)
        return cast(Tensor, self.last_norm(self.last(x), padding)).flatten(2)


class _DenseBlock(nn.Module):
    """Dense layers, each of which appends `growth` channels to its input, then a layer that halves the channels."""

    def __init__(self, channels: int, growth: int, depth: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_DenseLayer(channels + i * growth, growth, dilation) for i in range(depth))
        channels += depth * growth
        self.output_dim = channels // 2
        self.norm = RectifiedNorm(channels)
        self.halve = nn.Linear(channels, self.output_dim, bias=False)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        for layer in self.layers:
            x = torch.cat((x, layer(x, padding)), dim=2)
        return cast(Tensor, self.halve(self.norm(x, padding)))


class _DenseLayer(nn.Module):
    """A bottleneck, then a TDNN layer whose output is masked by context from the segment and the whole recording."""

    def __init__(self, inputs: int, growth: int, dilation: int) -> None:
        super().__init__()
        width = BOTTLENECK * growth
        self.input_norm = RectifiedNorm(inputs)
        self.bottleneck = nn.Linear(inputs, width, bias=False)
        self.norm = RectifiedNorm(width)
        self.tdnn = TDNNLayer(width, (-dilation, 0, dilation), growth, bias=False, activation=None)
        self.squeeze = nn.Linear(width, width // 2)
        self.excite = nn.Linear(width // 2, growth)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        x = self.norm(self.bottleneck(self.input_norm(x, padding)), padding)
        span = self.tdnn.span // 2
        local = self.tdnn(functional.pad(x, (0, 0, span, span)))
        # one mask per segment, computed from its context and repeated over its frames
        masks = torch.sigmoid(self.excite(functional.relu(self.squeeze(segment_context(x, padding)))))
        return cast(Tensor, local * masks.repeat_interleave(SEGMENT_FRAMES, dim=1)[:, : x.shape[1]])


def segment_context(x: Tensor, padding: Padding | None) -> Tensor:
    """Add the mean of a recording to the mean of each of its segments of 100 frames.

    `x` is [batch, frames, channels], zero in the padding, which does not count; the last segment of a recording may be
    shorter. Returns [batch, segments, channels], at least float32.
    """
    frames, wide = x.shape[1], torch.promote_types(x.dtype, torch.float32)
    segments = (frames + SEGMENT_FRAMES - 1) // SEGMENT_FRAMES  # exported graphs round negative quotients up
    x = functional.pad(x, (0, 0, 0, segments * SEGMENT_FRAMES - frames))
    sums = x.view(x.shape[0], segments, SEGMENT_FRAMES, -1).sum(dim=2, dtype=wide)
    counts = (torch.tensor([frames]) if padding is None else padding.counts).view(-1, 1, 1)
    own = (counts - SEGMENT_FRAMES * torch.arange(segments).unsqueeze(1)).clamp(0, SEGMENT_FRAMES)
    # a segment in the padding gets the mean 0, which is never used
    means = sums / own.clamp(min=1).to(x.device, wide)
    return sums.sum(dim=1, keepdim=True) / counts.to(x.device, wide) + means
