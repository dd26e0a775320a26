"""ERes2NetV2, a Res2Net over time and frequency that fuses features of two scales.

Chen, Zheng, Wang, Cheng et al., "ERes2NetV2: boosting short-duration speaker verification performance with
computational efficiency", Interspeech 2024, arXiv 2406.02167; its fusion is that of Dai, Gieseke, Oehmcke, Wu and
Barnard, "Attentional feature fusion", WACV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone, check_depths, check_sizes
from xvectors.models.layers.maps import MapConv, SkipBlock
from xvectors.models.layers.padding import FrameNorm, Padding, RectifiedNorm
from xvectors.models.layers.pooling import make_pooling

CEILING = 20.0
"""Largest output of the activations, which are ReLUs cut off there."""
FIRST_FUSED_STAGE = 2
"""The first of the four stages whose blocks fuse their chunks instead of adding them."""
REDUCTION = 4
"""Channels of a fusion, divided by those of its hidden layer."""


class ERes2NetV2(Backbone):
    """A convolution, four stages of Res2Net blocks, a fusion of the last two stages, pooling, a linear layer.

    Parameters
    ----------
    embedding_dim
        Width of the linear layer, whose output is the embedding.
    channels
        Channels of the first stage; each later one has twice as many, at half the frames and filterbanks.
    depths
        Number of blocks in each of the four stages.
    base_width
        Channels of a chunk in a block, as a multiple of 1/64 of the stage's channels.
    scale
        Number of chunks in a block.
    expansion
        Outputs of a block, as a multiple of the stage's channels.
    pooling
        Pooling over frames (mean, statistics, attentive, multi_head, channel_context or asp), of all channels of all
        filterbanks.

    Notes
    -----
    Published size: 17.8 M parameters with 80 filterbanks, without the classifier (3D-Speaker).
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 192,
        input_dim: int = 80,
        *,
        channels: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        base_width: int = 26,
        scale: int = 2,
        expansion: int = 2,
        pooling: str = "statistics",
    ) -> None:
        check_sizes(self, channels=channels, base_width=base_width, scale=scale, expansion=expansion)
        check_depths(self, depths, 4)
        # the fewest of which the strides leave two, for a deviation
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames=9)
        if channels * base_width < 64 * REDUCTION:
            raise ConfigError(
                f"ERes2NetV2: channels {channels} with base_width {base_width} leave chunks of fewer than {REDUCTION} "
                "channels; raise one of the two"
            )
        self.first, self.first_norm = MapConv(1, channels, 3), RectifiedNorm(channels)
        stages, inputs, bands = [], channels, input_dim
        for stage, depth in enumerate(depths):
            width, outputs = channels * 2**stage * base_width // 64, channels * 2**stage * expansion
            blocks = []
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(Res2Block(inputs, width, outputs, scale, stride, fused=stage >= FIRST_FUSED_STAGE))
                inputs, bands = outputs, -(-bands // stride)
            stages.append(nn.ModuleList(blocks))
        self.stages = nn.ModuleList(stages)
        self.third_to_fourth = MapConv(inputs // 2, inputs, 3, (2, 2))
        self.fusion = AttentiveFusion(inputs)
        self.pooling = make_pooling(pooling, inputs * bands)
        self.embedding = nn.Linear(self.pooling.out_dim(inputs * bands), embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        x = self.first_norm(self.first(x.unsqueeze(3)), padding)
        outputs = []
        for stage in self.stages:
            for block in cast(nn.ModuleList, stage):
                x, padding = block(x, padding)
            outputs.append(x)
        fused = self.fusion(x, self.third_to_fourth(outputs[2]), padding)
        return cast(Tensor, self.embedding(self.pooling(fused.flatten(2), padding)))


class Res2Block(SkipBlock):
    """Chunks of the channels are convolved one after another, each with the result of the one before added or fused."""

    def __init__(self, inputs: int, width: int, outputs: int, scale: int, stride: int, *, fused: bool) -> None:
        super().__init__()
        self.width = width
        self.split, self.split_norm = MapConv(inputs, width * scale, 1, (stride, stride)), FrameNorm(width * scale)
        self.convs = nn.ModuleList(MapConv(width, width, 3) for _ in range(scale))
        self.norms = nn.ModuleList(FrameNorm(width) for _ in range(scale))
        self.fusions = nn.ModuleList(AttentiveFusion(width) for _ in range(scale - 1)) if fused else None
        self.merge, self.merge_norm = MapConv(width * scale, outputs, 1), FrameNorm(outputs)
        self.add_shortcut(inputs, outputs, (stride, stride))

    def activation(self, x: Tensor) -> Tensor:
        return functional.hardtanh(x, 0.0, CEILING)

    def residual(self, x: Tensor, before: Padding | None, after: Padding | None) -> Tensor:
        chunks = torch.split(self.activation(self.split_norm(self.split(x), after)), self.width, dim=3)
        results: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            chunk = chunks[i]
            if i > 0:
                previous = results[-1]
                chunk = previous + chunk if self.fusions is None else self.fusions[i - 1](previous, chunk, after)
            results.append(self.activation(norm(conv(chunk), after)))
        return cast(Tensor, self.merge_norm(self.merge(torch.cat(results, dim=3)), after))


class AttentiveFusion(nn.Module):
    """A weighted sum of two maps, whose weights are between 0 and 2 and depend on both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.hidden, self.hidden_norm = MapConv(2 * channels, hidden, 1), FrameNorm(hidden)
        self.weigh, self.weigh_norm = MapConv(hidden, channels, 1), FrameNorm(channels)

    def forward(self, x: Tensor, y: Tensor, padding: Padding | None) -> Tensor:
        """Fuse two maps [batch, frames, bands, channels]; the result is zero in the padding."""
        if padding is not None:
            y = padding.zero(y)  # a convolution with a stride reaches into the padding
        hidden = functional.silu(self.hidden_norm(self.hidden(torch.cat((x, y), dim=3)), padding))
        weight = torch.tanh(self.weigh_norm(self.weigh(hidden), padding))
        return x * (1 + weight) + y * (1 - weight)
