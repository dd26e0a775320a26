"""Context over time: convolutions and self-attention over [batch, frames, channels], as in ReDimNet."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.layers.maps import MapConv
from xvectors.models.layers.padding import FrameNorm, Padding

HEADS = 4
KERNELS = (7, 19, 31, 59)
"""Frames that the convolutions before the attention see."""
NORM_EPS = 1e-6


class NextBlock(nn.Module):
    """A grouped convolution with BatchNorm, GELU and a linear layer, added to its input, as in ConvNeXt.

    References
    ----------
    Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s", CVPR 2022.
    """

    def __init__(self, channels: int, kernel: int | tuple[int, int], groups: int) -> None:
        super().__init__()
        # without bias, which the BatchNorm would remove
        self.conv, self.norm = MapConv(channels, channels, kernel, groups=groups), FrameNorm(channels)
        self.mix = nn.Linear(channels, channels)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        """Map [batch, frames, bands, channels], zero in the padding, to the same shape; zeros in it stay zeros."""
        x = x + self.mix(functional.gelu(self.norm(self.conv(x), padding)))
        return x if padding is None else padding.zero(x)


class TimeContext(nn.Module):
    """Fewer channels, four convolutions over time, self-attention, and the channels again, added to the input.

    Parameters
    ----------
    channels
        Channels of a frame.
    width
        Channels of the convolutions and of the attention, a multiple of 4.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce, self.reduced_norm = nn.Linear(channels, width), nn.LayerNorm(width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(NextBlock(width, (kernel, 1), groups=width) for kernel in KERNELS)
        self.attention, self.attention_norm = SelfAttention(width), nn.LayerNorm(width, eps=NORM_EPS)
        self.widen, self.narrow = nn.Linear(width, width), nn.Linear(width, width)
        self.output_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.expand = nn.Linear(width, channels)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        """Map [batch, frames, channels] to the same shape; what stands in the padding has no influence."""
        hidden = self.reduced_norm(self.reduce(x))
        hidden = (hidden if padding is None else padding.zero(hidden)).unsqueeze(2)
        for block in self.blocks:
            hidden = block(hidden, padding)
        hidden = hidden.squeeze(2)
        hidden = self.attention_norm(hidden + self.attention(hidden, padding))
        inner = self.narrow(functional.gelu(self.widen(hidden), approximate="tanh"))
        return cast(Tensor, x + self.expand(self.output_norm(hidden + inner)))


class SelfAttention(nn.Module):
    """Scaled dot-product attention of four heads over the frames of a recording.

    Keys have no bias: it would add the same to all scores of a query, which the softmax cancels.

    References
    ----------
    Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin, "Attention is all you need", NeurIPS 2017.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        query, key, value = (
            layer(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        seen = None if padding is None else ~padding.behind[:, None, None, :]
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return cast(Tensor, self.output(attended.transpose(1, 2).flatten(2)))


class WeightedSum(nn.Module):
    """The sum of several inputs with weights per channel that add up to 1.

    Parameters
    ----------
    inputs
        Number of inputs.
    channels
        Channels of a frame.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(inputs, channels))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Map [batch, frames, channels] each to one of that shape."""
        weights = self.scores.softmax(dim=0)
        total = inputs[0] * weights[0]
        for x, weight in zip(inputs[1:], weights[1:], strict=True):
            total = torch.addcmul(total, x, weight.to(x.dtype))
        return total


class GroupedNorm(nn.Module):
    """Normalization of groups of channels over all frames of a recording, which ignores the padding.

    References
    ----------
    Wu and He, "Group normalization", ECCV 2018.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        """Map [batch, frames, channels] to the same shape, in at least float32."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        parts = wide.view(*x.shape[:2], self.groups, -1)
        centered = parts - _over_frames(parts, padding)[:, None, :, None]
        variance = _over_frames(centered.square(), padding)
        normalized = centered * (variance + self.eps).rsqrt()[:, None, :, None]
        return normalized.flatten(2) * self.weight + self.bias


def _over_frames(parts: Tensor, padding: Padding | None) -> Tensor:
    """Average [batch, frames, groups, channels] over a recording's frames and channels: [batch, groups]."""
    per_frame = parts.mean(dim=3)
    return per_frame.mean(dim=1) if padding is None else padding.mean(padding.zero(per_frame))
