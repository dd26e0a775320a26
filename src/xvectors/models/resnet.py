"""ResNets over time and frequency: ResNet-34, known as the r-vector, thin, deeper and attentive forms of it.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016; for speakers, Zeinali, Wang, Silnova,
Matejka and Plchot, "BUT system description to VoxCeleb speaker recognition challenge 2019", arXiv 1910.12592.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from torch import Tensor, nn

from xvectors.models.backbone import Backbone, check_depths, check_sizes
from xvectors.models.layers.maps import BottleneckBlock, MapConv, ResidualBlock, SimAMBlock, SkipBlock
from xvectors.models.layers.padding import Padding, RectifiedNorm
from xvectors.models.layers.pooling import make_pooling


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
        Pooling over frames (mean, statistics, attentive, multi_head, channel_context or asp), of all channels of all
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

    block: ClassVar[type[SkipBlock]] = ResidualBlock
    expansion: ClassVar[int] = 1
    """Outputs of a block, as a multiple of its stage's channels."""
    widths: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)
    """Channels of the stages, as multiples of the first's."""
    blocks_by_stage: ClassVar[tuple[type[SkipBlock], ...] | None] = None
    """The block of each stage, where they differ."""
    variance_floor: ClassVar[float] = 1e-10

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
        self.first_norm = RectifiedNorm(channels)
        blocks, inputs, bands = [], channels, -(-input_dim // band_stride)
        for stage, depth in enumerate(depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                outputs = channels * self.widths[stage] * self.expansion
                make = self.block if self.blocks_by_stage is None else self.blocks_by_stage[stage]
                blocks.append(make(inputs, outputs, (stride, stride)))
                inputs, bands = outputs, -(-bands // stride)
        self.blocks = nn.ModuleList(blocks)
        self.pooling = make_pooling(pooling, inputs * bands, self.variance_floor)
        pooled_dim = self.pooling.out_dim(inputs * bands)
        self.embedding = nn.Linear(pooled_dim, embedding_dim)
        self.pooled_norm = nn.BatchNorm1d(pooled_dim) if embedding_norm else nn.Identity()
        self.embedding_norm = nn.BatchNorm1d(embedding_dim) if embedding_norm else nn.Identity()
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        padding = padding and padding.strided(self.frame_stride)
        x = self.first_norm(self.first(x.unsqueeze(3)), padding)
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


class BottleneckResNet(ResNet34):
    """A deep ResNet of bottleneck blocks: 152 layers by default, 221 and 293 with more blocks.

    Parameters
    ----------
    channels
        Channels inside the blocks of the first stage, which put out four times as many; each later stage has twice as
        many, at half the frames and filterbanks.
    depths
        Number of bottleneck blocks in each of the four stages: 3, 8, 36, 3 for ResNet-152; 6, 16, 48, 3 for
        ResNet-221; 10, 20, 64, 3 for ResNet-293.

    Notes
    -----
    Published sizes: 23.79 M parameters for ResNet-221 and 28.62 M for ResNet-293, with 80 filterbanks, without the
    classifier (WeSpeaker).
    """

    block = BottleneckBlock
    expansion = 4

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 256,
        input_dim: int = 80,
        *,
        channels: int = 32,
        depths: Sequence[int] = (3, 8, 36, 3),
        pooling: str = "statistics",
        frame_stride: int = 1,
        band_stride: int = 1,
        embedding_norm: bool = False,
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


class SimAMResNet(ResNet34):
    """A wide ResNet whose residual blocks weigh their result by SimAM, an attention without parameters.

    The parameters are those of `ResNet34`, with other defaults; 6, 16, 24, 3 blocks make SimAM-ResNet-100.

    Notes
    -----
    Published size: 50.2 M parameters for SimAM-ResNet-100 with 80 filterbanks, without the classifier (WeSpeaker).

    References
    ----------
    Qin, Li, Weng, Su and Li, "Simple attention module based speaker verification with iterative noisy label detection",
    ICASSP 2022; `simam` cites the attention.
    """

    block = SimAMBlock
    variance_floor = 1e-5

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 256,
        input_dim: int = 80,
        *,
        channels: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        pooling: str = "asp",
        frame_stride: int = 1,
        band_stride: int = 1,
        embedding_norm: bool = False,
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
