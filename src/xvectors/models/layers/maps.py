"""Convolutions over filterbanks as an image: [batch, frames, bands, channels]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.layers.padding import FrameNorm, Padding, RectifiedNorm


class MapConv(nn.Conv2d):
    """A convolution over [batch, frames, bands, channels], by default without bias and padded by half its kernel.

    With the channels last, neither the convolution nor the BatchNorm after it copies the data into another order. A
    kernel of one is computed as a linear layer: with a stride and 8 channels or fewer, torch 2.13's gradient of such a
    convolution writes outside its memory on CPUs.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        *,
        groups: int = 1,
        bias: bool = False,
        padded: bool = True,
    ) -> None:
        frames, bands = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.sides = (frames // 2, bands // 2) if padded else (0, 0)
        super().__init__(inputs, outputs, (frames, bands), stride=stride, padding=self.sides, groups=groups, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return convolve(input, self.weight, self.bias, self.stride, self.sides, self.groups)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], groups: int
) -> Tensor:
    """Convolve `x` [batch, frames, bands, channels] with `weight` [outputs, channels / groups, frames, bands]."""
    if weight.shape[2:] == (1, 1) and groups == 1:
        return functional.linear(x[:, :: stride[0], :: stride[1]], weight.flatten(1), bias)
    if x.shape[2] == weight.shape[3] == 1:  # over frames alone: as a row of pixels, more than twice as fast on CPUs
        image, weight, stride, padding = x.transpose(1, 2), weight.transpose(2, 3), stride[::-1], padding[::-1]
        out = functional.conv2d(image.permute(0, 3, 1, 2), weight, bias, stride, padding, groups=groups)
        return out.permute(0, 2, 3, 1).transpose(1, 2)
    return functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride, padding, groups=groups).permute(0, 2, 3, 1)


class SkipBlock(nn.Module):
    """Base of the residual blocks: layers beside a skip connection, and an activation of the sum.

    A subclass builds layers of which one has the stride (frames, bands), calls `add_shortcut`, and implements
    `residual`.
    """

    def add_shortcut(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        self.frame_stride = stride[0]
        self.shortcut = self.shortcut_norm = None
        if inputs != outputs or stride != (1, 1):
            self.shortcut, self.shortcut_norm = MapConv(inputs, outputs, 1, stride), FrameNorm(outputs)

    def residual(self, x: Tensor, before: Padding | None, after: Padding | None) -> Tensor:
        """Compute what is added to the skip connection, with the padding before and after the stride."""
        raise NotImplementedError

    def activation(self, x: Tensor) -> Tensor:
        """Return the activation of a sum that nothing else reads."""
        return torch.relu_(x)

    def forward(self, x: Tensor, padding: Padding | None) -> tuple[Tensor, Padding | None]:
        """Map [batch, frames, bands, inputs] to fewer frames and bands, and their padding; zeros in it stay zeros."""
        after = padding and padding.strided(self.frame_stride)
        residual = self.residual(x, padding, after)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x), after)
        return self.activation(x + residual), after


class ResidualBlock(SkipBlock):
    """Two convolutions with BatchNorm."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1, self.norm1 = MapConv(inputs, outputs, 3, stride), RectifiedNorm(outputs)
        self.conv2, self.norm2 = MapConv(outputs, outputs, 3), FrameNorm(outputs)
        self.add_shortcut(inputs, outputs, stride)

    def residual(self, x: Tensor, before: Padding | None, after: Padding | None) -> Tensor:
        hidden = self.norm1(self.conv1(x), after)
        return cast(Tensor, self.norm2(self.conv2(hidden), after))


class BottleneckBlock(SkipBlock):
    """A convolution on a quarter of the channels, between two with a kernel of one; each with BatchNorm."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        width = outputs // 4
        self.conv1, self.norm1 = MapConv(inputs, width, 1), RectifiedNorm(width)
        self.conv2, self.norm2 = MapConv(width, width, 3, stride), RectifiedNorm(width)
        self.conv3, self.norm3 = MapConv(width, outputs, 1), FrameNorm(outputs)
        self.add_shortcut(inputs, outputs, stride)

    def residual(self, x: Tensor, before: Padding | None, after: Padding | None) -> Tensor:
        hidden = self.norm1(self.conv1(x), before)
        hidden = self.norm2(self.conv2(hidden), after)
        return cast(Tensor, self.norm3(self.conv3(hidden), after))


class SimAMBlock(ResidualBlock):
    """Two convolutions with BatchNorm, whose result is weighted by SimAM."""

    def residual(self, x: Tensor, before: Padding | None, after: Padding | None) -> Tensor:
        return simam(super().residual(x, before, after), after)


def simam(x: Tensor, padding: Padding | None, regularization: float = 1e-4) -> Tensor:
    """Weight each place of a map by how far it lies from the mean of its channel: an attention without parameters.

    `x` is [batch, frames, bands, channels], zero in the padding, which does not count. With the variance v of a channel
    over all frames and bands of a recording, divided by their number less one, a place x gets the weight
    sigmoid((x - mean)^2 / (4 (v + regularization)) + 1/2).

    References
    ----------
    Yang, Zhang, Li and Xie, "SimAM: a simple, parameter-free attention module for convolutional neural networks",
    ICML 2021.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    bands = x.shape[2]
    places = x.shape[1] * bands if padding is None else (padding.counts * bands).view(-1, 1, 1, 1).to(x.device)
    squares = (wide - wide.sum(dim=(1, 2), keepdim=True) / places).square()
    own = squares if padding is None else padding.zero(squares)
    variance = own.sum(dim=(1, 2), keepdim=True) / (places - 1)
    return (wide * torch.sigmoid(squares / (4 * (variance + regularization)) + 0.5)).to(x.dtype)
