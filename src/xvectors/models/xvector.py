"""The x-vector network.

Snyder, Garcia-Romero, Sell, Povey and Khudanpur, "X-vectors: robust DNN embeddings for speaker recognition",
ICASSP 2018, table 1.
"""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError
from xvectors.models.backbone import MAX_LAYERS, Backbone
from xvectors.models.layers.padding import FrameNorm, Padding
from xvectors.models.layers.pooling import make_pooling
from xvectors.models.layers.tdnn import TDNNLayer

SPLICED_CONTEXTS = ((-2, -1, 0, 1, 2), (-2, 0, 2), (-3, 0, 3))
POOLED_DIM = 1500


class XVector(Backbone):
    """Five time-delay layers, pooling, two segment layers and a classifier.

    Parameters
    ----------
    size
        Factor on the widths of the frame layers, `internal_dim` and 1500; each product is rounded.
    depth
        Number of layers that see one frame, between the three that splice frames and the wide layer.
    num_speakers
        Outputs of the classifier.
    embedding_dim
        Width of the two segment layers; the embedding is the output of the first, before its activation.
    input_dim
        Filterbanks per frame.
    internal_dim
        Width of the frame layers at size 1.
    batch_norm
        Whether a BatchNorm follows each activation, as in Kaldi's recipe, and the pooling, as in ECAPA-TDNN, where it
        removes the mean that all embeddings share.
    variance_floor
        Lower bound of the variance, in poolings that compute a deviation.
    pooling
        Pooling over frames (mean, statistics, attentive, multi_head or channel_context); the paper's is `statistics`.

    Notes
    -----
    Published size: 4.2 M parameters up to the embedding, without `seg_fc2` and the classifier, with 24 filterbanks. The
    default network has 4,980,164 parameters, in the modules `tdnn1` to `tdnn5`, `seg_fc1`, `seg_fc2` and `classifier`;
    `batch_norm` adds `bn1` to `bn5`, `pool_bn`, `seg_bn1` and `seg_bn2`, and a pooling with weights adds `pooling`.
    """

    def __init__(
        self,
        size: float = 1,
        depth: int = 1,
        num_speakers: int = 1000,
        embedding_dim: int = 512,
        input_dim: int = 24,
        internal_dim: int = 512,
        *,
        batch_norm: bool = False,
        variance_floor: float = 1e-10,
        pooling: str = "statistics",
    ) -> None:
        if not 0 <= depth <= MAX_LAYERS:
            raise ConfigError(f"XVector: depth is {depth}; it must be at least 0 and at most {MAX_LAYERS}")
        if not math.isfinite(size):
            raise ConfigError(f"XVector: size is {size}; it must be a number above 0, such as 1.0")
        width, pooled_dim = round(internal_dim * size), round(POOLED_DIM * size)
        if width < 1 or pooled_dim < 1:
            raise ConfigError(f"XVector: size {size} times internal_dim {internal_dim} leaves layers of no width")
        contexts = (*SPLICED_CONTEXTS, *[(0,)] * (depth + 1))
        context_frames = 1 + sum(max(context) - min(context) for context in contexts)
        super().__init__(num_speakers, embedding_dim, input_dim, context_frames)
        widths = [input_dim, *[width] * (len(contexts) - 1), pooled_dim]
        for i, context in enumerate(contexts):
            self.add_module(f"tdnn{i + 1}", TDNNLayer(widths[i], context, widths[i + 1]))
            if batch_norm:
                self.add_module(f"bn{i + 1}", FrameNorm(widths[i + 1]))
        self.batch_norm = batch_norm
        self.num_frame_layers = len(contexts)
        self.pooling = make_pooling(pooling, pooled_dim, variance_floor)
        self.seg_fc1 = nn.Linear(self.pooling.out_dim(pooled_dim), embedding_dim)
        self.seg_fc2 = nn.Linear(embedding_dim, embedding_dim)
        self.pool_bn = nn.BatchNorm1d(self.seg_fc1.in_features) if batch_norm else nn.Identity()
        self.seg_bn1 = nn.BatchNorm1d(embedding_dim) if batch_norm else nn.Identity()
        self.seg_bn2 = nn.BatchNorm1d(embedding_dim) if batch_norm else nn.Identity()
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        for i in range(1, self.num_frame_layers + 1):
            layer = cast(TDNNLayer, self.get_submodule(f"tdnn{i}"))
            x = layer(x)
            padding = padding and padding.shortened(layer.span)
            if self.batch_norm:
                # once trained, padding needs no zeros: no layer adds padding of its own, which would mix it in
                x = self.get_submodule(f"bn{i}")(x, padding if self.training else None)
        return cast(Tensor, self.seg_fc1(self.pool_bn(self.pooling(x, padding))))

    def classify(self, embedding: Tensor) -> Tensor:
        hidden = self.seg_bn1(functional.relu(embedding))
        hidden = self.seg_bn2(functional.relu(self.seg_fc2(hidden)))
        return super().classify(hidden)
