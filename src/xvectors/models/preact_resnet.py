"""A ResNet whose blocks normalize before they convolve, with squeeze-excitation in the first two stages.

He, Zhang, Ren and Sun, "Identity mappings in deep residual networks", ECCV 2016; Hu, Shen and Sun, "Squeeze-and-
excitation networks", CVPR 2018. SpeechBrain publishes this form (spkrec-resnet-voxceleb).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.layers.maps import MapConv, SkipBlock
from xvectors.models.layers.padding import Padding, RectifiedNorm
from xvectors.models.resnet import ResNet34


class PreActivationBlock(SkipBlock):
    """BatchNorm, ReLU and convolution, three times, the last with a kernel of one; nothing follows the sum."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.norm1, self.conv1 = RectifiedNorm(inputs), MapConv(inputs, outputs, 3, stride)
        self.norm2, self.conv2 = RectifiedNorm(outputs), MapConv(outputs, outputs, 3)
        self.norm3, self.conv3 = RectifiedNorm(outputs), MapConv(outputs, outputs, 1)
        self.add_shortcut(inputs, outputs, stride)

    def residual(self, x: Tensor, before: Padding | None, after: Padding | None) -> Tensor:
        hidden = self.conv1(self.norm1(x, before))
        hidden = self.conv2(self.norm2(hidden, after))
        return cast(Tensor, self.conv3(self.norm3(hidden, after)))

    def activation(self, x: Tensor) -> Tensor:
        return x


class ExcitedBlock(PreActivationBlock):
    """The same, with each channel weighted by what all channels are like on average over frames and bands."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, stride)
        self.squeeze, self.excite = nn.Linear(outputs, outputs), nn.Linear(outputs, outputs)

    def residual(self, x: Tensor, before: Padding | None, after: Padding | None) -> Tensor:
        hidden = super().residual(x, before, after)
        bands = hidden.mean(dim=2)
        mean = bands.mean(dim=1) if after is None else after.mean(bands)
        weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
        return hidden * weights[:, None, None]


class PreActResNet(ResNet34):
    """A wide ResNet-34 of pre-activation blocks, with squeeze-excitation in its first two stages.

    Parameters
    ----------
    channels
        Channels of the first two stages; the last two have twice as many. From the second stage on, each has half the
        frames and filterbanks of the one before.

    Notes
    -----
    SpeechBrain's spkrec-resnet-voxceleb, in its default size; its publisher states no number of parameters.
    """

    widths = (1, 1, 2, 2)
    blocks_by_stage = (ExcitedBlock, ExcitedBlock, PreActivationBlock, PreActivationBlock)
    variance_floor = 1e-5

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 256,
        input_dim: int = 80,
        *,
        channels: int = 128,
        depths: Sequence[int] = (3, 4, 6, 3),
        pooling: str = "asp",
        frame_stride: int = 1,
        band_stride: int = 1,
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
