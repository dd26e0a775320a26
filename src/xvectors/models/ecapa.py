"""ECAPA-TDNN.

Desplanques, Thienpondt and Demuynck, "ECAPA-TDNN: emphasized channel attention, propagation and aggregation in TDNN
based speaker verification", Interspeech 2020, figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import Backbone, check_sizes
from xvectors.models.layers.padding import FrameNorm, Padding, check_edges, extended
from xvectors.models.layers.pooling import make_pooling
from xvectors.models.layers.tdnn import TDNNLayer

DILATIONS = (2, 3, 4)


class ECAPA(Backbone):
    """A convolution, three squeeze-excited Res2Net blocks, their aggregation, attentive pooling, a linear layer.

    Parameters
    ----------
    embedding_dim
        Width of the linear layer, whose output is the embedding after a BatchNorm.
    channels
        Width of the blocks: 512 or 1024 in the paper.
    pooled_dim
        Width of the aggregated frames.
    bottleneck_dim
        Width of the bottleneck of the squeeze-excitation.
    res2net_scale
        Number of parts into which a block divides its channels.
    pooling
        Pooling over frames: a name that `xvectors.models.POOLINGS` lists.
    variance_floor
        Lower bound of the variance, in poolings that compute a deviation.
    summed
        Whether the input of a block is the sum of all outputs before it (section 3.3 of the paper), or the last one, as
        in WeSpeaker and SpeechBrain.
    edges
        What the convolutions see beyond the ends of a recording: zeros, or the recording mirrored (reflect), as in
        SpeechBrain.
    aggregated_norm
        Whether a BatchNorm stands between the aggregation and the pooling, as in SpeechBrain.

    Notes
    -----
    Published sizes, with 80 filterbanks and
    without the classifier: 6.2 M parameters with 512 channels, 14.7 M with 1024 (table 1).
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 192,
        input_dim: int = 80,
        *,
        channels: int = 512,
        pooled_dim: int = 1536,
        bottleneck_dim: int = 128,
        res2net_scale: int = 8,
        pooling: str = "channel_context",
        variance_floor: float = 1e-10,
        summed: bool = True,
        edges: str = "zeros",
        aggregated_norm: bool = False,
    ) -> None:
        # convolutions pad, and one frame has no deviation; the widest needs 4 frames to mirror beside the end
        super().__init__(num_speakers, embedding_dim, input_dim, 1 + max(DILATIONS) if edges == "reflect" else 2)
        check_edges(self, edges, ("zeros", "reflect"))
        check_sizes(self, channels=channels, pooled_dim=pooled_dim, bottleneck_dim=bottleneck_dim)
        if res2net_scale < 2 or channels % res2net_scale:
            raise ConfigError(
                f"ECAPA: res2net_scale is {res2net_scale}; it must be at least 2 and divide the {channels} channels"
            )
        self.summed = summed
        self.first = _ConvBlock(input_dim, (-2, -1, 0, 1, 2), channels, edges)
        self.blocks = nn.ModuleList(
            _SERes2Block(channels, dilation, res2net_scale, bottleneck_dim, edges) for dilation in DILATIONS
        )
        self.aggregate = nn.Linear(len(DILATIONS) * channels, pooled_dim)
        self.aggregated_norm = FrameNorm(pooled_dim) if aggregated_norm else None
        self.pooling = make_pooling(pooling, pooled_dim, variance_floor)
        self.pooled_norm = nn.BatchNorm1d(self.pooling.out_dim(pooled_dim))
        self.embedding = nn.Linear(self.pooling.out_dim(pooled_dim), embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        entering = self.first(x, padding)
        outputs = []
        for block in self.blocks:
            outputs.append(block(entering, padding))
            entering = entering + outputs[-1] if self.summed else outputs[-1]
        x = functional.relu(self.aggregate(torch.cat(outputs, dim=2)))
        if self.aggregated_norm is not None:
            x = self.aggregated_norm(x, padding)
        pooled = self.pooled_norm(self.pooling(x, padding))
        return cast(Tensor, self.embedding_norm(self.embedding(pooled)))


class _ConvBlock(nn.Module):
    """A convolution over time that keeps the number of frames, ReLU, BatchNorm; zero in the padding."""

    def __init__(self, input_dim: int, context: Sequence[int], output_dim: int, edges: str) -> None:
        super().__init__()
        self.edges = edges
        self.tdnn = TDNNLayer(input_dim, context, output_dim)
        self.norm = FrameNorm(output_dim)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        x = extended(x, -self.tdnn.context[0], self.tdnn.context[-1], self.edges, padding)
        return cast(Tensor, self.norm(self.tdnn(x), padding))


class _SERes2Block(nn.Module):
    """A Res2Net layer between two frame-wise layers, squeeze-excitation, and a skip connection.

    References
    ----------
    Gao et al., "Res2Net: a new multi-scale backbone architecture", TPAMI 2021; Hu, Shen and Sun, "Squeeze-and-
    excitation networks", CVPR 2018.
    """

    def __init__(self, channels: int, dilation: int, scale: int, bottleneck_dim: int, edges: str) -> None:
        super().__init__()
        part, context = channels // scale, (-dilation, 0, dilation)
        self.before = _ConvBlock(channels, (0,), channels, edges)
        self.parts = nn.ModuleList(_ConvBlock(part, context, part, edges) for _ in range(scale - 1))
        self.after = _ConvBlock(channels, (0,), channels, edges)
        self.squeeze = nn.Linear(channels, bottleneck_dim)
        self.excite = nn.Linear(bottleneck_dim, channels)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        first, *others = self.before(x, padding).chunk(len(self.parts) + 1, dim=2)
        outputs = [first]
        for convolve, part in zip(self.parts, others, strict=True):
            # the first part passes unchanged, and is not added to the second
            outputs.append(convolve(part if len(outputs) == 1 else part + outputs[-1], padding))
        hidden = self.after(torch.cat(outputs, dim=2), padding)
        mean = hidden.mean(dim=1) if padding is None else padding.mean(hidden)
        weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
        return cast(Tensor, x + hidden * weights.unsqueeze(1))
