"""ReDimNet and ReDimNet2, which reshape between maps of few channels and sequences of many.

Yakovlev, Makarov, Balykin, Malov, Okhotnikov and Torgashov, "Reshape dimensions network for speaker recognition",
Interspeech 2024; Yakovlev and Okhotnikov, "ReDimNet2: scaling speaker verification via time-pooled dimension
reshaping", arXiv 2603.11841.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone, check_depths, check_sizes
from xvectors.models.layers.context import HEADS, NORM_EPS, GroupedNorm, NextBlock, TimeContext, WeightedSum
from xvectors.models.layers.maps import MapConv
from xvectors.models.layers.padding import FrameNorm, Padding
from xvectors.models.layers.pooling import make_pooling
from xvectors.models.redimnet_layouts import BLOCKS, FIRST_SIZES, SECOND_SIZES, Layout
from xvectors.text import nearest


class ReDimNet(Backbone):
    """Stages of convolutions over a map and context over time, each on a weighted sum of all outputs before it.

    A stage takes its input as a map of bands and channels, reduces the bands, and widens the channels by as much, so
    that all outputs have equally many numbers a frame and can be summed.

    Parameters
    ----------
    embedding_dim
        Width of the linear layer, whose output is the embedding.
    size
        Named layout, b0 to b6, for 72 filterbanks (b0 of the first generation: 60). The other settings replace parts of
        it; 0, -1 or an empty list leave its own.
    channels
        Channels of the map that enters the first stage, whose bands are the filterbanks.
    band_strides
        For each stage, the number of bands that it joins to one. Filterbanks are extended with zeros to a multiple of
        their product.
    frame_strides
        For each stage, the factor by which the stages from this one on shorten a recording inside.
    depths
        Number of convolution blocks of each stage.
    widths
        Channels of the convolution blocks of each stage.
    reductions
        For each stage, the factor by which its context over time has fewer channels than a frame, rounded to a multiple
        of the 4 heads; 0 for no context.
    block
        Kind of the convolution blocks: residual, excited (residual with a weight for each band) or next (ConvNeXt).
    group_width
        Channels of a group of the blocks' convolutions; 1 convolves each channel on its own.
    head_channels
        Channels of a linear layer before the pooling; 0 for none.
    head_per_band
        Whether that layer maps each band of the last stage, or all bands together.
    aggregate_norm
        Whether a group normalization follows the stem and each stage, as in ReDimNet2's training recipes.
    sum_maps
        Whether a stage has two outputs in the weighted sums: the map before its context over time, and the one after.
    pooling
        Pooling over frames: a name that `xvectors.models.POOLINGS` lists.
    pooled_norm
        Whether a BatchNorm follows the pooling, as in the authors' code and not in WeSpeaker's of the first generation.

    Notes
    -----
    Published sizes without the classifier: 1.0 M parameters for b0 and 15.0 M for b6. For b1 to b5 the paper states
    2.2, 4.7, 3.0, 6.3 and 9.2 M; the layouts here, WeSpeaker's, have 2.1, 4.9, 3.2, 6.4 and 7.6 M.
    """

    SIZES: ClassVar[Mapping[str, Layout]] = FIRST_SIZES
    compressed: ClassVar[bool] = False
    """Whether the convolutions that join bands are grouped, and those that narrow a stage have a kernel of one."""

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 192,
        input_dim: int = 72,
        *,
        size: str = "b2",
        channels: int = 0,
        band_strides: Sequence[int] = (),
        frame_strides: Sequence[int] = (),
        depths: Sequence[int] = (),
        widths: Sequence[int] = (),
        reductions: Sequence[int] = (),
        block: str = "",
        group_width: int = 0,
        head_channels: int = -1,
        head_per_band: bool = True,
        aggregate_norm: bool = False,
        sum_maps: bool = False,
        pooling: str = "astp",
        pooled_norm: bool = True,
    ) -> None:
        if size not in self.SIZES:
            raise ConfigError(f"{type(self).__name__}: unknown size {size!r}{nearest(size, self.SIZES)}")
        given: dict[str, Any] = {
            "channels": channels,
            "band_strides": band_strides,
            "frame_strides": frame_strides,
            "depths": depths,
            "widths": widths,
            "reductions": reductions,
            "block": block,
            "group_width": group_width,
        }
        changed = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if value}
        if head_channels >= 0:
            changed["head_channels"] = head_channels
        layout = Layout(**{**vars(self.SIZES[size]), **changed}).completed()
        _check(self, layout)
        self.frame_stride = math.prod(layout.frame_strides)
        # a deviation needs two frames
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames=max(2, self.frame_stride))
        self.layout = layout
        joined = math.prod(layout.band_strides)
        bands = -(-input_dim // joined) * joined
        self.extra_bands = bands - input_dim
        flat = layout.channels * bands
        self.stem = MapConv(1, layout.channels, 3, bias=True)
        self.stem_norm = nn.LayerNorm(layout.channels, eps=NORM_EPS)
        stages, outputs, own, frame_stride = [], [1], layout.channels, 1
        for index, band_stride in enumerate(layout.band_strides):
            frame_stride *= layout.frame_strides[index]
            stages.append(_Stage(layout, index, bands, own, frame_stride, flat, self.compressed, sum_maps))
            outputs.append(outputs[-1] + stages[-1].outputs)
            bands, own = bands // band_stride, own * band_stride
        self.stages = nn.ModuleList(stages)
        # the first stage has one input
        self.sums = nn.ModuleList(WeightedSum(number, flat) for number in outputs[1:])
        norms = [GroupedNorm(layout.channels, flat) for _ in range(outputs[-1])] if aggregate_norm else []
        self.aggregate_norms = nn.ModuleList(norms)
        self.bands = bands if head_per_band else 1
        pooled = self.bands * layout.head_channels if layout.head_channels else flat
        self.head = nn.Linear(flat // self.bands, layout.head_channels) if layout.head_channels else None
        self.pooling = make_pooling(pooling, pooled, 1e-7)
        pooled_dim = self.pooling.out_dim(pooled)
        self.pooled_norm = nn.BatchNorm1d(pooled_dim) if pooled_norm else nn.Identity()
        self.embedding = nn.Linear(pooled_dim, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        if self.frame_stride > 1:
            x, padding = _whole(x, padding, self.frame_stride)
        x = functional.pad(x, (0, self.extra_bands))
        outputs = [self._normed(0, self.stem_norm(self.stem(x.unsqueeze(3))).flatten(2), padding)]
        for index, stage in enumerate(self.stages):
            entering = self.sums[index - 1](outputs) if index else outputs[0]
            for output in stage(entering, padding):
                outputs.append(self._normed(len(outputs), output, padding))
        x = self.sums[-1](outputs)
        if self.head is not None:
            x = self.head(x.view(*x.shape[:2], self.bands, -1)).flatten(2)
        return cast(Tensor, self.embedding(self.pooled_norm(self.pooling(x, padding))))

    def _normed(self, index: int, x: Tensor, padding: Padding | None) -> Tensor:
        return cast(Tensor, self.aggregate_norms[index](x, padding)) if self.aggregate_norms else x


class ReDimNet2(ReDimNet):
    """ReDimNet whose later stages work on half and a quarter of the frames.

    The parameters are those of `ReDimNet`, with other sizes. The last frames of a recording are left out where its
    length is not a multiple of 4.

    Notes
    -----
    Published sizes with 72 filterbanks, without the classifier: 1.1, 2.1, 3.6, 4.1, 6.6, 8.9 and 12.3 M parameters for
    b0 to b6, cut to one digit. Stages and heads are those of the authors' training recipes for VoxCeleb2, which set
    `aggregate_norm` besides; the b3 of VoxBlink2 has a head of 224 channels for each band.
    """

    SIZES = SECOND_SIZES
    compressed = True


class _Stage(nn.Module):
    """Joined bands, convolution blocks over the map, fewer channels again, and context over time."""

    def __init__(
        self,
        layout: Layout,
        index: int,
        bands: int,
        channels: int,
        frame_stride: int,
        flat: int,
        compressed: bool,
        sum_maps: bool,
    ) -> None:
        super().__init__()
        stride, width, reduction = layout.band_strides[index], layout.widths[index], layout.reductions[index]
        self.entering, self.frame_stride = (bands, channels), frame_stride
        groups = math.gcd(channels, width) if compressed else 1
        taps = (frame_stride, stride)
        self.join = MapConv(channels, width, taps, taps, groups=groups, bias=True, padded=False)
        bands, channels = bands // stride, channels * stride
        self.blocks = nn.ModuleList(_block(layout, width, bands) for _ in range(layout.depths[index]))
        self.narrow: nn.Module | None = None
        if width != channels:
            self.narrow = _Narrow(width, channels, 0 if compressed else max(1, channels // layout.group_width))
        self.context = TimeContext(flat, max(HEADS, flat // reduction // HEADS * HEADS)) if reduction else None
        self.outputs = 2 if sum_maps and reduction else 1

    def forward(self, x: Tensor, padding: Padding | None) -> list[Tensor]:
        """Map [batch, frames, numbers] to one or two outputs of the same shape."""
        padding = padding and padding.strided(self.frame_stride)
        x = self.join(x.view(*x.shape[:2], *self.entering))
        if padding is not None:
            x = padding.zero(x)
        for block in self.blocks:
            x = block(x, padding)
        if self.narrow is not None:
            x = self.narrow(x, padding)
        outputs = [x.flatten(2)]
        if self.context is not None:
            outputs.append(self.context(outputs[0], padding))
        outputs = outputs[-self.outputs :]
        return [each.repeat_interleave(self.frame_stride, dim=1) if self.frame_stride > 1 else each for each in outputs]


class _Residual(nn.Module):
    """Two grouped convolutions, each with a linear layer and BatchNorm, and a skip connection."""

    def __init__(self, channels: int, bands: int, groups: int, *, excited: bool) -> None:
        super().__init__()
        self.conv1, self.mix1 = MapConv(channels, channels, 3, groups=groups), nn.Linear(channels, channels)
        self.norm1 = FrameNorm(channels)
        # without bias, which the BatchNorm would remove
        self.conv2, self.mix2 = MapConv(channels, channels, 3, groups=groups), nn.Linear(channels, channels, bias=False)
        self.norm2 = FrameNorm(channels)
        inner = min(64, max(channels, 32))
        self.squeeze = nn.Linear(bands, inner) if excited else None
        self.excite = nn.Linear(inner, bands) if excited else None

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        hidden = self.norm1(functional.relu(self.mix1(self.conv1(x))), padding)
        hidden = self.norm2(self.mix2(self.conv2(hidden)), padding)
        if self.squeeze is not None and self.excite is not None:
            per_band = hidden.mean(dim=3)
            mean = per_band.mean(dim=1) if padding is None else padding.mean(per_band)
            weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
            hidden = hidden * weights[:, None, :, None]
        return functional.relu(x + hidden)


class _Narrow(nn.Module):
    """From the width of a stage's blocks to the channels of its output, with BatchNorm.

    With groups, a convolution that GELU and a linear layer follow; without (0), a linear layer.
    """

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.narrow: nn.Module
        if groups:
            self.narrow = MapConv(inputs, outputs, 3, groups=groups)
        else:
            self.narrow = nn.Linear(inputs, outputs, bias=False)
        self.norm = FrameNorm(outputs, eps=NORM_EPS)
        self.mix = nn.Linear(outputs, outputs) if groups else None

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        x = self.norm(self.narrow(x), padding)
        return x if self.mix is None else cast(Tensor, self.mix(functional.gelu(x)))


def _block(layout: Layout, channels: int, bands: int) -> nn.Module:
    groups = max(1, channels // layout.group_width)
    if layout.block == "next":
        return NextBlock(channels, 3, groups)
    return _Residual(channels, bands, groups, excited=layout.block == "excited")


def _whole(x: Tensor, padding: Padding | None, stride: int) -> tuple[Tensor, Padding | None]:
    """Cut recordings to multiples of `stride` frames."""
    frames = x.shape[1] // stride * stride
    x = x[:, :frames]
    if padding is None:
        return x, None
    padding = Padding(padding.counts // stride * stride, frames, x.device)
    return padding.zero(x), padding


def _check(owner: nn.Module, layout: Layout) -> None:
    """Raise ConfigError for a layout that is impossible."""
    name, stages = type(owner).__name__, len(layout.band_strides)
    check_sizes(owner, channels=layout.channels, group_width=layout.group_width)
    check_sizes(owner, **{f"band_strides[{i}]": each for i, each in enumerate(layout.band_strides)})
    check_depths(owner, layout.depths, stages)
    if layout.block not in BLOCKS:
        raise ConfigError(f"{name}: block is {layout.block!r}; it must be one of {', '.join(BLOCKS)}")
    for key, least in (("frame_strides", 1), ("widths", 1), ("reductions", 0)):
        values = getattr(layout, key)
        if len(values) != stages or any(not isinstance(each, int) or each < least for each in values):
            raise ConfigError(
                f"{name}: {key} is {list(values)}; it must hold a whole number of at least {least} for each of the "
                f"{stages} band_strides"
            )
    for width in layout.widths:
        groups = max(1, width // layout.group_width)
        if width % groups:
            raise ConfigError(f"{name}: groups of {layout.group_width} channels do not divide the width {width}")
