"""The x-vector network. In: filterbanks [batch, frames, mels]; out: speaker logits or embeddings.

Snyder, Garcia-Romero, Sell, Povey and Khudanpur, "X-vectors: robust DNN embeddings for speaker recognition",
ICASSP 2018, table 1.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.models.backbone import MOST_LAYERS, Backbone
from xvectors.models.pooling import make_pooling
from xvectors.models.tdnn import TDNNLayer

SPLICED_CONTEXTS = ((-2, -1, 0, 1, 2), (-2, 0, 2), (-3, 0, 3))
POOLED_DIM = 1500


class XVector(Backbone):
    """Five time-delay layers, pooling, two segment layers and a classifier.

    Parameters
    ----------
    size
        Factor on the widths `internal_dim` and 1500 of the frame layers; each is rounded.
    depth
        Number of layers that see one frame, between the three that splice frames and the wide one.
    num_speakers
        Outputs of the classifier.
    embedding_dim
        Width of the two segment layers; the first, before its activation, is the embedding.
    input_dim
        Filterbanks a frame.
    internal_dim
        Width of the frame layers at size 1.
    batch_norm
        Whether a BatchNorm follows each activation, as in Kaldi's recipe, and the pooling, as in ECAPA-TDNN: it
        takes the mean that all embeddings share away. Frames past `lengths` have no part in its statistics.
    variance_floor
        Least variance in a pooling that takes deviations.
    pooling
        Pooling over frames (mean, statistics, attentive, multi_head or channel_context); the paper's is `statistics`.

    Raises
    ------
    ConfigError
        For an impossible value.

    Notes
    -----
    Published size: 4.2 M with 24 filterbanks, counted up to the embedding, without `seg_fc2` and the
    classifier. The defaults are 4,980,164 parameters, named `tdnn1.linear.weight`, ..., `tdnn5`,
    `seg_fc1`, `seg_fc2` and `classifier`; with `batch_norm`, also `bn1`, ..., `pool_bn`, `seg_bn1` and `seg_bn2`; those
    of a pooling that learns begin with `pooling.`.
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
        super().__init__()
        if not 0 <= depth <= MOST_LAYERS:
            raise ConfigError(f"XVector: depth is {depth}; it must be at least 0 and at most {MOST_LAYERS}")
        if not math.isfinite(size):
            raise ConfigError(f"XVector: size is {size}; it must be a number above 0, such as 1.0")
        width, pooled_dim = round(internal_dim * size), round(POOLED_DIM * size)
        if width < 1 or pooled_dim < 1:
            raise ConfigError(f"XVector: size {size} times internal_dim {internal_dim} leaves layers of no width")
        for name, value in (("num_speakers", num_speakers), ("embedding_dim", embedding_dim)):
            if value < 1:
                raise ConfigError(f"XVector: {name} is {value}; it must be at least 1")
        contexts = (*SPLICED_CONTEXTS, *[(0,)] * (depth + 1))
        widths = [input_dim, *[width] * (len(contexts) - 1), pooled_dim]
        for i, context in enumerate(contexts):
            self.add_module(f"tdnn{i + 1}", TDNNLayer(widths[i], context, widths[i + 1]))
            if batch_norm:
                self.add_module(f"bn{i + 1}", nn.BatchNorm1d(widths[i + 1]))
        self.input_dim = input_dim
        self.embedding_dim = embedding_dim
        self.num_speakers = num_speakers
        self.batch_norm = batch_norm
        self.num_frame_layers = len(contexts)
        self.context_frames = 1 + sum(max(context) - min(context) for context in contexts)
        self.pooling = make_pooling(pooling, pooled_dim, variance_floor)
        self.seg_fc1 = nn.Linear(self.pooling.out_dim(pooled_dim), embedding_dim)
        self.seg_fc2 = nn.Linear(embedding_dim, embedding_dim)
        if batch_norm:
            self.pool_bn = nn.BatchNorm1d(self.seg_fc1.in_features)
            self.seg_bn1 = nn.BatchNorm1d(embedding_dim)
            self.seg_bn2 = nn.BatchNorm1d(embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_speakers)

    def embed_batch(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if x.dim() != 3 or x.shape[2] != self.input_dim:
            raise ShapeError(f"XVector: expected [batch, frames, {self.input_dim}], got {list(x.shape)}")
        self._check_frames(x.shape[1], "the recordings have")
        num_frames = None if lengths is None else self._checked_lengths(x, lengths)
        if self.training and self.batch_norm and x.shape[0] < 2:
            raise ShapeError("XVector: a training batch of 1 has no batch statistics; give at least 2 recordings")
        for i in range(1, self.num_frame_layers + 1):
            layer = cast(TDNNLayer, self.get_submodule(f"tdnn{i}"))
            x = layer(x)
            num_frames = None if num_frames is None else num_frames - layer.span
            if self.batch_norm:
                x = _normalize(self.get_submodule(f"bn{i}"), x, num_frames)
        pooled = self.pooling(x, num_frames)
        pooled = self.pool_bn(pooled) if self.batch_norm else pooled
        embedding: Tensor = self.seg_fc1(pooled)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        hidden = functional.relu(embedding)
        hidden = self.seg_bn1(hidden) if self.batch_norm else hidden
        hidden = functional.relu(self.seg_fc2(hidden))
        hidden = self.seg_bn2(hidden) if self.batch_norm else hidden
        return super().classify(hidden)

    def _check_frames(self, frames: int, which: str) -> None:
        if frames < self.context_frames:
            raise TooShortError(
                f"XVector: {which} {frames} frames, but the network's context needs at least "
                f"{self.context_frames}; leave them out"
            )

    def _checked_lengths(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        """Frame counts, or None where every recording fills the batch.

        They stay on the CPU: what is computed from them makes no GPU wait.
        """
        batch, frames, _ = x.shape
        if lengths.shape != (batch,) or lengths.is_floating_point():
            raise ShapeError(
                f"XVector: lengths must be {batch} whole numbers, one a recording, "
                f"got {list(lengths.shape)} of {lengths.dtype}"
            )
        counts = lengths.tolist()
        for index, count in enumerate(counts):
            if count > frames:
                raise ShapeError(f"XVector: lengths[{index}] is {count}, but the features hold {frames} frames")
            self._check_frames(count, f"recording {index} of the batch has")
        return None if min(counts, default=frames) == frames else torch.tensor(counts)


def _normalize(batch_norm: nn.Module, x: Tensor, num_frames: Tensor | None) -> Tensor:
    """Apply BatchNorm to [batch, frames, channels], in training over the recordings' own frames alone.

    The layer is given rows of channels, not [batch, channels, frames]: that order costs a reordering each
    way, ten times the time. Under autocast the rows stay bfloat16 and torch keeps the statistics in float32.
    """
    rows = x.flatten(0, 1)
    if num_frames is None or not batch_norm.training:
        return cast(Tensor, batch_norm(rows)).view(x.shape)
    own = torch.arange(x.shape[1]) < num_frames.unsqueeze(1)
    index = own.flatten().nonzero().squeeze(1).to(x.device)
    normalized: Tensor = batch_norm(rows.index_select(0, index))
    return torch.zeros_like(rows).index_copy(0, index, normalized).view(x.shape)
