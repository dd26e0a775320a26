"""ResNet-34 over time and frequency, known as the r-vector, and a thin form of it.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016; for speakers, Zeinali, Wang, Silnova,
Matejka and Plchot, "BUT system description to VoxCeleb speaker recognition challenge 2019", arXiv 1910.12592.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import MAX_LAYERS, Backbone, check_sizes
from xvectors.models.padding import FrameNorm, Padding
from xvectors.models.pooling import make_pooling


class ResNet34(Backbone):
    """A convolution and four stages of residual blocks over the filterbanks as an image, pooling, a linear layer.

    Parameters
    ----------
    embedding_dim
        Width of the linear layer, whose output is the embedding.
    channels
        Channels of the first stage; each later one has twice as many, at half the frames and filterbanks.
    depths
        Number of residual blocks in each of the four stages.
    pooling
        Pooling over frames (mean, statistics, attentive, multi_head or channel_context), of all channels of all
        filterbanks.
    frame_stride
        Stride of the first convolution over frames.
    band_stride
        Stride of the first convolution over filterbanks.
    embedding_norm
        Whether a BatchNorm follows the pooling, and another the linear layer; they remove the mean that all
        embeddings share.

    Notes
    -----
    Published size: 6.63 M parameters with 80 filterbanks, without the classifier (WeSpeaker's
    ResNet34-TSTP-emb256; Wang et al., "Wespeaker: a research and production oriented speaker embedding learning
    toolkit", ICASSP 2023).
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 256,
        input_dim: int = 80,
        *,
        channels: int = 32,
        depths: Sequence[int] = (3, 4, 6, 3),
        pooling: str = "statistics",
        frame_stride: int = 1,
        band_stride: int = 1,
        embedding_norm: bool = False,
    ) -> None:
        check_sizes(self, channels=channels, frame_stride=frame_stride, band_stride=band_stride)
        check_depths(self, depths, 4)
        # the fewest of which all strides leave two, for a deviation
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames=8 * frame_stride + 1)
        self.frame_stride = frame_stride
        self.first = MapConv(1, channels, 3, (frame_stride, band_stride))
        self.first_norm = FrameNorm(channels)
        blocks, inputs, bands = [], channels, -(-input_dim // band_stride)
        for stage, depth in enumerate(depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(ResidualBlock(inputs, channels * 2**stage, (stride, stride)))
                inputs, bands = channels * 2**stage, -(-bands // stride)
        self.blocks = nn.ModuleList(blocks)
        self.pooling = make_pooling(pooling, inputs * bands)
        pooled_dim = self.pooling.out_dim(inputs * bands)
        self.embedding = nn.Linear(pooled_dim, embedding_dim)
        self.pooled_norm = nn.BatchNorm1d(pooled_dim) if embedding_norm else nn.Identity()
        self.embedding_norm = nn.BatchNorm1d(embedding_dim) if embedding_norm else nn.Identity()
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        padding = padding and padding.strided(self.frame_stride)
        x = functional.relu(self.first_norm(self.first(x.unsqueeze(3)), padding))
        for block in self.blocks:
            x, padding = block(x, padding)
        pooled = self.pooled_norm(self.pooling(x.flatten(2), padding))
        return cast(Tensor, self.embedding_norm(self.embedding(pooled)))


class ThinResNet(ResNet34):
    """A narrow ResNet with one block per stage, on half the frames and half the filterbanks: fast on a CPU.

    The parameters are those of `ResNet34`, with other defaults.

    Notes
    -----
    Thin residual networks for speakers, with a stride in the first convolution, are those of Chung et al., "In defence
    of metric learning for speaker recognition", Interspeech 2020. Depth, width and strides were chosen for low error
    rates after minutes of training on two cores; docs/explanation/results.md has the accuracy. 0.94 M parameters with
    80 filterbanks, without the classifier.
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 128,
        input_dim: int = 80,
        *,
        channels: int = 24,
        depths: Sequence[int] = (1, 1, 1, 1),
        pooling: str = "statistics",
        frame_stride: int = 2,
        band_stride: int = 2,
        embedding_norm: bool = True,
    ) -> None:
        super().__init__(
            num_speakers,
            embedding_dim,
            input_dim,
            channels=channels,
            depths=depths,
            pooling=pooling,
            frame_stride=frame_stride,
            band_stride=band_stride,
            embedding_norm=embedding_norm,
        )


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


def check_depths(owner: nn.Module, depths: object, stages: int) -> None:
    """Raise ConfigError unless `depths` holds a number of layers from 1 to MAX_LAYERS for each stage."""
    listed = depths if isinstance(depths, list | tuple) else []
    if len(listed) != stages or any(not isinstance(depth, int) or not 1 <= depth <= MAX_LAYERS for depth in listed):
        name = type(owner).__name__
        raise ConfigError(
            f"{name}: depths is {depths!r}; it must be a list of {stages} whole numbers, each at least 1 "
            f"and at most {MAX_LAYERS}"
        )
