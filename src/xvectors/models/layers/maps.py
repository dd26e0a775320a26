"""Convolutions over filterbanks as an image: [batch, frames, bands, channels]."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.layers.padding import FrameNorm, Padding


class MapConv(nn.Conv2d):
    """A convolution over [batch, frames, bands, channels] without bias, padded by half its kernel.

    With the channels last, neither the convolution nor the BatchNorm after it copies the data into another order. A
    kernel of one is computed as a linear layer: with a stride and 8 channels or fewer, torch 2.13's gradient of such a
    convolution writes outside its memory on CPUs.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        frames, bands = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__(inputs, outputs, (frames, bands), stride=stride, padding=(frames // 2, bands // 2), bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.kernel_size == (1, 1):
            return functional.linear(input[:, :: self.stride[0], :: self.stride[1]], self.weight.flatten(1))
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm and a skip connection; the first has the stride (frames, bands)."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.frame_stride = stride[0]
        self.conv1, self.norm1 = MapConv(inputs, outputs, 3, stride), FrameNorm(outputs)
        self.conv2, self.norm2 = MapConv(outputs, outputs, 3), FrameNorm(outputs)
        self.shortcut = self.shortcut_norm = None
        if inputs != outputs or stride != (1, 1):
            self.shortcut, self.shortcut_norm = MapConv(inputs, outputs, 1, stride), FrameNorm(outputs)

    def forward(self, x: Tensor, padding: Padding | None) -> tuple[Tensor, Padding | None]:
        """Map [batch, frames, bands, inputs] to fewer frames and bands, and their padding; zeros in it stay zeros."""
        padding = padding and padding.strided(self.frame_stride)
        hidden = functional.relu(self.norm1(self.conv1(x), padding))
        hidden = self.norm2(self.conv2(hidden), padding)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x), padding)
        return functional.relu(x + hidden), padding
