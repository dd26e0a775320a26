"""The extended TDNN (E-TDNN): the x-vector with a wider context and a frame-wise layer after each spliced one.

Snyder, Garcia-Romero, Sell, McCree, Povey and Khudanpur, "Speaker recognition for multi-speaker conversations using
x-vectors", ICASSP 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from xvectors.models.backbone import Backbone, check_sizes
from xvectors.models.layers.padding import FrameNorm, Padding
from xvectors.models.layers.pooling import make_pooling
from xvectors.models.layers.tdnn import TDNNLayer

CONTEXTS = ((-2, -1, 0, 1, 2), (0,), (-2, 0, 2), (0,), (-3, 0, 3), (0,), (-4, 0, 4), (0,), (0,))


class ETDNN(Backbone):
    """Nine time-delay layers and a wide layer, pooling, two segment layers and a classifier.

    Parameters
    ----------
    embedding_dim
        Width of the two segment layers; the embedding is the output of the first, before its activation.
    width
        Width of the nine frame layers.
    pooled_dim
        Width of the wide layer before the pooling.
    pooling
        Pooling over frames (mean, statistics, attentive, multi_head or channel_context).

    Notes
    -----
    BatchNorm follows each activation. Published size: 6.1 M parameters up to the embedding, with 30 coefficients per
    frame (Yu and Li, "Densely connected time delay neural network for speaker verification", Interspeech 2020).
    """

    def __init__(
        self,
        num_speakers: int = 1000,
        embedding_dim: int = 512,
        input_dim: int = 80,
        *,
        width: int = 512,
        pooled_dim: int = 1500,
        pooling: str = "statistics",
    ) -> None:
        context_frames = 1 + sum(max(context) - min(context) for context in CONTEXTS)
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames)
        check_sizes(self, width=width, pooled_dim=pooled_dim)
        widths = [input_dim, *[width] * len(CONTEXTS), pooled_dim]
        self.frame_layers = nn.ModuleList(
            TDNNBlock(widths[i], context, widths[i + 1]) for i, context in enumerate((*CONTEXTS, (0,)))
        )
        self.pooling = make_pooling(pooling, pooled_dim)
        self.segment = SegmentLayers(self.pooling.out_dim(pooled_dim), embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        for layer in self.frame_layers:
            x, padding = layer(x, padding)
        return cast(Tensor, self.segment.fc1(self.pooling(x, padding)))

    def classify(self, embedding: Tensor) -> Tensor:
        return super().classify(self.segment(embedding))


class TDNNBlock(nn.Module):
    """A time-delay layer with ReLU and BatchNorm, Kaldi's relu-batchnorm-layer."""

    def __init__(self, input_dim: int, context: Sequence[int], output_dim: int) -> None:
        super().__init__()
        self.tdnn = TDNNLayer(input_dim, context, output_dim)
        self.norm = FrameNorm(output_dim)

    def forward(self, x: Tensor, padding: Padding | None) -> tuple[Tensor, Padding | None]:
        x = self.tdnn(x)
        padding = padding and padding.shortened(self.tdnn.span)
        # once trained, padding needs no zeros: no layer adds padding of its own, which would mix it in
        return self.norm(x, padding if self.training else None), padding


class SegmentLayers(nn.Module):
    """The two layers after the pooling: `fc1` gives the embedding, and the call maps that to the classifier's input."""

    def __init__(self, pooled_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(pooled_dim, embedding_dim)
        self.norm1 = nn.BatchNorm1d(embedding_dim)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)
        self.norm2 = nn.BatchNorm1d(embedding_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        hidden = functional.relu(self.fc2(self.norm1(functional.relu(embedding))))
        return cast(Tensor, self.norm2(hidden))
